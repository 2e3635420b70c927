//! Every message of the model file, and what a file means.

use serde_json::{Value, json};

use super::*;
use crate::training::{Metric, Rule, Shape};

fn resolve(document: Value, point: Value) -> Result<Resolved, ModelError> {
    let Value::Object(point) = point else {
        unreachable!("points are objects")
    };
    ModelFile::from_value(document, Path::new("/models")).resolve(&point)
}

fn message(document: Value, point: Value) -> String {
    resolve(document, point).unwrap_err().to_string()
}

fn with(key: &str, value: Value) -> Value {
    let mut document = json!({"model": {"blocks": []}, "loss": "mse"});
    document[key] = value;
    document
}

#[test]
fn references_take_the_values_of_the_point_and_blocks_repeat() {
    let document = json!({
        "data": {"scale": "$scale", "note": "$$5"},
        "model": {"blocks": [
            {"dense": {"units": "$units", "activation": "$activation", "repeat": "$layers"}},
            {"repeat": {"times": 2, "blocks": [{"dropout": {"rate": 0.1}}, {"layer_norm": {}}]}}
        ]},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": "$rate", "momentum": 0.9},
        "schedule": "cosine",
        "training": {"epochs": 7},
    });
    let point =
        json!({"units": 64.0, "activation": "relu", "layers": 2, "rate": 0.1, "scale": 2, "extra": 1, "hpo.epochs": 3});
    let resolved = resolve(document, point).unwrap();
    let Architecture::Blocks { blocks, .. } = &resolved.plan.architecture else {
        panic!("blocks were given")
    };
    assert_eq!(blocks.len(), 6);
    assert_eq!(
        blocks[1],
        Block::Dense {
            units: 64,
            bias: true,
            activation: Activation::Relu,
            per_position: false,
        }
    );
    assert_eq!(resolved.data, json!({"scale": 2, "note": "$5"}));
    assert_eq!(
        resolved.warnings,
        ["nothing in the model file refers to the hyperparameter `extra`"]
    );
    assert!(matches!(
        resolved.plan.schedule.shape,
        Shape::Cosine { total_epochs: 7, .. }
    ));
    assert!(matches!(resolved.plan.optimizer.rule, Rule::Sgd(_)));
    assert_eq!(resolved.plan.objective.metric, Metric::Error);
}

#[test]
fn a_missing_hyperparameter_is_named_with_the_nearest_one() {
    assert_eq!(
        message(
            json!({"model": {"blocks": [{"dense": {"units": "$unit"}}]}, "loss": "mse"}),
            json!({"units": 3})
        ),
        "model file: `/model/blocks/0/dense/units` refers to the hyperparameter `unit`, the point has `units`; did you \
         mean `units`?"
    );
}

#[test]
fn unknown_keys_are_errors_with_the_nearest_known_name() {
    assert_eq!(
        message(with("trainig", json!({})), json!({})),
        "model file: `/trainig` is unknown; known are `data`, `model`, `loss`, `optimizer`, `schedule`, `training`, \
         `objective`, `metrics`, `description`, `$schema`; did you mean `training`?"
    );
    assert_eq!(
        message(with("optimizer", json!({"name": "adam", "momentum": 0.9})), json!({})),
        "model file: `/optimizer/momentum` is unknown; known are `name`, `learning_rate`, `weight_decay`, `betas`, \
         `epsilon`, `decay`, `groups`"
    );
}

