//! Types of all tensors of a graph, without a library.
//!
//! Most follow from the node and its inputs. A node with an expansion has the types of what it is written out as;
//! others are run once on zeros by the reference interpreter.

use std::collections::HashMap;

use super::reference;
use crate::autodiff;
use crate::graph::{Builder, ElementType, Elements, Graph, Node, Tensor, TensorType};

/// Operators whose integers are indices: the shape of what they make does not depend on their values.
const INDEXED: [&str; 7] = [
    "Gather",
    "GatherElements",
    "GatherND",
    "NegativeLogLikelihoodLoss",
    "ScatterElements",
    "ScatterND",
    "SoftmaxCrossEntropyLoss",
];

/// The types of what the nodes make, as far as they are known without running the graph.
pub(super) fn of_graph(graph: &Graph) -> HashMap<String, TensorType> {
    let mut known = Builder::extending(
        Graph {
            nodes: Vec::new(),
            ..graph.clone()
        },
        HashMap::new(),
    );
    let mut types = HashMap::new();
    for node in &graph.nodes {
        let mut found = known.infer(node);
        if found.first().is_none_or(Option::is_none)
            && let Some(kinds) = alone(node, &known).and_then(|alone| of_node(&alone))
        {
            found = kinds;
        }
        for (name, kind) in node.outputs.iter().zip(found) {
            if let (false, Some(kind)) = (name.is_empty(), kind) {
                known.declare(name, kind.clone());
                types.insert(name.clone(), kind);
            }
        }
    }
    types
}

/// A graph of one node, whose inputs are those that are no constants; none while the type of one is unknown.
fn alone(node: &Node, known: &Builder) -> Option<Graph> {
    let mut graph = Graph {
        opset: known.graph().opset,
        nodes: vec![node.clone()],
        ..Graph::default()
    };
    for name in node.inputs.iter().filter(|name| !name.is_empty()) {
        if let Some(value) = known.constant_value(name) {
            graph.constants.insert(name.clone(), value.clone());
        } else if !graph.inputs.iter().any(|(other, _)| other == name) {
            graph.inputs.push((name.clone(), known.type_of(name)?.clone()));
        }
    }
    Some(graph)
}

fn of_node(graph: &Graph) -> Option<Vec<Option<TensorType>>> {
    let node = &graph.nodes[0];
    if let Some(types) = autodiff::types_of_expansion(graph) {
        return Some(types);
    }
    let is_shape = |kind: &TensorType| matches!(kind.element, ElementType::I64 | ElementType::I32);
    if !INDEXED.contains(&node.operator.as_str()) && graph.inputs.iter().any(|(_, kind)| is_shape(kind)) {
        return None;
    }
    let zeros: Vec<(String, Tensor)> = graph
        .inputs
        .iter()
        .map(|(name, kind)| (name.clone(), zeros(kind)))
        .collect();
    let made = reference::run_node(graph, &zeros).ok()?;
    Some(made.into_iter().map(Some).collect())
}

/// A tensor of zeros.
pub(super) fn zeros(kind: &TensorType) -> Tensor {
    let count = kind.len();
    let elements = match kind.element {
        ElementType::F32 => Elements::F32(vec![0.0; count]),
        ElementType::F64 => Elements::F64(vec![0.0; count]),
        ElementType::I64 => Elements::I64(vec![0; count]),
        ElementType::I32 => Elements::I32(vec![0; count]),
        ElementType::Bool => Elements::Bool(vec![false; count]),
    };
    Tensor::new(kind.shape.clone(), elements)
}
