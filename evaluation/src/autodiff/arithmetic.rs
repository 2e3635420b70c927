//! Elementwise arithmetic, with broadcasting.
//!
//! `dy` is the gradient of the output; where the output `y` gives the derivative, it is used in place of the input.

use super::{Context, Gradients, Rule};
use crate::graph::ElementType;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Abs", abs),
    ("Add", add),
    ("Cast", cast),
    ("CastLike", cast),
    ("Cos", cos),
    ("Div", div),
    ("Erf", erf),
    ("Exp", exp),
    ("Identity", identity),
    ("Log", log),
    ("Mul", mul),
    ("Neg", neg),
    ("Pow", pow),
    ("Reciprocal", reciprocal),
    ("Sin", sin),
    ("Sqrt", sqrt),
    ("Sub", sub),
    ("Sum", sum),
    ("Where", choose),
];

/// A gradient summed to the shape of input `input`, if that is of use.
pub(super) fn to_input(c: &mut Context<'_>, input: usize, gradient: &str) -> Result<Option<String>, String> {
    let from = c.shape(&c.y()?)?;
    let to = c.shape(&c.x(input)?)?;
    Ok(Some(c.reduce_to(gradient, &from, &to)))
}

fn add(c: &mut Context<'_>) -> Result<Gradients, String> {
    sum(c)
}

fn sum(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    (0..c.node.inputs.len())
        .map(|input| {
            if c.needs(input) {
                to_input(c, input, &dy)
            } else {
                Ok(None)
            }
        })
        .collect()
}

fn sub(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let first = if c.needs(0) { to_input(c, 0, &dy)? } else { None };
    let second = if c.needs(1) {
        let sum = to_input(c, 1, &dy)?;
        sum.map(|sum| c.op("Neg", &[&sum]))
    } else {
        None
    };
    Ok(vec![first, second])
}

fn mul(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, a, b) = (c.dy()?, c.x(0)?, c.x(1)?);
    let mut gradients = vec![None, None];
    for (input, other) in [(0, &b), (1, &a)] {
        if c.needs(input) {
            let product = c.mul(&dy, other);
            gradients[input] = to_input(c, input, &product)?;
        }
    }
    Ok(gradients)
}

fn div(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, b, y) = (c.dy()?, c.x(1)?, c.y()?);
    let quotient = c.div(&dy, &b);
    let first = if c.needs(0) { to_input(c, 0, &quotient)? } else { None };
    let second = if c.needs(1) {
        let product = c.mul(&quotient, &y);
        let product = c.op("Neg", &[&product]);
        to_input(c, 1, &product)?
    } else {
        None
    };
    Ok(vec![first, second])
}

/// `d(a^b) = b a^(b-1) da + a^b ln(a) db`
fn pow(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, a, b, y) = (c.dy()?, c.x(0)?, c.x(1)?, c.y()?);
    let element = c.element()?;
    let exponent = if c.type_of(&b)?.element == element {
        b.clone()
    } else {
        c.cast(&b, element)
    };
    let mut gradients = vec![None, None];
    if c.needs(0) {
        let less = c.add_scalar(&exponent, -1.0)?;
        let power = c.op("Pow", &[&a, &less]);
        let slope = c.mul(&power, &exponent);
        let product = c.mul(&dy, &slope);
        gradients[0] = to_input(c, 0, &product)?;
    }
    if c.needs(1) {
        let log = c.op("Log", &[&a]);
        let slope = c.mul(&log, &y);
        let product = c.mul(&dy, &slope);
        gradients[1] = to_input(c, 1, &product)?;
    }
    Ok(gradients)
}

fn neg(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    Ok(vec![Some(c.op("Neg", &[&dy]))])
}

fn sqrt(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let half = c.scale(&dy, 0.5)?;
    Ok(vec![Some(c.div(&half, &y))])
}

fn exp(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    Ok(vec![Some(c.mul(&dy, &y))])
}

fn log(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    Ok(vec![Some(c.div(&dy, &x))])
}

fn sin(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let slope = c.op("Cos", &[&x]);
    Ok(vec![Some(c.mul(&dy, &slope))])
}

fn cos(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let slope = c.op("Sin", &[&x]);
    let slope = c.op("Neg", &[&slope]);
    Ok(vec![Some(c.mul(&dy, &slope))])
}

