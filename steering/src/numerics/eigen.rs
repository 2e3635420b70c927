//! Eigenvalues and eigenvectors of a symmetric matrix by Jacobi's method.
//!
//! G. H. Golub, C. F. Van Loan, *Matrix Computations*, 4th edition, section 8.5. Slower than methods through a tridiagonal form by
//! a small factor, but the order of every operation is plain to see and only square roots are needed: the same bits everywhere.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | A | symmetric matrix, row by row | n × n |
//! | V | eigenvectors, one per column | n × n |
//! | d | eigenvalues, in the order of the columns of V | n |

/// Rounds over all pairs; convergence is quadratic, ten rounds are never needed in practice.
const SWEEPS: usize = 40;

/// (d, V) with A = V diag(d) Vᵀ.
pub(crate) fn symmetric(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut v = vec![0.0; n * n];
    for i in 0..n {
        v[i * n + i] = 1.0;
    }
    let scale: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..SWEEPS {
        let off: f64 = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i * n + j] * a[i * n + j])
            .sum();
        if off <= 1e-30 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut v, n, p, q);
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), v)
}

/// Makes the element (p, q) zero by a rotation of the two axes.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let off = matrix[p * n + q];
    if off.abs() <= f64::MIN_POSITIVE {
        return;
    }
    let theta = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * off);
    // The smaller of the two angles; for a huge θ its square would overflow.
    let tangent = if theta.abs() > 1e150 {
        0.5 / theta
    } else {
        theta.signum() / (theta.abs() + libm::sqrt(theta * theta + 1.0))
    };
    let cosine = 1.0 / libm::sqrt(tangent * tangent + 1.0);
    let sine = tangent * cosine;
    for k in 0..n {
        let (kp, kq) = (matrix[k * n + p], matrix[k * n + q]);
        matrix[k * n + p] = cosine * kp - sine * kq;
        matrix[k * n + q] = sine * kp + cosine * kq;
    }
    for k in 0..n {
        let (pk, qk) = (matrix[p * n + k], matrix[q * n + k]);
        matrix[p * n + k] = cosine * pk - sine * qk;
        matrix[q * n + k] = sine * pk + cosine * qk;
    }
    for k in 0..n {
        let (kp, kq) = (vectors[k * n + p], vectors[k * n + q]);
        vectors[k * n + p] = cosine * kp - sine * kq;
        vectors[k * n + q] = sine * kp + cosine * kq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_multiply_back_and_the_vectors_are_orthonormal() {
        let n = 7;
        let entry = |i: usize, j: usize| libm::sin((i * j + i + j) as f64) + if i == j { i as f64 } else { 0.0 };
        let a: Vec<f64> = (0..n * n).map(|k| entry(k / n, k % n)).collect();
        let (d, v) = symmetric(&a, n);
        for i in 0..n {
            for j in 0..n {
                let back: f64 = (0..n).map(|k| v[i * n + k] * d[k] * v[j * n + k]).sum();
                let unit: f64 = (0..n).map(|k| v[k * n + i] * v[k * n + j]).sum();
                assert!((back - a[i * n + j]).abs() < 1e-12, "{i} {j}");
                assert!((unit - f64::from(u8::from(i == j))).abs() < 1e-13, "{i} {j}");
            }
        }
    }

    #[test]
    fn known_eigenvalues_are_found() {
        let (mut d, _) = symmetric(&[2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0], 3);
        d.sort_by(f64::total_cmp);
        for (found, expected) in d.iter().zip([2.0 - libm::sqrt(2.0), 2.0, 2.0 + libm::sqrt(2.0)]) {
            assert!((found - expected).abs() < 1e-14);
        }
        assert_eq!(symmetric(&[], 0).0.len(), 0);
    }
}
