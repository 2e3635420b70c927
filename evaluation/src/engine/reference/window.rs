//! Convolutions and pools.

use ndarray::{ArrayD, Axis, CowArray, Dimension, IxDyn, indices};

use super::{Inputs, Operator, Value, axis_of, maybe, need};
use crate::graph::{ElementType, Node, Window};

pub(super) fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "Conv" => convolution,
        "ConvTranspose" => transposed,
        "MaxPool" => max_pool,
        "AveragePool" => average_pool,
        "GlobalAveragePool" => {
            |_, inputs| global(inputs, |plane| plane.iter().sum::<f64>() / plane.len().max(1) as f64)
        }
        "GlobalMaxPool" => |_, inputs| global(inputs, |plane| plane.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "ArgMax" => arg_max,
        _ => return None,
    })
}

/// Where the tap `tap` of window `at` lies in the input, unless in the padding.
fn position(window: &Window, at: &[usize], tap: &[usize], input: &[usize]) -> Option<Vec<usize>> {
    (0..at.len())
        .map(|axis| {
            let place = at[axis] * window.strides[axis] + tap[axis] * window.dilations[axis];
            place
                .checked_sub(window.begin[axis])
                .filter(|place| *place < input[axis])
        })
        .collect()
}

fn joined(first: &[usize], rest: &[usize]) -> IxDyn {
    let all: Vec<usize> = first.iter().chain(rest).copied().collect();
    IxDyn(&all)
}

fn every(shape: &[usize]) -> Vec<Vec<usize>> {
    indices(IxDyn(shape))
        .into_iter()
        .map(|at| at.slice().to_vec())
        .collect()
}

fn groups(node: &Node) -> usize {
    node.int("group").unwrap_or(1) as usize
}

fn add_bias(y: &mut ArrayD<f64>, inputs: &Inputs<'_>) {
    if let Some(bias) = maybe(inputs, 2) {
        for (mut channel, bias) in y.axis_iter_mut(Axis(1)).zip(&bias.data) {
            channel += *bias;
        }
    }
}

/// Every pair of a window and a tap that meets an input element: flat positions in output, kernel and input.
fn contacts(window: &Window, output: &[usize], input: &[usize]) -> Vec<[usize; 3]> {
    let flat = |at: &[usize], shape: &[usize]| at.iter().zip(shape).fold(0, |flat, (at, size)| flat * size + at);
    let taps = every(&window.kernel);
    every(output)
        .iter()
        .flat_map(|at| taps.iter().map(move |tap| (at, tap)))
        .filter_map(|(at, tap)| {
            let place = position(window, at, tap, input)?;
            Some([flat(at, output), flat(tap, &window.kernel), flat(&place, input)])
        })
        .collect()
}

fn convolution(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, w) = (need(inputs, 0)?, need(inputs, 1)?);
    let input = &x.shape()[2..];
    let window = Window::sliding(node, &w.shape()[2..], input)?;
    let output: Vec<usize> = (0..input.len())
        .map(|axis| window.count(axis, input[axis], false))
        .collect();
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let (outputs, width) = (w.shape()[0], w.shape()[1]);
    let share = outputs / groups(node);
    let mut y = ArrayD::zeros(joined(&[batch, outputs], &output));
    let contacts = contacts(&window, &output, input);
    let (x_data, w_data) = (x.data.as_standard_layout(), w.data.as_standard_layout());
    let (x_flat, w_flat) = (flat(&x_data), flat(&w_data));
    let y_flat = y.as_slice_mut().expect("a new array is contiguous");
    let sizes = [size(&output), size(&window.kernel), size(input)];
    for [sample, to, from] in triples(batch, outputs, width) {
        let y = &mut y_flat[(sample * outputs + to) * sizes[0]..];
        let w = &w_flat[(to * width + from) * sizes[1]..];
        let x = &x_flat[(sample * channels + to / share * width + from) * sizes[2]..];
        for [at, tap, place] in &contacts {
            y[*at] += w[*tap] * x[*place];
        }
    }
    add_bias(&mut y, inputs);
    Ok(vec![Value::new(x.element, y)])
}

fn transposed(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let (x, w) = (need(inputs, 0)?, need(inputs, 1)?);
    let input = &x.shape()[2..];
    let (window, output) = Window::transposed(node, &w.shape()[2..], input, None)?;
    let (batch, channels, width) = (x.shape()[0], x.shape()[1], w.shape()[1]);
    let share = channels / groups(node);
    let outputs = width * groups(node);
    let mut y = ArrayD::zeros(joined(&[batch, outputs], &output));
    // The windows are those of the convolution that leads back.
    let contacts = contacts(&window, input, &output);
    let (x_data, w_data) = (x.data.as_standard_layout(), w.data.as_standard_layout());
    let (x_flat, w_flat) = (flat(&x_data), flat(&w_data));
    let y_flat = y.as_slice_mut().expect("a new array is contiguous");
    let sizes = [size(input), size(&window.kernel), size(&output)];
    for [sample, from, to] in triples(batch, channels, width) {
        let x = &x_flat[(sample * channels + from) * sizes[0]..];
        let w = &w_flat[(from * width + to) * sizes[1]..];
        let y = &mut y_flat[(sample * outputs + from / share * width + to) * sizes[2]..];
        for [at, tap, place] in &contacts {
            y[*place] += w[*tap] * x[*at];
        }
    }
    add_bias(&mut y, inputs);
    Ok(vec![Value::new(x.element, y)])
}

