//! One graph, cut into stages: what `rten` runs, and what the interpreter computes node by node.
//!
//! `rten` says what it does not have when a stage is loaded or first run, by the name of the node. That node is given
//! to the interpreter and the graph cut anew. Where `rten` has an operator and computes something else, [`is_left`]
//! names it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, ValueOrView};
use rten_tensor::Layout as _;

use super::values::Held;
use super::{failure, forms, memory, pool};
use crate::engine::{EngineError, reference, types};
use crate::graph::proto::ValueInfoProto;
use crate::graph::{ElementType, Graph, Node, TensorType, encode_model, value_info};

pub(super) struct Program {
    graph: Graph,
    types: HashMap<String, TensorType>,
    /// Nodes that the interpreter computes.
    left: BTreeSet<usize>,
    /// Whether `rten` may join nodes to faster ones, whose failures name no node of ours.
    optimize: bool,
    stages: Vec<Stage>,
    threads: Arc<ThreadPool>,
    /// Constants that the interpreter reads, in its form.
    constants: HashMap<String, Held>,
}

enum Stage {
    Compiled {
        model: Box<Model>,
        inputs: Vec<Input>,
        outputs: Vec<(String, NodeId)>,
    },
    Interpreted(Vec<usize>),
}

struct Input {
    name: String,
    id: NodeId,
    /// Whether no later stage reads it.
    last: bool,
}

/// What a stage could not be loaded or run for.
enum Refusal {
    /// A node.
    Node(usize),
    /// Something that `rten` made of several nodes, perhaps.
    Model(String),
    /// What no other way mends.
    Certain(String),
}

impl Program {
    pub(super) fn new(graph: &Graph, threads: &Arc<ThreadPool>) -> Result<Self, EngineError> {
        let known = all_types(graph);
        let graph = forms::adapt(graph, &known);
        let types = all_types(&graph);
        let left = (0..graph.nodes.len())
            .filter(|index| is_left(&graph.nodes[*index], &types))
            .collect();
        let mut program = Self {
            graph,
            types,
            left,
            optimize: true,
            stages: Vec::new(),
            threads: Arc::clone(threads),
            constants: HashMap::new(),
        };
        program.cut()?;
        Ok(program)
    }

    /// The element type of a tensor, if it is known.
    pub(super) fn element(&self, name: &str) -> Option<ElementType> {
        self.types.get(name).map(|kind| kind.element)
    }

    /// Bytes that a run takes at least.
    pub(super) fn least_memory(&self) -> u64 {
        memory::least(&self.graph, &self.types)
    }

