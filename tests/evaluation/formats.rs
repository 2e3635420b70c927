//! The same numbers give the same loss from every format.

use serde_json::{Value, json};

use crate::support::{Work, blobs, fixture, model};

fn loss(data: &Value, files: &[&str]) -> Value {
    let work = Work::new(&model(data));
    let files: Vec<String> = files.iter().map(|name| fixture(name)).collect();
    let mut arguments = vec!["--quiet", "--device", "cpu", "--data"];
    arguments.extend(files.iter().map(String::as_str));
    let document = work.succeed(&arguments);
    assert!(document["loss"].as_f64().unwrap() < 0.1, "{document}");
    document["loss"].clone()
}

#[test]
fn csv_npz_npy_and_parquet_train_to_the_same_loss() {
    let split = json!({"validation": 0.3, "kind": "stratified"});
    let arrays = json!({"inputs": "x", "targets": "y", "split": split});
    let text_labels = json!({"inputs": "x", "targets": "kind", "split": split});
    let expected = loss(&blobs(), &["blobs.csv"]);
    assert_eq!(loss(&blobs(), &["blobs.parquet"]), expected);
    assert_eq!(loss(&arrays, &["blobs.npz"]), expected);
    assert_eq!(loss(&text_labels, &["blobs.npz"]), expected);
    assert_eq!(loss(&arrays, &["x.npy", "y.npy"]), expected);
    let half = json!({"inputs": "half", "targets": "y", "split": split});
    assert_eq!(loss(&half, &["blobs.npz"]), expected);
    let list = json!({"inputs": "vector", "targets": "y", "split": split});
    assert_eq!(loss(&list, &["kinds.parquet"]), expected);
    let positions = json!({"inputs": [0, 1, 2, -3], "targets": -1, "split": split});
    assert_eq!(loss(&positions, &["blobs.csv"]), expected);
}

#[test]
fn the_formats_of_the_sciences_train_to_the_same_loss() {
    let split = json!({"validation": 0.3, "kind": "stratified"});
    let data = |inputs: Value| json!({"inputs": inputs, "targets": "y", "split": split});
    let expected = loss(&blobs(), &["blobs.csv"]);
    for (file, inputs) in [
        ("blobs.feather", "vector"),
        ("blobs.arrow", "free"),
        ("blobs.h5", "x"),
        ("blobs.h5", "packed/gzip"),
        ("blobs.h5", "packed/lzf"),
        ("blobs.h5", "packed/big"),
        ("blobs.h5", "packed/half"),
        ("latest.h5", "x"),
        ("classic.nc", "x"),
        ("four.nc", "x"),
        ("blobs.root", "x"),
    ] {
        assert_eq!(loss(&data(json!(inputs)), &[file]), expected, "{inputs} of {file}");
    }
    let labels = json!({"inputs": "vector", "targets": "kind", "split": split});
    assert_eq!(loss(&labels, &["blobs.feather"]), expected);
    let labels = json!({"inputs": "x", "targets": "kind", "split": split});
    assert_eq!(loss(&labels, &["blobs.h5"]), expected);
    // A value that the file marks as missing is missing; packed numbers are unpacked.
    for file in ["classic.nc", "four.nc"] {
        let data = json!({"inputs": "short", "targets": "y", "missing": "drop"});
        let work = Work::new(&model(&data));
        work.succeed(&[
            "--quiet",
            "--device",
            "cpu",
            "--meta",
            "m.json",
            "--data",
            &fixture(file),
        ]);
        assert_eq!(work.json("m.json")["data"]["dropped_rows"], 1, "{file}");
    }
}

#[test]
fn images_may_have_their_channels_last_and_change_from_pass_to_pass() {
    let data = |layout: &str, augment: Value| json!({"inputs": "packed/images", "targets": "y", "layout": layout, "normalize": "standard", "augment": augment});
    let run = |data: &Value| {
        let work = Work::new(&model(data));
        let file = fixture("blobs.h5");
        let document = work.succeed(&["--quiet", "--device", "cpu", "--meta", "m.json", "--data", &file]);
        (document["loss"].clone(), work.json("m.json"))
    };
    let (_, meta) = run(&data("hwc to chw", json!(null)));
    assert_eq!(meta["data"]["row_shape"], json!([2, 2, 3]));
    assert_eq!(meta["scaling"]["shift"].as_array().unwrap().len(), 2);
    assert_eq!(meta["scaling"]["layout"], "hwc to chw");
    let (_, meta) = run(&data("chw", json!(null)));
    assert_eq!(meta["data"]["row_shape"], json!([2, 3, 2]));
    let augment = json!({"flip": "both", "crop": 1, "seed": 4});
    let (loss, meta) = run(&data("hwc", augment.clone()));
    assert_eq!(meta["data"]["placement"], "memory");
    assert_eq!(run(&data("hwc", augment)).0, loss);
}

#[test]
fn rare_classes_train_as_often_as_frequent_ones_when_asked() {
    let mut data = blobs();
    data["balance"] = json!("oversample");
    let work = Work::new(&model(&data));
    let text = std::fs::read_to_string(fixture("blobs.csv")).unwrap();
    // All of the first class, a third of the others.
    let kept = text
        .lines()
        .enumerate()
        .filter(|(at, line)| line.contains("alpha") || at / 3 % 3 == 0);
    let kept: Vec<&str> = kept.map(|(_, line)| line).collect();
    work.write("t.csv", kept.join("\n"));
    work.succeed(&["--quiet", "--device", "cpu", "--meta", "m.json", "--data", "t.csv"]);
    let data = &work.json("m.json")["data"];
    let classes = data["classes"].as_u64().unwrap();
    let rows = (
        data["training_rows"].as_u64(),
        data["rows"].as_u64(),
        data["validation_rows"].as_u64(),
    );
    let (Some(training), Some(all), Some(validation)) = rows else {
        panic!("{data}")
    };
    assert!(
        training > all - validation && training.is_multiple_of(classes),
        "{data}"
    );
}

