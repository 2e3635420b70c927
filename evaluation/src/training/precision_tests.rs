//! Half precision: by inspection of the graphs, and by training on the reference interpreter, which rounds on any machine.

use serde_json::{Value, json};

use super::testing::{Losses, plan, refusal};
use super::*;
use crate::engine::reference::Reference;
use crate::graph::{Builder, ElementType, TensorType};

fn samples() -> Samples {
    let inputs: Vec<f32> = (0..160).map(|at| (at as f32 * 0.618).fract() * 2.0 - 1.0).collect();
    Samples {
        row_shape: vec![4],
        targets: Targets::Values {
            width: 1,
            values: inputs.chunks(4).map(|x| x[0] * x[1] + x[2]).collect(),
        },
        inputs: inputs.into(),
        weights: None,
    }
}

fn model(training: &Value) -> TrainingPlan {
    let mut model = json!({
        "model": {"blocks": [{"dense": {"units": 16, "activation": "tanh"}}]}, "loss": "mse",
        "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        "training": {"epochs": 6, "batch_size": 10, "shuffle": false, "keep": "last"},
    });
    for (key, value) in training.as_object().unwrap() {
        model["training"][key] = value.clone();
    }
    plan(&model)
}

#[test]
fn operands_of_products_are_rounded_and_nothing_else() {
    let mut builder = Builder::new();
    let x = builder.input("x", TensorType::new(ElementType::F32, [2, 3]));
    let w = builder.input("w", TensorType::new(ElementType::F32, [3, 3]));
    let b = builder.input("b", TensorType::new(ElementType::F32, [3]));
    let first = builder.node("Gemm", &[&x, &w, &b], Vec::new());
    let tanh = builder.node("Tanh", &[&first], Vec::new());
    let second = builder.node("MatMul", &[&tanh, &w], Vec::new());
    builder.output("y", &second);
    let single = builder.finish();
    let loss_scale = LossScale::Constant(8.0);
    for (precision, code) in [(Precision::Bfloat16, 16), (Precision::Float16 { loss_scale }, 10)] {
        let mut graph = single.clone();
        precision.lower(&mut graph);
        let kinds: Vec<(&str, Option<i64>)> = graph
            .nodes
            .iter()
            .map(|node| (node.operator.as_str(), node.int("to")))
            .collect();
        let (half, whole) = (("Cast", Some(code)), ("Cast", Some(1)));
        let expected = [
            half,
            half,
            half,
            ("Gemm", None),
            whole,
            ("Tanh", None),
            half,
            ("MatMul", None),
            whole,
        ];
        assert_eq!(kinds, expected);
        // The weights are rounded once for both products, and stay what they are outside.
        assert_eq!(graph.inputs, single.inputs);
        assert_eq!(graph.outputs, single.outputs);
    }
    let mut same = single.clone();
    Precision::Float32.lower(&mut same);
    assert_eq!(same, single);
}

#[test]
fn half_precision_trains_close_to_single_precision() {
    let samples = samples();
    let run = |training: Value| {
        let mut losses = Losses::default();
        train(&Reference, &model(&training), &samples, &samples, None, &mut losses).unwrap();
        losses.steps
    };
    let single = run(json!({}));
    let half = run(json!({"precision": "float16", "loss_scale": 256}));
    assert_ne!(single, half);
    for (single, half) in single.iter().zip(&half) {
        assert!(
            (single - half).abs() < 5e-3 * (1.0 + single),
            "{half} is far from {single}"
        );
    }
}

#[test]
fn a_step_whose_gradients_overflow_changes_nothing() {
    let samples = samples();
    let weights = |training: Value| {
        let mut losses = Losses::default();
        let result = train(&Reference, &model(&training), &samples, &samples, None, &mut losses).unwrap();
        let numbers = result.model.weights().flat_map(|(_, _, values)| values.to_vec());
        numbers.collect::<Vec<f32>>()
    };
    let once = weights(json!({"precision": "float16", "loss_scale": 1e9, "epochs": 1}));
    let longer = weights(json!({"precision": "float16", "loss_scale": 1e9, "epochs": 3}));
    assert_eq!(once, longer);
    assert!(once.iter().all(|weight| weight.is_finite()));
}

#[test]
fn an_adaptive_scale_shrinks_until_gradients_fit_and_grows_again() {
    let samples = samples();
    // Sixteen steps. The factor 2²⁴ overflows at first; a constant factor of what is left gives the same weights.
    let skipped = |training: Value| {
        let plan = model(&training);
        let result = train(&Reference, &plan, &samples, &samples, None, &mut Losses::default()).unwrap();
        result.skipped_steps
    };
    let adaptive = |initial: f64, interval: usize| json!({"precision": "float16", "epochs": 4, "loss_scale": {"initial": initial, "interval": interval}});
    assert_eq!(skipped(json!({"epochs": 1})), None);
    assert_eq!(skipped(adaptive(256.0, 100)), Some(0));
    let few = skipped(adaptive(16_777_216.0, 100)).unwrap();
    assert!((2..12).contains(&few), "{few} of 16 steps were skipped");
    // Doubled after each step, the factor comes to the limit again and again.
    let many = skipped(adaptive(16_777_216.0, 1)).unwrap();
    assert!((few + 1..16).contains(&many), "{many} of 16 steps were skipped");
    assert_eq!(
        skipped(json!({"precision": "float16", "epochs": 4, "loss_scale": 1e9})),
        Some(16)
    );
}

#[test]
fn an_adaptive_scale_goes_on_from_a_checkpoint_to_the_same_bits() {
    let samples = samples();
    let plan = |epochs: usize| {
        let loss_scale = json!({"initial": 16_777_216.0, "interval": 3});
        model(&json!({"precision": "float16", "epochs": epochs, "loss_scale": loss_scale}))
    };
    let run = |plan: &TrainingPlan, policy: Option<&CheckpointPolicy>| {
        train(&Reference, plan, &samples, &samples, policy, &mut Losses::default()).unwrap()
    };
    let bits = |result: &TrainingResult| {
        let weights = result.model.weights().flat_map(|(_, _, values)| values.to_vec());
        weights.map(f32::to_bits).collect::<Vec<u32>>()
    };
    let folder = tempfile::tempdir().unwrap();
    let policy = CheckpointPolicy {
        directory: folder.path().to_owned(),
        every_epochs: 1,
        inherits: false,
    };
    let whole = run(&plan(4), None);
    run(&plan(2), Some(&policy));
    let rest = run(&plan(4), Some(&policy));
    assert_eq!(rest.resumed_from, Some(2));
    assert_eq!(rest.skipped_steps, whole.skipped_steps);
    assert_eq!(bits(&rest), bits(&whole));
}

#[test]
fn an_engine_that_does_not_round_refuses() {
    let samples = samples();
    let plan = model(&json!({"precision": "float16"}));
    // On the CPU ONNX Runtime has no such kernels and takes the rounding away.
    let message = refusal(&plan, &samples);
    assert!(
        message.starts_with("`training.precision` is `float16`, which ONNX Runtime 1.")
            && message.ends_with(
                " cannot compute on the device `cpu`: it computes in single precision; use `float32`, or `--device cuda` \
                 where there is a GPU"
            ),
        "{message}"
    );
}
