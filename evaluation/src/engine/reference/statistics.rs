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
        "Softmax" => |node, inputs| softmax(node, inputs, false),
        "LogSoftmax" => |node, inputs| softmax(node, inputs, true),
        "LayerNormalization" => layer_normalization,
        "BatchNormalization" => batch_normalization,
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

fn reduce(
    node: &Node,
    inputs: &Inputs<'_>,
    end: fn(f64, f64) -> f64,
    term: fn(f64) -> f64,
) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let rank = x.data.ndim();
    let given = maybe(inputs, 1).map(Value::ints).unwrap_or_default();
    if given.is_empty() && node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
        return Ok(vec![x.clone()]);
    }
    let axes: Vec<usize> = if given.is_empty() {
        (0..rank).collect()
    } else {
        given.iter().map(|axis| axis_of(*axis, rank)).collect()
    };
    let count: usize = axes.iter().map(|axis| x.shape()[*axis]).product();
    let mut data = sum_over(&x.data.mapv(term), &axes).mapv(|sum| end(sum, count as f64));
    if node.int("keepdims").unwrap_or(1) == 0 {
        let shape: Vec<usize> = (0..rank)
            .filter(|axis| !axes.contains(axis))
            .map(|axis| x.shape()[axis])
            .collect();
        data = data
            .into_shape_with_order(IxDyn(&shape))
            .map_err(|error| error.to_string())?;
    }
    Ok(vec![Value::new(x.element, data)])
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
    let centred = &x.data - &mean_over(&x.data, &axes);
    let variance = mean_over(&(&centred * &centred), &axes);
    let epsilon = float(node, "epsilon", 1e-5);
    let mut y = centred / variance.mapv(|variance| (variance + epsilon).sqrt()) * &scale.data;
    if let Some(bias) = maybe(inputs, 2) {
        y += &bias.data;
    }
    Ok(vec![Value::new(x.element, y)])
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
