//! Losses, optimisers and schedules against PyTorch, and every one of them through an interruption.
//!
//! `tests/golden/evaluation/make_torch_descent.py` made the numbers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::losses::Given;
use super::metrics::Accumulator;
use super::schedules::{self, Position};
use super::testing::{Losses, TWENTY_STEPS, assert_close, integers, numbers, plan, singles};
use super::*;
use crate::engine::testing;
use crate::graph::{Builder, ElementType, Elements, TensorType};

/// Of one evaluation of a loss in single precision.
const ONE_EVALUATION: f64 = 1e-6;

fn document() -> Value {
    super::testing::document("torch_descent.json")
}

fn data(document: &Value) -> Samples {
    Samples {
        row_shape: vec![6],
        inputs: singles(&document["inputs"]).into(),
        targets: Targets::Classes {
            labels: integers(&document["labels"]),
            classes: 4,
        },
        weights: None,
    }
}

#[test]
fn every_optimizer_trains_like_pytorch() {
    let document = document();
    let samples = data(&document);
    let batch = document["batch"].as_u64().unwrap() as usize;
    let steps = document["steps"].as_u64().unwrap() as usize;
    for case in document["trainings"].as_array().unwrap() {
        let mut model = json!({
            "model": {"onnx": "descent.onnx"}, "loss": "cross_entropy", "optimizer": case["optimizer"],
            "training": {
                "epochs": steps.div_ceil(samples.rows() / batch), "batch_size": batch, "shuffle": false, "keep": "last",
            },
        });
        for (key, value) in case["training"].as_object().into_iter().flatten() {
            model["training"][key] = value.clone();
        }
        let what = format!("{} {}", case["optimizer"], case["training"]);
        let folder = tempfile::tempdir().unwrap();
        let policy = CheckpointPolicy {
            directory: folder.path().to_owned(),
            every_epochs: 0,
            inherits: false,
        };
        let mut losses = Losses::stopping_before(steps + 1);
        let plan = plan(&model);
        let result = train(testing::engine(), &plan, &samples, &samples, Some(&policy), &mut losses).unwrap();
        assert_close(&what, &losses.steps, &numbers(&case["losses"]), TWENTY_STEPS);
        for (name, _, values) in result.model.weights() {
            let values: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
            let expected = numbers(&case["final"][name]);
            assert_close(&format!("{what}: {name}"), &values, &expected, TWENTY_STEPS);
        }
    }
}

#[test]
fn every_example_of_an_optimizer_or_a_schedule_is_checked_against_pytorch() {
    let document = document();
    let known = |list: &str, key: &str| {
        let items = document[list].as_array().unwrap().iter();
        items.map(|case| case[key].clone()).collect::<Vec<Value>>()
    };
    let (trainings, rates) = (known("trainings", "optimizer"), known("schedules", "schedule"));
    for entry in optimizers::ENTRIES {
        assert!(!entry.examples.is_empty(), "optimizer `{}` has no example", entry.name);
        for example in entry.examples {
            let example: Value = serde_json::from_str(example).unwrap();
            assert_eq!(example["name"], entry.name);
            assert!(
                trainings.contains(&example),
                "{example} is not in the numbers of PyTorch"
            );
        }
    }
    for entry in &schedules::ENTRIES {
        assert!(!entry.examples.is_empty(), "schedule `{}` has no example", entry.name);
        for example in entry.examples {
            let example: Value = serde_json::from_str(example).unwrap();
            assert_eq!(example["name"], entry.name);
            assert!(rates.contains(&example), "{example} is not in the numbers of PyTorch");
        }
    }
}

#[test]
fn every_schedule_has_the_rates_of_pytorch() {
    let document = document();
    let losses = numbers(&document["validation"]);
    for case in document["schedules"].as_array().unwrap() {
        let expected = numbers(&case["rates"]);
        let steps = expected.len() / losses.len();
        let model = json!({
            "model": {"blocks": []}, "loss": "mse", "schedule": case["schedule"], "training": {"epochs": losses.len()},
        });
        let schedule = plan(&model).schedule;
        let found: Vec<f64> = (0..expected.len())
            .map(|at| {
                let epoch = at / steps;
                let position = Position {
                    epoch,
                    step: at % steps,
                    steps,
                    losses: &losses[..epoch],
                };
                schedule.rate(0.1, position)
            })
            .collect();
        assert_close(&case["schedule"].to_string(), &found, &expected, 1e-9);
    }
}

