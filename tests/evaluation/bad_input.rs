//! Whatever is wrong is said with its place and a remedy, on stderr and in the loss document.

use serde_json::{Value, json};

use crate::support::{Work, blobs, fixture, model};

const QUIET: [&str; 3] = ["--device", "cpu", "--data"];

fn refused(data: &Value, files: &[&str]) -> String {
    let work = Work::new(&model(data));
    let files: Vec<String> = files.iter().map(|name| fixture(name)).collect();
    let mut arguments = QUIET.to_vec();
    arguments.extend(files.iter().map(String::as_str));
    let message = work.fail(2, &arguments);
    message.replace(&fixture(""), "")
}

fn refused_text(data: &Value, name: &str, content: &[u8]) -> String {
    let work = Work::new(&model(data));
    work.write(name, content);
    work.fail(2, &[QUIET[0], QUIET[1], QUIET[2], name])
}

#[test]
fn files_that_are_missing_or_empty_are_named() {
    let work = Work::new(&model(&blobs()));
    work.write("blobs.csv", "a,b\n1,2\n");
    assert_eq!(
        work.fail(2, &["--data", "blob.csv"]),
        "training data `./blob.csv`: no such file; did you mean `blobs.csv`?"
    );
    work.write("empty.csv", "");
    assert_eq!(
        work.fail(2, &["--data", "empty.csv"]),
        "training data `./empty.csv`: the file is empty (0 bytes)"
    );
    assert_eq!(
        work.fail(2, &[]),
        "no training data given: name files with `--data`, list them in `input_ds.json`, or set `data.files` in the model file"
    );
    work.write("input_ds.json", "{}");
    assert_eq!(
        work.fail(2, &[]),
        "list of training files `input_ds.json`: expected a list of file names, found an object"
    );
    assert_eq!(
        work.fail(2, &["--data", "."]),
        "training data `./.`: this is a directory, a file is needed"
    );
}

#[test]
fn tables_without_rows_are_refused() {
    assert_eq!(
        refused_text(&blobs(), "t.csv", b"a,b,c,d,kind\n"),
        "training data `./t.csv`: there are no rows"
    );
}

#[test]
fn foreign_and_damaged_files_are_refused() {
    let data = blobs();
    assert_eq!(
        refused_text(&data, "t.csv", b"a,b,c,d,kind\n1,2,3,4,caf\xe9\n"),
        "training data `./t.csv`: line 2 is not UTF-8 (byte 0xe9); convert the file, for example with `iconv -t utf-8`"
    );
    assert_eq!(
        refused_text(&data, "t.csv", b"a,b,c,d,kind\n1,2,3\n"),
        "training data `./t.csv`: line 2 has 3 fields, but the header has 5"
    );
    assert_eq!(
        refused_text(&data, "t.xls", b"\xd0\xcf\x11\xe0..."),
        "training data `./t.xls`: the extension `.xls` is not known; `.npy`, `.npz`, `.csv` (also gzipped), `.parquet`, \
         `.arrow`, `.feather`, `.h5`, `.nc` and `.root` can be read"
    );
    assert_eq!(
        refused_text(&data, "t.npz", b"<html>not found</html>"),
        "training data `./t.npz`: the name says `.npz`, but the file does not begin like one; it may be cut off or be \
         a saved error page"
    );
    for name in [
        "blobs.npz",
        "blobs.parquet",
        "x.npy",
        "blobs.feather",
        "blobs.arrow",
        "blobs.h5",
        "latest.h5",
        "classic.nc",
        "four.nc",
        "blobs.root",
    ] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let data = if name.contains("parquet") {
            blobs()
        } else {
            json!({"inputs": if name.contains("arrow") || name.contains("feather") { "vector" } else { "x" }, "targets": "y"})
        };
        let data = if name == "x.npy" {
            json!({"inputs": "x", "targets": "y"})
        } else {
            data
        };
        let work = Work::new(&model(&data));
        work.write(name, &whole[..whole.len() / 2]);
        let y = fixture("y.npy");
        let mut arguments = vec!["--data", name];
        if name == "x.npy" {
            arguments.push(&y);
        }
        let message = work.fail(2, &arguments);
        assert!(
            message.contains("cut off") && message.contains("copy or download"),
            "{message}"
        );
    }
    assert_eq!(
        refused(&json!({"inputs": "x", "targets": "y"}), &["filtered.h5"]),
        "training data `filtered.h5`: dataset `x`: is packed with filter id 32001 (Blosc), which is not read; repack the \
         file with `h5repack -f GZIP=4 OLD NEW`, or save it with `compression=\"gzip\"`"
    );
    assert_eq!(
        refused(&json!({"inputs": "records", "targets": "y"}), &["blobs.h5"]),
        "training data `blobs.h5`: dataset `records`: holds records with the fields `count`, `mass`, which are not read; \
         save each field as a dataset of its own"
    );
    let objects = refused(&json!({"inputs": "objects", "targets": "y"}), &["objects.npy", "y.npy"]);
    assert!(
        objects.starts_with("training data `objects.npy`: array `objects`: holds pickled"),
        "{objects}"
    );
}

