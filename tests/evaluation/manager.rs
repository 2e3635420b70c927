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

#[test]
fn granted_epochs_end_a_training_that_a_larger_grant_continues() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let arguments = [
        "--quiet",
        "--device",
        "cpu",
        "--checkpoint",
        "c",
        "--meta",
        "m.json",
        "--data",
        &data,
    ];
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
