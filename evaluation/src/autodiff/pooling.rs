//! Pools: the greatest or the mean of each window.

use super::convolution::spread;
use super::{Context, Gradients, Rule};
use crate::graph::{ElementType, Elements, Tensor, Window, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", average),
    ("GlobalAveragePool", global_average),
    ("GlobalMaxPool", global_max),
    ("MaxPool", max),
];

/// The gradient goes to where each window found its greatest element, the first of equal ones.
fn max(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, y) = (c.dy()?, c.x(0)?, c.y()?);
    if c.node.int("storage_order").unwrap_or(0) != 0 {
        return Err("attribute `storage_order` must be 0".into());
    }
    let shape = c.shape(&x)?;
    let positions = c.builder.also(&y, 1);
    let flat = [shape.iter().product()];
    let zeros = c.zeros(&flat)?;
    let all = c.builder.ints(&[-1]);
    let positions = c.op("Reshape", &[&positions, &all]);
    let seed = dy;
    let dy = c.op("Reshape", &[&seed, &all]);
    let dx = c.op_with(
        "ScatterElements",
        &[&zeros, &positions, &dy],
        vec![attribute::int("axis", 0), attribute::string("reduction", "add")],
    );
    let dx = c.reshape(&dx, &shape);
    if c.element()? == ElementType::F32 {
        let attributes = c.node.attributes.clone();
        c.builder.shortcut("MaxPoolGradient", &[&x, &seed], &[&dx], attributes);
    }
    Ok(vec![Some(dx)])
}

/// The gradient divided by the size of its window, summed over the windows that an element lies in.
fn average(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let (x_shape, y_shape) = (c.shape(&x)?, c.shape(&c.y()?)?);
    let (from, to) = (&y_shape[2..], &x_shape[2..]);
    let window = Window::sliding(c.node, &[], to)?;
    let with_padding = c.node.int("count_include_pad").unwrap_or(0) != 0;
    // Elements of each window along each axis.
    let counts: Vec<Vec<usize>> = (0..to.len())
        .map(|axis| {
            (0..from[axis])
                .map(|index| {
                    let first = index * window.strides[axis];
                    let (low, high) = if with_padding {
                        (0, window.begin[axis] + to[axis] + window.end[axis])
                    } else {
                        (window.begin[axis], window.begin[axis] + to[axis])
                    };
                    (0..window.kernel[axis])
                        .map(|tap| first + tap * window.dilations[axis])
                        .filter(|at| (low..high).contains(at))
                        .count()
                        .max(1)
                })
                .collect()
        })
        .collect();
    let mut gradient = dy;
    if counts
        .iter()
        .all(|counts| counts.iter().all(|count| *count == counts[0]))
    {
        let size: usize = counts.iter().map(|counts| counts[0]).product();
        gradient = c.scale(&gradient, 1.0 / size as f64)?;
    } else {
        let mut inverse = vec![1.0];
        for counts in &counts {
            inverse = inverse
                .iter()
                .flat_map(|part| counts.iter().map(move |count| part / *count as f64))
                .collect();
        }
        let shape: Vec<usize> = [1, 1].into_iter().chain(from.iter().copied()).collect();
        let inverse = Tensor::new(shape, Elements::F64(inverse)).cast_float(c.element()?);
        let inverse = c.builder.constant(inverse);
        gradient = c.mul(&gradient, &inverse);
    }
    let planes = x_shape[0] * x_shape[1];
    let dx = if window.tiles(to, from) {
        let (mut apart, mut repeated) = (vec![planes], vec![planes]);
        for (windows, taps) in from.iter().zip(&window.kernel) {
            apart.extend([*windows, 1]);
            repeated.extend([*windows, *taps]);
        }
        let gradient = c.reshape(&gradient, &apart);
        c.expand(&gradient, &repeated)
    } else {
        let shape: Vec<usize> = [planes, 1].into_iter().chain(from.iter().copied()).collect();
        let gradient = c.reshape(&gradient, &shape);
        let kernel: Vec<usize> = [1, 1].into_iter().chain(window.kernel.iter().copied()).collect();
        let ones = Elements::F64(vec![1.0; kernel.iter().product()]);
        let ones = Tensor::new(kernel, ones).cast_float(c.element()?);
        let ones = c.builder.constant(ones);
        spread(c, &gradient, &ones, &window, 1, from, to)
    };
    Ok(vec![Some(c.reshape(&dx, &x_shape))])
}

fn global_average(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let shape = c.shape(&c.x(0)?)?;
    let size: usize = shape[2..].iter().product();
    let share = c.scale(&dy, 1.0 / size as f64)?;
    Ok(vec![Some(c.expand(&share, &shape))])
}

