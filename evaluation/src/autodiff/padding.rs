//! Operators that repeat elements or put space around them, and those that trade channels for space.

use super::context::axis_index;
use super::indexing::scatter_along;
use super::{Context, Gradients, Rule};
use crate::graph::attribute;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("DepthToSpace", depth_to_space),
    ("Pad", pad),
    ("SpaceToDepth", space_to_depth),
    ("Tile", tile),
];

/// Constant padding is cut off. Other modes copied elements into the padding; their gradients go back to where they
/// came from, one axis after the other.
fn pad(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x) = (c.dy()?, c.x(0)?);
    if c.needs(2) {
        return Err("its value must be constant".into());
    }
    let shape = c.shape(&x)?;
    let rank = shape.len();
    let given = c.constant_ints(1)?.ok_or("input `pads` is missing")?;
    let axes = c.constant_ints(3)?.unwrap_or_else(|| (0..rank as i64).collect());
    let mut pads = vec![0; 2 * rank];
    for (index, axis) in axes.iter().enumerate() {
        let axis = axis_index(*axis, rank);
        pads[axis] = given[index];
        pads[rank + axis] = given[axes.len() + index];
    }
    let mode = c.node.string("mode").unwrap_or("constant").to_owned();
    if mode == "constant" {
        return Ok(vec![Some(crop(c, &dy, &pads, &shape)), None, None, None]);
    }
    let mut current = c.shape(&c.y()?)?;
    let mut gradient = dy;
    for axis in (0..rank).rev() {
        if (pads[axis], pads[rank + axis]) == (0, 0) {
            continue;
        }
        let size = shape[axis] as i64;
        let positions = (0..current[axis] as i64)
            .map(|at| source(&mode, at - pads[axis], size))
            .collect::<Result<_, String>>()?;
        gradient = scatter_along(c, &gradient, &current, axis, positions, shape[axis])?;
        current[axis] = shape[axis];
    }
    Ok(vec![Some(gradient), None, None, None])
}

/// The element that padding copied to `at`, counted from the first one.
pub(crate) fn source(mode: &str, at: i64, size: i64) -> Result<i64, String> {
    Ok(match mode {
        "edge" => at.clamp(0, size - 1),
        "wrap" => at.rem_euclid(size),
        "reflect" if size == 1 => 0,
        "reflect" => {
            let period = 2 * (size - 1);
            let at = at.rem_euclid(period);
            at.min(period - at)
        }
        _ => return Err(format!("mode `{mode}` is not known")),
    })
}

/// Cuts off what padding added, and puts zeros where negative padding cut off.
fn crop(c: &mut Context<'_>, dy: &str, pads: &[i64], shape: &[usize]) -> String {
    let rank = shape.len();
    let mut gradient = dy.to_owned();
    if pads.iter().any(|pad| *pad > 0) {
        let starts: Vec<i64> = pads[..rank].iter().map(|pad| (*pad).max(0)).collect();
        let ends: Vec<i64> = (0..rank)
            .map(|axis| starts[axis] + shape[axis] as i64 + pads[axis].min(0) + pads[rank + axis].min(0))
            .collect();
        let (starts, ends) = (c.builder.ints(&starts), c.builder.ints(&ends));
        gradient = c.op("Slice", &[&gradient, &starts, &ends]);
    }
    if pads.iter().any(|pad| *pad < 0) {
        let back: Vec<i64> = pads.iter().map(|pad| -(*pad).min(0)).collect();
        let back = c.builder.ints(&back);
        gradient = c.op("Pad", &[&gradient, &back]);
    }
    gradient
}

fn tile(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let shape = c.shape(&c.x(0)?)?;
    let repeats = c.constant_ints(1)?.ok_or("input `repeats` is missing")?;
    let mut apart = Vec::new();
    let mut axes = Vec::new();
    for (size, count) in shape.iter().zip(repeats) {
        axes.push(apart.len() as i64);
        apart.extend([count as usize, *size]);
    }
    let apart = c.reshape(&dy, &apart);
    let axes = c.builder.ints(&axes);
    let sum = c.op_with("ReduceSum", &[&apart, &axes], vec![attribute::int("keepdims", 0)]);
    Ok(vec![Some(sum), None])
}

/// Reshapes, exchanges axes and reshapes again.
fn shuffle(c: &mut Context<'_>, dy: &str, apart: &[usize], order: &[i64], to: &[usize]) -> String {
    let apart = c.reshape(dy, apart);
    let apart = c.op_with("Transpose", &[&apart], vec![attribute::ints("perm", order)]);
    c.reshape(&apart, to)
}

fn block(c: &Context<'_>) -> Result<usize, String> {
    let size = c.node.int("blocksize").ok_or("attribute `blocksize` is missing")?;
    usize::try_from(size).map_err(|_| format!("attribute `blocksize` must be positive, found {size}"))
}

fn depth_to_space(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let block = block(c)?;
    let x = c.shape(&c.x(0)?)?;
    let apart = [x[0], x[1] / (block * block), x[2], block, x[3], block];
    let order = if c.node.string("mode") == Some("CRD") {
        [0, 1, 3, 5, 2, 4]
    } else {
        [0, 3, 5, 1, 2, 4]
    };
    Ok(vec![Some(shuffle(c, &dy, &apart, &order, &x))])
}

fn space_to_depth(c: &mut Context<'_>) -> Result<Gradients, String> {
    let dy = c.dy()?;
    let block = block(c)?;
    let x = c.shape(&c.x(0)?)?;
    let apart = [x[0], block, block, x[1], x[2] / block, x[3] / block];
    Ok(vec![Some(shuffle(c, &dy, &apart, &[0, 3, 4, 1, 5, 2], &x))])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    use crate::graph::Tensor;
    let ints = |values: &[i64]| Tensor::ints(values.to_vec());
    let pad = |pads: &[i64], mode: &str| {
        Case::new("Pad")
            .input([3, 4], -1.0..1.0)
            .constant(ints(pads))
            .attribute(attribute::string("mode", mode))
    };
    let mut cases = vec![
        pad(&[1, 0, 0, 2], "constant"),
        pad(&[1, 2, 0, 1], "constant").float_constant(&[], vec![3.0]),
        pad(&[-1, 0, 1, -2], "constant"),
        Case::new("Pad")
            .input([2, 3, 2], -1.0..1.0)
            .constant(ints(&[1, 2]))
            .absent()
            .constant(ints(&[-2])),
        Case::new("Tile").input([2, 3], -1.0..1.0).constant(ints(&[3, 2])),
        Case::new("Tile").input([2, 1, 3], -1.0..1.0).constant(ints(&[1, 4, 1])),
        Case::new("SpaceToDepth")
            .input([2, 2, 4, 6], -1.0..1.0)
            .attribute(attribute::int("blocksize", 2)),
    ];
    for mode in ["reflect", "edge", "wrap"] {
        cases.push(pad(&[1, 2, 2, 3], mode));
        cases.push(pad(&[0, 1, 0, 0], mode));
    }
    for mode in ["DCR", "CRD"] {
        cases.push(
            Case::new("DepthToSpace")
                .input([2, 8, 2, 3], -1.0..1.0)
                .attribute(attribute::int("blocksize", 2))
                .attribute(attribute::string("mode", mode)),
        );
    }
    cases
}