#[test]
fn several_files_are_put_below_one_another() {
    let work = Work::new(&model(&blobs()));
    let text = std::fs::read_to_string(fixture("blobs.csv")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    work.write("one.csv", lines[..61].join("\n"));
    work.write("two.csv", format!("{}\n{}\n", lines[0], lines[61..].join("\n")));
    work.write("input_ds.json", r#"["one.csv", "two.csv"]"#);
    let parts = work.succeed(&["--quiet", "--device", "cpu", "--meta", "meta.json"]);
    assert_eq!(parts["loss"], loss(&blobs(), &["blobs.csv"]));
    assert_eq!(work.json("meta.json")["data"]["rows"], 150);
    assert_eq!(
        work.json("meta.json")["data"]["class_names"],
        json!(["alpha", "beta", "gamma"])
    );
}

#[test]
fn validation_may_have_files_of_its_own_and_rows_may_keep_their_group() {
    let file = fixture("blobs.csv");
    let separate = json!({"inputs": ["a", "b", "c", "d"], "targets": "kind", "split": {"validation_files": [file]}});
    loss(&separate, &["blobs.parquet"]);
    let grouped = json!({"inputs": "x", "targets": "y", "normalize": "standard", "split": {"group": "group"}});
    loss(&grouped, &["blobs.npz"]);
}

#[test]
fn missing_values_are_dropped_or_filled_when_asked() {
    for (missing, dropped) in [("drop", 3), ("mean", 0), ("zero", 0)] {
        let data = json!({"inputs": ["holes", "vector"], "targets": "y", "missing": missing});
        let work = Work::new(&model(&data));
        work.succeed(&[
            "--quiet",
            "--device",
            "cpu",
            "--meta",
            "m.json",
            "--data",
            &fixture("kinds.parquet"),
        ]);
        assert_eq!(work.json("m.json")["data"]["dropped_rows"], dropped);
    }
}

#[test]
fn unsigned_decimal_and_boolean_columns_are_numbers() {
    let data = json!({"inputs": ["unsigned", "price", "flag", "half"], "targets": "y", "normalize": "minmax"});
    let work = Work::new(&model(&data));
    work.succeed(&[
        "--quiet",
        "--device",
        "cpu",
        "--meta",
        "m.json",
        "--data",
        &fixture("kinds.parquet"),
    ]);
    let scaling = &work.json("m.json")["scaling"];
    assert_eq!(scaling["shift"][0], 4e9);
    assert_eq!(
        scaling["divisor"],
        json!([2.0, 0.5, 1.0, scaling["divisor"][3].as_f64().unwrap()])
    );
}

#[test]
fn values_are_learnt_by_regression() {
    let mut model = model(&json!({"inputs": ["a", "b"], "targets": ["c", "d"], "normalize": "standard"}));
    model["loss"] = json!("mse");
    model["objective"] = json!({"metric": "rmse", "mode": "min"});
    let work = Work::new(&model);
    let document = work.succeed(&["--quiet", "--device", "cpu", "--data", &fixture("blobs.csv")]);
    assert!(document["loss"].as_f64().unwrap() < 2.0, "{document}");
}

#[test]
fn the_data_section_may_refer_to_hyperparameters() {
    let data = json!({"inputs": ["a", "b", "c", "d"], "targets": "y", "fraction": "$share", "normalize": "$how"});
    let work = Work::new(&model(&data));
    work.write(
        "input.json",
        r#"{"units": 8, "rate": 0.05, "share": 0.25, "how": "minmax"}"#,
    );
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
        (&json!(30), &json!(30))
    );
    assert_eq!(meta["scaling"]["method"], "minmax");
}

#[test]
fn gzipped_and_headerless_tables_are_read_by_position() {
    let text = std::fs::read_to_string(fixture("blobs.csv")).unwrap();
    let body = text.split_once('\n').unwrap().1.replace(',', ";");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, body.as_bytes()).unwrap();
    let data = json!({"inputs": [0, 1, "column_2", 3], "targets": "column_4",
        "split": {"validation": 0.3, "kind": "stratified"}});
    let work = Work::new(&model(&data));
    work.write("t.csv.gz", gzip.finish().unwrap());
    let document = work.succeed(&["--quiet", "--device", "cpu", "--data", "t.csv.gz"]);
    assert_eq!(document["loss"], loss(&blobs(), &["blobs.csv"]));
    work.write("cut.csv.gz", &std::fs::read(work.path("t.csv.gz")).unwrap()[..300]);
    let message = work.fail(2, &["--data", "cut.csv.gz"]);
    assert!(message.contains("the gzip data is damaged or cut off"), "{message}");
}

#[test]
fn a_file_with_another_content_than_its_sum_promises_is_refused() {
    let work = Work::new(&model(&blobs()));
    let file = fixture("blobs.csv");
    let sum = "0".repeat(64);
    work.write("input_ds.json", json!([{"url": file, "sha256": sum}]).to_string());
    let message = work.fail(2, &[]);
    assert!(
        message.contains(&format!("wrong content, its SHA-256 must be {sum}, found ")),
        "{message}"
    );
}
