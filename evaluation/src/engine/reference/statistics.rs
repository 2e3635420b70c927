//! Reductions, softmax and normalisations.

use ndarray::{ArrayD, Axis, IxDyn};

use super::elementwise::float;
use super::{Inputs, Operator, Value, axis_of, maybe, need};
use crate::graph::Node;

pub(super) fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "ReduceSum" => |node, inputs| reduce(node, inputs, |sum, _| sum, |value| value),
        "ReduceMean" => |node, inputs| reduce(node, inputs, |sum, count| sum / count, |value| value),
        "ReduceSumSquare" => |node, inputs| reduce(node, inputs, |sum, _| sum, |value| value * value),
        "ReduceL1" => |node, inputs| reduce(node, inputs, |sum, _| sum, f64::abs),
        "ReduceL2" => |node, inputs| reduce(node, inputs, |sum, _| sum.sqrt(), |value| value * value),
        "ReduceLogSum" => |node, inputs| reduce(node, inputs, |sum, _| sum.ln(), |value| value),
        "ReduceLogSumExp" => |node, inputs| reduce(node, inputs, |sum, _| sum.ln(), f64::exp),
        "ReduceMax" => |node, inputs| fold_over(node, inputs, f64::NEG_INFINITY, f64::max),
        "ReduceMin" => |node, inputs| fold_over(node, inputs, f64::INFINITY, f64::min),
        "ReduceProd" => |node, inputs| fold_over(node, inputs, 1.0, |a, b| a * b),
        "Softmax" => |node, inputs| softmax(node, inputs, false),
        "LogSoftmax" => |node, inputs| softmax(node, inputs, true),
        "LayerNormalization" => layer_normalization,
        "BatchNormalization" => batch_normalization,
        "InstanceNormalization" => |node, inputs| {
            let channels = need(inputs, 0)?.shape()[1];
            grouped(node, inputs, channels)
        },
        "GroupNormalization" => |node, inputs| grouped(node, inputs, node.int("num_groups").unwrap_or(1) as usize),
        _ => return None,
    })
}

fn sum_over(data: &ArrayD<f64>, axes: &[usize]) -> ArrayD<f64> {
    axes.iter().fold(data.clone(), |data, axis| {
        data.sum_axis(Axis(*axis)).insert_axis(Axis(*axis))
    })
}

fn mean_over(data: &ArrayD<f64>, axes: &[usize]) -> ArrayD<f64> {
    let count: usize = axes.iter().map(|axis| data.shape()[*axis]).product();
    sum_over(data, axes) / count as f64
}

/// The reduced axes; none where nothing is reduced.
fn reduced_axes(node: &Node, inputs: &Inputs<'_>) -> Result<Option<Vec<usize>>, String> {
    let rank = need(inputs, 0)?.data.ndim();
    let given = maybe(inputs, 1).map(Value::ints).unwrap_or_default();
    if given.is_empty() && node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
        return Ok(None);
    }
    Ok(Some(if given.is_empty() {
        (0..rank).collect()
    } else {
        given.iter().map(|axis| axis_of(*axis, rank)).collect()
    }))
}

/// Drops reduced axes, which have size 1 so far, unless they stay.
fn finish(node: &Node, x: &Value, data: ArrayD<f64>, axes: &[usize]) -> Result<Vec<Value>, String> {
    if node.int("keepdims").unwrap_or(1) != 0 {
        return Ok(vec![Value::new(x.element, data)]);
    }
    let shape: Vec<usize> = (0..x.data.ndim())
        .filter(|axis| !axes.contains(axis))
        .map(|axis| x.shape()[axis])
        .collect();
    let data = data.as_standard_layout().into_owned();
    let data = data
        .into_shape_with_order(IxDyn(&shape))
        .map_err(|error| error.to_string())?;
    Ok(vec![Value::new(x.element, data)])
}

fn reduce(
    node: &Node,
    inputs: &Inputs<'_>,
    end: fn(f64, f64) -> f64,
    term: fn(f64) -> f64,
) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let Some(axes) = reduced_axes(node, inputs)? else {
        return Ok(vec![x.clone()]);
    };
    let count: usize = axes.iter().map(|axis| x.shape()[*axis]).product();
    let data = sum_over(&x.data.mapv(term), &axes).mapv(|sum| end(sum, count as f64));
    finish(node, x, data, &axes)
}