fn flat<'a>(data: &'a CowArray<'_, f64, IxDyn>) -> &'a [f64] {
    data.as_slice().expect("the standard layout is contiguous")
}

fn size(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn triples(first: usize, second: usize, third: usize) -> impl Iterator<Item = [usize; 3]> {
    (0..first).flat_map(move |a| (0..second).flat_map(move |b| (0..third).map(move |c| [a, b, c])))
}

fn pool_window(node: &Node, x: &Value) -> Result<(Window, Vec<usize>), String> {
    let input = &x.shape()[2..];
    let window = Window::sliding(node, &[], input)?;
    let ceil = node.int("ceil_mode").unwrap_or(0) != 0;
    let output = (0..input.len())
        .map(|axis| window.count(axis, input[axis], ceil))
        .collect();
    Ok((window, output))
}

/// The second output are the flat positions of the greatest elements.
fn max_pool(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let (window, output) = pool_window(node, x)?;
    let planes = &x.shape()[..2];
    let mut y = ArrayD::zeros(joined(planes, &output));
    let mut positions = y.clone();
    for plane in every(planes) {
        for at in every(&output) {
            let mut best = (f64::NEG_INFINITY, 0);
            for tap in every(&window.kernel) {
                let Some(place) = position(&window, &at, &tap, &x.shape()[2..]) else {
                    continue;
                };
                let place = joined(&plane, &place);
                let value = x.data[&place];
                if value > best.0 {
                    let flat = place
                        .slice()
                        .iter()
                        .zip(x.shape())
                        .fold(0, |flat, (at, size)| flat * size + at);
                    best = (value, flat);
                }
            }
            let at = joined(&plane, &at);
            y[&at] = best.0;
            positions[&at] = best.1 as f64;
        }
    }
    Ok(vec![Value::new(x.element, y), Value::new(ElementType::I64, positions)])
}

fn average_pool(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let (window, output) = pool_window(node, x)?;
    let with_padding = node.int("count_include_pad").unwrap_or(0) != 0;
    let input = &x.shape()[2..];
    let planes = &x.shape()[..2];
    let mut y = ArrayD::zeros(joined(planes, &output));
    // The padded input, in which padding counts as elements.
    let unpadded = Window {
        begin: vec![0; input.len()],
        ..window.clone()
    };
    let padded: Vec<usize> = (0..input.len())
        .map(|axis| window.begin[axis] + input[axis] + window.end[axis])
        .collect();
    for plane in every(planes) {
        for at in every(&output) {
            let (mut sum, mut count) = (0.0, 0);
            for tap in every(&window.kernel) {
                let place = position(&window, &at, &tap, input);
                let counts = if with_padding {
                    position(&unpadded, &at, &tap, &padded).is_some()
                } else {
                    place.is_some()
                };
                count += usize::from(counts);
                sum += place.map_or(0.0, |place| x.data[joined(&plane, &place)]);
            }
            y[joined(&plane, &at)] = sum / count.max(1) as f64;
        }
    }
    Ok(vec![Value::new(x.element, y)])
}

fn global(inputs: &Inputs<'_>, summary: fn(&[f64]) -> f64) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let size: usize = x.shape()[2..].iter().product();
    let numbers: Vec<f64> = x.data.iter().copied().collect();
    let results = numbers.chunks(size.max(1)).map(summary).collect();
    let mut shape = x.shape()[..2].to_vec();
    shape.resize(x.shape().len(), 1);
    let y = ArrayD::from_shape_vec(IxDyn(&shape), results).map_err(|error| error.to_string())?;
    Ok(vec![Value::new(x.element, y)])
}

fn arg_max(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>, String> {
    let x = need(inputs, 0)?;
    let axis = Axis(axis_of(node.int("axis").unwrap_or(0), x.data.ndim()));
    let last = node.int("select_last_index").unwrap_or(0) != 0;
    let mut data = x.data.map_axis(axis, |lane| {
        let mut best = 0;
        for (at, value) in lane.iter().enumerate() {
            if *value > lane[best] || (last && *value >= lane[best]) {
                best = at;
            }
        }
        best as f64
    });
    if node.int("keepdims").unwrap_or(1) != 0 {
        data.insert_axis_inplace(axis);
    }
    Ok(vec![Value::new(ElementType::I64, data)])
}
