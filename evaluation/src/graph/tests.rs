//! Reading and writing real exports, and weights kept in other files.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::StringStringEntryProto;
use super::*;

fn exports() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/evaluation");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    assert!(!paths.is_empty());
    paths
}

#[test]
fn real_exports_survive_reading_and_writing_without_loss() {
    for path in exports() {
        let original = fs::read(&path).unwrap();
        let model = read_model(&path).unwrap();
        let written = encode_model(&model);
        // Equal length means that no field was unknown to us and dropped.
        assert_eq!(written.len(), original.len(), "{}", path.display());
        assert_eq!(ModelProto::decode(written.as_slice()).unwrap(), model);
    }
}

#[test]
fn files_that_are_no_models_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let name = path.display();
    let message = || read_model(&path).unwrap_err().to_string();
    assert_eq!(message(), format!("cannot read `{name}`"));
    fs::write(&path, "").unwrap();
    assert_eq!(message(), format!("`{name}` is no ONNX model: the file is empty"));
    fs::write(&path, "this is a text").unwrap();
    assert!(message().starts_with(&format!("`{name}` is no ONNX model: ")));
    let bytes = fs::read(&exports()[0]).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(message().starts_with(&format!("`{name}` is no ONNX model: ")));
}

fn model_with_external(location: &str, length: usize) -> ModelProto {
    let mut graph = Graph::default();
    graph.constants.insert("w".into(), Tensor::f32([2], vec![0.0; 2]));
    graph.outputs.push("w".into());
    let mut model = graph.to_model();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    tensor.raw_data = None;
    tensor.data_location = Some(1);
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    tensor.external_data = vec![
        entry("location", location.into()),
        entry("offset", "4".into()),
        entry("length", length.to_string()),
    ];
    model
}

#[test]
fn weights_are_fetched_from_files_beside_the_model_and_from_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let numbers: Vec<u8> = [1.0_f32, 2.0, 3.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    fs::write(folder.path().join("weights.bin"), numbers).unwrap();
    fs::write(&path, encode_model(&model_with_external("weights.bin", 8))).unwrap();
    let model = read_model(&path).unwrap();
    let tensor = Tensor::from_proto(&model.graph.unwrap().initializer[0]).unwrap();
    assert_eq!(tensor, Tensor::f32([2], vec![2.0, 3.0]));

    fs::write(&path, encode_model(&model_with_external("../weights.bin", 8))).unwrap();
    assert_eq!(
        read_model(&path).unwrap_err().to_string(),
        "tensor `w`: its data lies outside the model's folder: `../weights.bin`"
    );
    fs::write(&path, encode_model(&model_with_external("weights.bin", 4))).unwrap();
    let model = read_model(&path).unwrap();
    let error = Tensor::from_proto(&model.graph.unwrap().initializer[0]).unwrap_err();
    assert_eq!(error.to_string(), "tensor `w`: shape [2] does not fit 1 elements");
}

#[test]
fn tensors_of_unknown_type_are_named_with_a_remedy() {
    let mut proto = Tensor::f32([1], vec![0.0]).to_proto("w");
    proto.data_type = Some(10);
    assert_eq!(
        Tensor::from_proto(&proto).unwrap_err().to_string(),
        "tensor `w`: element type 10 is not supported; convert the tensor to float32 or int64"
    );
}

#[test]
fn pruning_keeps_what_outputs_need() {
    let mut builder = Builder::new();
    let x = builder.input("x", TensorType::new(ElementType::F32, [1]));
    let used = builder.node("Relu", &[&x], Vec::new());
    builder.node("Exp", &[&x], Vec::new());
    builder.output("y", &used);
    let mut graph = builder.finish();
    graph.prune();
    assert_eq!(graph.nodes.len(), 1);
}
