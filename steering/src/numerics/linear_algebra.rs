//! Dense algebra for Gaussian processes, with the same bits on every machine.
//!
//! General libraries choose their kernels by the processor they find, and a fused multiplication rounds differently from two
//! steps. Here every sum has a fixed order and is spread over eight partial sums, which compilers turn into vector code without
//! changing a bit.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | A | symmetric positive definite matrix | n × n, rows of the lower triangle one after the other |
//! | L | Cholesky factor, A = L Lᵀ | the same |

use std::sync::OnceLock;

use super::tiles::{Lane, SIDE, Tiles};
use super::vectors::for_this_processor;

/// Partial sums of a scalar product.
const LANES: usize = 8;

for_this_processor! {
    /// Σ aᵢ bᵢ over the common length.
    pub(crate) fn dot<'a>(a: &'a [f64], b: &'a [f64]) -> f64 = inner_product
}

for_this_processor! {
    /// b ← L⁻¹ b.
    fn forward<'a>(rows: &'a [f64], b: &'a mut [f64]) -> () = forward_substitution
}

for_this_processor! {
    /// b ← L⁻ᵀ b.
    fn backward<'a>(rows: &'a [f64], b: &'a mut [f64]) -> () = backward_substitution
}

#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
fn inner_product(a: &[f64], b: &[f64]) -> f64 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + rest
}

#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn forward_substitution(rows: &[f64], b: &mut [f64]) {
    for i in 0..b.len() {
        let row = &rows[row_start(i)..row_start(i + 1)];
        b[i] = (b[i] - inner_product(&row[..i], &b[..i])) / row[i];
    }
}

#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn backward_substitution(rows: &[f64], b: &mut [f64]) {
    for i in (0..b.len()).rev() {
        let row = &rows[row_start(i)..row_start(i + 1)];
        let x = b[i] / row[i];
        b[i] = x;
        add_scaled(&mut b[..i], -x, &row[..i]);
    }
}

/// y ← y + s x.
#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
pub(crate) fn add_scaled(y: &mut [f64], s: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += s * x;
    }
}

/// Where row `i` of a packed lower triangle begins.
pub(crate) fn row_start(i: usize) -> usize {
    i * (i + 1) / 2
}

/// The Cholesky factor of a matrix that can grow row by row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cholesky {
    n: usize,
    rows: Vec<f64>,
    /// The same in tiles, once they are wanted.
    tiles: OnceLock<Tiles>,
}

impl Cholesky {
    /// Factors the packed lower triangle `a` of order `n`; nothing if it is not positive definite in double precision.
    pub(crate) fn new(mut a: Vec<f64>, n: usize) -> Option<Self> {
        let mut tiles = Tiles::new(&a, n);
        if !tiles.factor() {
            return None;
        }
        tiles.unpack(&mut a, n);
        Some(Self {
            n,
            rows: a,
            tiles: OnceLock::from(tiles),
        })
    }

    /// Adds a row and column to A: its products with the old rows and its diagonal. A diagonal that would not leave A positive
    /// definite is raised to the least that does.
    pub(crate) fn append(&mut self, covariances: &[f64], diagonal: f64) {
        let mut row = covariances.to_vec();
        self.solve_lower(&mut row);
        let pivot = (diagonal - dot(&row, &row)).max(1e-10 * diagonal);
        self.rows.extend_from_slice(&row);
        self.rows.push(pivot.sqrt());
        self.n += 1;
        self.tiles = OnceLock::new();
    }

    /// b ← L⁻¹ b.
    pub(crate) fn solve_lower(&self, b: &mut [f64]) {
        forward(&self.rows, &mut b[..self.n]);
    }

    /// b ← L⁻¹ b for many b at a time, which costs much less than one after the other.
    pub(crate) fn solve_lower_all(&self, right: &mut [Vec<f64>]) {
        self.in_lanes(right, Tiles::solve_lower);
    }

    /// b ← L⁻ᵀ b for many b at a time.
    pub(crate) fn solve_upper_all(&self, right: &mut [Vec<f64>]) {
        self.in_lanes(right, Tiles::solve_upper);
    }

    fn in_lanes(&self, right: &mut [Vec<f64>], solve: impl Fn(&Tiles, &mut [Lane])) {
        let mut x: Vec<Lane> = Vec::new();
        for group in right.chunks_mut(SIDE) {
            x.clear();
            x.resize(self.n.next_multiple_of(SIDE), [0.0; SIDE]);
            for (c, b) in group.iter().enumerate() {
                for (lane, value) in x.iter_mut().zip(b) {
                    lane[c] = *value;
                }
            }
            solve(self.tiles(), &mut x);
            for (c, b) in group.iter_mut().enumerate() {
                for (lane, value) in x.iter().zip(b) {
                    *value = lane[c];
                }
            }
        }
    }

    fn tiles(&self) -> &Tiles {
        self.tiles.get_or_init(|| Tiles::new(&self.rows, self.n))
    }

