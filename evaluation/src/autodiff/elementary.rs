//! Elementary functions that models use rarely, extremes, and steps.

use super::arithmetic::to_input;
use super::{Context, Gradients, Rule};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Acos", |c| {
        let root = one_minus_square(c)?;
        let root = c.op("Sqrt", &[&root]);
        over(c, &root, true)
    }),
    ("Acosh", |c| {
        let x = c.x(0)?;
        let square = c.mul(&x, &x);
        let rest = c.add_scalar(&square, -1.0)?;
        let root = c.op("Sqrt", &[&rest]);
        over(c, &root, false)
    }),
    ("Asin", |c| {
        let root = one_minus_square(c)?;
        let root = c.op("Sqrt", &[&root]);
        over(c, &root, false)
    }),
    ("Asinh", |c| {
        let root = one_plus_square(c)?;
        let root = c.op("Sqrt", &[&root]);
        over(c, &root, false)
    }),
    ("Atan", |c| {
        let rest = one_plus_square(c)?;
        over(c, &rest, false)
    }),
    ("Atanh", |c| {
        let rest = one_minus_square(c)?;
        over(c, &rest, false)
    }),
    ("Ceil", flat),
    ("Cosh", |c| {
        let x = c.x(0)?;
        let slope = c.op("Sinh", &[&x]);
        times(c, &slope)
    }),
    ("Floor", flat),
    ("Max", extreme),
    ("Mean", mean),
    ("Min", extreme),
    ("Mish", mish),
    ("Mod", modulo),
    ("Round", flat),
    ("Shrink", shrink),
    ("Sign", flat),
    ("Sinh", |c| {
        let x = c.x(0)?;
        let slope = c.op("Cosh", &[&x]);
        times(c, &slope)
    }),
    ("Softsign", softsign),
    ("Swish", swish),
    ("Tan", tan),
    ("ThresholdedRelu", thresholded),
];

fn times(c: &mut Context<'_>, slope: &str) -> Result<Gradients, String> {
    let dy = c.dy()?;
    Ok(vec![Some(c.mul(&dy, slope))])
}

/// `±dy / divisor`
fn over(c: &mut Context<'_>, divisor: &str, negative: bool) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let quotient = c.div(&dy, divisor);
    Ok(vec![Some(if negative { c.op("Neg", &[&quotient]) } else { quotient })])
}

fn one_minus_square(c: &mut Context<'_>) -> Result<String, String> {
    let x = c.x(0)?;
    let (square, one) = (c.mul(&x, &x), c.scalar(1.0)?);
    Ok(c.sub(&one, &square))
}

fn one_plus_square(c: &mut Context<'_>) -> Result<String, String> {
    let x = c.x(0)?;
    let square = c.mul(&x, &x);
    c.add_scalar(&square, 1.0)
}

/// Step functions: the derivative is 0 wherever there is one.
fn flat(c: &mut Context<'_>) -> Result<Gradients, String> {
    let shape = c.shape(&c.x(0)?)?;
    Ok(vec![Some(c.zeros(&shape)?)])
}

/// `1 + y²`
fn tan(c: &mut Context<'_>) -> Result<Gradients, String> {
    let y = c.y()?;
    let square = c.mul(&y, &y);
    let slope = c.add_scalar(&square, 1.0)?;
    times(c, &slope)
}

/// `1 / (1 + |x|)²`
fn softsign(c: &mut Context<'_>) -> Result<Gradients, String> {
    let x = c.x(0)?;
    let size = c.op("Abs", &[&x]);
    let size = c.add_scalar(&size, 1.0)?;
    let square = c.mul(&size, &size);
    over(c, &square, false)
}

/// `x tanh(s)` with `s = softplus(x)`: `tanh(s) + x (1 - tanh²(s)) sigmoid(x)` (Misra 2019).
fn mish(c: &mut Context<'_>) -> Result<Gradients, String> {
    let x = c.x(0)?;
    let s = c.op("Softplus", &[&x]);
    let t = c.op("Tanh", &[&s]);
    let (square, one) = (c.mul(&t, &t), c.scalar(1.0)?);
    let rest = c.sub(&one, &square);
    let sigmoid = c.op("Sigmoid", &[&x]);
    let part = c.mul(&rest, &sigmoid);
    let part = c.mul(&part, &x);
    let slope = c.add(&t, &part);
    times(c, &slope)
}

/// `x sigmoid(alpha x)`: `s + alpha y (1 - s)`.
fn swish(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (x, y) = (c.x(0)?, c.y()?);
    let alpha = c.node.float("alpha").map_or(1.0, f64::from);
    let scaled = c.scale(&x, alpha)?;
    let s = c.op("Sigmoid", &[&scaled]);
    let one = c.scalar(1.0)?;
    let rest = c.sub(&one, &s);
    let part = c.mul(&y, &rest);
    let part = c.scale(&part, alpha)?;
    let slope = c.add(&s, &part);
    times(c, &slope)
}