#[test]
fn unknown_columns_bring_the_known_ones() {
    assert_eq!(
        refused(&json!({"inputs": ["a", "kinds"], "targets": "y"}), &["blobs.csv"]),
        "training data `blobs.csv`: no column `kinds`; there are `a`, `b`, `c`, `d`, `kind`, `y`; did you mean `kind`?"
    );
    assert_eq!(
        refused(&json!({"targets": 9}), &["blobs.csv"]),
        "training data `blobs.csv`: no column `9`; there are `a`, `b`, `c`, `d`, `kind`, `y`"
    );
    assert_eq!(
        refused(&json!({"inputs": ["a", "y"], "targets": "y"}), &["blobs.csv"]),
        "model file: `/data/inputs` must be columns that are not targets, found `y` in both"
    );
    assert_eq!(
        refused(&json!({"targets": "y"}), &["blobs.csv"]),
        "training data: input `kind` must be numbers, found text; encode it as numbers or leave it out of `data.inputs`"
    );
}

#[test]
fn rows_and_shapes_must_fit() {
    assert_eq!(
        refused(&json!({"inputs": "x", "targets": "short"}), &["x.npy", "short.npy"]),
        "training data `x.npy`: `short` has 10 rows, but `x` has 150; every input and target needs one row per sample"
    );
    assert_eq!(
        refused(
            &json!({"inputs": "x", "targets": "y", "shape": [1, 3]}),
            &["x.npy", "y.npy"]
        ),
        "training data: `data.shape` must be a shape of 4 numbers, as many as a row of the inputs has, found 1 x 3 = 3 numbers"
    );
    let flip = json!({"inputs": "x", "targets": "y", "augment": {"flip": "horizontal"}});
    assert_eq!(
        refused(&flip, &["x.npy", "y.npy"]),
        "training data: inputs that are mirrored or shifted (`data.augment`) must be images, such as rows of shape \
         3 x 32 x 32, found rows of shape 4; give `data.shape`"
    );
    let crop = json!({"inputs": "x", "targets": "y", "shape": [2, 2], "augment": {"crop": 2}});
    assert_eq!(
        refused(&crop, &["x.npy", "y.npy"]),
        "model file: `/data/augment/crop` must be less than the 2 pixels of a side, found 2"
    );
    let values = json!({"inputs": "x", "targets": "y", "target_type": "values", "balance": "oversample"});
    assert!(
        refused(&values, &["x.npy", "y.npy"]).contains("`/data/balance` must be `none` where the targets are values")
    );
    assert_eq!(
        refused(&json!({"inputs": "y", "targets": "x"}), &["x.npy", "y.npy"]),
        "training data: target `x`, which holds classes, must be one number or text per row, found 4 (one-hot targets: \
         store the index of the class)"
    );
    let ragged = refused(&json!({"inputs": "ragged", "targets": "y"}), &["ragged.parquet"]);
    assert_eq!(
        ragged,
        "training data `ragged.parquet`: column `ragged`: row 2 is a list of 2 values, but row 1 has 1; all rows must be equally long"
    );
    assert_eq!(
        refused(
            &json!({"inputs": ["kind", "a"], "targets": "y"}),
            &["blobs.csv", "kinds.parquet"]
        ),
        "training data `kinds.parquet`: no column `kind`; there are `vector`, `holes`, `half`, `flag`, `unsigned`, `price`, `y`"
    );
}

