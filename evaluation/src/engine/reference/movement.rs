//! Operators that move numbers without changing them.

use ndarray::{ArrayD, Axis, Dimension, IxDyn, Slice, concatenate};

use super::{Inputs, Operator, Value, axis_of, maybe, need};
use crate::graph::{ElementType, Node};

pub(super) fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Transpose" => transpose,
        "Expand" => expand,
        "Concat" => concat,
        "Split" => split,
        "Slice" => slice,
        "Gather" => gather,
        "ScatterElements" => scatter_elements,
        "OneHot" => one_hot,
        "Shape" => shape_of,
        _ => return None,
    })
}

fn one(element: ElementType, data: ArrayD<f64>) -> Vec<Value> {
    vec![Value::new(element, data)]
}

fn with_shape(x: &Value, shape: &[usize]) -> Result<Vec<Value>, String> {
    let data = x
        .data
        .as_standard_layout()
        .into_owned()
        .into_shape_with_order(IxDyn(shape));
    Ok(one(
        x.element,
        data.map_err(|_| format!("{} numbers do not fit the shape {shape:?}", x.data.len()))?,
    ))
}

fn reshape(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let keeps_zero = node.int("allowzero").unwrap_or(0) == 0;
    let wanted = need(inputs, 1)?.ints();
    let mut shape: Vec<usize> = wanted
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            0 if keeps_zero => x
                .shape()
                .get(axis)
                .copied()
                .ok_or_else(|| "0 beyond the rank".to_owned()),
            -1 => Ok(1),
            dim => usize::try_from(*dim).map_err(|_| format!("dimension {dim}")),
        })
        .collect::<Result<_, String>>()?;
    if let Some(open) = wanted.iter().position(|dim| *dim == -1) {
        shape[open] = x.data.len() / shape.iter().product::<usize>().max(1);
    }
    with_shape(x, &shape)
}

fn flatten(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let axis = axis_of(node.int("axis").unwrap_or(1), x.data.ndim());
    with_shape(
        x,
        &[x.shape()[..axis].iter().product(), x.shape()[axis..].iter().product()],
    )
}

fn squeeze(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let rank = x.data.ndim();
    let axes: Vec<usize> = match maybe(inputs, 1) {
        Some(axes) => axes.ints().into_iter().map(|axis| axis_of(axis, rank)).collect(),
        None => (0..rank).filter(|axis| x.shape()[*axis] == 1).collect(),
    };
    let shape: Vec<usize> = (0..rank)
        .filter(|axis| !axes.contains(axis))
        .map(|axis| x.shape()[axis])
        .collect();
    with_shape(x, &shape)
}

fn unsqueeze(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let axes = need(inputs, 1)?.ints();
    let rank = x.data.ndim() + axes.len();
    let axes: Vec<usize> = axes.into_iter().map(|axis| axis_of(axis, rank)).collect();
    let mut old = x.shape().iter();
    let shape: Vec<usize> = (0..rank)
        .map(|axis| {
            if axes.contains(&axis) {
                1
            } else {
                *old.next().unwrap_or(&1)
            }
        })
        .collect();
    with_shape(x, &shape)
}

fn transpose(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let order: Vec<usize> = match node.ints("perm") {
        Some(order) => order.iter().map(|axis| axis_of(*axis, x.data.ndim())).collect(),
        None => (0..x.data.ndim()).rev().collect(),
    };
    Ok(one(
        x.element,
        x.data
            .view()
            .permuted_axes(IxDyn(&order))
            .as_standard_layout()
            .into_owned(),
    ))
}

fn expand(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let wanted: Vec<usize> = need(inputs, 1)?.ints().into_iter().map(|dim| dim as usize).collect();
    let shape = super::elementwise::common_shape(x.shape(), &wanted)?;
    Ok(one(
        x.element,
        x.data
            .broadcast(IxDyn(&shape))
            .expect("the common shape fits")
            .to_owned(),
    ))
}

fn concat(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let first = need(inputs, 0)?;
    let axis = axis_of(
        node.int("axis").ok_or("attribute `axis` is missing")?,
        first.data.ndim(),
    );
    let parts: Vec<_> = inputs.iter().flatten().map(|value| value.data.view()).collect();
    Ok(one(
        first.element,
        concatenate(Axis(axis), &parts).map_err(|error| error.to_string())?,
    ))
}

