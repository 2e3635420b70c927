//! The greatest element of each window and where it lies, which training asks `MaxPool` for.

use rten_tensor::{AsView as _, Layout as _};

use super::values::Held;
use crate::graph::{Node, Window};

/// Outputs of a `MaxPool` of 32-bit numbers; none for anything else.
pub(super) fn max(node: &Node, x: Option<&Held>) -> Result<Option<Vec<Held>>, String> {
    let Some(Held::Fast(rten::Value::FloatTensor(x))) = x.filter(|_| node.operator == "MaxPool") else {
        return Ok(None);
    };
    let shape = x.shape().to_vec();
    let x = x.to_contiguous();
    let x = x.data();
    let input = &shape[2..];
    let window = Window::sliding(node, &[], input)?;
    let ceil = node.int("ceil_mode").unwrap_or(0) != 0;
    let mut y_shape = shape[..2].to_vec();
    y_shape.extend((0..input.len()).map(|axis| window.count(axis, input[axis], ceil)));
    let windows = window.positions(input, &y_shape[2..])?;
    let plane: usize = input.iter().product();
    let mut y = Vec::with_capacity(y_shape.iter().product());
    let mut positions = Vec::with_capacity(y.capacity());
    for (index, x) in x.chunks_exact(plane.max(1)).enumerate() {
        for window in &windows {
            let mut best = window[0] as usize;
            for position in &window[1..] {
                if x[*position as usize] > x[best] {
                    best = *position as usize;
                }
            }
            y.push(x[best]);
            positions.push((index * plane + best) as i32);
        }
    }
    let values = rten::Value::from_shape(&y_shape[..], y).map_err(|error| error.to_string())?;
    let positions = rten::Value::from_shape(&y_shape[..], positions).map_err(|error| error.to_string())?;
    Ok(Some(vec![Held::Fast(values), Held::Fast(positions)]))
}
