//! `check`, `data`, `library` and the help.

use serde_json::Value;

use crate::support::{Work, blobs, fixture, model, stderr, stdout};

#[test]
fn help_begins_with_an_example() {
    let work = Work::new(&model(&blobs()));
    let help = stdout(&work.run(&["--help"]));
    let (example, options) = (help.find("Example:").unwrap(), help.find("Options:").unwrap());
    assert!(example < options, "{help}");
    assert!(
        help.contains("  evaluation --model model.json --data digits.csv.gz"),
        "{help}"
    );
}

#[test]
fn check_describes_the_model_and_trains_nothing() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let output = work.run(&["check", "--device", "cpu", "--data", &data]);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        text.contains("67 parameters; 105 training rows, 45 validation rows; 12 epochs of batches of 16"),
        "{text}"
    );
    assert!(!work.path("output.json").exists());
    let answer: Value = serde_json::from_str(&stdout(
        &work.run(&["check", "--json", "--device", "cpu", "--data", &data]),
    ))
    .unwrap();
    assert_eq!(answer["parameters"], 67);
}

#[test]
fn data_lists_columns_with_rows_kinds_and_gaps() {
    let work = Work::new(&model(&blobs()));
    let text = stdout(&work.run(&["data", &fixture("kinds.parquet")]));
    assert!(text.contains("7 columns"), "{text}");
    assert!(text.contains("vector    150 rows of numbers of shape 4\n"), "{text}");
    assert!(text.contains("holes     150 rows of numbers, 3 missing\n"), "{text}");
    let answer: Value = serde_json::from_str(&stdout(&work.run(&["data", "--json", &fixture("x.npy")]))).unwrap();
    assert_eq!(answer[fixture("x.npy")][0]["rows"], 150);
    let absent = work.run(&["data", "absent.csv"]);
    assert_eq!(absent.status.code(), Some(2));
    assert_eq!(stderr(&absent), "error: training data `absent.csv`: no such file\n");
}

#[test]
fn doctor_tells_what_works_and_fails_where_the_device_does_not() {
    let work = Work::new(&model(&blobs()));
    let output = work.run(&["doctor", "--device", "cpu"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for line in [
        "ONNX Runtime  ONNX Runtime 1.",
        "providers     cpu",
        "CPU           ok",
        "threads       ",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let report: Value = serde_json::from_str(&stdout(&work.run(&["doctor", "--json"]))).unwrap();
    assert_eq!(report["cpu"], "ok");
    assert_eq!(report["onnxruntime"]["providers"][0], "cpu");
    let nothing = work.run(&["doctor", "--onnxruntime", "nowhere"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert!(
        stdout(&nothing).contains("problem: `--onnxruntime` names `nowhere`"),
        "{}",
        stdout(&nothing)
    );
}

#[test]
fn a_library_without_cuda_is_no_answer_to_a_request_for_cuda() {
    let work = Work::new(&model(&blobs()));
    // The library alone, without the providers that may lie beside it.
    let found: Value = serde_json::from_str(&stdout(&work.run(&["library", "--device", "cpu", "--json"]))).unwrap();
    let library = found["path"].as_str().unwrap();
    std::fs::create_dir(work.path("alone")).unwrap();
    std::fs::copy(library, work.path("alone/libonnxruntime.so.1.31.1")).unwrap();
    let data = fixture("blobs.csv");
    let message = work.fail(3, &["--device", "cuda", "--onnxruntime", "alone", "--data", &data]);
    assert!(
        message.starts_with("device `cuda:0` is not available: the library `")
            && message.ends_with("is built without CUDA; `evaluation setup --gpu` fetches one that has it"),
        "{message}"
    );
    let doctor = work.run(&["doctor", "--device", "cuda", "--onnxruntime", "alone"]);
    assert_eq!(doctor.status.code(), Some(3));
    assert!(stdout(&doctor).contains("libcudnn.so.9"), "{}", stdout(&doctor));
}

#[test]
fn library_names_the_engine() {
    let work = Work::new(&model(&blobs()));
    let output = work.run(&["library", "--device", "cpu"]);
    assert!(stdout(&output).starts_with("ONNX Runtime ") && stdout(&output).ends_with("; device cpu\n"));
}