#[test]
fn files_with_different_schemas_name_file_and_column() {
    let work = Work::new(&model(&json!({"inputs": ["a"], "targets": "y"})));
    work.write("one.csv", "a,y\n1,0\n2,1\n");
    work.write("two.csv", "a,y\nx,0\nz,1\n");
    assert_eq!(
        work.fail(2, &["--data", "one.csv", "two.csv"]),
        "training data `./two.csv`: column `a` has text, but `./one.csv` has integers"
    );
}

#[test]
fn labels_must_be_classes_from_zero() {
    let data = json!({"inputs": "a", "targets": "y", "classes": 3});
    let table = |label: &str| format!("a,y\n1,0\n2,1\n3,{label}\n");
    for (label, message) in [
        ("-1", "expected a class from 0 up, found -1; number the classes from 0"),
        (
            "3",
            "expected a class from 0 to 2, found 3; correct the data or `data.classes`",
        ),
        (
            "1.5",
            "expected a class, which is a whole number, found 1.5; for regression set `data.target_type` to `values` \
             and choose a loss such as `mse`",
        ),
        (
            "",
            "the value is missing (NaN); correct it, or set `data.missing` to `drop`",
        ),
    ] {
        let found = refused_text(&data, "t.csv", table(label).as_bytes());
        assert_eq!(found, format!("training data `./t.csv`: row 3, column `y`: {message}"));
    }
    let names = json!({"inputs": "a", "targets": "y", "classes": ["cat", "dog"]});
    assert_eq!(
        refused_text(&names, "t.csv", b"a,y\n1,cat\n2,cow\n"),
        "training data `./t.csv`: row 2, column `y`: the label `cow` is not among `data.classes` (`cat`, `dog`)"
    );
    assert_eq!(
        refused_text(
            &json!({"inputs": "a", "targets": "y"}),
            "t.csv",
            b"a,y\n1,1\n2,1\n3,1\n4,1\n5,1\n"
        ),
        "training data: all 4 training rows are of class 1; there is nothing to learn: shuffle the data or use another \
         `data.split`"
    );
}

#[test]
fn values_that_are_not_finite_are_located() {
    let data = json!({"inputs": ["a", "b"], "targets": "y"});
    assert_eq!(
        refused_text(&data, "t.csv", b"a,b,y\n1,2,0\n3,,1\n"),
        "training data `./t.csv`: row 2, column `b`: the value is missing (NaN); correct it, or set `data.missing` to \
         `drop`, `zero` or `mean`"
    );
    assert_eq!(
        refused_text(&data, "t.csv", b"a,b,y\n1,2,0\n3,-inf,1\n"),
        "training data `./t.csv`: row 2, column `b`: the value is -inf; correct it, or set `data.missing` to `drop`"
    );
    assert_eq!(
        refused_text(&data, "t.csv", b"a,b,y\n1,1e200,0\n3,2,1\n5,1,0\n6,2,1\n7,1,0\n"),
        "training data `./t.csv`: row 1, column `b`: the value is too large for single precision; use `\"normalize\": \
         \"standard\"` or a `scale`"
    );
}

