//! Searches that go well.

use std::fs;

use serde_json::{Value, json};

use crate::task::{Task, read_json};

#[test]
fn a_search_ends_with_all_points_and_the_best_of_them() {
    let task = Task::new();
    let points = task.succeed();
    assert_eq!(points.len(), 6);
    for (index, point) in points.iter().enumerate() {
        let x = index as i64 + 1;
        assert_eq!(point["id"], (index + 1).to_string());
        assert_eq!(point["point"], json!({ "x": x }));
        assert_eq!(point["loss"].as_f64(), Some(((x - 3) * (x - 3)) as f64));
        assert_eq!((&point["status"], &point["attempts"]), (&json!("done"), &json!(1)));
    }
    let best: Value = serde_json::from_str(&task.call(&["best", "task", "--json"]).stdout).unwrap();
    assert_eq!(
        (&best["id"], &best["point"], &best["loss"]),
        (&json!("3"), &json!({"x": 3}), &json!(0.0))
    );
    let results = read_json(&task.directory().join("results.json"));
    assert_eq!(results["status"], "finished");
    assert_eq!(results["best"]["id"], "3");
    assert_eq!(task.attempts(), ["1 1", "2 1", "3 1", "4 1", "5 1", "6 1"]);
}

#[test]
fn the_final_words_are_a_table_and_the_places_of_everything() {
    let task = Task::new().with(&json!({"maxPoints": 3}));
    let finished = task.run(&[]);
    let times = without_times(&finished.stdout);
    insta::assert_snapshot!(times, @r"
    id  status  loss  attempts  time   point
    3   done    0     1         _ s  x=3
    2   done    1     1         _ s  x=2
    1   done    4     1         _ s  x=1
    3 of 3 points have a loss
    results     $DIR/task/results.json
    evaluations $DIR/task/points
    ");
}

/// Times are not the same in two runs.
fn without_times(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if let Some(end) = line.find(" s  x=") {
            let start = line[..end].rfind(' ').map_or(0, |at| at + 1);
            line.replace_range(start..end, "_");
        }
        words.push(line);
    }
    words.join("\n")
}

#[test]
fn running_again_changes_nothing_and_says_so() {
    let task = Task::new();
    let before = task.succeed();
    let again = task.run(&[]);
    assert_eq!(
        (again.code, again.remarks()),
        (Some(0), vec!["resuming task `$DIR/task`"])
    );
    let alone = task.call(&["run", "--taskDir", "task"]);
    assert_eq!(alone.code, Some(0));
    assert_eq!(task.points(), before);
    assert_eq!(task.attempts().len(), 6);
}

#[test]
fn everything_but_journal_and_task_is_derived() {
    let task = Task::new();
    let before = task.succeed();
    for name in ["results.json", "lock"] {
        fs::remove_file(task.directory().join(name)).unwrap();
    }
    for name in ["points", "steering", "metrics", "checkpoints", "epochs", "sandbox"] {
        fs::remove_dir_all(task.directory().join(name)).unwrap();
    }
    assert_eq!(task.run(&[]).code, Some(0));
    assert_eq!(task.points(), before);
    assert_eq!(read_json(&task.directory().join("results.json"))["best"]["id"], "3");
}

#[test]
fn steering_gets_the_history_and_the_space_and_evaluations_their_files() {
    let task = Task::new()
        .with(&json!({"searchSpaceFile": "space.json", "trainingDS": "data/*.csv", "minUnevaluatedPoints": 0}))
        .evaluating(
            "ls -L | sort > listing; echo \"$HPO_TASK $HPO_POINT_ID $HPO_ATTEMPT $HPO_SLOTS %IN_DATA\" > said; echo '{\"loss\": 2}' > output.json",
        );
    task.file(
        "space.json",
        r#"{"x": {"method": "uniformint", "dimension": {"low": 1, "high": 9}}}"#,
    );
    task.file("data/b.csv", "");
    task.file("data/a.csv", "");
    task.file("lib/part.py", "");
    task.succeed();
    let input = read_json(&task.directory().join("steering/2/idds_input.json"));
    assert_eq!(
        input["points"],
        json!([[{"x": 1}, 2.0], [{"x": 2}, 2.0], [{"x": 3}, 2.0]])
    );
    assert_eq!(input["opt_space"]["x"]["dimension"]["high"], 9);
    assert_eq!(input["meta"][0]["status"], "done");
    let work = task.of_attempt(1, 1, "workDir");
    assert_eq!(read_json(&work.join("input_ds.json")), json!(["a.csv", "b.csv"]));
    assert_eq!(
        fs::read_to_string(work.join("said")).unwrap(),
        "user.me.test 1 1 2 a.csv,b.csv\n"
    );
    let listing = fs::read_to_string(work.join("listing")).unwrap();
    let names: Vec<&str> = listing.lines().collect();
    for name in [
        "a.csv",
        "b.csv",
        "evaluate.sh",
        "input.json",
        "input_ds.json",
        "lib",
        "space.json",
    ] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
}

