//! The engine that tests use: ONNX Runtime on the CPU, found as users' runs find it, so the first run on a fresh
//! machine may fetch it with pip.

use std::sync::OnceLock;

use super::{DeviceRequest, Engine, EngineOptions, LibraryRequest, library, onnxruntime::OnnxRuntime};

/// The engine without a library.
#[cfg(feature = "rten")]
pub(crate) fn embedded() -> &'static dyn Engine {
    &super::embedded::Embedded { threads: Some(1) }
}

pub(crate) fn engine() -> &'static dyn Engine {
    static ENGINE: OnceLock<OnnxRuntime> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let library = library::locate(&LibraryRequest::default()).expect("ONNX Runtime is found or can be fetched");
        let options = EngineOptions {
            device: DeviceRequest::Cpu,
            threads: Some(1),
            cuda_graphs: false,
        };
        OnnxRuntime::start(&library.path, &options).expect("ONNX Runtime starts")
    })
}
