//! Matrix products.

use ndarray::{Array2, ArrayD, ArrayView2, Axis, Ix2, IxDyn};

use super::elementwise::{common_shape, float};
use super::{Inputs, Operator, Value, maybe, need};
use crate::graph::Node;

pub(super) fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "Gemm" => gemm,
        "MatMul" => matmul,
        _ => return None,
    })
}

fn matrix(value: &Value) -> Result<ArrayView2<'_, f64>, String> {
    value
        .data
        .view()
        .into_dimensionality::<Ix2>()
        .map_err(|error| error.to_string())
}

fn gemm(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (first, second) = (need(inputs, 0)?, need(inputs, 1)?);
    let (mut a, mut b) = (matrix(first)?, matrix(second)?);
    if node.int("transA").unwrap_or(0) != 0 {
        a.swap_axes(0, 1);
    }
    if node.int("transB").unwrap_or(0) != 0 {
        b.swap_axes(0, 1);
    }
    if a.ncols() != b.nrows() {
        return Err(format!(
            "matrices of shapes {:?} and {:?} do not fit",
            a.shape(),
            b.shape()
        ));
    }
    let mut y: Array2<f64> = a.dot(&b) * float(node, "alpha", 1.0);
    if let Some(c) = maybe(inputs, 2) {
        let c = c
            .data
            .broadcast(y.raw_dim())
            .ok_or_else(|| format!("shape {:?} does not broadcast", c.shape()))?;
        y = y + c.mapv(|value| value * float(node, "beta", 1.0));
    }
    Ok(vec![Value::new(first.element, y.into_dyn())])
}

#[expect(clippy::many_single_char_names, reason = "the names are those of the formula")]
fn matmul(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (first, second) = (need(inputs, 0)?, need(inputs, 1)?);
    let (mut a, mut b) = (first.data.clone(), second.data.clone());
    let (a_is_vector, b_is_vector) = (a.ndim() == 1, b.ndim() == 1);
    if a_is_vector {
        a.insert_axis_inplace(Axis(0));
    }
    if b_is_vector {
        b.insert_axis_inplace(Axis(1));
    }
    let (a_rank, b_rank) = (a.ndim(), b.ndim());
    let (m, k) = (a.shape()[a_rank - 2], a.shape()[a_rank - 1]);
    let (rows, n) = (b.shape()[b_rank - 2], b.shape()[b_rank - 1]);
    if k != rows {
        return Err(format!(
            "shapes {:?} and {:?} do not fit",
            first.shape(),
            second.shape()
        ));
    }
    let batch = common_shape(&a.shape()[..a_rank - 2], &b.shape()[..b_rank - 2])?;
    let count: usize = batch.iter().product();
    let spread = |array: &ArrayD<f64>, rows: usize, columns: usize| {
        let shape: Vec<usize> = batch.iter().copied().chain([rows, columns]).collect();
        let wide = array
            .broadcast(IxDyn(&shape))
            .expect("the common shape fits both")
            .to_owned();
        wide.into_shape_with_order((count, rows, columns))
            .expect("the count is that of the batch")
    };
    let (a, b) = (spread(&a, m, k), spread(&b, k, n));
    let mut numbers = Vec::with_capacity(count * m * n);
    for index in 0..count {
        numbers.extend(
            a.index_axis(Axis(0), index)
                .dot(&b.index_axis(Axis(0), index))
                .iter()
                .copied(),
        );
    }
    let mut shape = batch;
    if !a_is_vector {
        shape.push(m);
    }
    if !b_is_vector {
        shape.push(n);
    }
    let data = ArrayD::from_shape_vec(IxDyn(&shape), numbers).map_err(|error| error.to_string())?;
    Ok(vec![Value::new(first.element, data)])
}
