//! Whole trainings on small data.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::engine::testing;
use crate::model::ModelFile;
use crate::training::random::{Purpose, Stream};

/// Collects what an observer is told, and stops where it is asked to.
#[derive(Debug, Default)]
struct Script {
    warnings: Vec<String>,
    reports: Vec<EpochReport>,
    polls: usize,
    /// Write a checkpoint and stop before this step, counted over all epochs.
    checkpoint_before: Option<usize>,
}

impl Observer for Script {
    fn epoch(&mut self, report: &EpochReport) -> Decision {
        self.reports.push(report.clone());
        Decision::Continue
    }

    fn poll(&mut self) -> Decision {
        self.polls += 1;
        if self.checkpoint_before == Some(self.polls) {
            Decision::CheckpointAndStop
        } else {
            Decision::Continue
        }
    }

    fn warning(&mut self, message: &str) {
        self.warnings.push(message.to_owned());
    }
}

fn plan(document: Value) -> TrainingPlan {
    ModelFile::from_value(document, Path::new("."))
        .resolve(&serde_json::Map::new())
        .unwrap()
        .plan
}

/// Three clusters in the plane, a little overlapping.
fn clusters(rows: usize, seed: u64) -> Samples {
    let mut stream = Stream::new(seed, Purpose::Weights, 99);
    let mut inputs = Vec::new();
    let mut labels = Vec::new();
    for row in 0..rows {
        let class = row % 3;
        let angle = class as f64 * 2.1;
        inputs.push((2.0 * angle.cos() + 0.5 * stream.normal()) as f32);
        inputs.push((2.0 * angle.sin() + 0.5 * stream.normal()) as f32);
        labels.push(class as i64);
    }
    Samples {
        row_shape: vec![2],
        inputs: inputs.into(),
        targets: Targets::Classes { labels, classes: 3 },
        weights: None,
    }
}

/// `y = (x₀ x₁, x₀ + x₁)`
fn surface(rows: usize) -> Samples {
    let mut stream = Stream::new(3, Purpose::Weights, 98);
    let inputs: Vec<f32> = (0..2 * rows).map(|_| (2.0 * stream.unit() - 1.0) as f32).collect();
    let values = inputs.chunks(2).flat_map(|x| [x[0] * x[1], x[0] + x[1]]).collect();
    Samples {
        row_shape: vec![2],
        inputs: inputs.into(),
        targets: Targets::Values { width: 2, values },
        weights: None,
    }
}

fn everything() -> Value {
    json!({
        "model": {"blocks": [
            {"dense": {"units": 16, "activation": "gelu"}},
            {"batch_norm": {}},
            {"dropout": {"rate": 0.2}},
            {"dense": {"units": 8, "activation": "tanh"}},
            {"layer_norm": {}},
        ]},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.05},
        "optimizer": {"name": "adamw", "learning_rate": 0.02, "weight_decay": 0.01},
        "training": {"epochs": 9, "batch_size": 32, "clip_norm": 1.0, "seed": 5},
    })
}

fn run(document: Value, train_set: &Samples, policy: Option<&CheckpointPolicy>, script: &mut Script) -> TrainingResult {
    train(
        testing::engine(),
        &plan(document),
        train_set,
        &clusters(60, 2),
        policy,
        script,
    )
    .unwrap()
}

fn weights(result: &TrainingResult) -> Vec<Vec<u32>> {
    result
        .model
        .weights()
        .map(|(_, _, values)| values.iter().map(|value| value.to_bits()).collect())
        .collect()
}

#[test]
fn a_network_with_every_block_learns_to_separate_clusters() {
    let result = run(everything(), &clusters(150, 1), None, &mut Script::default());
    assert_eq!(result.ended, Ended::Completed);
    assert_eq!(result.epochs.len(), 9);
    assert!(result.loss.unwrap() <= 0.05, "{:?}", result.loss);
    assert_eq!(
        result.parameters,
        (2 * 16 + 16) + 2 * 16 + (16 * 8 + 8) + 2 * 8 + (8 * 3 + 3)
    );
}

