//! Einstein sums, written as transpositions and matrix products of two operands at a time.

use super::{Context, Expansion, Rule};
use crate::graph::attribute;

pub(super) const RULES: &[(&str, Rule)] = &[];
pub(super) const EXPANSIONS: &[(&str, Expansion)] = &[("Einsum", einsum)];

/// A tensor with a label for each axis.
#[derive(Debug, Clone)]
struct Operand {
    name: String,
    labels: Vec<char>,
    shape: Vec<usize>,
}

/// Labels of the axes that `...` stands for, counted from the last; no equation can hold them.
fn ellipsis(count: usize) -> Vec<char> {
    (0..count)
        .rev()
        .map(|index| char::from_u32(0xE000 + index as u32).expect("the private use area has enough"))
        .collect()
}

/// The labels of one term for a tensor of some rank.
fn labels(term: &str, rank: usize) -> Result<Vec<char>, String> {
    let named = term.chars().filter(|label| *label != '.').count();
    let mut all = Vec::new();
    let mut rest = term;
    if let Some((before, after)) = term.split_once("...") {
        all.extend(before.chars());
        all.extend(ellipsis(rank.saturating_sub(named)));
        rest = after;
    }
    all.extend(rest.chars());
    if all.len() != rank {
        return Err(format!(
            "term `{term}` of its equation does not fit a tensor with {rank} axes"
        ));
    }
    if let Some(label) = all.iter().enumerate().find(|(at, label)| all[..*at].contains(label)) {
        return Err(format!(
            "label `{}` occurs twice in term `{term}`; take the diagonal by another operator",
            label.1
        ));
    }
    Ok(all)
}

fn einsum(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    let equation: String = c
        .node
        .string("equation")
        .ok_or("attribute `equation` is missing")?
        .chars()
        .filter(|label| !label.is_whitespace())
        .collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), Some(right.to_owned())),
        None => (equation.clone(), None),
    };
    let mut operands = Vec::new();
    let mut widest = 0;
    for (input, term) in left.split(',').enumerate() {
        let name = c.x(input)?;
        let shape = c.shape(&name)?;
        if term.contains("...") {
            widest = widest.max(
                shape
                    .len()
                    .saturating_sub(term.chars().filter(|label| *label != '.').count()),
            );
        }
        operands.push(Operand {
            labels: labels(term, shape.len())?,
            name,
            shape,
        });
    }
    let output = if let Some(right) = right {
        let named = right.chars().filter(|label| *label != '.').count();
        let open = if right.contains("...") { widest } else { 0 };
        labels(&right, named + open)?
    } else {
        let count = |label: &char| left.chars().filter(|other| other == label).count();
        let mut once: Vec<char> = left
            .chars()
            .filter(|label| label.is_alphabetic() && count(label) == 1)
            .collect();
        once.sort_unstable();
        ellipsis(widest).into_iter().chain(once).collect()
    };

    let mut operands = operands.into_iter();
    let mut result = operands.next().ok_or("it has no input")?;
    let rest: Vec<Operand> = operands.collect();
    for (index, other) in rest.iter().enumerate() {
        let later: Vec<char> = rest[index + 1..]
            .iter()
            .flat_map(|operand| operand.labels.iter().copied())
            .chain(output.iter().copied())
            .collect();
        result = contract(c, &result, other, &later);
    }
    let result = sum_out(c, &result, &output);
    Ok(vec![permute(c, &result, &output).name])
}

/// Sums over the axes whose labels are not in `kept`.
fn sum_out(c: &mut Context<'_>, operand: &Operand, kept: &[char]) -> Operand {
    let gone: Vec<usize> = (0..operand.labels.len())
        .filter(|axis| !kept.contains(&operand.labels[*axis]))
        .collect();
    if gone.is_empty() {
        return operand.clone();
    }
    let axes: Vec<i64> = gone.iter().map(|axis| *axis as i64).collect();
    let axes = c.builder.ints(&axes);
    let name = c.op_with(
        "ReduceSum",
        &[&operand.name, &axes],
        vec![attribute::int("keepdims", 0)],
    );
    let left = |axis: &usize| !gone.contains(axis);
    Operand {
        name,
        labels: (0..operand.labels.len())
            .filter(left)
            .map(|axis| operand.labels[axis])
            .collect(),
        shape: (0..operand.labels.len())
            .filter(left)
            .map(|axis| operand.shape[axis])
            .collect(),
    }
}

