//! The only module that names the crate `ort`: ONNX Runtime behind the traits [`Engine`] and [`Machine`].
//!
//! States live in two sets of buffers. A program that replaces them reads one set and writes the other, then the
//! sets change roles ("ping-pong"): nothing is copied, and no output ever aliases an input, which ONNX Runtime would
//! silently compute wrongly. Each program has one binding per role of the sets.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, TensorElementType, ValueType};

use super::{DeviceRequest, Engine, EngineError, EngineOptions, Feed, Machine, NEXT};
use crate::graph::{ElementType, Elements, Graph, Tensor, TensorType, encode_model};

/// ONNX Runtime on one device.
#[derive(Debug, Clone)]
pub(super) struct OnnxRuntime {
    environment: Environment,
    version: String,
    /// Number of the CUDA device; none for the CPU.
    cuda: Option<u32>,
    threads: Option<usize>,
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
                         (cudart, cublas, curand) and cuDNN 9 on the library path"
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

    fn builder(&self, threads: usize) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(&self.environment)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            // Idle threads that spin take the cores from the other evaluations of the machine.
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_log_level(LogLevel::Fatal)?;
        if let Some(number) = self.cuda {
            let provider = ort::ep::CUDA::default()
                .with_device_id(number as i32)
                .with_tf32(false)
                .build()
                .error_on_failure();
            builder = builder.with_execution_providers([provider])?;
        }
        Ok(builder)
    }

    fn session(&self, graph: &Graph, threads: usize, level: GraphOptimizationLevel) -> Result<Session, EngineError> {
        let bytes = encode_model(&graph.to_model());
        (|| {
            self.builder(threads)?
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
        Ok(Box::new(OnnxRuntimeMachine {
            engine: self.clone(),
            threads,
            programs: Vec::new(),
            constants: HashMap::new(),
            states: Vec::new(),
            current: 0,
            allocator,
            _anchor: anchor,
        }))
    }
}

#[derive(Debug)]
struct OnnxRuntimeMachine {
    engine: OnnxRuntime,
    threads: usize,
    // Programs hold bindings to the buffers below and are dropped before them.
    programs: Vec<Program>,
    constants: HashMap<String, DynTensor>,
    states: Vec<(String, [DynTensor; 2])>,
    /// Which of the two buffers of a state holds its value.
    current: usize,
    allocator: Allocator,
    /// Keeps the device's allocator alive.
    _anchor: Session,
}

struct Program {
    bindings: [IoBinding; 2],
    session: Session,
    feeds: Vec<(String, DynTensor)>,
    results: Vec<DynTensor>,
    replaces_states: bool,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("feeds", &self.feeds)
            .finish_non_exhaustive()
    }
}

impl OnnxRuntimeMachine {
    fn device_tensor(&self, value: &Tensor) -> ort::Result<DynTensor> {
        let mut tensor = DynTensor::new(
            &self.allocator,
            ort_type(value.elements.element_type()),
            value.shape.clone(),
        )?;
        self.fill(&mut tensor, value)?;
        Ok(tensor)
    }

    fn fill(&self, target: &mut DynTensor, value: &Tensor) -> ort::Result<()> {
        if self.engine.cuda.is_some() {
            return host_tensor(value)?.copy_into(target);
        }
        fill_host(target, value)
    }

    fn find_state(&self, name: &str) -> Option<usize> {
        self.states.iter().position(|(other, _)| other == name)
    }

