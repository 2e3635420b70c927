//! Nodes of a file in the meaning of one operator set.

use super::{ImportError, form};
use crate::graph::proto::NodeProto;
use crate::graph::{Elements, Graph, Node, Tensor, attribute};

/// Turns a node into the meaning of [`OPSET`](crate::graph::OPSET) and constants into constants.
pub(super) fn import_node(file: &NodeProto, opset: i64, graph: &mut Graph) -> Result<(), ImportError> {
    let mut node = Node {
        name: file.name.clone().unwrap_or_default(),
        operator: file.op_type.clone().unwrap_or_default(),
        inputs: file.input.clone(),
        outputs: file.output.clone(),
        attributes: file.attribute.clone(),
    };
    if !matches!(file.domain.as_deref(), None | Some("" | "ai.onnx")) {
        return Err(form(format!(
            "node `{}`: operator `{}::{}` is not of the standard set; export the model without custom operators",
            node.label(),
            file.domain.as_deref().unwrap_or(""),
            node.operator
        )));
    }
    if node
        .attributes
        .iter()
        .any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
    {
        return Err(form(format!(
            "node `{}`: operator `{}` holds a graph of its own (a loop or a branch), which cannot be trained",
            node.label(),
            node.operator
        )));
    }
    if node.operator == "Constant" {
        graph.constants.insert(node.outputs[0].clone(), constant_value(&node)?);
        return Ok(());
    }
    if node.operator == "BatchNormalization" && node.inputs.len() != 5 {
        return Err(form(format!(
            "node `{}`: batch normalisation needs five inputs",
            node.label()
        )));
    }
    upgrade(&mut node, opset, graph);
    graph.nodes.push(node);
    Ok(())
}

fn constant_value(node: &Node) -> Result<Tensor, ImportError> {
    for attribute in &node.attributes {
        return Ok(match attribute.name.as_deref() {
            Some("value") => Tensor::from_proto(attribute.t.as_ref().ok_or_else(|| form("a constant has no value"))?)?,
            Some("value_float") => Tensor::f32([], vec![attribute.f.unwrap_or(0.0)]),
            Some("value_floats") => Tensor::f32([attribute.floats.len()], attribute.floats.clone()),
            Some("value_int") => Tensor::new([], Elements::I64(vec![attribute.i.unwrap_or(0)])),
            Some("value_ints") => Tensor::ints(attribute.ints.clone()),
            _ => continue,
        });
    }
    Err(form(format!(
        "node `{}`: a constant of a kind that is not supported",
        node.label()
    )))
}

/// Moves what older operator sets kept in attributes to where newer ones expect it.
fn upgrade(node: &mut Node, opset: i64, graph: &mut Graph) {
    // Attribute, position of the input that replaced it, and whether it holds integers.
    let moves: &[(&str, usize, bool)] = match node.operator.as_str() {
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
        | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" | "Squeeze" | "Unsqueeze" => &[("axes", 1, true)],
        "Pad" => &[("pads", 1, true), ("value", 2, false)],
        "Split" => &[("split", 1, true)],
        "Slice" => &[("starts", 1, true), ("ends", 2, true), ("axes", 3, true)],
        "Clip" => &[("min", 1, false), ("max", 2, false)],
        "Dropout" => &[("ratio", 1, false)],
        _ => &[],
    };
    for (name, position, integers) in moves {
        let Some(old) = node.attribute(name).cloned() else {
            continue;
        };
        let tensor = if *integers {
            Tensor::ints(old.ints)
        } else {
            Tensor::f32([], vec![old.f.unwrap_or(0.0)])
        };
        let constant = format!("{}/{name}", node.outputs[0]);
        graph.constants.insert(constant.clone(), tensor);
        node.attributes
            .retain(|attribute| attribute.name.as_deref() != Some(*name));
        if node.inputs.len() <= *position {
            node.inputs.resize(position + 1, String::new());
        }
        node.inputs[*position] = constant;
    }
    match node.operator.as_str() {
        "Split" if opset < 18 && node.inputs.len() < 2 && node.attribute("num_outputs").is_none() => {
            node.attributes
                .push(attribute::int("num_outputs", node.outputs.len() as i64));
        }
        "Softmax" | "LogSoftmax" if opset < 13 && node.attribute("axis").is_none() => {
            node.attributes.push(attribute::int("axis", 1));
        }
        _ => {}
    }
}
