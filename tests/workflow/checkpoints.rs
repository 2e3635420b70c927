//! Checkpoints are saved and restored.

use std::fs;

use serde_json::json;

use crate::task::Task;

fn failing_once(options: &serde_json::Value, command: &str) -> Task {
    Task::new()
        .with(&json!({"maxPoints": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0}))
        .with(options)
        .evaluating(command)
}

#[test]
fn a_retry_continues_from_what_the_attempt_before_saved() {
    let task = failing_once(
        &json!({"checkPointToSave": "model,epoch.txt"}),
        "mkdir -p model; n=$(cat epoch.txt 2>/dev/null || echo 0); n=$((n + 1)); echo $n > epoch.txt; echo w$n > model/weights; \
         [ $n -lt 3 ] && exit 1; echo \"{\\\"loss\\\": $n}\" > output.json",
    );
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        finished.remarks(),
        [
            "point 1 attempt 2: continues from checkpoint 1",
            "point 1 attempt 3: continues from checkpoint 2",
        ]
    );
    assert_eq!(task.points()[0]["loss"], 3.0);
}

#[test]
fn the_archive_is_handed_over_unopened_when_it_has_a_name() {
    let task = failing_once(
        &json!({"checkPointToSave": "epoch.txt", "checkPointToLoad": "saved.tgz"}),
        "if [ -e saved.tgz ]; then tar -xzf saved.tgz; echo \"{\\\"loss\\\": $(cat epoch.txt)}\" > output.json; \
         else echo 42 > epoch.txt; exit 1; fi",
    );
    assert_eq!(task.succeed()[0]["loss"], 42.0);
}

#[test]
fn a_payload_may_keep_checkpoints_of_its_own_that_outlive_its_attempts() {
    let task = failing_once(
        &json!({}),
        "[ -e $HPO_CHECKPOINT_DIR/done ] || { touch $HPO_CHECKPOINT_DIR/done; exit 1; }; echo '{\"loss\": 1}' > output.json",
    );
    assert_eq!(task.succeed()[0]["attempts"], 2);
}

#[test]
fn an_archive_over_the_limit_is_a_warning() {
    let task = failing_once(
        &json!({"checkPointToSave": "noise", "checkPointMaxSize": "1K", "maxAttempts": 1}),
        "head -c 10000 /dev/urandom > noise; exit 1",
    );
    let finished = task.run(&[]);
    assert_eq!(
        finished.remarks()[0],
        "point 1 attempt 1: checkpoint not saved: the archive would have more than 1024 bytes (checkPointMaxSize); the last good one is kept"
    );
}

#[test]
fn a_damaged_checkpoint_gives_way_to_a_fresh_start() {
    let task = failing_once(
        &json!({"checkPointToSave": "epoch.txt", "maxAttempts": 1}),
        "[ -e epoch.txt ] && exit 9; touch epoch.txt; [ $HPO_ATTEMPT = 1 ] && exit 1; echo '{\"loss\": 1}' > output.json",
    );
    assert_eq!(task.run(&[]).code, Some(1));
    fs::write(task.directory().join("checkpoints/1/saved-1.tar.gz"), "damaged").unwrap();
    let finished = task.call(&["retry", "task"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        finished.remarks(),
        ["point 1 attempt 2: checkpoint 1 is not usable: its archive is damaged"]
    );
}
