//! What tests of trainings have in common.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Decision, EpochReport, Observer, Samples, TrainingPlan, train};
use crate::engine::testing;
use crate::model::ModelFile;

/// Largest difference, relative to the largest number of a tensor, after 20 steps in single precision.
pub(crate) const TWENTY_STEPS: f64 = 1e-5;

/// Notes the loss of each step; a warning is a failure.
#[derive(Default)]
pub(crate) struct Losses {
    pub(crate) steps: Vec<f64>,
    /// Write a checkpoint and stop before this step, counted from 1.
    pub(crate) stop_before: Option<usize>,
    polls: usize,
}

impl Losses {
    pub(crate) fn stopping_before(step: usize) -> Self {
        Self {
            stop_before: Some(step),
            ..Self::default()
        }
    }
}

impl Observer for Losses {
    fn epoch(&mut self, _: &EpochReport) -> Decision {
        Decision::Continue
    }

    fn poll(&mut self) -> Decision {
        self.polls += 1;
        if self.stop_before == Some(self.polls) {
            Decision::CheckpointAndStop
        } else {
            Decision::Continue
        }
    }

    fn step(&mut self, loss: f32) {
        self.steps.push(f64::from(loss));
    }

    fn warning(&mut self, message: &str) {
        panic!("unexpected warning: {message}");
    }
}

/// Why ONNX Runtime does not train a plan on `samples`, which validate it too.
pub(crate) fn refusal(plan: &TrainingPlan, samples: &Samples) -> String {
    let error = train(testing::engine(), plan, samples, samples, None, &mut Losses::default());
    error.unwrap_err().to_string()
}

/// The path of a committed file.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/evaluation")
        .join(name)
}

/// Numbers that were committed.
pub(crate) fn document(name: &str) -> Value {
    let text = std::fs::read_to_string(golden(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The plan of a model file without hyperparameters, whose files lie among the committed ones.
pub(crate) fn plan(model: &Value) -> TrainingPlan {
    ModelFile::from_value(model.clone(), &golden(""))
        .resolve(&serde_json::Map::new())
        .unwrap()
        .plan
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap().iter();
    list.map(|number| number.as_f64().unwrap()).collect()
}

pub(crate) fn singles(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

pub(crate) fn integers(value: &Value) -> Vec<i64> {
    numbers(value).into_iter().map(|number| number as i64).collect()
}

/// Differences are relative to the largest of the expected numbers.
pub(crate) fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / scale;
        assert!(
            error <= tolerance,
            "{what}[{index}] is {found}, expected {expected} (relative {error:.1e})"
        );
    }
}
