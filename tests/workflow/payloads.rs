//! Payloads that do not do what they should.

use serde_json::json;

use crate::task::{Task, read_json};

fn reason_of(command: &str) -> String {
    let task = Task::new()
        .with(&json!({"maxPoints": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0, "maxAttempts": 1}))
        .evaluating(command);
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let point = &task.points()[0];
    assert_eq!(point["status"], "failed");
    point["attempt_history"][0]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn every_way_to_fail_has_its_reason() {
    let write = |text: &str| format!("printf '%s' '{text}' > output.json");
    let cases = [
        (
            "true".to_owned(),
            "the evaluation exited with 0 but wrote no `output.json`",
        ),
        (
            "echo 'no data' >&2".to_owned(),
            "the evaluation exited with 0 but wrote no `output.json`; last line of its stderr: no data",
        ),
        ("exit 7".to_owned(), "exit code 7"),
        (
            "no-such-program".to_owned(),
            "exit code 127 (command not found); last line of its stderr: /bin/sh: 1: no-such-program: not found",
        ),
        ("kill -SEGV $$".to_owned(), "ended by signal 11 (SIGSEGV)"),
        (write(""), "the loss document is not valid JSON: the file is empty"),
        (
            write("[1]"),
            "the loss document is a list, expected an object with `loss`",
        ),
        (write("{}"), "the loss document has no `loss`"),
        (
            write(r#"{"loss": NaN}"#),
            "the loss is NaN, expected a finite number below 1e30",
        ),
        (write(r#"{"loss": [1]}"#), "the loss is a list, expected a number"),
        (
            write(r#"{"status": 1, "message": "diverged at epoch 3"}"#),
            "status 1: diverged at epoch 3",
        ),
        (
            "echo '{\"status\": 2, \"message\": \"no gpu\"}' > output.json; exit 4".to_owned(),
            "exit code 4; status 2: no gpu",
        ),
        (
            "mkfifo output.json".to_owned(),
            "`output.json` must be a regular file, found a pipe",
        ),
        (
            "ln -s /etc/hostname output.json".to_owned(),
            "`output.json` must be a regular file, found a symbolic link",
        ),
        (
            "truncate -s 10G output.json".to_owned(),
            "`output.json` must have at most 1048576 bytes, found 10737418240",
        ),
        (
            "printf '\\033[2J' >&2; exit 1".to_owned(),
            "exit code 1; last line of its stderr: \\u{1b}[2J",
        ),
    ];
    for (command, expected) in cases {
        assert_eq!(reason_of(&command), expected, "{command}");
    }
}

#[test]
fn a_hopeless_point_gets_the_very_large_loss_and_the_search_goes_on() {
    let task = Task::new().with(&json!({"maxPoints": 4, "minUnevaluatedPoints": 0, "nPointsPerIteration": 3}));
    let ledger = task.ledger();
    let task = task.evaluating(&format!(
        "echo $HPO_POINT_ID $HPO_ATTEMPT >> '{}'; [ $HPO_POINT_ID = 2 ] && exit 1; echo '{{\"loss\": 0}}' > output.json",
        ledger.display()
    ));
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("point 2 attempt 1 failed: exit code 1; will be tried again"),
        "{finished:?}"
    );
    assert!(
        finished
            .stderr
            .contains("point 2 attempt 3 failed: exit code 1; given up"),
        "{finished:?}"
    );
    assert_eq!(task.attempts(), ["1 1", "2 1", "2 2", "2 3", "3 1", "4 1"]);
    let results = read_json(&task.directory().join("results.json"));
    assert_eq!(
        (&results["points"][1]["loss"], &results["points"][1]["status"]),
        (&json!(100_000.0), &json!("failed"))
    );
    let input = read_json(&task.directory().join("steering/2/idds_input.json"));
    assert_eq!(input["points"][1], json!([{"x": 2}, 100_000.0]));
    assert_eq!(
        input["meta"][1],
        json!({"status": "failed", "failure": "payload", "attempts": 3, "seconds": input["meta"][1]["seconds"]})
    );
    // The loss 0 is a loss like any other.
    assert_eq!(results["best"]["id"], "1");
}

#[test]
fn a_failed_point_can_be_tried_again() {
    let task = Task::new().with(&json!({"maxPoints": 2}));
    let flag = task.path("fixed");
    let task = task.evaluating(&format!(
        "[ -e '{}' ] && echo '{{\"loss\": 1}}' > output.json",
        flag.display()
    ));
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(1));
    assert_eq!(
        finished.remarks(),
        [
            "no point has a loss; `hpo logs $DIR/task 1` shows what an evaluation printed, `hpo retry $DIR/task` tries again"
        ]
    );
    std::fs::write(flag, "").unwrap();
    assert_eq!(task.call(&["retry", "task"]).code, Some(0));
    let points = task.points();
    assert!(
        points
            .iter()
            .all(|point| point["status"] == "done" && point["attempts"] == 4),
        "{points:?}"
    );
}

#[test]
fn a_retry_of_attempts_stops_at_max_evaluation_jobs() {
    let task = Task::new().with(&json!({"maxPoints": 5, "maxEvaluationJobs": 3, "maxPointsPerEvaluationJob": 1}));
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0));
    let shown = task.show();
    assert_eq!(shown["evaluation_jobs"], 3);
    let reason = shown["reason"].as_str().unwrap();
    assert!(reason.starts_with("maxEvaluationJobs (3) are used up, "), "{reason}");
}

#[test]
fn metadata_and_metrics_that_are_no_good_are_told_and_left() {
    let task = Task::new()
        .with(&json!({"maxPoints": 1, "evaluationMeta": "meta.json", "evaluationMetrics": "m.tgz", "nPointsPerIteration": 1, "minUnevaluatedPoints": 0}))
        .evaluating("echo '[1]' > meta.json; mkdir m.tgz; echo '{\"loss\": 1}' > output.json");
    let finished = task.run(&[]);
    assert_eq!(
        finished.remarks(),
        [
            "point 1 attempt 1: metadata ignored: `meta.json` must be a JSON object",
            "point 1 attempt 1: metrics ignored: `m.tgz` must be a regular file",
        ]
    );
    assert_eq!(finished.code, Some(0));
}

#[test]
fn endless_messages_and_odd_losses_do_not_harm_the_journal() {
    let task = Task::new()
        .with(&json!({"maxPoints": 2, "nPointsPerIteration": 2, "minUnevaluatedPoints": 0, "maxAttempts": 1}))
        .evaluating(
            "long=$(head -c 200000 /dev/zero | tr '\\0' m); \
             if [ $HPO_POINT_ID = 1 ]; then echo \"{\\\"status\\\": 1, \\\"message\\\": \\\"$long\\\"}\" > output.json; \
             else echo '{\"loss\": 2, \"losses\": {\"time\": 3, \"bad\": NaN}}' > output.json; fi",
        );
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let points = task.points();
    assert!(points[0]["attempt_history"][0]["reason"].as_str().unwrap().len() < 1100);
    assert_eq!(points[1]["losses"], json!({"time": 3.0}));
    assert_eq!(
        finished.remarks(),
        [
            "point 2 attempt 1: 1 of 2 further losses are left out: at most 100 finite ones with names of 256 bytes are kept"
        ]
    );
    assert_eq!(task.run(&[]).code, Some(0), "the journal reads back");
}
