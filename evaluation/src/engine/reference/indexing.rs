//! Operators that pick and place by index, repeat, pad and resize.

use ndarray::{ArrayD, Axis, Dimension, IxDyn};

use super::{Inputs, Operator, Value, axis_of, maybe, need};
use crate::graph::{ElementType, Interpolation, Node};

pub(super) fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "CumSum" => cumulative,
        "DepthToSpace" => |node, inputs| {
            let x = need(inputs, 0)?;
            let (s, b) = (x.shape(), block(node)?);
            let depth = s[1] / (b * b);
            if node.string("mode") == Some("CRD") {
                shuffle(
                    x,
                    &[s[0], depth, b, b, s[2], s[3]],
                    &[0, 1, 4, 2, 5, 3],
                    &[s[0], depth, s[2] * b, s[3] * b],
                )
            } else {
                shuffle(
                    x,
                    &[s[0], b, b, depth, s[2], s[3]],
                    &[0, 3, 4, 1, 5, 2],
                    &[s[0], depth, s[2] * b, s[3] * b],
                )
            }
        },
        "SpaceToDepth" => |node, inputs| {
            let x = need(inputs, 0)?;
            let (s, b) = (x.shape(), block(node)?);
            let (rows, columns) = (s[2] / b, s[3] / b);
            shuffle(
                x,
                &[s[0], s[1], rows, b, columns, b],
                &[0, 3, 5, 1, 2, 4],
                &[s[0], s[1] * b * b, rows, columns],
            )
        },
        "GatherElements" => gather_elements,
        "GatherND" => gather_nd,
        "Pad" => pad,
        "Resize" => resize,
        "ReverseSequence" => reverse_sequence,
        "ScatterND" => scatter_nd,
        "Tile" => |_, inputs| {
            let x = need(inputs, 0)?;
            let repeats = need(inputs, 1)?.ints();
            let shape: Vec<usize> = x
                .shape()
                .iter()
                .zip(repeats)
                .map(|(size, count)| size * count as usize)
                .collect();
            Ok(picked(x, &shape, |at| {
                at.iter().zip(x.shape()).map(|(at, size)| at % size).collect()
            }))
        },
        "TopK" => top,
        "Trilu" => triangle,
        _ => return None,
    })
}

/// A tensor whose element at each position is the input's element at another one.
fn picked(x: &Value, shape: &[usize], from: impl Fn(&[usize]) -> Vec<usize>) -> Vec<Value> {
    let data = ArrayD::from_shape_fn(IxDyn(shape), |at| x.data[IxDyn(&from(at.slice()))]);
    vec![Value::new(x.element, data)]
}

fn block(node: &Node) -> Result<usize, String> {
    Ok(node.int("blocksize").ok_or("attribute `blocksize` is missing")? as usize)
}

fn shuffle(x: &Value, apart: &[usize], order: &[usize], to: &[usize]) -> Result<Vec<Value>, String> {
    let fit = |error: ndarray::ShapeError| error.to_string();
    let data = x.data.as_standard_layout().into_owned();
    let data = data.into_shape_with_order(IxDyn(apart)).map_err(fit)?;
    let data = data.permuted_axes(IxDyn(order)).as_standard_layout().into_owned();
    let data = data.into_shape_with_order(IxDyn(to)).map_err(fit)?;
    Ok(vec![Value::new(x.element, data)])
}

fn gather_elements(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, indices) = (need(inputs, 0)?, need(inputs, 1)?);
    let axis = axis_of(node.int("axis").unwrap_or(0), x.data.ndim());
    Ok(picked(x, indices.shape(), |at| {
        let mut from = at.to_vec();
        from[axis] = axis_of(indices.data[IxDyn(at)] as i64, x.shape()[axis]);
        from
    }))
}

/// The index tuples in the last axis, resolved.
fn tuples(indices: &Value, shape: &[usize]) -> Vec<Vec<usize>> {
    let width = indices.shape().last().copied().unwrap_or(1).max(1);
    indices
        .ints()
        .chunks(width)
        .map(|tuple| tuple.iter().zip(shape).map(|(at, size)| axis_of(*at, *size)).collect())
        .collect()
}

fn gather_nd(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, indices) = (need(inputs, 0)?, need(inputs, 1)?);
    let lead = &indices.shape()[..indices.data.ndim() - 1];
    let mut numbers = Vec::new();
    let mut rest: &[usize] = x.shape();
    for tuple in tuples(indices, x.shape()) {
        let mut view = x.data.view();
        for at in &tuple {
            view = view.index_axis_move(Axis(0), *at);
        }
        rest = &x.shape()[tuple.len()..];
        numbers.extend(view.iter().copied());
    }
    let shape: Vec<usize> = lead.iter().chain(rest).copied().collect();
    let data = ArrayD::from_shape_vec(IxDyn(&shape), numbers).map_err(|error| error.to_string())?;
    Ok(vec![Value::new(x.element, data)])
}

fn scatter_nd(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, indices, updates) = (need(inputs, 0)?, need(inputs, 1)?, need(inputs, 2)?);
    let adds = node.string("reduction") == Some("add");
    let mut data = x.data.clone();
    let numbers: Vec<f64> = updates.data.iter().copied().collect();
    let mut numbers = numbers.into_iter();
    for tuple in tuples(indices, x.shape()) {
        let mut view = data.view_mut();
        for at in &tuple {
            view = view.index_axis_move(Axis(0), *at);
        }
        for element in &mut view {
            let update = numbers.next().ok_or("there are too few updates")?;
            *element = if adds { *element + update } else { update };
        }
    }
    Ok(vec![Value::new(x.element, data)])
}