#[test]
fn points_and_model_files_are_checked_before_anything_is_trained() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    work.write("input.json", r#"{"units": 8}"#);
    let absent = work.fail(2, &["--data", &data]);
    assert!(absent.contains("`rate`"), "{absent}");
    work.write("input.json", "[1]");
    let pair = work.fail(2, &["--data", &data]);
    assert!(pair.starts_with("point `input.json`"), "{pair}");
    work.write("input.json", r#"{"units": 8, "rate": 0.1, "hpo.epochs": 0}"#);
    assert_eq!(
        work.fail(2, &["--data", &data]),
        "point: `hpo.epochs` must be a whole number of at least 1, found 0"
    );
    work.write("input.json", r#"{"units": 8, "rate": 0.1, "hpo.frac": 2}"#);
    assert_eq!(
        work.fail(2, &["--data", &data]),
        "point: `hpo.frac` must be a number above 0 and at most 1, found 2"
    );
    std::fs::remove_file(work.path("input.json")).unwrap();
    let nothing = work.fail(2, &["--data", &data]);
    assert!(
        nothing.ends_with("; there is no `input.json` here, name the point with `--input`"),
        "{nothing}"
    );
    let no_point = work.fail(2, &["--input", "nothing.json"]);
    assert!(no_point.starts_with("cannot read point `nothing.json`: "), "{no_point}");
    let no_model = work.fail(2, &["--model", "nothing.json"]);
    assert!(
        no_model.starts_with("cannot read model file `nothing.json`: "),
        "{no_model}"
    );
}

#[test]
fn a_diverging_training_says_when_and_still_leaves_its_metrics() {
    let work = Work::new(&model(&blobs()));
    work.write("input.json", r#"{"units": 8, "rate": 1e30}"#);
    let message = work.fail(
        1,
        &["--device", "cpu", "--metrics", "m.tgz", "--data", &fixture("blobs.csv")],
    );
    assert!(
        message.contains("epoch 1, step") && message.contains("a smaller learning rate"),
        "{message}"
    );
    assert!(work.path("m.tgz").exists());
}

#[test]
fn files_that_cannot_be_written_are_a_failure_of_the_machine() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let arguments = ["--quiet", "--device", "cpu", "--epochs", "1", "--data", &data];
    for (option, what) in [("--meta", "metadata"), ("--metrics", "metrics archive")] {
        let message = work.fail(3, &[&arguments[..], &[option, "no/such/file"]].concat());
        assert!(
            message.starts_with(&format!("cannot write {what} `no/such/file`: ")),
            "{message}"
        );
    }
    for option in ["--save-model", "--checkpoint"] {
        let message = work.fail(3, &[&arguments[..], &[option, "model.json/file"]].concat());
        assert!(message.starts_with("cannot write `model.json/file"), "{message}");
    }
    let directory = work.run(&[&arguments[..], &["--output", "."]].concat());
    assert_eq!(directory.status.code(), Some(2));
    assert_eq!(
        crate::support::stderr(&directory),
        "error: loss document `.` must be a regular file\n"
    );
    let output = work.run(&[&arguments[..], &["--output", "no/output.json"]].concat());
    assert_eq!(output.status.code(), Some(3));
    let said = crate::support::stderr(&output);
    assert!(
        said.contains("error: cannot write loss document `no/output.json`: "),
        "{said}"
    );
}

#[test]
fn a_missing_device_or_library_says_what_is_missing() {
    let work = Work::new(&model(&blobs()));
    let data = fixture("blobs.csv");
    let library = work.fail(2, &["--onnxruntime", "nowhere.so", "--data", &data]);
    assert!(library.contains("`nowhere.so`"), "{library}");
}

#[test]
fn wrong_usage_becomes_a_loss_document_where_a_point_waits() {
    let work = Work::new(&model(&blobs()));
    let output = work.run(&["--modle", "model.json"]);
    assert_eq!(output.status.code(), Some(2));
    let document = work.json("output.json");
    assert_eq!(document["status"], 1);
    assert_eq!(document["message"], "unexpected argument '--modle' found");
}
