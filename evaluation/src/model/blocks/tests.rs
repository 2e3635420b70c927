//! Every block: its shape, that it trains, and that the saved file predicts the same.

use serde_json::{Value, json};

use crate::engine::testing;
use crate::graph::Tensor;
use crate::model::import::Imported;
use crate::model::{Architecture, ModelFile};
use crate::training::random::{Purpose, Stream};
use crate::training::testing::{Losses, assert_close};
use crate::training::{Samples, Targets, TrainingError, TrainingResult, train};

const ROWS: usize = 24;

fn run(
    blocks: &Value,
    head: bool,
    row_shape: &[usize],
    outputs: usize,
) -> Result<(TrainingResult, Samples), TrainingError> {
    let document = json!({
        "model": {"blocks": blocks, "head": head}, "loss": "mse",
        "optimizer": {"name": "sgd", "learning_rate": 0.05}, "training": {"epochs": 6, "batch_size": 8, "keep": "last"},
    });
    let plan = ModelFile::from_value(document, std::path::Path::new("."))
        .resolve(&serde_json::Map::new())
        .unwrap()
        .plan;
    let mut stream = Stream::new(7, Purpose::Weights, 77);
    let size: usize = row_shape.iter().product();
    // Whole numbers from 0 to 2 serve blocks that take classes too.
    let inputs: Vec<f32> = (0..ROWS * size).map(|_| stream.below(3) as f32).collect();
    let values = inputs
        .chunks(size)
        .flat_map(|row| (0..outputs).map(|output| row[output % size] / 2.0 + 0.1 * output as f32))
        .collect();
    let samples = Samples {
        row_shape: row_shape.to_vec(),
        inputs: inputs.into(),
        targets: Targets::Values { width: outputs, values },
        weights: None,
    };
    let mut losses = Losses::default();
    let result = train(testing::engine(), &plan, &samples, &samples, None, &mut losses)?;
    #[cfg(feature = "rten")]
    {
        let mut embedded = Losses::default();
        train(testing::embedded(), &plan, &samples, &samples, None, &mut embedded)?;
        let (found, expected) = (&embedded.steps[..3], &losses.steps[..3]);
        assert_close("the first losses on the embedded engine", found, expected, 1e-5);
    }
    Ok((result, samples))
}

/// The mean squared error of a saved file's predictions, by the engine alone.
fn error_of_file(result: &TrainingResult, samples: &Samples, outputs: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    result.model.save(&path, &[]).unwrap();
    let imported = Imported::new(crate::graph::read_model(&path).unwrap(), &[]).unwrap();
    let mut graph = imported.graph.clone();
    crate::training::lowering::for_inference(&mut graph);
    let shape = [&[ROWS], &samples.row_shape[..]].concat();
    let input = Tensor::f32(shape, samples.inputs.resident().unwrap().to_vec());
    let kind = crate::graph::TensorType::new(crate::graph::ElementType::F32, input.shape.clone());
    graph.inputs = vec![(imported.input.clone(), kind)];
    graph.outputs = vec![imported.output.clone()];
    let results = testing::engine().run(&graph, vec![(imported.input, input)]).unwrap();
    let predictions = results[0].as_f32().unwrap();
    assert_eq!(predictions.len(), ROWS * outputs);
    let Targets::Values { values, .. } = &samples.targets else {
        unreachable!("the targets are values")
    };
    let squares = predictions
        .iter()
        .zip(values)
        .map(|(z, t)| f64::from(z - t) * f64::from(z - t));
    squares.sum::<f64>() / predictions.len() as f64
}

