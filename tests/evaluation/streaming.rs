//! Inputs that do not fit into memory train to the same bits as those that do.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Work, fixture, model};

const PLAIN: [&str; 5] = ["--quiet", "--device", "cpu", "--meta", "meta.json"];

/// Loss and placement with the limit, and everything that is not a matter of time.
fn run(work: &Work, limit: &[&str], files: &[&str]) -> (Value, Value, Value) {
    let mut arguments = PLAIN.to_vec();
    arguments.extend_from_slice(limit);
    arguments.push("--data");
    arguments.extend_from_slice(files);
    let loss = work.succeed(&arguments)["loss"].clone();
    let meta = work.json("meta.json");
    (loss, meta["data"]["placement"].clone(), meta["scaling"].clone())
}

fn same(data: &Value, files: &[&str]) {
    let work = Work::new(&model(data));
    let files: Vec<String> = files.iter().map(|name| fixture(name)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let resident = run(&work, &[], &files);
    let streamed = run(&work, &["--data-memory", "0"], &files);
    assert_eq!((&resident.1, &streamed.1), (&json!("resident"), &json!("streamed")));
    assert_eq!(resident.0, streamed.0, "{files:?}");
    assert_eq!(resident.2, streamed.2, "{files:?}");
}

#[test]
fn every_format_streams_to_the_same_loss() {
    let data = |inputs: Value| json!({"inputs": inputs, "targets": "y", "normalize": "standard"});
    same(&data(json!(["a", "b", "c", "d"])), &["blobs.csv"]);
    same(&data(json!(["a", "b", "c", "d"])), &["blobs.parquet", "blobs.csv"]);
    same(&data(json!("x")), &["x.npy", "y.npy"]);
    same(&data(json!(["x", "half"])), &["blobs.npz"]);
    same(&data(json!(["vector", "free"])), &["blobs.feather", "blobs.arrow"]);
    same(&data(json!("packed/gzip")), &["blobs.h5"]);
    same(&data(json!("x")), &["four.nc", "classic.nc"]);
    same(&data(json!(["x", "c"])), &["blobs.root"]);
}

#[test]
fn filled_dropped_and_split_rows_are_the_same_when_streamed() {
    for missing in ["drop", "mean", "zero"] {
        let data = json!({"inputs": ["holes", "vector"], "targets": "y", "missing": missing, "normalize": "minmax"});
        same(&data, &["kinds.parquet"]);
    }
    let grouped = json!({"inputs": "x", "targets": "kind", "split": {"group": "group"}, "shape": [1, 2, 2],
        "normalize": "standard", "max_rows": 120, "fraction": 0.7});
    same(&grouped, &["blobs.npz"]);
    let file = fixture("blobs.csv");
    let separate = json!({"inputs": ["a", "b"], "targets": "kind", "split": {"validation_files": [file]}});
    same(&separate, &["blobs.parquet"]);
}

#[test]
fn bad_values_have_the_same_message_when_streamed() {
    let data = json!({"inputs": ["vector", "holes"], "targets": "y"});
    let work = Work::new(&model(&data));
    let file = fixture("kinds.parquet");
    let resident = work.fail(2, &["--data", &file]);
    assert_eq!(
        resident.replace(&fixture(""), ""),
        "training data `kinds.parquet`: row 8, column `holes`: the value is missing (NaN), the first of 3 that are missing \
         or not finite: 3 in `holes`; correct it, or set `data.missing` to `drop`, `zero` or `mean`"
    );
    assert_eq!(resident, work.fail(2, &["--data-memory", "0", "--data", &file]));
    let other = work.fail(2, &["--data-memory", "0", "--data", &file, &fixture("blobs.feather")]);
    assert!(other.contains("holes"), "{other}");
}

#[test]
fn a_scratch_folder_that_cannot_be_written_is_named() {
    let work = Work::new(&model(&json!({"inputs": ["a", "b"], "targets": "y"})));
    let file = fixture("blobs.csv");
    let message = work.fail(3, &["--data-memory", "0", "--scratch", "nowhere", "--data", &file]);
    assert!(
        message.starts_with("training data: cannot write a scratch file in `nowhere`:")
            && message.contains("--scratch"),
        "{message}"
    );
}

/// An array in npy form, as NumPy writes it.
fn npy(work: &Work, name: &str, kind: &str, shape: &str, rows: impl Iterator<Item = Vec<u8>>) {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    header.extend(std::iter::repeat_n(' ', 63 - (header.len() + 10) % 64));
    let mut file = BufWriter::new(File::create(work.path(name)).unwrap());
    file.write_all(b"\x93NUMPY\x01\x00").unwrap();
    file.write_all(&(header.len() as u16 + 1).to_le_bytes()).unwrap();
    writeln!(file, "{header}").unwrap();
    rows.for_each(|row| file.write_all(&row).unwrap());
    file.flush().unwrap();
}

#[test]
fn a_file_larger_than_the_memory_limit_trains_to_the_same_loss() {
    const ROWS: usize = 40_000;
    const BYTES: usize = 4096;
    let mut document = model(&json!({"inputs": "x", "targets": "y", "scale": 0.004,
        "fraction": 0.05, "split": {"validation": 500}}));
    document["training"] = json!({"epochs": 1, "batch_size": 512});
    let work = Work::new(&document);
    let shape = format!("({ROWS}, {BYTES})");
    npy(
        &work,
        "x.npy",
        "|u1",
        &shape,
        (0..ROWS).map(|row| vec![(row * 37 % 251) as u8; BYTES]),
    );
    let labels = (0..ROWS).map(|row| vec![u8::from(row * 37 % 251 > 120)]);
    npy(&work, "y.npy", "|u1", &format!("({ROWS},)"), labels);
    // The file has 164 MB, its numbers 655 MB; the program itself maps more than it uses, hence the limit is on top.
    let limited = |limit: &str| {
        let program = work.command(&[]).get_program().to_owned();
        Command::new("sh")
            .arg("-c")
            .arg(format!(
                "ulimit -v {limit}; exec \"$0\" --quiet --device cpu --threads 1 --data x.npy y.npy --meta meta.json"
            ))
            .arg(program)
            .current_dir(work.path("."))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let free = limited("unlimited");
    assert!(free.status.success(), "{}", String::from_utf8_lossy(&free.stderr));
    let expected = work.json("output.json")["loss"].clone();
    let tight = limited("500000");
    assert!(tight.status.success(), "{}", String::from_utf8_lossy(&tight.stderr));
    assert_eq!(work.json("output.json")["loss"], expected);
    assert_eq!(work.json("meta.json")["data"]["placement"], "streamed");
}