    /// b ← L⁻ᵀ b.
    pub(crate) fn solve_upper(&self, b: &mut [f64]) {
        backward(&self.rows, &mut b[..self.n]);
    }

    /// ln det A.
    pub(crate) fn log_determinant(&self) -> f64 {
        2.0 * (0..self.n).map(|i| libm::log(self.row(i)[i])).sum::<f64>()
    }

    /// The packed lower triangle of A⁻¹.
    pub(crate) fn inverse(&self) -> Vec<f64> {
        self.tiles().inverse(self.n)
    }

    /// Row `i` of L, up to its diagonal.
    pub(crate) fn row(&self, i: usize) -> &[f64] {
        &self.rows[row_start(i)..row_start(i + 1)]
    }
}

/// y = A x for a packed lower triangle.
pub(crate) fn symmetric_times(a: &[f64], x: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for i in 0..x.len() {
        let row = &a[row_start(i)..row_start(i + 1)];
        y[i] += dot(row, &x[..=i]);
        add_scaled(&mut y[..i], x[i], &row[..i]);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(n: usize) -> Vec<f64> {
        let mut a = Vec::new();
        for i in 0..n {
            for j in 0..=i {
                a.push(libm::exp(-0.3 * (i - j) as f64) + if i == j { 0.1 } else { 0.0 });
            }
        }
        a
    }

    fn entry(a: &[f64], i: usize, j: usize) -> f64 {
        a[row_start(i.max(j)) + i.min(j)]
    }

    #[test]
    fn the_factor_multiplies_back_to_the_matrix() {
        let a = example(21);
        let factor = Cholesky::new(a.clone(), 21).unwrap();
        for i in 0..21 {
            for j in 0..=i {
                assert!((dot(factor.row(i), factor.row(j)) - entry(&a, i, j)).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn the_inverse_times_the_matrix_is_the_identity() {
        let a = example(19);
        let inverse = Cholesky::new(a.clone(), 19).unwrap().inverse();
        for j in 0..19 {
            let column: Vec<f64> = (0..19).map(|i| entry(&inverse, i, j)).collect();
            for (i, value) in symmetric_times(&a, &column).iter().enumerate() {
                assert!(
                    (value - if i == j { 1.0 } else { 0.0 }).abs() < 1e-12,
                    "{i} {j} {value}"
                );
            }
        }
    }

    #[test]
    fn both_solves_together_solve_the_system_and_the_determinant_is_right() {
        let a = example(12);
        let factor = Cholesky::new(a.clone(), 12).unwrap();
        let b: Vec<f64> = (0..12).map(|i| f64::from(i) - 4.0).collect();
        let mut x = b.clone();
        factor.solve_lower(&mut x);
        factor.solve_upper(&mut x);
        for (found, wanted) in symmetric_times(&a, &x).iter().zip(&b) {
            assert!((found - wanted).abs() < 1e-12);
        }
        let two = Cholesky::new(vec![2.0, 1.0, 3.0], 2).unwrap();
        assert!((two.log_determinant() - libm::log(5.0)).abs() < 1e-15);
    }

    #[test]
    fn many_right_hand_sides_at_a_time_have_the_solutions_of_each() {
        let factor = Cholesky::new(example(21), 21).unwrap();
        let right = |c: usize| -> Vec<f64> { (0..21).map(|i| ((i * 7 + c * 3) % 11) as f64 - 5.0).collect() };
        let mut all: Vec<Vec<f64>> = (0..11).map(right).collect();
        factor.solve_lower_all(&mut all);
        for (c, found) in all.iter().enumerate() {
            let mut wanted = right(c);
            factor.solve_lower(&mut wanted);
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!((found - wanted).abs() < 1e-12 * wanted.abs().max(1.0));
            }
        }
        let mut all: Vec<Vec<f64>> = (0..11).map(right).collect();
        factor.solve_upper_all(&mut all);
        for (c, found) in all.iter().enumerate() {
            let mut wanted = right(c);
            factor.solve_upper(&mut wanted);
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!((found - wanted).abs() < 1e-12 * wanted.abs().max(1.0));
            }
        }
    }

    #[test]
    fn a_factor_grown_row_by_row_is_the_factor_of_the_whole() {
        let a = example(9);
        let whole = Cholesky::new(a.clone(), 9).unwrap();
        let mut grown = Cholesky::new(a[..row_start(5)].to_vec(), 5).unwrap();
        for i in 5..9 {
            let row = &a[row_start(i)..row_start(i + 1)];
            grown.append(&row[..i], row[i]);
        }
        assert_eq!(grown.n, 9);
        for (found, wanted) in grown.rows.iter().zip(&whole.rows) {
            assert!((found - wanted).abs() < 1e-14);
        }
    }

    #[test]
    fn an_indefinite_matrix_has_no_factor() {
        assert!(Cholesky::new(vec![1.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::new(vec![f64::NAN], 1).is_none());
    }
}
