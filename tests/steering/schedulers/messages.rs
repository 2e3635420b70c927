//! What a user is told who asks a scheduler for what cannot be.

use std::fmt::Write as _;
use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::plane;
use crate::support::{stderr, stdout, steer};

/// Histories that no scheduler can have made, or not the one that is asked.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    let x = |more: serde_json::Value| {
        let mut point = json!({"x": 0.5, "rate": 0.1, "hpo.n": 0, "hpo.c": 0, "hpo.epochs": 1});
        for (key, value) in more.as_object().unwrap() {
            point[key] = value.clone();
        }
        point
    };
    for (name, points) in [
        ("empty", json!([])),
        ("population", json!([[x(json!({"hpo.m": 0, "hpo.g": 0})), 0.5]])),
        ("bracket", json!([[x(json!({"hpo.b": 1, "hpo.epochs": 3})), 0.5]])),
        ("plain", json!([[x(json!({})), 0.5]])),
        ("rung", json!([[x(json!({"hpo.epochs": 5})), 0.5]])),
        (
            "types",
            json!([[x(json!({"hpo.epochs": "many"})), 0.5], [x(json!({"hpo.c": -1})), 0.1]]),
        ),
        ("number", json!([[x(json!({})), 0.5], [x(json!({"x": 0.25})), 0.1]])),
        (
            "twice",
            json!([
                [x(json!({})), 0.5],
                [x(json!({"hpo.n": 1, "hpo.epochs": 3, "x": 0.25})), 0.1]
            ]),
        ),
    ] {
        let input = json!({"points": points, "opt_space": plane()});
        fs::write(directory.path().join(format!("{name}.json")), input.to_string()).unwrap();
    }
    directory
}

#[test]
fn every_message_says_what_was_expected_and_what_was_found() {
    let directory = directory();
    let mut transcript = String::new();
    for line in [
        "--scheduler asha -i empty.json",
        "--max-epochs 9 -i empty.json",
        "--scheduler ahsa --max-epochs 9 -i empty.json",
        "--scheduler asha --max-epochs 9 --min-epochs 10 -i empty.json",
        "--scheduler asha --max-epochs 0 -i empty.json",
        "--scheduler asha --max-epochs 9 --schedule eta=1 -i empty.json",
        "--scheduler asha --max-epochs 9 --schedule et=2 -i empty.json",
        "--scheduler asha --max-epochs 9 --min-fraction 0.1 -i empty.json",
        "--scheduler asha --min-fraction 0 -i empty.json",
        "--scheduler hyperband --max-epochs 9 --schedule brackets=-1 -i empty.json",
        "--scheduler pbt --max-epochs 9 --schedule population=3 -i empty.json",
        "--scheduler pbt --max-epochs 9 --schedule frozen=x,rat -i empty.json",
        "--scheduler pbt --max-epochs 9 -i plain.json",
        "--scheduler two-step --max-epochs 9 --schedule top=0% -i empty.json",
        "--scheduler two-step --max-epochs 9 --schedule calibration=2 -i empty.json",
        "--scheduler two-step --max-epochs 9 -i rung.json",
        "--scheduler asha --max-epochs 9 -i population.json",
        "--scheduler asha --max-epochs 9 -i bracket.json",
        "--scheduler hyperband --max-epochs 9 -i plain.json",
        "--scheduler hyperband --max-epochs 9 --schedule brackets=1 -i bracket.json",
        "--scheduler asha --max-epochs 9 -i rung.json",
        "--scheduler asha --max-epochs 9 -i types.json",
        "--scheduler asha --max-epochs 9 -i number.json",
        "--scheduler asha --max-epochs 9 -i twice.json",
    ] {
        let done = steer(directory.path(), &format!("ask -n 1 {line}"));
        let (code, text) = (done.status.code().unwrap(), stderr(&done));
        assert_eq!((code, stdout(&done).as_str()), (2, ""), "{line}");
        let _ = write!(transcript, "$ steering ask -n 1 {line}\n{text}\n");
    }
    insta::with_settings!({ snapshot_path => "../../golden/steering", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("schedule_messages", transcript);
    });
}