/// Blocks, shape of rows, trainable numbers without the last dense layer, and inputs of that layer.
fn cases() -> Vec<(Value, Vec<usize>, usize, usize)> {
    vec![
        (json!([{"dense": {"units": 5, "activation": "relu"}}]), vec![4], 25, 5),
        (
            json!([{"dense": {"units": 5, "per_position": true, "bias": false}}]),
            vec![3, 4],
            20,
            15,
        ),
        (
            json!([{"conv": {"filters": 3}}, {"activation": "relu"}]),
            vec![2, 5, 5],
            57,
            75,
        ),
        (
            json!([{"conv": {"filters": 4, "kernel": [3, 1], "stride": 2, "padding": "valid", "groups": 2}}]),
            vec![2, 5, 5],
            4 * 3 + 4,
            4 * 2 * 3,
        ),
        (
            json!([{"conv": {"filters": 4, "kernel": 3, "dilation": 2, "groups": "channels", "batch_norm": true}}]),
            vec![2, 6],
            4 * 3 + 8,
            24,
        ),
        (
            json!([{"conv": {"filters": 2, "kernel": 2, "padding": 1}}]),
            vec![1, 2, 2, 2],
            18,
            54,
        ),
        (
            json!([{"conv_transpose": {"filters": 3}}]),
            vec![2, 3, 2],
            27,
            3 * 6 * 4,
        ),
        (
            json!([{"conv_transpose": {"filters": 3, "kernel": 3, "padding": "same"}}]),
            vec![2, 3],
            21,
            18,
        ),
        (json!([{"conv": {"filters": 2}}, {"pool": {}}]), vec![1, 4, 4], 20, 8),
        (
            json!([{"conv": {"filters": 2}}, {"pool": {"kind": "mean", "size": 3, "stride": 2, "padding": 1}}]),
            vec![1, 4, 4],
            20,
            8,
        ),
        (
            json!([{"conv": {"filters": 3}}, {"global_pool": {}}]),
            vec![1, 4, 4],
            30,
            3,
        ),
        (
            json!([{"conv": {"filters": 3}}, {"global_pool": {"kind": "max"}}]),
            vec![2, 4],
            21,
            3,
        ),
        (
            json!([{"dense": {"units": 6, "per_position": true}}, {"global_pool": {}}]),
            vec![3, 2],
            18,
            6,
        ),
        (
            json!([{"dense": {"units": 6, "per_position": true}}, {"position": {"at": -1}}]),
            vec![3, 2],
            18,
            6,
        ),
        (
            json!([{"conv": {"filters": 4}}, {"group_norm": {"groups": 2}}]),
            vec![1, 4, 4],
            48,
            64,
        ),
        (
            json!([{"conv": {"filters": 4}}, {"group_norm": {"groups": "channels"}}]),
            vec![1, 4],
            24,
            16,
        ),
        (json!([{"batch_norm": {}}, {"dropout": {"rate": 0.1}}]), vec![4], 8, 4),
        (json!([{"layer_norm": {}}]), vec![3, 4], 8, 12),
        (
            json!([{"residual": {"activation": "relu", "blocks": [
                {"conv": {"filters": 4, "stride": 2, "batch_norm": true, "activation": "relu"}},
                {"conv": {"filters": 4, "batch_norm": true}},
            ]}}]),
            vec![2, 5, 5],
            4 * 18 + 8 + 4 * 36 + 8 + 8,
            36,
        ),
        (
            json!([{"residual": {"blocks": [{"dense": {"units": 4, "activation": "tanh"}}]}}]),
            vec![4],
            20,
            4,
        ),
        (
            json!([{"residual": {"blocks": [{"dense": {"units": 5}}]}}]),
            vec![4],
            25 + 20,
            5,
        ),
        (
            json!([{"parallel": {"branches": [[{"conv": {"filters": 2, "kernel": 1}}], [{"conv": {"filters": 3}}], []]}}]),
            vec![1, 3, 3],
            4 + 30,
            6 * 9,
        ),
        (
            json!([{"parallel": {"join": "add", "branches": [[{"dense": {"units": 3}}], [{"dense": {"units": 3}}]]}}]),
            vec![2],
            18,
            3,
        ),
        (json!([{"attention": {"heads": 2}}]), vec![3, 4], 4 * 12 + 12 + 20, 12),
        (
            json!([{"attention": {"heads": 1, "causal": true, "dropout": 0.1}}]),
            vec![3, 4],
            80,
            12,
        ),
        (
            json!([{"transformer": {"heads": 2, "feed_forward": 6, "dropout": 0.1, "repeat": 2}}]),
            vec![3, 4],
            2 * (80 + 16 + 30 + 28),
            12,
        ),
        (
            json!([{"positions": {}}, {"transformer": {"feed_forward": 6, "norm_first": false, "activation": "relu"}}]),
            vec![3, 4],
            12 + 80 + 16 + 30 + 28,
            12,
        ),
        (json!([{"positions": {"kind": "sines"}}]), vec![3, 4], 0, 12),
        (json!([{"embedding": {"vocabulary": 3, "width": 4}}]), vec![3], 12, 12),
        (
            json!([{"feature_tokens": {"width": 4}}, {"position": {}}]),
            vec![3],
            4 + 24,
            4,
        ),
        (
            json!([{"feature_tokens": {"width": 4, "categorical": [[0, 3], [2, 4]], "class_token": false}}]),
            vec![3],
            8 + 28,
            12,
        ),
        (
            json!([{"feature_tokens": {"width": 2, "categorical": [[0, 3]], "class_token": false}}]),
            vec![1],
            6,
            2,
        ),
        (
            json!([{"reshape": {"shape": [2, 2, 3]}}, {"conv": {"filters": 2, "kernel": 1}}]),
            vec![12],
            6,
            12,
        ),
        (
            json!([{"permute": {"order": [1, 0]}}, {"dense": {"units": 2, "per_position": true}}]),
            vec![3, 4],
            8,
            8,
        ),
        (json!([{"flatten": {}}]), vec![3, 4], 0, 12),
    ]
}

