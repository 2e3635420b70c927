//! Wrong files and options: message, exit code, nothing begun.

use serde_json::json;

use crate::task::{Finished, Task};

fn refused(task: &Task, code: i32) -> String {
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(code), "{finished:?}");
    assert!(!task.directory().join("journal").exists());
    finished.remarks().join("\n")
}

/// The same on a machine on which nothing is installed.
fn refused_without_programs(options: &serde_json::Value) -> String {
    let task = Task::new().with(options);
    let finished = Finished::new(task.command().env("PATH", "/nowhere").output().unwrap(), &task);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    finished.remarks().join("\n")
}

#[test]
fn task_files() {
    let task = Task::new();
    std::fs::remove_file(task.files().join("task.json")).unwrap();
    assert_eq!(
        refused(&task, 2),
        "cannot read task file `$DIR/files/task.json`: No such file or directory (os error 2)"
    );
    let bytes: [(&[u8], &str); 6] = [
        (
            b"",
            "task file `$DIR/files/task.json` is not valid JSON: the file is empty",
        ),
        (
            b"{\"maxPoints\": ",
            "task file `$DIR/files/task.json` is not valid JSON: ",
        ),
        (
            b"[]",
            "task file `$DIR/files/task.json`: expected an object of options, found a list",
        ),
        (
            b"{\"maxPoints\": 2.5}",
            "task file `$DIR/files/task.json`: at `/maxPoints`: expected an integer from 0, found 2.5",
        ),
        (
            b"{\"outDS\": \"\xff\"}",
            "task file `$DIR/files/task.json` is not valid JSON: byte 12 is not UTF-8; save the file as UTF-8",
        ),
        (
            b"{\"maxPoints\": 0}",
            "option `maxPoints`: must be at least 1, found 0\noption `maxEvaluationJobs`: must be at least 1, found 0",
        ),
    ];
    for (bytes, expected) in bytes {
        std::fs::write(task.files().join("task.json"), bytes).unwrap();
        let message = refused(&task, 2);
        assert!(task.run(&[]).stderr.contains(expected), "{expected} in {message}");
    }
}

#[test]
fn search_spaces() {
    let task = Task::new().with(&json!({"searchSpaceFile": "space.json"}));
    let message = refused(&task, 2);
    assert_eq!(
        message,
        "cannot read search space `$DIR/files/space.json`: No such file or directory (os error 2)"
    );
    task.file("space.json", "{\"x\": ");
    assert!(refused(&task, 2).starts_with("search space `$DIR/files/space.json` is not valid JSON: "));
    // Our own steering knows its format, so its faults are found before anything runs.
    let task = task.with(&json!({"steeringExec": null}));
    task.file(
        "space.json",
        r#"{"x": {"method": "uniform", "dimension": {"low": 2, "high": 1}}}"#,
    );
    let message = refused(&task, 2);
    assert!(
        message.starts_with("search space `$DIR/files/space.json`: at `/x"),
        "{message}"
    );
    let message = refused(&task.with(&json!({"searchSpaceFile": null})), 2);
    assert_eq!(
        message,
        "option `searchSpaceFile`: is needed by the default `steeringExec`, found none"
    );
}

#[test]
fn training_data_and_containers() {
    let message = refused(&Task::new().with(&json!({"trainingDS": "none.csv"})), 2);
    assert_eq!(
        message,
        "trainingDS: `$DIR/files/none.csv` names no file, looked for `$DIR/files/none.csv`; paths are relative to the file that names them"
    );
    let message = refused_without_programs(&json!({"evaluationContainer": "docker://x/y:1"}));
    assert_eq!(
        message,
        "option `evaluationContainer`: container `docker://x/y:1` cannot be started: none of `apptainer`, `singularity`, `podman`, `docker` is in PATH; install it, or pass `--containerRuntime none` to run the command on this machine without it"
    );
    let task = Task::new().with(
        &json!({"evaluationContainer": "docker://x/y:1", "containerRuntime": "none", "maxPoints": 1, "site": "CERN"}),
    );
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(
        finished.remarks(),
        [
            "`evaluationContainer` (`docker://x/y:1`) is left aside, its command runs on this machine",
            "option `site` concerns the grid and has no effect here",
        ]
    );
    let message = refused_without_programs(&json!({"steeringExec": "run --rm image steer"}));
    assert!(
        message.starts_with("option `steeringExec`: begins with `run`, the arguments of docker"),
        "{message}"
    );
}

#[test]
fn unknown_options_and_placeholders_are_warnings() {
    let task = Task::new()
        .with(&json!({"maxPoint": 3, "maxPoints": 1, "steeringExec": "sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT %NUM_POINT"}))
        .evaluating("echo '{\"loss\": 1}' > output.json # %SEGMENT_NAME");
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0));
    assert_eq!(
        finished.remarks(),
        [
            "task file `$DIR/files/task.json`: unknown option `maxPoint` is ignored; did you mean `maxPoints`?",
            "steering: unknown placeholder `%NUM_POINT` is left as it is; did you mean %NUM_POINTS?",
            "evaluation: unknown placeholder `%SEGMENT_NAME` is left as it is",
        ]
    );
    let finished = task.call(&["run", "--noSuchOption"]);
    assert_eq!(finished.code, Some(2));
    let finished = task.call(&["run"]);
    assert_eq!(finished.code, Some(2));
    assert_eq!(
        finished.remarks(),
        ["nothing to run: name a task file, as in `hpo run task.json`, or a task to resume with `--taskDir`"]
    );
}

