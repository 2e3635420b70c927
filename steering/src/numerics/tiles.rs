//! Triangular matrices in tiles of eight by eight, for factors and inverses at the speed of the processor.
//!
//! Every entry is one sum in a fixed order, whatever the vectors of the processor: the same bits on every machine.
//!
//! | symbol | meaning | layout |
//! | --- | --- | --- |
//! | N | order of the matrix, filled up to a multiple of eight with rows of the unit matrix | |
//! | L | lower triangle | blocks of eight rows one after the other, each by columns up to its diagonal: one [`Lane`] for eight rows |
//! | M | L⁻¹ | blocks of eight columns one after the other, each by rows from its diagonal: one [`Lane`] for eight columns |
//! | X | right-hand sides, eight at a time | one [`Lane`] for each of the N rows |

use super::linear_algebra::row_start;
use super::vectors::for_this_processor;

/// Rows and columns of a tile.
pub(super) const SIDE: usize = 8;
/// Numbers that one vector instruction, or a few, treat alike.
pub(super) type Lane = [f64; SIDE];
type Tile = [Lane; SIDE];

/// L.
#[derive(Debug, Clone)]
pub(super) struct Tiles {
    blocks: usize,
    lanes: Vec<Lane>,
}

impl Tiles {
    /// The tiles of the packed lower triangle `packed` of order `n`.
    pub(super) fn new(packed: &[f64], n: usize) -> Self {
        let blocks = n.div_ceil(SIDE);
        let mut lanes = vec![[0.0; SIDE]; block_start(blocks)];
        for i in 0..n {
            let begin = block_start(i / SIDE);
            let row = &packed[row_start(i)..row_start(i + 1)];
            for (lane, value) in lanes[begin..].iter_mut().zip(row) {
                lane[i % SIDE] = *value;
            }
        }
        for i in n..blocks * SIDE {
            lanes[block_start(i / SIDE) + i][i % SIDE] = 1.0;
        }
        Self { blocks, lanes }
    }

    /// Writes the first rows back to a packed lower triangle.
    pub(super) fn unpack(&self, packed: &mut [f64], n: usize) {
        for i in 0..n {
            let lanes = &self.lanes[block_start(i / SIDE)..];
            for (value, lane) in packed[row_start(i)..row_start(i + 1)].iter_mut().zip(lanes) {
                *value = lane[i % SIDE];
            }
        }
    }

    /// Replaces A by its Cholesky factor; whether it is positive definite in double precision.
    pub(super) fn factor(&mut self) -> bool {
        factor(&mut self.lanes, self.blocks)
    }

    /// The packed lower triangle of (L Lᵀ)⁻¹, of order `n`.
    pub(super) fn inverse(&self, n: usize) -> Vec<f64> {
        let mut packed = vec![0.0; row_start(n)];
        invert(&self.lanes, self.blocks, &mut packed);
        packed
    }

    /// X ← L⁻¹ X.
    pub(super) fn solve_lower(&self, x: &mut [Lane]) {
        solve(&self.lanes, self.blocks, x);
    }

    /// X ← L⁻ᵀ X.
    pub(super) fn solve_upper(&self, x: &mut [Lane]) {
        solve_transposed(&self.lanes, self.blocks, x);
    }
}

for_this_processor! {
    fn factor<'a>(lanes: &'a mut [Lane], blocks: usize) -> bool = factor_here
}

for_this_processor! {
    fn invert<'a>(lanes: &'a [Lane], blocks: usize, packed: &'a mut [f64]) -> () = invert_here
}

for_this_processor! {
    fn solve<'a>(lanes: &'a [Lane], blocks: usize, x: &'a mut [Lane]) -> () = solve_here
}

for_this_processor! {
    fn solve_transposed<'a>(lanes: &'a [Lane], blocks: usize, x: &'a mut [Lane]) -> () = solve_transposed_here
}

