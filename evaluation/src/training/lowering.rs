//! Rewrites operators that behave differently in training: batch normalisation and dropout.
//!
//! Both forms consist of operators that every execution provider has and that can be differentiated.

use std::collections::HashSet;

use crate::graph::{Graph, Node, Tensor, attribute};

/// A dropout mask that is drawn on the host for each step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mask {
    /// Name of the feed.
    pub(crate) feed: String,
    /// The tensor that it multiplies.
    pub(crate) tensor: String,
    /// Share of zeros.
    pub(crate) rate: f64,
}

/// What the training form of a graph has besides its nodes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Lowered {
    /// Masks to feed, of the shape of the tensors that they multiply.
    pub(crate) masks: Vec<Mask>,
    /// Running statistics: the constant with the value so far, and the tensor with the next one.
    pub(crate) running: Vec<(String, String)>,
}

/// Prefix of names that lowering adds.
const PREFIX: &str = "lowered/";

/// Names of the constants that are running statistics of batch normalisations.
pub(crate) fn running_statistics(graph: &Graph) -> HashSet<String> {
    graph
        .nodes
        .iter()
        .filter(|node| node.operator == "BatchNormalization")
        .flat_map(|node| node.inputs.iter().skip(3).take(2).cloned())
        .collect()
}

/// The form for evaluation: given statistics, no dropout.
pub(crate) fn for_inference(graph: &mut Graph) {
    for node in &mut graph.nodes {
        match node.operator.as_str() {
            "BatchNormalization" => {
                node.outputs.truncate(1);
                node.attributes
                    .retain(|attribute| attribute.name.as_deref() != Some("training_mode"));
            }
            "Dropout" => {
                "Identity".clone_into(&mut node.operator);
                node.inputs.truncate(1);
                node.outputs.truncate(1);
                node.attributes.clear();
            }
            _ => {}
        }
    }
}

/// The form for training.
///
/// `shape_of` gives the shape of a tensor, batch size included.
///
/// # Errors
/// When a node cannot be trained, in words.
pub(crate) fn for_training(
    graph: &mut Graph,
    shape_of: &dyn Fn(&str) -> Option<Vec<usize>>,
) -> Result<Lowered, String> {
    let mut lowered = Lowered::default();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        match node.operator.as_str() {
            "BatchNormalization" => batch_normalization(graph, &mut nodes, &node, shape_of, &mut lowered)?,
            "Dropout" => dropout(graph, &mut nodes, &node, &mut lowered)?,
            _ => nodes.push(node),
        }
    }
    graph.nodes = nodes;
    Ok(lowered)
}

fn dropout(graph: &Graph, nodes: &mut Vec<Node>, node: &Node, lowered: &mut Lowered) -> Result<(), String> {
    let rate = match node.input(1) {
        None => 0.5,
        Some(name) => graph
            .constants
            .get(name)
            .and_then(Tensor::to_f64)
            .and_then(|values| values.first().copied())
            .ok_or_else(|| format!("node `{}`: the dropout ratio `{name}` must be constant", node.label()))?,
    };
    if !(0.0..1.0).contains(&rate) {
        return Err(format!(
            "node `{}`: the dropout ratio must be in [0, 1), found {rate}",
            node.label()
        ));
    }
    let (input, output) = (node.inputs[0].clone(), node.outputs[0].clone());
    if rate == 0.0 {
        nodes.push(simple(&node.name, "Identity", vec![input], output, Vec::new()));
        return Ok(());
    }
    let feed = format!("{PREFIX}mask.{}", lowered.masks.len());
    lowered.masks.push(Mask {
        feed: feed.clone(),
        tensor: input.clone(),
        rate,
    });
    nodes.push(simple(&node.name, "Mul", vec![input, feed], output, Vec::new()));
    Ok(())
}

