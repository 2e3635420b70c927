//! Damaged journals: what is sound is kept, and what was evaluated is not evaluated again.

use std::fs;

use serde_json::{Value, json};

use crate::task::Task;

fn losses(task: &Task) -> Vec<(String, String)> {
    let points = task.points();
    points
        .iter()
        .map(|point| (point["point"].to_string(), point["loss"].to_string()))
        .collect()
}

fn repaired(task: &Task) -> Value {
    let finished = task.call(&["journal", "repair", "task", "--json"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn with_any_record_damaged_the_task_comes_to_the_same_end_and_evaluates_nothing_twice() {
    let task = Task::new().with(&json!({"maxPoints": 3, "nPointsPerIteration": 2, "minUnevaluatedPoints": 0}));
    task.succeed();
    let expected = losses(&task);
    let journal = task.directory().join("journal");
    let whole = fs::read(&journal).unwrap();
    let begins: Vec<usize> = (0..whole.len() - 1)
        .filter(|at| *at == 0 || whole[*at - 1] == b'\n')
        .collect();
    let iterations: Vec<usize> = begins
        .iter()
        .copied()
        .filter(|at| {
            let line = whole[*at..].split(|byte| *byte == b'\n').next().unwrap();
            String::from_utf8_lossy(line).contains("\"iteration\"")
        })
        .collect();
    for begin in begins {
        let mut damaged = whole.clone();
        damaged[begin + 2] ^= 0x40;
        fs::write(&journal, &damaged).unwrap();
        let refused = task.call(&["show", "task"]);
        assert!(matches!(refused.code, Some(3 | 4)), "byte {begin}: {refused:?}");
        if begin > 0 {
            let remedy = "or keep what is sound with `hpo journal repair $DIR/task`";
            assert!(refused.stderr.contains(remedy), "{refused:?}");
        }
        let tried = task.call(&["journal", "repair", "task", "--dry-run"]);
        assert!(tried.stdout.contains("would be kept"), "{tried:?}");
        assert_eq!(fs::read(&journal).unwrap(), damaged, "--dry-run changes nothing");
        let report = repaired(&task);
        let aside = report["damaged_journal"].as_str().unwrap().replace("$DIR", ".");
        assert_eq!(fs::read(task.path(&aside)).unwrap(), damaged);
        let finished = task.run(&[]);
        assert_eq!(finished.code, Some(0), "byte {begin}: {finished:?} after {report}");
        assert_eq!(losses(&task), expected, "byte {begin}");
        // Points whose record is lost are proposed again, and their results are those of other points until then.
        if !iterations.contains(&begin) {
            assert_eq!(task.attempts().len(), 3, "byte {begin}: {:?}", task.attempts());
        }
        fs::write(task.ledger(), "1 1\n2 1\n3 1\n").unwrap();
        fs::write(&journal, &whole).unwrap();
        assert_eq!(task.succeed().len(), 3);
    }
}

#[test]
fn a_sound_journal_is_left_alone_and_exported_record_by_record() {
    let task = Task::new().with(&json!({"maxPoints": 1}));
    task.succeed();
    let journal = task.directory().join("journal");
    let whole = fs::read(&journal).unwrap();
    let finished = task.call(&["journal", "repair", "task"]);
    assert!(
        finished.stdout.ends_with("records, nothing to repair\n"),
        "{finished:?}"
    );
    assert_eq!(fs::read(&journal).unwrap(), whole);
    let exported = task.call(&["journal", "export", "task"]).stdout;
    let events: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let expected = ["created", "started", "iteration", "intent", "attempt_ended", "ended"];
    assert_eq!(names, expected);
    assert_eq!((&events[5]["record"], &events[5]["epoch"]), (&json!(6), &json!(1)));
    let list = task.call(&["journal", "export", "task", "--json"]).stdout;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&list).unwrap(), events);
}

#[test]
fn the_journal_of_a_later_version_is_not_repaired() {
    let task = Task::new().with(&json!({"maxPoints": 1}));
    task.succeed();
    let journal = task.directory().join("journal");
    let later = fs::read_to_string(&journal)
        .unwrap()
        .replace("hpo-journal 1", "hpo-journal 2");
    fs::write(&journal, &later).unwrap();
    let finished = task.call(&["journal", "repair", "task"]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("must begin with `hpo-journal 1`, found `hpo-journal 2`")
    );
    assert_eq!(fs::read_to_string(&journal).unwrap(), later);
}
