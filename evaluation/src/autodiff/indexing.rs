//! Operators that pick and place by index. An index may occur several times; then contributions add up.

use super::context::axis_index;
use super::{Context, Gradients, Rule};
use crate::graph::{Elements, Tensor, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("CumSum", cumulative),
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("ReverseSequence", reverse_sequence),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
    ("TopK", top),
    ("Trilu", triangle),
];

/// `dy` added up in zeros of a shape, at one index for each element along `axis`.
pub(super) fn scatter(
    c: &mut Context<'_>,
    dy: &str,
    indices: &str,
    axis: usize,
    shape: &[usize],
) -> Result<String, String> {
    let zeros = c.zeros(shape)?;
    Ok(c.op_with(
        "ScatterElements",
        &[&zeros, indices, dy],
        vec![
            attribute::int("axis", axis as i64),
            attribute::string("reduction", "add"),
        ],
    ))
}

/// Undoes a selection of known positions along an axis: element `i` of `dy`, of shape `from`, is added to
/// `positions[i]` of an axis of size `size`.
pub(super) fn scatter_along(
    c: &mut Context<'_>,
    dy: &str,
    from: &[usize],
    axis: usize,
    positions: Vec<i64>,
    size: usize,
) -> Result<String, String> {
    let mut along = vec![1; from.len()];
    along[axis] = from[axis];
    let positions = c.builder.constant(Tensor::new(along, Elements::I64(positions)));
    let positions = c.expand(&positions, from);
    let mut shape = from.to_vec();
    shape[axis] = size;
    scatter(c, dy, &positions, axis, &shape)
}

/// Rows of a table are added up whole; along other axes by element.
fn gather(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, indices) = (c.dy()?, c.x(0)?, c.x(1)?);
    let (shape, picked) = (c.shape(&x)?, c.shape(&indices)?);
    let axis = axis_index(c.node.int("axis").unwrap_or(0), shape.len());
    let count: usize = picked.iter().product();
    if count == 1
        && let Some(&[at]) = c.builder.constant_value(&indices).and_then(Tensor::to_i64).as_deref()
    {
        // One known slice: zeros around it.
        let mut slice = shape.clone();
        slice[axis] = 1;
        let dy = c.reshape(&dy, &slice);
        let at = axis_index(at, shape[axis]);
        let mut pads = vec![0; 2 * shape.len()];
        pads[axis] = at as i64;
        pads[shape.len() + axis] = (shape[axis] - 1 - at) as i64;
        let pads = c.builder.ints(&pads);
        return Ok(vec![Some(c.op("Pad", &[&dy, &pads])), None]);
    }
    if axis == 0 {
        let indices = c.reshape(&indices, &[count, 1]);
        let indices = c.cast(&indices, crate::graph::ElementType::I64);
        let mut rows = vec![count];
        rows.extend_from_slice(&shape[1..]);
        let rows = c.reshape(&dy, &rows);
        return Ok(vec![Some(add_rows(c, &rows, &indices, &shape)?), None]);
    }
    let mut flat = shape.clone();
    flat[axis] = count;
    let dy = c.reshape(&dy, &flat);
    let mut along = vec![1; shape.len()];
    along[axis] = count;
    let indices = c.reshape(&indices, &along);
    let indices = c.expand(&indices, &flat);
    Ok(vec![Some(scatter(c, &dy, &indices, axis, &shape)?), None])
}

fn add_rows(c: &mut Context<'_>, dy: &str, indices: &str, shape: &[usize]) -> Result<String, String> {
    let zeros = c.zeros(shape)?;
    Ok(c.op_with(
        "ScatterND",
        &[&zeros, indices, dy],
        vec![attribute::string("reduction", "add")],
    ))
}

fn gather_elements(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, indices) = (c.dy()?, c.x(0)?, c.x(1)?);
    let shape = c.shape(&x)?;
    let axis = axis_index(c.node.int("axis").unwrap_or(0), shape.len());
    Ok(vec![Some(scatter(c, &dy, &indices, axis, &shape)?), None])
}

fn gather_nd(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, indices) = (c.dy()?, c.x(0)?, c.x(1)?);
    if c.node.int("batch_dims").unwrap_or(0) != 0 {
        return Err("attribute `batch_dims` must be 0".into());
    }
    let shape = c.shape(&x)?;
    Ok(vec![Some(add_rows(c, &dy, &indices, &shape)?), None])
}

/// Whether updates are added; other reductions are refused.
fn adds(c: &Context<'_>) -> Result<bool, String> {
    match c.node.string("reduction") {
        None | Some("none" | "") => Ok(false),
        Some("add") => Ok(true),
        Some(other) => Err(format!(
            "attribute `reduction` must be `none` or `add`, found `{other}`"
        )),
    }
}

fn scatter_elements(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, indices) = (c.dy()?, c.x(1)?);
    let axis = attribute::int("axis", c.node.int("axis").unwrap_or(0));
    let updates = c.shape(&indices)?;
    let dx = if adds(c)? || !c.needs(0) {
        dy.clone()
    } else {
        let zeros = c.zeros(&updates)?;
        c.op_with("ScatterElements", &[&dy, &indices, &zeros], vec![axis.clone()])
    };
    let du = c
        .needs(2)
        .then(|| c.op_with("GatherElements", &[&dy, &indices], vec![axis]));
    Ok(vec![Some(dx), None, du])
}