fn top(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let count = need(inputs, 1)?.ints()[0] as usize;
    let axis = Axis(axis_of(node.int("axis").unwrap_or(-1), x.data.ndim()));
    let sign = if node.int("largest").unwrap_or(1) != 0 {
        -1.0
    } else {
        1.0
    };
    let mut shape = x.shape().to_vec();
    shape[axis.0] = count;
    let (mut values, mut indices) = (ArrayD::zeros(IxDyn(&shape)), ArrayD::zeros(IxDyn(&shape)));
    for ((lane, mut values), mut indices) in x
        .data
        .lanes(axis)
        .into_iter()
        .zip(values.lanes_mut(axis))
        .zip(indices.lanes_mut(axis))
    {
        let mut order: Vec<usize> = (0..lane.len()).collect();
        order.sort_by(|a, b| (sign * lane[*a]).total_cmp(&(sign * lane[*b])));
        for (at, from) in order.into_iter().take(count).enumerate() {
            values[at] = lane[from];
            indices[at] = from as f64;
        }
    }
    Ok(vec![
        Value::new(x.element, values),
        Value::new(ElementType::I64, indices),
    ])
}

fn cumulative(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let axis = axis_of(need(inputs, 1)?.ints()[0], x.data.ndim());
    let exclusive = node.int("exclusive").unwrap_or(0) != 0;
    let reverse = node.int("reverse").unwrap_or(0) != 0;
    let mut data = x.data.clone();
    for mut lane in data.lanes_mut(Axis(axis)) {
        let mut total = 0.0;
        let size = lane.len();
        for step in 0..size {
            let element = &mut lane[if reverse { size - 1 - step } else { step }];
            let before = total;
            total += *element;
            *element = if exclusive { before } else { total };
        }
    }
    Ok(vec![Value::new(x.element, data)])
}

fn triangle(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let offset = maybe(inputs, 1).map_or(0, |offset| offset.ints()[0]);
    let upper = node.int("upper").unwrap_or(1) != 0;
    let rank = x.data.ndim();
    let mut data = x.data.clone();
    for (at, element) in data.indexed_iter_mut() {
        let distance = at[rank - 1] as i64 - at[rank - 2] as i64;
        let stays = if upper { distance >= offset } else { distance <= offset };
        if !stays {
            *element = 0.0;
        }
    }
    Ok(vec![Value::new(x.element, data)])
}

fn reverse_sequence(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, lengths) = (need(inputs, 0)?, need(inputs, 1)?.ints());
    let batch = node.int("batch_axis").unwrap_or(1) as usize;
    let time = node.int("time_axis").unwrap_or(0) as usize;
    Ok(picked(x, x.shape(), |at| {
        let mut from = at.to_vec();
        let length = lengths[at[batch]] as usize;
        if at[time] < length {
            from[time] = length - 1 - at[time];
        }
        from
    }))
}

fn pad(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let given = need(inputs, 1)?.ints();
    let value = maybe(inputs, 2).map_or(0.0, |value| value.data.sum());
    let rank = x.data.ndim();
    let axes = maybe(inputs, 3).map_or_else(|| (0..rank as i64).collect(), Value::ints);
    let (mut before, mut shape) = (vec![0; rank], x.shape().to_vec());
    for (index, axis) in axes.iter().enumerate() {
        let axis = axis_of(*axis, rank);
        before[axis] = given[index];
        shape[axis] = (shape[axis] as i64 + given[index] + given[axes.len() + index]) as usize;
    }
    let mode = node.string("mode").unwrap_or("constant");
    let from = |at: i64, size: i64| match mode {
        "edge" => Some(at.clamp(0, size - 1)),
        "wrap" => Some(at.rem_euclid(size)),
        "reflect" => {
            // There and back again, without repeating the ends.
            let mut at = at;
            while !(0..size).contains(&at) {
                at = if at < 0 { -at } else { 2 * (size - 1) - at };
            }
            Some(at)
        }
        _ => (0..size).contains(&at).then_some(at),
    };
    let data = ArrayD::from_shape_fn(IxDyn(&shape), |at| {
        let place: Option<Vec<usize>> = (0..rank)
            .map(|axis| from(at[axis] as i64 - before[axis], x.shape()[axis] as i64).map(|at| at as usize))
            .collect();
        place.map_or(value, |place| x.data[IxDyn(&place)])
    });
    Ok(vec![Value::new(x.element, data)])
}

fn resize(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let rank = x.data.ndim();
    let axes: Vec<usize> = match node.ints("axes") {
        Some(axes) => axes.iter().map(|axis| axis_of(*axis, rank)).collect(),
        None => (0..rank).collect(),
    };
    let scales: Option<Vec<f32>> = maybe(inputs, 2)
        .filter(|scales| !scales.data.is_empty())
        .map(|scales| scales.data.iter().map(|scale| *scale as f32).collect());
    let mut shape = x.shape().to_vec();
    for (position, axis) in axes.into_iter().enumerate() {
        shape[axis] = match &scales {
            Some(scales) => (shape[axis] as f32 * scales[position]).floor() as usize,
            None => need(inputs, 3)?.ints()[position] as usize,
        };
    }
    let mut data = x.data.clone();
    for axis in Interpolation::of(node, x.shape(), &shape, scales.as_deref())? {
        let mut sizes = data.shape().to_vec();
        sizes[axis.axis] = axis.taps.len();
        let mut mixed = ArrayD::zeros(IxDyn(&sizes));
        for (from, mut to) in data
            .lanes(Axis(axis.axis))
            .into_iter()
            .zip(mixed.lanes_mut(Axis(axis.axis)))
        {
            for (at, taps) in axis.taps.iter().enumerate() {
                to[at] = taps.iter().map(|(place, weight)| from[*place] * weight).sum();
            }
        }
        data = mixed;
    }
    Ok(vec![Value::new(x.element, data)])
}
