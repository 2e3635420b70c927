//! SIGKILL of the manager at random moments.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::task::{Task, wait_until};

/// A small deterministic generator: the moments must be spread, not secret.
struct Moments(u64);

impl Moments {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn search() -> Task {
    Task::new()
        .with(&json!({"maxPoints": 12, "nParallelEvaluation": 3, "nPointsPerIteration": 5, "minUnevaluatedPoints": 2}))
}

fn outcome(points: &[Value]) -> Vec<(String, String, String)> {
    let mut found: Vec<_> = points
        .iter()
        .map(|point| {
            (
                point["point"].to_string(),
                point["status"].to_string(),
                point["loss"].to_string(),
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn fifty_kills_of_the_manager_lose_nothing_and_double_nothing() {
    kills_of_the_manager(&search, 12, 50);
}

#[test]
#[ignore = "a thousand kills of the manager take some minutes"]
fn a_thousand_kills_of_the_manager_lose_nothing_and_double_nothing() {
    let large = || {
        search().with(&json!({
            "maxPoints": 50, "nParallelEvaluation": 8, "nPointsPerIteration": 12, "minUnevaluatedPoints": 8
        }))
    };
    kills_of_the_manager(&large, 50, 1000);
}

/// Kills the manager of one search after the other, so many times; whatever was lost or done twice is an error.
fn kills_of_the_manager(search: &dyn Fn() -> Task, points: usize, wanted: usize) {
    let noticed = first_violation(search, points, wanted, &|_| {});
    assert_eq!(noticed, None);
}

#[test]
fn the_kills_notice_claims_and_results_that_vanish() {
    let forget = |task: &Task| {
        for point in 1..=12 {
            for name in ["claim", "result.json"] {
                let _ = fs::remove_file(task.of_attempt(point, 1, name));
            }
        }
    };
    let noticed = first_violation(&search, 12, 50, &forget).expect("it must be noticed");
    let expected = ["an attempt ran twice", "not one attempt for each point"];
    assert!(expected.iter().any(|words| noticed.starts_with(words)), "{noticed}");
}

/// What is wrong first, if anything is, when managers are killed so many times, and `plant` has its way after each kill.
fn first_violation(search: &dyn Fn() -> Task, points: usize, wanted: usize, plant: &dyn Fn(&Task)) -> Option<String> {
    let expected = outcome(&search().succeed());
    let mut moments = Moments(1);
    let mut kills = 0;
    while kills < wanted {
        let task = search();
        let journal = task.directory().join("journal");
        let size = || fs::metadata(&journal).map_or(0, |metadata| metadata.len());
        loop {
            let mut manager = task.start();
            // The journal is the clock: a kill hits every phase of the work, on a fast and on a slow machine.
            let goal = size() + moments.below(900);
            let mut ended = false;
            wait_until("the journal grows", || {
                ended = manager.try_wait().unwrap().is_some();
                ended || size() > goal
            });
            if ended {
                break;
            }
            manager.kill().unwrap();
            manager.wait().unwrap();
            kills += 1;
            plant(&task);
        }
        let found = outcome(&task.succeed());
        if found != expected {
            return Some(format!("another outcome: {found:?}"));
        }
        let attempts = task.attempts();
        let mut distinct = attempts.clone();
        distinct.dedup();
        if distinct != attempts {
            return Some(format!("an attempt ran twice: {attempts:?}"));
        }
        if attempts.len() != points || task.points().iter().any(|point| point["attempts"] != 1) {
            return Some(format!("not one attempt for each point: {attempts:?}"));
        }
    }
    None
}

#[test]
fn a_manager_killed_while_steering_runs_is_given_the_same_points_again() {
    let expected = outcome(&search().succeed());
    let task = search();
    let (begun, go_on) = (task.path("begun"), task.path("go-on"));
    // The number of the run is the name of its directory.
    let task = task.with(&json!({"steeringExec": format!(
        "n=${{PWD##*/}}; echo $$ >> '{0}.'$n; while [ ! -e '{1}.'$n ]; do sleep 0.01; done; sh steer.sh %NUM_POINTS %MAX_POINTS %IN %OUT",
        begun.display(), go_on.display()
    )}));
    let of_run = |what: &str, run: u32| task.path(&format!("{what}.{run}"));
    let mut runs = 0;
    loop {
        let mut manager = task.start();
        let mut ended = false;
        wait_until("steering runs", || {
            ended = manager.try_wait().unwrap().is_some();
            ended || fs::read_to_string(of_run("begun", runs + 1)).is_ok_and(|pid| pid.ends_with('\n'))
        });
        if ended {
            break;
        }
        runs += 1;
        manager.kill().unwrap();
        manager.wait().unwrap();
        let pid = fs::read_to_string(of_run("begun", runs)).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        wait_until("the steering of the killed manager is gone", || {
            rustix::process::test_kill_process(pid).is_err()
        });
        fs::write(of_run("go-on", runs), "").unwrap();
    }
    assert!(runs > 3, "{runs}");
    assert_eq!(outcome(&task.succeed()), expected);
    let ids: Vec<String> = task.points().iter().map(|point| point["id"].to_string()).collect();
    assert_eq!(ids.len(), 12, "{ids:?}");
    let mut distinct = task.attempts();
    distinct.dedup();
    assert_eq!((distinct.len(), task.attempts().len()), (12, 12));
}

#[test]
fn a_running_evaluation_outlives_the_manager_and_is_adopted() {
    let task = Task::new().with(&json!({"maxPoints": 1, "nPointsPerIteration": 2, "minUnevaluatedPoints": 0}));
    let (begun, go_on, ledger) = (task.path("begun"), task.path("go-on"), task.ledger());
    let task = task.evaluating(&format!(
        "touch '{}'; while [ ! -e '{}' ]; do sleep 0.01; done; echo once >> '{}'; echo '{{\"loss\": 7}}' > output.json",
        begun.display(),
        go_on.display(),
        ledger.display()
    ));
    let mut manager = task.start();
    wait_until("the evaluation runs", || begun.exists());
    manager.kill().unwrap();
    manager.wait().unwrap();
    assert_eq!(task.show()["status"], "unattended");
    let mut second = task.start();
    wait_until("the task is taken again", || task.show()["status"] == "running");
    fs::write(&go_on, "").unwrap();
    assert!(second.wait().unwrap().success());
    let points = task.points();
    assert_eq!((&points[0]["loss"], &points[0]["attempts"]), (&json!(7.0), &json!(1)));
    assert_eq!(task.attempts(), ["once"]);
}

#[test]
fn the_second_manager_is_refused() {
    let task = Task::new();
    let (begun, go_on) = (task.path("begun"), task.path("go-on"));
    let task = task.evaluating(&format!(
        "touch '{}'; while [ ! -e '{}' ]; do sleep 0.01; done; echo '{{\"loss\": 7}}' > output.json",
        begun.display(),
        go_on.display()
    ));
    let mut manager = task.start();
    wait_until("the evaluation runs", || begun.exists());
    let second = task.run(&[]);
    assert_eq!(second.code, Some(3));
    let last = second.remarks().last().copied().unwrap_or_default().to_owned();
    assert!(
        last.starts_with("task `$DIR/task` is being run by another hpo (process "),
        "{last}"
    );
    assert!(
        last.ends_with("; wait for it, or end it with `hpo kill $DIR/task`"),
        "{last}"
    );
    fs::write(&go_on, "").unwrap();
    assert!(manager.wait().unwrap().success());
}

#[test]
fn a_killed_runner_is_a_loss_that_does_not_count_against_the_point() {
    let task = Task::new()
        .with(&json!({"maxPoints": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0, "maxAttempts": 1}));
    let begun = task.path("begun");
    let survivor = task.path("survivor");
    let task = task.evaluating(&format!(
        "[ $HPO_ATTEMPT = 2 ] || {{ echo $$ > '{}'; touch '{}'; sleep 1000; }}; echo '{{\"loss\": 1}}' > output.json",
        survivor.display(),
        begun.display()
    ));
    let mut manager = task.start();
    wait_until("the evaluation runs", || begun.exists());
    let claim = crate::task::read_json(&task.of_attempt(1, 1, "claim"));
    let pid = |value: i64| rustix::process::Pid::from_raw(i32::try_from(value).unwrap()).unwrap();
    rustix::process::kill_process(pid(claim["pid"].as_i64().unwrap()), rustix::process::Signal::KILL).unwrap();
    assert!(manager.wait().unwrap().success());
    let point = &task.points()[0];
    assert_eq!((&point["status"], &point["attempts"]), (&json!("done"), &json!(2)));
    assert_eq!(point["attempt_history"][0]["status"], "lost");
    assert_eq!(
        point["attempt_history"][0]["reason"],
        "its runner ended without a result"
    );
    // The payload of the killed runner was found by the mark in its environment.
    let payload: i64 = fs::read_to_string(survivor).unwrap().trim().parse().unwrap();
    wait_until("the payload is gone", || {
        rustix::process::test_kill_process(pid(payload)).is_err()
    });
}

#[test]
fn an_interrupted_task_is_resumed_where_it_was() {
    let task = search().with(&json!({
        "maxPoints": 3, "nPointsPerIteration": 3, "minUnevaluatedPoints": 0, "checkPointToSave": "state"
    }));
    let (begun, ledger) = (task.path("begun"), task.ledger());
    let task = task.evaluating(&format!(
        "if [ -e state ]; then echo resumed $HPO_POINT_ID >> '{ledger}'; echo '{{\"loss\": 1}}' > output.json; exit; fi; \
         echo half > state; touch '{begun}'.$HPO_POINT_ID; sleep 1000",
        ledger = ledger.display(),
        begun = begun.display()
    ));
    let manager = task
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("all evaluations run", || {
        (1..=3).all(|point| task.path(&format!("begun.{point}")).exists())
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(manager.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = manager.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("interrupted; resume with `hpo run --taskDir "), "{said}");
    assert_eq!(task.show()["status"], "interrupted");
    let points = task.succeed();
    assert_eq!(task.attempts(), ["resumed 1", "resumed 2", "resumed 3"]);
    for point in points {
        assert_eq!(point["attempt_history"][0]["status"], "stopped");
        assert_eq!((&point["status"], &point["attempts"]), (&json!("done"), &json!(2)));
    }
}

#[test]
fn a_torn_journal_is_cut_and_a_damaged_one_refused_unchanged() {
    let task = Task::new();
    let before = task.succeed();
    let journal = task.directory().join("journal");
    let whole = fs::read(&journal).unwrap();
    // The last record says that the task is over; without it, it is found again.
    fs::write(&journal, &whole[..whole.len() - 5]).unwrap();
    let finished = task.run(&[]);
    assert_eq!(finished.code, Some(0));
    assert!(
        finished
            .remarks()
            .iter()
            .any(|line| line.ends_with("bytes of an unfinished journal record were cut off"))
    );
    assert_eq!(task.points(), before);
    let mut damaged = fs::read(&journal).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    fs::write(&journal, &damaged).unwrap();
    for arguments in [
        &["run", "--taskDir", "task"][..],
        &["show", "task"],
        &["journal", "check", "task"],
    ] {
        let finished = task.call(arguments);
        assert_eq!(finished.code, Some(4), "{finished:?}");
        assert!(
            finished
                .stderr
                .contains("journal `$DIR/task/journal` is damaged: record "),
            "{finished:?}"
        );
    }
    assert_eq!(fs::read(&journal).unwrap(), damaged);
}

#[test]
fn cut_at_any_record_the_task_goes_on_to_the_same_end() {
    let task = Task::new().with(&json!({"maxPoints": 3}));
    let before = outcome(&task.succeed());
    let journal = task.directory().join("journal");
    let whole = fs::read(&journal).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|index| whole[*index] == b'\n').collect();
    // Behind the records that make the task; the directories of attempts are all there, as after a power cut.
    for end in &ends[3..] {
        fs::write(&journal, &whole[..=*end]).unwrap();
        assert_eq!(outcome(&task.succeed()), before, "cut at byte {end}");
    }
    assert_eq!(
        task.attempts().len(),
        3,
        "what was evaluated is imported and not repeated"
    );
}

#[test]
fn what_a_shell_has_started_gets_its_time_to_save_although_the_shell_goes_at_once() {
    let task = search().with(&json!({
        "maxPoints": 1, "nPointsPerIteration": 1, "minUnevaluatedPoints": 0, "checkPointToSave": "state", "killGrace": "30s"
    }));
    let begun = task.path("begun");
    let task = task.evaluating("sh train.sh; true");
    task.file(
        "train.sh",
        &format!(
            "[ -e state ] && {{ echo '{{\"loss\": 4}}' > output.json; exit 0; }}\n\
             trap 'sleep 0.2; echo saved > state; exit 143' TERM\ntouch '{}'\nwhile :; do sleep 0.01; done\n",
            begun.display()
        ),
    );
    let mut manager = task.start();
    wait_until("the evaluation runs", || begun.exists());
    let pid = rustix::process::Pid::from_raw(i32::try_from(manager.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(manager.wait().unwrap().code(), Some(143));
    let points = task.succeed();
    assert_eq!((&points[0]["loss"], &points[0]["attempts"]), (&json!(4.0), &json!(2)));
}

/// A line of the journal as `hpo` would write it.
fn record(sequence: usize, json: &str) -> String {
    let body = format!("{} 9 {sequence} {json}", json.len());
    format!("{:08x} {body}\n", crc32c::crc32c(body.as_bytes()))
}

#[test]
fn records_that_are_whole_but_make_no_sense_are_refused() {
    let task = Task::new().with(&json!({"maxPoints": 1}));
    task.succeed();
    let journal = task.directory().join("journal");
    let whole = fs::read_to_string(&journal).unwrap();
    let next = whole.lines().count();
    let told = |text: String, code: i32| {
        fs::write(&journal, text).unwrap();
        let finished = task.call(&["journal", "check", "task"]);
        assert_eq!(finished.code, Some(code), "{finished:?}");
        finished.remarks().join("\n")
    };
    let illegal = r#"{"event":"intent","point":"1","attempt":2,"job":1,"boot_id":""}"#;
    assert_eq!(
        told(whole.clone() + &record(next, illegal), 4),
        format!(
            "journal `$DIR/task/journal`, record {next}: illegal event: something happens after the end of the task; it was not written by this program, restore it from a copy, or keep what is sound with `hpo journal repair $DIR/task`"
        )
    );
    let message = told(whole.clone() + &record(next, r#"{"event":"teleported"}"#), 3);
    assert!(
        message.starts_with(&format!(
            "journal `$DIR/task/journal`, record {next}: unknown variant `teleported`"
        )),
        "{message}"
    );
    assert!(message.ends_with("; use the hpo that wrote it"), "{message}");
    let message = told(whole.clone() + &record(next + 1, illegal), 4);
    assert!(
        message.contains(&format!(
            "expected record {next} at byte {}, found record {}",
            whole.len(),
            next + 1
        )),
        "{message}"
    );
    let message = told(whole.replace("hpo-journal 1", "hpo-journal 2"), 3);
    assert!(
        message.starts_with("journal `$DIR/task/journal` must begin with `hpo-journal 1`, found `hpo-journal 2`"),
        "{message}"
    );
}

#[test]
fn a_task_of_another_host_is_taken_over_only_on_demand() {
    let task = Task::new();
    task.succeed();
    let elsewhere = r#"{"host": "elsewhere", "boot_id": "x", "pid": 1, "start_time": 1}"#;
    fs::write(task.directory().join("lock"), elsewhere).unwrap();
    let refused = task.run(&[]);
    assert_eq!(refused.code, Some(3));
    assert_eq!(
        refused.remarks().last().copied(),
        Some(
            "task `$DIR/task` was last run on host `elsewhere` and may still run there; run hpo there, or pass `--takeOver` if that hpo is gone"
        )
    );
    assert_eq!(task.run(&["--takeOver"]).code, Some(0));
}

#[test]
fn of_managers_started_together_one_works_and_no_attempt_is_doubled() {
    for _ in 0..5 {
        let task = search();
        let managers: Vec<_> = (0..4).map(|_| task.start()).collect();
        for mut manager in managers {
            let code = manager.wait().unwrap().code();
            assert!(matches!(code, Some(0 | 3)), "{code:?}");
        }
        assert_eq!(task.succeed().len(), 12);
        assert_eq!(task.attempts().len(), 12);
    }
}

#[test]
fn a_stopped_manager_that_wakes_up_after_another_took_over_changes_nothing() {
    let task = Task::new();
    let (begun, go_on) = (task.path("begun"), task.path("go-on"));
    let task = task
        .with(&json!({"maxPoints": 2, "nPointsPerIteration": 2, "minUnevaluatedPoints": 0}))
        .evaluating(&format!(
            "touch '{}'; while [ ! -e '{}' ]; do sleep 0.01; done; echo '{{\"loss\": 7}}' > output.json",
            begun.display(),
            go_on.display()
        ));
    let manager = task
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the evaluation runs", || begun.exists());
    let pid = rustix::process::Pid::from_raw(i32::try_from(manager.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // A storage that loses locks: the lock file is another one now.
    fs::remove_file(task.directory().join("lock")).unwrap();
    let mut second = task.start();
    fs::write(&go_on, "").unwrap();
    assert!(second.wait().unwrap().success());
    let journal = fs::read(task.directory().join("journal")).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let output = manager.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("another hpo has taken over task "), "{said}");
    assert_eq!(fs::read(task.directory().join("journal")).unwrap(), journal);
    assert_eq!(task.points().len(), 2);
}