fn abs(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let sign = c.op("Sign", &[&x]);
    Ok(vec![Some(c.mul(&dy, &sign))])
}

fn reciprocal(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let square = c.mul(&y, &y);
    let slope = c.op("Neg", &[&square]);
    Ok(vec![Some(c.mul(&dy, &slope))])
}

/// `erf'(x) = 2/√π exp(-x²)`
fn erf(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let square = c.mul(&x, &x);
    let square = c.op("Neg", &[&square]);
    let bell = c.op("Exp", &[&square]);
    let slope = c.scale(&bell, std::f64::consts::FRAC_2_SQRT_PI)?;
    Ok(vec![Some(c.mul(&dy, &slope))])
}

fn identity(c: &mut Context<'_>) -> Result<Gradients, String> {
    Ok(vec![Some(c.dy()?)])
}

fn cast(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let from: ElementType = c.element()?;
    Ok(vec![from.is_float().then(|| c.cast(&dy, from)), None])
}

fn choose(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, condition) = (c.dy()?, c.x(0)?);
    let element = c.type_of(&c.x(1)?)?.element;
    let zero = c.builder.scalar(element, 0.0);
    let mut gradients = vec![None, None, None];
    for (input, (yes, no)) in [(1, (&dy, &zero)), (2, (&zero, &dy))] {
        if c.needs(input) {
            let part = c.op("Where", &[&condition, yes, no]);
            gradients[input] = to_input(c, input, &part)?;
        }
    }
    Ok(gradients)
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::{Elements, Tensor, attribute};
    let mut cases: Vec<Case> = ["Add", "Sub", "Mul", "Div"]
        .into_iter()
        .flat_map(|operator| {
            [
                Case::new(operator).input([3, 4], 0.5..2.0).input([3, 4], 0.5..2.0),
                Case::new(operator).input([2, 3, 4], 0.5..2.0).input([4], 0.5..2.0),
                Case::new(operator).input([3, 1], 0.5..2.0).input([2, 1, 4], 0.5..2.0),
                Case::new(operator).input([], 0.5..2.0).input([2, 2], -2.0..-0.5),
            ]
        })
        .collect();
    for operator in ["Neg", "Exp", "Erf", "Sin", "Cos", "Identity"] {
        cases.push(Case::new(operator).input([3, 4], -1.5..1.5));
    }
    for operator in ["Sqrt", "Log", "Reciprocal", "Abs"] {
        cases.push(Case::new(operator).input([3, 4], 0.5..2.0));
    }
    cases.push(Case::new("Abs").input([3, 4], -2.0..-0.5));
    cases.push(Case::new("Reciprocal").input([3, 4], -2.0..-0.5));
    cases.push(Case::new("Pow").input([3, 4], 0.5..2.0).input([4], 0.5..2.0));
    cases.push(
        Case::new("Pow")
            .input([3, 4], -2.0..-0.5)
            .float_constant(&[], vec![3.0]),
    );
    cases.push(
        Case::new("Pow")
            .input([3, 4], -2.0..2.0)
            .constant(Tensor::new([], Elements::I64(vec![2]))),
    );
    cases.push(
        Case::new("Sum")
            .input([3, 4], -1.0..1.0)
            .input([4], -1.0..1.0)
            .input([3, 1], -1.0..1.0),
    );
    cases.push(
        Case::new("Cast")
            .input([3], -1.0..1.0)
            .attribute(attribute::int("to", 11)),
    );
    cases.push(
        Case::new("Cast")
            .input([3], -1.0..1.0)
            .attribute(attribute::int("to", 1))
            .single(),
    );
    cases.push(
        Case::new("CastLike")
            .input([3], -1.0..1.0)
            .constant(Tensor::new([1], Elements::F64(vec![0.0]))),
    );
    let condition = Tensor::new([2, 3], Elements::Bool(vec![true, false, true, false, false, true]));
    cases.push(
        Case::new("Where")
            .constant(condition.clone())
            .input([2, 3], -1.0..1.0)
            .input([2, 3], -1.0..1.0),
    );
    cases.push(
        Case::new("Where")
            .constant(condition)
            .input([3], -1.0..1.0)
            .input([2, 1], -1.0..1.0),
    );
    cases
}
