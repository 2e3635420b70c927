//! Elementwise operators, with NumPy's broadcasting.

use ndarray::{ArrayD, IxDyn, Zip};

use super::{Inputs, Operator, Value, maybe, need};
use crate::graph::{ElementType, Node};

pub(super) fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "Add" => |_, x| binary(x, |a, b| a + b),
        "Sub" => |_, x| binary(x, |a, b| a - b),
        "Mul" => |_, x| binary(x, |a, b| a * b),
        "Div" => |_, x| binary(x, |a, b| a / b),
        "Pow" => |_, x| binary(x, f64::powf),
        "Min" => |_, x| fold(x, f64::min),
        "Max" => |_, x| fold(x, f64::max),
        "Sum" => |_, x| fold(x, |a, b| a + b),
        "Greater" => |_, x| compare(x, |a, b| a > b),
        "GreaterOrEqual" => |_, x| compare(x, |a, b| a >= b),
        "Less" => |_, x| compare(x, |a, b| a < b),
        "LessOrEqual" => |_, x| compare(x, |a, b| a <= b),
        "Equal" => |_, x| compare(x, |a, b| (a - b).abs() <= 0.0),
        "And" => |_, x| compare(x, |a, b| a != 0.0 && b != 0.0),
        "Or" => |_, x| compare(x, |a, b| a != 0.0 || b != 0.0),
        "Not" => |_, x| unary(x, |v| f64::from(u8::from(v == 0.0))),
        "Mod" => |_, x| binary(x, |a, b| a % b),
        "Mean" => |_, x| {
            let count = x.len() as f64;
            let sum = fold(x, |a, b| a + b)?.remove(0);
            Ok(vec![Value::new(sum.element, sum.data / count)])
        },
        "Acos" => |_, x| unary(x, f64::acos),
        "Acosh" => |_, x| unary(x, f64::acosh),
        "Asin" => |_, x| unary(x, f64::asin),
        "Asinh" => |_, x| unary(x, f64::asinh),
        "Atan" => |_, x| unary(x, f64::atan),
        "Atanh" => |_, x| unary(x, f64::atanh),
        "Ceil" => |_, x| unary(x, f64::ceil),
        "Cosh" => |_, x| unary(x, f64::cosh),
        "Floor" => |_, x| unary(x, f64::floor),
        "Round" => |_, x| unary(x, f64::round_ties_even),
        "Sinh" => |_, x| unary(x, f64::sinh),
        "Tan" => |_, x| unary(x, f64::tan),
        "Softsign" => |_, x| unary(x, |v| v / (1.0 + v.abs())),
        "Mish" => |_, x| unary(x, |v| v * (v.max(0.0) + (-v.abs()).exp().ln_1p()).tanh()),
        "Swish" => |node, x| {
            let alpha = float(node, "alpha", 1.0);
            unary(x, |v| v / (1.0 + (-alpha * v).exp()))
        },
        "ThresholdedRelu" => |node, x| {
            let alpha = float(node, "alpha", 1.0);
            unary(x, |v| if v > alpha { v } else { 0.0 })
        },
        "Shrink" => |node, x| {
            let (width, bias) = (float(node, "lambd", 0.5), float(node, "bias", 0.0));
            unary(x, |v| if v.abs() > width { v - v.signum() * bias } else { 0.0 })
        },
        "CastLike" => |_, x| Ok(vec![Value::new(need(x, 1)?.element, need(x, 0)?.data.clone())]),
        "Abs" => |_, x| unary(x, f64::abs),
        "Neg" => |_, x| unary(x, |v| -v),
        "Sqrt" => |_, x| unary(x, f64::sqrt),
        "Exp" => |_, x| unary(x, f64::exp),
        "Log" => |_, x| unary(x, f64::ln),
        "Sin" => |_, x| unary(x, f64::sin),
        "Cos" => |_, x| unary(x, f64::cos),
        "Erf" => |_, x| unary(x, libm::erf),
        "Reciprocal" => |_, x| unary(x, |v| 1.0 / v),
        "Sign" => |_, x| {
            unary(x, |v| {
                if v > 0.0 {
                    1.0
                } else if v < 0.0 {
                    -1.0
                } else {
                    0.0
                }
            })
        },
        "Identity" | "Dropout" => |_, x| unary(x, |v| v),
        "Relu" => |_, x| unary(x, |v| v.max(0.0)),
        "Sigmoid" => |_, x| unary(x, |v| 1.0 / (1.0 + (-v).exp())),
        "Tanh" => |_, x| unary(x, f64::tanh),
        "Softplus" => |_, x| unary(x, |v| v.max(0.0) + (-v.abs()).exp().ln_1p()),
        "HardSwish" => |_, x| unary(x, |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => |node, x| {
            let alpha = float(node, "alpha", 0.01);
            unary(x, |v| if v < 0.0 { alpha * v } else { v })
        },
        "Elu" => |node, x| {
            let alpha = float(node, "alpha", 1.0);
            unary(x, |v| if v < 0.0 { alpha * v.exp_m1() } else { v })
        },
        "Celu" => |node, x| {
            let alpha = float(node, "alpha", 1.0);
            unary(x, |v| v.max(0.0) + (alpha * (v / alpha).exp_m1()).min(0.0))
        },
        "Selu" => |node, x| {
            let alpha = float(node, "alpha", 1.673_263_192_176_818_8);
            let gamma = float(node, "gamma", 1.050_701_022_148_132_3);
            unary(x, |v| gamma * if v < 0.0 { alpha * v.exp_m1() } else { v })
        },
        "HardSigmoid" => |node, x| {
            let (alpha, beta) = (float(node, "alpha", 0.2), float(node, "beta", 0.5));
            unary(x, |v| (alpha * v + beta).clamp(0.0, 1.0))
        },
        "PRelu" => |_, x| binary(x, |v, slope| if v < 0.0 { slope * v } else { v }),
        "Gelu" => |node, x| {
            if node.string("approximate") == Some("tanh") {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                unary(x, |v| 0.5 * v * (1.0 + (root * (v + 0.044_715 * v * v * v)).tanh()))
            } else {
                unary(x, |v| 0.5 * v * (1.0 + libm::erf(v * std::f64::consts::FRAC_1_SQRT_2)))
            }
        },
        "Clip" => clip,
        "Cast" => cast,
        "Where" => choose,
        _ => return None,
    })
}

