//! Programs, and the buffers that they are bound to.

use std::collections::HashMap;

use ort::memory::{AllocationDevice, Allocator};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::DynTensor;

use super::values::{fill_host, host_tensor, ort_type, to_host};
use super::{OnnxRuntime, failure, kernels, padding};
use crate::engine::{EngineError, Feed, HANDING, Machine, NEXT, filled};
use crate::graph::{ElementType, Graph, Tensor, TensorType, encode_model};

#[derive(Debug)]
pub(super) struct OnnxRuntimeMachine {
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
    recording: Option<Recording>,
    replaces_states: bool,
}

/// What a program has besides when it is recorded as a CUDA graph, one for each of its bindings, which reads and writes the
/// same places in each run: buffers on the device for feeds and results, and what tells the graphs apart.
struct Recording {
    feeds: Vec<DynTensor>,
    results: Vec<DynTensor>,
    options: [RunOptions; 2],
}

impl Recording {
    fn new() -> ort::Result<Self> {
        let options = |graph: &str| -> ort::Result<RunOptions> {
            let mut options = RunOptions::new()?;
            options.set("gpu_graph_id", graph)?;
            Ok(options)
        };
        Ok(Self {
            feeds: Vec::new(),
            results: Vec::new(),
            options: [options("1")?, options("2")?],
        })
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("feeds", &self.feeds)
            .finish_non_exhaustive()
    }
}

impl OnnxRuntimeMachine {
    /// A machine without programs, whose buffers come from `allocator`, which belongs to the session `anchor`.
    pub(super) fn new(engine: OnnxRuntime, threads: usize, allocator: Allocator, anchor: Session) -> Self {
        Self {
            engine,
            threads,
            programs: Vec::new(),
            constants: HashMap::new(),
            states: Vec::new(),
            current: 0,
            allocator,
            _anchor: anchor,
        }
    }

    /// A buffer for such a value, which on the CPU holds zeros.
    fn buffer(&self, element: ElementType, shape: &[usize]) -> ort::Result<DynTensor> {
        DynTensor::new(&self.allocator, ort_type(element), shape.to_vec())
    }

    fn device_tensor(&self, value: &Tensor) -> ort::Result<DynTensor> {
        let mut tensor = self.buffer(value.elements.element_type(), &value.shape)?;
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
        let mut model = if self.engine.cuda.is_some() {
            padding::symmetric(graph).to_model()
        } else {
            graph.to_model()
        };
        let is_recorded = self.engine.cuda.is_some() && self.engine.cuda_graphs;
        let mut builder = self.engine.builder(self.threads, is_recorded)?;
        if self.engine.cuda.is_none() && kernels::substitute(&mut model, graph) {
            builder = builder.with_operators(kernels::operators(self.threads)?)?;
        }
        let bytes = encode_model(&model);
        let session = builder
            .with_optimization_level(GraphOptimizationLevel::Level2)?
            .with_flush_to_zero()?
            .commit_from_memory(&bytes)?;
        let mut bindings = [session.create_binding()?, session.create_binding()?];
        let mut recording = is_recorded.then(Recording::new).transpose()?;
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
                let device = || self.buffer(kind.element, &kind.shape);
                let device = recording.is_some().then(device).transpose()?;
                for binding in &mut bindings {
                    binding.bind_input(name, device.as_ref().unwrap_or(&tensor))?;
                }
                if let (Some(recording), Some(device)) = (&mut recording, device) {
                    recording.feeds.push(device);
                }
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
                let device = || self.buffer(kind.element, &kind.shape);
                let mut device = recording.is_some().then(device).transpose()?;
                for binding in &mut bindings {
                    binding.bind_output(name, device.as_mut().unwrap_or(&mut tensor))?;
                }
                if let (Some(recording), Some(device)) = (&mut recording, device) {
                    recording.results.push(device);
                }
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
            recording,
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

    fn data(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), EngineError> {
        let wrap = |error: ort::Error| failure(HANDING, &error);
        let host = DynTensor::new(&Allocator::default(), ort_type(ElementType::F32), shape.to_vec());
        let mut host = host.map_err(wrap)?;
        let target = host.try_extract_tensor_mut::<f32>().map_err(wrap)?.1;
        target.copy_from_slice(values);
        let tensor = if self.engine.cuda.is_some() {
            let mut device = self.buffer(ElementType::F32, shape).map_err(wrap)?;
            host.copy_into(&mut device).map_err(wrap)?;
            device
        } else {
            host
        };
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
        // The other one is written before it is read.
        let other = self.buffer(value.elements.element_type(), &value.shape);
        let mut pair = [self.device_tensor(value).map_err(wrap)?, other.map_err(wrap)?];
        if self.current == 1 {
            pair.swap(0, 1);
        }
        self.states.push((name.to_owned(), pair));
        Ok(())
    }

    fn set_filled(&mut self, name: &str, shape: &[usize], number: f32) -> Result<(), EngineError> {
        let is_zero = number.to_bits() == 0;
        if !is_zero || self.engine.cuda.is_some() || self.find_state(name).is_some() {
            return self.set_state(name, &filled(shape, number));
        }
        let buffer = || self.buffer(ElementType::F32, shape);
        let pair = buffer().and_then(|first| Ok([first, buffer()?]));
        let pair = pair.map_err(|error| failure("to place a state on the device", &error))?;
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
            .map_err(|error| match failure("to load a program", &error) {
                EngineError::Run { engine, doing, message } if self.engine.cuda_graphs => EngineError::Run {
                    engine,
                    doing,
                    message: format!("{message}; without `--cuda-graphs` it may be loaded"),
                },
                error => error,
            })?;
        self.programs.push(program);
        Ok(self.programs.len() - 1)
    }

    fn run(&mut self, program: usize, feeds: &[Feed<'_>]) -> Result<(), EngineError> {
        let wrap = |error: ort::Error| failure("to run a program", &error);
        let current = self.current;
        let on_device = self.engine.cuda.is_some();
        let program = &mut self.programs[program];
        assert_eq!(program.feeds.len(), feeds.len(), "every feed gets a value");
        for (index, ((name, tensor), feed)) in program.feeds.iter_mut().zip(feeds).enumerate() {
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
            if let Some(recording) = &mut program.recording {
                tensor.copy_into(&mut recording.feeds[index]).map_err(wrap)?;
            } else if on_device {
                // Binding is what copies a host buffer to the device.
                program.bindings[current]
                    .bind_input(name.as_str(), tensor)
                    .map_err(wrap)?;
            }
        }
        if let Some(recording) = &program.recording {
            let options = &recording.options[current];
            let done = program
                .session
                .run_binding_with_options(&program.bindings[current], options);
            done.map_err(wrap)?;
            for (device, host) in recording.results.iter().zip(&mut program.results) {
                device.copy_into(host).map_err(wrap)?;
            }
        } else {
            program.session.run_binding(&program.bindings[current]).map_err(wrap)?;
        }
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
