//! Activation functions.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{Context, Gradients, Rule};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Celu", celu),
    ("Clip", clip),
    ("Dropout", dropout),
    ("Elu", elu),
    ("Gelu", gelu),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", hard_swish),
    ("LeakyRelu", leaky_relu),
    ("PRelu", prelu),
    ("Relu", relu),
    ("Selu", selu),
    ("Sigmoid", sigmoid),
    ("Softplus", softplus),
    ("Tanh", tanh),
];

fn times(c: &mut Context<'_>, slope: &str) -> Result<Gradients, String> {
    let dy = c.dy()?;
    Ok(vec![Some(c.mul(&dy, slope))])
}

fn float(c: &Context<'_>, name: &str, default: f64) -> f64 {
    c.node.float(name).map_or(default, f64::from)
}

/// `positive + (1 - positive) × below`, the derivative of functions with a kink at 0.
fn kinked(c: &mut Context<'_>, x: &str, above: f64, below: &str) -> Result<String, String> {
    let positive = c.indicator("Greater", x, 0.0)?;
    let not = c.indicator("LessOrEqual", x, 0.0)?;
    let left = c.mul(&not, below);
    let right = c.scale(&positive, above)?;
    Ok(c.add(&left, &right))
}

fn relu(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let slope = c.indicator("Greater", &y, 0.0)?;
    let dx = c.mul(&dy, &slope);
    c.shortcut("ReluGradient", &[&dy, &y], &[&dx])?;
    Ok(vec![Some(dx)])
}

fn leaky_relu(c: &mut Context<'_>) -> Result<Gradients, String> {
    let x = c.x(0)?;
    let alpha = float(c, "alpha", 0.01);
    let below = c.scalar(alpha)?;
    let slope = kinked(c, &x, 1.0, &below)?;
    times(c, &slope)
}

fn prelu(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, slope) = (c.dy()?, c.x(0)?, c.x(1)?);
    let first = kinked(c, &x, 1.0, &slope)?;
    let first = c.mul(&dy, &first);
    let not = c.indicator("LessOrEqual", &x, 0.0)?;
    let part = c.mul(&not, &x);
    let part = c.mul(&dy, &part);
    let (from, to) = (c.shape(&x)?, c.shape(&slope)?);
    Ok(vec![Some(first), Some(c.reduce_to(&part, &from, &to))])
}

/// Below 0 the derivative is `y + alpha`.
fn elu(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (x, y) = (c.x(0)?, c.y()?);
    let alpha = float(c, "alpha", 1.0);
    let below = c.add_scalar(&y, alpha)?;
    let slope = kinked(c, &x, 1.0, &below)?;
    times(c, &slope)
}

/// Below 0 the derivative is `exp(x/alpha) = y/alpha + 1`.
fn celu(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (x, y) = (c.x(0)?, c.y()?);
    let alpha = float(c, "alpha", 1.0);
    let below = c.scale(&y, 1.0 / alpha)?;
    let below = c.add_scalar(&below, 1.0)?;
    let slope = kinked(c, &x, 1.0, &below)?;
    times(c, &slope)
}

/// Below 0 the derivative is `y + gamma alpha`, above it is `gamma`.
fn selu(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (x, y) = (c.x(0)?, c.y()?);
    let alpha = float(c, "alpha", 1.673_263_192_176_818_8);
    let gamma = float(c, "gamma", 1.050_701_022_148_132_3);
    let below = c.add_scalar(&y, alpha * gamma)?;
    let slope = kinked(c, &x, gamma, &below)?;
    times(c, &slope)
}

/// `dy y (1 - y)`, without the constant, which engines broadcast slowly.
fn sigmoid(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let first = c.mul(&dy, &y);
    let second = c.mul(&first, &y);
    Ok(vec![Some(c.sub(&first, &second))])
}

