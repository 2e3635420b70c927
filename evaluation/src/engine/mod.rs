//! Engines execute graphs: ONNX Runtime for work, a slow readable interpreter for checks.

pub mod library;

use std::fmt::Debug;
use std::path::PathBuf;
use std::str::FromStr;

pub use library::{Library, LibraryError, LibraryRequest};

/// Which processor executes the graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceRequest {
    /// CUDA when the library has it and a device answers, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number, or failure.
    Cuda(u32),
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("expected `auto`, `cpu`, `cuda` or `cuda:N`, found `{text}`")),
        }
    }
}

/// How to start an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// Which processor.
    pub device: DeviceRequest,
    /// Threads inside an operator on the CPU; none lets the engine choose by the size of a step.
    pub threads: Option<usize>,
}

/// Executes ONNX graphs.
pub trait Engine: Debug {
    /// The device in use, such as `cpu` or `cuda:0`.
    fn device(&self) -> String;

    /// Library and version, such as `ONNX Runtime 1.31.1`.
    fn version(&self) -> String;
}

/// Starts ONNX Runtime from a library that was found. One library per process.
///
/// # Errors
/// When the library cannot be loaded, or a requested device is missing.
pub fn start(library: &Library, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    let _ = (library, options);
    unimplemented!("skeleton")
}

/// Why an engine could not start or run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The library is there and does not load.
    #[error("cannot load ONNX Runtime from `{}`: {message}", path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        message: String,
    },
    /// The device that was asked for is not there.
    #[error("device `{device}` is not available: {message}")]
    Device {
        /// As asked for.
        device: String,
        /// What is missing and how to get it.
        message: String,
    },
    /// A graph was refused or failed.
    #[error("{engine} failed {doing}: {message}")]
    Run {
        /// Which engine.
        engine: &'static str,
        /// At what.
        doing: String,
        /// Its own words.
        message: String,
    },
}
