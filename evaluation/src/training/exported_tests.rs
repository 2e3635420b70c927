//! Whole trainings of networks that the export scripts wrote, against the curves in their own framework.
//!
//! `tests/golden/evaluation/make_exported.py` made files and numbers.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::testing::{Losses, golden, numbers, plan};
use super::*;
use crate::engine::{Engine, testing};

/// Largest relative difference of a loss in the course of the steps, in single precision. The rate of learning is small for its
/// sake: at 0.02 the convolutional network, computed in double precision by the reference interpreter, follows its framework
/// within 3e-7 in all hundred steps, and in single precision within 3e-7 up to one step, from which on it is 1e-4 and more
/// away. Nothing smooth does that: a number near zero has another sign by rounding there, its rectifier or its place in a
/// pool lets another gradient pass.
const LARGEST: f64 = 1e-4;

/// Names a folder with networks and curves in the place of the committed ones; `tests/ecosystem/live_exports` makes one.
const NETWORKS: &str = "EXPORTED_NETWORKS";

/// Compares the first losses, at most `steps`.
fn check(engine: &dyn Engine, steps: usize) {
    let folder = std::env::var_os(NETWORKS).map_or_else(|| golden(""), PathBuf::from);
    let text = std::fs::read_to_string(folder.join("exported.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let size = |key: &str| document[key].as_u64().unwrap() as usize;
    let (rows, batch, classes) = (size("rows"), size("batch"), size("classes"));
    for case in document["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let row_shape: Vec<usize> = case["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|size| size.as_u64().unwrap() as usize)
            .collect();
        let mut expected = numbers(&case["losses"]);
        expected.truncate(steps);
        let count = rows * row_shape.iter().product::<usize>();
        let samples = Samples {
            row_shape,
            inputs: (0..count)
                .map(|at| ((at as f64 * 0.618_033_988_749_895).fract() * 2.0 - 1.0) as f32)
                .collect::<Vec<f32>>()
                .into(),
            targets: Targets::Classes {
                labels: (0..rows).map(|row| (row * 7 % classes) as i64).collect(),
                classes,
            },
            weights: None,
        };
        let model = json!({
            "model": {"onnx": folder.join(format!("exported_{name}.onnx"))},
            "loss": "cross_entropy",
            "optimizer": {
                "name": "sgd", "learning_rate": document["learning_rate"], "momentum": document["momentum"],
            },
            "training": {"epochs": (expected.len() * batch).div_ceil(rows), "batch_size": batch, "shuffle": false},
        });
        let plan = plan(&model);
        let mut losses = Losses::default();
        train(engine, &plan, &samples, &samples, None, &mut losses).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(losses.steps.len() >= expected.len(), "{name}");
        for (step, (found, expected)) in losses.steps.iter().zip(&expected).enumerate() {
            let error = (found - expected).abs() / expected.abs();
            assert!(
                error <= LARGEST,
                "{name}: the loss of step {step} is {found}, expected {expected} (relative {error:.1e})"
            );
        }
    }
}

#[test]
fn exported_networks_train_along_the_curves_of_their_framework() {
    check(testing::engine(), usize::MAX);
}

#[cfg(feature = "rten")]
#[test]
fn exported_networks_train_on_the_embedded_engine_along_the_curves_of_their_framework() {
    check(testing::embedded(), 16);
}
