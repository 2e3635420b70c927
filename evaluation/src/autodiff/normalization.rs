//! Normalisations.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `r` | `1/√(variance + epsilon)` |
//! | `xh` | normalised input, `(x - mean) r` |
//! | `dh` | gradient of `xh`: `dy × scale` |

use super::context::axis_index;
use super::{Context, Expansion, Gradients, Rule};
use crate::graph::ElementType;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch_normalization),
    ("GroupNormalization", group_normalization),
    ("InstanceNormalization", instance_normalization),
    ("LayerNormalization", layer_normalization),
];

pub(super) const EXPANSIONS: &[(&str, Expansion)] = &[
    ("LpNormalization", lp_normalization),
    ("RMSNormalization", root_mean_square),
];

fn epsilon(c: &Context<'_>) -> f64 {
    f64::from(c.node.float("epsilon").unwrap_or(1e-5))
}

/// `xh` and `1/r`, statistics over `axes`.
fn normalized(c: &mut Context<'_>, x: &str, axes: &[i64], epsilon: f64) -> Result<(String, String), String> {
    let mean = c.reduce("ReduceMean", x, axes);
    let centred = c.sub(x, &mean);
    let square = c.mul(&centred, &centred);
    let variance = c.reduce("ReduceMean", &square, axes);
    let variance = c.add_scalar(&variance, epsilon)?;
    let deviation = c.op("Sqrt", &[&variance]);
    Ok((c.div(&centred, &deviation), deviation))
}

/// `dx = r (dh - mean(dh) - xh mean(dh xh))`; means over `axes` (Ba et al. 2016, §3).
fn through(c: &mut Context<'_>, dh: &str, xh: &str, deviation: &str, axes: &[i64]) -> String {
    let rest = remainder(c, dh, xh, axes);
    c.div(&rest, deviation)
}

/// `dh - mean(dh) - xh mean(dh xh)`
fn remainder(c: &mut Context<'_>, dh: &str, xh: &str, axes: &[i64]) -> String {
    let mean_dh = c.reduce("ReduceMean", dh, axes);
    let product = c.mul(dh, xh);
    let mean_product = c.reduce("ReduceMean", &product, axes);
    let part = c.mul(xh, &mean_product);
    let rest = c.sub(dh, &mean_dh);
    c.sub(&rest, &part)
}

fn layer_normalization(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, scale) = (c.dy()?, c.x(0)?, c.x(1)?);
    let shape = c.shape(&x)?;
    let first = axis_index(c.node.int("axis").unwrap_or(-1), shape.len());
    let axes: Vec<i64> = (first..shape.len()).map(|axis| axis as i64).collect();
    let epsilon = epsilon(c);
    let dh = c.mul(&dy, &scale);
    let mut statistics = None;
    let (xh, dx) = if c.element()? == ElementType::F32 {
        // The node's own statistics, which are in single precision whatever its type.
        let y = c.y()?;
        let (mean, inverse) = (c.builder.also(&y, 1), c.builder.also(&y, 2));
        let centred = c.sub(&x, &mean);
        let xh = c.mul(&centred, &inverse);
        let rest = remainder(c, &dh, &xh, &axes);
        let dx = c.mul(&rest, &inverse);
        statistics = Some([mean, inverse]);
        (xh, dx)
    } else {
        let (xh, deviation) = normalized(c, &x, &axes, epsilon)?;
        let dx = through(c, &dh, &xh, &deviation, &axes);
        (xh, dx)
    };

    let scale_shape = c.shape(&scale)?;
    let product = c.mul(&dy, &xh);
    let d_scale = c.reduce_to(&product, &shape, &scale_shape);
    let d_bias = match c.node.input(2).map(str::to_owned) {
        Some(bias) => {
            let bias_shape = c.shape(&bias)?;
            Some(c.reduce_to(&dy, &shape, &bias_shape))
        }
        None => None,
    };
    // Otherwise scale and bias are broadcast.
    let is_plain = axes.len() == 1 && scale_shape == shape[first..];
    if let (Some([mean, inverse]), Some(d_bias), true) = (statistics, &d_bias, is_plain) {
        let outputs = [&dx[..], &d_scale, d_bias];
        c.shortcut("LayerNormGradient", &[&dy, &x, &scale, &mean, &inverse], &outputs)?;
    }
    Ok(vec![Some(dx), Some(d_scale), d_bias])
}

/// Statistics over the spatial axes of each channel of each sample (Ulyanov et al. 2016).
fn instance_normalization(c: &mut Context<'_>) -> Result<Gradients, String> {
    let shape = c.shape(&c.x(0)?)?;
    grouped(c, shape[1])
}