#[test]
fn wrong_values_name_place_expectation_finding_and_hyperparameter() {
    let cases = [
        (
            with("training", json!({"epochs": 0})),
            "`/training/epochs` must be an integer of at least 1, found `0`",
        ),
        (
            with("training", json!({"batch_size": "$b"})),
            "`/training/batch_size` must be an integer of at least 1, found `2.5` (hyperparameter `b`)",
        ),
        (
            with("optimizer", json!({"learning_rate": -1})),
            "`/optimizer/learning_rate` must be a number above 0, found `-1`",
        ),
        (
            with("optimizer", json!({"name": "adm"})),
            "`/optimizer/name` must be one of `sgd`, `adam`, `adamw`, `radam`, `rmsprop`, `adagrad`, `lion`, found \
             `\"adm\"`; did you mean `adam`?",
        ),
        (
            with("optimizer", json!({"name": "sgd", "nesterov": true})),
            "`/optimizer/nesterov` needs a `momentum` above 0",
        ),
        (
            with("optimizer", json!({"betas": [0.9]})),
            "`/optimizer/betas` must be two numbers in [0, 1), found `[0.9]`",
        ),
        (
            with("model", json!({})),
            "`/model` must be an object with `blocks` or `onnx`, found `{}`",
        ),
        (
            with("model", json!({"onnx": 3})),
            "`/model/onnx` must be the path of an ONNX file, found `3`",
        ),
        (
            with("model", json!({"blocks": 3})),
            "`/model/blocks` must be a list of blocks, found `3`",
        ),
        (
            with("model", json!({"blocks": [{}]})),
            "`/model/blocks/0` must be an object with one key, the kind of the block, found `{}`",
        ),
        (
            with("model", json!({"blocks": [{"dropout": {"rate": 1.0}}]})),
            "`/model/blocks/0/dropout/rate` must be a number in [0, 1), found `1.0`",
        ),
        (
            with(
                "model",
                json!({"blocks": [{"dense": {"units": 4, "repeat": 1_000_000}}]}),
            ),
            "`/model/blocks/0` makes more than 1000 blocks",
        ),
        (
            with("model", json!({"blocks": [], "freeze": ["a"]})),
            "`/model/freeze` is for models from a file (`onnx`) only",
        ),
        (
            with("schedule", json!({"name": "multistep", "milestones": [3, 1]})),
            "`/schedule/milestones` must be a list of ascending integers, found `[3,1]`",
        ),
        (
            with("objective", json!({"mode": true})),
            "`/objective/mode` must be one of `min`, `max`, found `true`",
        ),
        (
            with("objective", json!("top_k")),
            "`/objective/metric` must be one of `loss`, `accuracy`, `error`, `top_5`, `auc`, `mse`, `rmse`, `mae`, \
             `r2`, `relative_error_95` (with numbers of your choice), found `\"top_k\"`; did you mean `top_5`?",
        ),
        (
            with("metrics", json!("auc")),
            "`/metrics` must be a list of names of metrics, found `\"auc\"`",
        ),
        (
            with("loss", json!({"name": "quantile", "quantiles": [0.5, 0.5]})),
            "`/loss/quantiles` must be ascending, without repetitions",
        ),
        (
            with("loss", json!({"name": "cross_entropy", "class_weights": [0, 0]})),
            "`/loss/class_weights` must be `balanced` or a list of numbers of at least 0, not all 0, found `[0,0]`",
        ),
        (
            with("loss", json!({"name": "mse", "delta": 1})),
            "`/loss/delta` is unknown; known are `name`",
        ),
        (
            with("schedule", json!({"name": "table", "epochs": [1], "factors": [1]})),
            "`/schedule/epochs` must begin at 0 and have an epoch for each of `factors`",
        ),
        (
            with("optimizer", json!({"groups": [{}]})),
            "`/optimizer/groups/0` must be an object with `parameters`, a list of names of weights, found `{}`",
        ),
        (
            with("training", json!({"average": 1})),
            "`/training/average` must be a number in [0, 1), found `1`",
        ),
        (json!([]), "`` must be an object, found `[]`"),
        (
            json!({"model": {"blocks": []}}),
            "`/loss` is missing; it must be one of `cross_entropy`, `binary_cross_entropy`, `mse`, `mae`, `huber`, \
             `poisson_nll`, `gaussian_nll`, `quantile`, `graph`",
        ),
    ];
    for (document, expected) in cases {
        assert_eq!(message(document, json!({"b": 2.5})), format!("model file: {expected}"));
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    let name = path.display();
    assert_eq!(
        ModelFile::read(&path).unwrap_err().to_string(),
        format!("cannot read model file `{name}`")
    );
    std::fs::write(&path, "").unwrap();
    let message = |path| ModelFile::read(path).unwrap_err().to_string();
    assert_eq!(
        message(&path),
        format!("model file `{name}` is not valid JSON: the file is empty")
    );
    std::fs::write(&path, "{\"model\": ").unwrap();
    assert!(message(&path).starts_with(&format!("model file `{name}` is not valid JSON: EOF while parsing")));
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(message(&path).contains("it is not UTF-8"));
}

#[test]
fn another_number_of_epochs_stretches_the_schedule() {
    let file = ModelFile::from_value(with("schedule", json!("cosine")), Path::new(".")).with_epochs(81);
    let plan = file.resolve(&Map::new()).unwrap().plan;
    assert!(matches!(plan.schedule.shape, Shape::Cosine { total_epochs: 81, .. }));
    assert_eq!(plan.epochs, 81);
}

#[test]
fn an_error_inside_a_repetition_names_the_place_in_the_file() {
    let blocks = |rate: &str| {
        with(
            "model",
            json!({"blocks": [
                {"flatten": {}},
                {"repeat": {"times": 3, "blocks": [{"flatten": {}}, {"dropout": {"rate": rate}}]}},
                {"dense": {"units": 0}},
            ]}),
        )
    };
    assert_eq!(
        message(blocks("=0.5 * index"), json!({})),
        "model file: `/model/blocks/1/repeat/blocks/1/dropout/rate` must be a number in [0, 1), found `1`"
    );
    assert_eq!(
        message(blocks("=0.1"), json!({})),
        "model file: `/model/blocks/2/dense/units` must be an integer of at least 1, found `0`"
    );
    assert_eq!(
        message(blocks("=$ratio"), json!({"rate": 1})),
        "model file: `/model/blocks/1/repeat/blocks/1/dropout/rate` refers to the hyperparameter `ratio`, the point has \
         `rate`; did you mean `rate`? (in the expression `=$ratio`)"
    );
    assert_eq!(
        message(blocks("=stage"), json!({})),
        "model file: `/model/blocks/1/repeat/blocks/1/dropout/rate` has the name `stage`, which is no repetition around \
         it; hyperparameters are written `$stage` (in the expression `=stage`)"
    );
}

#[test]
fn repetitions_of_the_wrong_form_are_explained() {
    for (repeat, expected) in [
        (
            json!({"blocks": []}),
            "/times` must be an integer of at least 0, found `null`",
        ),
        (
            json!({"times": 1.5, "blocks": []}),
            "/times` must be an integer of at least 0, found `1.5`",
        ),
        (json!({"times": 1}), "/blocks` must be a list of blocks"),
        (
            json!({"times": 1, "blocks": [], "index": 3}),
            "/index` must be a name, found `3`",
        ),
        (
            json!({"times": 1, "block": []}),
            "/block` is unknown; known are `times`, `index`, `blocks`",
        ),
        (
            json!({"times": 1e9, "blocks": [{"flatten": {}}]}),
            "` makes more than 1000 blocks",
        ),
    ] {
        assert_eq!(
            message(with("model", json!({"blocks": [{"repeat": repeat}]})), json!({})),
            format!("model file: `/model/blocks/0/repeat{expected}")
        );
    }
    assert_eq!(
        message(with("model", json!({"blocks": [{"repeat": 3}]})), json!({})),
        "model file: `/model/blocks/0/repeat` must be an object with `times` and `blocks`, found `3`"
    );
}

#[test]
fn a_choice_takes_one_branch_and_uses_the_names_in_all() {
    let document = with(
        "optimizer",
        json!({
            "$choose": "$optimizer",
            "sgd": {"name": "sgd", "momentum": "$momentum"},
            "adam": {"name": "adam", "betas": ["$beta", "=1 - $rest"]},
        }),
    );
    let resolved = resolve(
        document.clone(),
        json!({"optimizer": "sgd", "momentum": 0.5, "beta": 0.1, "rest": 0.1}),
    )
    .unwrap();
    assert!(resolved.warnings.is_empty(), "{:?}", resolved.warnings);
    assert_eq!(resolved.plan.optimizer.rule.name(), "sgd");
    // What the branch that is not taken refers to need not exist.
    assert!(resolve(document.clone(), json!({"optimizer": "sgd", "momentum": 0.5})).is_ok());
    assert_eq!(
        message(document.clone(), json!({"optimizer": "lion"})),
        "model file: `/optimizer/$choose` must be one of `sgd`, `adam`, found `lion`"
    );
    assert_eq!(
        message(document, json!({"optimizer": "sgd", "momentum": 2})),
        "model file: `/optimizer/sgd/momentum` must be a number in [0, 1), found `2` (hyperparameter `momentum`)"
    );
}

#[test]
fn templates_name_files_by_hyperparameters() {
    let document = |name: &str| with("model", json!({"onnx": name}));
    let resolved = resolve(
        document("cnn_{depth}_{kind}.onnx"),
        json!({"depth": 18.0, "kind": "wide"}),
    )
    .unwrap();
    let Architecture::Onnx { path, .. } = resolved.plan.architecture else {
        unreachable!("a file was given")
    };
    assert_eq!(path, Path::new("/models/cnn_18_wide.onnx"));
    assert!(resolved.warnings.is_empty());
    assert_eq!(
        message(document("cnn_{depth.onnx"), json!({"depth": 18})),
        "model file: `/model/onnx` has a `{` without its `}`: `cnn_{depth.onnx`"
    );
}
