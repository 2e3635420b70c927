//! Whole training steps against PyTorch, on models that both of its exporters wrote.
//!
//! `tests/golden/evaluation/make_torch_steps.py` made the numbers.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::engine::testing;
use crate::model::ModelFile;

/// Largest difference, relative to the largest number of a tensor, after 20 steps in single precision.
const TWENTY_STEPS: f64 = 1e-5;

#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn epoch(&mut self, _: &EpochReport) -> Decision {
        Decision::Continue
    }

    fn step(&mut self, loss: f32) {
        self.0.push(f64::from(loss));
    }

    fn warning(&mut self, message: &str) {
        panic!("unexpected warning: {message}");
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/evaluation")
        .join(name)
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn singles(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

fn samples(document: &Value, loss: &str, shaped: bool) -> Samples {
    let targets = match loss {
        "cross_entropy" => {
            let labels = numbers(&document["labels"])
                .into_iter()
                .map(|label| label as i64)
                .collect();
            Targets::Classes { labels, classes: 4 }
        }
        "binary_cross_entropy" => Targets::Values {
            width: 4,
            values: singles(&document["bits"]),
        },
        _ => Targets::Values {
            width: 2,
            values: singles(&document["values"]),
        },
    };
    Samples {
        row_shape: if shaped { vec![2, 3] } else { vec![6] },
        inputs: singles(&document["inputs"]).into(),
        targets,
        weights: None,
    }
}

fn assert_close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / scale;
        assert!(
            error <= TWENTY_STEPS,
            "{what}[{index}] is {found}, PyTorch has {expected} (relative {error:.1e})"
        );
    }
}

fn check(exporter: &str) {
    let text = std::fs::read_to_string(golden("torch_steps.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    for case in document["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let loss = case["loss"].as_str().unwrap();
        let model = json!({
            "model": {"onnx": format!("{name}_{exporter}.onnx")},
            "loss": loss,
            "optimizer": case["optimizer"],
            "schedule": case["schedule"],
            "training": {
                "epochs": document["epochs"], "batch_size": document["batch"], "shuffle": false, "keep": "last",
            },
        });
        let plan = ModelFile::from_value(model, &golden(""))
            .resolve(&serde_json::Map::new())
            .unwrap()
            .plan;
        let samples = samples(&document, loss, name.starts_with("shapes"));
        let mut losses = Losses::default();
        let result = train(testing::engine(), &plan, &samples, &samples, None, &mut losses).unwrap();
        assert_close(&format!("{name}: losses"), &losses.0, &numbers(&case["losses"]));
        let expected = case["final"].as_object().unwrap();
        assert_eq!(result.model.weights().count(), expected.len(), "{name}");
        let known: Vec<&str> = result.model.weights().map(|(weight, ..)| weight).collect();
        for (weight, shape, values) in result.model.weights() {
            let mut values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let wanted = expected.get(weight).unwrap_or_else(|| {
                // The newer exporter transposes matrices in front of batched products, under a name of its own.
                let (rows, columns) = (shape[0], shape[1]);
                values = (0..rows * columns)
                    .map(|at| values[at % rows * columns + at / rows])
                    .collect();
                expected
                    .iter()
                    .find(|(name, _)| !known.contains(&name.as_str()))
                    .unwrap()
                    .1
            });
            assert_close(&format!("{name}: {weight}"), &values, &numbers(wanted));
        }
    }
}

#[test]
fn twenty_steps_on_models_of_the_older_exporter_equal_those_of_pytorch() {
    check("script");
}

#[test]
fn twenty_steps_on_models_of_the_newer_exporter_equal_those_of_pytorch() {
    check("dynamo");
}