/// The gradient goes to the greatest element of each channel, the first of equal ones.
fn global_max(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let shape = c.shape(&x)?;
    let size: usize = shape[2..].iter().product();
    let flat = [shape[0], shape[1], size];
    let planes = c.reshape(&x, &flat);
    let positions = c.op_with(
        "ArgMax",
        &[&planes],
        vec![attribute::int("axis", 2), attribute::int("keepdims", 1)],
    );
    let dy = c.reshape(&dy, &[shape[0], shape[1], 1]);
    let zeros = c.zeros(&flat)?;
    let dx = c.op_with(
        "ScatterElements",
        &[&zeros, &positions, &dy],
        vec![attribute::int("axis", 2)],
    );
    Ok(vec![Some(c.reshape(&dx, &shape))])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let ints = |name: &str, values: &[i64]| attribute::ints(name, values);
    let text = |name: &str, value: &str| attribute::string(name, value);
    let mut cases = Vec::new();
    for operator in ["MaxPool", "AveragePool"] {
        let pool = |x: &[usize], kernel: &[i64]| {
            Case::new(operator)
                .input(x, -9.0..9.0)
                .attribute(ints("kernel_shape", kernel))
        };
        cases.extend([
            pool(&[2, 3, 4, 6], &[2, 2]).attribute(ints("strides", &[2, 2])),
            pool(&[1, 2, 5, 5], &[2, 2]).attribute(ints("strides", &[2, 2])),
            pool(&[2, 2, 5, 6], &[3, 2]),
            pool(&[1, 2, 6, 6], &[3, 3])
                .attribute(ints("strides", &[2, 2]))
                .attribute(ints("pads", &[1, 1, 1, 1])),
            pool(&[1, 2, 6, 5], &[3, 3])
                .attribute(ints("strides", &[2, 2]))
                .attribute(ints("pads", &[0, 1, 2, 1])),
            pool(&[1, 2, 6, 6], &[3, 3])
                .attribute(ints("strides", &[2, 2]))
                .attribute(attribute::int("ceil_mode", 1)),
            pool(&[1, 2, 5, 7], &[2, 3])
                .attribute(ints("strides", &[2, 2]))
                .attribute(ints("pads", &[1, 1, 0, 1]))
                .attribute(attribute::int("ceil_mode", 1)),
            pool(&[1, 2, 7, 7], &[2, 2]).attribute(ints("dilations", &[2, 3])),
            pool(&[2, 2, 8], &[2]).attribute(ints("strides", &[2])),
            pool(&[1, 2, 7], &[3])
                .attribute(ints("strides", &[2]))
                .attribute(ints("pads", &[1, 1])),
            pool(&[1, 2, 4, 4, 3], &[2, 2, 2]).attribute(ints("strides", &[2, 2, 1])),
            pool(&[1, 2, 5, 5], &[3, 3])
                .attribute(ints("strides", &[2, 2]))
                .attribute(text("auto_pad", "SAME_UPPER")),
            pool(&[1, 2, 6, 6], &[3, 3])
                .attribute(ints("strides", &[2, 2]))
                .attribute(text("auto_pad", "SAME_LOWER")),
            pool(&[1, 2, 6, 6], &[3, 3]).attribute(text("auto_pad", "VALID")),
        ]);
    }
    let padded = |x: &[usize], kernel: &[i64], pads: &[i64]| {
        Case::new("AveragePool")
            .input(x, -1.0..1.0)
            .attribute(ints("kernel_shape", kernel))
            .attribute(ints("pads", pads))
            .attribute(attribute::int("count_include_pad", 1))
    };
    cases.push(padded(&[1, 2, 5, 5], &[3, 3], &[1, 1, 1, 1]));
    cases.push(padded(&[1, 2, 5, 5], &[3, 2], &[1, 0, 0, 1]).attribute(ints("strides", &[2, 2])));
    cases.push(
        padded(&[1, 2, 6, 6], &[3, 3], &[1, 1, 1, 1])
            .attribute(ints("strides", &[2, 2]))
            .attribute(attribute::int("ceil_mode", 1)),
    );
    for operator in ["GlobalAveragePool", "GlobalMaxPool"] {
        cases.push(Case::new(operator).input([2, 3, 4, 5], -9.0..9.0));
        cases.push(Case::new(operator).input([2, 3, 4], -9.0..9.0));
        cases.push(Case::new(operator).input([1, 2, 2, 3, 2], -9.0..9.0));
    }
    cases
}