fn split(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let axis = axis_of(node.int("axis").unwrap_or(0), x.data.ndim());
    let size = x.shape()[axis];
    let sizes: Vec<usize> = if let Some(sizes) = maybe(inputs, 1) {
        sizes.ints().into_iter().map(|size| size as usize).collect()
    } else {
        let chunk = size.div_ceil(node.outputs.len());
        (0..node.outputs.len())
            .map(|index| chunk.min(size - (index * chunk).min(size)))
            .collect()
    };
    let mut start = 0;
    let mut parts = Vec::new();
    for size in sizes {
        let part = x
            .data
            .slice_axis(Axis(axis), Slice::from(start..start + size))
            .to_owned();
        parts.push(Value::new(x.element, part));
        start += size;
    }
    Ok(parts)
}

fn slice(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let (starts, ends) = (need(inputs, 1)?.ints(), need(inputs, 2)?.ints());
    let axes = maybe(inputs, 3).map_or_else(|| (0..starts.len() as i64).collect(), Value::ints);
    let steps = maybe(inputs, 4).map_or_else(|| vec![1; starts.len()], Value::ints);
    let mut data = x.data.clone();
    for index in 0..starts.len() {
        let axis = axis_of(axes[index], data.ndim());
        let (size, step) = (data.shape()[axis] as i64, steps[index]);
        let from_front = |at: i64| if at < 0 { at + size } else { at };
        let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_front(starts[index]).clamp(low.max(0), high);
        let end = from_front(ends[index]).clamp(low, high);
        let count = if step > 0 {
            (end - start + step - 1) / step
        } else {
            (start - end - step - 1) / -step
        };
        let chosen: Vec<usize> = (0..count.max(0)).map(|index| (start + index * step) as usize).collect();
        data = data.select(Axis(axis), &chosen);
    }
    Ok(one(x.element, data))
}

fn gather(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, positions) = (need(inputs, 0)?, need(inputs, 1)?);
    let axis = axis_of(node.int("axis").unwrap_or(0), x.data.ndim());
    let size = x.shape()[axis];
    let chosen: Vec<usize> = positions.ints().into_iter().map(|at| axis_of(at, size)).collect();
    if let Some(at) = chosen.iter().find(|at| **at >= size) {
        return Err(format!("position {at} of {size}"));
    }
    let mut shape = x.shape().to_vec();
    shape.splice(axis..=axis, positions.shape().iter().copied());
    let flat = x.data.select(Axis(axis), &chosen);
    with_shape(&Value::new(x.element, flat), &shape)
}

fn scatter_elements(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, positions, updates) = (need(inputs, 0)?, need(inputs, 1)?, need(inputs, 2)?);
    let axis = axis_of(node.int("axis").unwrap_or(0), x.data.ndim());
    let adds = node.string("reduction") == Some("add");
    let mut data = x.data.clone();
    for (at, update) in updates.data.indexed_iter() {
        let mut target = at.clone();
        target[axis] = axis_of(positions.data[&at] as i64, x.shape()[axis]);
        if adds {
            data[&target] += update;
        } else {
            data[&target] = *update;
        }
    }
    Ok(one(x.element, data))
}

/// On the last axis.
fn one_hot(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (labels, values) = (need(inputs, 0)?, need(inputs, 2)?);
    let depth = need(inputs, 1)?.ints()[0] as usize;
    let mut shape = labels.shape().to_vec();
    shape.push(depth);
    let numbers: Vec<f64> = values.data.iter().copied().collect();
    let labels = labels.ints();
    let data = ArrayD::from_shape_fn(IxDyn(&shape), |at| {
        let row = at.slice()[..shape.len() - 1]
            .iter()
            .zip(&shape)
            .fold(0, |row, (at, dim)| row * dim + at);
        numbers[usize::from(axis_of(labels[row], depth) == at[shape.len() - 1])]
    });
    Ok(one(values.element, data))
}

fn shape_of(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let shape: Vec<f64> = need(inputs, 0)?.shape().iter().map(|dim| *dim as f64).collect();
    Ok(one(
        ElementType::I64,
        ArrayD::from_shape_vec(IxDyn(&[shape.len()]), shape).expect("a vector fits its length"),
    ))
}
