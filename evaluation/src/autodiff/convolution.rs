//! Convolutions and transposed convolutions over one to three spatial axes.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `x` | input | `[N, C, H…]` |
//! | `w` | weights of `g` groups | `[M, C/g, k…]` |
//! | `y` | output | `[N, M, O…]` |
//!
//! A convolution is linear in `x` and in `w`. Its transpose in `x` is the transposed convolution with the same
//! weights; its gradient in `w` is again a convolution, of `x` with `dy`, in which batch and channels change places,
//! and so do strides and dilations (Dumoulin and Visin 2016, §4; Goodfellow 2010).

use super::{Context, Gradients, Rule};
use crate::graph::proto::AttributeProto;
use crate::graph::{Window, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[("Conv", convolution), ("ConvTranspose", transposed)];

fn whole(values: &[usize]) -> Vec<i64> {
    values.iter().map(|value| *value as i64).collect()
}

fn groups(c: &Context<'_>) -> usize {
    c.node.int("group").map_or(1, |group| group.max(1) as usize)
}

fn window_attributes(window: &Window, groups: usize) -> Vec<AttributeProto> {
    vec![
        attribute::ints("kernel_shape", &whole(&window.kernel)),
        attribute::ints("strides", &whole(&window.strides)),
        attribute::ints("dilations", &whole(&window.dilations)),
        attribute::ints("pads", &window.pads()),
        attribute::int("group", groups as i64),
    ]
}

/// The transposed convolution that takes a tensor of spatial sizes `from` back to the sizes `to`, over which the
/// window slid.
pub(super) fn spread(
    c: &mut Context<'_>,
    dy: &str,
    weights: &str,
    window: &Window,
    groups: usize,
    from: &[usize],
    to: &[usize],
) -> String {
    let mut window = window.clone();
    let mut missing = Vec::new();
    for axis in 0..from.len() {
        let reach = (from[axis] - 1) * window.strides[axis] + window.extent(axis);
        let wanted = to[axis] + window.begin[axis];
        // What the last window left over is filled up; where it stuck out, more is cut off.
        if reach > wanted + window.end[axis] {
            window.end[axis] = reach - wanted;
        }
        missing.push((wanted + window.end[axis] - reach) as i64);
    }
    let mut attributes = window_attributes(&window, groups);
    if missing.iter().any(|size| *size != 0) {
        attributes.push(attribute::ints("output_padding", &missing));
    }
    c.op_with("ConvTranspose", &[dy, weights], attributes)
}

/// Gradient `[M, C/g, k…]` of the weights of a convolution from `x` (`x_shape`) to `dy` (`y_shape`).
fn weight_gradient(
    c: &mut Context<'_>,
    (x, x_shape): (&str, &[usize]),
    (dy, y_shape): (&str, &[usize]),
    window: &Window,
    groups: usize,
) -> String {
    let (batch, channels) = (x_shape[0], x_shape[1]);
    let rank = x_shape.len();
    let exchange: Vec<i64> = [1, 0].into_iter().chain(2..rank as i64).collect();
    // Channels of a group become the batch; samples become channels, those of a group in a row.
    let x = if groups == 1 {
        c.op_with("Transpose", &[x], vec![attribute::ints("perm", &exchange)])
    } else {
        let split: Vec<usize> = [batch, groups, channels / groups]
            .into_iter()
            .chain(x_shape[2..].iter().copied())
            .collect();
        let order: Vec<i64> = [2, 1, 0].into_iter().chain(3..=rank as i64).collect();
        let joined: Vec<usize> = [channels / groups, groups * batch]
            .into_iter()
            .chain(x_shape[2..].iter().copied())
            .collect();
        let x = c.reshape(x, &split);
        let x = c.op_with("Transpose", &[&x], vec![attribute::ints("perm", &order)]);
        c.reshape(&x, &joined)
    };
    let dy = c.op_with("Transpose", &[dy], vec![attribute::ints("perm", &exchange)]);
    let exchanged = Window {
        kernel: y_shape[2..].to_vec(),
        strides: window.dilations.clone(),
        dilations: window.strides.clone(),
        ..window.clone()
    };
    let mut gradient = c.op_with("Conv", &[&x, &dy], window_attributes(&exchanged, groups));
    // Where the stride does not divide, there are more taps than the kernel has.
    let spatial = &x_shape[2..];
    if (0..spatial.len()).any(|axis| exchanged.count(axis, spatial[axis], false) != window.kernel[axis]) {
        let axes: Vec<i64> = (2..rank as i64).collect();
        let starts = c.builder.ints(&vec![0; axes.len()]);
        let ends = c.builder.ints(&whole(&window.kernel));
        let axes = c.builder.ints(&axes);
        gradient = c.op("Slice", &[&gradient, &starts, &ends, &axes]);
    }
    c.op_with("Transpose", &[&gradient], vec![attribute::ints("perm", &exchange)])
}

/// Sum over everything but the channels.
fn bias_gradient(c: &mut Context<'_>, dy: &str, rank: usize) -> String {
    let axes: Vec<i64> = (0..rank as i64).filter(|axis| *axis != 1).collect();
    let axes = c.builder.ints(&axes);
    c.op_with("ReduceSum", &[dy, &axes], vec![attribute::int("keepdims", 0)])
}

fn convolution(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, w) = (c.dy()?, c.x(0)?, c.x(1)?);
    let (x_shape, w_shape, y_shape) = (c.shape(&x)?, c.shape(&w)?, c.shape(&c.y()?)?);
    let window = Window::sliding(c.node, &w_shape[2..], &x_shape[2..])?;
    let groups = groups(c);
    let dx = c
        .needs(0)
        .then(|| spread(c, &dy, &w, &window, groups, &y_shape[2..], &x_shape[2..]));
    let dw = c
        .needs(1)
        .then(|| weight_gradient(c, (&x, &x_shape), (&dy, &y_shape), &window, groups));
    let db = c.needs(2).then(|| bias_gradient(c, &dy, x_shape.len()));
    Ok(vec![dx, dw, db])
}

