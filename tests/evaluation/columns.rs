//! Columns with a meaning of their own: weights, and classes among the inputs.

use std::fmt::Write as _;

use serde_json::json;

use crate::support::Work;

/// Rows `a,b,y,w` of a line with noise.
fn table(weight: impl Fn(usize) -> f64, keep: impl Fn(usize) -> bool) -> String {
    let mut text = "a,b,y,w\n".to_owned();
    for row in (0..40).filter(|row| keep(*row)) {
        let (a, b) = ((row % 7) as f64 - 3.0, (row % 5) as f64);
        let noise = if row % 3 == 0 { 25.0 } else { 0.5 };
        let _ = writeln!(text, "{a},{b},{},{}", 2.0 * a - b + noise, weight(row));
    }
    text
}

#[test]
fn rows_of_weight_zero_count_as_if_they_were_not_there() {
    let work = Work::new(&json!({
        "data": {
            "inputs": ["a", "b"], "targets": "y", "weights": "w", "split": {"validation_files": ["judge.csv"]},
        },
        "model": {"blocks": []},
        "loss": "mse",
        "optimizer": {"name": "sgd", "learning_rate": "$rate"},
        "training": {"epochs": 20, "batch_size": 100, "shuffle": false},
    }));
    let is_good = |row: usize| !row.is_multiple_of(3);
    let weight = |row: usize| if is_good(row) { 2.0 } else { 0.0 };
    work.write("whole.csv", table(weight, |_| true));
    work.write("part.csv", table(|_| 1.0, is_good));
    work.write("judge.csv", table(weight, |row| row < 20));
    let of_whole = work.succeed(&["--data", "whole.csv"])["loss"].clone();
    let whole = of_whole.as_f64().unwrap();
    work.write("judge.csv", table(|_| 1.0, |row| row < 20 && is_good(row)));
    let part = work.succeed(&["--data", "part.csv"])["loss"].as_f64().unwrap();
    assert!((whole - part).abs() < 1e-5 * part, "{whole} and {part}");

    // Streamed from the file they are the same.
    work.write("judge.csv", table(weight, |row| row < 20));
    let streamed = work.succeed(&["--data", "whole.csv", "--data-memory", "1B"]);
    assert_eq!(streamed["loss"], of_whole);
}

#[test]
fn a_weight_that_is_none_is_named_with_file_and_row() {
    let work = Work::new(&json!({
        "data": {"inputs": ["a", "b"], "targets": "y", "weights": "w"},
        "model": {"blocks": []}, "loss": "mse",
    }));
    work.write("data.csv", table(|row| if row == 4 { -1.0 } else { 1.0 }, |_| true));
    let message = work.fail(2, &["--data", "data.csv"]);
    assert!(
        message.starts_with("training data `./data.csv`: row 5, column `w`: a weight must be at least 0, found -1"),
        "{message}"
    );
}

#[test]
fn classes_among_the_inputs_are_not_scaled() {
    let model = |data: serde_json::Value, blocks: serde_json::Value| {
        json!({
            "data": data, "model": {"blocks": blocks}, "loss": "mse",
            "training": {"epochs": 1, "batch_size": 8},
        })
    };
    let data = json!({"inputs": ["b", "a"], "targets": "y", "normalize": "standard", "scale": 0.5});
    let tokens = json!([
        {"feature_tokens": {"width": 4, "categorical": [[0, 5]], "class_token": false}}, {"flatten": {}}
    ]);
    let work = Work::new(&model(data, tokens));
    work.write("data.csv", table(|_| 1.0, |_| true));
    work.succeed(&["--data", "data.csv", "--meta", "meta.json"]);
    let scaling = &work.json("meta.json")["scaling"];
    assert_eq!(
        (&scaling["shift"][0], &scaling["divisor"][0]),
        (&json!(0.0), &json!(0.5))
    );
    assert_ne!(scaling["divisor"][1], 0.5);

    let data = json!({
        "inputs": ["b", "a"], "targets": "y", "normalize": "minmax", "unscaled": "b",
        "split": {"validation": 0.25, "kind": "last"},
    });
    work.write("model.json", model(data, json!([])).to_string());
    work.succeed(&["--data", "data.csv", "--meta", "meta.json"]);
    let scaling = &work.json("meta.json")["scaling"];
    assert_eq!(scaling["shift"], json!([0.0, -3.0]));
    assert_eq!(scaling["divisor"], json!([1.0, 6.0]));

    let data = json!({"inputs": "a", "targets": "y", "unscaled": "b"});
    work.write("model.json", model(data, json!([])).to_string());
    assert_eq!(
        work.fail(2, &["--data", "data.csv"]),
        "model file: `/data/unscaled` must be columns that are inputs, found `b`, which is none"
    );
}

#[test]
fn an_area_under_a_curve_that_no_rows_define_is_found_before_training() {
    let work = Work::new(&json!({
        "data": {"inputs": ["a", "b"], "targets": "kind", "split": {"validation": 4, "kind": "last"}},
        "model": {"blocks": []}, "loss": "binary_cross_entropy", "objective": {"metric": "auc", "mode": "max"},
    }));
    work.write(
        "data.csv",
        "a,b,kind\n1,2,0\n2,1,1\n3,1,0\n1,1,1\n2,2,1\n3,3,1\n0,1,1\n0,2,1\n",
    );
    assert_eq!(
        work.fail(2, &["--data", "data.csv"]),
        "the metric `auc` compares rows of different classes, all 4 rows of the validation set are of class 1; use \
         another metric, or a `data.split` that sets rows of every class apart, such as `\"kind\": \"stratified\"`"
    );
}