#[test]
fn every_loss_optimizer_and_schedule_reduces_the_regression_loss() {
    let samples = surface(200);
    let optimizers = [
        json!({"name": "sgd", "learning_rate": 0.4}),
        json!({"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": true, "weight_decay": 1e-4}),
        json!({"name": "adam", "learning_rate": 0.02}),
        json!({"name": "rmsprop", "learning_rate": 0.01}),
        json!({"name": "rmsprop", "learning_rate": 0.002, "momentum": 0.8}),
    ];
    let schedules = ["constant", "cosine", "one_cycle", "linear"];
    for (index, optimizer) in optimizers.into_iter().enumerate() {
        for loss in ["mse", "mae", "huber"] {
            let document = json!({
                "model": {"blocks": [{"dense": {"units": 16, "activation": "tanh"}}]},
                "loss": loss, "optimizer": optimizer, "schedule": schedules[index % schedules.len()],
                "training": {"epochs": 30, "batch_size": 20}, "objective": "r2",
            });
            let result = train(
                testing::engine(),
                &plan(document.clone()),
                &samples,
                &samples,
                None,
                &mut Script::default(),
            )
            .unwrap();
            assert!(result.loss.unwrap() < -0.6, "{document}: {:?}", result.loss);
        }
    }
}

#[test]
fn training_twice_gives_the_same_bits() {
    let first = run(everything(), &clusters(150, 1), None, &mut Script::default());
    let second = run(everything(), &clusters(150, 1), None, &mut Script::default());
    assert_eq!(weights(&first), weights(&second));
    let mut other = everything();
    other["training"]["seed"] = json!(6);
    assert_ne!(
        weights(&first),
        weights(&run(other, &clusters(150, 1), None, &mut Script::default()))
    );
}

fn without_time(reports: &[EpochReport]) -> Vec<EpochReport> {
    reports
        .iter()
        .map(|report| EpochReport {
            seconds: 0.0,
            ..report.clone()
        })
        .collect()
}

#[test]
fn three_epochs_and_six_more_equal_nine() {
    let folder = tempfile::tempdir().unwrap();
    let policy = CheckpointPolicy {
        directory: folder.path().to_owned(),
        every_epochs: 1,
        inherits: false,
    };
    let whole = run(everything(), &clusters(150, 1), None, &mut Script::default());
    let mut short = everything();
    short["training"]["epochs"] = json!(3);
    run(short, &clusters(150, 1), Some(&policy), &mut Script::default());
    let mut script = Script::default();
    let rest = run(everything(), &clusters(150, 1), Some(&policy), &mut script);
    assert_eq!(rest.resumed_from, Some(3));
    assert_eq!(script.reports.len(), 6);
    assert_eq!(weights(&whole), weights(&rest));
    assert_eq!(without_time(&whole.epochs), without_time(&rest.epochs));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "two generations are kept"
    );
}

#[test]
fn a_stop_in_the_middle_of_an_epoch_changes_nothing() {
    let whole = run(everything(), &clusters(150, 1), None, &mut Script::default());
    for step in [1, 8, 23] {
        let folder = tempfile::tempdir().unwrap();
        let policy = CheckpointPolicy {
            directory: folder.path().to_owned(),
            every_epochs: 0,
            inherits: false,
        };
        let mut script = Script {
            checkpoint_before: Some(step),
            ..Script::default()
        };
        let stopped = run(everything(), &clusters(150, 1), Some(&policy), &mut script);
        assert_eq!(stopped.ended, Ended::Checkpointed);
        let rest = run(everything(), &clusters(150, 1), Some(&policy), &mut Script::default());
        assert_eq!(weights(&whole), weights(&rest));
        assert_eq!(without_time(&whole.epochs), without_time(&rest.epochs));
    }
}

#[test]
fn a_checkpoint_of_another_plan_or_other_data_is_refused_and_a_damaged_one_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let policy = CheckpointPolicy {
        directory: folder.path().to_owned(),
        every_epochs: 1,
        inherits: false,
    };
    let data = clusters(150, 1);
    let mut short = everything();
    short["training"]["epochs"] = json!(3);
    run(short.clone(), &data, Some(&policy), &mut Script::default());

    // The newest of the two generations loses a byte; the one before it has two epochs.
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes.pop();
    std::fs::write(&files[1], bytes).unwrap();
    let mut script = Script::default();
    let resumed = run(short.clone(), &data, Some(&policy), &mut script);
    assert_eq!(resumed.resumed_from, Some(2));
    assert_eq!(
        script.warnings,
        [format!(
            "checkpoint `{}` is damaged; the one before it is tried",
            files[1].display()
        )]
    );

    let mut fewer = short.clone();
    fewer["training"]["epochs"] = json!(1);
    let mut script = Script::default();
    assert_eq!(run(fewer, &data, Some(&policy), &mut script).epochs.len(), 3);
    assert_eq!(
        script.warnings,
        ["the checkpoint has 3 epochs already, 1 were asked for"]
    );

    let mut other = short.clone();
    other["optimizer"]["learning_rate"] = json!(0.03);
    for (document, data) in [(other, data.clone()), (short, clusters(151, 1))] {
        let mut script = Script::default();
        let fresh = run(document, &data, Some(&policy), &mut script);
        assert_eq!(fresh.resumed_from, None);
        assert_eq!(script.warnings.len(), 1);
        assert!(script.warnings[0].ends_with("is of other hyperparameters or data; training begins anew"));
    }
}

