//! Sums of what several users of a tensor contribute to its gradient.

use crate::graph::{Builder, attribute};

/// The sum of the contributions to the gradient of `tensor`; those that it does without are added to `superseded`.
pub(super) fn total(builder: &mut Builder, tensor: &str, parts: &[String], superseded: &mut Vec<String>) -> String {
    if parts.len() > 1
        && let Some(joined) = joined_slices(builder, tensor, parts)
    {
        superseded.extend_from_slice(parts);
        return joined;
    }
    if parts.len() > 2
        && let Some(product) = joint_product(builder, parts)
    {
        superseded.extend_from_slice(parts);
        return product;
    }
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    match names[..] {
        [one] => one.to_owned(),
        [first, second] => builder.node("Add", &[first, second], Vec::new()),
        _ => builder.node("Sum", &names, Vec::new()),
    }
}

/// The sum of slices with zeros around them, if they make up the whole along one axis: the slices one after the other.
fn joined_slices(builder: &mut Builder, tensor: &str, parts: &[String]) -> Option<String> {
    let shape = builder.type_of(tensor)?.shape.clone();
    let mut slices = Vec::new();
    let mut along = None;
    for part in parts {
        let node = builder.producer(part)?;
        if node.operator != "Pad" || node.inputs.len() != 2 || !node.attributes.is_empty() {
            return None;
        }
        let pads = builder.constant_value(node.input(1)?)?.to_i64()?;
        let rank = shape.len();
        let axis = (0..rank).find(|axis| pads[*axis] != 0 || pads[rank + axis] != 0)?;
        let is_other = |at: usize| at % rank != axis;
        let is_one_axis = pads.iter().enumerate().all(|(at, pad)| *pad == 0 || !is_other(at));
        if !is_one_axis || along.is_some_and(|along| along != axis) {
            return None;
        }
        along = Some(axis);
        slices.push((
            pads[axis],
            shape[axis] as i64 - pads[rank + axis],
            node.inputs[0].clone(),
        ));
    }
    let axis = along?;
    slices.sort();
    let mut reached = 0;
    for (start, end, _) in &slices {
        if *start != reached || end <= start {
            return None;
        }
        reached = *end;
    }
    if reached != shape[axis] as i64 {
        return None;
    }
    let names: Vec<&str> = slices.iter().map(|(.., name)| name.as_str()).collect();
    let axis = attribute::int("axis", axis as i64);
    Some(builder.node("Concat", &names, vec![axis]))
}

/// The sum of products `A'B` over several pairs of matrices, as those of a weight that many steps of a recurrent
/// layer share, is one product of the matrices one above the other.
fn joint_product(builder: &mut Builder, parts: &[String]) -> Option<String> {
    let mut attributes = None;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    // Contributions come from the last step to the first.
    for part in parts.iter().rev() {
        let node = builder.producer(part)?;
        let is_alike = attributes
            .as_ref()
            .is_none_or(|attributes| *attributes == node.attributes);
        let is_product = node.operator == "Gemm"
            && node.inputs.len() == 2
            && node.int("transA") == Some(1)
            && node.int("transB").unwrap_or(0) == 0;
        if !is_product || !is_alike {
            return None;
        }
        attributes = Some(node.attributes.clone());
        left.push(node.inputs[0].clone());
        right.push(node.inputs[1].clone());
    }
    let mut stack = |names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        builder.node("Concat", &names, vec![attribute::int("axis", 0)])
    };
    let (left, right) = (stack(&left), stack(&right));
    Some(builder.node("Gemm", &[&left, &right], attributes?))
}
