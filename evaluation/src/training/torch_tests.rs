//! Whole training steps against PyTorch, on models that both of its exporters wrote.
//!
//! `tests/golden/evaluation/make_torch_steps.py` made the numbers.

use serde_json::{Value, json};

use super::testing::{Losses, TWENTY_STEPS, assert_close, integers, numbers, plan, singles};
use super::*;
use crate::engine::{Engine, testing};

fn samples(document: &Value, loss: &str, shaped: bool) -> Samples {
    let targets = match loss {
        "cross_entropy" => {
            let labels = integers(&document["labels"]);
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

fn check(engine: &dyn Engine, exporter: &str) {
    let document = super::testing::document("torch_steps.json");
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
        let plan = plan(&model);
        let samples = samples(&document, loss, name.starts_with("shapes"));
        let mut losses = Losses::default();
        let result = train(engine, &plan, &samples, &samples, None, &mut losses).unwrap();
        assert_close(
            &format!("{name}: losses"),
            &losses.steps,
            &numbers(&case["losses"]),
            TWENTY_STEPS,
        );
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
            assert_close(&format!("{name}: {weight}"), &values, &numbers(wanted), TWENTY_STEPS);
        }
    }
}

#[test]
fn twenty_steps_on_models_of_the_older_exporter_equal_those_of_pytorch() {
    check(testing::engine(), "script");
}

#[test]
fn twenty_steps_on_models_of_the_newer_exporter_equal_those_of_pytorch() {
    check(testing::engine(), "dynamo");
}

#[cfg(feature = "rten")]
#[test]
fn twenty_steps_on_the_embedded_engine_equal_those_of_pytorch() {
    check(testing::embedded(), "script");
    check(testing::embedded(), "dynamo");
}