/// Where the block of rows `block` begins.
fn block_start(block: usize) -> usize {
    SIDE * block * (block + 1) / 2
}

#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
fn factor_here(lanes: &mut [Lane], blocks: usize) -> bool {
    for block in 0..blocks {
        let (before, below) = lanes.split_at_mut(block_start(block + 1));
        let own = &mut before[block_start(block)..];
        let (known, diagonal) = own.split_at_mut(SIDE * block);
        let sums = products(known, known);
        let mut whole = [0.0; SIDE];
        for (c, (column, sum)) in diagonal.iter_mut().zip(&sums).enumerate() {
            whole[c] = column[c];
            add(column, -1.0, sum);
        }
        if !factor_tile(diagonal, &whole) {
            return false;
        }
        for other in block + 1..blocks {
            let begin = block_start(other) - block_start(block + 1);
            let (left, right) = below[begin..begin + SIDE * (block + 1)].split_at_mut(SIDE * block);
            let sums = products(left, known);
            for (column, sum) in right.iter_mut().zip(&sums) {
                add(column, -1.0, sum);
            }
            for (c, pivots) in diagonal.iter().enumerate() {
                let (solved, rest) = right.split_at_mut(c);
                for (known, column) in diagonal.iter().zip(solved.iter()) {
                    add(&mut rest[0], -known[c], column);
                }
                scale(&mut rest[0], 1.0 / pivots[c]);
            }
        }
    }
    true
}

/// The factor of the tile on the diagonal, by columns; whether its pivots are more than rounding errors of what A has there.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn factor_tile(tile: &mut [Lane], whole: &Lane) -> bool {
    for c in 0..SIDE {
        let (solved, rest) = tile.split_at_mut(c);
        let column = &mut rest[0];
        for other in solved.iter() {
            add(column, -other[c], other);
        }
        let pivot = column[c];
        if pivot.is_nan() || pivot <= 1e-14 * whole[c].abs() {
            return false;
        }
        scale(column, 1.0 / pivot.sqrt());
        column[c] = pivot.sqrt();
    }
    true
}

/// The packed (L Lᵀ)⁻¹.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn invert_here(lanes: &[Lane], blocks: usize, packed: &mut [f64]) {
    square(&inverse_columns(lanes, blocks), blocks, packed);
}

/// X ← L⁻¹ X.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn solve_here(lanes: &[Lane], blocks: usize, x: &mut [Lane]) {
    for block in 0..blocks {
        let own = &lanes[block_start(block)..block_start(block + 1)];
        let (known, rest) = x.split_at_mut(SIDE * block);
        let sums = products(known, own);
        let right = &mut rest[..SIDE];
        for (value, sum) in right.iter_mut().zip(&sums) {
            add(value, -1.0, sum);
        }
        solve_tile(&own[SIDE * block..], right);
    }
}

/// X ← L⁻ᵀ X.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn solve_transposed_here(lanes: &[Lane], blocks: usize, x: &mut [Lane]) {
    for block in (0..blocks).rev() {
        let own = &lanes[block_start(block)..block_start(block + 1)];
        let (above, rest) = x.split_at_mut(SIDE * block);
        let (left, tile) = own.split_at(SIDE * block);
        let mut right: Tile = [[0.0; SIDE]; SIDE];
        right.copy_from_slice(&rest[..SIDE]);
        for row in (0..SIDE).rev() {
            for below in row + 1..SIDE {
                let known = right[below];
                add(&mut right[row], -tile[row][below], &known);
            }
            scale(&mut right[row], 1.0 / tile[row][row]);
        }
        rest[..SIDE].copy_from_slice(&right);
        for (value, column) in above.iter_mut().zip(left) {
            for (entry, known) in column.iter().zip(&right) {
                add(value, -entry, known);
            }
        }
    }
}

