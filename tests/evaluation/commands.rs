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
fn library_names_the_engine() {
    let work = Work::new(&model(&blobs()));
    let output = work.run(&["library", "--device", "cpu"]);
    assert!(stdout(&output).starts_with("ONNX Runtime ") && stdout(&output).ends_with("; device cpu\n"));
}
