//! Input that is wrong, or just at the border of what is right: what is said, what comes out, and the exit code.

use std::fmt::Write as _;
use std::fs;

use tempfile::TempDir;

use crate::support::{stderr, stdout, steer};

const LINE: &str = r#"{"x": {"method": "uniformint", "dimension": {"low": 1, "high": 3}}}"#;

/// Title, search space, points of the history.
const CASES: [(&str, &str, &str); 24] = [
    (
        "unknown method",
        r#"{"x": {"method": "loguniforn", "dimension": {"low": 1, "high": 2}}}"#,
        "[]",
    ),
    (
        "unknown key",
        r#"{"x": {"method": "uniform", "dimension": {"low": 1, "hihg": 2}}}"#,
        "[]",
    ),
    (
        "unknown key beside the method",
        r#"{"x": {"method": "fixed", "dimensoin": {"value": 2}}}"#,
        "[]",
    ),
    (
        "low above high",
        r#"{"x": {"method": "uniform", "dimension": {"low": 2, "high": 1}}}"#,
        "[]",
    ),
    (
        "logarithm of zero",
        r#"{"x": {"method": "loguniform", "dimension": {"low": 0, "high": 1}}}"#,
        "[]",
    ),
    (
        "logarithm of a negative number",
        r#"{"x": {"method": "loguniformint", "dimension": {"low": -3, "high": 1}}}"#,
        "[]",
    ),
    (
        "no categories",
        r#"{"x": {"method": "categorical", "dimension": {"categories": []}}}"#,
        "[]",
    ),
    ("a name twice", r#"{"x": [0, 1], "x": [0, 2]}"#, "[]"),
    (
        "number as string",
        r#"{"x": {"method": "uniform", "dimension": {"low": "0", "high": 1}}}"#,
        "[]",
    ),
    (
        "integer beyond 2^53",
        r#"{"x": {"method": "uniformint", "dimension": {"low": 0, "high": 9007199254740993}}}"#,
        "[]",
    ),
    (
        "integer with a fraction",
        r#"{"x": {"method": "uniformint", "dimension": {"low": 0.5, "high": 2}}}"#,
        "[]",
    ),
    (
        "step of zero",
        r#"{"x": {"method": "quniform", "dimension": {"low": 0, "high": 1, "q": 0}}}"#,
        "[]",
    ),
    (
        "deviation of zero",
        r#"{"x": {"method": "normal", "dimension": {"mu": 0, "sigma": 0}}}"#,
        "[]",
    ),
    (
        "parent that is not there",
        r#"{"x": {"method": "fixed", "dimension": {"value": 1}, "if": {"y": [1]}}}"#,
        "[]",
    ),
    (
        "circle of conditions",
        r#"{"x": {"method": "categorical", "dimension": {"categories": [1, 2]}, "if": {"y": [1]}}, "y": {"method": "categorical", "dimension": {"categories": [1, 2]}, "if": {"x": [1]}}}"#,
        "[]",
    ),
    (
        "bounds the wrong way round, as for `bayesian`",
        r#"{"x": [4, 1]}"#,
        "[]",
    ),
    (
        "unknown type, as for `nevergrad`",
        r#"{"x": {"type": "Chioce", "params": {"choices": [1]}}}"#,
        "[]",
    ),
    (
        "loss that is no number",
        LINE,
        r#"[[{"x": 1}, true], [{"x": 2}, "good"]]"#,
    ),
    (
        "points that are not of the space",
        LINE,
        r#"[[{"x": 9}, 0.1], [{"y": 1}, 0.2], [{"x": "1"}, 0.3], [{}, null]]"#,
    ),
    ("all losses equal", LINE, r#"[[{"x": 1}, 0.5], [{"x": 2}, 0.5]]"#),
    ("all points failed", LINE, r#"[[{"x": 1}, 100000.0], [{"x": 3}, NaN]]"#),
    (
        "nothing but constants",
        r#"{"x": {"method": "uniform", "dimension": {"low": 2, "high": 2}}}"#,
        "[]",
    ),
    ("fewer points left than asked for", LINE, r#"[[{"x": 1}, 0.5]]"#),
    (
        "no points left",
        LINE,
        r#"[[{"x": 1}, 0.5], [{"x": 2}, null], [{"x": 3}, 100000.0]]"#,
    ),
];

#[test]
fn wrong_and_borderline_input_is_told_apart_and_answered() {
    let mut transcript = String::new();
    for (title, space, points) in CASES {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("space.json"), space).unwrap();
        let input = format!(r#"{{"points": {points}, "opt_space": null}}"#);
        fs::write(directory.path().join("in.json"), input).unwrap();
        let done = steer(directory.path(), "ask -n 3 --seed 1 -s space.json -i in.json");
        let _ = write!(
            transcript,
            "# {title}\n{}{}exit {}\n\n",
            stdout(&done),
            stderr(&done),
            done.status.code().unwrap()
        );
    }
    insta::with_settings!({ snapshot_path => "../golden/steering", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("bad_input", transcript);
    });
}

#[test]
fn options_that_contradict_each_other_or_the_files_are_refused() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("space.json"), LINE).unwrap();
    fs::write(
        directory.path().join("in.json"),
        format!(r#"{{"points": [], "opt_space": {LINE}}}"#),
    )
    .unwrap();
    fs::create_dir(directory.path().join("folder")).unwrap();
    let mut transcript = String::new();
    for line in [
        "ask -n 1 -i in.json --lib tpe --cost-aware",
        "ask -n 1 -i in.json --lib grid --cost-aware",
        "ask -n 1 -i in.json -o in.json",
        "ask -n 1 -s space.json -o ./space.json",
        "ask -n 1 -i in.json --lib turbo --set startup=1",
        "ask -n 1 -i in.json --lib turbo --set tolerance=-1",
        "ask -n 1 -i in.json --lib turbo --set candidates=0",
        "ask -n 1 -i in.json -o folder",
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
        insta::assert_snapshot!("contradictions", transcript);
    });
    assert!(
        fs::read_to_string(directory.path().join("in.json"))
            .unwrap()
            .contains("opt_space")
    );
}

#[test]
fn an_old_output_never_stands_for_a_new_one() {
    let directory = TempDir::new().unwrap();
    let out = directory.path().join("out.json");
    for line in [
        "ask -n 1 -i missing.json -o out.json",
        "ask -n 1 -s broken.json -o out.json",
        "ask -n 1 -s broken.json --lib tpo -o out.json",
    ] {
        fs::write(&out, "[]").unwrap();
        fs::write(directory.path().join("broken.json"), "{").unwrap();
        assert_eq!(steer(directory.path(), line).status.code(), Some(2), "{line}");
        assert!(!out.exists(), "{line}");
    }
}