#[test]
fn early_stopping_ends_when_the_objective_stays_and_the_best_weights_are_kept() {
    let mut document = everything();
    document["training"] = json!({"epochs": 200, "batch_size": 32, "early_stopping": {"patience": 3}});
    let result = run(document, &clusters(150, 1), None, &mut Script::default());
    assert_eq!(result.ended, Ended::EarlyStopped);
    let chosen = result.chosen.unwrap();
    assert_eq!(result.epochs.len(), chosen + 4);
    let best = result
        .epochs
        .iter()
        .map(|report| report.validation.get(Metric::Error))
        .fold(f64::MAX, f64::min);
    assert!((result.loss.unwrap() - best).abs() < 1e-15);
}

#[test]
fn a_loss_that_is_not_finite_says_epoch_and_step() {
    let document = json!({
        "model": {"blocks": [{"dense": {"units": 8}}]}, "loss": "mse",
        "optimizer": {"name": "sgd", "learning_rate": 1e30}, "training": {"epochs": 3, "batch_size": 50},
    });
    let samples = surface(200);
    let error = train(
        testing::engine(),
        &plan(document),
        &samples,
        &samples,
        None,
        &mut Script::default(),
    );
    let message = error.unwrap_err().to_string();
    assert!(
        message.starts_with("the training loss became ") && message.contains("at epoch 1, step "),
        "{message}"
    );
}

#[test]
fn mismatches_between_plan_and_data_are_explained() {
    let classes = clusters(30, 1);
    let values = surface(30);
    let base = |loss: &str| json!({"model": {"blocks": []}, "loss": loss, "objective": "loss"});
    let fail = |document: Value, samples: &Samples| {
        train(
            testing::engine(),
            &plan(document),
            samples,
            samples,
            None,
            &mut Script::default(),
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        fail(base("mse"), &classes),
        "`mse` needs values as targets, the data has classes"
    );
    let Targets::Values { values: numbers, .. } = &values.targets else {
        unreachable!("a surface has values")
    };
    assert_eq!(
        fail(base("cross_entropy"), &values),
        format!(
            "`cross_entropy` needs classes as targets, or one probability a class, which sum up to 1; row 0 of the \
             training set has {:?}",
            &numbers[..2]
        )
    );
    assert!(
        fail(base("binary_cross_entropy"), &values).starts_with("`binary_cross_entropy` needs values in [0, 1]; row ")
    );
    assert!(fail(base("poisson_nll"), &values).starts_with("`poisson_nll` needs counts, which are at least 0; row "));
    assert_eq!(
        fail(base("binary_cross_entropy"), &classes),
        "`binary_cross_entropy` needs two classes or values in [0, 1], the data has 3 classes; use `cross_entropy`"
    );
    let mut document = base("mse");
    document["objective"] = json!("accuracy");
    assert_eq!(
        fail(document, &values),
        "the metric `accuracy` does not exist for the loss `mse`; there are loss, mse, rmse, mae, r2, relative_error_95"
    );
    let mut wrong = classes.clone();
    let Targets::Classes { labels, .. } = &mut wrong.targets else {
        unreachable!("clusters are classes")
    };
    labels[4] = 7;
    assert_eq!(
        fail(base("cross_entropy"), &wrong),
        "the training set has the label 7 in row 4, expected 0 to 2"
    );
    let empty = Samples {
        inputs: vec![].into(),
        targets: Targets::Values {
            width: 1,
            values: vec![],
        },
        row_shape: vec![2],
        weights: None,
    };
    assert_eq!(fail(base("mse"), &empty), "the training set has no rows");
    let mut document = base("cross_entropy");
    document["model"]["blocks"] = json!([{"dense": {"units": 1_000_000_000_000_u64}}]);
    assert_eq!(
        fail(document, &classes),
        "model: it would have 6.0e12 weights, more than 5e8; make its layers smaller"
    );
    let mut document = base("cross_entropy");
    document["model"]["blocks"] = json!([{"batch_norm": {}}]);
    document["training"] = json!({"batch_size": 1});
    assert!(fail(document, &classes).contains("batch normalisation needs at least two values per channel, found 1"));
}

#[test]
fn binary_cross_entropy_takes_two_classes() {
    let mut samples = clusters(90, 1);
    let Targets::Classes { labels, classes } = &mut samples.targets else {
        unreachable!("clusters are classes")
    };
    for label in labels.iter_mut() {
        *label = i64::from(*label > 0);
    }
    *classes = 2;
    let document = json!({
        "model": {"blocks": [{"dense": {"units": 8, "activation": "relu"}}]}, "loss": "binary_cross_entropy",
        "optimizer": {"learning_rate": 0.05}, "training": {"epochs": 10, "batch_size": 16},
    });
    let result = train(
        testing::engine(),
        &plan(document),
        &samples,
        &samples,
        None,
        &mut Script::default(),
    )
    .unwrap();
    assert!(result.loss.unwrap() < 0.05, "{:?}", result.loss);
}

#[test]
fn a_saved_model_is_an_ordinary_forward_model_with_the_chosen_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let first = run(everything(), &clusters(150, 1), None, &mut Script::default());
    first
        .model
        .save(&path, None, &[("note".into(), "trained".into())])
        .unwrap();
    let file = crate::graph::read_model(&path).unwrap();
    assert_eq!(file.metadata_props[0].value.as_deref(), Some("trained"));
    // With a vanishing learning rate one more epoch changes nothing, so the file must give the same metrics but for
    // the running statistics, which a frozen form has not.
    let document = json!({
        "model": {"onnx": path}, "loss": {"name": "cross_entropy", "label_smoothing": 0.05},
        "optimizer": {"name": "sgd", "learning_rate": 1e-30}, "training": {"epochs": 1, "batch_size": 150},
    });
    let mut again = plan(document);
    again.optimizer.learning_rate = 1e-30;
    let second = train(
        testing::engine(),
        &again,
        &clusters(150, 1),
        &clusters(60, 2),
        None,
        &mut Script::default(),
    )
    .unwrap();
    let changed: Vec<&str> = first
        .model
        .weights()
        .zip(second.model.weights())
        .filter(|(first, second)| first != second)
        .map(|((name, ..), _)| name)
        .collect();
    assert_eq!(changed, ["batch_norm_1.mean", "batch_norm_1.variance"]);
}

