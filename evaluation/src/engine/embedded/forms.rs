//! Writes nodes in the forms that `rten` takes.

use std::collections::HashMap;

use crate::autodiff;
use crate::graph::{Builder, ElementType, Graph, Node, TensorType, Window, attribute};

/// The graph with other nodes that compute the same.
pub(super) fn adapt(graph: &Graph, types: &HashMap<String, TensorType>) -> Graph {
    let graph = autodiff::write_out(graph, types, &is_written_out);
    let mut builder = Builder::extending(graph, types.clone());
    for mut node in builder.take_nodes() {
        if node.operator == "LayerNormalization"
            && node.outputs.len() > 1
            && write_normalization(&mut builder, &node).is_some()
        {
            continue;
        }
        say_window(&mut node, types);
        builder.push_node(node);
    }
    let mut graph = builder.finish();
    graph.prune();
    graph
}

/// Whether a node is written in simpler operators, which `rten` has.
fn is_written_out(node: &Node) -> bool {
    // Lengths of sequences, and an LSTM's weights from cell to gates.
    let has_more = node.input(4).is_some() || node.input(7).is_some();
    let has_functions = node.attribute("activations").is_some();
    match node.operator.as_str() {
        "GroupNormalization" | "NegativeLogLikelihoodLoss" | "RNN" | "SoftmaxCrossEntropyLoss" => true,
        "GRU" => has_more || has_functions || node.int("linear_before_reset").unwrap_or(0) == 0,
        "LSTM" => has_more || has_functions,
        _ => false,
    }
}

/// Says padding, strides and dilations of a window in numbers: `rten` has defaults for two axes only, and puts odd
/// padding to the end whatever the rule is.
fn say_window(node: &mut Node, types: &HashMap<String, TensorType>) {
    let shape = |index: usize| {
        let kind = node.input(index).and_then(|name| types.get(name))?;
        kind.shape.get(2..).map(<[usize]>::to_vec)
    };
    let kernel = match node.operator.as_str() {
        "AveragePool" | "MaxPool" => Some(Vec::new()),
        "Conv" | "ConvTranspose" => shape(1),
        _ => None,
    };
    let (Some(kernel), Some(input)) = (kernel, shape(0)) else {
        return;
    };
    let window = if node.operator == "ConvTranspose" {
        Window::transposed(node, &kernel, &input, None).map(|(window, _)| window)
    } else {
        Window::sliding(node, &kernel, &input)
    };
    let Ok(window) = window else {
        return;
    };
    let said = ["auto_pad", "pads", "strides", "dilations", "output_shape"];
    node.attributes
        .retain(|attribute| !said.iter().any(|name| attribute.name.as_deref() == Some(name)));
    let numbers = |sizes: &[usize]| sizes.iter().map(|size| *size as i64).collect::<Vec<_>>();
    node.attributes.push(attribute::ints("pads", &window.pads()));
    node.attributes
        .push(attribute::ints("strides", &numbers(&window.strides)));
    node.attributes
        .push(attribute::ints("dilations", &numbers(&window.dilations)));
}

/// A `LayerNormalization` of which mean and inverse deviation are wanted too, which `rten` does not tell.
fn write_normalization(builder: &mut Builder, node: &Node) -> Option<()> {
    let x = node.input(0)?;
    let kind = builder.type_of(x)?.clone();
    let rank = kind.shape.len() as i64;
    let axis = node.int("axis").unwrap_or(-1);
    let axes: Vec<i64> = ((if axis < 0 { axis + rank } else { axis })..rank).collect();
    let axes = builder.ints(&axes);
    let mean = builder.node("ReduceMean", &[x, &axes], Vec::new());
    let centred = builder.node("Sub", &[x, &mean], Vec::new());
    let square = builder.node("Mul", &[&centred, &centred], Vec::new());
    let variance = builder.node("ReduceMean", &[&square, &axes], Vec::new());
    let epsilon = builder.scalar(ElementType::F32, f64::from(node.float("epsilon").unwrap_or(1e-5)));
    let variance = builder.node("Add", &[&variance, &epsilon], Vec::new());
    let deviation = builder.node("Sqrt", &[&variance], Vec::new());
    let inverse = builder.node("Reciprocal", &[&deviation], Vec::new());
    let mut y = builder.node("Mul", &[&centred, &inverse], Vec::new());
    y = builder.node("Mul", &[&y, node.input(1)?], Vec::new());
    if let Some(shift) = node.input(2) {
        y = builder.node("Add", &[&y, shift], Vec::new());
    }
    for (name, tensor) in node.outputs.iter().zip([y, mean, inverse]) {
        if !name.is_empty() {
            builder.alias(&tensor, name);
        }
    }
    Some(())
}
