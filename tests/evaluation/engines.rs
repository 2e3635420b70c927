//! Which engine trains, and what is said of it.

use crate::support::{Work, blobs, fixture, model, stderr};

/// Where no ONNX Runtime is found.
const NOTHING: [(&str, &str); 4] = [
    ("PATH", ""),
    ("HOME", "."),
    ("XDG_CACHE_HOME", ""),
    ("ORT_DYLIB_PATH", ""),
];

#[test]
fn the_embedded_engine_trains_to_the_loss_of_onnx_runtime_and_results_name_it() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let first = work.succeed(&["--data", &data, "--device", "cpu"])["loss"]
        .as_f64()
        .unwrap();
    let arguments = ["--data", &data, "--engine", "rten", "--meta", "meta.json"];
    let second = work.succeed(&arguments)["loss"].as_f64().unwrap();
    assert!((first - second).abs() < 1e-6, "{first} and {second}");
    let meta = work.json("meta.json");
    assert!(meta["engine"].as_str().unwrap().starts_with("rten 0."), "{meta}");
    assert!(
        meta["library"].as_str().unwrap().ends_with(", a part of this program"),
        "{meta}"
    );
    assert_eq!(meta["warnings"].as_array().unwrap().len(), 0, "{meta}");
}

#[test]
fn without_onnx_runtime_the_embedded_engine_trains_and_says_so() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let output = work
        .command(&["--data", &data, "--offline", "--meta", "meta.json"])
        .envs(NOTHING)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let warning = work.json("meta.json")["warnings"][0].as_str().unwrap().to_owned();
    assert!(stderr(&output).contains(&warning), "{}", stderr(&output));
    assert!(warning.starts_with("no ONNX Runtime library found: "), "{warning}");
    assert!(
        warning.contains("install one with `python3 -m pip install onnxruntime`"),
        "{warning}"
    );
    assert!(
        warning.contains("Training goes on with the embedded engine, rten "),
        "{warning}"
    );

    let output = work
        .command(&["--data", &data, "--offline"])
        .env("HPO_ENGINE", "onnxruntime")
        .envs(NOTHING)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).starts_with("error: no ONNX Runtime library found: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_named_library_that_is_not_there_is_no_case_for_the_embedded_engine() {
    let work = Work::new(&model(&blobs()));
    let message = work.fail(2, &["--data", &fixture("blobs.csv"), "--onnxruntime", "nowhere"]);
    assert!(message.starts_with("`--onnxruntime` names `nowhere`: "), "{message}");
}

#[test]
fn what_needs_another_device_is_refused() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let message = work.fail(2, &["--data", &data, "--engine", "rten", "--device", "cuda"]);
    assert_eq!(
        message,
        "`--engine rten` runs on the CPU only, found `--device cuda:0`; leave one of them out"
    );
    let message = work.fail(2, &["--data", &data, "--cuda-graphs", "--device", "cpu"]);
    assert_eq!(
        message,
        "`--cuda-graphs` needs `--device cuda`, found `--device cpu`; leave the first out or add the second"
    );
    let output = work.run(&["--data", &data, "--engine", "tract"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("expected `auto`, `onnxruntime` or `rten`, found `tract`"),
        "{}",
        stderr(&output)
    );
}