#[test]
fn every_block_has_its_shape_trains_and_predicts_the_same_from_its_file() {
    for (blocks, row_shape, weights, inputs) in cases() {
        let outputs = 2;
        let (result, samples) =
            run(&blocks, true, &row_shape, outputs).unwrap_or_else(|error| panic!("{blocks}: {error}"));
        assert_eq!(result.parameters, weights + (inputs + 1) * outputs, "{blocks}");
        let (first, last) = (result.epochs[0].train_loss, result.epochs[5].train_loss);
        assert!(last < first, "{blocks}: the loss goes from {first} to {last}");
        let found = error_of_file(&result, &samples, outputs);
        let expected = result.loss.unwrap();
        assert!(
            (found - expected).abs() < 1e-6 * expected.max(1.0),
            "{blocks}: {found} is not {expected}"
        );
    }
}

#[test]
fn recurrent_layers_have_their_shapes() {
    for (fields, weights, inputs) in [
        (json!({"units": 3}), 4 * 3 * (2 + 3 + 2), 3),
        (
            json!({"cell": "gru", "units": 3, "output": "sequence"}),
            3 * 3 * (2 + 3 + 2),
            12,
        ),
        (
            json!({"cell": "rnn", "units": 3, "bidirectional": true}),
            2 * 3 * (2 + 3 + 2),
            6,
        ),
        (
            json!({"units": 3, "repeat": 2}),
            4 * 3 * (2 + 3 + 2) + 4 * 3 * (3 + 3 + 2),
            3,
        ),
    ] {
        let blocks = json!([{"recurrent": fields}]);
        let (result, samples) = run(&blocks, true, &[4, 2], 1).unwrap_or_else(|error| panic!("{blocks}: {error}"));
        assert_eq!(result.parameters, weights + inputs + 1, "{blocks}");
        assert!(result.epochs[5].train_loss < result.epochs[0].train_loss, "{blocks}");
        let (found, expected) = (error_of_file(&result, &samples, 1), result.loss.unwrap());
        assert!((found - expected).abs() < 1e-6, "{blocks}: {found} is not {expected}");
    }
}

#[test]
fn a_model_without_a_head_predicts_what_its_last_block_makes() {
    let blocks = json!([{"conv": {"filters": 3}}, {"global_pool": {}}]);
    let (result, _) = run(&blocks, false, &[1, 4, 4], 3).unwrap();
    assert_eq!(result.parameters, 30);
    assert_eq!(
        run(&blocks, false, &[1, 4, 4], 2).unwrap_err().to_string(),
        "model: the last block makes rows of shape [3], the data needs 2 numbers; add a block, or leave out \
         `\"head\": false`"
    );
}