/// `dy (1 - y²)`
fn tanh(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, y) = (c.dy()?, c.y()?);
    let first = c.mul(&dy, &y);
    let second = c.mul(&first, &y);
    Ok(vec![Some(c.sub(&dy, &second))])
}

fn softplus(c: &mut Context<'_>) -> Result<Gradients, String> {
    let x = c.x(0)?;
    let slope = c.op("Sigmoid", &[&x]);
    times(c, &slope)
}

fn hard_sigmoid(c: &mut Context<'_>) -> Result<Gradients, String> {
    let y = c.y()?;
    let alpha = float(c, "alpha", 0.2);
    let above = c.indicator("Greater", &y, 0.0)?;
    let below = c.indicator("Less", &y, 1.0)?;
    let inside = c.mul(&above, &below);
    let slope = c.scale(&inside, alpha)?;
    times(c, &slope)
}

/// `y = x h(x)` with `h = clip(x/6 + 1/2, 0, 1)`; the derivative is `h + x/6` between -3 and 3, else `h`.
fn hard_swish(c: &mut Context<'_>) -> Result<Gradients, String> {
    let x = c.x(0)?;
    let sixth = c.scale(&x, 1.0 / 6.0)?;
    let line = c.add_scalar(&sixth, 0.5)?;
    let (zero, one) = (c.scalar(0.0)?, c.scalar(1.0)?);
    let h = c.op("Clip", &[&line, &zero, &one]);
    let above = c.indicator("Greater", &h, 0.0)?;
    let below = c.indicator("Less", &h, 1.0)?;
    let inside = c.mul(&above, &below);
    let part = c.mul(&inside, &sixth);
    let slope = c.add(&h, &part);
    times(c, &slope)
}

/// Exact form: `Φ(x) + x φ(x)` with the normal distribution `Φ` and its density `φ`; with `approximate = "tanh"`
/// the derivative of `x/2 (1 + tanh u)`, `u = √(2/π) (x + 0.044715 x³)` (Hendrycks and Gimpel 2016).
fn gelu(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let square = c.mul(&x, &x);
    let by_tanh = c.node.string("approximate") == Some("tanh");
    let slope = if by_tanh {
        let root = (2.0 / PI).sqrt();
        let cubic = c.scale(&square, 0.044_715)?;
        let inner = c.add_scalar(&cubic, 1.0)?;
        let inner = c.mul(&inner, &x);
        let u = c.scale(&inner, root)?;
        let t = c.op("Tanh", &[&u]);
        let du = c.scale(&cubic, 3.0 * root)?;
        let du = c.add_scalar(&du, root)?;
        let t_square = c.mul(&t, &t);
        let one = c.scalar(1.0)?;
        let dt = c.sub(&one, &t_square);
        let dt = c.mul(&dt, &du);
        let dt = c.mul(&dt, &x);
        let sum = c.add(&t, &dt);
        let sum = c.add_scalar(&sum, 1.0)?;
        c.scale(&sum, 0.5)?
    } else {
        let scaled = c.scale(&x, FRAC_1_SQRT_2)?;
        let erf = c.op("Erf", &[&scaled]);
        let erf = c.add_scalar(&erf, 1.0)?;
        let distribution = c.scale(&erf, 0.5)?;
        let exponent = c.scale(&square, -0.5)?;
        let bell = c.op("Exp", &[&exponent]);
        let density = c.scale(&bell, 1.0 / (2.0 * PI).sqrt())?;
        let part = c.mul(&x, &density);
        c.add(&distribution, &part)
    };
    let dx = c.mul(&dy, &slope);
    let shortcut = if by_tanh { "GeluTanhGradient" } else { "GeluGradient" };
    c.shortcut(shortcut, &[&dy, &x], &[&dx])?;
    Ok(vec![Some(dx)])
}

