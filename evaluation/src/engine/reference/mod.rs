//! A slow engine that can be read: every operator as its definition says, in double precision.
//!
//! It checks ONNX Runtime and the gradient rules, and trains small models without any library. Integers and truth
//! values are kept as doubles too, exact up to 2⁵³; results of type `float32` are rounded only when they leave.
//!
//! To add an operator: write its function into a file here and list it in that file's `operator`.

mod elementwise;
mod indexing;
mod linear;
mod movement;
mod statistics;
mod window;

use std::collections::HashMap;

use ndarray::{ArrayD, IxDyn};

use super::{Engine, EngineError, Feed, Machine, NEXT};
use crate::graph::{ElementType, Elements, Graph, Node, Tensor, TensorType};

/// A tensor during interpretation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) element: ElementType,
    pub(crate) data: ArrayD<f64>,
}

/// A node's inputs; none where one is absent.
pub(crate) type Inputs<'a> = [Option<&'a Value>];

/// Computes a node's outputs.
type Operator = fn(&Node, &Inputs<'_>) -> Result<Vec<Value>, String>;

/// The function of an operator.
fn operator(name: &str) -> Option<Operator> {
    elementwise::operator(name)
        .or_else(|| indexing::operator(name))
        .or_else(|| linear::operator(name))
        .or_else(|| movement::operator(name))
        .or_else(|| statistics::operator(name))
        .or_else(|| window::operator(name))
}

impl Value {
    pub(crate) fn new(element: ElementType, data: ArrayD<f64>) -> Self {
        Self { element, data }
    }

    fn zeros(kind: &TensorType) -> Self {
        Self::new(kind.element, ArrayD::zeros(IxDyn(&kind.shape)))
    }

    /// The numbers as integers.
    pub(crate) fn ints(&self) -> Vec<i64> {
        self.data.iter().map(|value| *value as i64).collect()
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.data.shape()
    }

    pub(super) fn from_tensor(tensor: &Tensor) -> Self {
        let numbers: Vec<f64> = match &*tensor.elements {
            Elements::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Elements::F64(values) => values.clone(),
            Elements::I64(values) => values.iter().map(|value| *value as f64).collect(),
            Elements::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Elements::Bool(values) => values.iter().map(|value| f64::from(u8::from(*value))).collect(),
        };
        let data = ArrayD::from_shape_vec(IxDyn(&tensor.shape), numbers).expect("a tensor's count fits its shape");
        Self::new(tensor.elements.element_type(), data)
    }

    pub(super) fn to_tensor(&self) -> Tensor {
        let values = || self.data.iter();
        let elements = match self.element {
            ElementType::F32 => Elements::F32(values().map(|value| *value as f32).collect()),
            ElementType::F64 => Elements::F64(values().copied().collect()),
            ElementType::I64 => Elements::I64(values().map(|value| *value as i64).collect()),
            ElementType::I32 => Elements::I32(values().map(|value| *value as i32).collect()),
            ElementType::Bool => Elements::Bool(values().map(|value| *value != 0.0).collect()),
        };
        Tensor::new(self.shape(), elements)
    }
}

/// The interpreter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

fn failure(doing: &str, message: String) -> EngineError {
    EngineError::Run {
        engine: "the reference interpreter",
        doing: doing.to_owned(),
        message,
    }
}

/// Computes every tensor of a graph.
fn interpret(graph: &Graph, mut values: HashMap<String, Value>) -> Result<HashMap<String, Value>, EngineError> {
    for (name, tensor) in &graph.constants {
        values.insert(name.clone(), Value::from_tensor(tensor));
    }
    for node in &graph.nodes {
        let fail = |message: String| {
            failure(
                "to run a graph",
                format!("node `{}` ({}): {message}", node.label(), node.operator),
            )
        };
        let inputs = node
            .inputs
            .iter()
            .map(|name| {
                if name.is_empty() {
                    return Ok(None);
                }
                values
                    .get(name)
                    .map(Some)
                    .ok_or_else(|| fail(format!("input `{name}` has no value")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let outputs = compute(node, &inputs).map_err(fail)?;
        for (name, value) in node.outputs.iter().zip(outputs) {
            values.insert(name.clone(), value);
        }
    }
    Ok(values)
}

/// The types of what a graph's only node makes of its inputs.
pub(super) fn run_node(graph: &Graph, inputs: &[(String, Tensor)]) -> Result<Vec<TensorType>, EngineError> {
    let values = inputs
        .iter()
        .map(|(name, tensor)| (name.clone(), Value::from_tensor(tensor)))
        .collect();
    let values = interpret(graph, values)?;
    let outputs = graph.nodes.iter().flat_map(|node| &node.outputs);
    Ok(outputs
        .map_while(|name| values.get(name))
        .map(|value| TensorType::new(value.element, value.shape()))
        .collect())
}

/// Computes one node.
pub(super) fn compute(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let function = operator(&node.operator).ok_or("the operator is unknown")?;
    function(node, inputs)
}

fn take(values: &HashMap<String, Value>, name: &str) -> Result<Value, EngineError> {
    values
        .get(name)
        .cloned()
        .ok_or_else(|| failure("to run a graph", format!("output `{name}` has no value")))
}

impl Engine for Reference {
    fn device(&self) -> String {
        "cpu".into()
    }

    fn version(&self) -> String {
        format!("reference interpreter {}", env!("CARGO_PKG_VERSION"))
    }

    fn types(&self, graph: &Graph) -> Result<HashMap<String, TensorType>, EngineError> {
        let zeros = graph
            .inputs
            .iter()
            .map(|(name, kind)| (name.clone(), Value::zeros(kind)))
            .collect();
        let values = interpret(graph, zeros)?;
        Ok(values
            .into_iter()
            .map(|(name, value)| (name, TensorType::new(value.element, value.shape())))
            .collect())
    }

    fn run_each(&self, graph: &Graph, inputs: &[Vec<(String, Tensor)>]) -> Result<Vec<Vec<Tensor>>, EngineError> {
        inputs
            .iter()
            .map(|inputs| {
                let values = inputs
                    .iter()
                    .map(|(name, tensor)| (name.clone(), Value::from_tensor(tensor)))
                    .collect();
                let values = interpret(graph, values)?;
                graph
                    .outputs
                    .iter()
                    .map(|name| take(&values, name).map(|value| value.to_tensor()))
                    .collect()
            })
            .collect()
    }

    fn machine(&self, _: f64) -> Result<Box<dyn Machine>, EngineError> {
        Ok(Box::new(ReferenceMachine::default()))
    }
}

#[derive(Debug, Default)]
struct ReferenceMachine {
    values: HashMap<String, Value>,
    states: Vec<String>,
    programs: Vec<(Graph, Vec<Vec<f32>>)>,
}

impl Machine for ReferenceMachine {
    fn constant(&mut self, name: &str, value: Tensor) -> Result<(), EngineError> {
        self.values.insert(name.to_owned(), Value::from_tensor(&value));
        Ok(())
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), EngineError> {
        if self.values.insert(name.to_owned(), Value::from_tensor(value)).is_none() {
            self.states.push(name.to_owned());
        }
        Ok(())
    }

    fn state(&self, name: &str) -> Result<Tensor, EngineError> {
        take(&self.values, name).map(|value| value.to_tensor())
    }

    fn load(&mut self, graph: &Graph, _: &[TensorType]) -> Result<usize, EngineError> {
        self.programs.push((graph.clone(), Vec::new()));
        Ok(self.programs.len() - 1)
    }

    fn run(&mut self, program: usize, feeds: &[Feed<'_>]) -> Result<(), EngineError> {
        let (graph, results) = &mut self.programs[program];
        let mut values = HashMap::new();
        let mut feeds = feeds.iter();
        for (name, kind) in &graph.inputs {
            let value = if let Some(value) = self.values.get(name) {
                value.clone()
            } else {
                let elements = match feeds.next().expect("every feed gets a value") {
                    Feed::F32(values) => Elements::F32(values.to_vec()),
                    Feed::I64(values) => Elements::I64(values.to_vec()),
                };
                Value::from_tensor(&Tensor::new(kind.shape.clone(), elements))
            };
            values.insert(name.clone(), value);
        }
        let values = interpret(graph, values)?;
        results.clear();
        for name in &graph.outputs {
            let value = take(&values, name)?;
            match name.strip_suffix(NEXT) {
                Some(state) if self.states.iter().any(|known| known == state) => {
                    // Rounded to what a checkpoint of it holds, so that training resumes to the same bits.
                    self.values
                        .insert(state.to_owned(), Value::from_tensor(&value.to_tensor()));
                }
                _ => results.push(value.data.iter().map(|value| *value as f32).collect()),
            }
        }
        Ok(())
    }

    fn result(&self, program: usize, index: usize) -> Result<&[f32], EngineError> {
        Ok(&self.programs[program].1[index])
    }
}

/// The input at a position, which must be there.
pub(crate) fn need<'a>(inputs: &Inputs<'a>, index: usize) -> Result<&'a Value, String> {
    inputs
        .get(index)
        .copied()
        .flatten()
        .ok_or_else(|| format!("input {index} is missing"))
}

/// The input at a position, if it is there.
pub(crate) fn maybe<'a>(inputs: &Inputs<'a>, index: usize) -> Option<&'a Value> {
    inputs.get(index).copied().flatten()
}

/// An axis counted from the front.
pub(crate) fn axis_of(axis: i64, rank: usize) -> usize {
    if axis < 0 {
        (axis + rank as i64) as usize
    } else {
        axis as usize
    }
}
