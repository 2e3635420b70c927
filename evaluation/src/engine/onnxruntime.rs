//! The only module that names the crate `ort`: ONNX Runtime behind the traits [`Engine`] and [`Machine`].
//!
//! States live in two sets of buffers. A program that replaces them reads one set and writes the other, then the
//! sets change roles ("ping-pong"): nothing is copied, and no output ever aliases an input, which ONNX Runtime would
//! silently compute wrongly. Each program has one binding per role of the sets.

mod kernels;
mod machine;
mod padding;
mod values;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::ValueType;

use machine::OnnxRuntimeMachine;
use values::{element_type, host_tensor, to_host};

use super::{DeviceRequest, Engine, EngineError, EngineOptions, Machine, types};
use crate::graph::{ElementType, Graph, Tensor, TensorType, encode_model};

/// ONNX Runtime on one device.
#[derive(Debug, Clone)]
pub(super) struct OnnxRuntime {
    environment: Environment,
    version: String,
    /// Number of the CUDA device; none for the CPU.
    cuda: Option<u32>,
    threads: Option<usize>,
    /// Whether programs are recorded as CUDA graphs.
    cuda_graphs: bool,
}

/// A process can load one library; the environment lives as long as the process.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// A step below this many multiplications is done before a second thread has woken up.
const WORK_PER_THREAD: f64 = 3e7;

impl OnnxRuntime {
    pub(super) fn start(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let load_error = |message: String| EngineError::Load {
            path: path.to_owned(),
            message,
        };
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match &*loaded {
            Some((other, _)) if other != path => {
                return Err(load_error(format!(
                    "this process has already loaded `{}`",
                    other.display()
                )));
            }
            Some((_, environment)) => environment.clone(),
            None => {
                let environment = ort::init_from(path)
                    .map_err(|error| load_error(error.to_string()))?
                    .with_name("hpo")
                    .with_telemetry(false)
                    .build()
                    .map_err(|error| load_error(error.to_string()))?;
                // Errors come back as values; warnings about graphs that we made ourselves help no user.
                environment.set_log_level(LogLevel::Fatal);
                *loaded = Some((path.to_owned(), environment.clone()));
                environment
            }
        };
        drop(loaded);
        let version = version_of(path, ort::info());
        let mut engine = Self {
            environment,
            version,
            cuda: None,
            threads: options.threads,
            cuda_graphs: options.cuda_graphs,
        };
        match options.device {
            DeviceRequest::Cpu => {}
            DeviceRequest::Auto => {
                if cuda_provider_beside(path) {
                    engine.cuda = Some(0);
                    if engine.probe().is_err() {
                        engine.cuda = None;
                    }
                }
            }
            DeviceRequest::Cuda(number) => {
                if !cuda_provider_beside(path) {
                    return Err(EngineError::Device {
                        device: options.device.to_string(),
                        message: format!(
                            "the library `{}` is built without CUDA; install the Python package `onnxruntime-gpu` \
                             and name its library with `--onnxruntime`",
                            path.display()
                        ),
                    });
                }
                engine.cuda = Some(number);
                engine.probe().map_err(|error| EngineError::Device {
                    device: options.device.to_string(),
                    message: format!(
                        "the CUDA provider does not start: {error}; needed are an NVIDIA driver and GPU, CUDA 13 \
                         and cuDNN 9"
                    ),
                })?;
            }
        }
        Ok(engine)
    }

    /// Runs the smallest program on the device.
    fn probe(&self) -> Result<(), EngineError> {
        let mut builder = crate::graph::Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [1]));
        let y = builder.node("Add", &[&x, &x], Vec::new());
        builder.output("y", &y);
        self.run(&builder.finish(), vec![("x".into(), Tensor::f32([1], vec![1.0]))])
            .map(drop)
    }

    fn builder(&self, threads: usize, cuda_graph: bool) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(&self.environment)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // A step is hundreds of short pieces, and a thread that sleeps wakes too late for the next. Between steps threads that
            // spin would take the cores from the other evaluations of the machine.
            .with_intra_op_spinning(self.cuda.is_none())?
            .with_config_entry("session.force_spinning_stop", "1")?
            .with_inter_op_spinning(false)?
            .with_log_level(LogLevel::Fatal)?;
        if let Some(number) = self.cuda {
            let provider = ort::ep::CUDA::default()
                .with_device_id(number as i32)
                .with_tf32(false)
                .with_cuda_graph(cuda_graph)
                .build()
                .error_on_failure();
            builder = builder.with_execution_providers([provider])?;
        }
        Ok(builder)
    }

    fn session(&self, graph: &Graph, threads: usize, level: GraphOptimizationLevel) -> Result<Session, EngineError> {
        let bytes = encode_model(&graph.to_model());
        (|| {
            self.builder(threads, false)?
                .with_optimization_level(level)?
                .with_flush_to_zero()?
                .commit_from_memory(&bytes)
        })()
        .map_err(|error| failure("to load a graph", &error))
    }
}

