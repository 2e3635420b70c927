//! Running the program, and building search spaces and histories.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use protocol::EvaluationInput;
use protocol::json::{self, Dialect};
use protocol::limits::FAILED_LOSS;
use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use serde_json::{Value, json};
use steering::ask::{Request, ask};

pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_steering"))
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Runs the program in `directory` without any variable that it would read.
pub(crate) fn run_in(directory: &Path, program: &Path, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env_remove("STEERING_SEED")
        .env_remove("HPO_TASK")
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

pub(crate) fn steer(directory: &Path, line: &str) -> Output {
    run_in(directory, binary(), &line.split_whitespace().collect::<Vec<_>>())
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn document(value: &Value) -> SpaceDocument {
    SpaceDocument::from_value(value).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub(crate) fn history(points: &Value) -> SteeringInput {
    let text = json!({"points": points, "opt_space": null}).to_string();
    read_input(&text)
}

pub(crate) fn read_input(text: &str) -> SteeringInput {
    let value = json::parse(text.as_bytes(), Dialect::NonFinite).unwrap();
    SteeringInput::from_value(value, Some(FAILED_LOSS)).unwrap()
}

pub(crate) fn request(sampler: &str, count: usize) -> Request {
    Request {
        sampler: sampler.into(),
        ..Request::new(count, 11)
    }
}

/// New points as JSON values, segments stripped.
pub(crate) fn suggest(space: &Value, points: &Value, sampler: &str, count: usize) -> Vec<Value> {
    values(
        &ask(&document(space), &history(points), &request(sampler, count))
            .unwrap_or_else(|error| panic!("{sampler}: {error}")),
    )
}

pub(crate) fn values(points: &[EvaluationInput]) -> Vec<Value> {
    points
        .iter()
        .map(|input| Value::Object(input.point().to_object()))
        .collect()
}

/// A space with every kind of dimension, small enough for a grid.
pub(crate) fn every_kind() -> Value {
    json!({
        "optimizer": {"method": "categorical", "dimension": {"categories": ["sgd", "adam", "adam"], "grid_search": 0}},
        "nesterov": {"method": "categorical", "dimension": {"categories": [true, false]}, "if": {"optimizer": ["sgd"]}},
        "decay": {"method": "categorical", "dimension": {"categories": [1, 1.5, null, [1, 2]]}, "if": {"nesterov": [true]}},
        "rate": {"method": "loguniform", "dimension": {"low": 1e-5, "high": 0.1, "levels": 3}},
        "momentum": {"method": "uniform", "dimension": {"low": 0.0, "high": 1.0, "levels": [0.0, 0.9]}},
        "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 3}},
        "dropout": {"method": "quniform", "dimension": {"low": 0.1, "high": 0.5, "q": 0.1, "levels": 2}},
        "units": {"method": "qloguniform", "dimension": {"low": 16, "high": 512, "q": 16, "levels": 2}},
        "batch": {"method": "loguniformint", "dimension": {"low": 1, "high": 64, "levels": 2}},
        "constant": {"method": "uniform", "dimension": {"low": 2.5, "high": 2.5}},
        "version": {"method": "fixed", "dimension": {"value": "v1"}}
    })
}

/// The unbounded dimensions, of which there is no grid.
pub(crate) fn unbounded() -> Value {
    json!({
        "a": {"method": "normal", "dimension": {"mu": -3, "sigma": 2}},
        "b": {"method": "qnormal", "dimension": {"mu": 10, "sigma": 5, "q": 0.5}},
        "c": {"method": "lognormal", "dimension": {"mu": 0, "sigma": 1}},
        "d": {"method": "qlognormal", "dimension": {"mu": 2, "sigma": 1, "q": 1}}
    })
}

/// A deterministic toy loss of any point.
pub(crate) fn toy_loss(point: &Value) -> f64 {
    let mut sum = 0.0;
    for (key, value) in point.as_object().unwrap() {
        let number = match value {
            Value::Number(number) => number.as_f64().unwrap(),
            Value::Bool(true) => 1.0,
            other => other.to_string().len() as f64 / 10.0,
        };
        sum += (number.abs() + 1e-3).ln().abs() + 0.01 * key.len() as f64;
    }
    sum
}