/// Statistics over the spatial axes and the channels of a group (Wu and He 2018).
fn group_normalization(c: &mut Context<'_>) -> Result<Gradients, String> {
    let groups = c.node.int("num_groups").ok_or("attribute `num_groups` is missing")?;
    grouped(c, groups.max(1) as usize)
}

fn grouped(c: &mut Context<'_>, groups: usize) -> Result<Gradients, String> {
    let (dy, x, scale) = (c.dy()?, c.x(0)?, c.x(1)?);
    let shape = c.shape(&x)?;
    let scales = c.shape(&scale)?[0];
    let (batch, channels) = (shape[0], shape[1]);
    let size: usize = shape[2..].iter().product();
    let together = [batch, groups, channels / groups * size];
    // Scales are per channel, before operator set 21 per group.
    let apart = [batch, scales, channels / scales * size];
    let epsilon = epsilon(c);
    let rows = c.reshape(&x, &together);
    let (xh, deviation) = normalized(c, &rows, &[2], epsilon)?;
    let dy = c.reshape(&dy, &apart);
    let factor = c.reshape(&scale, &[1, scales, 1]);
    let dh = c.mul(&dy, &factor);
    let dh = c.reshape(&dh, &together);
    let dx = through(c, &dh, &xh, &deviation, &[2]);
    let xh = c.reshape(&xh, &apart);
    let product = c.mul(&dy, &xh);
    let axes = c.builder.ints(&[0, 2]);
    let keep = || vec![crate::graph::attribute::int("keepdims", 0)];
    let d_scale = c.op_with("ReduceSum", &[&product, &axes], keep());
    let d_bias = c.op_with("ReduceSum", &[&dy, &axes], keep());
    Ok(vec![Some(c.reshape(&dx, &shape)), Some(d_scale), Some(d_bias)])
}

/// `x / √(mean(x²) + epsilon) × scale` (Zhang and Sennrich 2019).
fn root_mean_square(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    let (x, scale) = (c.x(0)?, c.x(1)?);
    let rank = c.shape(&x)?.len();
    let first = axis_index(c.node.int("axis").unwrap_or(-1), rank);
    let axes: Vec<i64> = (first..rank).map(|axis| axis as i64).collect();
    let epsilon = epsilon(c);
    let square = c.mul(&x, &x);
    let mean = c.reduce("ReduceMean", &square, &axes);
    let mean = c.add_scalar(&mean, epsilon)?;
    let root = c.op("Sqrt", &[&mean]);
    let normal = c.div(&x, &root);
    Ok(vec![c.mul(&normal, &scale)])
}

fn lp_normalization(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    let x = c.x(0)?;
    let axis = c.node.int("axis").unwrap_or(-1);
    let operator = if c.node.int("p") == Some(1) {
        "ReduceL1"
    } else {
        "ReduceL2"
    };
    let norm = c.reduce(operator, &x, &[axis]);
    Ok(vec![c.div(&x, &norm)])
}

/// The form with the batch's own statistics, which `training/lowering` writes in simpler operators and notes as a
/// shortcut: `dx = scale/d (dy - mean(dy) - xh mean(dy xh))` (Ioffe and Szegedy 2015, §3).
pub(super) fn batch_statistics(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, scale, mean) = (c.dy()?, c.x(0)?, c.x(1)?, c.node.outputs[1].clone());
    let part = |part: &str| format!("{}.{part}", c.node.name);
    let (xh, deviation, factor) = (part("normal"), part("deviation"), part("scale"));
    let axes: Vec<i64> = (0..c.shape(&x)?.len() as i64).filter(|axis| *axis != 1).collect();
    let dh = c.mul(&dy, &factor);
    let dx = through(c, &dh, &xh, &deviation, &axes);
    let product = c.mul(&dy, &xh);
    let axes = c.builder.ints(&axes);
    let drop = || vec![crate::graph::attribute::int("keepdims", 0)];
    let d_scale = c.op_with("ReduceSum", &[&product, &axes], drop());
    let d_bias = c.op_with("ReduceSum", &[&dy, &axes], drop());
    c.shortcut(
        "BatchNormGradient",
        &[&dy, &x, &scale, &mean, &deviation],
        &[&dx, &d_scale, &d_bias],
    )?;
    Ok(vec![Some(dx), Some(d_scale), Some(d_bias), None])
}

