//! Recurrent layers, written out step by step.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `T`, `B`, `I`, `H` | steps, batch, inputs, hidden units | |
//! | `x` | inputs | `[T, B, I]` |
//! | `w`, `r` | weights of inputs and of the hidden state, for `G` gates | `[G H, I]`, `[G H, H]` |
//! | `p` | products of all inputs with `w`, and the biases | `[T B, G H]` |
//! | `h`, `c` | hidden state, cell | `[B, H]` |
//!
//! The products with `w` are one matrix product for all steps. The gradients of `r` from all steps are joined into one
//! product by `differentiate`. Equations: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000;
//! Cho et al. 2014; in the form of the operators' definitions.

#[cfg(test)]
mod cases;

#[cfg(test)]
pub(super) use cases::cases;

use super::{Context, Expansion, Gradients};
use crate::graph::{ElementType, attribute};

pub(super) const RULES: &[(&str, super::Rule)] = &[];
pub(super) const EXPANSIONS: &[(&str, Expansion)] = &[("GRU", gru), ("LSTM", lstm), ("RNN", rnn)];

/// One direction of a layer.
struct Direction {
    /// Splits of `p`, one for each step, `[B, G H]`.
    products: Vec<String>,
    r: String,
    /// Of a GRU that resets before its product: `r` of the gates and of the candidate.
    parts: Vec<String>,
    /// Bias of the input's and of the hidden state's product, `[G H]`.
    biases: Option<(String, String)>,
    /// Weights from the cell to the gates, `[3 H]`.
    peepholes: Option<String>,
    h: String,
    c: String,
    functions: Vec<Function>,
    reversed: bool,
}

/// An activation function with its parameters.
#[derive(Debug, Clone)]
struct Function {
    operator: String,
    alpha: Option<f32>,
    beta: Option<f32>,
}

/// Sizes of a layer.
struct Sizes {
    steps: usize,
    batch: usize,
    hidden: usize,
}

impl Function {
    fn apply(&self, c: &mut Context<'_>, x: &str) -> String {
        let mut attributes = Vec::new();
        if let Some(alpha) = self.alpha {
            attributes.push(attribute::float("alpha", alpha));
        }
        if let Some(beta) = self.beta {
            attributes.push(attribute::float("beta", beta));
        }
        c.op_with(&self.operator, &[x], attributes)
    }
}

/// The activation functions of all directions, `count` each.
fn functions(c: &Context<'_>, defaults: &[&str], directions: usize) -> Result<Vec<Vec<Function>>, String> {
    let names: Vec<String> = match c.node.attribute("activations") {
        Some(list) if !list.strings.is_empty() => list
            .strings
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect(),
        _ => defaults.iter().map(|name| (*name).to_owned()).collect(),
    };
    let floats = |name: &str| {
        c.node
            .attribute(name)
            .map(|list| list.floats.clone())
            .unwrap_or_default()
    };
    let (mut alphas, mut betas) = (
        floats("activation_alpha").into_iter(),
        floats("activation_beta").into_iter(),
    );
    let mut all = Vec::new();
    for name in &names {
        let (has_alpha, has_beta, operator) = match name.to_lowercase().as_str() {
            "sigmoid" => (false, false, "Sigmoid"),
            "tanh" => (false, false, "Tanh"),
            "relu" => (false, false, "Relu"),
            "softsign" => (false, false, "Softsign"),
            "softplus" => (false, false, "Softplus"),
            "hardsigmoid" => (true, true, "HardSigmoid"),
            "leakyrelu" => (true, false, "LeakyRelu"),
            "elu" => (true, false, "Elu"),
            _ => {
                return Err(format!(
                    "activation `{name}` is not supported; use Sigmoid, Tanh or Relu"
                ));
            }
        };
        all.push(Function {
            operator: operator.to_owned(),
            alpha: if has_alpha { alphas.next() } else { None },
            beta: if has_beta { betas.next() } else { None },
        });
    }
    let count = defaults.len();
    let chunk = |direction: usize| {
        let start = if all.len() > count { direction * count } else { 0 };
        all.get(start..start + count)
            .map(<[Function]>::to_vec)
            .ok_or_else(|| "attribute `activations` is too short".to_owned())
    };
    (0..directions).map(chunk).collect()
}

fn cut(c: &mut Context<'_>, a: &str, sizes: &[usize], axis: i64) -> Vec<String> {
    if sizes.len() == 1 {
        return vec![a.to_owned()];
    }
    let lengths: Vec<i64> = sizes.iter().map(|size| *size as i64).collect();
    let lengths = c.builder.ints(&lengths);
    c.builder
        .node_with_outputs("Split", &[a, &lengths], sizes.len(), vec![attribute::int("axis", axis)])
}

