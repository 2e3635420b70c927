//! Appends nodes to a graph, with unique names, shared constants, and the types that are known.

use std::collections::{HashMap, HashSet};

use super::inference::{self, Known};
use super::proto::AttributeProto;
use super::{ElementType, Elements, Graph, Node, OPSET, Tensor, TensorType};

/// A graph under construction.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    graph: Graph,
    types: HashMap<String, TensorType>,
    names: HashSet<String>,
    shared: HashMap<String, String>,
    next: usize,
}

impl Known for Builder {
    fn kind(&self, name: &str) -> Option<&TensorType> {
        self.types.get(name)
    }

    fn value(&self, name: &str) -> Option<&Tensor> {
        self.graph.constants.get(name)
    }
}

impl Builder {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::extending(
            Graph {
                opset: OPSET,
                ..Graph::default()
            },
            HashMap::new(),
        )
    }

    /// Continues a graph whose tensors have the given types.
    #[must_use]
    pub fn extending(graph: Graph, mut types: HashMap<String, TensorType>) -> Self {
        for (name, kind) in &graph.inputs {
            types.insert(name.clone(), kind.clone());
        }
        for (name, tensor) in &graph.constants {
            types.insert(
                name.clone(),
                TensorType::new(tensor.elements.element_type(), tensor.shape.clone()),
            );
        }
        let names = graph
            .nodes
            .iter()
            .flat_map(|node| node.outputs.iter())
            .chain(graph.inputs.iter().map(|(name, _)| name))
            .chain(graph.constants.keys())
            .cloned()
            .collect();
        Self {
            graph,
            types,
            names,
            shared: HashMap::new(),
            next: 0,
        }
    }

    /// The graph so far.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Ends the construction.
    #[must_use]
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// Adds an input.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn input(&mut self, name: &str, kind: TensorType) -> String {
        assert!(self.names.insert(name.to_owned()), "input `{name}` is added once");
        self.types.insert(name.to_owned(), kind.clone());
        self.graph.inputs.push((name.to_owned(), kind));
        name.to_owned()
    }

    /// Turns a constant into an input of the same name and returns its type.
    ///
    /// # Panics
    /// When there is no such constant.
    pub fn promote(&mut self, name: &str) -> TensorType {
        let tensor = self.graph.constants.remove(name).expect("only constants are promoted");
        let kind = TensorType::new(tensor.elements.element_type(), tensor.shape);
        self.graph.inputs.push((name.to_owned(), kind.clone()));
        kind
    }

    /// Declares an output: `tensor` under the name `name`.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn output(&mut self, name: &str, tensor: &str) {
        if name == tensor {
            self.graph.outputs.push(name.to_owned());
            return;
        }
        assert!(self.names.insert(name.to_owned()), "output `{name}` is added once");
        // Renaming the producer saves the copy that an Identity node would be, unless the tensor is an input.
        let read = self.graph.outputs.iter().any(|output| output == tensor);
        let producer = (!read)
            .then(|| {
                self.graph
                    .nodes
                    .iter_mut()
                    .rev()
                    .find(|node| node.outputs.iter().any(|o| o == tensor))
            })
            .flatten();
        if producer.is_some() {
            for node in self.graph.nodes.iter_mut().chain(&mut self.graph.shortcuts) {
                for other in node.inputs.iter_mut().chain(&mut node.outputs) {
                    if other == tensor {
                        name.clone_into(other);
                    }
                }
            }
            if let Some(kind) = self.types.get(tensor).cloned() {
                self.types.insert(name.to_owned(), kind);
            }
        } else {
            self.push("Identity", &[tensor], vec![name.to_owned()], Vec::new());
        }
        self.graph.outputs.push(name.to_owned());
    }

    /// Adds a node with one output and returns the output's name.
    pub fn node(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.fresh(operator);
        self.push(operator, inputs, vec![output.clone()], attributes);
        output
    }

    /// Adds a node with several outputs.
    pub fn node_with_outputs(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: Vec<AttributeProto>,
    ) -> Vec<String> {
        let outputs: Vec<String> = (0..outputs).map(|_| self.fresh(operator)).collect();
        self.push(operator, inputs, outputs.clone(), attributes);
        outputs
    }

    /// The name of an output of the node that makes `first`, which is added to the node if it is not made so far.
    ///
    /// # Panics
    /// When no node makes `first`.
    pub fn also(&mut self, first: &str, output: usize) -> String {
        let name = self.fresh(&format!("{first}.{output}"));
        let node = self
            .graph
            .nodes
            .iter_mut()
            .find(|node| node.output(0) == Some(first))
            .expect("a node makes the tensor");
        if node.outputs.len() <= output {
            node.outputs.resize(output + 1, String::new());
        }
        if node.outputs[output].is_empty() {
            node.outputs[output] = name;
        }
        node.outputs[output].clone()
    }

    /// Notes an operator of our own that makes `outputs` at once; see [`Graph::shortcuts`].
    pub fn shortcut(&mut self, operator: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.graph.shortcuts.push(Node {
            name: String::new(),
            operator: operator.to_owned(),
            inputs: names(inputs),
            outputs: names(outputs),
            attributes,
        });
    }

    /// Adds a node as it is.
    pub fn push_node(&mut self, node: Node) {
        self.names.extend(node.outputs.iter().cloned());
        self.graph.nodes.push(node);
    }

    /// A constant; equal small constants are shared.
    pub fn constant(&mut self, tensor: Tensor) -> String {
        let key = (tensor.elements.len() <= 64).then(|| format!("{tensor:?}"));
        if let Some(name) = key.as_ref().and_then(|key| self.shared.get(key)) {
            return name.clone();
        }
        let name = self.fresh("constant");
        self.types.insert(
            name.clone(),
            TensorType::new(tensor.elements.element_type(), tensor.shape.clone()),
        );
        self.graph.constants.insert(name.clone(), tensor);
        if let Some(key) = key {
            self.shared.insert(key, name.clone());
        }
        name
    }

    /// A constant vector of integers.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(Tensor::ints(values.to_vec()))
    }

    /// A 0-dimensional constant of a floating-point type.
    pub fn scalar(&mut self, element: ElementType, value: f64) -> String {
        self.constant(match element {
            ElementType::F64 => Tensor::new([], Elements::F64(vec![value])),
            _ => Tensor::new([], Elements::F32(vec![value as f32])),
        })
    }

    /// The type of a tensor, if known.
    #[must_use]
    pub fn type_of(&self, name: &str) -> Option<&TensorType> {
        self.types.get(name)
    }

    /// The value of a constant.
    #[must_use]
    pub fn constant_value(&self, name: &str) -> Option<&Tensor> {
        self.graph.constants.get(name)
    }

    /// Records the type of a tensor.
    pub fn declare(&mut self, name: &str, kind: TensorType) {
        self.types.insert(name.to_owned(), kind);
    }

    /// The types of what a node makes, as far as they follow from the types that are known.
    #[must_use]
    pub fn infer(&self, node: &Node) -> Vec<Option<TensorType>> {
        inference::infer(node, self)
    }

    /// Takes out the nodes, to be put back by [`push_node`](Self::push_node) with changes.
    pub fn take_nodes(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.graph.nodes)
    }

    /// Gives the node that makes `tensor`, if there is one.
    #[must_use]
    pub fn producer(&self, tensor: &str) -> Option<&Node> {
        let makes = |node: &&Node| node.outputs.iter().any(|output| output == tensor);
        self.graph.nodes.iter().rev().find(makes)
    }

    /// Removes the nodes that make the given tensors, of those that nothing uses.
    pub fn remove_unused(&mut self, tensors: &[String]) {
        let used: HashSet<&String> = self
            .graph
            .nodes
            .iter()
            .flat_map(|node| &node.inputs)
            .chain(&self.graph.outputs)
            .collect();
        let unused: HashSet<String> = tensors.iter().filter(|name| !used.contains(name)).cloned().collect();
        self.graph
            .nodes
            .retain(|node| !node.outputs.iter().any(|output| unused.contains(output)));
    }

    /// Names a tensor by an `Identity` node.
    pub fn alias(&mut self, tensor: &str, name: &str) {
        self.push("Identity", &[tensor], vec![name.to_owned()], Vec::new());
    }

    fn push(&mut self, operator: &str, inputs: &[&str], outputs: Vec<String>, attributes: Vec<AttributeProto>) {
        let node = Node {
            name: String::new(),
            operator: operator.to_owned(),
            inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
            outputs,
            attributes,
        };
        for (name, kind) in node.outputs.iter().zip(inference::infer(&node, self)) {
            if let Some(kind) = kind {
                self.types.insert(name.clone(), kind);
            }
        }
        self.graph.nodes.push(node);
    }

    fn fresh(&mut self, stem: &str) -> String {
        loop {
            let name = format!("{}.{}", stem.to_lowercase(), self.next);
            self.next += 1;
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }
}
