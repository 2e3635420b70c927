//! Every example runs to its end and finds what its text promises.

use std::path::Path;

use crate::programs::{examples, json, points, run};

fn search(example: &str, extra: &[&str]) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let task_file = examples().join(example).join("task.json");
    let task_dir = scratch.path().join("task");
    let mut arguments = vec![
        "run",
        task_file.to_str().unwrap(),
        "--taskDir",
        task_dir.to_str().unwrap(),
    ];
    arguments.extend(extra);
    run(&arguments);
    scratch
}

fn best_loss(task_dir: &Path) -> f64 {
    let best = json(&["best", task_dir.to_str().unwrap(), "--json"]);
    assert!(best["id"].is_string() && best["point"].is_object(), "{best}");
    best["loss"].as_f64().expect("the best point has a loss")
}

#[test]
fn a_search_on_the_digits_finds_a_good_model_and_leaves_its_files() {
    let scratch = search("digits", &["--maxPoints", "6"]);
    let task_dir = scratch.path().join("task");
    assert!(
        best_loss(&task_dir) < 0.06,
        "the best of six is {}",
        best_loss(&task_dir)
    );
    let points = points(&task_dir);
    assert_eq!(points.len(), 6);
    assert!(
        points
            .iter()
            .all(|point| point["status"] == "done" && point["attempts"] == 1),
        "{points:?}"
    );
    assert_eq!(std::fs::read_dir(task_dir.join("metrics")).unwrap().count(), 6);
    assert!(task_dir.join("results.json").is_file());
}

#[test]
fn segments_get_a_search_and_a_best_point_each() {
    let scratch = search("segments", &["--maxPoints", "2"]);
    let task_dir = scratch.path().join("task");
    let points = points(&task_dir);
    assert_eq!(points.len(), 4);
    for segment in ["low", "high"] {
        assert_eq!(
            points.iter().filter(|point| point["segment"] == segment).count(),
            2,
            "{points:?}"
        );
    }
}

#[test]
fn any_script_may_be_the_evaluation() {
    let scratch = search("custom_command", &["--maxPoints", "3"]);
    let task_dir = scratch.path().join("task");
    assert!(best_loss(&task_dir) < 0.2);
    assert_eq!(points(&task_dir).len(), 3);
}

#[test]
fn a_ladder_ends_with_a_network_that_was_trained_in_full() {
    let scratch = search("asha", &["--maxPoints", "16"]);
    let task_dir = scratch.path().join("task");
    let points = points(&task_dir);
    let full: Vec<f64> = (points.iter())
        .filter(|point| point["point"]["hpo.epochs"] == 27)
        .map(|point| point["loss"].as_f64().unwrap())
        .collect();
    assert!(!full.is_empty() && full.iter().all(|loss| *loss < 0.15), "{points:?}");
    assert!(points.iter().any(|point| point["point"]["hpo.epochs"] == 1));
}

#[test]
fn a_population_finds_a_schedule() {
    let scratch = search(
        "pbt",
        &["--maxPoints", "24", "--schedule", "population=6", "--maxEpochs", "8"],
    );
    let task_dir = scratch.path().join("task");
    assert!(best_loss(&task_dir) < 0.5, "{}", best_loss(&task_dir));
    let lineage = json(&["lineage", task_dir.to_str().unwrap(), "--json"]);
    let stages = lineage["stages"].as_array().unwrap();
    assert_eq!(stages.last().unwrap()["until"], 8, "{lineage}");
}

#[test]
fn two_steps_say_how_sure_they_are() {
    let short = [
        "--maxPoints",
        "20",
        "--twoStep",
        "fraction=0.1,top=3,calibration=6,epochs=4,full-epochs=6,weights=on",
    ];
    let scratch = search("two_step", &short);
    let task_dir = scratch.path().join("task");
    let best = json(&["best", task_dir.to_str().unwrap(), "--json"]);
    assert_eq!(best["point"]["hpo.frac"], 1.0, "{best}");
    let log = task_dir.join(format!("points/{}/attempt-1/stderr.log", best["id"].as_str().unwrap()));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("begins with weights after 4 epochs on less data"), "{log}");
    let shown = json(&["run", "--taskDir", task_dir.to_str().unwrap(), "--json"]);
    assert_eq!(shown["two_step"][0]["pairs"], 6, "{}", shown["two_step"]);
}
