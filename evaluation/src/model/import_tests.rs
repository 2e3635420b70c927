//! Forward models of users: what is refused, in which words, and how older files are understood.

use std::path::Path;

use serde_json::json;

use super::ModelFile;
use crate::engine::testing;
use crate::graph::proto::ModelProto;
use crate::graph::{ElementType, proto::AttributeProto};
use crate::graph::{Elements, Graph, Node, Tensor, TensorType, attribute, encode_model};
use crate::training::testing::{Losses, assert_close, refusal};
use crate::training::{Samples, Targets, TrainingError, TrainingResult, train};

fn node(operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> Node {
    Node {
        name: format!("the_{output}"),
        operator: operator.into(),
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        outputs: vec![output.into()],
        attributes,
    }
}

/// `x [2, 4] → … → y`, with the weights `w` (4 × 1) and `b` (1).
fn forward(nodes: Vec<Node>) -> Graph {
    let mut graph = Graph {
        opset: 20,
        nodes,
        ..Graph::default()
    };
    graph
        .inputs
        .push(("x".into(), TensorType::new(ElementType::F32, [2, 4])));
    graph.outputs.push("y".into());
    graph
        .constants
        .insert("w".into(), Tensor::f32([4, 1], vec![0.1, 0.2, 0.3, 0.4]));
    graph.constants.insert("b".into(), Tensor::f32([1], vec![0.5]));
    graph
}

fn linear() -> Graph {
    forward(vec![
        node("MatMul", &["x", "w"], "xw", vec![]),
        node("Add", &["xw", "b"], "y", vec![]),
    ])
}

fn run(model: &ModelProto, further: &serde_json::Value) -> Result<TrainingResult, TrainingError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.onnx"), encode_model(model)).unwrap();
    let mut section = json!({"onnx": "m.onnx"});
    for (key, value) in further.as_object().unwrap() {
        section[key] = value.clone();
    }
    let document = json!({
        "model": section, "loss": "mse",
        "optimizer": {"name": "sgd", "learning_rate": 0.1}, "training": {"epochs": 20, "batch_size": 8},
    });
    let plan = ModelFile::from_value(document, folder.path())
        .resolve(&serde_json::Map::new())
        .unwrap()
        .plan;
    let inputs: Vec<f32> = (0..64).map(|at| ((at as f32) * 0.618).fract() - 0.5).collect();
    let values = inputs.chunks(4).map(|x| x[0] - 2.0 * x[1] + 0.5 * x[3]).collect();
    let samples = Samples {
        row_shape: vec![4],
        inputs: inputs.into(),
        targets: Targets::Values { width: 1, values },
        weights: None,
    };
    train(
        testing::engine(),
        &plan,
        &samples,
        &samples,
        None,
        &mut Losses::default(),
    )
}

fn message(graph: &Graph) -> String {
    run(&graph.to_model(), &json!({})).unwrap_err().to_string()
}

#[test]
fn a_model_with_a_fixed_batch_trains_at_any_batch_size_and_is_saved_with_an_open_one() {
    let result = run(&linear().to_model(), &json!({})).unwrap();
    assert!(result.loss.unwrap() < 0.1, "{:?}", result.loss);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.onnx");
    result.model.save(&path, None, &[]).unwrap();
    let saved = crate::graph::read_model(&path).unwrap();
    let shape = saved.graph.unwrap().input[0]
        .r#type
        .clone()
        .unwrap()
        .tensor_type
        .unwrap()
        .shape
        .unwrap();
    assert_eq!(shape.dim[0].dim_param.as_deref(), Some("batch"));
}

#[test]
fn frozen_weights_stay_and_others_move() {
    let result = run(&linear().to_model(), &json!({"freeze": ["w"]})).unwrap();
    let names: Vec<&str> = result.model.weights().map(|(name, ..)| name).collect();
    assert_eq!((names, result.parameters), (vec!["b"], 1));
    let all = run(&linear().to_model(), &json!({"freeze": ["w", "b"]})).unwrap_err();
    assert_eq!(all.to_string(), "the model has no trainable weights");
}

#[test]
fn shared_weights_train_with_all_their_gradients_and_unused_or_whole_numbers_stay() {
    let twice = |nodes: Vec<Node>| {
        let mut graph = forward(nodes);
        let order = Tensor::new([4], Elements::I64(vec![0, 1, 2, 3]));
        graph.constants.insert("order".into(), order);
        graph.constants.insert("two".into(), Tensor::f32([], vec![2.0]));
        let mut model = graph.to_model();
        let initializers = &mut model.graph.as_mut().unwrap().initializer;
        initializers.push(Tensor::f32([3], vec![7.0; 3]).to_proto("unused"));
        run(&model, &json!({})).unwrap()
    };
    let ordered = || node("Gather", &["x", "order"], "ordered", vec![attribute::int("axis", 1)]);
    let shared = twice(vec![
        ordered(),
        node("MatMul", &["ordered", "w"], "first", vec![]),
        node("MatMul", &["x", "w"], "second", vec![]),
        node("Add", &["first", "second"], "sum", vec![]),
        node("Add", &["sum", "b"], "y", vec![]),
    ]);
    let scaled = twice(vec![
        ordered(),
        node("MatMul", &["ordered", "w"], "first", vec![]),
        node("Mul", &["first", "two"], "sum", vec![]),
        node("Add", &["sum", "b"], "y", vec![]),
    ]);
    assert_eq!(shared.parameters, 5);
    let numbers = |result: &TrainingResult| -> Vec<f64> {
        let weights = result.model.weights();
        weights
            .flat_map(|(_, _, values)| values)
            .map(|value| f64::from(*value))
            .collect()
    };
    assert_close("weights", &numbers(&shared), &numbers(&scaled), 1e-5);

    let mut whole = forward(vec![
        node("Cast", &["whole"], "cast", vec![attribute::int("to", 1)]),
        node("MatMul", &["x", "cast"], "y", vec![]),
    ]);
    let ones = Tensor::new([4, 1], Elements::I64(vec![1; 4]));
    whole.constants.insert("whole".into(), ones);
    assert_eq!(message(&whole), "the model has no trainable weights");
}