fn fold_over(
    node: &Node,
    inputs: &Inputs<'_>,
    start: f64,
    function: fn(f64, f64) -> f64,
) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let Some(axes) = reduced_axes(node, inputs)? else {
        return Ok(vec![x.clone()]);
    };
    let data = axes.iter().fold(x.data.clone(), |data, axis| {
        data.fold_axis(Axis(*axis), start, |a, b| function(*a, *b))
            .insert_axis(Axis(*axis))
    });
    finish(node, x, data, &axes)
}

fn softmax(node: &Node, inputs: &Inputs<'_>, logarithm: bool) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let axis = Axis(axis_of(node.int("axis").unwrap_or(-1), x.data.ndim()));
    let largest = x
        .data
        .fold_axis(axis, f64::NEG_INFINITY, |a, b| a.max(*b))
        .insert_axis(axis);
    let shifted = &x.data - &largest;
    let sums = shifted.mapv(f64::exp).sum_axis(axis).insert_axis(axis);
    let data = if logarithm {
        shifted - sums.mapv(f64::ln)
    } else {
        shifted.mapv(f64::exp) / sums
    };
    Ok(vec![Value::new(x.element, data)])
}

fn layer_normalization(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, scale) = (need(inputs, 0)?, need(inputs, 1)?);
    let first = axis_of(node.int("axis").unwrap_or(-1), x.data.ndim());
    let axes: Vec<usize> = (first..x.data.ndim()).collect();
    let mean = mean_over(&x.data, &axes);
    let centred = &x.data - &mean;
    let variance = mean_over(&(&centred * &centred), &axes);
    let epsilon = float(node, "epsilon", 1e-5);
    let inverse = variance.mapv(|variance| 1.0 / (variance + epsilon).sqrt());
    let mut y = centred * &inverse * &scale.data;
    if let Some(bias) = maybe(inputs, 2) {
        y += &bias.data;
    }
    let values = [y, mean, inverse];
    Ok(values.map(|data| Value::new(x.element, data)).into())
}

/// The form with given statistics.
fn batch_normalization(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let mut shape = vec![1; x.data.ndim()];
    shape[1] = x.shape()[1];
    let channel = |index: usize| {
        let data = need(inputs, index)?.data.clone().into_shape_with_order(IxDyn(&shape));
        data.map_err(|error| error.to_string())
    };
    let (scale, bias, mean, variance) = (channel(1)?, channel(2)?, channel(3)?, channel(4)?);
    let epsilon = float(node, "epsilon", 1e-5);
    let deviation = variance.mapv(|variance| (variance + epsilon).sqrt());
    Ok(vec![Value::new(
        x.element,
        (&x.data - &mean) / deviation * scale + bias,
    )])
}

/// Statistics over the channels of a group and all spatial axes; scales are per channel or per group.
fn grouped(node: &Node, inputs: &Inputs<'_>, groups: usize) -> Result<Vec<Value>, String> {
    let (x, scale, bias) = (need(inputs, 0)?, need(inputs, 1)?, need(inputs, 2)?);
    let epsilon = float(node, "epsilon", 1e-5);
    let fit = |error: ndarray::ShapeError| error.to_string();
    let rows = [x.shape()[0], groups, x.data.len() / (x.shape()[0] * groups).max(1)];
    let data = x.data.as_standard_layout().into_owned();
    let data = data.into_shape_with_order(IxDyn(&rows)).map_err(fit)?;
    let centred = &data - &mean_over(&data, &[2]);
    let variance = mean_over(&(&centred * &centred), &[2]);
    let normal = centred / variance.mapv(|variance| (variance + epsilon).sqrt());
    let count = scale.data.len();
    let apart = [x.shape()[0], count, x.data.len() / (x.shape()[0] * count).max(1)];
    let normal = normal.into_shape_with_order(IxDyn(&apart)).map_err(fit)?;
    let factor = |value: &Value| value.data.clone().into_shape_with_order(IxDyn(&[1, count, 1]));
    let y = normal * factor(scale).map_err(fit)? + factor(bias).map_err(fit)?;
    let y = y.into_shape_with_order(x.data.raw_dim()).map_err(fit)?;
    Ok(vec![Value::new(x.element, y)])
}