/// The bounds are no variables: they get no gradient.
fn clip(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let mut gradient = dy;
    for (input, operator) in [(1, "GreaterOrEqual"), (2, "LessOrEqual")] {
        if let Some(bound) = c.node.input(input).map(str::to_owned) {
            let truth = c.op(operator, &[&x, &bound]);
            let inside = c.number(&truth)?;
            gradient = c.mul(&gradient, &inside);
        }
    }
    Ok(vec![Some(gradient), None, None])
}

/// `dy mask / (1 - ratio)` in training mode, `dy` otherwise.
fn dropout(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let constant = |c: &Context<'_>, input| {
        c.node
            .input(input)
            .and_then(|name| c.builder.constant_value(name))
            .cloned()
    };
    let training = constant(c, 2).is_some_and(|value| *value.elements == crate::graph::Elements::Bool(vec![true]));
    if !training {
        return Ok(vec![Some(dy), None, None]);
    }
    let ratio = constant(c, 1)
        .and_then(|value| value.to_f64())
        .map_or(0.5, |values| values[0]);
    let mask = c
        .node
        .output(1)
        .map(str::to_owned)
        .ok_or("in training mode it needs its output `mask`")?;
    let mask = c.number(&mask)?;
    let mask = c.scale(&mask, 1.0 / (1.0 - ratio))?;
    Ok(vec![Some(c.mul(&dy, &mask)), None, None])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::{Elements, Tensor, attribute};
    let mut cases = Vec::new();
    // Ranges avoid the kinks, where no derivative exists; both sides of each are covered.
    for operator in [
        "Relu",
        "LeakyRelu",
        "Elu",
        "Celu",
        "Selu",
        "Sigmoid",
        "Tanh",
        "Softplus",
        "Gelu",
    ] {
        cases.push(Case::new(operator).input([3, 4], 0.2..2.0));
        cases.push(Case::new(operator).input([3, 4], -2.0..-0.2));
    }
    for range in [-5.0..-3.3, -2.4..2.4, 3.3..5.0] {
        cases.push(Case::new("HardSigmoid").input([3, 4], range.clone()));
        cases.push(Case::new("HardSwish").input([3, 4], range));
    }
    cases.push(
        Case::new("LeakyRelu")
            .input([5], -2.0..-0.2)
            .attribute(attribute::float("alpha", 0.3)),
    );
    cases.push(
        Case::new("Elu")
            .input([5], -2.0..-0.2)
            .attribute(attribute::float("alpha", 0.7)),
    );
    cases.push(
        Case::new("Celu")
            .input([5], -2.0..-0.2)
            .attribute(attribute::float("alpha", 0.7)),
    );
    cases.push(
        Case::new("HardSigmoid")
            .input([5], -1.0..1.0)
            .attribute(attribute::float("alpha", 0.3)),
    );
    cases.push(Case::new("PRelu").input([3, 4], -2.0..-0.2).input([4], 0.1..0.9));
    cases.push(Case::new("PRelu").input([3, 4], 0.2..2.0).input([1], 0.1..0.9));
    cases.push(
        Case::new("Gelu")
            .input([3, 4], -2.0..2.0)
            .attribute(attribute::string("approximate", "tanh")),
    );
    for range in [-2.0..-1.1, -0.9..0.9, 1.1..2.0] {
        cases.push(
            Case::new("Clip")
                .input([3, 4], range)
                .float_constant(&[], vec![-1.0])
                .float_constant(&[], vec![1.0]),
        );
    }
    cases.push(
        Case::new("Clip")
            .input([3, 4], 0.1..2.0)
            .absent()
            .float_constant(&[], vec![3.0]),
    );
    cases.push(Case::new("Dropout").input([3, 4], 0.5..2.0));
    cases.push(
        Case::new("Dropout")
            .input([6, 4], 0.5..2.0)
            .float_constant(&[], vec![0.4])
            .constant(Tensor::new([], Elements::Bool(vec![true])))
            .attribute(attribute::int("seed", 7))
            .outputs(2),
    );
    cases
}
