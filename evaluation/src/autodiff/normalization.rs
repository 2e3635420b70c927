//! Normalisations.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `r` | `1/√(variance + epsilon)` |
//! | `xh` | normalised input, `(x - mean) r` |
//! | `dh` | gradient of `xh`: `dy × scale` |

use super::context::axis_index;
use super::{Context, Gradients, Rule};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch_normalization),
    ("LayerNormalization", layer_normalization),
];

/// `dx = r (dh - mean(dh) - xh mean(dh xh))`; means over the normalised axes (Ba et al. 2016, §3).
fn layer_normalization(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, scale) = (c.dy()?, c.x(0)?, c.x(1)?);
    let shape = c.shape(&x)?;
    let first = axis_index(c.node.int("axis").unwrap_or(-1), shape.len());
    let axes: Vec<i64> = (first..shape.len()).map(|axis| axis as i64).collect();
    let epsilon = f64::from(c.node.float("epsilon").unwrap_or(1e-5));

    let mean = c.reduce("ReduceMean", &x, &axes);
    let centred = c.sub(&x, &mean);
    let square = c.mul(&centred, &centred);
    let variance = c.reduce("ReduceMean", &square, &axes);
    let variance = c.add_scalar(&variance, epsilon)?;
    let deviation = c.op("Sqrt", &[&variance]);
    let xh = c.div(&centred, &deviation);
    let dh = c.mul(&dy, &scale);

    let mean_dh = c.reduce("ReduceMean", &dh, &axes);
    let product = c.mul(&dh, &xh);
    let mean_product = c.reduce("ReduceMean", &product, &axes);
    let part = c.mul(&xh, &mean_product);
    let rest = c.sub(&dh, &mean_dh);
    let rest = c.sub(&rest, &part);
    let dx = c.div(&rest, &deviation);

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
    Ok(vec![Some(dx), Some(d_scale), d_bias])
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
    vec![
        Case::new("LayerNormalization")
            .input([3, 5], -1.0..1.0)
            .input([5], 0.5..1.5)
            .input([5], -1.0..1.0),
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
