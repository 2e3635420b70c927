//! `steering explain`, `steering verify` and `steering importance`, as users run them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{every_kind, stderr, stdout, steer, suggest, toy_loss};

/// A directory with an input of twenty evaluated points.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let points: Vec<Value> = suggest(&every_kind(), &json!([]), "sobol", 20)
        .into_iter()
        .map(|point| json!([point, toy_loss(&point)]))
        .collect();
    let input = json!({"points": points, "opt_space": every_kind()});
    fs::write(directory.path().join("in.json"), input.to_string()).unwrap();
    directory
}

/// The iterations of a task as the manager leaves them.
fn record(task: &Path, number: u32, command: &str, environment: &Value) -> std::path::PathBuf {
    let iteration = task.join("steering").join(number.to_string());
    fs::create_dir_all(iteration.join(".hpo")).unwrap();
    fs::copy(task.join("in.json"), iteration.join("in.json")).unwrap();
    let launch = json!({"command": command, "work_directory": "/gone", "environment": environment});
    fs::write(iteration.join(".hpo/launch.json"), launch.to_string()).unwrap();
    iteration
}

#[test]
fn explanations_are_for_people_and_for_programs_and_write_nothing() {
    let directory = directory();
    let plain = steer(directory.path(), "explain --lib tpe -n 2 -i in.json -o out.json");
    assert_eq!(plain.status.code(), Some(0), "{}", stderr(&plain));
    assert!(
        stdout(&plain).contains("  density: of 24 candidates"),
        "{}",
        stdout(&plain)
    );
    assert!(stdout(&plain).contains("  nearest: {"), "{}", stdout(&plain));
    assert!(!directory.path().join("out.json").exists());
    let explained: Value = serde_json::from_str(&stdout(&steer(
        directory.path(),
        "explain --json --lib tpe -n 2 -i in.json",
    )))
    .unwrap();
    let asked: Value =
        serde_json::from_str(&stdout(&steer(directory.path(), "ask --lib tpe -n 2 -i in.json"))).unwrap();
    assert_eq!(explained[0]["point"], asked[0]);
    assert_eq!(explained[1]["point"], asked[1]);
    assert!(explained[1]["facts"]["log_density_ratio"].is_f64());
    let over = steer(directory.path(), "explain -n 2 -m 20 -i in.json");
    assert_eq!(stdout(&over), "no points: the search is over\n");
}

#[test]
fn losses_in_explanations_are_those_of_the_history_whichever_end_is_wanted() {
    let directory = directory();
    let text = fs::read_to_string(directory.path().join("in.json")).unwrap();
    let input: Value = serde_json::from_str(&text).unwrap();
    for mode in ["min", "max"] {
        let line = format!("explain --json --mode {mode} -n 1 -i in.json");
        let explained: Value = serde_json::from_str(&stdout(&steer(directory.path(), &line))).unwrap();
        let nearest = &explained[0]["nearest"];
        let found = input["points"]
            .as_array()
            .unwrap()
            .iter()
            .find(|pair| pair[0] == nearest["point"])
            .unwrap();
        assert_eq!(found[1], nearest["loss"], "{mode}");
    }
}

#[test]
fn a_call_is_verified_by_putting_the_verb_before_it() {
    let directory = directory();
    for call in [
        "ask --lib tpe -n 3 -i in.json -o out.json --seed 4",
        "--lib=nevergrad --n_point=2 --infile in.json --outfile out.json",
    ] {
        assert_eq!(steer(directory.path(), call).status.code(), Some(0));
        let same = steer(directory.path(), &format!("verify {call}"));
        assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
        assert_eq!(stdout(&same), "1 of 1 answers are the same to the last byte\n");
    }
    let written = fs::read_to_string(directory.path().join("out.json")).unwrap();
    fs::write(directory.path().join("out.json"), format!("{} ", written.trim_end())).unwrap();
    let differs = steer(
        directory.path(),
        "verify --json --lib=nevergrad --n_point=2 --infile in.json --outfile out.json",
    );
    assert_eq!(differs.status.code(), Some(1));
    let verdict: Value = serde_json::from_str(&stdout(&differs)).unwrap();
    assert_eq!(verdict[0]["verdict"], "different");
    assert_eq!(verdict[0]["byte"], written.len() - 1);
}