/// `y = (x - mean)/√(variance + ε) scale + bias` with the batch's own mean and variance (Ioffe and Szegedy 2015,
/// algorithm 1). Running statistics keep the share `momentum`; the running variance is the unbiased one, as in
/// PyTorch.
fn batch_normalization(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    node: &Node,
    shape_of: &dyn Fn(&str) -> Option<Vec<usize>>,
    lowered: &mut Lowered,
) -> Result<(), String> {
    let label = node.label().to_owned();
    let shape =
        shape_of(&node.inputs[0]).ok_or_else(|| format!("node `{label}`: the shape of its input is unknown"))?;
    let count = shape.iter().product::<usize>() / shape[1].max(1);
    if count < 2 {
        return Err(format!(
            "node `{label}`: batch normalisation needs at least two values per channel, found {count}; use a larger \
             batch or set `drop_last`"
        ));
    }
    let stem = format!("{PREFIX}{label}");
    let momentum = node.float("momentum").unwrap_or(0.9);
    let epsilon = node.float("epsilon").unwrap_or(1e-5);
    let axes: Vec<i64> = (0..shape.len() as i64).filter(|axis| *axis != 1).collect();
    let mut channel = vec![1_i64; shape.len()];
    channel[1] = shape[1] as i64;

    let mut constant = |part: &str, tensor: Tensor| {
        let name = format!("{stem}.{part}");
        graph.constants.insert(name.clone(), tensor);
        name
    };
    let scalar = |value: f32| Tensor::f32([], vec![value]);
    let axes = constant("axes", Tensor::ints(axes));
    let channel = constant("channel", Tensor::ints(channel));
    let flat = constant("flat", Tensor::ints(vec![shape[1] as i64]));
    let epsilon = constant("epsilon", scalar(epsilon));
    let keep = constant("keep", scalar(momentum));
    let take = constant("take", scalar(1.0 - momentum));
    let take_unbiased = constant(
        "take_unbiased",
        scalar((1.0 - momentum) * count as f32 / (count as f32 - 1.0)),
    );

    let [x, scale, bias, mean, variance] = &node.inputs[..] else {
        return Err(format!("node `{label}`: batch normalisation needs five inputs"));
    };
    let mut push = |operator: &str, inputs: [&str; 2], output: &str| {
        let inputs = inputs
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| (*name).to_owned())
            .collect();
        let output = if output == "y" {
            node.outputs[0].clone()
        } else {
            format!("{stem}.{output}")
        };
        let attributes = if operator == "ReduceMean" {
            vec![attribute::int("keepdims", 1)]
        } else {
            Vec::new()
        };
        nodes.push(simple("", operator, inputs, output.clone(), attributes));
        output
    };
    let batch_mean = push("ReduceMean", [x, &axes], "mean");
    let centred = push("Sub", [x, &batch_mean], "centred");
    let square = push("Mul", [&centred, &centred], "square");
    let batch_variance = push("ReduceMean", [&square, &axes], "variance");
    let shifted = push("Add", [&batch_variance, &epsilon], "shifted");
    let deviation = push("Sqrt", [&shifted, ""], "deviation");
    let normal = push("Div", [&centred, &deviation], "normal");
    let factor = push("Reshape", [scale, &channel], "scale");
    let offset = push("Reshape", [bias, &channel], "bias");
    let scaled = push("Mul", [&normal, &factor], "scaled");
    let y = push("Add", [&scaled, &offset], "y");
    for (old, new, share) in [(mean, &batch_mean, &take), (variance, &batch_variance, &take_unbiased)] {
        let part = if std::ptr::eq(old, mean) { "mean" } else { "variance" };
        let new = push("Reshape", [new, &flat], &format!("{part}.flat"));
        let new = push("Mul", [&new, share], &format!("{part}.new"));
        let kept = push("Mul", [old, &keep], &format!("{part}.kept"));
        let next = push("Add", [&kept, &new], &format!("{part}.next"));
        lowered.running.push((old.clone(), next));
    }
    // Short channels are better served by standard operators, which do all of them at once.
    if count / shape[0] < 16 {
        return Ok(());
    }
    graph.shortcuts.push(Node {
        name: stem,
        operator: "BatchNorm".into(),
        inputs: vec![x.clone(), scale.clone(), bias.clone(), epsilon],
        outputs: vec![y, batch_mean, batch_variance],
        attributes: Vec::new(),
    });
    Ok(())
}

fn simple(
    name: &str,
    operator: &str,
    inputs: Vec<String>,
    output: String,
    attributes: Vec<crate::graph::proto::AttributeProto>,
) -> Node {
    Node {
        name: name.to_owned(),
        operator: operator.to_owned(),
        inputs,
        outputs: vec![output],
        attributes,
    }
}

/// Whether a graph has a node that draws its own random numbers, which would make results irreproducible.
pub(crate) fn is_random(operator: &str) -> bool {
    operator.starts_with("Random") || matches!(operator, "Bernoulli" | "Multinomial" | "Dropout")
}