/// Entry `index` of the first axis, without that axis.
fn entry(c: &mut Context<'_>, a: &str, index: usize) -> Result<String, String> {
    let shape = c.shape(a)?;
    let part = if shape[0] == 1 {
        a.to_owned()
    } else {
        let starts = c.builder.ints(&[index as i64]);
        let ends = c.builder.ints(&[index as i64 + 1]);
        let axes = c.builder.ints(&[0]);
        c.op("Slice", &[a, &starts, &ends, &axes])
    };
    Ok(c.reshape(&part, &shape[1..]))
}

/// Takes the inputs of a layer with `gates` gates apart, by direction. `joint` adds both biases to the inputs'
/// products; else only the first.
#[expect(clippy::many_single_char_names, reason = "the names are those of the formula")]
fn directions(
    c: &mut Context<'_>,
    gates: usize,
    defaults: &[&str],
    joint: bool,
) -> Result<(Vec<Direction>, Sizes), String> {
    if c.node.attribute("clip").is_some() {
        return Err("attribute `clip` is not supported; export the layer without it".into());
    }
    let (mut x, w, r) = (c.x(0)?, c.x(1)?, c.x(2)?);
    let by_batch = c.node.int("layout").unwrap_or(0) != 0;
    if by_batch {
        x = exchange(c, &x, &[1, 0, 2]);
    }
    let (x_shape, r_shape) = (c.shape(&x)?, c.shape(&r)?);
    let (steps, batch, inputs) = (x_shape[0], x_shape[1], x_shape[2]);
    let (count, hidden) = (r_shape[0], r_shape[2]);
    let direction = c.node.string("direction").unwrap_or("forward").to_owned();
    let functions = functions(c, defaults, count)?;
    let flat = c.reshape(&x, &[steps * batch, inputs]);
    let mut all = Vec::new();
    for (index, functions) in functions.into_iter().enumerate() {
        let (w, r) = (entry(c, &w, index)?, entry(c, &r, index)?);
        let mut biases = None;
        if let Some(bias) = c.node.input(3).map(str::to_owned) {
            let bias = entry(c, &bias, index)?;
            let parts = cut(c, &bias, &[gates * hidden; 2], 0);
            biases = Some((parts[0].clone(), parts[1].clone()));
        }
        let mut inputs = vec![flat.clone(), w];
        if let Some((first, second)) = &biases {
            inputs.push(if joint { c.add(first, second) } else { first.clone() });
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let p = c.op_with("Gemm", &inputs, vec![attribute::int("transB", 1)]);
        let products = cut(c, &p, &vec![batch; steps], 0);
        let state = |c: &mut Context<'_>, input: usize| match c.node.input(input).map(str::to_owned) {
            Some(mut state) => {
                if by_batch {
                    state = exchange(c, &state, &[1, 0, 2]);
                }
                entry(c, &state, index)
            }
            None => c.zeros(&[batch, hidden]),
        };
        let h = state(c, 5)?;
        let cell = if gates == 4 { state(c, 6)? } else { String::new() };
        let peepholes = match c.node.input(7).map(str::to_owned) {
            Some(peepholes) => Some(entry(c, &peepholes, index)?),
            None => None,
        };
        all.push(Direction {
            products,
            r,
            parts: Vec::new(),
            biases,
            peepholes,
            h,
            c: cell,
            functions,
            reversed: direction == "reverse" || index == 1,
        });
    }
    Ok((all, Sizes { steps, batch, hidden }))
}

fn exchange(c: &mut Context<'_>, a: &str, order: &[i64]) -> String {
    c.op_with("Transpose", &[a], vec![attribute::ints("perm", order)])
}

/// 1 for the rows whose sequence is longer than `step`, else 0, `[B, 1]`.
fn mask(c: &mut Context<'_>, step: usize, batch: usize) -> Result<Option<String>, String> {
    let Some(lengths) = c.node.input(4).map(str::to_owned) else {
        return Ok(None);
    };
    let lengths = c.cast(&lengths, ElementType::I64);
    let lengths = c.reshape(&lengths, &[batch, 1]);
    let step = c.builder.constant(crate::graph::Tensor::new(
        [],
        crate::graph::Elements::I64(vec![step as i64]),
    ));
    let truth = c.op("Greater", &[&lengths, &step]);
    c.number(&truth).map(Some)
}

/// `old + mask (new - old)`: a sequence that has ended keeps its state.
fn kept(c: &mut Context<'_>, mask: Option<&String>, new: String, old: &str) -> String {
    let Some(mask) = mask else {
        return new;
    };
    let change = c.sub(&new, old);
    let change = c.mul(&change, mask);
    c.add(old, &change)
}