fn thresholded(c: &mut Context<'_>) -> Result<Gradients, String> {
    let x = c.x(0)?;
    let alpha = c.node.float("alpha").map_or(1.0, f64::from);
    let slope = c.indicator("Greater", &x, alpha)?;
    times(c, &slope)
}

/// 1 outside the band of half width `lambd`.
fn shrink(c: &mut Context<'_>) -> Result<Gradients, String> {
    let x = c.x(0)?;
    let width = c.node.float("lambd").map_or(0.5, f64::from);
    let size = c.op("Abs", &[&x]);
    let slope = c.indicator("Greater", &size, width)?;
    times(c, &slope)
}

/// To each input where it is the extreme; equal ones share.
fn extreme(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let count = c.node.inputs.len();
    let mut masks = Vec::new();
    for input in 0..count {
        let x = c.x(input)?;
        let truth = c.op("Equal", &[&x, &y]);
        masks.push(c.number(&truth)?);
    }
    let names: Vec<&str> = masks.iter().map(String::as_str).collect();
    let total = c.op("Sum", &names);
    let share = c.div(&dy, &total);
    let mut gradients = vec![None; count];
    for (input, mask) in masks.iter().enumerate() {
        if c.needs(input) {
            let part = c.mul(&share, mask);
            gradients[input] = to_input(c, input, &part)?;
        }
    }
    Ok(gradients)
}

fn mean(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let count = c.node.inputs.len();
    let share = c.scale(&dy, 1.0 / count as f64)?;
    (0..count)
        .map(|input| {
            if c.needs(input) {
                to_input(c, input, &share)
            } else {
                Ok(None)
            }
        })
        .collect()
}

/// `a - b trunc(a / b)`
fn modulo(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, a, b) = (c.dy()?, c.x(0)?, c.x(1)?);
    let first = if c.needs(0) { to_input(c, 0, &dy)? } else { None };
    let second = if c.needs(1) {
        let quotient = c.div(&a, &b);
        let size = c.op("Abs", &[&quotient]);
        let size = c.op("Floor", &[&size]);
        let sign = c.op("Sign", &[&quotient]);
        let whole = c.mul(&size, &sign);
        let part = c.mul(&dy, &whole);
        let part = c.op("Neg", &[&part]);
        to_input(c, 1, &part)?
    } else {
        None
    };
    Ok(vec![first, second])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::attribute;
    let mut cases = Vec::new();
    for operator in ["Acos", "Asin", "Atanh"] {
        cases.push(Case::new(operator).input([3, 4], -0.9..0.9));
    }
    for operator in ["Asinh", "Atan", "Cosh", "Mish", "Sinh", "Tan"] {
        cases.push(Case::new(operator).input([3, 4], -1.4..1.4));
    }
    cases.push(Case::new("Acosh").input([3, 4], 1.1..2.0));
    for range in [0.1..2.0, -2.0..-0.1] {
        cases.push(Case::new("Softsign").input([3, 4], range));
    }
    for operator in ["Ceil", "Floor", "Round", "Sign"] {
        cases.push(Case::new(operator).input([4], 0.05..0.45));
    }
    for range in [-0.4..0.4, 0.6..2.0, -2.0..-0.6] {
        cases.push(
            Case::new("Shrink")
                .input([3, 4], range)
                .attribute(attribute::float("bias", 0.3))
                .rough(),
        );
    }
    for range in [-1.0..0.4, 0.6..2.0] {
        cases.push(
            Case::new("ThresholdedRelu")
                .input([3, 4], range)
                .attribute(attribute::float("alpha", 0.5)),
        );
    }
    cases.push(Case::new("Swish").input([3, 4], -2.0..2.0).opset(24));
    cases.push(
        Case::new("Swish")
            .input([3, 4], -2.0..2.0)
            .attribute(attribute::float("alpha", 0.7))
            .opset(24),
    );
    for operator in ["Max", "Min", "Mean"] {
        cases.push(Case::new(operator).input([3, 4], -1.0..1.0));
        cases.push(Case::new(operator).input([3, 4], -1.0..1.0).input([4], -1.0..1.0));
        cases.push(
            Case::new(operator)
                .input([3, 1], -1.0..1.0)
                .input([3, 4], -1.0..1.0)
                .float_constant(&[], vec![0.1]),
        );
    }
    cases.push(
        Case::new("Mod")
            .input([3, 4], 1.0..3.0)
            .input([4], 0.7..0.9)
            .attribute(attribute::int("fmod", 1)),
    );
    cases
}
