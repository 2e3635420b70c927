//! Payloads that do harm: nothing of them survives, the task goes on, and it says what happened.

use std::fs;

use serde_json::{Value, json};

use crate::task::Task;

/// A search of three points; the second is evaluated by `harm`.
fn with_harm(options: &Value, harm: &str) -> (Task, Vec<Value>) {
    let task = Task::new()
        .with(&json!({
            "maxPoints": 3, "nParallelEvaluation": 3, "nPointsPerIteration": 3, "minUnevaluatedPoints": 0,
            "maxAttempts": 1, "maxLostAttempts": 1
        }))
        .with(options);
    task.file("harm.sh", harm);
    let task =
        task.evaluating("if [ $HPO_POINT_ID = 2 ]; then exec sh harm.sh; fi; echo '{\"loss\": 1}' > output.json");
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let points = task.points();
    for other in [&points[0], &points[2]] {
        assert_eq!((&other["status"], &other["attempts"]), (&json!("done"), &json!(1)));
    }
    nothing_is_left(&task);
    (task, points)
}

/// Whether any process of this machine works below the task.
fn nothing_is_left(task: &Task) {
    let place = task.directory();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(directory) = fs::read_link(entry.path().join("cwd")) else {
            continue;
        };
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!directory.starts_with(&place), "`{command}` is left");
    }
}

fn reason(points: &[Value]) -> &str {
    points[1]["attempt_history"][0]["reason"].as_str().unwrap()
}

#[test]
fn a_payload_that_multiplies_and_runs_away_is_caught() {
    // Each process lives for a moment, in a session of its own, and leaves a successor that is deaf to requests.
    let chain = "trap '' TERM HUP INT\n[ -e output.json ] || echo '{\"loss\": 2}' > output.json\n\
                 setsid sh harm.sh & setsid sleep 1000 &\nexit 0\n";
    let (_, points) = with_harm(&json!({}), chain);
    assert_eq!(
        (&points[1]["status"], &points[1]["loss"]),
        (&json!("done"), &json!(2.0))
    );
}

#[test]
fn a_payload_without_memory_fails_alone() {
    let (_, points) = with_harm(
        &json!({}),
        "ulimit -v 100000\nhead -c 400000000 /dev/zero | tail -n 1 > all || exit 5\n",
    );
    assert_eq!(points[1]["status"], "failed");
    assert!(
        reason(&points).starts_with("exit code 5; last line of its stderr: "),
        "{}",
        reason(&points)
    );
    let (_, points) = with_harm(&json!({}), "kill -KILL $$");
    let expected = "ended by signal 9 (SIGKILL), which the kernel sends where memory runs out";
    assert_eq!(reason(&points), expected);
}

#[test]
fn a_payload_that_removes_its_directories_fails_alone() {
    let (_, points) = with_harm(&json!({}), "rm -rf \"$PWD\"\n");
    assert_eq!(
        reason(&points),
        "the evaluation exited with 0 but wrote no `output.json`"
    );
    let (_, points) = with_harm(&json!({}), "rm -rf \"$(dirname \"$PWD\")\"\n");
    assert_eq!(points[1]["status"], "failed");
    assert_eq!(points[1]["attempt_history"][0]["status"], "lost");
    assert_eq!(reason(&points), "its runner ended without a result");
}

#[test]
fn a_payload_that_closes_or_floods_its_output_is_read_to_the_end() {
    let (task, points) = with_harm(
        &json!({}),
        "exec 3>&1 >&- 2>&-\nhead -c 12000000 /dev/zero >&3\necho '{\"loss\": 2}' > output.json\n",
    );
    assert_eq!(points[1]["loss"], 2.0);
    assert!(fs::metadata(task.of_attempt(2, 1, "stdout.log")).unwrap().len() < 11_000_000);
}

#[test]
#[ignore = "writes three gigabytes through a pipe"]
fn gigabytes_of_output_fill_neither_disk_nor_memory() {
    let (task, points) = with_harm(
        &json!({}),
        "head -c 3221225472 /dev/zero\necho '{\"loss\": 2}' > output.json\n",
    );
    assert_eq!(points[1]["loss"], 2.0);
    assert!(fs::metadata(task.of_attempt(2, 1, "stdout.log")).unwrap().len() < 11_000_000);
}

#[test]
fn a_result_of_a_payload_that_fails_or_hangs_afterwards_does_not_count() {
    let good = "echo '{\"status\": 0, \"loss\": 2}' > output.json\n";
    let (_, points) = with_harm(&json!({}), &format!("{good}exit 1\n"));
    assert_eq!(reason(&points), "exit code 1");
    let options = json!({"evaluationTimeout": "0.2s", "killGrace": "0.1s"});
    let (_, points) = with_harm(&options, &format!("{good}trap '' TERM\nwhile :; do sleep 0.01; done\n"));
    assert_eq!(reason(&points), "not finished after 0.2 s (evaluationTimeout)");
}
