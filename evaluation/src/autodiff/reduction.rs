//! Sums and means over axes.

use super::context::axis_index;
use super::{Context, Gradients, Rule};

pub(super) const RULES: &[(&str, Rule)] = &[("ReduceMean", reduce_mean), ("ReduceSum", reduce_sum)];

/// Spreads the gradient over the reduced axes; `mean` divides by their size.
fn spread(c: &mut Context<'_>, mean: bool) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let shape = c.shape(&x)?;
    let axes = match c.constant_ints(1)? {
        Some(axes) if !axes.is_empty() => axes,
        _ if c.node.int("noop_with_empty_axes").unwrap_or(0) != 0 => {
            return Ok(vec![Some(dy), None]);
        }
        _ => (0..shape.len() as i64).collect(),
    };
    let mut kept = shape.clone();
    let mut count = 1;
    for axis in axes {
        let axis = axis_index(axis, shape.len());
        count *= shape[axis];
        kept[axis] = 1;
    }
    let mut gradient = dy;
    if mean {
        gradient = c.scale(&gradient, 1.0 / count as f64)?;
    }
    if c.node.int("keepdims").unwrap_or(1) == 0 {
        gradient = c.reshape(&gradient, &kept);
    }
    Ok(vec![Some(c.expand(&gradient, &shape)), None])
}

fn reduce_mean(c: &mut Context<'_>) -> Result<Gradients, String> {
    spread(c, true)
}

fn reduce_sum(c: &mut Context<'_>) -> Result<Gradients, String> {
    spread(c, false)
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::{Tensor, attribute};
    ["ReduceMean", "ReduceSum"]
        .into_iter()
        .flat_map(|operator| {
            [
                Case::new(operator).input([3, 4], -1.0..1.0),
                Case::new(operator)
                    .input([3, 4], -1.0..1.0)
                    .attribute(attribute::int("keepdims", 0)),
                Case::new(operator)
                    .input([2, 3, 4], -1.0..1.0)
                    .constant(Tensor::ints(vec![-1, 0])),
                Case::new(operator)
                    .input([2, 3, 4], -1.0..1.0)
                    .constant(Tensor::ints(vec![1]))
                    .attribute(attribute::int("keepdims", 0)),
                Case::new(operator)
                    .input([2, 3], -1.0..1.0)
                    .constant(Tensor::ints(vec![]))
                    .attribute(attribute::int("noop_with_empty_axes", 1)),
            ]
        })
        .collect()
}