#[test]
fn weights_are_drawn_anew_when_asked() {
    let first = run(&linear().to_model(), &json!({})).unwrap();
    let second = run(&linear().to_model(), &json!({"init": "he_normal"})).unwrap();
    assert_ne!(
        first.epochs[0].train_loss.to_bits(),
        second.epochs[0].train_loss.to_bits()
    );
}

#[test]
fn operators_of_older_operator_sets_keep_their_meaning() {
    let graph = forward(vec![
        node(
            "Clip",
            &["x"],
            "clipped",
            vec![attribute::float("min", -1.0), attribute::float("max", 1.0)],
        ),
        node("Unsqueeze", &["clipped"], "wide", vec![attribute::ints("axes", &[1])]),
        node("Squeeze", &["wide"], "narrow", vec![attribute::ints("axes", &[1])]),
        node("Dropout", &["narrow"], "dropped", vec![attribute::float("ratio", 0.0)]),
        node("MatMul", &["dropped", "w"], "xw", vec![]),
        node("Add", &["xw", "b"], "sum", vec![]),
        node(
            "ReduceSum",
            &["sum"],
            "y",
            vec![attribute::ints("axes", &[1]), attribute::int("keepdims", 0)],
        ),
    ]);
    let mut model = graph.to_model();
    model.opset_import[0].version = Some(9);
    let old = run(&model, &json!({})).unwrap();
    let new = run(&linear().to_model(), &json!({})).unwrap();
    assert!((old.loss.unwrap() - new.loss.unwrap()).abs() < 1e-6);
}

#[test]
fn models_that_cannot_be_trained_are_refused_with_a_reason() {
    let mut two_inputs = linear();
    two_inputs
        .inputs
        .push(("z".into(), TensorType::new(ElementType::F32, [1])));
    assert_eq!(
        message(&two_inputs),
        "model: it has 2 inputs (x, z), expected one; have the model take its inputs apart from one tensor"
    );
    let mut two_outputs = linear();
    two_outputs.outputs.push("xw".into());
    assert_eq!(
        message(&two_outputs),
        "model: it has 2 outputs (y, xw), expected one; export it with the prediction alone"
    );
    let mut integers = linear();
    integers.inputs[0].1.element = ElementType::I64;
    assert_eq!(message(&integers), "model: its input `x` is not of type float32");
    let mut wide = linear();
    wide.inputs[0].1.shape = vec![2, 5];
    assert_eq!(
        message(&wide),
        "model: its input `x` takes rows of shape [5], the data has rows of shape [4]: axis 1 must be 5, found 4; set \
         `data.shape`, or export the model with this axis dynamic"
    );
    let mut old = linear().to_model();
    old.opset_import[0].version = Some(7);
    assert_eq!(
        run(&old, &json!({})).unwrap_err().to_string(),
        "model: its operator set is 7, expected at least 9; export it anew with a newer one"
    );
    let mut custom = linear().to_model();
    custom.graph.as_mut().unwrap().node[0].domain = Some("com.example".into());
    assert_eq!(
        run(&custom, &json!({})).unwrap_err().to_string(),
        "model: node `the_xw`: operator `com.example::MatMul` is not of the standard set; export the model without \
         custom operators"
    );
    let wrong_width = forward(vec![node("Mul", &["x", "b"], "y", vec![])]);
    assert_eq!(
        message(&wrong_width),
        "the model's output `y` has shape [8, 4] for a batch of 8 rows, the data needs [8, 1]; if the first number is \
         not the batch size, export the model with a dynamic batch dimension"
    );
    let unknown = forward(vec![
        node("MatMul", &["x", "w"], "xw", vec![]),
        node("Hardmax", &["xw"], "y", vec![]),
    ]);
    assert!(message(&unknown).starts_with("node `the_y`: operator `Hardmax` has no gradient; "));
}

#[test]
fn a_missing_file_is_named() {
    let document = json!({"model": {"onnx": "absent.onnx"}, "loss": "mse"});
    let plan = ModelFile::from_value(document, Path::new("/models"))
        .resolve(&serde_json::Map::new())
        .unwrap()
        .plan;
    let samples = Samples {
        row_shape: vec![1],
        inputs: vec![0.0].into(),
        targets: Targets::Values {
            width: 1,
            values: vec![0.0],
        },
        weights: None,
    };
    assert_eq!(refusal(&plan, &samples), "cannot read `/models/absent.onnx`");
}

#[test]
fn a_shape_that_follows_from_values_is_explained_with_the_node_and_the_input() {
    let graph = forward(vec![
        node("MatMul", &["x", "w"], "xw", vec![]),
        node("NonZero", &["x"], "places", vec![]),
        node("Transpose", &["places"], "pairs", vec![]),
        node("GatherND", &["x", "pairs"], "picked", vec![]),
        node("Add", &["picked", "b"], "y", vec![]),
    ]);
    let error = run(&graph.to_model(), &json!({})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model: node `the_places`: how long the axes are of what `NonZero` makes from `x` [8, 4] depends on the values of \
         the input `x`, not on its shape alone, so training cannot be prepared; write it with operators of fixed size, \
         such as `Where` with a mask in the place of `NonZero`, and export the model anew"
    );
}