/// The loss and its gradient as the step computes them.
fn evaluate(loss: &Loss, case: &Value, weighted: bool) -> (f64, Vec<f64>) {
    let (z, target) = (singles(&case["prediction"]), numbers(&case["target"]));
    let outputs = case["outputs"].as_u64().unwrap() as usize;
    let rows = z.len() / outputs;
    let labels = case["labels"].as_bool().unwrap();
    let targets = if labels { 1 } else { target.len() / rows };
    let target = if labels {
        Tensor::new([rows], Elements::I64(integers(&case["target"])))
    } else {
        Tensor::f32([rows, targets], singles(&case["target"]))
    };
    let mut builder = Builder::new();
    let z_name = builder.input("z", TensorType::new(ElementType::F32, [rows, outputs]));
    let kind = TensorType::new(target.elements.element_type(), target.shape.clone());
    let target_name = builder.input("t", kind);
    let mut inputs = vec![
        ("z".to_owned(), Tensor::f32([rows, outputs], z)),
        ("t".to_owned(), target),
    ];
    let weights = weighted.then(|| builder.input("s", TensorType::new(ElementType::F32, [rows])));
    if weighted {
        inputs.push(("s".to_owned(), Tensor::f32([rows], singles(&case["weights"]))));
    }
    let classes = class_weights(loss);
    let given = Given {
        z: &z_name,
        target: &target_name,
        labels,
        weights: weights.as_deref(),
        classes: classes.as_deref(),
        rows,
        outputs,
        targets,
    };
    let (value, gradient) = losses::append(&mut builder, loss, given);
    builder.output("value", &value);
    builder.output("gradient", &gradient);
    let results = testing::engine().run(&builder.finish(), inputs).unwrap();
    let of = |index: usize| results[index].to_f64().unwrap();
    (of(0)[0], of(1))
}

fn class_weights(loss: &Loss) -> Option<Vec<f64>> {
    match loss {
        Loss::CrossEntropy {
            class_weights: Some(ClassWeights::Given(weights)),
            ..
        } => Some(weights.clone()),
        _ => None,
    }
}

/// The same loss as validation computes it on the host.
fn validate(loss: &Loss, case: &Value, weighted: bool) -> f64 {
    let outputs = case["outputs"].as_u64().unwrap() as usize;
    let rows = numbers(&case["prediction"]).len() / outputs;
    let targets = if case["labels"].as_bool().unwrap() {
        Targets::Classes {
            labels: integers(&case["target"]),
            classes: outputs,
        }
    } else {
        let values = singles(&case["target"]);
        Targets::Values {
            width: values.len() / rows,
            values,
        }
    };
    let samples = Samples {
        row_shape: vec![1],
        inputs: vec![0.0; rows].into(),
        targets,
        weights: weighted.then(|| singles(&case["weights"])),
    };
    let mut sums = Accumulator::new(loss, class_weights(loss), &samples, outputs, &[]);
    sums.add(&singles(&case["prediction"]), None);
    sums.finish().get(Metric::Loss)
}

#[test]
fn every_loss_has_value_and_gradient_of_pytorch_with_and_without_weights() {
    let mut seen = BTreeSet::new();
    for case in document()["losses"].as_array().unwrap() {
        let loss = plan(&json!({"model": {"blocks": []}, "loss": case["loss"], "objective": "loss"})).loss;
        seen.insert(loss.name());
        for (weighted, value, gradient) in [
            (false, "value", "gradient"),
            (true, "weighted_value", "weighted_gradient"),
        ] {
            let what = format!("{} {value}", case["loss"]);
            let expected = case[value].as_f64().unwrap();
            let (found, gradients) = evaluate(&loss, case, weighted);
            assert_close(&what, &[found], &[expected], ONE_EVALUATION);
            assert_close(&what, &gradients, &numbers(&case[gradient]), ONE_EVALUATION);
            let found = validate(&loss, case, weighted);
            assert_close(&format!("{what} on the host"), &[found], &[expected], ONE_EVALUATION);
        }
    }
    assert_eq!(seen.len(), 8, "every loss but the one that is a graph: {seen:?}");
}