/// M.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn inverse_columns(lanes: &[Lane], blocks: usize) -> Vec<Lane> {
    let mut columns: Vec<Lane> = Vec::with_capacity(block_start(blocks));
    for first in 0..blocks {
        let begin = columns.len();
        for block in first..blocks {
            let own = &lanes[block_start(block)..block_start(block + 1)];
            let sums = products(&columns[begin..], &own[SIDE * first..]);
            let mut right: Tile = [[0.0; SIDE]; SIDE];
            for (row, (value, sum)) in right.iter_mut().zip(&sums).enumerate() {
                if block == first {
                    value[row] = 1.0;
                }
                add(value, -1.0, sum);
            }
            solve_tile(&own[SIDE * block..], &mut right);
            columns.extend_from_slice(&right);
        }
    }
    columns
}

/// Mᵀ M into a packed lower triangle.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn square(columns: &[Lane], blocks: usize, packed: &mut [f64]) {
    let start = |block: usize| SIDE * (block * blocks - block * block.saturating_sub(1) / 2);
    for first in 0..blocks {
        let left = &columns[start(first)..start(first + 1)];
        for block in first..blocks {
            let own = &columns[start(block)..start(block + 1)];
            let sums = products(own, &left[SIDE * (block - first)..]);
            for (c, sum) in sums.iter().enumerate() {
                for (l, value) in sum.iter().enumerate() {
                    let (row, column) = (SIDE * block + l, SIDE * first + c);
                    if column <= row && row_start(row) + column < packed.len() {
                        packed[row_start(row) + column] = *value;
                    }
                }
            }
        }
    }
}

/// X ← L⁻¹ X for one tile L by columns and X by rows.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn solve_tile(tile: &[Lane], x: &mut [Lane]) {
    for (row, pivots) in tile[..SIDE].iter().enumerate() {
        let (solved, rest) = x.split_at_mut(row);
        for (column, other) in tile.iter().zip(solved.iter()) {
            add(&mut rest[0], -column[row], other);
        }
        scale(&mut rest[0], 1.0 / pivots[row]);
    }
}

/// Σₖ aₖ bₖᵀ over the common length: lane c holds Σₖ aₖ bₖ\[c\].
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn products(a: &[Lane], b: &[Lane]) -> Tile {
    let (low, high) = (half::<0>(a, b), half::<4>(a, b));
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}

/// Half of a tile: its sums have room in the registers of a processor.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn half<const FIRST: usize>(a: &[Lane], b: &[Lane]) -> [Lane; 4] {
    let mut sums = [[0.0; SIDE]; 4];
    for (a, b) in a.iter().zip(b) {
        for c in 0..4 {
            let factor = b[FIRST + c];
            for l in 0..SIDE {
                sums[c][l] += a[l] * factor;
            }
        }
    }
    sums
}

#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn add(y: &mut Lane, s: f64, x: &Lane) {
    for l in 0..SIDE {
        y[l] += s * x[l];
    }
}

#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn scale(x: &mut Lane, s: f64) {
    for value in x {
        *value *= s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_vectors_give_the_bits_of_narrow_ones() {
        let n = 43;
        let entry = |i: usize, j: usize| libm::exp(-0.07 * (i - j) as f64) + if i == j { 0.3 } else { 0.0 };
        let packed: Vec<f64> = (0..n).flat_map(|i| (0..=i).map(move |j| entry(i, j))).collect();
        let (mut wide, mut narrow) = (Tiles::new(&packed, n), Tiles::new(&packed, n));
        assert!(wide.factor() && factor_here(&mut narrow.lanes, narrow.blocks));
        let bits = |tiles: &Tiles| {
            let mut packed = packed.clone();
            tiles.unpack(&mut packed, n);
            packed.iter().map(|value| value.to_bits()).collect::<Vec<u64>>()
        };
        assert_eq!(bits(&wide), bits(&narrow));
        let mut inverse = vec![0.0; packed.len()];
        invert_here(&narrow.lanes, narrow.blocks, &mut inverse);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>();
        assert_eq!(bits(&wide.inverse(n)), bits(&inverse));
    }
}
