//! Every message that a user can see.

use std::fmt::Write as _;
use std::fs;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{stderr, stdout, steer};

const SPACE: &str = r#"{"x": {"method": "uniformint", "dimension": {"low": 1, "high": 5}}}"#;

/// Files of every wrong kind.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    let long = json!({"x": {"method": "fixed", "dimension": {"value": "v".repeat(4_000)}}});
    let segments = json!([{"model_id": 0, "search_space": {"x": [0, 1]}}]);
    let layout = json!({
        "a": {"method": "quniform", "dimension": {"low": 0.3, "high": 0.4, "q": 0.5}},
        "b": {"method": "uniform", "dimension": {"low": -1e308, "high": 1e308}}
    });
    for (name, text) in [
        ("space.json", SPACE.to_owned()),
        ("real.json", r#"{"rate": [0, 1]}"#.to_owned()),
        ("long.json", long.to_string()),
        ("layout.json", layout.to_string()),
        ("segments.json", segments.to_string()),
        ("empty.json", String::new()),
        ("truncated.json", r#"{"x": {"method""#.to_owned()),
        ("list.json", "[]".to_owned()),
        ("faults.json", r#"{"x": {"method": "unifrom", "dimension": {}}, "y": {"method": "uniform", "dimension": {"low": 0.5, "high": 0.1}}}"#.to_owned()),
        ("in.json", format!(r#"{{"points": [], "opt_space": {SPACE}}}"#)),
        ("in_bare.json", r#"{"points": [[{"x": 1}, 0.5]], "opt_space": null}"#.to_owned()),
        ("in_inside.json", r#"{"points": [], "opt_space": {"x": 1}}"#.to_owned()),
        ("in_pairs.json", format!(r#"{{"points": [[[3, {{"x": 1}}], 0.5]], "opt_space": {SPACE}}}"#)),
        ("in_loss.json", format!(r#"{{"points": [[{{"x": 1}}, [1]], [{{"x": 1}}], 7], "opt_space": {SPACE}}}"#)),
        ("in_foreign.json", format!(r#"{{"points": [[{{"x": 9, "z": 1}}, 0.5], [{{}}, 0.1]], "opt_space": {SPACE}}}"#)),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    fs::write(directory.path().join("bytes.json"), b"{\"x\": \"\xff\"}").unwrap();
    directory
}

#[test]
fn every_message_says_where_what_was_expected_and_what_was_found() {
    let directory = directory();
    let mut transcript = String::new();
    for line in [
        "ask",
        "ask -n four -s space.json",
        "ask -n -1 -s space.json",
        "ask -n 1 -s space.json --mode best",
        "ask -n 1 -s space.json --failed-loss never",
        "ask -n 1 -s space.json --lib tpe --set startup",
        "ask -n 1 -s space.json --seed 1.5",
        "ask -n 1 -s space.json --lib tpo",
        "ask -n 1 -s space.json --lib tpe --set strtup=4",
        "ask -n 1 -s space.json --lib tpe --set startup=0",
        "ask -n 1 -s space.json --lib tpe --set good=1",
        "ask -n 1 -s space.json --lib tpe --set prior=nan",
        "ask -n 1 -s space.json --lib tpe --set candidates=x",
        "ask -n 1 -s space.json --lib tpe --set widths=wide",
        "ask -n 1 -s space.json --lib tpe --set weights=none",
        "ask -n 1 -s space.json --lib gp --set startup=-1",
        "ask -n 1 -s space.json --lib gp --set draws=65",
        "ask -n 1 -s space.json --lib gp --set candidates=0",
        "ask -n 1 -s space.json --lib gp --set exact=9",
        "ask -n 1",
        "ask -n 1 -i in_bare.json",
        "ask -n 1 -s missing.json",
        "ask -n 1 -i missing.json",
        "ask -n 1 -s .",
        "ask -n 1 -s empty.json",
        "ask -n 1 -s bytes.json",
        "ask -n 1 -s truncated.json",
        "ask -n 1 -s list.json",
        "ask -n 1 -s faults.json",
        "ask -n 1 -s layout.json",
        "ask -n 1 -s long.json",
        "ask -n 1 -s real.json --lib grid",
        "ask -n 1 -s segments.json --lib grid",
        "ask -n 1 -i in_inside.json",
        "ask -n 1 -i list.json",
        "ask -n 1 -i in_loss.json",
        "ask -n 1 -i in_pairs.json",
        "ask -n 1 -i in_bare.json -s segments.json",
        "ask -n 1 -i in_pairs.json -s segments.json",
        "validate",
        "validate -s faults.json",
        "validate -s layout.json -i in_loss.json",
        "validate -i in_foreign.json",
        "validate -i in_foreign.json -s segments.json",
        "validate -i in_bare.json",
        "validate -s missing.json",
        "tune",
    ] {
        let done = steer(directory.path(), line);
        let _ = write!(
            transcript,
            "$ steering {line}\n{}{}exit {}\n\n",
            stdout(&done),
            stderr(&done),
            done.status.code().unwrap()
        );
    }
    insta::with_settings!({ snapshot_path => "../golden/steering", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("messages", transcript);
    });
}
