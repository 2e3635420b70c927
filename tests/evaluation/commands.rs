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
fn cuda_libraries_of_another_version_are_named_with_the_one_that_is_needed() {
    let work = Work::new(&model(&blobs()));
    let found: Value = serde_json::from_str(&stdout(&work.run(&["library", "--device", "cpu", "--json"]))).unwrap();
    for folder in ["ort", "toolkit"] {
        std::fs::create_dir(work.path(folder)).unwrap();
    }
    std::fs::copy(
        found["path"].as_str().unwrap(),
        work.path("ort/libonnxruntime.so.1.31.1"),
    )
    .unwrap();
    work.write("ort/libonnxruntime_providers_cuda.so", "no library");
    work.write("toolkit/libcudart.so.12.4", "");
    let output = work
        .command(&[
            "--device",
            "cuda",
            "--onnxruntime",
            "ort",
            "--data",
            &fixture("blobs.csv"),
        ])
        .env("LD_LIBRARY_PATH", work.path("toolkit"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(
        message.contains("toolkit/libcudart.so.12.4` is of another version than `libcudart.so.13`, which is needed; ")
            && message.contains("`evaluation setup --gpu` fetches what is missing"),
        "{message}"
    );
}

#[test]
fn a_step_that_does_not_fit_into_memory_is_a_failure_of_the_configuration() {
    let work = Work::new(&serde_json::json!({
        "data": {"targets": "y", "split": {"validation": 4, "kind": "last"}},
        "model": {"blocks": [{"dense": {"units": 20000, "activation": "tanh"}}]},
        "loss": "mse", "training": {"epochs": 1, "batch_size": 30000},
    }));
    let rows = (0..30_004).map(|row| format!("{},{}", row % 7, row % 3));
    let lines: Vec<String> = std::iter::once("x,y".to_owned()).chain(rows).collect();
    work.write("data.csv", lines.join("\n"));
    for (engine, said) in [
        ("onnxruntime", "ONNX Runtime found no memory to run a program"),
        ("rten", "the embedded engine found no memory to run a program"),
    ] {
        let limited =
            format!("ulimit -v 2500000 && exec \"$0\" --data data.csv --device cpu --threads 1 --engine {engine}");
        let output = std::process::Command::new("sh")
            .args(["-c", &limited, env!("CARGO_BIN_EXE_evaluation")])
            .current_dir(work.directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let message = work.json("output.json")["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(said)
                && message.ends_with(
                    "with batches of 30000 rows; a `training.batch_size` of 15000 needs about half of the memory of a \
                     step, a smaller model less"
                ),
            "{message}"
        );
    }
}

#[test]
fn library_names_the_engine() {
    let work = Work::new(&model(&blobs()));
    let output = work.run(&["library", "--device", "cpu"]);
    assert!(stdout(&output).starts_with("ONNX Runtime ") && stdout(&output).ends_with("; device cpu\n"));
}