fn bits(result: &TrainingResult) -> Vec<u32> {
    let weights = result.model.weights();
    weights
        .flat_map(|(_, _, values)| values.iter().map(|value| value.to_bits()))
        .collect()
}

/// Trains in one go, and with an interruption in the middle of an epoch; both must give the same bits.
fn resume(blocks: &Value, optimizer: &Value, schedule: &Value, training: &Value) {
    let document = document();
    let samples = data(&document);
    let mut model = json!({
        "model": {"blocks": blocks},
        "loss": "cross_entropy", "objective": "loss", "optimizer": optimizer, "schedule": schedule,
        "training": {"epochs": 4, "batch_size": 20},
    });
    for (key, value) in training.as_object().into_iter().flatten() {
        model["training"][key] = value.clone();
    }
    let plan = plan(&model);
    let run = |policy: Option<&CheckpointPolicy>, stop_before: Option<usize>| {
        let mut losses = stop_before.map_or_else(Losses::default, Losses::stopping_before);
        let result = train(testing::engine(), &plan, &samples, &samples, policy, &mut losses).unwrap();
        (result, losses.steps)
    };
    let (whole, steps) = run(None, None);
    let folder = tempfile::tempdir().unwrap();
    let policy = CheckpointPolicy {
        directory: folder.path().to_owned(),
        every_epochs: 0,
        inherits: false,
    };
    let (stopped, first) = run(Some(&policy), Some(9));
    assert_eq!(stopped.ended, Ended::Checkpointed);
    let (rest, second) = run(Some(&policy), None);
    assert_eq!(rest.resumed_from, Some(2));
    let what = format!("{optimizer} {schedule} {training}");
    assert_eq!([first, second].concat(), steps, "{what}");
    assert_eq!(bits(&rest), bits(&whole), "{what}");
}

#[test]
fn every_optimizer_resumes_to_the_same_bits() {
    let blocks = json!([{"dense": {"units": 5, "activation": "tanh"}}]);
    for entry in optimizers::ENTRIES {
        for example in entry.examples {
            resume(
                &blocks,
                &serde_json::from_str(example).unwrap(),
                &json!("constant"),
                &json!({}),
            );
        }
    }
    let blocks = json!([{"dense": {"units": 5}}, {"batch_norm": {}}, {"dropout": {"rate": 0.2}}]);
    resume(&blocks, &json!("adam"), &json!("constant"), &json!({"average": 0.9}));
}

#[test]
fn every_schedule_resumes_to_the_same_bits() {
    for entry in &schedules::ENTRIES {
        for example in entry.examples {
            let sgd = json!({"name": "sgd", "learning_rate": 0.2, "momentum": 0.5});
            resume(&json!([]), &sgd, &serde_json::from_str(example).unwrap(), &json!({}));
        }
    }
}

/// A graph `y = f(prediction, target)` in a file.
fn loss_file(folder: &Path, name: &str, reduce: bool) -> PathBuf {
    let mut builder = Builder::new();
    let z = builder.input("prediction", TensorType::new(ElementType::F32, [1, 2]));
    let t = builder.input("target", TensorType::new(ElementType::F32, [1, 2]));
    let difference = builder.node("Sub", &[&z, &t], Vec::new());
    let square = builder.node("Mul", &[&difference, &difference], Vec::new());
    let axes = builder.ints(if reduce { &[0, 1] } else { &[1] });
    let keep = vec![crate::graph::attribute::int("keepdims", 0)];
    let mean = builder.node("ReduceMean", &[&square, &axes], keep);
    builder.output("loss", &mean);
    let path = folder.join(name);
    std::fs::write(&path, crate::graph::encode_model(&builder.finish().to_model())).unwrap();
    path
}

