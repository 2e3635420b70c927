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

/// Two points, the second a promotion of the first; `between` happens before steering proposes the second.
fn promoting(between: &str) -> Task {
    let task = Task::new()
        .with(&json!({
            "maxPoints": 2, "nParallelEvaluation": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0, "stripReserved": true
        }))
        .evaluating("sh train.sh");
    task.file(
        "train.sh",
        r#"begun=$(cat $HPO_CHECKPOINT_DIR/epochs 2>/dev/null || echo 0)
           echo $HPO_EPOCHS > $HPO_CHECKPOINT_DIR/epochs
           echo "{\"loss\": 0.5, \"message\": \"$begun $HPO_KEEP_CHECKPOINT $(grep -c hpo input.json)\"}" > output.json"#,
    );
    let steer = format!(
        "if grep -q hpo.n $3; then {between}; echo '[{{\"x\":1,\"hpo.n\":1,\"hpo.c\":0,\"hpo.epochs\":3,\"hpo.from\":0}}]' > $4; \
         else echo '[{{\"x\":1,\"hpo.n\":0,\"hpo.c\":0,\"hpo.epochs\":1}}]' > $4; fi\n"
    );
    task.file("steer.sh", &steer);
    task
}

#[test]
fn a_promotion_goes_on_from_the_checkpoint_of_the_point_before() {
    let task = promoting(":");
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        finished.remarks(),
        ["point 2 attempt 1: goes on from the checkpoint of point 1 after 1 epochs"]
    );
    assert_eq!(task.points()[1]["message"], "1 1 0");
    // Nobody can go on from anything any more.
    assert_eq!(fs::read_dir(task.directory().join("checkpoints")).unwrap().count(), 0);
}

#[test]
fn a_promotion_without_its_checkpoint_begins_anew_and_says_so() {
    for (between, reason) in [
        ("echo 7 > ../../checkpoints/1/payload/epochs", "`epochs` is damaged"),
        ("rm -r ../../checkpoints/1", "it is missing"),
        ("echo > ../../checkpoints/1/sealed.json", "its list of files is damaged"),
    ] {
        let task = promoting(between);
        let finished = task.run(&[]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let remark = format!(
            "point 2 attempt 1: the checkpoint of point 1 cannot be gone on from ({reason}); training begins anew, with the same result"
        );
        assert_eq!(finished.remarks(), [remark]);
        assert_eq!(task.points()[1]["message"], "0 1 0");
    }
}