/// Runs a step of a direction: from `p`, `h` and `c` to the next `h` and `c`.
type Step<'a> = &'a dyn Fn(&mut Context<'_>, &Direction, [&str; 3], &Sizes) -> (String, String);

/// Outputs of a layer: the hidden states of all steps and the final states.
fn unroll(c: &mut Context<'_>, all: Vec<Direction>, sizes: &Sizes, step: Step<'_>) -> Result<Vec<String>, String> {
    let Sizes { steps, batch, hidden } = *sizes;
    let by_batch = c.node.int("layout").unwrap_or(0) != 0;
    let is_whole = c.node.output(0).is_some();
    let (mut whole, mut last_h, mut last_c) = (Vec::new(), Vec::new(), Vec::new());
    for mut direction in all {
        let order: Vec<usize> = if direction.reversed {
            (0..steps).rev().collect()
        } else {
            (0..steps).collect()
        };
        let mut outputs = vec![String::new(); steps];
        for at in order {
            let mask = mask(c, at, batch)?;
            let p = direction.products[at].clone();
            let (h, cell) = (direction.h.clone(), direction.c.clone());
            let (new_h, new_c) = step(c, &direction, [&p, &h, &cell], sizes);
            outputs[at] = match &mask {
                Some(mask) => c.mul(&new_h, mask),
                None => new_h.clone(),
            };
            direction.h = kept(c, mask.as_ref(), new_h, &h);
            if !cell.is_empty() {
                direction.c = kept(c, mask.as_ref(), new_c, &cell);
            }
        }
        if is_whole {
            let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
            let joined = c.op_with("Concat", &outputs, vec![attribute::int("axis", 0)]);
            whole.push(c.reshape(&joined, &[steps, 1, batch, hidden]));
        }
        last_h.push(c.reshape(&direction.h, &[1, batch, hidden]));
        if !direction.c.is_empty() {
            last_c.push(c.reshape(&direction.c, &[1, batch, hidden]));
        }
    }
    let mut results = Vec::new();
    for (parts, axis, order) in [
        (whole, 1, &[2, 0, 1, 3][..]),
        (last_h, 0, &[1, 0, 2]),
        (last_c, 0, &[1, 0, 2]),
    ] {
        let joined = match &parts[..] {
            [] => String::new(),
            [one] => one.clone(),
            _ => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                c.op_with("Concat", &parts, vec![attribute::int("axis", axis)])
            }
        };
        results.push(if by_batch && !joined.is_empty() {
            exchange(c, &joined, order)
        } else {
            joined
        });
    }
    Ok(results)
}

/// `a B' + d`
fn product(c: &mut Context<'_>, a: &str, b: &str, d: Option<&str>) -> String {
    let inputs: Vec<&str> = [a, b].into_iter().chain(d).collect();
    c.op_with("Gemm", &inputs, vec![attribute::int("transB", 1)])
}

/// `h' = f(x W' + h R' + b)`
fn rnn(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    let (all, sizes) = directions(c, 1, &["Tanh"], true)?;
    unroll(c, all, &sizes, &|c, direction, [p, h, _], _| {
        let sum = product(c, h, &direction.r, Some(p));
        (direction.functions[0].apply(c, &sum), String::new())
    })
}

/// Gates in the order input, output, forget, cell.
fn lstm(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    if c.node.int("input_forget").unwrap_or(0) != 0 {
        return Err("attribute `input_forget` is not supported; export the layer without it".into());
    }
    let (all, sizes) = directions(c, 4, &["Sigmoid", "Tanh", "Tanh"], true)?;
    unroll(c, all, &sizes, &|c, direction, [p, h, cell], sizes| {
        let hidden = sizes.hidden;
        let [gate, candidate, output] = &direction.functions[..] else {
            unreachable!("the number of functions is checked");
        };
        let sum = product(c, h, &direction.r, Some(p));
        let parts = if let Some(peepholes) = &direction.peepholes {
            let weights = cut(c, peepholes, &[hidden; 3], 0);
            let sums = cut(c, &sum, &[hidden; 4], 1);
            let look = |c: &mut Context<'_>, sum: &str, weights: &str, cell: &str| {
                let part = c.mul(cell, weights);
                let sum = c.add(sum, &part);
                gate.apply(c, &sum)
            };
            let input = look(c, &sums[0], &weights[0], cell);
            let forget = look(c, &sums[2], &weights[2], cell);
            let candidate = candidate.apply(c, &sums[3]);
            let new = next_cell(c, &input, &candidate, &forget, cell);
            let opening = look(c, &sums[1], &weights[1], &new);
            let shown = output.apply(c, &new);
            return (c.mul(&opening, &shown), new);
        } else {
            cut(c, &sum, &[3 * hidden, hidden], 1)
        };
        let is_usual = [&gate.operator[..], &candidate.operator, &output.operator] == ["Sigmoid", "Tanh", "Tanh"];
        let together = gate.apply(c, &parts[0]);
        let gates = cut(c, &together, &[hidden; 3], 1);
        let candidate = candidate.apply(c, &parts[1]);
        let new = next_cell(c, &gates[0], &candidate, &gates[2], cell);
        let shown = output.apply(c, &new);
        let h = c.mul(&gates[1], &shown);
        let is_single = c.element().is_ok_and(|element| element == ElementType::F32);
        if is_usual && is_single {
            let outputs = [&h[..], &new, &together, &candidate, &shown];
            c.builder.shortcut("LstmCell", &[&sum, cell], &outputs, Vec::new());
        }
        (h, new)
    })
}

