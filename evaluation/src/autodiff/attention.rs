//! Scaled dot-product attention, written out (Vaswani et al. 2017, eq. 1; grouped heads of Ainslie et al. 2023).
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `q` | queries of `h` heads | `[B, h, S, D]` |
//! | `k`, `v` | keys and values of `g` heads | `[B, g, L, D]`, `[B, g, L, E]` |

use super::{Context, Expansion, Rule};
use crate::graph::{ElementType, Elements, Tensor, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[];
pub(super) const EXPANSIONS: &[(&str, Expansion)] = &[("Attention", attention)];

/// An input with the heads on an axis of their own.
fn heads(c: &mut Context<'_>, input: usize, count: Option<i64>) -> Result<String, String> {
    let x = c.x(input)?;
    let shape = c.shape(&x)?;
    if shape.len() == 4 {
        return Ok(x);
    }
    let count = count.ok_or("with three axes it needs the number of heads")? as usize;
    let apart = c.reshape(&x, &[shape[0], shape[1], count, shape[2] / count]);
    Ok(c.op_with("Transpose", &[&apart], vec![attribute::ints("perm", &[0, 2, 1, 3])]))
}

/// Repeats each head of keys or values for the heads of queries that share it.
fn repeat_heads(c: &mut Context<'_>, x: &str, wanted: usize) -> Result<String, String> {
    let shape = c.shape(x)?;
    let times = wanted / shape[1];
    if times == 1 {
        return Ok(x.to_owned());
    }
    let apart = c.reshape(x, &[shape[0], shape[1], 1, shape[2], shape[3]]);
    let repeated = c.expand(&apart, &[shape[0], shape[1], times, shape[2], shape[3]]);
    Ok(c.reshape(&repeated, &[shape[0], wanted, shape[2], shape[3]]))
}

#[expect(clippy::many_single_char_names, reason = "the names are those of the formula")]
fn attention(c: &mut Context<'_>) -> Result<Vec<String>, String> {
    if (4..c.node.inputs.len()).any(|input| c.node.input(input).is_some()) {
        return Err(
            "past keys, past values and their lengths are for inference; export the model without a cache".into(),
        );
    }
    if (1..c.node.outputs.len()).any(|output| c.node.output(output).is_some()) {
        return Err("only its first output may be used".into());
    }
    let is_flat = c.shape(&c.x(0)?)?.len() == 3;
    let (q_heads, kv_heads) = (c.node.int("q_num_heads"), c.node.int("kv_num_heads"));
    let (q, k, v) = (heads(c, 0, q_heads)?, heads(c, 1, kv_heads)?, heads(c, 2, kv_heads)?);
    let q_shape = c.shape(&q)?;
    let (k, v) = (repeat_heads(c, &k, q_shape[1])?, repeat_heads(c, &v, q_shape[1])?);
    let (k_shape, v_shape) = (c.shape(&k)?, c.shape(&v)?);
    let (queries, keys) = (q_shape[2], k_shape[2]);

    let scale = c
        .node
        .float("scale")
        .map_or(1.0 / (q_shape[3] as f64).sqrt(), f64::from);
    let q = c.scale(&q, scale)?;
    let k = c.op_with("Transpose", &[&k], vec![attribute::ints("perm", &[0, 1, 3, 2])]);
    let mut weights = c.op("MatMul", &[&q, &k]);
    if let Some(cap) = c.node.float("softcap").map(f64::from).filter(|cap| *cap > 0.0) {
        let shrunk = c.scale(&weights, 1.0 / cap)?;
        let bent = c.op("Tanh", &[&shrunk]);
        weights = c.scale(&bent, cap)?;
    }
    if let Some(mask) = c.node.input(3).map(str::to_owned) {
        let bias = if c.type_of(&mask)?.element == ElementType::Bool {
            let (zero, never) = (c.scalar(0.0)?, c.scalar(f64::NEG_INFINITY)?);
            c.op("Where", &[&mask, &zero, &never])
        } else {
            mask
        };
        weights = c.add(&weights, &bias);
    }
    if c.node.int("is_causal").unwrap_or(0) != 0 {
        let seen = (0..queries)
            .flat_map(|query| (0..keys).map(move |key| if key <= query { 0.0 } else { f64::NEG_INFINITY }))
            .collect();
        let seen = Tensor::new([queries, keys], Elements::F64(seen)).cast_float(c.element()?);
        let seen = c.builder.constant(seen);
        weights = c.add(&weights, &seen);
    }
    let weights = c.op_with("Softmax", &[&weights], vec![attribute::int("axis", -1)]);
    let mut y = c.op("MatMul", &[&weights, &v]);
    if is_flat {
        let apart = c.op_with("Transpose", &[&y], vec![attribute::ints("perm", &[0, 2, 1, 3])]);
        y = c.reshape(&apart, &[q_shape[0], queries, q_shape[1] * v_shape[3]]);
    }
    Ok(vec![y])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let case = |q: &[usize], k: &[usize], v: &[usize]| {
        Case::new("Attention")
            .input(q, -1.0..1.0)
            .input(k, -1.0..1.0)
            .input(v, -1.0..1.0)
            .opset(23)
    };
    let plain = || case(&[2, 2, 3, 4], &[2, 2, 5, 4], &[2, 2, 5, 3]);
    let mask = (0..15).map(|at| at % 4 != 1).collect();
    vec![
        plain(),
        plain().attribute(attribute::float("scale", 0.3)),
        plain().attribute(attribute::float("softcap", 0.5)),
        plain().constant(Tensor::new([3, 5], Elements::Bool(mask))),
        plain().input([1, 2, 3, 5], -1.0..1.0),
        case(&[1, 2, 4, 2], &[1, 2, 4, 2], &[1, 2, 4, 2]).attribute(attribute::int("is_causal", 1)),
        case(&[1, 4, 3, 2], &[1, 2, 3, 2], &[1, 2, 3, 2]),
        case(&[2, 3, 4], &[2, 5, 4], &[2, 5, 6])
            .attribute(attribute::int("q_num_heads", 2))
            .attribute(attribute::int("kv_num_heads", 2)),
        case(&[1, 3, 8], &[1, 4, 4], &[1, 4, 2])
            .attribute(attribute::int("q_num_heads", 4))
            .attribute(attribute::int("kv_num_heads", 2)),
    ]
}
