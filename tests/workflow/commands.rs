//! The commands that look.

use serde_json::{Value, json};

use crate::task::Task;

#[test]
fn show_list_logs_and_check_speak_to_people_and_programs() {
    let task = Task::new()
        .with(&json!({"maxPoints": 2}))
        .evaluating("printf 'working\\033[31m\\n'; echo careful >&2; echo '{\"loss\": 1}' > output.json");
    task.succeed();
    let json = |arguments: &[&str]| -> Value {
        let finished = task.call(arguments);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    };
    let listed = json(&["list", ".", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["status"], &listed[0]["best"]),
        (&json!("user.me.test"), &json!("finished"), &json!(1.0))
    );
    assert!(task.call(&["list"]).stdout.contains("finished"));
    assert_eq!(task.call(&["list", "files"]).stdout, "no tasks here\n");
    let logs = json(&["logs", "task", "1", "--json"]);
    assert_eq!(
        (&logs["stdout"], &logs["stderr"]),
        (&json!("working\u{1b}[31m\n"), &json!("careful\n"))
    );
    let text = task.call(&["logs", "task", "1"]).stdout;
    assert_eq!(
        text,
        "--- standard output ---\nworking\\u{1b}[31m\n--- standard error ---\ncareful\n"
    );
    assert_eq!(
        task.call(&["logs", "task", "--steering", "1"]).stdout,
        "nothing was printed\n"
    );
    assert_eq!(json(&["journal", "check", "task", "--json"])["sound"], true);
    assert!(task.call(&["journal", "check", "task"]).stdout.starts_with("sound: "));
    let one = json(&["show", "task", "--point", "2", "--json"]);
    assert_eq!(
        (&one["id"], &one["attempt_history"][0]["status"]),
        (&json!("2"), &json!("done"))
    );
    assert!(
        task.call(&["show", "task", "--point", "2"])
            .stdout
            .contains("attempt 1: done after")
    );
    assert!(
        task.call(&["show", "task"])
            .stdout
            .starts_with("user.me.test: finished, 2 points: 2 done, 0 failed")
    );
}

#[test]
fn what_is_not_there_is_told() {
    let task = Task::new()
        .with(&json!({"maxPoints": 2, "maxAttempts": 1}))
        .evaluating("exit 1");
    task.run(&[]);
    let told = |arguments: &[&str], code: i32| -> String {
        let finished = task.call(arguments);
        assert_eq!(finished.code, Some(code), "{finished:?}");
        finished.remarks().join("\n")
    };
    assert_eq!(
        told(&["best", "task"], 1),
        "no point of `task` has a loss yet; `hpo show task` shows where they stand"
    );
    assert_eq!(
        told(&["show", "task", "--point", "9"], 2),
        "there is no point 9; the task has points 1 to 2"
    );
    assert_eq!(
        told(&["logs", "task", "1", "--attempt", "4"], 2),
        "point 1 has 1 attempts, found 4"
    );
    assert!(told(&["logs", "task", "--steering", "9"], 2).starts_with("there are no logs in `$DIR/task/steering/9"));
    assert!(told(&["list", "nowhere"], 2).starts_with("`nowhere`: No such file"));
}

#[test]
fn help_begins_with_an_example_and_a_closed_pipe_is_no_error() {
    let task = Task::new();
    let help = task.call(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(
        help.stdout
            .starts_with("Example:\n  hpo run task.json --taskDir my-run"),
        "{}",
        help.stdout
    );
    assert!(task.call(&["--version"]).stdout.starts_with("hpo "));
    task.succeed();
    let mut shown = task.hpo();
    let mut child = shown
        .args(["show", "task"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
