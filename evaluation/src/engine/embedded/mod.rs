//! An engine that needs no library: the crate `rten`, for where no ONNX Runtime can be had.
//!
//! It runs the same graphs, a few times slower. What `rten` refuses, the reference interpreter computes, so that there
//! is no graph that trains here and not there ([`program`]). `rten` knows 32-bit numbers only: integers are cut to that,
//! and what is in double precision is left to the interpreter.

mod forms;
mod memory;
mod pool;
mod program;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use rten::ThreadPool;

use program::Program;
use values::Held;

use super::{Engine, EngineError, Feed, Machine, NEXT, reference, types};
use crate::dataset::available_memory;
use crate::graph::{ElementType, Elements, Graph, Tensor, TensorType};

/// Version of the crate, as metadata name it.
pub(super) const VERSION: &str = "0.27.0";

/// A step below this many multiplications is done before a second thread has woken up.
const WORK_PER_THREAD: f64 = 3e7;

/// `rten` on the CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Embedded {
    pub(super) threads: Option<usize>,
}

fn failure(doing: &str, message: String) -> EngineError {
    EngineError::Run {
        engine: "the embedded engine",
        doing: doing.to_owned(),
        message,
    }
}

impl Engine for Embedded {
    fn device(&self) -> String {
        "cpu".into()
    }

    fn version(&self) -> String {
        format!("rten {VERSION}")
    }

    fn types(&self, graph: &Graph) -> Result<HashMap<String, TensorType>, EngineError> {
        Ok(types::of_graph(graph))
    }

    fn run_each(&self, graph: &Graph, inputs: &[Vec<(String, Tensor)>]) -> Result<Vec<Vec<Tensor>>, EngineError> {
        // Arithmetic on constants is done exactly, with integers of 64 bits.
        if graph.inputs.is_empty()
            && let Ok(results) = reference::Reference.run_each(graph, inputs)
        {
            return Ok(results);
        }
        let mut program = Program::new(graph, &thread_pool(1))?;
        inputs
            .iter()
            .map(|inputs| {
                let given: HashMap<String, Held> = inputs
                    .iter()
                    .map(|(name, tensor)| (name.clone(), Held::new(tensor.clone())))
                    .collect();
                let results = program.run(&|name| given.get(name))?;
                let elements = graph.outputs.iter().map(|name| program.element(name));
                Ok(results
                    .into_iter()
                    .zip(elements)
                    .map(|(result, element)| result.into_tensor(element))
                    .collect())
            })
            .collect()
    }

    fn machine(&self, work: f64) -> Result<Box<dyn Machine>, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self
            .threads
            .unwrap_or_else(|| ((work / WORK_PER_THREAD) as usize).clamp(1, cores.min(4)));
        Ok(Box::new(EmbeddedMachine {
            threads: thread_pool(threads),
            values: HashMap::new(),
            states: HashMap::new(),
            programs: Vec::new(),
        }))
    }
}

fn thread_pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPool::with_num_threads(threads))
}

struct EmbeddedMachine {
    threads: Arc<ThreadPool>,
    /// Constants and states.
    values: HashMap<String, Held>,
    states: HashMap<String, ElementType>,
    programs: Vec<Loaded>,
}

struct Loaded {
    program: Program,
    inputs: Vec<(String, TensorType)>,
    outputs: Vec<String>,
    results: Vec<Vec<f32>>,
}

impl std::fmt::Debug for EmbeddedMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedMachine")
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

impl Machine for EmbeddedMachine {
    fn constant(&mut self, name: &str, value: Tensor) -> Result<(), EngineError> {
        self.values.insert(name.to_owned(), Held::new(value));
        Ok(())
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), EngineError> {
        self.states.insert(name.to_owned(), value.elements.element_type());
        self.values.insert(name.to_owned(), Held::new(value.clone()));
        Ok(())
    }

    fn state(&self, name: &str) -> Result<Tensor, EngineError> {
        match (self.values.get(name), self.states.get(name)) {
            (Some(value), Some(element)) => Ok(value.clone().into_tensor(Some(*element))),
            _ => Err(failure("to read a state", format!("there is no state `{name}`"))),
        }
    }

    fn load(&mut self, graph: &Graph, _: &[TensorType]) -> Result<usize, EngineError> {
        let program = Program::new(graph, &self.threads)?;
        let least = program.least_memory();
        if available_memory().is_some_and(|available| least > available) {
            return Err(EngineError::Memory {
                engine: "the embedded engine",
                doing: "to run a program".to_owned(),
                bytes: Some(least),
            });
        }
        self.programs.push(Loaded {
            program,
            inputs: graph.inputs.clone(),
            outputs: graph.outputs.clone(),
            results: Vec::new(),
        });
        Ok(self.programs.len() - 1)
    }

    fn run(&mut self, program: usize, feeds: &[Feed<'_>]) -> Result<(), EngineError> {
        let Loaded {
            program,
            inputs,
            outputs,
            results,
        } = &mut self.programs[program];
        let mut fed = HashMap::new();
        let mut feeds = feeds.iter();
        for (name, kind) in inputs.iter().filter(|(name, _)| !self.values.contains_key(name)) {
            let elements = match feeds.next().expect("every feed gets a value") {
                Feed::F32(values) => Elements::F32(values.to_vec()),
                Feed::I64(values) => Elements::I64(values.to_vec()),
            };
            fed.insert(name.clone(), Held::new(Tensor::new(kind.shape.clone(), elements)));
        }
        let values = &self.values;
        let made = program.run(&|name| fed.get(name).or_else(|| values.get(name)))?;
        results.clear();
        for (name, value) in outputs.iter().zip(made) {
            match name.strip_suffix(NEXT) {
                Some(state) if self.states.contains_key(state) => {
                    self.values.insert(state.to_owned(), value);
                }
                _ => results.push(value.into_singles()),
            }
        }
        Ok(())
    }

    fn result(&self, program: usize, index: usize) -> Result<&[f32], EngineError> {
        Ok(&self.programs[program].results[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_built_in() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        assert!(lock.contains(&format!("name = \"rten\"\nversion = \"{VERSION}\"\n")));
    }
}
