//! Loss document, metadata, metrics archive and saved model.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::json;

use crate::support::{Work, blobs, fixture, model, stdout};

fn entries(path: &std::path::Path) -> BTreeMap<String, Option<String>> {
    let file = std::fs::File::open(path).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let is_file = entry.header().entry_type().is_file();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            (name, is_file.then_some(content))
        })
        .collect()
}

#[test]
fn the_archive_holds_a_tree_that_mlflow_reads() {
    let work = Work::new(&model(&blobs()));
    let output = work
        .command(&[
            "--quiet",
            "--device",
            "cpu",
            "--metrics",
            "m.tgz",
            "--data",
            &fixture("blobs.csv"),
        ])
        .env("HPO_TASK", "t")
        .env("HPO_SEGMENT", "arm")
        .env("HPO_POINT_ID", "4")
        .env("HPO_ATTEMPT", "2")
        .output()
        .unwrap();
    assert!(output.status.success());
    let all = entries(&work.path("m.tgz"));
    let run = all
        .keys()
        .find(|name| name.ends_with("/artifacts/"))
        .unwrap()
        .trim_end_matches("artifacts/")
        .to_owned();
    let parts: Vec<&str> = run.trim_end_matches('/').split('/').collect();
    assert!(parts.len() == 3 && parts[0] == "mlruns", "{run}");
    assert!(
        parts[1].len() == 18 && parts[1].bytes().all(|byte| byte.is_ascii_digit()),
        "{run}"
    );
    assert!(
        parts[2].len() == 32 && parts[2].bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{run}"
    );
    for directory in ["", "metrics/", "params/", "tags/", "artifacts/"] {
        assert_eq!(
            all.get(&format!("{run}{directory}")),
            Some(&None),
            "{directory} has an entry of its own"
        );
    }
    let file = |name: &str| all[&format!("{run}{name}")].clone().unwrap();
    assert_eq!(file("params/units"), "8");
    assert_eq!(file("params/rate"), "0.05");
    assert_eq!(file("tags/mlflow.runName"), "point-4-attempt-2");
    assert_eq!(file("tags/hpo.segment"), "arm");
    let meta = file("meta.yaml");
    assert!(
        meta.contains(&format!("run_id: '{}'\n", parts[2])) && meta.contains("\nstatus: 3\n"),
        "{meta}"
    );
    let experiment = all[&format!("mlruns/{}/meta.yaml", parts[1])].clone().unwrap();
    assert!(experiment.contains("\nname: \"t/arm\"\n"), "{experiment}");
    for metric in ["train_loss", "validation_loss", "accuracy", "error", "learning_rate"] {
        let text = file(&format!("metrics/{metric}"));
        let steps: Vec<usize> = text
            .lines()
            .map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                assert!(fields.len() == 3 && fields[0].parse::<u64>().is_ok() && fields[1].parse::<f64>().is_ok());
                fields[2].parse().unwrap()
            })
            .collect();
        assert_eq!(steps, (1..=12).collect::<Vec<_>>());
    }
    assert_eq!(file("artifacts/learning_curve.csv").lines().count(), 13);
    let curve: serde_json::Value = serde_json::from_str(&file("artifacts/learning_curve.json")).unwrap();
    assert_eq!(curve.as_array().unwrap().len(), 12);
    assert!(
        all.values().flatten().all(|content| !content.is_empty()),
        "no file is empty"
    );
}

#[test]
fn metadata_tells_how_the_loss_came_about() {
    let work = Work::new(&model(&blobs()));
    let document = work.succeed(&[
        "--quiet",
        "--device",
        "cpu",
        "--meta",
        "meta.json",
        "--data",
        &fixture("blobs.csv"),
    ]);
    let meta = work.json("meta.json");
    assert_eq!(meta["loss"], document["loss"]);
    assert_eq!(meta["hyperparameters"], json!({"units": 8, "rate": 0.05}));
    assert_eq!(meta["parameters"], 4 * 8 + 8 + 8 * 3 + 3);
    assert_eq!(meta["epochs_done"], 12);
    assert_eq!(meta["data"]["training_rows"], 105);
    assert_eq!(meta["best_epoch"]["error"], document["loss"]);
    assert_eq!(meta["device"], "cpu");
    assert!(meta["seconds"]["total"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_segmented_point_trains_like_a_plain_one() {
    let work = Work::new(&model(&blobs()));
    let arguments = [
        "--quiet",
        "--device",
        "cpu",
        "--meta",
        "meta.json",
        "--data",
        &fixture("blobs.csv"),
    ];
    let plain = work.succeed(&arguments);
    work.write("input.json", r#"[3, {"units": 8, "rate": 0.05}]"#);
    assert_eq!(work.succeed(&arguments), plain);
    assert_eq!(work.json("meta.json")["identity"]["segment"], "3");
}

#[test]
fn the_saved_model_keeps_scaling_and_data_in_its_properties() {
    let work = Work::new(&model(&json!({"inputs": "x", "targets": "y", "normalize": "standard"})));
    work.succeed(&[
        "--quiet",
        "--device",
        "cpu",
        "--save-model",
        "m.onnx",
        "--data",
        &fixture("blobs.npz"),
    ]);
    let bytes = std::fs::read(work.path("m.onnx")).unwrap();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("hpo.scaling") && holds("\"method\":\"standard\"") && holds("hpo.hyperparameters"));
}

#[test]
fn the_result_is_printed_as_json_when_asked() {
    let work = Work::new(&model(&blobs()));
    let output = work.run(&["--json", "--quiet", "--device", "cpu", "--data", &fixture("blobs.csv")]);
    let answer: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(answer["loss"], work.json("output.json")["loss"]);
    assert_eq!(answer["parameters"], 67);
}

#[test]
fn a_loss_of_an_earlier_run_does_not_outlive_a_failure() {
    let work = Work::new(&model(&blobs()));
    work.write("output.json", r#"{"status":0,"loss":0.0}"#);
    work.fail(2, &["--data", "absent.csv"]);
}

#[test]
fn any_number_of_threads_trains_to_the_same_bits() {
    let conv = json!({"conv": {"filters": 64, "batch_norm": true, "activation": "relu"}});
    let work = Work::new(&json!({
        "data": {"targets": "y", "shape": [2, 4, 4], "split": {"validation": 4, "kind": "last"}},
        "model": {"blocks": [conv, conv, {"global_pool": {}}]}, "loss": "mse",
        "optimizer": {"name": "adam", "learning_rate": 0.01}, "training": {"epochs": 1, "batch_size": 20},
    }));
    let names: Vec<String> = (0..32).map(|column| format!("x{column}")).collect();
    let mut lines = vec![format!("{},y", names.join(","))];
    for row in 0..24 {
        let numbers: Vec<String> = (0..33)
            .map(|column| format!("{}", (row * 33 + column) * 37 % 101))
            .collect();
        lines.push(numbers.join(","));
    }
    work.write("data.csv", lines.join("\n"));
    let saved = |threads: &str| {
        work.succeed(&[
            "--quiet",
            "--device",
            "cpu",
            "--threads",
            threads,
            "--data",
            "data.csv",
            "--save-model",
            "m.onnx",
        ]);
        std::fs::read(work.path("m.onnx")).unwrap()
    };
    assert!(saved("3") == saved("1"), "three threads left another model");
}