/// The operand with its axes in another order.
fn permute(c: &mut Context<'_>, operand: &Operand, order: &[char]) -> Operand {
    if operand.labels == order {
        return operand.clone();
    }
    let axes: Vec<usize> = order
        .iter()
        .filter_map(|label| operand.labels.iter().position(|other| other == label))
        .collect();
    let order_of_axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
    Operand {
        name: c.op_with(
            "Transpose",
            &[&operand.name],
            vec![attribute::ints("perm", &order_of_axes)],
        ),
        labels: order.to_vec(),
        shape: axes.iter().map(|axis| operand.shape[*axis]).collect(),
    }
}

/// The product of two operands, summed over what neither the other one nor anything `later` needs.
fn contract(c: &mut Context<'_>, a: &Operand, b: &Operand, later: &[char]) -> Operand {
    let needed = |other: &Operand| -> Vec<char> { other.labels.iter().chain(later).copied().collect() };
    let a = sum_out(c, a, &needed(b));
    let b = sum_out(c, b, &needed(&a));
    let shared = |label: &char| a.labels.contains(label) && b.labels.contains(label);
    let batch: Vec<char> = a
        .labels
        .iter()
        .copied()
        .filter(|l| shared(l) && later.contains(l))
        .collect();
    let summed: Vec<char> = a
        .labels
        .iter()
        .copied()
        .filter(|l| shared(l) && !later.contains(l))
        .collect();
    let only = |operand: &Operand| -> Vec<char> { operand.labels.iter().copied().filter(|l| !shared(l)).collect() };
    let (rows, columns) = (only(&a), only(&b));
    let size = |label: &char| {
        let of = |operand: &Operand| {
            let at = operand.labels.iter().position(|other| other == label);
            at.map_or(1, |at| operand.shape[at])
        };
        of(&a).max(of(&b))
    };
    let sizes = |labels: &[char]| -> Vec<usize> { labels.iter().map(size).collect() };
    let total = |labels: &[char]| -> usize { labels.iter().map(size).product() };
    let mut matrix = |operand: &Operand, parts: [&[char]; 3]| {
        let order: Vec<char> = parts.concat();
        let operand = permute(c, operand, &order);
        let full = sizes(&order);
        // An axis of size 1 may stand for any size.
        let name = if operand.shape == full {
            operand.name
        } else {
            c.expand(&operand.name, &full)
        };
        c.reshape(&name, &parts.map(total))
    };
    let left = matrix(&a, [&batch, &rows, &summed]);
    let right = matrix(&b, [&batch, &summed, &columns]);
    let product = c.op("MatMul", &[&left, &right]);
    let labels = [batch, rows, columns].concat();
    let shape = sizes(&labels);
    Operand {
        name: c.reshape(&product, &shape),
        labels,
        shape,
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let shapes: [(&str, &[&[usize]]); 14] = [
        ("ij,jk->ik", &[&[2, 3], &[3, 4]]),
        ("ij,jk", &[&[2, 3], &[3, 4]]),
        ("bhqd,bhkd->bhqk", &[&[2, 2, 3, 2], &[2, 2, 4, 2]]),
        ("bqhd,bkhd->bhqk", &[&[2, 3, 2, 2], &[2, 4, 2, 2]]),
        ("bhqk,bkhd->bqhd", &[&[1, 2, 3, 4], &[1, 4, 2, 2]]),
        ("i,i->", &[&[4], &[4]]),
        ("i,j->ij", &[&[3], &[4]]),
        ("ij->ji", &[&[2, 3]]),
        ("ijk->j", &[&[2, 3, 4]]),
        ("bi,oij,bj->bo", &[&[2, 3], &[4, 3, 2], &[2, 2]]),
        ("...ij,...jk->...ik", &[&[2, 2, 3], &[2, 3, 2]]),
        ("...ij,jk->...ik", &[&[2, 2, 3], &[3, 2]]),
        ("nchw,c->nhw", &[&[2, 3, 2, 2], &[3]]),
        ("ij,ij->ij", &[&[2, 3], &[2, 3]]),
    ];
    let with = |equation: &str, operands: &[&[usize]]| {
        let case = Case::new("Einsum").attribute(attribute::string("equation", equation));
        operands.iter().fold(case, |case, shape| case.input(*shape, -1.0..1.0))
    };
    shapes
        .iter()
        .map(|(equation, operands)| with(equation, operands))
        .collect()
}
