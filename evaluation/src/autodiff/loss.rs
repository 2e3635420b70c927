//! Losses that exporters write as one operator.

use super::{Context, Expansion, Rule};
use crate::graph::{ElementType, Elements, Tensor, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[];
pub(super) const EXPANSIONS: &[(&str, Expansion)] = &[
    ("NegativeLogLikelihoodLoss", negative_log_likelihood),
    ("SoftmaxCrossEntropyLoss", softmax_cross_entropy),
];

fn softmax_cross_entropy(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    let scores = c.x(0)?;
    let logarithms = c.op_with("LogSoftmax", &[&scores], vec![attribute::int("axis", 1)]);
    Ok(vec![likelihood(c, &logarithms)?, logarithms])
}

fn negative_log_likelihood(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    let logarithms = c.x(0)?;
    Ok(vec![likelihood(c, &logarithms)?])
}

/// `Σ w[label] (-log p[label]) / Σ w[label]` over the labels that are not ignored; with `reduction` `sum` or `none`
/// without the division or the sum. `log p` has the shape `[N, C, …]`, labels `[N, …]`.
fn likelihood(c: &mut Context<'_>, logarithms: &str) -> Result<String, String> {
    let labels = c.x(1)?;
    let labels = c.cast(&labels, ElementType::I64);
    let shape = c.shape(&labels)?;
    let (labels, counted) = if let Some(ignored) = c.node.int("ignore_index") {
        let whole = |c: &mut Context<'_>, value: i64| c.builder.constant(Tensor::new([], Elements::I64(vec![value])));
        let (ignored, first) = (whole(c, ignored), whole(c, 0));
        let is_ignored = c.op("Equal", &[&labels, &ignored]);
        let (zero, one) = (c.scalar(0.0)?, c.scalar(1.0)?);
        let counted = c.op("Where", &[&is_ignored, &zero, &one]);
        (c.op("Where", &[&is_ignored, &first, &labels]), Some(counted))
    } else {
        (labels, None)
    };
    let axis = c.builder.ints(&[1]);
    let column = c.op("Unsqueeze", &[&labels, &axis]);
    let picked = c.op_with(
        "GatherElements",
        &[logarithms, &column],
        vec![attribute::int("axis", 1)],
    );
    let picked = c.reshape(&picked, &shape);
    let mut losses = c.op("Neg", &[&picked]);
    let weights = match c.node.input(2).map(str::to_owned) {
        Some(weights) => {
            let weights = c.op_with("Gather", &[&weights, &labels], vec![attribute::int("axis", 0)]);
            Some(match &counted {
                Some(counted) => c.mul(&weights, counted),
                None => weights,
            })
        }
        None => counted,
    };
    if let Some(weights) = &weights {
        losses = c.mul(&losses, weights);
    }
    let keep = || vec![attribute::int("keepdims", 0)];
    Ok(match (c.node.string("reduction").unwrap_or("mean"), weights) {
        ("none", _) => losses,
        ("sum", _) => c.op_with("ReduceSum", &[&losses], keep()),
        (_, None) => c.op_with("ReduceMean", &[&losses], keep()),
        (_, Some(weights)) => {
            let sum = c.op_with("ReduceSum", &[&losses], keep());
            let total = c.op_with("ReduceSum", &[&weights], keep());
            c.div(&sum, &total)
        }
    })
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let labels = |shape: &[usize], values: &[i64]| Tensor::new(shape, Elements::I64(values.to_vec()));
    let mut cases = Vec::new();
    for operator in ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"] {
        for reduction in ["mean", "sum", "none"] {
            let case = || {
                Case::new(operator)
                    .input([4, 3], -2.0..-0.1)
                    .constant(labels(&[4], &[0, 2, 1, 2]))
                    .attribute(attribute::string("reduction", reduction))
            };
            cases.push(case());
            cases.push(
                case()
                    .float_constant(&[3], vec![0.5, 1.0, 2.0])
                    .attribute(attribute::int("ignore_index", 1)),
            );
        }
        cases.push(
            Case::new(operator)
                .input([2, 3, 2], -2.0..-0.1)
                .constant(labels(&[2, 2], &[0, 2, 1, 2])),
        );
        cases.push(
            Case::new(operator)
                .input([4, 3], -2.0..-0.1)
                .constant(labels(&[4], &[0, -100, 1, 2]))
                .attribute(attribute::int("ignore_index", -100)),
        );
    }
    cases.push(
        Case::new("SoftmaxCrossEntropyLoss")
            .input([4, 3], -2.0..-0.1)
            .constant(labels(&[4], &[0, 2, 1, 2]))
            .outputs(2),
    );
    cases
}
