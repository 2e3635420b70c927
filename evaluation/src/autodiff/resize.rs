//! Resizing. It is linear, axis by axis, so that its transpose multiplies by the transposed weights.

use super::{Context, Gradients, Rule};
use crate::graph::{Elements, Interpolation, Tensor, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[("Resize", resize)];

fn resize(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    let (input, output) = (c.shape(&x)?, c.shape(&c.y()?)?);
    let scales = match c.node.input(2) {
        Some(name) => {
            let tensor = c.builder.constant_value(name);
            let scales = tensor.and_then(|tensor| {
                tensor
                    .clone()
                    .cast_float(crate::graph::ElementType::F32)
                    .as_f32()
                    .map(<[f32]>::to_vec)
            });
            Some(scales.ok_or_else(|| format!("`{name}` must be constant"))?)
        }
        None => None,
    };
    let scales = scales.filter(|scales| !scales.is_empty());
    if scales.is_none() && !matches!(c.node.string("keep_aspect_ratio_policy"), None | Some("stretch")) {
        return Err("attribute `keep_aspect_ratio_policy` must be `stretch`".into());
    }
    let mut gradient = dy;
    let mut current = output.clone();
    for axis in Interpolation::of(c.node, &input, &output, scales.as_deref())? {
        let at = axis.axis;
        let (outputs, inputs) = (current[at], axis.inputs);
        let before: usize = current[..at].iter().product();
        let after: usize = current[at + 1..].iter().product();
        gradient = if let Some(times) = axis.repeats() {
            let apart = c.reshape(&gradient, &[before * inputs, times, after]);
            let axes = c.builder.ints(&[1]);
            c.op_with("ReduceSum", &[&apart, &axes], vec![attribute::int("keepdims", 0)])
        } else {
            let matrix = Tensor::new([outputs, inputs], Elements::F64(axis.matrix())).cast_float(c.element()?);
            let matrix = c.builder.constant(matrix);
            if after == 1 {
                let rows = c.reshape(&gradient, &[before, outputs]);
                c.op("MatMul", &[&rows, &matrix])
            } else {
                let matrix = c.op_with("Transpose", &[&matrix], vec![attribute::ints("perm", &[1, 0])]);
                let planes = c.reshape(&gradient, &[before, outputs, after]);
                c.op("MatMul", &[&matrix, &planes])
            }
        };
        current[at] = inputs;
    }
    Ok(vec![Some(c.reshape(&gradient, &input)), None, None, None])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let text = |name: &str, value: &str| attribute::string(name, value);
    let by_scales = |shape: &[usize], scales: &[f32]| {
        Case::new("Resize")
            .input(shape, -1.0..1.0)
            .absent()
            .constant(Tensor::f32([scales.len()], scales.to_vec()))
    };
    let by_sizes = |shape: &[usize], sizes: &[i64]| {
        Case::new("Resize")
            .input(shape, -1.0..1.0)
            .absent()
            .absent()
            .constant(Tensor::ints(sizes.to_vec()))
    };
    let mut cases = Vec::new();
    for mode in ["nearest", "linear", "cubic"] {
        for transformation in ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"] {
            cases.push(
                by_scales(&[1, 2, 4, 5], &[1.0, 1.0, 2.0, 2.0])
                    .attribute(text("mode", mode))
                    .attribute(text("coordinate_transformation_mode", transformation)),
            );
            cases.push(
                by_sizes(&[1, 2, 5, 6], &[1, 2, 7, 4])
                    .attribute(text("mode", mode))
                    .attribute(text("coordinate_transformation_mode", transformation)),
            );
        }
    }
    for nearest in ["floor", "ceil", "round_prefer_ceil", "round_prefer_floor"] {
        cases.push(
            by_scales(&[1, 1, 3, 4], &[1.0, 1.0, 3.0, 1.5])
                .attribute(text("coordinate_transformation_mode", "asymmetric"))
                .attribute(text("nearest_mode", nearest)),
        );
    }
    cases.push(
        by_scales(&[1, 1, 4, 4], &[1.0, 1.0, 1.5, 2.0])
            .attribute(text("mode", "cubic"))
            .attribute(attribute::float("cubic_coeff_a", -0.5))
            .attribute(attribute::int("exclude_outside", 1)),
    );
    cases.push(by_scales(&[2, 3, 4], &[1.0, 1.0, 2.0]).attribute(text("mode", "linear")));
    cases.push(
        by_sizes(&[1, 2, 4, 4], &[6, 8])
            .attribute(attribute::ints("axes", &[2, 3]))
            .attribute(text("mode", "linear")),
    );
    cases
}