/// The transpose of a convolution from `y` to `x`, so that `x` and `dy` change roles.
fn transposed(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, w) = (c.dy()?, c.x(0)?, c.x(1)?);
    let (x_shape, w_shape, y_shape) = (c.shape(&x)?, c.shape(&w)?, c.shape(&c.y()?)?);
    let (window, _) = Window::transposed(c.node, &w_shape[2..], &x_shape[2..], Some(&y_shape[2..]))?;
    let groups = groups(c);
    let dx = if c.needs(0) {
        let mut dx = c.op_with("Conv", &[&dy, &w], window_attributes(&window, groups));
        let spatial = &y_shape[2..];
        if (0..spatial.len()).any(|axis| window.count(axis, spatial[axis], false) != x_shape[2 + axis]) {
            // An output padding beyond the stride makes further windows, which no input reached.
            let axes: Vec<i64> = (2..x_shape.len() as i64).collect();
            let starts = c.builder.ints(&vec![0; axes.len()]);
            let ends = c.builder.ints(&whole(&x_shape[2..]));
            let axes = c.builder.ints(&axes);
            dx = c.op("Slice", &[&dx, &starts, &ends, &axes]);
        }
        Some(dx)
    } else {
        None
    };
    let dw = c
        .needs(1)
        .then(|| weight_gradient(c, (&dy, &y_shape), (&x, &x_shape), &window, groups));
    let db = c.needs(2).then(|| bias_gradient(c, &dy, x_shape.len()));
    Ok(vec![dx, dw, db])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let case =
        |operator: &'static str, x: &[usize], w: &[usize]| Case::new(operator).input(x, -1.0..1.0).input(w, -1.0..1.0);
    let conv = |x: &[usize], w: &[usize]| case("Conv", x, w);
    let back = |x: &[usize], w: &[usize]| case("ConvTranspose", x, w);
    let ints = |name: &str, values: &[i64]| attribute::ints(name, values);
    let mut cases = vec![
        conv(&[2, 3, 5, 6], &[4, 3, 3, 3]).input([4], -1.0..1.0),
        conv(&[1, 2, 5, 5], &[3, 2, 1, 1]),
        conv(&[2, 2, 6, 5], &[2, 2, 3, 2])
            .attribute(ints("strides", &[2, 1]))
            .attribute(ints("pads", &[1, 0, 1, 0])),
        conv(&[1, 2, 7, 7], &[2, 2, 3, 3])
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("pads", &[0, 1, 1, 2])),
        // The stride leaves a row over.
        conv(&[1, 1, 6, 8], &[2, 1, 3, 3]).attribute(ints("strides", &[2, 3])),
        conv(&[1, 2, 7, 8], &[2, 2, 3, 2])
            .attribute(ints("dilations", &[2, 3]))
            .attribute(ints("pads", &[2, 1, 2, 1])),
        conv(&[1, 2, 9, 9], &[2, 2, 3, 3])
            .attribute(ints("dilations", &[2, 2]))
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("pads", &[1, 1, 1, 1])),
        conv(&[2, 4, 4, 4], &[6, 2, 3, 3])
            .input([6], -1.0..1.0)
            .attribute(attribute::int("group", 2))
            .attribute(ints("pads", &[1, 1, 1, 1])),
        // Depthwise, with one and with two outputs a channel.
        conv(&[2, 3, 4, 4], &[3, 1, 3, 3])
            .attribute(attribute::int("group", 3))
            .attribute(ints("pads", &[1, 1, 1, 1])),
        conv(&[2, 3, 5, 5], &[6, 1, 3, 3])
            .input([6], -1.0..1.0)
            .attribute(attribute::int("group", 3))
            .attribute(ints("strides", &[2, 2])),
        conv(&[2, 3, 8], &[4, 3, 3])
            .input([4], -1.0..1.0)
            .attribute(ints("pads", &[2, 0])),
        conv(&[1, 4, 9], &[4, 2, 3])
            .attribute(attribute::int("group", 2))
            .attribute(ints("dilations", &[2]))
            .attribute(ints("strides", &[2])),
        conv(&[1, 2, 3, 4, 3], &[2, 2, 2, 2, 2])
            .input([2], -1.0..1.0)
            .attribute(ints("strides", &[1, 2, 1]))
            .attribute(ints("pads", &[0, 1, 1, 1, 0, 0])),
        conv(&[1, 2, 3, 3, 3], &[2, 1, 2, 2, 2]).attribute(attribute::int("group", 2)),
        back(&[2, 3, 3, 4], &[3, 2, 3, 3]).input([2], -1.0..1.0),
        back(&[1, 2, 3, 3], &[2, 2, 3, 2])
            .attribute(ints("strides", &[2, 3]))
            .attribute(ints("pads", &[1, 0, 0, 1]))
            .attribute(ints("output_padding", &[1, 2])),
        back(&[1, 4, 3, 3], &[4, 3, 2, 2])
            .input([6], -1.0..1.0)
            .attribute(attribute::int("group", 2))
            .attribute(ints("strides", &[2, 2])),
        back(&[1, 2, 3, 3], &[2, 1, 2, 2])
            .attribute(ints("dilations", &[2, 2]))
            .attribute(attribute::int("group", 2)),
        back(&[1, 2, 3, 3], &[2, 2, 3, 3])
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("output_shape", &[6, 5]))
            .attribute(attribute::string("auto_pad", "SAME_UPPER")),
        back(&[1, 2, 3, 3], &[2, 2, 3, 3])
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("output_shape", &[6, 6])),
        back(&[2, 3, 4], &[3, 2, 3]).attribute(ints("strides", &[2])),
        back(&[1, 2, 2, 2, 3], &[2, 2, 2, 2, 2]).attribute(ints("strides", &[2, 1, 1])),
    ];
    for rule in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        cases.push(
            conv(&[1, 2, 6, 5], &[2, 2, 3, 2])
                .attribute(attribute::string("auto_pad", rule))
                .attribute(ints("strides", &[2, 2])),
        );
        cases.push(
            back(&[1, 2, 3, 3], &[2, 2, 3, 3])
                .attribute(attribute::string("auto_pad", rule))
                .attribute(ints("strides", &[2, 2])),
        );
    }
    cases
}
