//! Nothing of a payload survives its attempt, and time-outs hold.

use std::fs;

use serde_json::json;

use crate::task::{Task, wait_until};

fn one() -> Task {
    Task::new().with(&json!({"maxPoints": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0, "maxAttempts": 1}))
}

fn gone(file: &std::path::Path) {
    let text = fs::read_to_string(file).unwrap();
    for pid in text.split_whitespace() {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        wait_until("a left process is gone", || {
            rustix::process::test_kill_process(pid).is_err()
        });
    }
}

#[test]
fn what_a_payload_leaves_behind_is_killed() {
    let task = one();
    let pids = task.path("pids");
    // A session of its own, twice forked, deaf to SIGTERM, holding the output open.
    let task = task.evaluating(&format!(
        "setsid sh -c 'trap \"\" TERM HUP; (echo $$ >> {0}; sleep 1000) & echo $! >> {0}' & sleep 1000 & echo $! >> {0}; wait %1; echo '{{\"loss\": 1}}' > output.json",
        pids.display()
    ));
    assert_eq!(task.succeed()[0]["status"], "done");
    gone(&pids);
}

#[test]
fn a_payload_that_takes_too_long_is_ended_however_deaf_it_is() {
    let task = one();
    let pids = task.path("pids");
    let task = task
        .with(&json!({"evaluationTimeout": "0.2s", "killGrace": "0.1s"}))
        .evaluating(&format!(
            "trap '' TERM; echo $$ >> {0}; while :; do sleep 0.01; done",
            pids.display()
        ));
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(1));
    let point = &task.points()[0];
    assert_eq!((&point["status"], &point["loss"]), (&json!("failed"), &json!(null)));
    assert_eq!(
        point["attempt_history"][0]["reason"],
        "not finished after 0.2 s (evaluationTimeout)"
    );
    gone(&pids);
}

#[test]
fn a_payload_that_ends_well_when_asked_to_keeps_its_loss() {
    let task = one()
        .with(&json!({"evaluationTimeout": "0.3s", "killGrace": "30s"}))
        .evaluating("trap 'echo \"{\\\"loss\\\": 5}\" > output.json; exit 0' TERM; while :; do sleep 0.01; done");
    assert_eq!(task.succeed()[0]["loss"], 5.0);
}

#[test]
fn a_flood_of_output_is_capped_at_both_ends() {
    let task = one().evaluating(
        "echo first; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo last; echo '{\"loss\": 1}' > output.json",
    );
    task.succeed();
    let log = fs::read_to_string(task.of_attempt(1, 1, "stdout.log")).unwrap();
    assert!(log.len() < 11_000_000, "{}", log.len());
    assert!(log.starts_with("first\n") && log.ends_with("\nlast\n") && log.contains(" bytes left out here"));
}

#[test]
fn hpo_kill_ends_the_task_and_retry_goes_on() {
    let task = one();
    let (begun, pids) = (task.path("begun"), task.path("pids"));
    let task = task.evaluating(&format!(
        "[ $HPO_ATTEMPT = 1 ] && {{ echo $$ > '{}'; touch '{}'; sleep 1000; }}; echo '{{\"loss\": 1}}' > output.json",
        pids.display(),
        begun.display()
    ));
    let mut manager = task.start();
    wait_until("the evaluation runs", || begun.exists());
    let killed = task.call(&["kill", "task", "--json"]);
    assert_eq!(killed.code, Some(0), "{killed:?}");
    assert!(killed.stdout.contains("\"status\": \"killed\""), "{killed:?}");
    assert_eq!(manager.wait().unwrap().code(), Some(1));
    gone(&pids);
    let again = task.run(&[]);
    assert_eq!(again.code, Some(1));
    assert!(
        again
            .stderr
            .contains("the task was ended by `hpo kill`; `hpo retry $DIR/task` goes on"),
        "{again:?}"
    );
    assert_eq!(task.call(&["retry", "task"]).code, Some(0));
    assert_eq!(task.points()[0]["status"], "done");
}

#[test]
fn hpo_kill_also_ends_what_runs_without_a_manager() {
    let task = one();
    let (begun, pids) = (task.path("begun"), task.path("pids"));
    let task = task.evaluating(&format!(
        "echo $$ > '{}'; touch '{}'; sleep 1000",
        pids.display(),
        begun.display()
    ));
    let mut manager = task.start();
    wait_until("the evaluation runs", || begun.exists());
    manager.kill().unwrap();
    manager.wait().unwrap();
    assert_eq!(task.call(&["kill", "task"]).code, Some(0));
    assert_eq!(task.show()["status"], "killed");
    gone(&pids);
}