#[test]
fn a_search_by_files_alone_says_in_each_point_how_far_to_train_it() {
    let directory = directory();
    let line = "ask -n 2 -m 20 --lib random --seed 1 --scheduler asha --minEpochs 1 --maxEpochs 9 --schedule eta=3";
    let answer: serde_json::Value =
        serde_json::from_str(&stdout(&steer(directory.path(), &format!("{line} -i empty.json")))).unwrap();
    for (number, point) in answer.as_array().unwrap().iter().enumerate() {
        for (key, value) in [("hpo.n", number), ("hpo.c", number), ("hpo.r", 0), ("hpo.epochs", 1)] {
            assert_eq!(point[key], value, "{point}");
        }
    }
    let shares = stdout(&steer(
        directory.path(),
        "ask -n 1 --lib random --scheduler asha --min-fraction 0.25 --schedule eta=2 -i empty.json",
    ));
    assert!(shares.contains(r#""hpo.frac":0.25"#), "{shares}");
    let list = stdout(&steer(directory.path(), "schedulers"));
    assert!(list.contains("asha") && list.contains("--schedule eta=3"), "{list}");
    let list = stdout(&steer(directory.path(), "schedulers --json"));
    let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
    assert!(
        list.iter()
            .any(|entry| entry["name"] == "asha" && entry["settings"][0]["default"] == "3")
    );
    let why = stdout(&steer(
        directory.path(),
        &format!("explain{} -i plain.json", &line[3..]),
    ));
    assert!(why.contains("to be trained for"), "{why}");
}

#[test]
fn a_plan_has_the_numbers_of_the_paper() {
    let here = std::path::Path::new(".");
    let plan = |line: &str| -> serde_json::Value {
        serde_json::from_str(&stdout(&steer(here, &format!("plan {line} --json")))).unwrap()
    };
    let hyperband = plan("--scheduler hyperband --max-epochs 81");
    let costs: Vec<&serde_json::Value> = (hyperband["brackets"].as_array().unwrap().iter())
        .map(|bracket| &bracket["anew"])
        .collect();
    assert_eq!(costs, [405, 363, 351, 378, 405]);
    assert_eq!(
        (&hyperband["anew"], &hyperband["configurations"]),
        (&json!(1_902), &json!(143))
    );
    let small = plan("--scheduler synchronous --max-epochs 27");
    assert_eq!((&small["anew"], &small["configurations"]), (&json!(423), &json!(49)));
    for (eta, count, evaluations) in [
        (3, 27, 40),
        (3, 81, 121),
        (3, 100, 148),
        (3, 256, 382),
        (2, 100, 197),
        (2, 256, 511),
        (4, 256, 341),
    ] {
        let line = format!("--scheduler asha --max-epochs 1000000 --schedule eta={eta} --configurations {count}");
        assert_eq!(plan(&line)["max_points"], evaluations, "{line}");
    }
    let text = stdout(&steer(here, "plan --scheduler asha --max-epochs 9 --configurations 12"));
    insta::assert_snapshot!(text, @"
    bracket 0: 12 at 1 epoch, 4 at 3 epochs, 1 at 9 epochs
    12 configurations in 17 evaluations
    26 epochs where checkpoints are carried on, 33 epochs where every evaluation begins anew
    --maxPoints 17
    ");
    assert_eq!(plan("--scheduler pbt --min-epochs 3 --max-epochs 10")["max_points"], 64);
    assert_eq!(
        plan("--scheduler two-step --min-fraction 0.05 --schedule configurations=1000")["max_points"],
        1_031
    );
    let refused = steer(here, "plan");
    assert_eq!(
        (refused.status.code(), stderr(&refused).contains("--scheduler")),
        (Some(2), true)
    );
}