    fn build(&mut self, graph: &Graph, results: &[TensorType]) -> ort::Result<Program> {
        let bytes = encode_model(&graph.to_model());
        let session = self
            .engine
            .builder(self.threads)?
            .with_optimization_level(GraphOptimizationLevel::Level2)?
            .with_flush_to_zero()?
            .commit_from_memory(&bytes)?;
        let mut bindings = [session.create_binding()?, session.create_binding()?];
        let mut feeds = Vec::new();
        for (name, kind) in &graph.inputs {
            if let Some(tensor) = self.constants.get(name) {
                bindings[0].bind_input(name, tensor)?;
                bindings[1].bind_input(name, tensor)?;
            } else if let Some(index) = self.find_state(name) {
                bindings[0].bind_input(name, &self.states[index].1[0])?;
                bindings[1].bind_input(name, &self.states[index].1[1])?;
            } else {
                let tensor = DynTensor::new(&Allocator::default(), ort_type(kind.element), kind.shape.clone())?;
                bindings[0].bind_input(name, &tensor)?;
                bindings[1].bind_input(name, &tensor)?;
                feeds.push((name.clone(), tensor));
            }
        }
        let mut host = Vec::new();
        let mut replaced = 0;
        for name in &graph.outputs {
            if let Some(index) = name.strip_suffix(NEXT).and_then(|name| self.find_state(name)) {
                let [first, second] = &mut self.states[index].1;
                bindings[0].bind_output(name, &mut *second)?;
                bindings[1].bind_output(name, &mut *first)?;
                replaced += 1;
            } else {
                let kind = results
                    .get(host.len())
                    .ok_or_else(|| ort::Error::new(format!("untyped result `{name}`")))?;
                let mut tensor = DynTensor::new(&Allocator::default(), ort_type(kind.element), kind.shape.clone())?;
                bindings[0].bind_output(name, &mut tensor)?;
                bindings[1].bind_output(name, &mut tensor)?;
                host.push(tensor);
            }
        }
        assert!(
            replaced == 0 || replaced == self.states.len(),
            "a program replaces every state or none"
        );
        Ok(Program {
            bindings,
            session,
            feeds,
            results: host,
            replaces_states: replaced > 0,
        })
    }
}

impl Machine for OnnxRuntimeMachine {
    fn constant(&mut self, name: &str, value: Tensor) -> Result<(), EngineError> {
        let tensor = self
            .device_tensor(&value)
            .map_err(|error| failure("to place data on the device", &error))?;
        self.constants.insert(name.to_owned(), tensor);
        Ok(())
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), EngineError> {
        let wrap = |error: ort::Error| failure("to place a state on the device", &error);
        if let Some(index) = self.find_state(name) {
            let current = self.current;
            let (name, buffers) = self.states.swap_remove(index);
            let mut buffers = buffers;
            let outcome = self.fill(&mut buffers[current], value);
            // The order of states carries no meaning, but stays as it was.
            self.states.push((name, buffers));
            let last = self.states.len() - 1;
            self.states.swap(index, last);
            return outcome.map_err(wrap);
        }
        let pair = [
            self.device_tensor(value).map_err(wrap)?,
            self.device_tensor(value).map_err(wrap)?,
        ];
        self.states.push((name.to_owned(), pair));
        Ok(())
    }

    fn state(&self, name: &str) -> Result<Tensor, EngineError> {
        let wrap = |error: ort::Error| failure("to read a state", &error);
        let index = self
            .find_state(name)
            .ok_or_else(|| wrap(ort::Error::new(format!("there is no state `{name}`"))))?;
        let tensor = &self.states[index].1[self.current];
        if self.engine.cuda.is_some() {
            return tensor
                .to(AllocationDevice::CPU, 0)
                .and_then(|tensor| to_host(&tensor))
                .map_err(wrap);
        }
        to_host(tensor).map_err(wrap)
    }

    fn load(&mut self, graph: &Graph, results: &[TensorType]) -> Result<usize, EngineError> {
        let program = self
            .build(graph, results)
            .map_err(|error| failure("to load a program", &error))?;
        self.programs.push(program);
        Ok(self.programs.len() - 1)
    }

