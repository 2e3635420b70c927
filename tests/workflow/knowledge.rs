//! Several objectives, and learning from other searches.

use std::fs;

use serde_json::{Value, json};

use crate::task::{Task, read_json};

fn two_objectives() -> Task {
    let task = Task::new()
        .with(&json!({"maxPoints": 3, "nPointsPerIteration": 3, "objectives": "loss:min,latency:max"}))
        .evaluating("python3 -c 'import json; x = json.load(open(\"input.json\"))[\"x\"]; print(json.dumps({\"loss\": x, \"losses\": {\"latency\": x if x < 2 else 0.5}}))' > output.json");
    task.file("steer.sh", "echo '[{\"x\":0},{\"x\":1},{\"x\":2}]' > $4\n");
    task
}

#[test]
fn best_and_show_tell_the_front() {
    let task = two_objectives();
    task.succeed();
    let best: Value = serde_json::from_str(&task.call(&["best", "task", "--json"]).stdout).unwrap();
    assert_eq!(best["front"][0]["points"], json!(["1", "2"]));
    assert!(best["front"][0]["hypervolume"].as_f64().unwrap() > 0.0);
    let text = task.call(&["best", "task"]).stdout;
    assert_eq!(
        text,
        "point 1, loss 0, latency 0: {\"x\":0}\npoint 2, loss 1, latency 1: {\"x\":1}\n"
    );
    assert!(
        task.call(&["show", "task"])
            .stdout
            .contains("on the front of loss:min,latency:max:\npoint 1")
    );
    assert_eq!(
        read_json(&task.directory().join("results.json"))["front"],
        best["front"]
    );
}

#[test]
fn options_of_our_steering_reach_its_command_and_earlier_histories_are_kept() {
    let task = Task::new().with(&json!({
        "searchSpaceFile": "space.json", "steeringExec": null, "transfer": true, "warm": "old.json, older",
        "objectives": "loss:min,it's:max"
    }));
    task.file(
        "space.json",
        r#"{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}"#,
    );
    task.file("old.json", r#"{"points": [[{"x": 0.5}, 0.25]], "opt_space": null}"#);
    task.file(
        "older/results.json",
        r#"{"points": [{"point": {"x": 0.75}, "status": "done", "loss": 0.125}]}"#,
    );
    let plan = task.run(&["--noSubmit", "--json"]);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap_or_else(|error| panic!("{error}: {plan:?}"));
    assert_eq!(
        plan["steering"],
        "steering ask --transfer --warm ../../earlier/1.json --warm ../../earlier/2.json \
         --objectives 'loss:min,it'\\''s:max' -n 2 -m 6 -i idds_input.json -o output.json"
    );
    let task = task.with(&json!({"objectives": null, "maxPoints": 1}));
    let _ = task.run(&[]);
    let kept = |number: u32| read_json(&task.directory().join(format!("earlier/{number}.json")));
    assert_eq!(kept(1)["points"], json!([[{"x": 0.5}, 0.25]]));
    assert_eq!(kept(2)["points"], json!([[{"x": 0.75}, 0.125]]));
}

#[test]
fn contradictions_and_missing_histories_are_refused() {
    let said = |options: Value| {
        let task = Task::new().with(&options);
        fs::create_dir_all(task.path("empty")).unwrap();
        let finished = task.run(&["--noSubmit"]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        finished.stderr
    };
    assert!(said(json!({"transfer": true})).contains("option `transfer`: has no effect on the given `steeringExec`"));
    assert!(
        said(json!({"objectives": "loss"}))
            .contains("option `objectives`: expected objectives as `name:min` or `name:max`")
    );
    let text = said(json!({"searchSpaceFile": "space.json", "steeringExec": null, "warm": "empty"}));
    assert!(text.contains("cannot read history of an earlier task"), "{text}");
}
