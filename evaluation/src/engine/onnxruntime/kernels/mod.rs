//! Operators of our own for the CPU, where ONNX Runtime's standard ones are slow.
//!
//! Graphs hold standard operators; [`substitute`] puts ours in the place of some while a program is loaded: the
//! shortcuts that gradient rules noted, and convolutions. Results are the same up to rounding. To add one: write its
//! kernel, name it in [`operators`], and note it as a shortcut where a rule appends what it replaces.

mod cell;
mod convolution;
mod convolution_operators;
mod gelu;
mod max_pool;
mod packing;
mod plain;
mod planes;
mod scratch;
mod tile;

use std::collections::HashSet;

use ort::operator::{ComputeContext, KernelContext, OperatorDomain};

use self::convolution_operators::{Forward, InputGradient, WeightGradient};
use self::max_pool::MaxPoolGradient;
use crate::graph::proto::{GraphProto, ModelProto, OperatorSetIdProto};
use crate::graph::{ElementType, Graph, Node, TensorType, attribute, node_to_proto};

/// The domain of these operators.
const DOMAIN: &str = "hpo";

/// Shortcuts that there are operators for, besides those of [`plain`].
const SHORTCUTS: [&str; 3] = ["ConvInputGradient", "ConvWeightGradient", "MaxPoolGradient"];

/// Runs a task for each number below the first argument, on as many threads as there are.
type Parallel<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Send + Sync));

/// Runs a task for each number below `count`, on ONNX Runtime's threads if there are several.
fn each(context: &ComputeContext, threads: usize, count: usize, task: &(dyn Fn(usize) + Send + Sync)) {
    // Where the threads cannot be had, this one does the work.
    if threads < 2 || count < 2 || context.par_for(count, 0, task).is_err() {
        (0..count).for_each(task);
    }
}

/// All operators of [`DOMAIN`], for so many threads.
pub(super) fn operators(threads: usize) -> ort::Result<OperatorDomain> {
    let domain = OperatorDomain::new(DOMAIN)?
        .add(MaxPoolGradient { threads })?
        .add(Forward { threads })?
        .add(InputGradient { threads })?
        .add(WeightGradient { threads })?;
    plain::all(threads).into_iter().try_fold(domain, OperatorDomain::add)
}

/// Puts our operators into the model of a graph; says whether there are any.
pub(super) fn substitute(model: &mut ModelProto, graph: &Graph) -> bool {
    let Some(proto) = model.graph.as_mut() else {
        return false;
    };
    let plain = plain::all(1).map(|operator| operator.name);
    let is_known = |name: &str| SHORTCUTS.contains(&name) || plain.contains(&name);
    let mut replaced: HashSet<&str> = HashSet::new();
    for shortcut in &graph.shortcuts {
        let is_made = |name: &String| graph.nodes.iter().any(|node| node.outputs.contains(name));
        if is_known(&shortcut.operator) && shortcut.outputs.iter().all(is_made) {
            replaced.extend(shortcut.outputs.iter().map(String::as_str));
            proto
                .node
                .retain(|node| !node.output.iter().any(|name| shortcut.outputs.contains(name)));
            let mut node = node_to_proto(shortcut);
            node.domain = Some(DOMAIN.into());
            proto.node.push(node);
        }
    }
    let mut convolutions = false;
    for node in &graph.nodes {
        if is_faster(node, graph) && !replaced.contains(node.outputs[0].as_str()) {
            let other = proto.node.iter_mut().find(|other| other.output == node.outputs);
            if let Some(other) = other {
                other.domain = Some(DOMAIN.into());
                convolutions = true;
            }
        }
    }
    if replaced.is_empty() && !convolutions {
        return false;
    }
    remove_unused(proto);
    model.opset_import.push(OperatorSetIdProto {
        domain: Some(DOMAIN.into()),
        version: Some(1),
    });
    true
}

/// Whether a node is a convolution that ours computes faster: over one or two axes, in one group, and to enough
/// channels to fill a tile.
fn is_faster(node: &Node, graph: &Graph) -> bool {
    let constant = |name: &str| {
        let tensor = graph.constants.get(name)?;
        Some(TensorType::new(tensor.elements.element_type(), tensor.shape.clone()))
    };
    let kind = |name: &str| {
        let input = graph.inputs.iter().find(|(input, _)| input == name);
        input.map(|(_, kind)| kind.clone()).or_else(|| constant(name))
    };
    node.operator == "Conv"
        && node.int("group").unwrap_or(1) == 1
        && node.input(1).and_then(kind).is_some_and(|kind| {
            kind.element == ElementType::F32 && matches!(kind.shape.len(), 3 | 4) && kind.shape[0] >= 4
        })
}

/// Removes nodes whose outputs nothing uses, and positions of pools that nothing asks for.
fn remove_unused(graph: &mut GraphProto) {
    loop {
        let used: HashSet<String> = graph
            .node
            .iter()
            .flat_map(|node| node.input.iter().cloned())
            .chain(graph.output.iter().filter_map(|output| output.name.clone()))
            .collect();
        let before = graph.node.len();
        graph
            .node
            .retain(|node| node.output.iter().any(|output| used.contains(output)));
        for node in &mut graph.node {
            if node.op_type.as_deref() == Some("MaxPool") && !node.output.get(1).is_some_and(|name| used.contains(name))
            {
                node.output.truncate(1);
            }
        }
        graph
            .initializer
            .retain(|tensor| tensor.name.as_ref().is_some_and(|name| used.contains(name)));
        if graph.node.len() == before {
            return;
        }
    }
}

/// The attributes of a window, as a node that [`Window`](crate::graph::Window) reads.
fn window_node(context: &KernelContext<'_>) -> Node {
    let mut attributes = Vec::new();
    for name in ["kernel_shape", "strides", "pads", "dilations"] {
        if let Some(values) = context.get::<Vec<i64>>(name) {
            attributes.push(attribute::ints(name, &values));
        }
    }
    if let Some(rule) = context.get::<String>("auto_pad") {
        attributes.push(attribute::string("auto_pad", &rule));
    }
    Node {
        name: String::new(),
        operator: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        attributes,
    }
}
