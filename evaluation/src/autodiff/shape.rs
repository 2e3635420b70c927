//! Operators that move numbers without changing them.

use super::context::axis_index;
use super::{Context, Gradients, Rule};
use crate::graph::{Tensor, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Concat", concat),
    ("Expand", expand),
    ("Flatten", reshape_back),
    ("Reshape", reshape_back),
    ("Slice", slice),
    ("Split", split),
    ("Squeeze", reshape_back),
    ("Transpose", transpose),
    ("Unsqueeze", reshape_back),
];

fn reshape_back(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let shape = c.shape(&c.x(0)?)?;
    Ok(vec![Some(c.reshape(&dy, &shape)), None])
}

fn transpose(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let rank = c.shape(&c.x(0)?)?.len();
    let inverse: Vec<i64> = match c.node.ints("perm") {
        Some(order) => {
            let mut inverse = vec![0; rank];
            for (position, axis) in order.iter().enumerate() {
                inverse[axis_index(*axis, rank)] = position as i64;
            }
            inverse
        }
        None => (0..rank as i64).rev().collect(),
    };
    Ok(vec![Some(c.op_with(
        "Transpose",
        &[&dy],
        vec![attribute::ints("perm", &inverse)],
    ))])
}

fn expand(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let (from, to) = (c.shape(&c.y()?)?, c.shape(&c.x(0)?)?);
    Ok(vec![Some(c.reduce_to(&dy, &from, &to)), None])
}

fn concat(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let rank = c.shape(&c.y()?)?.len();
    let axis = axis_index(c.node.int("axis").ok_or("attribute `axis` is missing")?, rank);
    let sizes = (0..c.node.inputs.len())
        .map(|input| Ok(c.shape(&c.x(input)?)?[axis] as i64))
        .collect::<Result<Vec<_>, String>>()?;
    if sizes.len() == 1 {
        return Ok(vec![Some(dy)]);
    }
    let sizes_name = c.builder.ints(&sizes);
    let parts = c.builder.node_with_outputs(
        "Split",
        &[&dy, &sizes_name],
        sizes.len(),
        vec![attribute::int("axis", axis as i64)],
    );
    Ok(parts.into_iter().map(Some).collect())
}

fn split(c: &mut Context<'_>) -> Result<Gradients, String> {
    let axis = c.node.int("axis").unwrap_or(0);
    let mut parts = Vec::new();
    for (index, output) in c.node.outputs.iter().enumerate() {
        let part = if let Some(gradient) = c.gradient(index) {
            gradient
        } else {
            let shape = c.shape(output)?;
            c.zeros(&shape)?
        };
        parts.push(part);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(vec![
        Some(c.op_with("Concat", &parts, vec![attribute::int("axis", axis)])),
        None,
    ])
}

/// Pads with zeros where the step is 1; other steps scatter into zeros, one axis after the other.
fn slice(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, y) = (c.dy()?, c.x(0)?, c.y()?);
    let (shape, mut current) = (c.shape(&x)?, c.shape(&y)?);
    let rank = shape.len();
    let starts = c.constant_ints(1)?.ok_or("input `starts` is missing")?;
    let axes = c
        .constant_ints(3)?
        .unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = c.constant_ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    let mut pads = vec![0; 2 * rank];
    let mut gradient = dy;
    for ((start, axis), step) in starts.into_iter().zip(axes).zip(steps) {
        let axis = axis_index(axis, rank);
        let size = shape[axis] as i64;
        let start = if start < 0 { start + size } else { start }.clamp(0, if step < 0 { size - 1 } else { size });
        if step == 1 {
            pads[axis] = start;
            pads[rank + axis] = size - start - current[axis] as i64;
            continue;
        }
        let positions: Vec<i64> = (0..current[axis] as i64).map(|index| start + index * step).collect();
        let mut along = vec![1; rank];
        along[axis] = current[axis];
        let positions = c
            .builder
            .constant(Tensor::new(along, crate::graph::Elements::I64(positions)));
        let positions = c.expand(&positions, &current);
        current[axis] = shape[axis];
        let zeros = c.zeros(&current)?;
        gradient = c.op_with(
            "ScatterElements",
            &[&zeros, &positions, &gradient],
            vec![attribute::int("axis", axis as i64)],
        );
    }
    if pads.iter().any(|pad| *pad != 0) {
        let pads = c.builder.ints(&pads);
        gradient = c.op("Pad", &[&gradient, &pads]);
    }
    Ok(vec![Some(gradient), None, None, None, None])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let ints = |values: &[i64]| Tensor::ints(values.to_vec());
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        Case::new("Slice")
            .input([4, 5], -1.0..1.0)
            .constant(ints(starts))
            .constant(ints(ends))
            .constant(ints(axes))
            .constant(ints(steps))
    };
    vec![
        Case::new("Reshape").input([2, 6], -1.0..1.0).constant(ints(&[3, -1])),
        Case::new("Flatten").input([2, 3, 2], -1.0..1.0),
        Case::new("Squeeze").input([2, 1, 3], -1.0..1.0).constant(ints(&[1])),
        Case::new("Unsqueeze").input([2, 3], -1.0..1.0).constant(ints(&[0, -1])),
        Case::new("Transpose").input([2, 3, 4], -1.0..1.0),
        Case::new("Transpose")
            .input([2, 3, 4], -1.0..1.0)
            .attribute(attribute::ints("perm", &[1, 2, 0])),
        Case::new("Expand").input([3, 1], -1.0..1.0).constant(ints(&[2, 3, 4])),
        Case::new("Concat")
            .input([2, 3], -1.0..1.0)
            .input([2, 1], -1.0..1.0)
            .attribute(attribute::int("axis", -1)),
        Case::new("Concat")
            .input([2, 3], -1.0..1.0)
            .attribute(attribute::int("axis", 0)),
        Case::new("Split")
            .input([2, 5], -1.0..1.0)
            .constant(ints(&[2, 3]))
            .attribute(attribute::int("axis", 1))
            .outputs(2),
        Case::new("Split")
            .input([4, 2], -1.0..1.0)
            .attribute(attribute::int("num_outputs", 2))
            .outputs(2)
            .using(1),
        slice(&[1], &[3], &[0], &[1]),
        slice(&[0, -3], &[4, 9], &[0, 1], &[1, 1]),
        slice(&[0, 1], &[4, 5], &[0, 1], &[2, 3]),
        slice(&[-1, 1], &[-9, 4], &[1, 0], &[-2, 1]),
        Case::new("Slice")
            .input([4, 5], -1.0..1.0)
            .constant(ints(&[1, 2]))
            .constant(ints(&[3, 4])),
    ]
}