    /// Runs the graph on what `given` has by name and returns its outputs in order.
    pub(super) fn run<'a>(&mut self, given: &dyn Fn(&str) -> Option<&'a Held>) -> Result<Vec<Held>, EngineError> {
        loop {
            match self.attempt(given) {
                Ok(results) => return Ok(results),
                Err(refusal) => self.yield_to("to run a graph", refusal)?,
            }
            self.cut()?;
        }
    }

    /// Takes note of what `rten` refused, or fails if there is no other way to compute it.
    fn yield_to(&mut self, doing: &str, refusal: Refusal) -> Result<(), EngineError> {
        match refusal {
            Refusal::Node(index) if self.left.insert(index) => Ok(()),
            Refusal::Node(index) => Err(failure(doing, self.described(index, "it is refused"))),
            Refusal::Model(_) if std::mem::take(&mut self.optimize) => Ok(()),
            Refusal::Model(message) | Refusal::Certain(message) => Err(failure(doing, message)),
        }
    }

    fn described(&self, index: usize, message: &str) -> String {
        let node = &self.graph.nodes[index];
        format!("node `{}` ({}): {message}", node.label(), node.operator)
    }

    /// Cuts the graph into stages, and anew for each node that `rten` refuses to load.
    fn cut(&mut self) -> Result<(), EngineError> {
        loop {
            match self.compile() {
                Ok(stages) => {
                    self.stages = stages;
                    break;
                }
                Err(refusal) => self.yield_to("to load a graph", refusal)?,
            }
        }
        for name in self.left.iter().flat_map(|index| &self.graph.nodes[*index].inputs) {
            if let (Some(value), false) = (self.graph.constants.get(name), self.constants.contains_key(name)) {
                let value = Held::Exact(reference::Value::from_tensor(value));
                self.constants.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// Positions of nodes, in groups that one side computes at once.
    fn groups(&self) -> Result<Vec<Vec<usize>>, Refusal> {
        let inputs = self.graph.inputs.iter().map(|(name, _)| name.as_str());
        let mut made: HashSet<&str> = inputs.chain(self.graph.constants.keys().map(String::as_str)).collect();
        let mut pending: Vec<usize> = (0..self.graph.nodes.len()).collect();
        let mut groups = Vec::new();
        while let Some(first) = pending.first() {
            let node = &self.graph.nodes[*first];
            let missing = node
                .inputs
                .iter()
                .find(|name| !name.is_empty() && !made.contains(name.as_str()));
            if let Some(missing) = missing {
                let message = format!("input `{missing}` has no value");
                return Err(Refusal::Certain(self.described(*first, &message)));
            }
            let is_left = self.left.contains(first);
            let mut group = Vec::new();
            let mut rest = Vec::new();
            for index in pending {
                let node = &self.graph.nodes[index];
                let is_ready = node
                    .inputs
                    .iter()
                    .all(|name| name.is_empty() || made.contains(name.as_str()));
                if is_ready && self.left.contains(&index) == is_left {
                    made.extend(node.outputs.iter().map(String::as_str));
                    group.push(index);
                } else {
                    rest.push(index);
                }
            }
            groups.push(group);
            pending = rest;
        }
        Ok(groups)
    }

    fn compile(&self) -> Result<Vec<Stage>, Refusal> {
        let groups = self.groups()?;
        // The last group that reads a tensor; the outputs of the graph are read after all of them.
        let mut last_use: HashMap<&str, usize> = HashMap::new();
        for (at, group) in groups.iter().enumerate() {
            for name in group.iter().flat_map(|index| &self.graph.nodes[*index].inputs) {
                last_use.insert(name, at);
            }
        }
        for name in &self.graph.outputs {
            last_use.insert(name, groups.len());
        }
        let mut stages = Vec::new();
        for (at, group) in groups.into_iter().enumerate() {
            stages.push(if self.left.contains(&group[0]) {
                Stage::Interpreted(group)
            } else {
                self.compiled(at, &group, &last_use)?
            });
        }
        Ok(stages)
    }

    /// The model of a group of nodes.
    fn compiled(&self, at: usize, group: &[usize], last_use: &HashMap<&str, usize>) -> Result<Stage, Refusal> {
        let mut part = Graph {
            opset: self.graph.opset,
            ..Graph::default()
        };
        let mut made: HashSet<&str> = HashSet::new();
        let mut seen: HashSet<&str> = HashSet::new();
        let mut inputs: Vec<(String, Option<ElementType>)> = Vec::new();
        for index in group {
            let node = &self.graph.nodes[*index];
            for name in node.inputs.iter().filter(|name| !name.is_empty()) {
                if made.contains(name.as_str()) || !seen.insert(name) {
                    continue;
                }
                match (self.graph.constants.get(name), self.types.get(name)) {
                    (Some(value), _) => {
                        part.constants.insert(name.clone(), value.clone());
                    }
                    (None, kind) => inputs.push((name.clone(), kind.map(|kind| kind.element))),
                }
            }
            made.extend(node.outputs.iter().map(String::as_str));
            part.nodes.push(Node {
                name: index.to_string(),
                ..node.clone()
            });
        }
        let mut outputs: Vec<&str> = made
            .into_iter()
            .filter(|name| last_use.get(name).is_some_and(|last| *last > at))
            .collect();
        outputs.sort_unstable();
        part.outputs = outputs.iter().map(|name| (*name).to_owned()).collect();
        let mut model = part.to_model();
        if let Some(graph) = &mut model.graph {
            graph.input = inputs.iter().map(|(name, element)| shapeless(name, *element)).collect();
        }
        let model = ModelOptions::with_all_ops()
            .enable_optimization(self.optimize)
            .load(encode_model(&model))
            .map_err(|error| refusal(error.node(), &error))?;
        let id = |name: &str| model.node_id(name).map_err(|error| Refusal::Certain(error.to_string()));
        let inputs = inputs
            .into_iter()
            .map(|(name, _)| {
                Ok(Input {
                    id: id(&name)?,
                    last: last_use.get(name.as_str()) == Some(&at),
                    name,
                })
            })
            .collect::<Result<_, _>>()?;
        let outputs = outputs
            .into_iter()
            .map(|name| Ok((name.to_owned(), id(name)?)))
            .collect::<Result<_, _>>()?;
        Ok(Stage::Compiled {
            model: Box::new(model),
            inputs,
            outputs,
        })
    }

    fn attempt<'a>(&self, given: &dyn Fn(&str) -> Option<&'a Held>) -> Result<Vec<Held>, Refusal> {
        let mut values: HashMap<String, Held> = HashMap::new();
        for stage in &self.stages {
            match stage {
                Stage::Interpreted(nodes) => {
                    for index in nodes {
                        self.interpret(*index, given, &mut values)?;
                    }
                }
                Stage::Compiled { model, inputs, outputs } => {
                    let owned: HashMap<&str, Held> = inputs
                        .iter()
                        .filter(|input| input.last)
                        .filter_map(|input| Some((input.name.as_str(), values.remove(&input.name)?)))
                        .collect();
                    let mut owned = owned;
                    let mut fed: Vec<(NodeId, ValueOrView<'_>)> = Vec::with_capacity(inputs.len());
                    for Input { name, id, .. } in inputs {
                        let value = match owned.remove(name.as_str()) {
                            Some(value) => value.into_input(),
                            None => values
                                .get(name)
                                .or_else(|| given(name))
                                .ok_or_else(|| Refusal::Certain(format!("input `{name}` has no value")))?
                                .as_input(),
                        };
                        fed.push((*id, value));
                    }
                    let ids: Vec<NodeId> = outputs.iter().map(|(_, id)| *id).collect();
                    let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
                    let made = model
                        .run(fed, &ids, Some(options))
                        .map_err(|error| refusal(error.node_path().last().copied().flatten(), &error))?;
                    for ((name, _), value) in outputs.iter().zip(made) {
                        values.insert(name.clone(), Held::Fast(self.shaped(name, value)));
                    }
                }
            }
        }
        self.graph
            .outputs
            .iter()
            .map(|name| {
                let constant = || self.graph.constants.get(name).cloned().map(Held::new);
                values
                    .get(name)
                    .or_else(|| given(name))
                    .cloned()
                    .or_else(constant)
                    .ok_or_else(|| Refusal::Certain(format!("output `{name}` has no value")))
            })
            .collect()
    }

    /// A value in the shape that it must have: `rten` may overwrite a scalar by what has one axis of size 1.
    fn shaped(&self, name: &str, mut value: rten::Value) -> rten::Value {
        let Some(kind) = self.types.get(name).filter(|kind| kind.len() == value.len()) else {
            return value;
        };
        if *kind.shape != *value.shape() {
            match &mut value {
                rten::Value::FloatTensor(tensor) => tensor.reshape(&kind.shape),
                rten::Value::Int32Tensor(tensor) => tensor.reshape(&kind.shape),
                _ => {}
            }
        }
        value
    }

    fn interpret<'a>(
        &self,
        index: usize,
        given: &dyn Fn(&str) -> Option<&'a Held>,
        values: &mut HashMap<String, Held>,
    ) -> Result<(), Refusal> {
        let node = &self.graph.nodes[index];
        let fail = |message: String| Refusal::Certain(self.described(index, &message));
        let find = |name: &str| {
            values
                .get(name)
                .or_else(|| given(name))
                .or_else(|| self.constants.get(name))
        };
        let outputs = if let Some(outputs) = pool::max(node, find(&node.inputs[0])).map_err(fail)? {
            outputs
        } else {
            let inputs = node
                .inputs
                .iter()
                .map(|name| {
                    if name.is_empty() {
                        return Ok(None);
                    }
                    let value = find(name).ok_or_else(|| fail(format!("input `{name}` has no value")))?;
                    Ok(Some(value.to_exact(self.element(name))))
                })
                .collect::<Result<Vec<_>, Refusal>>()?;
            let inputs: Vec<Option<&reference::Value>> = inputs.iter().map(Option::as_ref).collect();
            let outputs = reference::compute(node, &inputs).map_err(fail)?;
            outputs.into_iter().map(Held::Exact).collect()
        };
        values.extend(node.outputs.iter().cloned().zip(outputs));
        Ok(())
    }
}

/// An input of any shape.
fn shapeless(name: &str, element: Option<ElementType>) -> ValueInfoProto {
    let mut info = value_info(name, element.map(|element| TensorType::new(element, [])).as_ref());
    if let Some(kind) = info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) {
        kind.shape = None;
    }
    info
}

