//! What a manager sees of a running evaluation, and what it may ask of it.

use protocol::report::Report;
use serde_json::json;

use crate::support::{Work, blobs, fixture, model};

fn reports(work: &Work) -> Vec<Report> {
    work.read("reports")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_epoch_is_reported() {
    let work = Work::new(&model(&blobs()));
    let output = work
        .command(&["--quiet", "--device", "cpu", "--data", &fixture("blobs.csv")])
        .env("HPO_REPORT_FILE", work.path("reports"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let reports = reports(&work);
    assert_eq!(
        reports.iter().map(|report| report.epoch).collect::<Vec<_>>(),
        (1..=12).collect::<Vec<_>>()
    );
    let best = reports
        .iter()
        .filter_map(|report| report.loss)
        .fold(f64::INFINITY, f64::min);
    assert_eq!(work.json("output.json")["loss"], json!(best));
    assert!(reports[0].metrics.contains_key("accuracy") && reports[0].metrics.contains_key("train_loss"));
}

#[test]
fn stop_ends_with_the_loss_so_far() {
    let work = Work::new(&model(&blobs()));
    work.write("decision", "stop\n");
    let output = work
        .command(&["--quiet", "--device", "cpu", "--data", &fixture("blobs.csv")])
        .env("HPO_REPORT_FILE", work.path("reports"))
        .env("HPO_DECISION_FILE", work.path("decision"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(reports(&work).len(), 1);
    let document = work.json("output.json");
    assert_eq!(document["loss"], json!(reports(&work)[0].loss));
    assert_eq!(
        document["message"],
        "stopped by the scheduler after 1 epochs; best is epoch 1"
    );
}

#[test]
fn a_pause_without_a_checkpoint_directory_says_that_nothing_is_saved() {
    let work = Work::new(&model(&blobs()));
    work.write("decision", "pause");
    let output = work
        .command(&["--quiet", "--device", "cpu", "--data", &fixture("blobs.csv")])
        .env("HPO_DECISION_FILE", work.path("decision"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = crate::support::stderr(&output);
    assert!(
        said.contains("warning: paused, but nothing is saved without `--checkpoint`"),
        "{said}"
    );
}

#[test]
fn a_paused_evaluation_goes_on_to_the_same_result() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let arguments = ["--quiet", "--device", "cpu", "--checkpoint", "c", "--data", &data];
    let undisturbed = Work::new(&model(&blobs())).succeed(&arguments);
    for _ in 0..3 {
        work.write("decision", "pause");
        let output = work
            .command(&arguments)
            .env("HPO_DECISION_FILE", work.path("decision"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(
            work.json("output.json")["message"]
                .as_str()
                .unwrap()
                .starts_with("paused by the scheduler")
        );
    }
    assert_eq!(work.succeed(&arguments), undisturbed);
}

/// Arguments of a training with metadata and the checkpoint directory `c`.
fn kept(data: &str) -> [&str; 9] {
    [
        "--quiet",
        "--device",
        "cpu",
        "--checkpoint",
        "c",
        "--meta",
        "m.json",
        "--data",
        data,
    ]
}

#[test]
fn granted_epochs_end_a_training_that_a_larger_grant_continues() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let arguments = kept(&data);
    let undisturbed = Work::new(&model(&blobs())).succeed(&arguments);
    for (granted, resumed) in [(3, json!(null)), (3, json!(3)), (7, json!(3))] {
        work.write(
            "input.json",
            json!({"units": 8, "rate": 0.05, "hpo.epochs": granted}).to_string(),
        );
        let document = work.succeed(&arguments);
        assert_eq!(work.json("m.json")["epochs_done"], granted);
        assert_eq!(work.json("m.json")["resumed_from"], resumed);
        assert!(
            document["message"].as_str().unwrap().starts_with("granted epochs done"),
            "{document}"
        );
    }
    work.write("input.json", r#"{"units": 8, "rate": 0.05, "hpo.epochs": 12}"#);
    assert_eq!(work.succeed(&arguments), undisturbed);
}

#[test]
fn a_granted_fraction_thins_out_the_training_rows_only() {
    let work = Work::new(&model(&blobs()));
    work.write("input.json", r#"{"units": 8, "rate": 0.05, "hpo.frac": 0.5}"#);
    work.succeed(&[
        "--quiet",
        "--device",
        "cpu",
        "--meta",
        "m.json",
        "--data",
        &fixture("blobs.csv"),
    ]);
    let meta = work.json("m.json");
    assert_eq!(
        (&meta["data"]["training_rows"], &meta["data"]["validation_rows"]),
        (&json!(53), &json!(45))
    );
    assert_eq!(meta["hyperparameters"], json!({"units": 8, "rate": 0.05}));
}

/// Trains a point with the checkpoint directory `c`, and returns loss document and metadata.
fn granted(work: &Work, point: &serde_json::Value, keep: &str) -> (serde_json::Value, serde_json::Value) {
    work.write("input.json", point.to_string());
    let data = fixture("blobs.csv");
    let arguments = kept(&data);
    let output = work
        .command(&arguments)
        .env("HPO_KEEP_CHECKPOINT", keep)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", crate::support::stderr(&output));
    (work.json("output.json"), work.json("m.json"))
}

#[test]
fn a_fork_from_a_checkpoint_gives_the_bits_of_the_whole_schedule() {
    let mut dropping = model(&blobs());
    dropping["model"]["blocks"]
        .as_array_mut()
        .unwrap()
        .push(json!({"dropout": {"rate": 0.2}}));
    dropping["training"]["batch_size"] = json!("$batch");
    dropping["training"]["keep"] = json!("last");
    let stages = [
        json!({"units": 8, "rate": 0.2, "batch": 16, "hpo.epochs": 2}),
        json!({"units": 8, "rate": 0.05, "batch": 8, "hpo.epochs": 5, "hpo.sched": "2:rate=0.2,batch=16"}),
        // Goes on unchanged: the schedule repeats what the point says.
        json!({"units": 8, "rate": 0.05, "batch": 8, "hpo.epochs": 6, "hpo.sched": "2:rate=0.2,batch=16;5:rate=0.05,batch=8"}),
        json!({"units": 8, "rate": 0.1, "batch": 8, "hpo.epochs": 8, "hpo.sched": "2:rate=0.2,batch=16;6:rate=0.05,batch=8"}),
    ];
    let work = Work::new(&dropping);
    let mut before = json!(null);
    for point in &stages {
        let (document, meta) = granted(&work, point, "1");
        assert_eq!(meta["resumed_from"], before, "{point}");
        before = point["hpo.epochs"].clone();
        let anew = granted(&Work::new(&dropping), point, "1");
        assert_eq!(anew.1["resumed_from"], json!(null));
        assert_eq!(
            (&document, &meta["best_epoch"]["train_loss"]),
            (&anew.0, &anew.1["best_epoch"]["train_loss"])
        );
    }
}

#[test]
fn a_checkpoint_that_nobody_will_ask_for_is_not_written() {
    let work = Work::new(&model(&blobs()));
    let point = |epochs: u64| json!({"units": 8, "rate": 0.05, "hpo.epochs": epochs});
    let files = || std::fs::read_dir(work.path("c")).unwrap().count();
    granted(&work, &point(3), "0");
    assert_eq!(files(), 0);
    granted(&work, &point(12), "0");
    assert_eq!(files(), 0);
    granted(&work, &point(3), "1");
    assert_eq!(files(), 1);
}

#[test]
fn a_cutoff_ends_a_training_that_is_worse() {
    let work = Work::new(&model(&blobs()));
    let point = |stop: &str| json!({"units": 8, "rate": 0.05, "hpo.stop": stop});
    let (document, meta) = granted(&work, &point("2:1;3:-1;5:-2"), "1");
    assert_eq!(meta["epochs_done"], 3);
    assert!(
        document["message"]
            .as_str()
            .unwrap()
            .starts_with("stopped@3 by the cutoff of its point after 3 epochs"),
        "{document}"
    );
    work.write("input.json", point("3").to_string());
    assert_eq!(
        work.fail(2, &["--data", &fixture("blobs.csv")]),
        "point: `hpo.stop` must be like `3:0.5;9:0.4`, epochs and losses, found `3`"
    );
}

#[test]
fn a_schedule_that_cannot_be_followed_is_an_error() {
    let work = Work::new(&model(&blobs()));
    let told = |point: serde_json::Value| {
        work.write("input.json", point.to_string());
        work.fail(2, &["--device", "cpu", "--data", &fixture("blobs.csv")])
    };
    assert_eq!(
        told(json!({"units": 8, "rate": 0.05, "hpo.epochs": 3, "hpo.sched": "3:rate=0.1"})),
        "point: `hpo.sched` must end before epoch 3, which the point is granted, found 3"
    );
    let shapes = told(json!({"units": 8, "rate": 0.05, "hpo.epochs": 3, "hpo.sched": "2:units=4"}));
    assert!(shapes.contains("such ones have to be frozen"), "{shapes}");
}

#[test]
fn a_point_may_begin_with_the_weights_of_less_data_and_resumes_to_the_same_bits() {
    let still = json!({"units": 8, "rate": 1e-30, "hpo.frac": 1.0, "hpo.epochs": 4, "hpo.weights": 1});
    let less = json!({"units": 8, "rate": 0.05, "hpo.frac": 0.5, "hpo.epochs": 3});
    let work = Work::new(&model(&blobs()));
    let first = granted(&work, &less, "1").0["loss"].clone();
    let (document, meta) = granted(&work, &still, "1");
    // With this rate they stay what they are, and those of the best epoch are taken.
    assert_eq!(document["loss"], first);
    assert_eq!(
        (&meta["inherited_from"], &meta["resumed_from"], &meta["epochs_done"]),
        (&json!(3), &json!(null), &json!(4))
    );

    let point = |epochs| json!({"units": 8, "rate": 0.05, "hpo.frac": 1.0, "hpo.epochs": epochs, "hpo.weights": 1});
    let whole = Work::new(&model(&blobs()));
    granted(&whole, &less, "1");
    let undisturbed = granted(&whole, &point(6), "1").0;
    let halved = Work::new(&model(&blobs()));
    granted(&halved, &less, "1");
    granted(&halved, &point(2), "1");
    let (document, meta) = granted(&halved, &point(6), "1");
    assert_eq!((&meta["inherited_from"], &meta["resumed_from"]), (&json!(3), &json!(2)));
    assert_eq!(document, undisturbed);
}

#[test]
fn weights_that_are_not_there_or_do_not_fit_are_told() {
    let point = |units| json!({"units": units, "rate": 0.05, "hpo.frac": 1.0, "hpo.epochs": 1, "hpo.weights": 1});
    let work = Work::new(&model(&blobs()));
    let warnings = |meta: serde_json::Value| meta["warnings"][0].as_str().unwrap().to_owned();
    assert_eq!(
        warnings(granted(&work, &point(8), "1").1),
        "there is no checkpoint whose weights could be taken; training begins with new ones"
    );
    assert_eq!(
        warnings(granted(&work, &point(9), "1").1),
        "the checkpoint holds other weights than the model has; training begins with new ones"
    );
}