#[test]
fn a_loss_given_as_a_graph_trains_like_the_same_loss_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let document = document();
    let inputs = singles(&document["inputs"]);
    let mut samples = Samples {
        row_shape: vec![6],
        targets: Targets::Values {
            width: 2,
            values: inputs.chunks(6).flat_map(|x| [x[0] + x[1], x[2] * x[3]]).collect(),
        },
        inputs: inputs.into(),
        weights: None,
    };
    let run = |loss: Value, samples: &Samples| {
        let model = json!({
            "model": {"blocks": [{"dense": {"units": 8, "activation": "tanh"}}]}, "loss": loss, "objective": "loss",
            "training": {"epochs": 3, "batch_size": 16},
        });
        train(
            testing::engine(),
            &plan(&model),
            samples,
            samples,
            None,
            &mut Losses::default(),
        )
        .unwrap()
    };
    let close = |first: &TrainingResult, second: &TrainingResult| {
        for (first, second) in first.epochs.iter().zip(&second.epochs) {
            let of = |report: &EpochReport| {
                let mut values = vec![report.train_loss];
                values.extend(report.validation.0.iter().map(|(_, value)| *value));
                values
            };
            assert_close("epoch", &of(second), &of(first), TWENTY_STEPS);
        }
    };
    let scalar = json!({"name": "graph", "onnx": loss_file(folder.path(), "scalar.onnx", true)});
    let rows = json!({"name": "graph", "onnx": loss_file(folder.path(), "rows.onnx", false)});
    let expected = run(json!("mse"), &samples);
    close(&expected, &run(scalar, &samples));
    close(&expected, &run(rows.clone(), &samples));
    samples.weights = Some((0..samples.rows()).map(|row| (row % 3) as f32).collect());
    close(&run(json!("mse"), &samples), &run(rows, &samples));
}

#[test]
fn a_loss_graph_of_the_wrong_form_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let samples = data(&document());
    let fail = |graph: Builder| {
        let path = folder.path().join("loss.onnx");
        std::fs::write(&path, crate::graph::encode_model(&graph.finish().to_model())).unwrap();
        let model = json!({"model": {"blocks": []}, "loss": {"name": "graph", "onnx": path}, "objective": "loss"});
        let error = train(
            testing::engine(),
            &plan(&model),
            &samples,
            &samples,
            None,
            &mut Losses::default(),
        );
        error
            .unwrap_err()
            .to_string()
            .replace(&path.display().to_string(), "loss.onnx")
    };
    let mut graph = Builder::new();
    let z = graph.input("logits", TensorType::new(ElementType::F32, [1, 4]));
    graph.output("loss", &z);
    assert_eq!(
        fail(graph),
        "loss graph `loss.onnx`: it has an input `logits`; its inputs must be `prediction` and `target`"
    );
    let mut graph = Builder::new();
    let z = graph.input("prediction", TensorType::new(ElementType::F32, [1, 4]));
    let square = graph.node("Mul", &[&z, &z], Vec::new());
    graph.output("loss", &square);
    assert_eq!(
        fail(graph),
        "loss graph `loss.onnx`: its output must be one number of type float32, or one a row (32), found F32 of shape \
         [32, 4]"
    );
}

#[test]
fn settings_that_do_not_fit_the_model_or_the_data_are_explained() {
    let samples = data(&document());
    let fail = |key: &str, value: Value| {
        let mut model = json!({"model": {"onnx": "descent.onnx"}, "loss": "cross_entropy"});
        model[key] = value;
        let error = train(
            testing::engine(),
            &plan(&model),
            &samples,
            &samples,
            None,
            &mut Losses::default(),
        );
        error.unwrap_err().to_string()
    };
    assert_eq!(
        fail("optimizer", json!({"groups": [{"parameters": ["head.*"]}]})),
        "`optimizer.groups`: no weight is named like `head.*`; there are 0.bias, 0.weight, 2.bias, 2.weight, 4.bias, \
         4.weight"
    );
    assert_eq!(
        fail("loss", json!({"name": "cross_entropy", "class_weights": [1, 2]})),
        "`class_weights` has 2 numbers, the data has 4 classes"
    );
    assert_eq!(
        fail("objective", json!("top_9")),
        "the metric `top_9` needs at least 9 classes, the data has 4"
    );
    assert_eq!(
        fail("metrics", json!(["r2"])),
        "the metric `r2` does not exist for the loss `cross_entropy`; there are loss, accuracy, error, top_5, auc"
    );
}

#[test]
fn balanced_class_weights_are_inverse_frequencies() {
    let targets = Targets::Classes {
        labels: vec![0, 0, 0, 1],
        classes: 2,
    };
    let weights = ClassWeights::Balanced.resolve(&targets).unwrap();
    assert_close("weights", &weights, &[2.0 / 3.0, 2.0], 1e-15);
}