/// The form with given statistics, which are constants. In training, batch normalisation is written out in simpler
/// operators before differentiation, so that gradients flow through the batch's own statistics.
fn batch_normalization(c: &mut Context<'_>) -> Result<Gradients, String> {
    if c.node.int("training_mode").unwrap_or(0) != 0 {
        return Err("it is in training mode and was not written out".into());
    }
    let (dy, x, scale, mean, variance) = (c.dy()?, c.x(0)?, c.x(1)?, c.x(3)?, c.x(4)?);
    let shape = c.shape(&x)?;
    let epsilon = f64::from(c.node.float("epsilon").unwrap_or(1e-5));
    let mut channel = vec![1; shape.len()];
    channel[1] = shape[1];
    let axes: Vec<i64> = (0..shape.len() as i64).filter(|axis| *axis != 1).collect();

    let variance = c.add_scalar(&variance, epsilon)?;
    let deviation = c.op("Sqrt", &[&variance]);
    let factor = c.div(&scale, &deviation);
    let factor = c.reshape(&factor, &channel);
    let dx = c.mul(&dy, &factor);
    let mean = c.reshape(&mean, &channel);
    let deviation = c.reshape(&deviation, &channel);
    let centred = c.sub(&x, &mean);
    let xh = c.div(&centred, &deviation);
    let product = c.mul(&dy, &xh);
    let d_scale = c.reduce("ReduceSum", &product, &axes);
    let d_bias = c.reduce("ReduceSum", &dy, &axes);
    let d_scale = c.reshape(&d_scale, &[shape[1]]);
    let d_bias = c.reshape(&d_bias, &[shape[1]]);
    Ok(vec![Some(dx), Some(d_scale), Some(d_bias), None, None])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::attribute;
    let channels = |operator: &'static str, shape: &[usize], scales: usize| {
        Case::new(operator)
            .input(shape, -1.0..1.0)
            .input([scales], 0.5..1.5)
            .input([scales], -1.0..1.0)
    };
    let groups = |count: i64| attribute::int("num_groups", count);
    vec![
        channels("InstanceNormalization", &[2, 3, 2, 3], 3),
        channels("InstanceNormalization", &[2, 2, 5], 2).attribute(attribute::float("epsilon", 0.1)),
        channels("GroupNormalization", &[2, 4, 3, 2], 4)
            .attribute(groups(2))
            .rough()
            .opset(21),
        channels("GroupNormalization", &[2, 4, 3], 4)
            .attribute(groups(1))
            .attribute(attribute::float("epsilon", 0.1))
            .rough()
            .opset(21),
        channels("GroupNormalization", &[2, 4, 3, 2], 2).attribute(groups(2)),
        Case::new("RMSNormalization")
            .input([3, 5], -1.0..1.0)
            .input([5], 0.5..1.5)
            .opset(23),
        Case::new("RMSNormalization")
            .input([3, 2, 4], -1.0..1.0)
            .input([2, 4], 0.5..1.5)
            .attribute(attribute::int("axis", 1))
            .attribute(attribute::float("epsilon", 0.1))
            .opset(23),
        Case::new("LpNormalization").input([3, 4], 0.2..1.0),
        Case::new("LpNormalization")
            .input([3, 4], -1.0..-0.2)
            .attribute(attribute::int("p", 1))
            .attribute(attribute::int("axis", 0)),
        Case::new("LayerNormalization")
            .input([3, 5], -1.0..1.0)
            .input([5], 0.5..1.5)
            .input([5], -1.0..1.0),
        Case::new("LayerNormalization")
            .input([3, 2, 4], -1.0..1.0)
            .input([4], 0.5..1.5)
            .input([4], -1.0..1.0)
            .single(),
        Case::new("LayerNormalization")
            .input([3, 2, 5], -1.0..1.0)
            .input([2, 5], 0.5..1.5)
            .attribute(attribute::int("axis", 1))
            .attribute(attribute::float("epsilon", 0.1)),
        Case::new("BatchNormalization")
            .input([4, 3], -1.0..1.0)
            .input([3], 0.5..1.5)
            .input([3], -1.0..1.0)
            .float_constant(&[3], vec![0.1, -0.2, 0.3])
            .float_constant(&[3], vec![0.5, 1.0, 1.5]),
        Case::new("BatchNormalization")
            .input([2, 3, 2, 2], -1.0..1.0)
            .input([3], 0.5..1.5)
            .input([3], -1.0..1.0)
            .float_constant(&[3], vec![0.1, -0.2, 0.3])
            .float_constant(&[3], vec![0.5, 1.0, 1.5])
            .attribute(attribute::float("epsilon", 0.1)),
    ]
}