#[test]
fn a_task_is_verified_iteration_by_iteration_with_the_environment_of_its_time() {
    let directory = directory();
    let task = directory.path();
    let environment = json!([["HPO_TASK", "first"], ["STEERING_SEED", "21"]]);
    let command = "steering ask --lib tpe -n 2 -m 100 -i in.json -o output.json";
    for number in [1, 2, 10] {
        let iteration = record(task, number, command, &environment);
        let line = format!("{} --task first --seed 21", command.strip_prefix("steering ").unwrap());
        assert_eq!(steer(&iteration, &line).status.code(), Some(0));
    }
    let all_same = steer(task, "verify .");
    assert_eq!(stdout(&all_same), "3 of 3 answers are the same to the last byte\n");
    assert_eq!(all_same.status.code(), Some(0));

    let as_json: Value = serde_json::from_str(&stdout(&steer(task, "verify . --json"))).unwrap();
    assert_eq!(as_json[2], json!({"iteration": 10, "verdict": "same"}));

    let altered = task.join("steering/2/output.json");
    let text = fs::read_to_string(&altered).unwrap();
    fs::write(&altered, text.replacen("v1", "v2", 1)).unwrap();
    record(task, 3, "python steer.py -i in.json -o output.json", &environment);
    record(
        task,
        4,
        "steering ask -n 1 -i in.json -o output.json | cat",
        &environment,
    );
    record(task, 5, command, &environment);
    let differs = steer(task, "verify .");
    assert_eq!(differs.status.code(), Some(1));
    let place = text.find("v1").unwrap() + 1;
    let (lines, text) = (
        stdout(&differs),
        format!("iteration 2: `./steering/2/output.json` differs from its replay at byte {place}\n"),
    );
    assert!(lines.contains(&text), "{lines}");
    assert!(
        lines.contains("iteration 3: not compared, its command is not ours: python steer.py"),
        "{lines}"
    );
    assert!(
        lines.contains("iteration 4: not compared, its command needs a shell: "),
        "{lines}"
    );
    assert!(
        lines.contains("iteration 5: not compared, there is no answer "),
        "{lines}"
    );
    assert!(
        lines.ends_with("2 of 6 answers are the same to the last byte\n"),
        "{lines}"
    );
}

#[test]
fn nothing_to_compare_is_a_mistake_of_the_caller() {
    let directory = directory();
    let task = directory.path();
    record(task, 1, "my_steering --in in.json", &json!([]));
    assert_eq!(steer(task, "verify .").status.code(), Some(2));
    assert_eq!(steer(task, "verify validate -i in.json").status.code(), Some(2));
    let absent = steer(task, "verify nowhere");
    assert_eq!(absent.status.code(), Some(2));
    assert_eq!(
        stderr(&absent),
        "error: `nowhere` is no directory; give the directory of a task, or a call of steering\n"
    );
    let surplus = steer(task, "verify . ask");
    assert_eq!(
        stderr(&surplus),
        "error: expected nothing after the task directory `.`, found `ask`\n"
    );
    let misspelt = steer(task, "verify ask --nn 4");
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(
        stderr(&misspelt).starts_with("error: unexpected argument '--nn' found"),
        "{}",
        stderr(&misspelt)
    );
    let no_task = steer(&task.join("steering"), "verify .");
    assert_eq!(no_task.status.code(), Some(2));
    assert!(stderr(&no_task).starts_with("error: cannot read the iterations of the task in `./steering`: "));
    record(
        task,
        2,
        "steering ask -n 1 -i in.json -o in.json",
        &json!([["STEERING_SEED", "x"]]),
    );
    let seed = steer(task, "verify .");
    assert_eq!(
        stderr(&seed),
        "error: the recorded `STEERING_SEED` must be an integer from 0, found `x`\n"
    );
}

#[test]
fn importance_is_for_people_and_for_programs_and_says_when_there_is_too_little() {
    let directory = directory();
    let path = directory.path();
    let plain = steer(path, "importance -i in.json --cap 0.9");
    assert_eq!(plain.status.code(), Some(0), "{}", stderr(&plain));
    assert!(stdout(&plain).starts_with("20 points, "), "{}", stdout(&plain));
    assert!(
        stdout(&plain)
            .lines()
            .any(|line| line.starts_with("rate ") && line.contains(" % ± ")),
        "{}",
        stdout(&plain)
    );
    let found: Value = serde_json::from_str(&stdout(&steer(path, "importance -i in.json --json"))).unwrap();
    assert_eq!(found[0]["evaluated"], 20);
    assert_eq!(
        found[0]["shares"].as_array().unwrap().len(),
        9,
        "constants have no share"
    );
    assert_eq!(
        found,
        serde_json::from_str::<Value>(&stdout(&steer(path, "importance -i in.json --json"))).unwrap()
    );

    let few = json!({"points": [[{"x": 1}, 0.5], [{"x": 2}, null]], "opt_space": {"x": {"method": "uniformint", "dimension": {"low": 1, "high": 5}}}});
    fs::write(path.join("few.json"), few.to_string()).unwrap();
    let few = steer(path, "importance -i few.json");
    assert_eq!(few.status.code(), Some(2));
    assert_eq!(
        stderr(&few),
        "error: steering input `few.json`: at least 10 evaluated points are needed to tell what matters, found 1\n"
    );
    let cap = steer(path, "importance -i in.json --cap 0");
    assert_eq!(cap.status.code(), Some(2));
    assert!(
        stderr(&cap).contains("expected a number above 0 and at most 1"),
        "{}",
        stderr(&cap)
    );
}
