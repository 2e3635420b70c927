//! Sums and means over axes.

use super::context::axis_index;
use super::{Context, Gradients, Rule};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ReduceL1", |c| {
        let x = c.x(0)?;
        let sign = c.op("Sign", &[&x]);
        spread(c, Some(&sign), None)
    }),
    ("ReduceL2", l2),
    ("ReduceLogSum", |c| {
        let y = c.y()?;
        let sum = c.op("Exp", &[&y]);
        let one = c.scalar(1.0)?;
        let slope = c.div(&one, &sum);
        spread(c, None, Some(&slope))
    }),
    ("ReduceLogSumExp", log_sum_exp),
    ("ReduceMax", extreme),
    ("ReduceMean", |c| {
        let (all, kept) = (c.shape(&c.x(0)?)?, c.shape(&c.y()?)?);
        let count = all.iter().product::<usize>() / kept.iter().product::<usize>().max(1);
        let share = c.scalar(1.0 / count.max(1) as f64)?;
        spread(c, None, Some(&share))
    }),
    ("ReduceMin", extreme),
    ("ReduceProd", product),
    ("ReduceSum", |c| spread(c, None, None)),
    ("ReduceSumSquare", |c| {
        let x = c.x(0)?;
        let slope = c.scale(&x, 2.0)?;
        spread(c, Some(&slope), None)
    }),
];

/// The shape of the output if the reduced axes stayed with size 1; none where nothing is reduced.
fn kept_shape(c: &Context<'_>) -> Result<Option<Vec<usize>>, String> {
    let shape = c.shape(&c.x(0)?)?;
    let axes = match c.constant_ints(1)? {
        Some(axes) if !axes.is_empty() => axes,
        _ if c.node.int("noop_with_empty_axes").unwrap_or(0) != 0 => return Ok(None),
        _ => (0..shape.len() as i64).collect(),
    };
    let mut kept = shape.clone();
    for axis in axes {
        kept[axis_index(axis, shape.len())] = 1;
    }
    Ok(Some(kept))
}

/// A tensor of the output's shape, with the reduced axes of size 1 there.
fn with_axes(c: &mut Context<'_>, name: &str) -> Result<String, String> {
    Ok(match kept_shape(c)? {
        Some(kept) if c.node.int("keepdims").unwrap_or(1) == 0 => c.reshape(name, &kept),
        _ => name.to_owned(),
    })
}

/// `dy × outer`, spread over the reduced axes, times `inner`: factors of the output's and of the input's shape.
fn spread(c: &mut Context<'_>, inner: Option<&str>, outer: Option<&str>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let shape = c.shape(&c.x(0)?)?;
    let gradient = match outer {
        Some(outer) => c.mul(&dy, outer),
        None => dy,
    };
    let gradient = with_axes(c, &gradient)?;
    let gradient = match inner {
        Some(inner) => c.mul(inner, &gradient),
        None => c.expand(&gradient, &shape),
    };
    Ok(vec![Some(gradient), None])
}

/// `x / y`, and 0 where all of them are 0.
fn l2(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (x, y) = (c.x(0)?, c.y()?);
    let none = c.indicator("Equal", &y, 0.0)?;
    let divisor = c.add(&y, &none);
    let one = c.scalar(1.0)?;
    let slope = c.div(&one, &divisor);
    spread(c, Some(&x), Some(&slope))
}

/// `exp(x - y)`
fn log_sum_exp(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (x, y) = (c.x(0)?, c.y()?);
    let y = with_axes(c, &y)?;
    let difference = c.sub(&x, &y);
    let share = c.op("Exp", &[&difference]);
    spread(c, Some(&share), None)
}

/// To the elements that are the extreme, in equal parts.
fn extreme(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, y) = (c.dy()?, c.x(0)?, c.y()?);
    let y = with_axes(c, &y)?;
    let truth = c.op("Equal", &[&x, &y]);
    let mask = c.number(&truth)?;
    let Some(kept) = kept_shape(c)? else {
        return Ok(vec![Some(dy), None]);
    };
    let axes: Vec<i64> = (0..kept.len() as i64)
        .filter(|axis| kept[*axis as usize] == 1)
        .collect();
    let count = c.reduce("ReduceSum", &mask, &axes);
    let gradient = with_axes(c, &dy)?;
    let share = c.div(&gradient, &count);
    Ok(vec![Some(c.mul(&mask, &share)), None])
}

/// The product of the other elements: without zeros `y / x`; with one zero there it is the product of the rest, with
/// two it is 0 everywhere.
fn product(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let Some(kept) = kept_shape(c)? else {
        return Ok(vec![Some(dy), None]);
    };
    let axes: Vec<i64> = (0..kept.len() as i64)
        .filter(|axis| kept[*axis as usize] == 1)
        .collect();
    let is_zero = c.indicator("Equal", &x, 0.0)?;
    let safe = c.add(&x, &is_zero);
    let rest = c.reduce("ReduceProd", &safe, &axes);
    let zeros = c.reduce("ReduceSum", &is_zero, &axes);
    // Zeros among the other elements.
    let others = c.sub(&zeros, &is_zero);
    let none = c.indicator("Equal", &others, 0.0)?;
    let slope = c.div(&rest, &safe);
    let slope = c.mul(&slope, &none);
    spread(c, Some(&slope), None)
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::{Tensor, attribute};
    let mut cases = Vec::new();
    for (operator, _) in RULES {
        // Away from the kinks and poles.
        let range = if *operator == "ReduceLogSum" {
            0.2..2.0
        } else {
            -1.0..1.0
        };
        let case = |shape: &[usize]| Case::new(operator).input(shape, range.clone());
        cases.extend([
            case(&[3, 4]),
            case(&[3, 4]).attribute(attribute::int("keepdims", 0)),
            case(&[2, 3, 4]).constant(Tensor::ints(vec![-1, 0])),
            case(&[2, 3, 4])
                .constant(Tensor::ints(vec![1]))
                .attribute(attribute::int("keepdims", 0)),
        ]);
        if matches!(*operator, "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceProd") {
            cases.push(
                case(&[2, 3])
                    .constant(Tensor::ints(vec![]))
                    .attribute(attribute::int("noop_with_empty_axes", 1)),
            );
        }
    }
    cases
}
