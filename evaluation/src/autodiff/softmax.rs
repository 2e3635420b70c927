//! Softmax and its logarithm.

use super::context::axis_index;
use super::{Context, Gradients, Rule};

pub(super) const RULES: &[(&str, Rule)] = &[("LogSoftmax", log_softmax), ("Softmax", softmax)];

/// `y (dy - Σ dy y)`
fn softmax(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let axis = c.node.int("axis").unwrap_or(-1);
    let product = c.mul(&dy, &y);
    let sum = c.reduce("ReduceSum", &product, &[axis]);
    let rest = c.sub(&dy, &sum);
    let dx = c.mul(&y, &rest);
    if axis_index(axis, c.shape(&y)?.len()) + 1 == c.shape(&y)?.len() {
        c.shortcut("SoftmaxGradient", &[&dy, &y], &[&dx])?;
    }
    Ok(vec![Some(dx)])
}

/// `dy - exp(y) Σ dy`
fn log_softmax(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let axis = c.node.int("axis").unwrap_or(-1);
    let sum = c.reduce("ReduceSum", &dy, &[axis]);
    let probability = c.op("Exp", &[&y]);
    let part = c.mul(&probability, &sum);
    Ok(vec![Some(c.sub(&dy, &part))])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::attribute;
    ["Softmax", "LogSoftmax"]
        .into_iter()
        .flat_map(|operator| {
            [
                Case::new(operator).input([3, 4], -2.0..2.0),
                Case::new(operator)
                    .input([3, 4, 2], -2.0..2.0)
                    .attribute(attribute::int("axis", 1)),
            ]
        })
        .collect()
}