/// Nodes are named by their positions.
fn refusal(node: Option<&str>, error: &dyn std::error::Error) -> Refusal {
    match node.and_then(|name| name.parse().ok()) {
        Some(index) => Refusal::Node(index),
        None => Refusal::Model(error.to_string()),
    }
}

/// The types of inputs, constants and what nodes make.
fn all_types(graph: &Graph) -> HashMap<String, TensorType> {
    let mut all = types::of_graph(graph);
    all.extend(graph.inputs.iter().cloned());
    all.extend(graph.constants.iter().map(|(name, tensor)| {
        let kind = TensorType::new(tensor.elements.element_type(), tensor.shape.clone());
        (name.clone(), kind)
    }));
    all
}

/// Whether `rten` has no such operator, or one that does something else.
fn is_left(node: &Node, types: &HashMap<String, TensorType>) -> bool {
    let double = |name: &String| types.get(name).is_some_and(|kind| kind.element == ElementType::F64);
    if node.inputs.iter().chain(&node.outputs).any(double) {
        return true;
    }
    let rank = |index: usize| {
        node.input(index)
            .and_then(|name| types.get(name))
            .map(|kind| kind.shape.len())
    };
    match node.operator.as_str() {
        // Positions of the greatest elements.
        "MaxPool" if node.output(1).is_some() => true,
        // A vector is taken for a matrix.
        "MatMul" => rank(0) == Some(1) || rank(1) == Some(1),
        // The coefficient of the curves is another one.
        "Resize" => node.string("mode") == Some("cubic"),
        // No axes are taken for all axes.
        name if name.starts_with("Reduce") => node.int("noop_with_empty_axes").unwrap_or(0) != 0,
        _ => false,
    }
}
