//! What a user does with a task while it runs, and afterwards.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::task::{Task, wait_until};

/// Evaluations that wait until the file `go-on` exists; each notes its beginning in the ledger.
fn waiting(options: &Value) -> Task {
    let task = Task::new()
        .with(&json!({"maxPoints": 3, "nParallelEvaluation": 1, "nPointsPerIteration": 3, "minUnevaluatedPoints": 0}))
        .with(options);
    let (ledger, go_on) = (task.ledger(), task.path("go-on"));
    task.evaluating(&format!(
        "echo begun $HPO_POINT_ID; echo $HPO_POINT_ID $HPO_ATTEMPT >> '{}'; \
         while [ ! -e '{}' ]; do sleep 0.01; done; echo '{{\"loss\": 7}}' > output.json; echo ended",
        ledger.display(),
        go_on.display()
    ))
}

fn begun(task: &Task, attempts: usize) {
    wait_until("evaluations have begun", || task.attempts().len() >= attempts);
}

fn go_on(task: &Task) {
    fs::write(task.path("go-on"), "").unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_detached_manager_works_on_and_is_watched_to_the_end() {
    let task = waiting(&json!({}));
    for further in ["--detach", "--json"] {
        assert_eq!(task.call(&["run", "files/none.json", further]).code, Some(2));
    }
    let finished = task.call(&["submit", "files/task.json", "--taskDir", "task", "--json"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(told["task"], "user.me.test");
    let process = told["process"].as_i64().unwrap();
    assert_ne!(process, i64::from(std::process::id()));
    begun(&task, 1);
    assert_eq!(task.show()["status"], "running");
    let refused = task.call(&["resume", "task", "--detach"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused.stderr.contains("is being run by another hpo (process "),
        "{refused:?}"
    );
    let watching = |further: &[&str]| {
        let mut command = task.hpo();
        command.args(["watch", "task"]).args(further);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (for_people, for_programs) = (watching(&[]), watching(&["--json"]));
    go_on(&task);
    let for_people = for_people.wait_with_output().unwrap();
    assert_eq!(for_people.status.code(), Some(0));
    let text = String::from_utf8(for_people.stdout).unwrap();
    assert!(text.starts_with("user.me.test: "), "{text}");
    assert!(
        text.ends_with("the search is over: maxPoints (3) are evaluated\n"),
        "{text}"
    );
    let events = lines(&String::from_utf8(for_programs.wait_with_output().unwrap().stdout).unwrap());
    assert_eq!(events[0]["event"], "watching");
    assert_eq!(events.last().unwrap()["event"], "ended");
    wait_until("the manager has had its last word", || {
        let log = fs::read_to_string(task.directory().join("manager.log")).unwrap();
        log.contains("the search is over") && log.trim_end().ends_with('}')
    });
}

#[test]
fn watching_a_task_that_is_over_tells_how_it_ended() {
    let task = Task::new().with(&json!({"maxPoints": 1}));
    task.succeed();
    let watched = task.call(&["watch", "task"]);
    assert_eq!(watched.code, Some(0));
    let expected = "user.me.test: finished, 1 points: 1 done, 0 failed, 0 running, 0 pending\n\
                    best so far: loss 4 (point 1)\nthe search is over: maxPoints (1) are evaluated\n";
    assert_eq!(watched.stdout, expected);
    let events = lines(&task.call(&["watch", "task", "--json"]).stdout);
    assert_eq!(
        (&events[0]["event"], &events[1]["event"]),
        (&json!("watching"), &json!("ended"))
    );
}

#[test]
fn a_paused_task_says_so_and_goes_on_when_it_is_resumed() {
    let task = waiting(&json!({}));
    let mut manager = task.start();
    begun(&task, 1);
    let paused = task.call(&["pause", "task"]);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    assert_eq!(paused.stdout, "user.me.test is paused; `hpo resume` goes on with it\n");
    assert_eq!(manager.wait().unwrap().code(), Some(130));
    assert_eq!(task.show()["status"], "paused");
    let watched = task.call(&["watch", "task"]);
    assert_eq!(watched.code, Some(130));
    let expected = "nobody works on this task, it is paused; `hpo resume $DIR/task` goes on";
    assert_eq!(watched.remarks(), [expected]);
    go_on(&task);
    assert_eq!(task.call(&["resume", "task"]).code, Some(0));
    let points = task.points();
    assert_eq!(points[0]["attempt_history"][0]["status"], "stopped");
    assert!(points.iter().all(|point| point["status"] == "done"));
}

#[test]
fn what_was_made_ready_ahead_is_taken_back_by_a_pause() {
    let options =
        json!({"maxPoints": 8, "nParallelEvaluation": 1, "nPointsPerIteration": 8, "minUnevaluatedPoints": 0});
    let task = Task::new().with(&options);
    let (ledger, go_on_file) = (task.ledger(), task.path("go-on"));
    // Two short ones, so that others are made ready while the third does not come to its end.
    let task = task.evaluating(&format!(
        "echo $HPO_POINT_ID $HPO_ATTEMPT >> '{}'; while [ $HPO_POINT_ID = 3 ] && [ ! -e '{}' ]; do sleep 0.01; done; \
         echo '{{\"loss\": 7}}' > output.json",
        ledger.display(),
        go_on_file.display()
    ));
    let mut manager = task.start();
    begun(&task, 3);
    wait_until("the next one is made ready", || task.points()[3]["status"] == "running");
    assert_eq!(task.call(&["pause", "task"]).code, Some(0));
    manager.wait().unwrap();
    assert_eq!(task.attempts(), ["1 1", "2 1", "3 1"]);
    go_on(&task);
    let finished = task.call(&["resume", "task"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let mut points: Vec<String> = task.attempts().iter().map(|line| line[..1].to_owned()).collect();
    points.sort();
    assert_eq!(
        points.concat(),
        "123345678",
        "each once, and the one that was interrupted once more"
    );
    assert!(task.points().iter().all(|point| point["status"] == "done"));
}

#[test]
fn a_pause_without_a_manager_ends_what_still_runs() {
    let task = waiting(&json!({}));
    let mut manager = task.start();
    begun(&task, 1);
    manager.kill().unwrap();
    manager.wait().unwrap();
    assert_eq!(task.show()["status"], "unattended");
    assert_eq!(task.call(&["pause", "task"]).code, Some(0));
    assert_eq!(task.show()["status"], "paused");
    assert_eq!(task.show()["points"][0]["attempt_history"][0]["status"], "stopped");
}

#[test]
fn a_task_is_finished_with_what_it_has_at_once_or_softly() {
    for (further, evaluated) in [(&["--soft"][..], true), (&[], false)] {
        let task = waiting(&json!({}));
        let mut manager = task.start();
        begun(&task, 1);
        let mut arguments = vec!["finish", "task"];
        arguments.extend(further);
        let finished = task.call(&arguments);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        go_on(&task);
        manager.wait().unwrap();
        let shown = task.show();
        let left = if evaluated { 2 } else { 3 };
        assert_eq!(
            (&shown["status"], &shown["reason"]),
            (
                &json!("finished"),
                &json!(format!("`hpo finish` was called, {left} points were not evaluated"))
            )
        );
        assert_eq!(task.attempts().len(), 1);
        // What was left is evaluated when it is asked for.
        assert_eq!(task.call(&["retry", "task"]).code, Some(0));
        assert!(task.points().iter().all(|point| point["status"] == "done"));
    }
}

#[test]
fn a_finished_search_goes_on_with_more_points() {
    let task = Task::new().with(&json!({"maxPoints": 2, "maxEvaluationJobs": 2, "maxPointsPerEvaluationJob": 1}));
    task.succeed();
    let fewer = task.call(&["retry", "task", "--maxPoints", "1"]);
    assert_eq!(fewer.code, Some(2));
    let expected = "`--maxPoints` must be at least 2, the points that the search has already, found 1";
    assert_eq!(fewer.remarks(), [expected]);
    for points in [5, 7] {
        let more = task.call(&["retry", "task", "--maxPoints", &points.to_string()]);
        assert_eq!(more.code, Some(0), "{more:?}");
        assert_eq!(task.points().len(), points);
        assert_eq!(task.attempts().len(), points, "nothing is evaluated again");
    }
    // The task file still says what it said.
    assert_eq!(task.run(&[]).code, Some(0));
    assert_eq!(task.points().len(), 7);
    let none = task.call(&["retry", "task"]);
    assert!(none.remarks()[0].starts_with("no point of this task has failed, there is nothing to try again"));
}

#[test]
fn a_log_is_followed_until_its_attempt_is_over() {
    let task = waiting(&json!({"maxPoints": 1}));
    let mut manager = task.start();
    begun(&task, 1);
    let mut command = task.hpo();
    command.args(["logs", "task", "1", "--follow"]).stdout(Stdio::piped());
    let following = command.spawn().unwrap();
    go_on(&task);
    let output = following.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "--- standard output ---\nbegun 1\nended\n"
    );
    assert!(manager.wait().unwrap().success());
    let again = task.call(&["logs", "task", "1", "-f", "--json"]);
    assert_eq!(
        lines(&again.stdout),
        [json!({"stream": "stdout", "text": "begun 1\nended\n"})]
    );
}

#[test]
fn the_doctor_looks_at_machine_storage_programs_and_task() {
    let task = Task::new().with(&json!({"maxPoints": 1}));
    task.succeed();
    let finished = task.call(&["doctor", "task", "--json"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let probes = report["probes"].as_array().unwrap();
    let verdict = |name: &str| {
        let found = probes.iter().find(|probe| probe["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is missing in {report}"))["verdict"]
            .as_str()
            .unwrap()
    };
    for name in [
        "processes",
        "exclusive creation",
        "renaming",
        "commits",
        "symbolic links",
        "task",
    ] {
        assert_eq!(verdict(name), "good", "{report}");
    }
    for name in [
        "steering",
        "evaluation",
        "GPUs",
        "containers",
        "Slurm",
        "locks",
        "clocks",
        "room",
        "open files",
    ] {
        assert!(["good", "poor", "absent"].contains(&verdict(name)), "{report}");
    }
    assert!(task.call(&["doctor", "."]).stdout.ends_with("tasks can be run here\n"));
    fs::write(task.directory().join("journal"), "hpo-journal 1\nnonsense\n").unwrap();
    let sick = task.call(&["doctor", "task"]);
    assert_eq!(sick.code, Some(3), "{sick:?}");
    assert!(sick.stdout.contains("hpo journal repair"), "{sick:?}");
    assert_eq!(task.call(&["doctor", "nowhere"]).code, Some(2));
    assert!(!Path::new(&task.path("hpo-doctor")).exists());
}

#[test]
fn commands_of_other_tools_mean_the_same() {
    let task = Task::new().with(&json!({"maxPoints": 1}));
    task.succeed();
    assert_eq!(
        task.call(&["showl", "task"]).stdout,
        task.call(&["show", "task"]).stdout
    );
}