    fn run(&mut self, program: usize, feeds: &[Feed<'_>]) -> Result<(), EngineError> {
        let wrap = |error: ort::Error| failure("to run a program", &error);
        let current = self.current;
        let on_device = self.engine.cuda.is_some();
        let program = &mut self.programs[program];
        assert_eq!(program.feeds.len(), feeds.len(), "every feed gets a value");
        for ((name, tensor), feed) in program.feeds.iter_mut().zip(feeds) {
            match feed {
                Feed::F32(values) => tensor
                    .try_extract_tensor_mut::<f32>()
                    .map_err(wrap)?
                    .1
                    .copy_from_slice(values),
                Feed::I64(values) => tensor
                    .try_extract_tensor_mut::<i64>()
                    .map_err(wrap)?
                    .1
                    .copy_from_slice(values),
            }
            if on_device {
                // Binding is what copies a host buffer to the device.
                program.bindings[current]
                    .bind_input(name.as_str(), tensor)
                    .map_err(wrap)?;
            }
        }
        program.session.run_binding(&program.bindings[current]).map_err(wrap)?;
        if program.replaces_states {
            self.current = 1 - current;
        }
        Ok(())
    }

    fn result(&self, program: usize, index: usize) -> Result<&[f32], EngineError> {
        self.programs[program].results[index]
            .try_extract_tensor::<f32>()
            .map(|(_, values)| values)
            .map_err(|error| failure("to read a result", &error))
    }
}

fn failure(doing: &str, error: &ort::Error) -> EngineError {
    EngineError::Run {
        engine: "ONNX Runtime",
        doing: doing.to_owned(),
        message: error.message().to_owned(),
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

fn ort_type(element: ElementType) -> TensorElementType {
    match element {
        ElementType::F32 => TensorElementType::Float32,
        ElementType::F64 => TensorElementType::Float64,
        ElementType::I64 => TensorElementType::Int64,
        ElementType::I32 => TensorElementType::Int32,
        ElementType::Bool => TensorElementType::Bool,
    }
}

fn element_type(element: TensorElementType) -> Option<ElementType> {
    match element {
        TensorElementType::Float32 => Some(ElementType::F32),
        TensorElementType::Float64 => Some(ElementType::F64),
        TensorElementType::Int64 => Some(ElementType::I64),
        TensorElementType::Int32 => Some(ElementType::I32),
        TensorElementType::Bool => Some(ElementType::Bool),
        _ => None,
    }
}

fn host_tensor(value: &Tensor) -> ort::Result<DynTensor> {
    let mut tensor = DynTensor::new(
        &Allocator::default(),
        ort_type(value.elements.element_type()),
        value.shape.clone(),
    )?;
    fill_host(&mut tensor, value)?;
    Ok(tensor)
}

fn fill_host(target: &mut DynTensor, value: &Tensor) -> ort::Result<()> {
    match &value.elements {
        Elements::F32(values) => target.try_extract_tensor_mut::<f32>()?.1.copy_from_slice(values),
        Elements::F64(values) => target.try_extract_tensor_mut::<f64>()?.1.copy_from_slice(values),
        Elements::I64(values) => target.try_extract_tensor_mut::<i64>()?.1.copy_from_slice(values),
        Elements::I32(values) => target.try_extract_tensor_mut::<i32>()?.1.copy_from_slice(values),
        Elements::Bool(values) => target.try_extract_tensor_mut::<bool>()?.1.copy_from_slice(values),
    }
    Ok(())
}

fn to_host(tensor: &DynTensor) -> ort::Result<Tensor> {
    let elements = match tensor.data_type() {
        TensorElementType::Float32 => Elements::F32(tensor.try_extract_tensor::<f32>()?.1.to_vec()),
        TensorElementType::Float64 => Elements::F64(tensor.try_extract_tensor::<f64>()?.1.to_vec()),
        TensorElementType::Int64 => Elements::I64(tensor.try_extract_tensor::<i64>()?.1.to_vec()),
        TensorElementType::Int32 => Elements::I32(tensor.try_extract_tensor::<i32>()?.1.to_vec()),
        TensorElementType::Bool => Elements::Bool(tensor.try_extract_tensor::<bool>()?.1.to_vec()),
        other => {
            return Err(ort::Error::new(format!("element type {other} is not supported")));
        }
    };
    let shape: Vec<usize> = tensor.shape().iter().map(|dim| *dim as usize).collect();
    Ok(Tensor::new(shape, elements))
}
