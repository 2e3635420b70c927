//! Engines execute graphs: ONNX Runtime for work, a slow readable interpreter for checks.

#[cfg(feature = "rten")]
mod embedded;
pub mod library;
mod onnxruntime;
pub mod reference;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::str::FromStr;

pub use library::{Library, LibraryError, LibraryRequest};

use crate::dataset::readable_size;
use crate::graph::{Graph, Tensor, TensorType};

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

/// Which engine executes the graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineRequest {
    /// ONNX Runtime where it can be had, else the embedded engine.
    #[default]
    Auto,
    /// ONNX Runtime, or failure.
    OnnxRuntime,
    /// The engine that is part of this program.
    Rten,
}

impl FromStr for EngineRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "onnxruntime" => Ok(Self::OnnxRuntime),
            "rten" => Ok(Self::Rten),
            _ => Err(format!("expected `auto`, `onnxruntime` or `rten`, found `{text}`")),
        }
    }
}

impl fmt::Display for EngineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::OnnxRuntime => "onnxruntime",
            Self::Rten => "rten",
        })
    }
}

/// How to start an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineOptions {
    /// Which processor.
    pub device: DeviceRequest,
    /// Threads inside an operator on the CPU; none lets the engine choose by the size of a step.
    pub threads: Option<usize>,
    /// Whether the steps of a training are recorded as CUDA graphs and replayed; of no meaning on the CPU.
    pub cuda_graphs: bool,
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Suffix of the outputs that hold the next value of a state.
pub const NEXT: &str = "/next";

/// Executes ONNX graphs.
pub trait Engine: Debug {
    /// The device in use, such as `cpu` or `cuda:0`.
    fn device(&self) -> String;

    /// Library and version, such as `ONNX Runtime 1.31.1`.
    fn version(&self) -> String;

    /// Element type and shape of every tensor that a node of the graph makes, as far as they are known without
    /// running it.
    ///
    /// # Errors
    /// When the graph is refused; the message names the node.
    fn types(&self, graph: &Graph) -> Result<HashMap<String, TensorType>, EngineError>;

    /// Runs a graph for each set of inputs and returns its outputs in order.
    ///
    /// # Errors
    /// When the graph is refused or fails.
    fn run_each(&self, graph: &Graph, inputs: &[Vec<(String, Tensor)>]) -> Result<Vec<Vec<Tensor>>, EngineError>;

    /// Runs a graph once and returns its outputs in order.
    ///
    /// # Errors
    /// When the graph is refused or fails.
    fn run(&self, graph: &Graph, inputs: Vec<(String, Tensor)>) -> Result<Vec<Tensor>, EngineError> {
        Ok(self.run_each(graph, &[inputs])?.pop().unwrap_or_default())
    }

    /// A machine without programs; `work` is the number of multiplications in a typical run, by which the number of
    /// threads is chosen unless the user chose it.
    ///
    /// # Errors
    /// When the device fails.
    fn machine(&self, work: f64) -> Result<Box<dyn Machine>, EngineError>;
}

/// Runs programs many times on data that stays on the device.
///
/// There are *constants*, which programs read; *states*, which some programs replace; and *feeds*, small inputs of
/// each run. A program's input is whichever of the first two has its name, else a feed. An output whose name is that
/// of a state with the suffix [`NEXT`] becomes the state's value after the run; other outputs are results, to be
/// read on the host. A program replaces either every state or none.
pub trait Machine: Debug {
    /// Adds a constant.
    ///
    /// # Errors
    /// When the device fails, for instance for lack of memory.
    fn constant(&mut self, name: &str, value: Tensor) -> Result<(), EngineError>;