#[test]
fn what_does_not_fit_is_explained_with_its_block() {
    let image = [2, 5, 5];
    for (blocks, row_shape, expected) in [
        (
            json!([{"conv": {"filters": 2}}]),
            &[8][..],
            "block `conv_0`: needs images, rows of shape [channels, …] with one to three more axes, found [8]; set \
             `data.shape`, or use `reshape` before it",
        ),
        (
            json!([{"conv": {"filters": 3, "groups": 2}}]),
            &image,
            "block `conv_0`: `groups` (2) must divide the channels (2) and `filters` (3)",
        ),
        (
            json!([{"conv": {"filters": 3, "kernel": [3, 3, 3]}}]),
            &image,
            "block `conv_0`: `kernel` has 3 numbers for an image of 2 axes",
        ),
        (
            json!([{"conv": {"filters": 3, "kernel": 7, "padding": "valid"}}]),
            &image,
            "block `conv_0`: makes rows of shape [3, 0, 0], which are empty; use smaller windows or fewer strides",
        ),
        (
            json!([{"pool": {"padding": 2}}]),
            &image,
            "block `pool_0`: `padding` must be smaller than `size`",
        ),
        (
            json!([{"residual": {"blocks": [{"global_pool": {}}]}}]),
            &image,
            "block `residual_0`: its blocks turn rows of shape [2, 5, 5] into [2], which no shortcut can follow; keep the \
             axes",
        ),
        (
            json!([{"residual": {"blocks": [{"attention": {}}]}}]),
            &[4],
            "block `residual_0.attention_0`: needs sequences, rows of shape [length, features], found [4]; use `reshape` \
             or `permute` before it",
        ),
        (
            json!([{"attention": {"heads": 3}}]),
            &[2, 4],
            "block `attention_0`: `heads` (3) must divide the features (4)",
        ),
        (
            json!([{"conv": {"filters": 3}}, {"recurrent": {"units": 2}}]),
            &[2, 4],
            "block `recurrent_1`: needs sequences, found channels of a convolution; use `permute` with [1, 0] before it",
        ),
        (
            json!([{"batch_norm": {}}]),
            &[2, 4],
            "block `batch_norm_0`: normalises features or channels, found sequences; use `layer_norm`",
        ),
        (
            json!([{"group_norm": {"groups": 3}}]),
            &image,
            "block `group_norm_0`: `groups` (3) must divide the channels (2)",
        ),
        (
            json!([{"parallel": {"branches": [[], [{"flatten": {}}]]}}]),
            &image,
            "block `parallel_0`: its branches make rows of shapes [2, 5, 5] and [50]",
        ),
        (
            json!([{"feature_tokens": {"width": 2, "categorical": [[4, 3]]}}]),
            &[4],
            "block `feature_tokens_0`: `categorical` names column 4, there are 4, counted from 0",
        ),
        (
            json!([{"reshape": {"shape": [3, 3]}}]),
            &[8],
            "block `reshape_0`: rows of shape [8] cannot get the shape [3, 3]",
        ),
        (
            json!([{"permute": {"order": [0, 0]}}]),
            &[2, 4],
            "block `permute_0`: `order` must name each axis of rows of shape [2, 4] once, from 0, found [0, 0]",
        ),
        (
            json!([{"position": {"at": 5}}]),
            &[2, 4],
            "block `position_0`: position 5 is outside of a sequence of 2",
        ),
    ] {
        let error = run(&blocks, true, row_shape, 1).unwrap_err().to_string();
        assert_eq!(error, format!("model: {expected}"), "{blocks}");
    }
}

#[test]
fn blocks_grow_by_expressions_over_hyperparameters_and_repetitions() {
    let document = json!({
        "model": {"blocks": [
            {"conv": {"filters": "$filters", "activation": "relu"}},
            {"repeat": {"times": "=$stages - 1", "index": "stage", "blocks": [
                {"residual": {"blocks": [
                    {"conv": {"filters": "= $filters * 2 ^ (stage + 1)", "stride": "=2 if stage > 0 else 1"}},
                    {"repeat": {"times": 1, "blocks": [{"dropout": {"rate": "=0.1 * index"}}]}},
                ]}},
            ]}},
        ]},
        "loss": "mse",
    });
    let point = json!({"filters": 8, "stages": 3});
    let resolved = ModelFile::from_value(document, std::path::Path::new("."))
        .resolve(point.as_object().unwrap())
        .unwrap();
    assert!(resolved.warnings.is_empty(), "{:?}", resolved.warnings);
    let Architecture::Blocks { blocks, .. } = resolved.plan.architecture else {
        unreachable!("blocks were given")
    };
    let text = serde_json::to_value(&blocks).unwrap();
    assert_eq!(text[1]["residual"]["blocks"][0]["conv"]["filters"], 16);
    assert_eq!(text[2]["residual"]["blocks"][0]["conv"]["filters"], 32);
    assert_eq!(text[2]["residual"]["blocks"][0]["conv"]["stride"], json!([2]));
    assert_eq!(blocks.len(), 3);
}
