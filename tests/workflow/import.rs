//! `hpo import`, of files that the real tools have made: `fixtures/import/make` says how.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::task::Task;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/workflow/fixtures/import")
        .join(name)
}

/// Imports a fixture into `old`, and returns what `show` says of it.
fn imported(task: &Task, name: &str, options: &[&str]) -> Value {
    let source = fixture(name);
    let mut arguments = vec!["import", source.to_str().unwrap(), "--taskDir", "old"];
    arguments.extend(options);
    let done = task.call(&arguments);
    assert_eq!(done.code, Some(0), "{done:?}");
    let shown = task.call(&["show", "old", "--json"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    serde_json::from_str(&shown.stdout).unwrap()
}

/// Loss, status and point of the points of a task.
fn points(shown: &Value) -> Vec<(Value, Value, Value)> {
    let points = shown["points"].as_array().unwrap().iter();
    points
        .map(|point| (point["loss"].clone(), point["status"].clone(), point["point"].clone()))
        .collect()
}

fn space(task: &Task) -> Value {
    serde_json::from_str(&fs::read_to_string(task.path("old/search_space.json")).unwrap()).unwrap()
}

#[test]
fn a_journal_and_a_database_of_optuna_tell_the_same() {
    let (journal, database) = (Task::new(), Task::new());
    let shown = imported(&journal, "optuna.log", &[]);
    let found = points(&shown);
    assert_eq!(found, points(&imported(&database, "optuna.db", &[])));
    assert_eq!(space(&journal), space(&database));
    let statuses: Vec<&str> = found.iter().map(|(_, status, _)| status.as_str().unwrap()).collect();
    assert_eq!(
        statuses,
        ["done", "done", "done", "failed", "done", "done", "done", "done"]
    );
    // A value that was made large is a loss with the other sign, and keeps its name.
    assert_eq!(found[0].0, json!(1.408_217_350_284_861_4));
    assert_eq!(shown["points"][0]["losses"]["value"], json!(-1.408_217_350_284_861_4));
    assert_eq!(shown["points"][4]["ended_early_after"], 1);
    let point = &found[3].2;
    assert_eq!((&point["kind"], &point["layers"]), (&json!("sgd"), &json!(4)));
    assert_eq!(space(&journal)["rate"]["method"], "loguniform");
    assert_eq!(
        space(&journal)["kind"]["dimension"]["categories"],
        json!(["adam", "sgd", 3, true, null])
    );
    assert_eq!(journal.call(&["journal", "check", "old"]).code, Some(0));
    assert!(journal.call(&["best", "old"]).stdout.starts_with("point 5, loss -1\n"));
}

#[test]
fn conditions_and_directions_of_keras_tuner_are_kept() {
    let task = Task::new();
    let found = points(&imported(&task, "keras_tuner", &[]));
    let losses: Vec<Option<f64>> = found.iter().map(|(loss, ..)| loss.as_f64()).collect();
    assert_eq!(losses.len(), 6);
    assert_eq!(found[2].1, "failed");
    assert!(losses[3].unwrap() < -0.99, "{losses:?}");
    assert_eq!(found[3].2["units_2"], 8);
    assert_eq!(found[0].2.get("units_1"), None);
    assert_eq!(space(&task)["units_2"]["if"], json!({"num_layers": [3]}));
}

#[test]
fn results_of_ray_tune_need_a_metric_and_get_a_space() {
    let task = Task::new();
    let source = fixture("ray_tune");
    let line = ["import", source.to_str().unwrap(), "--taskDir", "old"];
    let refused = task.call(&line);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .stderr
            .contains("say `--metric NAME --mode max` or `min`, reported are `accuracy`, `epoch`")
    );
    assert!(!task.path("old").exists(), "nothing is left of an import that failed");
    let wrong = task.call(&[&line[..], &["--metric", "loss", "--mode", "min"]].concat());
    assert!(wrong.stderr.contains("no trial reports `loss`"), "{wrong:?}");
    let found = points(&imported(&task, "ray_tune", &["--metric", "accuracy", "--mode", "max"]));
    assert_eq!(found.len(), 5);
    assert_eq!(
        (&found[3].1, &found[3].2["nested/drop"]),
        (&json!("failed"), &json!(0.200_590_133_914_249_8))
    );
    assert_eq!(
        space(&task)["data"],
        json!({"method": "fixed", "dimension": {"value": "set-1"}}).clone()
    );
}

#[test]
fn a_project_of_hpogrid_brings_its_space_its_results_and_its_plan() {
    let task = Task::new();
    let shown = imported(&task, "hpogrid", &["--evaluationExec", "false"]);
    let found = points(&shown);
    let brief: Vec<_> = found
        .iter()
        .map(|(loss, status, _)| (loss.as_f64(), status.as_str().unwrap()))
        .collect();
    // In a search that goes on, what failed is tried again.
    assert_eq!(brief, [(Some(-0.91), "done"), (Some(-0.75), "done"), (None, "pending")]);
    let frozen: Value = serde_json::from_str(&fs::read_to_string(task.path("old/task.json")).unwrap()).unwrap();
    let options = &frozen["options"];
    assert_eq!(
        (
            &options["maxPoints"],
            &options["nParallelEvaluation"],
            &options["sampler"]
        ),
        (&json!(12), &json!(3), &json!("tpe"))
    );
    assert_eq!(frozen["opt_space"]["rate"]["method"], "loguniform");
}

#[test]
fn an_imported_search_goes_on_and_others_learn_from_it() {
    let task = Task::new();
    imported(
        &task,
        "optuna.db",
        &[
            "--evaluationExec",
            "echo '{\"loss\": -2}' > output.json",
            "--steeringExec",
            "sh files/steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT",
            "--maxPoints",
            "10",
        ],
    );
    let resumed = task.call(&["resume", "old", "--quiet"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let shown: Value = serde_json::from_str(&task.call(&["show", "old", "--json"]).stdout).unwrap();
    // Eight were imported, of which the failed one was tried again.
    assert_eq!(
        (&shown["counts"]["done"], &shown["best"]["loss"]),
        (&json!(10), &json!(-2.0))
    );
    let warm = task.call(&["import", fixture("optuna.log").to_str().unwrap(), "--taskDir", "other"]);
    assert_eq!(warm.code, Some(0));
    fs::copy(task.path("other/search_space.json"), task.path("space.json")).unwrap();
    let line = [
        "run",
        "--taskDir",
        "warm",
        "--warm",
        "other",
        "--searchSpaceFile",
        "space.json",
        "--maxPoints",
        "1",
    ];
    let run = task.call(&[&line[..], &["--evaluationExec", "true", "--noSubmit"]].concat());
    assert_eq!(run.code, Some(0), "{run:?}");
}

#[test]
fn a_configuration_of_phpo_becomes_a_task_with_its_segments() {
    let task = Task::new();
    for (name, text) in [
        ("arm.csv", "1"),
        ("leg.csv", "2"),
        (
            "seg.json",
            r#"[{"name": "arm", "datasets": ["arm.csv"]}, {"name": "leg", "datasets": ["leg.csv"]}]"#,
        ),
        (
            "grid.json",
            r#"{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}"#,
        ),
        (
            "conf.json",
            r#"{"outDS": "user.me.x", "evaluationExec": "echo '{\"loss\": 1}' > output.json", "searchSpaceFile": "grid.json",
                "segmentSpecFile": "seg.json", "maxPoints": 2,}"#,
        ),
    ] {
        fs::write(task.path(name), text).unwrap();
    }
    let done = task.call(&["import", "conf.json", "--taskDir", "old", "--json"]);
    let told: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(
        (&told["tool"], &told["goes_on"], &told["points"]),
        (&json!("phpo"), &json!(true), &json!(0))
    );
    let frozen: Value = serde_json::from_str(&fs::read_to_string(task.path("old/task.json")).unwrap()).unwrap();
    let names: Vec<&Value> = frozen["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| &segment["name"])
        .collect();
    assert_eq!(names, ["arm", "leg"]);
    assert_eq!(frozen["opt_space"][1]["model_id"], 1);
    assert!(
        task.call(&["show", "old"])
            .stdout
            .starts_with("user.me.x: interrupted, 0 points")
    );
}

#[test]
fn what_cannot_be_imported_is_said() {
    let task = Task::new();
    let stderr = |arguments: &[&str]| {
        let done = task.call(arguments);
        assert_eq!(done.code, Some(2), "{done:?}");
        done.stderr
    };
    fs::write(task.path("strange.json"), "{}").unwrap();
    assert!(stderr(&["import", "strange.json", "--taskDir", "old"]).contains("is of no tool that is known"));
    assert!(stderr(&["import", "nothing", "--taskDir", "old"]).contains("cannot read file"));
    // Cut in the middle of its pages, and with changes that are not in it yet.
    let bytes = fs::read(fixture("optuna.db")).unwrap();
    fs::write(task.path("cut.db"), &bytes[..bytes.len() / 3]).unwrap();
    assert!(stderr(&["import", "cut.db", "--taskDir", "old"]).contains("the database is damaged"));
    fs::write(task.path("busy.db"), &bytes).unwrap();
    fs::write(task.path("busy.db-wal"), "x").unwrap();
    assert!(stderr(&["import", "busy.db", "--taskDir", "old"]).contains("wal_checkpoint"));
    let source = fixture("optuna.log");
    let line = [
        "import",
        source.to_str().unwrap(),
        "--taskDir",
        "old",
        "--study",
        "other",
    ];
    assert!(stderr(&line).contains("there is no study `other`, found `fixture`"));
    imported(&task, "optuna.log", &[]);
    assert!(stderr(&line[..4]).contains("is a task already"));
}
