//! Tasks of several models.

use std::fs;

use serde_json::{Value, json};

use crate::task::{Task, read_json};

fn segmented() -> Task {
    let task = Task::new()
        .with(&json!({
            "segmentSpecFile": "segments.json", "searchSpaceFile": "space.json", "trainingDS": "data",
            "evaluationMetrics": "m-%SEGMENT_NAME", "maxPoints": 2, "nPointsPerIteration": 2, "minUnevaluatedPoints": 0
        }))
        .evaluating("echo %SEGMENT_NAME > m-%SEGMENT_NAME; [ $HPO_SEGMENT = %SEGMENT_NAME ] && echo '{\"loss\": 1}' > output.json");
    task.file(
        "segments.json",
        r#"[{"name": "arm", "files": ["a.csv"]}, {"name": "leg", "datasets": ["more"]}]"#,
    );
    task.file(
        "space.json",
        r#"{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}"#,
    );
    task.file("data/a.csv", "");
    task.file("data/b.csv", "");
    task.file("more/c.csv", "");
    task.file(
        "steer.sh",
        "echo '[[0,{\"x\":0.5}],[1,{\"x\":0.25}],[0,{\"x\":0.75}],[1,{\"x\":0.125}]]' > $4\n",
    );
    task
}

#[test]
fn each_segment_has_points_files_and_metrics_of_its_own() {
    let task = segmented();
    let points = task.succeed();
    let segments: Vec<&Value> = points.iter().map(|point| &point["segment"]).collect();
    assert_eq!(segments, ["arm", "leg", "arm", "leg"]);
    let work = |point: u32| task.of_attempt(point, 1, "workDir");
    assert_eq!(read_json(&work(2).join("input.json")), json!([1, {"x": 0.25}]));
    assert_eq!(read_json(&work(1).join("input_ds.json")), json!(["a.csv"]));
    assert_eq!(read_json(&work(2).join("input_ds.json")), json!(["c.csv"]));
    let id = task.show()["id"].as_str().unwrap().to_owned();
    let metrics = points[1]["metrics"].as_str().unwrap();
    assert!(
        metrics.starts_with(&format!("metrics/leg.{id}.metrics.0000")),
        "{metrics}"
    );
    let input = read_json(&task.directory().join("steering/1/idds_input.json"));
    assert_eq!(input["points"], json!([]));
    assert_eq!(input["opt_space"][1]["model_id"], 1);
    assert_eq!(input["opt_space"][0]["search_space"]["x"]["method"], "uniform");
    let best: Value = serde_json::from_str(&task.call(&["best", "task", "--json"]).stdout).unwrap();
    assert_eq!(best["best_of_segments"]["leg"]["id"], "2");
    assert!(
        task.call(&["best", "task"])
            .stdout
            .contains("segment leg: point 2, loss 1")
    );
}

#[test]
fn the_input_may_be_the_point_alone() {
    let task = segmented().with(&json!({"evaluationInputFormat": "plain"}));
    task.succeed();
    assert_eq!(
        read_json(&task.of_attempt(2, 1, "workDir/input.json")),
        json!({"x": 0.25})
    );
}

#[test]
fn faults_of_segments_are_told_at_submission() {
    let cases = [
        (r#"[{"name": "a/b", "files": ["a.csv"]}]"#, "at `/0/name`: "),
        (
            r#"[{"name": "a", "files": ["none.csv"]}]"#,
            "at `/0/files`: `none.csv` is not among the files of `trainingDS`",
        ),
        (
            r#"[{"name": "a", "datasets": ["none"]}]"#,
            "segment `a`: `none` names no file, looked for `$DIR/files/none`",
        ),
        (
            r#"[{"name": "a", "files": ["a.csv"]}, {"name": "a", "files": ["b.csv"]}]"#,
            "taken by an earlier segment",
        ),
        ("[]", "expected at least one segment, found an empty list"),
    ];
    for (text, expected) in cases {
        let task = segmented();
        task.file("segments.json", text);
        let finished = task.run(&[]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(expected), "{expected} in {finished:?}");
        assert!(!task.directory().exists());
    }
    let task = segmented();
    task.file("space.json", r#"[{"model_id": 0, "search_space": {}}]"#);
    let finished = task.run(&[]);
    let expected =
        "expected one object with `model_id` and `search_space` for each of the 2 segments, ids from 0, found ids [0]";
    assert!(
        finished.code == Some(2) && finished.stderr.contains(expected),
        "{finished:?}"
    );
}

#[test]
fn points_of_the_wrong_shape_are_steering_failures() {
    for (answer, expected) in [
        (
            r#"[{"x": 1}]"#,
            "expected the pair [model_id, point] in a segmented task, found a point alone",
        ),
        (
            r#"[[7, {"x": 1}]]"#,
            "steering output at `/0/0`: expected a model_id below 2, found 7",
        ),
    ] {
        let task = segmented();
        fs::write(task.files().join("steer.sh"), format!("echo '{answer}' > $4\n")).unwrap();
        let finished = task.run(&[]);
        assert!(
            finished.code == Some(1) && finished.stderr.contains(expected),
            "{finished:?}"
        );
    }
}