#[test]
fn metrics_are_renamed_and_nested_as_the_job_wrapper_does() {
    let task = Task::new()
        .with(&json!({"evaluationMetrics": "out/metrics.tgz", "evaluationMeta": "meta.json", "maxPoints": 2, "nParallelEvaluation": 1}))
        .evaluating(
            "mkdir out; echo curves-$HPO_POINT_ID > out/metrics.tgz; echo '{\"epochs\": 3}' > meta.json; echo '{\"loss\": 2}' > output.json",
        );
    let points = task.succeed();
    let id = task.show()["id"].as_str().unwrap().to_owned();
    for point in 1..=2_u32 {
        // One job, so the second point is its second iteration.
        let name = format!("metrics/{id}.metrics.000001.tgz_{}", point - 1);
        assert_eq!(points[point as usize - 1]["metrics"], name);
        let archive = task.directory().join(&name);
        let member = format!("metrics.tgz_{point}");
        let output = std::process::Command::new("tar")
            .arg("-xzOf")
            .arg(&archive)
            .arg(member)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("curves-{point}\n"));
        assert_eq!(
            read_json(&task.of_attempt(point, 1, "metadata.json")),
            json!({"epochs": 3})
        );
    }
}

#[test]
fn the_command_line_wins_over_the_file_with_a_remark() {
    let task = Task::new();
    let finished = task.run(&["--maxPoints", "2", "--dumpJson", "dump.json"]);
    assert_eq!(finished.code, Some(0));
    assert_eq!(
        finished.remarks(),
        ["option `maxPoints` of the command line overrides that of the task file"]
    );
    assert_eq!(task.points().len(), 2);
    assert_eq!(read_json(&task.path("dump.json"))["maxPoints"], 2);
    assert_eq!(
        read_json(&task.directory().join("task.json"))["options"]["maxAttempts"],
        3
    );
}

#[test]
fn a_dry_run_prints_the_plan_and_makes_nothing() {
    let task = Task::new();
    for option in ["--noSubmit", "--dry-run"] {
        let finished = task.run(&[option, "--json"]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let plan: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(plan["steering"], "sh steer.sh 2 6 idds_input.json output.json");
        assert_eq!(plan["sandbox"], json!(["evaluate.sh", "steer.sh", "task.json"]));
        assert!(!task.directory().exists());
    }
    let text = task.run(&["--noSubmit"]).stdout;
    assert!(
        text.contains("steering    sh steer.sh 2 6") && text.ends_with("nothing was started (--noSubmit)\n"),
        "{text}"
    );
}

#[test]
fn the_options_of_phpo_may_come_by_load_json_and_be_abbreviated() {
    let task = Task::new();
    let finished = task.call(&[
        "run",
        "--loadJson",
        "files/task.json",
        "--taskDir",
        "task",
        "--nParallel",
        "1",
        "--maxPoints=4",
    ]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(task.points().len(), 4);
}

#[test]
fn an_empty_answer_ends_the_search_after_what_is_outstanding() {
    let task = Task::new().with(&json!({"maxPoints": 100}));
    task.file("steer.sh", "#!/bin/sh\n[ \"$(grep -o '\"x\":' $3 | wc -l)\" -ge 4 ] && echo '[]' > $4 || echo '[{\"x\":1},{\"x\":2}]' > $4\n");
    let points = task.succeed();
    assert_eq!(points.len(), 4);
    assert!(points.iter().all(|point| point["status"] == "done"));
    assert_eq!(task.show()["reason"], "steering proposes no more points");
}

#[test]
fn too_many_points_are_left_out_with_a_remark() {
    let task = Task::new().with(&json!({"maxPoints": 3}));
    task.file(
        "steer.sh",
        "echo '[{\"x\":1},{\"x\":2},{\"x\":3},{\"x\":4},{\"x\":5}]' > $4\n",
    );
    let finished = task.run(&[]);
    assert_eq!(
        finished.remarks(),
        ["steering proposed 2 points more than maxPoints (3) allows; they are left out"]
    );
    assert_eq!(task.points().len(), 3);
}