#[test]
fn a_folder_that_is_not_there_is_named_when_a_model_is_saved() {
    let result = run(everything(), &clusters(150, 1), None, &mut Script::default());
    let error = result
        .model
        .save(Path::new("/nonexistent/model.onnx"), None, &[])
        .unwrap_err();
    assert_eq!(error.to_string(), "cannot write `/nonexistent/model.onnx`");
}

#[test]
fn the_summary_lists_shapes_and_parameters() {
    let samples = clusters(10, 1);
    let layers = summarize(testing::engine(), &plan(everything()), &[2], &samples.targets).unwrap();
    assert_eq!(layers[0].output_shape, [16]);
    assert_eq!(layers[0].parameters, 48);
    assert_eq!(
        layers.iter().map(|layer| layer.parameters).sum::<usize>(),
        48 + 32 + 136 + 16 + 27
    );
}

#[test]
fn every_engine_trains_to_the_same_losses() {
    let document = {
        let mut document = everything();
        document["training"]["epochs"] = json!(2);
        document
    };
    let (train_set, validation) = (clusters(40, 1), clusters(20, 2));
    let on = |engine: &dyn crate::engine::Engine| {
        let plan = plan(document.clone());
        train(engine, &plan, &train_set, &validation, None, &mut Script::default()).unwrap()
    };
    let first = on(testing::engine());
    let others: &[&dyn crate::engine::Engine] = &[
        &crate::engine::reference::Reference,
        #[cfg(feature = "rten")]
        testing::embedded(),
    ];
    for engine in others {
        for (first, second) in first.epochs.iter().zip(&on(*engine).epochs) {
            let error = (first.train_loss - second.train_loss).abs();
            assert!(error < 1e-5, "{} is not {}", first.train_loss, second.train_loss);
        }
    }
}

#[test]
fn a_file_is_replaced_whole_and_a_device_is_left_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for text in ["first", "second"] {
        checkpoint::write_whole(&path, text.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let link = folder.path().join("zero");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    checkpoint::write_whole(&link, b"nothing").unwrap();
    assert!(link.is_symlink());
}