#[test]
fn directories_that_are_no_tasks() {
    let task = Task::new();
    std::fs::create_dir(task.directory()).unwrap();
    std::fs::write(task.directory().join("thesis.tex"), "").unwrap();
    assert_eq!(
        refused(&task, 2),
        "`$DIR/task` holds `thesis.tex` and is not a task directory; choose an empty or new directory with `--taskDir`"
    );
    let finished = task.call(&["run", "--taskDir", "nowhere"]);
    assert_eq!(finished.code, Some(2));
    assert_eq!(
        finished.remarks(),
        [
            "`$DIR/nowhere` is not a task directory, there is nothing to resume; name a task file, as in `hpo run task.json`"
        ]
    );
    for arguments in [
        &["show", "nowhere"][..],
        &["best", "nowhere"],
        &["kill", "nowhere"],
        &["retry", "nowhere"],
    ] {
        let finished = task.call(arguments);
        assert_eq!(finished.code, Some(2));
        assert_eq!(
            finished.remarks(),
            ["`nowhere` is not a task directory: it has no `task.json`; `hpo list` shows the tasks in a directory"]
        );
    }
}

#[test]
fn a_task_is_frozen() {
    let task = Task::new().with(&json!({"maxPoints": 2}));
    task.succeed();
    let finished = task.run(&["--maxPoints", "9"]);
    assert_eq!(finished.code, Some(2));
    assert!(
        finished
            .stderr
            .contains("task `$DIR/task` was begun with other options: ")
            && finished.stderr.contains("`maxPoints` was 2, is 9 now"),
        "{finished:?}"
    );
    let path = task.directory().join("task.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"maxPoints\": 2", "\"maxPoints\": 3")).unwrap();
    let finished = task.call(&["run", "--taskDir", "task"]);
    assert_eq!(finished.code, Some(2));
    assert_eq!(
        finished.remarks().last().copied(),
        Some(
            "`$DIR/task/task.json` was changed after the task began; restore it, or begin a new task with another `--taskDir`"
        )
    );
}

#[test]
fn a_lost_journal_is_not_replaced_by_an_empty_one() {
    let task = Task::new().with(&json!({"maxPoints": 2}));
    task.succeed();
    std::fs::remove_file(task.directory().join("journal")).unwrap();
    let finished = task.call(&["run", "--taskDir", "task"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert_eq!(
        finished.remarks(),
        ["task `$DIR/task` has points but no journal; restore `journal` from a copy"]
    );
    assert!(!task.directory().join("journal").exists());
}

#[test]
fn steering_that_gives_no_answer_fails_the_task_after_three_retries() {
    let cases = [
        (
            "echo 'no such library' >&2; exit 3",
            "it wrote no `output.json` (%OUT) (exit code 3); last line of its stderr: no such library",
        ),
        (
            "echo '{\"x\": 1}' > %OUT",
            "steering output `$DIR/task/steering/1/output.json`: expected a list of points, found an object",
        ),
        (
            "echo '[{\"x\": 1}' > %OUT",
            "steering output `$DIR/task/steering/1/output.json` is not valid JSON: ",
        ),
        (
            "echo '[3]' > %OUT",
            "at `/0`: expected an object or the pair [model_id, object], found a number",
        ),
        (
            "no-such-steering",
            "it wrote no `output.json` (%OUT) (exit code 127, command not found)",
        ),
        (
            "echo '[[0, {\"x\": 1}]]' > %OUT",
            "expected a point, found the pair [0, point], which belongs to segmented tasks",
        ),
    ];
    for (command, expected) in cases {
        let count = "count=$(cat ../../../count 2>/dev/null); echo x$count > ../../../count; ";
        let task = Task::new().with(&json!({"steeringExec": format!("{count}{command}")}));
        let finished = task.run(&[]);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(expected), "{expected} in {}", finished.stderr);
        assert!(
            finished
                .stderr
                .contains("hpo: the task failed: steering failed 4 times: "),
            "{}",
            finished.stderr
        );
        assert_eq!(std::fs::read_to_string(task.path("count")).unwrap().trim(), "xxxx");
        assert_eq!(task.show()["status"], "failed");
    }
}

#[test]
fn a_stale_answer_is_not_taken_and_a_slow_steering_is_ended() {
    let task = Task::new().with(&json!({"steeringExec": "true", "maxPoints": 1}));
    task.file("output.json", "[{\"x\": 1}]");
    assert!(task.run(&[]).stderr.contains("it wrote no `output.json` (%OUT)"));
    let task = Task::new().with(&json!({"steeringExec": "sleep 1000", "steeringTimeout": "0.1s"}));
    assert!(
        task.run(&[])
            .stderr
            .contains("not finished after 0.1 s (steeringTimeout)")
    );
}

#[test]
fn a_good_answer_counts_whatever_the_exit_code() {
    let task = Task::new().with(&json!({"maxPoints": 1, "steeringExec": "echo '[{\"x\": 1}]' > %OUT; exit 3"}));
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0));
    assert_eq!(
        finished.remarks(),
        ["steering's answer is taken although it did not end well (exit code 3)"]
    );
}