pub(super) fn float(node: &Node, name: &str, default: f64) -> f64 {
    node.float(name).map_or(default, f64::from)
}

fn unary(inputs: &Inputs<'_>, function: impl Fn(f64) -> f64) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    Ok(vec![Value::new(x.element, x.data.mapv(function))])
}

/// The shape that two shapes broadcast to.
pub(super) fn common_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(format!("shapes {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

fn combine(a: &ArrayD<f64>, b: &ArrayD<f64>, function: impl Fn(f64, f64) -> f64) -> Result<ArrayD<f64>, String> {
    let shape = common_shape(a.shape(), b.shape())?;
    let shape = IxDyn(&shape);
    let a = a.broadcast(shape.clone()).expect("the common shape fits both");
    let b = b.broadcast(shape).expect("the common shape fits both");
    Ok(Zip::from(&a).and(&b).map_collect(|a, b| function(*a, *b)))
}

fn binary(inputs: &Inputs<'_>, function: impl Fn(f64, f64) -> f64) -> Result<Vec<Value>, String> {
    let (a, b) = (need(inputs, 0)?, need(inputs, 1)?);
    Ok(vec![Value::new(a.element, combine(&a.data, &b.data, function)?)])
}

fn fold(inputs: &Inputs<'_>, function: impl Fn(f64, f64) -> f64) -> Result<Vec<Value>, String> {
    let first = need(inputs, 0)?;
    let mut total = first.data.clone();
    for index in 1..inputs.len() {
        total = combine(&total, &need(inputs, index)?.data, &function)?;
    }
    Ok(vec![Value::new(first.element, total)])
}

fn compare(inputs: &Inputs<'_>, test: impl Fn(f64, f64) -> bool) -> Result<Vec<Value>, String> {
    let (a, b) = (need(inputs, 0)?, need(inputs, 1)?);
    let data = combine(&a.data, &b.data, |a, b| f64::from(u8::from(test(a, b))))?;
    Ok(vec![Value::new(ElementType::Bool, data)])
}

fn clip(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let bound = |index, default| maybe(inputs, index).map_or(default, |value| value.data.iter().sum::<f64>());
    let (low, high) = (bound(1, f64::NEG_INFINITY), bound(2, f64::INFINITY));
    unary(inputs, |value| value.max(low).min(high))
}

fn cast(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let code = node.int("to").ok_or("attribute `to` is missing")?;
    // Half precision is kept as single precision that was rounded.
    let half = match code {
        10 => Some((11, -24, 65504.0)),
        16 => Some((8, -133, f64::from(f32::MAX))),
        _ => None,
    };
    if let Some((digits, least, largest)) = half {
        let data = x.data.mapv(|value| rounded(value, digits, least, largest));
        return Ok(vec![Value::new(ElementType::F32, data)]);
    }
    let element = ElementType::from_code(code as i32).ok_or_else(|| format!("element type {code} is unknown"))?;
    let data = match element {
        ElementType::Bool => x.data.mapv(|value| f64::from(u8::from(value != 0.0))),
        ElementType::I64 | ElementType::I32 => x.data.mapv(f64::trunc),
        ElementType::F32 | ElementType::F64 => x.data.clone(),
    };
    Ok(vec![Value::new(element, data)])
}

/// The nearest number of so many binary digits that is a multiple of `2^least`; beyond `largest` infinity.
fn rounded(value: f64, digits: i32, least: i32, largest: f64) -> f64 {
    if value.abs() <= 0.0 || !value.is_finite() {
        return value;
    }
    let exponent = libm::ilogb(value);
    let unit = libm::ldexp(1.0, (exponent - digits + 1).max(least));
    let nearest = (value / unit).round_ties_even() * unit;
    if nearest.abs() > largest {
        f64::INFINITY.copysign(value)
    } else {
        nearest
    }
}

fn choose(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (condition, yes, no) = (need(inputs, 0)?, need(inputs, 1)?, need(inputs, 2)?);
    let shape = common_shape(&common_shape(condition.shape(), yes.shape())?, no.shape())?;
    let spread = |value: &Value| {
        value
            .data
            .broadcast(IxDyn(&shape))
            .expect("the common shape fits all")
            .to_owned()
    };
    let (condition, yes_data, no_data) = (spread(condition), spread(yes), spread(no));
    let data = Zip::from(&condition)
        .and(&yes_data)
        .and(&no_data)
        .map_collect(|condition, yes, no| if *condition == 0.0 { *no } else { *yes });
    Ok(vec![Value::new(yes.element, data)])
}
