//! Matrix products.

use super::{Context, Gradients, Rule};
use crate::graph::attribute;

pub(super) const RULES: &[(&str, Rule)] = &[("Gemm", gemm), ("MatMul", matmul)];

fn product(c: &mut Context<'_>, a: &str, transpose_a: bool, b: &str, transpose_b: bool, alpha: f32) -> String {
    let mut attributes = Vec::new();
    if transpose_a {
        attributes.push(attribute::int("transA", 1));
    }
    if transpose_b {
        attributes.push(attribute::int("transB", 1));
    }
    if alpha.to_bits() != 1.0_f32.to_bits() {
        attributes.push(attribute::float("alpha", alpha));
    }
    c.op_with("Gemm", &[a, b], attributes)
}

/// `Y = alpha A' B' + beta C`, where the prime is an optional transposition.
fn gemm(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, a, b) = (c.dy()?, c.x(0)?, c.x(1)?);
    let transpose_a = c.node.int("transA").unwrap_or(0) != 0;
    let transpose_b = c.node.int("transB").unwrap_or(0) != 0;
    let alpha = c.node.float("alpha").unwrap_or(1.0);
    let beta = c.node.float("beta").unwrap_or(1.0);
    let mut gradients = vec![None; 3];
    if c.needs(0) {
        gradients[0] = Some(if transpose_a {
            product(c, &b, transpose_b, &dy, true, alpha)
        } else {
            product(c, &dy, false, &b, !transpose_b, alpha)
        });
    }
    if c.needs(1) {
        gradients[1] = Some(if transpose_b {
            product(c, &dy, true, &a, transpose_a, alpha)
        } else {
            product(c, &a, !transpose_a, &dy, false, alpha)
        });
    }
    if c.needs(2) {
        let (from, to) = (c.shape(&c.y()?)?, c.shape(&c.x(2)?)?);
        let sum = c.reduce_to(&dy, &from, &to);
        gradients[2] = Some(if beta.to_bits() == 1.0_f32.to_bits() {
            sum
        } else {
            c.scale(&sum, f64::from(beta))?
        });
    }
    Ok(gradients)
}

/// `numpy.matmul`: vectors become matrices, leading axes are a batch and broadcast.
#[expect(clippy::many_single_char_names, reason = "the names are those of the formula")]
fn matmul(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (mut dy, mut a, mut b) = (c.dy()?, c.x(0)?, c.x(1)?);
    let (a_given, b_given) = (c.shape(&a)?, c.shape(&b)?);
    let (mut a_shape, mut b_shape) = (a_given.clone(), b_given.clone());
    let mut y_shape = c.shape(&c.y()?)?;
    if a_shape.len() == 1 || b_shape.len() == 1 {
        if b_shape.len() == 1 {
            b_shape.push(1);
            y_shape.push(1);
            b = c.reshape(&b, &b_shape);
        }
        if a_shape.len() == 1 {
            a_shape.insert(0, 1);
            y_shape.insert(y_shape.len() - 1, 1);
            a = c.reshape(&a, &a_shape);
        }
        dy = c.reshape(&dy, &y_shape);
    }
    let mut gradients = vec![None, None];
    let (a_rank, b_rank) = (a_shape.len(), b_shape.len());
    if c.needs(0) {
        let gradient = if a_rank == 2 && b_rank == 2 {
            product(c, &dy, false, &b, true, 1.0)
        } else {
            let transposed = transpose_last(c, &b, b_rank);
            c.op("MatMul", &[&dy, &transposed])
        };
        let mut from = y_shape.clone();
        from[y_shape.len() - 1] = a_shape[a_rank - 1];
        let gradient = c.reduce_to(&gradient, &from, &a_shape);
        gradients[0] = Some(if a_shape == a_given {
            gradient
        } else {
            c.reshape(&gradient, &a_given)
        });
    }
    if c.needs(1) {
        let (k, n) = (b_shape[b_rank - 2], b_shape[b_rank - 1]);
        let gradient = if b_rank == 2 {
            // The batch is one tall matrix: a single product sums over it.
            let rows = a_shape.iter().product::<usize>() / k.max(1);
            let (a, dy) = if a_rank == 2 {
                (a, dy)
            } else {
                (c.reshape(&a, &[rows, k]), c.reshape(&dy, &[rows, n]))
            };
            product(c, &a, true, &dy, false, 1.0)
        } else {
            let transposed = transpose_last(c, &a, a_rank);
            let gradient = c.op("MatMul", &[&transposed, &dy]);
            let mut from = y_shape.clone();
            let rank = from.len();
            from[rank - 2] = k;
            from[rank - 1] = n;
            c.reduce_to(&gradient, &from, &b_shape)
        };
        gradients[1] = Some(if b_shape == b_given {
            gradient
        } else {
            c.reshape(&gradient, &b_given)
        });
    }
    Ok(gradients)
}

fn transpose_last(c: &mut Context<'_>, a: &str, rank: usize) -> String {
    let mut order: Vec<i64> = (0..rank as i64).collect();
    order.swap(rank - 2, rank - 1);
    c.op_with("Transpose", &[a], vec![attribute::ints("perm", &order)])
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let mut cases = Vec::new();
    for (transpose_a, transpose_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for bias in [vec![4], vec![3, 1], vec![3, 4], vec![1], vec![]] {
            let a = if transpose_a == 1 { [2, 3] } else { [3, 2] };
            let b = if transpose_b == 1 { [4, 2] } else { [2, 4] };
            cases.push(
                Case::new("Gemm")
                    .input(a, -1.0..1.0)
                    .input(b, -1.0..1.0)
                    .input(bias, -1.0..1.0)
                    .attribute(attribute::int("transA", transpose_a))
                    .attribute(attribute::int("transB", transpose_b))
                    .attribute(attribute::float("alpha", 0.5))
                    .attribute(attribute::float("beta", 1.5)),
            );
        }
    }
    cases.push(Case::new("Gemm").input([3, 2], -1.0..1.0).input([2, 4], -1.0..1.0));
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[3, 2], &[2, 4]),
        (&[5, 3, 2], &[2, 4]),
        (&[5, 3, 2], &[5, 2, 4]),
        (&[3, 2], &[5, 2, 4]),
        (&[6, 1, 3, 2], &[5, 2, 4]),
        (&[2], &[2, 4]),
        (&[3, 2], &[2]),
        (&[2], &[2]),
        (&[5, 3, 2], &[2]),
    ];
    for (a, b) in shapes {
        cases.push(Case::new("MatMul").input(a, -1.0..1.0).input(b, -1.0..1.0));
    }
    cases
}