impl Engine for OnnxRuntime {
    fn device(&self) -> String {
        self.cuda
            .map_or_else(|| "cpu".to_owned(), |number| format!("cuda:{number}"))
    }

    fn version(&self) -> String {
        format!("ONNX Runtime {}", self.version)
    }

    fn types(&self, graph: &Graph) -> Result<HashMap<String, TensorType>, EngineError> {
        // Everything is declared as an output: the session then reports the types that it inferred.
        let mut open = graph.clone();
        open.outputs = graph
            .nodes
            .iter()
            .flat_map(|node| node.outputs.iter())
            .filter(|name| !name.is_empty())
            .cloned()
            .collect();
        // Weights have no say in types; as inputs they need not be written into the graph.
        let large = |tensor: &Tensor| tensor.elements.element_type().is_float() && tensor.elements.len() > 1024;
        for (name, tensor) in std::mem::take(&mut open.constants) {
            if large(&tensor) {
                open.inputs
                    .push((name, TensorType::new(tensor.elements.element_type(), tensor.shape)));
            } else {
                open.constants.insert(name, tensor);
            }
        }
        let cpu = Self {
            cuda: None,
            ..self.clone()
        };
        let session = cpu.session(&open, 1, GraphOptimizationLevel::Disable)?;
        let mut types = HashMap::new();
        for outlet in session.outputs() {
            if let ValueType::Tensor { ty, shape, .. } = outlet.dtype()
                && let Some(element) = element_type(*ty)
                && let Ok(shape) = shape
                    .iter()
                    .map(|dim| usize::try_from(*dim))
                    .collect::<Result<Vec<_>, _>>()
            {
                types.insert(outlet.name().to_owned(), TensorType { element, shape });
            }
        }
        mend_scalars(graph, &mut types);
        Ok(types)
    }

    fn run_each(&self, graph: &Graph, inputs: &[Vec<(String, Tensor)>]) -> Result<Vec<Vec<Tensor>>, EngineError> {
        let mut session = self.session(graph, 1, GraphOptimizationLevel::Disable)?;
        let mut run = |inputs: &[(String, Tensor)]| {
            let mut values = Vec::with_capacity(inputs.len());
            for (name, tensor) in inputs {
                values.push((name.clone(), host_tensor(tensor)?.into_dyn()));
            }
            let outputs = session.run(values)?;
            graph
                .outputs
                .iter()
                .map(|name| {
                    let value = outputs
                        .get(name)
                        .ok_or_else(|| ort::Error::new(format!("output `{name}` is missing")))?;
                    to_host(&*value.view().downcast::<ort::value::DynTensorValueType>()?)
                })
                .collect::<ort::Result<Vec<_>>>()
        };
        inputs
            .iter()
            .map(|inputs| run(inputs).map_err(|error| failure("to run a graph", &error)))
            .collect()
    }

    fn machine(&self, work: f64) -> Result<Box<dyn Machine>, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self
            .threads
            .unwrap_or_else(|| ((work / WORK_PER_THREAD) as usize).clamp(1, cores.min(4)));
        let mut builder = crate::graph::Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [1]));
        let y = builder.node("Identity", &[&x], Vec::new());
        builder.output("y", &y);
        let anchor = self.session(&builder.finish(), 1, GraphOptimizationLevel::Disable)?;
        let allocator = match self.cuda {
            None => Allocator::default(),
            Some(number) => MemoryInfo::new(
                AllocationDevice::CUDA,
                number as i32,
                AllocatorType::Device,
                MemoryType::Default,
            )
            .and_then(|info| Allocator::new(&anchor, info))
            .map_err(|error| failure("to reach the device's memory", &error))?,
        };
        Ok(Box::new(OnnxRuntimeMachine::new(
            self.clone(),
            threads,
            allocator,
            anchor,
        )))
    }
}

