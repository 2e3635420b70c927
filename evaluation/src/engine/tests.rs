//! Devices, broken libraries and broken graphs.

use super::*;
use crate::graph::{Builder, ElementType};

#[test]
fn devices_are_read_as_they_are_written() {
    for (text, device) in [
        ("auto", DeviceRequest::Auto),
        ("cpu", DeviceRequest::Cpu),
        ("cuda:0", DeviceRequest::Cuda(0)),
        ("cuda:3", DeviceRequest::Cuda(3)),
    ] {
        assert_eq!(text.parse(), Ok(device));
        assert_eq!(device.to_string(), text);
    }
    assert_eq!("cuda".parse(), Ok(DeviceRequest::Cuda(0)));
    for text in ["gpu", "cuda:", "cuda:x"] {
        let error = text.parse::<DeviceRequest>().unwrap_err();
        assert_eq!(
            error,
            format!("expected `auto`, `cpu`, `cuda` or `cuda:N`, found `{text}`")
        );
    }
}

#[test]
fn asking_a_library_without_cuda_for_cuda_says_what_to_install() {
    let library = library::locate(&LibraryRequest::default()).unwrap();
    if library.path.with_file_name("libonnxruntime_providers_cuda.so").exists() {
        // This machine has the build with CUDA; without a device the other message applies, which needs a driver.
        return;
    }
    let options = EngineOptions {
        device: DeviceRequest::Cuda(0),
        threads: None,
        cuda_graphs: false,
    };
    let message = start(&library, &options).unwrap_err().to_string();
    assert!(
        message.starts_with("device `cuda:0` is not available: the library `") && message.contains("`onnxruntime-gpu`"),
        "{message}"
    );
}

#[test]
fn a_library_that_does_not_load_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so");
    std::fs::write(&path, b"\x7fELF and nothing more").unwrap();
    let library = library::locate(&LibraryRequest {
        path: Some(path.clone()),
        ..LibraryRequest::default()
    })
    .unwrap();
    let message = start(&library, &EngineOptions::default()).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("cannot load ONNX Runtime from `{}`: ", path.display())),
        "{message}"
    );
}

#[test]
fn both_engines_refuse_a_graph_with_an_unknown_operator() {
    let mut builder = Builder::new();
    let x = builder.input("x", TensorType::new(ElementType::F32, [1]));
    let y = builder.node("Nonsense", &[&x], Vec::new());
    builder.output("y", &y);
    let graph = builder.finish();
    let engines: [&dyn Engine; 2] = [testing::engine(), &reference::Reference];
    for engine in engines {
        let error = engine
            .run(&graph, vec![("x".into(), Tensor::f32([1], vec![0.0]))])
            .unwrap_err();
        assert!(error.to_string().contains("Nonsense"), "{error}");
    }
}

#[test]
fn the_version_is_that_of_the_file() {
    let version = testing::engine().version();
    let number = version.strip_prefix("ONNX Runtime ").unwrap();
    assert!(number.starts_with("1."), "{version}");
}

#[test]
fn a_shape_that_onnx_runtime_does_not_infer_is_no_scalar() {
    let mut builder = Builder::new();
    let x = builder.input("x", TensorType::new(ElementType::F32, [2, 3, 4, 4]));
    let y = builder.node("MeanVarianceNormalization", &[&x], Vec::new());
    let z = builder.node("Relu", &[&y], Vec::new());
    let total = builder.node("ReduceSum", &[&z], vec![crate::graph::attribute::int("keepdims", 0)]);
    let twice = builder.node("Add", &[&total, &total], Vec::new());
    let graph = builder.finish();
    let types = testing::engine().types(&graph).unwrap();
    assert_eq!(types[&y].shape, [2, 3, 4, 4]);
    assert_eq!(types[&z].shape, [2, 3, 4, 4]);
    assert_eq!(types[&total].shape, [0; 0]);
    assert_eq!(types[&twice].shape, [0; 0]);
}