fn scatter_nd(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, indices, updates) = (c.dy()?, c.x(1)?, c.x(2)?);
    let dx = if adds(c)? || !c.needs(0) {
        dy.clone()
    } else {
        let shape = c.shape(&updates)?;
        let zeros = c.zeros(&shape)?;
        c.op("ScatterND", &[&dy, &indices, &zeros])
    };
    let du = c.needs(2).then(|| c.op("GatherND", &[&dy, &indices]));
    Ok(vec![Some(dx), None, du])
}

fn top(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, y) = (c.dy()?, c.x(0)?, c.y()?);
    let shape = c.shape(&x)?;
    let axis = axis_index(c.node.int("axis").unwrap_or(-1), shape.len());
    let indices = c.builder.also(&y, 1);
    Ok(vec![Some(scatter(c, &dy, &indices, axis, &shape)?), None])
}

/// The same sum in the other direction.
fn cumulative(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, axis) = (c.dy()?, c.x(1)?);
    let exclusive = c.node.int("exclusive").unwrap_or(0);
    let reverse = 1 - c.node.int("reverse").unwrap_or(0);
    let attributes = vec![
        attribute::int("exclusive", exclusive),
        attribute::int("reverse", reverse),
    ];
    Ok(vec![Some(c.op_with("CumSum", &[&dy, &axis], attributes)), None])
}

fn triangle(c: &mut Context<'_>) -> Result<Gradients, String> {
    let mut inputs = vec![c.dy()?];
    inputs.extend(c.node.input(1).map(str::to_owned));
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let attributes = c.node.attributes.clone();
    Ok(vec![Some(c.op_with("Trilu", &inputs, attributes)), None])
}

fn reverse_sequence(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, lengths) = (c.dy()?, c.x(1)?);
    let attributes = c.node.attributes.clone();
    Ok(vec![
        Some(c.op_with("ReverseSequence", &[&dy, &lengths], attributes)),
        None,
    ])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let ints = |shape: &[usize], values: &[i64]| Tensor::new(shape, Elements::I64(values.to_vec()));
    let case = |operator: &'static str, shape: &[usize]| Case::new(operator).input(shape, -1.0..1.0);
    let axis = |axis: i64| attribute::int("axis", axis);
    let mut cases = vec![
        case("Gather", &[5, 3]).constant(ints(&[2, 3], &[0, 2, 2, -1, 4, 0])),
        case("Gather", &[5, 3]).constant(Tensor::new([2], Elements::I32(vec![1, 1]))),
        case("Gather", &[5, 3]).constant(ints(&[], &[3])),
        case("Gather", &[2, 4, 3])
            .constant(ints(&[2, 2], &[0, 3, 3, -2]))
            .attribute(axis(1)),
        case("Gather", &[2, 4]).constant(ints(&[], &[1])).attribute(axis(-1)),
        case("GatherElements", &[3, 4])
            .constant(ints(&[2, 4], &[0, 1, 2, 0, 2, 1, 2, -1]))
            .attribute(axis(0)),
        case("GatherElements", &[3, 4])
            .constant(ints(&[3, 2], &[0, 0, 3, 1, -1, 2]))
            .attribute(axis(1)),
        case("GatherND", &[3, 4]).constant(ints(&[3, 2], &[0, 1, 2, 3, 0, 1])),
        case("GatherND", &[3, 4]).constant(ints(&[2, 2, 1], &[0, 1, 2, 1])),
        case("ScatterElements", &[3, 4])
            .constant(ints(&[2, 2], &[0, 3, 2, 1]))
            .input([2, 2], -1.0..1.0)
            .attribute(axis(1)),
        case("ScatterElements", &[3, 4])
            .constant(ints(&[2, 2], &[0, 2, 0, 1]))
            .input([2, 2], -1.0..1.0)
            .attribute(attribute::string("reduction", "add")),
        case("ScatterND", &[3, 4])
            .constant(ints(&[2, 1], &[2, 0]))
            .input([2, 4], -1.0..1.0),
        case("ScatterND", &[3, 4])
            .constant(ints(&[3, 2], &[2, 0, 1, 1, 2, 0]))
            .input([3], -1.0..1.0)
            .attribute(attribute::string("reduction", "add")),
        case("TopK", &[3, 5]).constant(ints(&[1], &[2])).outputs(2),
        case("TopK", &[3, 5])
            .constant(ints(&[1], &[2]))
            .attribute(axis(0))
            .attribute(attribute::int("largest", 0))
            .outputs(2),
        case("Trilu", &[3, 4]),
        case("Trilu", &[2, 3, 3])
            .constant(ints(&[], &[-1]))
            .attribute(attribute::int("upper", 0)),
        case("ReverseSequence", &[3, 2, 2]).constant(ints(&[2], &[3, 2])),
        case("ReverseSequence", &[2, 3])
            .constant(ints(&[2], &[1, 3]))
            .attribute(attribute::int("batch_axis", 0))
            .attribute(attribute::int("time_axis", 1)),
    ];
    for exclusive in [0, 1] {
        for reverse in [0, 1] {
            cases.push(
                case("CumSum", &[3, 4])
                    .constant(ints(&[], &[1 - 2 * reverse]))
                    .attribute(attribute::int("exclusive", exclusive))
                    .attribute(attribute::int("reverse", reverse)),
            );
        }
    }
    cases
}