    /// Adds a constant of single precision, with numbers that stay where they are.
    ///
    /// # Errors
    /// When the device fails, for instance for lack of memory.
    fn data(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), EngineError> {
        let mut copy = Vec::new();
        if copy.try_reserve_exact(values.len()).is_err() {
            return Err(EngineError::Memory {
                engine: "this program",
                doing: HANDING.to_owned(),
                bytes: Some(4 * values.len() as u64),
            });
        }
        copy.extend_from_slice(values);
        self.constant(name, Tensor::f32(shape, copy))
    }

    /// Adds a state, or gives it a new value of the same type.
    ///
    /// # Errors
    /// When the device fails.
    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), EngineError>;

    /// Adds a state, or gives it a new value: a tensor of single precision with the same number everywhere.
    ///
    /// # Errors
    /// When the device fails.
    fn set_filled(&mut self, name: &str, shape: &[usize], number: f32) -> Result<(), EngineError> {
        self.set_state(name, &filled(shape, number))
    }

    /// The value of a state.
    ///
    /// # Errors
    /// When there is no such state or the device fails.
    fn state(&self, name: &str) -> Result<Tensor, EngineError>;

    /// Adds a program and returns its number. `results` are the types of its outputs that are no states.
    ///
    /// # Errors
    /// When the graph is refused.
    fn load(&mut self, graph: &Graph, results: &[TensorType]) -> Result<usize, EngineError>;

    /// Runs a program with its feeds, in the order of the graph's inputs.
    ///
    /// # Errors
    /// When it fails.
    fn run(&mut self, program: usize, feeds: &[Feed<'_>]) -> Result<(), EngineError>;

    /// A result of the program's last run, by position among its results.
    ///
    /// # Errors
    /// When it is not of type `f32` or cannot be read.
    fn result(&self, program: usize, index: usize) -> Result<&[f32], EngineError>;
}

fn filled(shape: &[usize], number: f32) -> Tensor {
    Tensor::f32(shape, vec![number; shape.iter().product()])
}

/// What [`Machine::data`] does, in words, with a remedy.
const HANDING: &str = "to hand the data to the engine; `--data-memory` has them streamed";

/// A small input of one run, in C order.
#[derive(Debug, Clone, Copy)]
pub enum Feed<'a> {
    /// 32-bit numbers.
    F32(&'a [f32]),
    /// Indices.
    I64(&'a [i64]),
}

/// Starts ONNX Runtime from a library that was found. One library per process.
///
/// # Errors
/// When the library cannot be loaded, or a requested device is missing.
pub fn start(library: &Library, options: &EngineOptions) -> Result<Box<dyn Engine>, EngineError> {
    Ok(Box::new(onnxruntime::OnnxRuntime::start(&library.path, options)?))
}

/// Whether [`embedded()`] has an engine to start.
pub const HAS_EMBEDDED: bool = cfg!(feature = "rten");

/// Starts the engine that is part of this program and needs no library; it runs on the CPU only, on `threads` threads,
/// by default chosen by the size of a step. None when the program was built without the feature `rten`.
#[must_use]
pub fn embedded(threads: Option<usize>) -> Option<Box<dyn Engine>> {
    #[cfg(feature = "rten")]
    return Some(Box::new(embedded::Embedded { threads }));
    #[cfg(not(feature = "rten"))]
    {
        let _ = threads;
        None
    }
}

/// Loads shared libraries that an engine's device needs, in this order, so that they are found without
/// `LD_LIBRARY_PATH`; returns what went wrong with each that could not be loaded.
#[must_use]
pub fn preload(libraries: &[PathBuf]) -> Vec<String> {
    libraries
        .iter()
        .filter_map(|path| onnxruntime::preload(path).err())
        .collect()
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
    /// There is not enough memory.
    #[error("{engine} found no memory {doing}{}", asked(*bytes))]
    Memory {
        /// Which engine.
        engine: &'static str,
        /// At what.
        doing: String,
        /// How much was asked for at once, where that is known.
        bytes: Option<u64>,
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

fn asked(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| {
        format!(" ({} more were asked for)", readable_size(bytes))
    })
}