/// Gradients of the sums and of the cell before, for a step of an LSTM that is noted as a shortcut.
pub(super) fn lstm_cell(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dh, before) = (c.dy()?, c.x(1)?);
    let [_, new, together, candidate, shown] = &c.node.outputs.clone()[..] else {
        return Err("it must have five outputs".into());
    };
    let hidden = c.shape(new)?[1];
    let gates = cut(c, together, &[hidden; 3], 1);
    let [input, opening, forget] = &gates[..] else {
        unreachable!("there are three gates")
    };
    let dc = if let Some(dc) = c.gradient(1) {
        dc
    } else {
        let shape = c.shape(new)?;
        c.zeros(&shape)?
    };
    // Behind a logistic function and behind a hyperbolic tangent, whose values are known.
    let through_gate = |c: &mut Context<'_>, dy: &str, y: &str| {
        let first = c.mul(dy, y);
        let second = c.mul(&first, y);
        c.sub(&first, &second)
    };
    let through_tanh = |c: &mut Context<'_>, dy: &str, y: &str| {
        let first = c.mul(dy, y);
        let second = c.mul(&first, y);
        c.sub(dy, &second)
    };
    let part = c.mul(&dh, opening);
    let part = through_tanh(c, &part, shown);
    let total = c.add(&dc, &part);
    let d_opening = c.mul(&dh, shown);
    let (d_input, d_candidate) = (c.mul(&total, candidate), c.mul(&total, input));
    let (d_forget, d_before) = (c.mul(&total, &before), c.mul(&total, forget));
    let sums = [
        through_gate(c, &d_input, input),
        through_gate(c, &d_opening, opening),
        through_gate(c, &d_forget, forget),
        through_tanh(c, &d_candidate, candidate),
    ];
    let sums = c.op_with(
        "Concat",
        &sums.each_ref().map(String::as_str),
        vec![attribute::int("axis", 1)],
    );
    let inputs = [&dh[..], &dc, together, candidate, shown, &before];
    c.shortcut("LstmCellGradient", &inputs, &[&sums, &d_before])?;
    Ok(vec![Some(sums), Some(d_before)])
}

fn next_cell(c: &mut Context<'_>, input: &str, candidate: &str, forget: &str, cell: &str) -> String {
    let added = c.mul(input, candidate);
    let kept = c.mul(forget, cell);
    c.add(&added, &kept)
}

/// Gates in the order update, reset, candidate.
fn gru(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    let late = c.node.int("linear_before_reset").unwrap_or(0) != 0;
    let (mut all, sizes) = directions(c, 3, &["Sigmoid", "Tanh"], !late)?;
    if !late {
        for direction in &mut all {
            direction.parts = cut(c, &direction.r, &[2 * sizes.hidden, sizes.hidden], 0);
        }
    }
    unroll(c, all, &sizes, &|c, direction, [p, h, _], sizes| {
        let hidden = sizes.hidden;
        let [gate, candidate] = &direction.functions[..] else {
            unreachable!("the number of functions is checked");
        };
        let of_input = cut(c, p, &[2 * hidden, hidden], 1);
        let (gates, sum) = if late {
            let bias = direction.biases.as_ref().map(|(_, second)| second.as_str());
            let of_state = product(c, h, &direction.r, bias);
            let of_state = cut(c, &of_state, &[2 * hidden, hidden], 1);
            let sum = c.add(&of_input[0], &of_state[0]);
            let gates = gate.apply(c, &sum);
            let gates = cut(c, &gates, &[hidden; 2], 1);
            let part = c.mul(&gates[1], &of_state[1]);
            (gates, c.add(&of_input[1], &part))
        } else {
            let weights = &direction.parts;
            let sum = product(c, h, &weights[0], Some(&of_input[0]));
            let gates = gate.apply(c, &sum);
            let gates = cut(c, &gates, &[hidden; 2], 1);
            let reset = c.mul(&gates[1], h);
            let sum = product(c, &reset, &weights[1], Some(&of_input[1]));
            (gates, sum)
        };
        let new = candidate.apply(c, &sum);
        // (1 - z) new + z h
        let change = c.sub(h, &new);
        let change = c.mul(&gates[0], &change);
        (c.add(&new, &change), String::new())
    })
}