/// Loads a shared library for good, so that those that need it find it loaded, wherever it lies.
pub(super) fn preload(path: &Path) -> Result<(), String> {
    ort::util::preload_dylib(path).map_err(|error| error.to_string())
}

fn failure(doing: &str, error: &ort::Error) -> EngineError {
    if is_lack_of_memory(error.message()) {
        return EngineError::Memory {
            engine: "ONNX Runtime",
            doing: doing.to_owned(),
            bytes: bytes_asked(error.message()),
        };
    }
    EngineError::Run {
        engine: "ONNX Runtime",
        doing: doing.to_owned(),
        message: error.message().trim_end().to_owned(),
    }
}

/// Whether a message is about memory.
fn is_lack_of_memory(message: &str) -> bool {
    const SIGNS: [&str; 6] = [
        "allocate memory",
        "bad_alloc",
        "bad allocation",
        "out of memory",
        "ALLOC_FAILED",
        "Available memory of",
    ];
    SIGNS.iter().any(|sign| message.contains(sign))
}

/// How many bytes such a message names.
fn bytes_asked(message: &str) -> Option<u64> {
    let after = |sign: &str| {
        let (_, rest) = message.split_once(sign)?;
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    after("buffer of size").or_else(|| after("requested bytes of"))
}

/// ONNX Runtime reports a shape that it did not infer as that of a scalar. Where a scalar is no matter of course, our own
/// inference decides, and without its word nothing is known.
fn mend_scalars(graph: &Graph, types: &mut HashMap<String, TensorType>) {
    const MAKERS: [&str; 6] = ["ArgMax", "ArgMin", "Gather", "Reshape", "Size", "Squeeze"];
    let inputs = graph
        .inputs
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.shape.is_empty()));
    let constants = graph
        .constants
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.shape.is_empty()));
    let is_scalar: HashMap<&str, bool> = inputs.chain(constants).collect();
    let doubtful: Vec<String> = graph
        .nodes
        .iter()
        .filter(|node| {
            let operator = node.operator.as_str();
            let of_scalars =
                node.inputs
                    .iter()
                    .filter(|name| !name.is_empty())
                    .all(|name| match is_scalar.get(name.as_str()) {
                        Some(scalar) => *scalar,
                        None => types.get(name).is_some_and(|kind| kind.shape.is_empty()),
                    });
            !of_scalars && !MAKERS.contains(&operator) && !operator.starts_with("Reduce")
        })
        .flat_map(|node| &node.outputs)
        .filter(|name| types.get(*name).is_some_and(|kind| kind.shape.is_empty()))
        .cloned()
        .collect();
    if doubtful.is_empty() {
        return;
    }
    let own = types::of_graph(graph);
    for name in doubtful {
        types.remove(&name);
    }
    // What follows from a wrong scalar is often one too.
    for (name, kind) in own {
        if types.get(&name).is_none_or(|found| found.shape.is_empty()) {
            types.insert(name, kind);
        }
    }
}

fn cuda_provider_beside(library: &Path) -> bool {
    let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    real.parent()
        .is_some_and(|folder| folder.join("libonnxruntime_providers_cuda.so").exists())
}

/// The file's name carries the version, also behind a link; else the build's description names the branch or commit.
fn version_of(path: &Path, info: &str) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if let Some(version) = name.strip_prefix("libonnxruntime.so.") {
        return version.to_owned();
    }
    let entry = |key: &str| {
        info.split([',', ' '])
            .find_map(|part| part.trim().strip_prefix(key))
            .map(str::to_owned)
    };
    entry("git-branch=rel-")
        .or_else(|| entry("git-commit-id="))
        .unwrap_or_else(|| "of unknown version".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{bytes_asked, is_lack_of_memory};

    #[test]
    fn lack_of_memory_is_told_from_other_failures_with_its_size() {
        let arena = "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 1600000000";
        assert_eq!(bytes_asked(arena), Some(1_600_000_000));
        assert_eq!(bytes_asked("std::bad_alloc"), None);
        for message in [
            arena,
            "std::bad_alloc",
            "CUDA error 2: out of memory",
            "CUDNN_STATUS_ALLOC_FAILED",
        ] {
            assert!(is_lack_of_memory(message), "{message}");
        }
        assert!(!is_lack_of_memory("indices element out of data bounds, idx=9"));
    }
}
