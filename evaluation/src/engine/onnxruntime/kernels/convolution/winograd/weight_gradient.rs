//! The gradient by the weights, with 16 products for the nine numbers of a window instead of 36.
//!
//! The adjoint of the convolution by `g`, in which `dy` is the gradient of a tile of two by two results:
//!
//! ```text
//! dg = Gᵀ [ (A dy Aᵀ) ∘ (Bᵀ d B) ] G
//! ```
//!
//! Summed over tiles, each of the 16 numbers in the brackets is a product of matrices, from tiles to channels. Tiles are taken
//! line by line, some lines at a time, whose numbers lie with those of many channels side by side.

#![expect(
    clippy::inline_always,
    reason = "their instructions are those of the caller, which alone knows the processor"
)]

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::super::super::Parallel;
use super::super::super::scratch::Scratch;
use super::super::super::tile::{Form, lanes};
use super::super::Shapes;
use super::{Factors, PRODUCTS, Rows, pays};
use crate::vectors::vectorized;

/// Tiles that are multiplied together: as many products as stay in the nearest cache.
const TOGETHER: usize = 192;
/// Sums that stay in the second cache.
const SUMS: usize = 1 << 18;

/// `dw`, if it is quicker in this way; says whether it was.
pub(in super::super) fn weight_gradient(
    shapes: &Shapes,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    threads: usize,
    parallel: Parallel<'_>,
) -> bool {
    if !pays(shapes, shapes.to) {
        return false;
    }
    let [rows, breadth] = shapes.to.map(|size| size.div_ceil(2));
    let form = Form::fitting(shapes.outputs, shapes.channels);
    let x = Tiled {
        numbers: x,
        channels: shapes.channels,
        size: shapes.from,
        begin: [shapes.window.begin[0], shapes.window.begin[1]],
        rows,
        breadth,
    };
    let dy = Tiled {
        numbers: dy,
        channels: shapes.outputs,
        size: shapes.to,
        begin: [0, 0],
        rows,
        breadth,
    };
    let (width, height) = (form.width(), form.rows);
    let lines = shapes.images * rows;
    let group = lines.div_ceil(lines.div_ceil((TOGETHER / breadth).max(1)));
    let most = PRODUCTS * group * breadth;
    let panels = shapes.channels.div_ceil(width);
    let tiles = shapes.outputs.div_ceil(height);
    let row = shapes.channels.next_multiple_of(lanes());
    let sums_of_tile = PRODUCTS * height * row;
    let mut columns = Scratch::new(panels * most * width);
    let mut weights = Scratch::new(tiles * most * height);
    let mut sums = Scratch::new(tiles * sums_of_tile);
    // Tiles of outputs whose sums are worked on together, product by product.
    let block = (SUMS / sums_of_tile).clamp(1, tiles.div_ceil(threads));
    let blocks = sums.chunks_mut(block * sums_of_tile);
    let windows = dw.chunks_mut(block * height * shapes.channels * 9);
    let blocks: Vec<_> = blocks.zip(windows).map(Mutex::new).collect();
    for start in (0..lines).step_by(group) {
        let taken = start..(start + group).min(lines);
        let (begins, ends) = (start == 0, taken.end == lines);
        let depth = taken.len() * breadth;
        let (column, weight) = (PRODUCTS * depth * width, PRODUCTS * depth * height);
        let targets = columns[..panels * column].chunks_exact_mut(column).map(Mutex::new);
        let targets: Vec<_> = (targets.enumerate())
            .chain(
                weights[..tiles * weight]
                    .chunks_exact_mut(weight)
                    .map(Mutex::new)
                    .enumerate(),
            )
            .collect();
        parallel(targets.len(), &|index| {
            let (place, target) = &targets[index];
            let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
            if index < panels {
                x.transform(Below, &taken, *place, width, &mut target);
            } else {
                dy.transform(Above, &taken, *place, height, &mut target);
            }
        });
        let factors = Factors::new(form, depth, shapes.channels, &columns);
        let weights = &*weights;
        parallel(blocks.len(), &|index| {
            let mut block_of_sums = blocks[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (sums, windows) = &mut *block_of_sums;
            let first = index * block;
            for product in 0..PRODUCTS {
                let mut rows = Rows {
                    numbers: &mut sums[product * height * row..],
                    count: (shapes.outputs - first * height).min(block * height),
                    apart: row,
                    tiles_apart: sums_of_tile,
                };
                let weights = &weights[first * weight + product * depth * height..];
                factors.multiply(product, weights, &mut rows, begins);
            }
            if ends {
                let tiles = sums.chunks_exact(sums_of_tile);
                for (sums, windows) in tiles.zip(windows.chunks_mut(height * shapes.channels * 9)) {
                    for (m, windows) in windows.chunks_exact_mut(shapes.channels * 9).enumerate() {
                        vectorized(
                            #[inline(always)]
                            || collect(&sums[m * row..], height * row, windows),
                        );
                    }
                }
            }
        });
    }
    true
}

/// Images and the tiles on them.
struct Tiled<'a> {
    /// `[images, channels, H, W]`
    numbers: &'a [f32],
    channels: usize,
    /// `H` and `W`.
    size: [usize; 2],
    /// Zeros before the first row and column.
    begin: [usize; 2],
    /// Rows of tiles, and tiles in a row.
    rows: usize,
    breadth: usize,
}

/// Makes four numbers of the `N` numbers of a tile along an axis, for `K` channels at a time.
trait Transform<const N: usize>: Copy {
    fn apply<const K: usize>(self, d: [[f32; K]; N]) -> [[f32; K]; 4];
}

/// `Bᵀ`
#[derive(Clone, Copy)]
struct Below;

impl Transform<4> for Below {
    #[inline(always)]
    fn apply<const K: usize>(self, d: [[f32; K]; 4]) -> [[f32; K]; 4] {
        let mut result = [[0.0; K]; 4];
        for k in 0..K {
            result[0][k] = d[0][k] - d[2][k];
            result[1][k] = d[1][k] + d[2][k];
            result[2][k] = d[2][k] - d[1][k];
            result[3][k] = d[1][k] - d[3][k];
        }
        result
    }
}

/// `A`
#[derive(Clone, Copy)]
struct Above;

impl Transform<2> for Above {
    #[inline(always)]
    fn apply<const K: usize>(self, d: [[f32; K]; 2]) -> [[f32; K]; 4] {
        let mut result = [[0.0; K]; 4];
        for k in 0..K {
            result[0][k] = d[0][k];
            result[1][k] = d[0][k] + d[1][k];
            result[2][k] = d[0][k] - d[1][k];
            result[3][k] = -d[1][k];
        }
        result
    }
}

impl Tiled<'_> {
    /// The transformed tiles of some lines, with the channels of one panel of `width` side by side, as `[ξ, tiles, width]`;
    /// channels after the last are copies of it.
    fn transform<const N: usize>(
        &self,
        one: impl Transform<N>,
        lines: &Range<usize>,
        panel: usize,
        width: usize,
        target: &mut [f32],
    ) {
        vectorized(
            #[inline(always)]
            || match width {
                _ if width.is_multiple_of(16) => self.by::<16, N>(one, lines, panel * width, width, target),
                _ if width.is_multiple_of(8) => self.by::<8, N>(one, lines, panel * width, width, target),
                _ if width.is_multiple_of(4) => self.by::<4, N>(one, lines, panel * width, width, target),
                _ if width.is_multiple_of(2) => self.by::<2, N>(one, lines, panel * width, width, target),
                _ => self.by::<1, N>(one, lines, panel * width, width, target),
            },
        );
    }

    /// Does it for `K` channels at a time.
    #[inline(always)]
    fn by<const K: usize, const N: usize>(
        &self,
        one: impl Transform<N>,
        lines: &Range<usize>,
        first: usize,
        width: usize,
        target: &mut [f32],
    ) {
        let pitch = (2 * self.breadth + N - 2) * width;
        let product = lines.len() * self.breadth * width;
        let mut pixels = Scratch::new(N * pitch);
        pixels.fill(0.0);
        for (index, line) in lines.clone().enumerate() {
            let (image, line) = (line / self.rows, line % self.rows);
            // The last rows of a line are the first ones of the next.
            let known = if index > 0 && line > 0 { N - 2 } else { 0 };
            pixels.copy_within((N - known) * pitch.., 0);
            for i in known..N {
                let row = (2 * line + i).wrapping_sub(self.begin[0]);
                let pixels = &mut pixels[i * pitch..][..pitch];
                if row < self.size[0] {
                    self.lay::<K>([image, row], first, width, pixels);
                } else {
                    pixels.fill(0.0);
                }
            }
            for tile in 0..self.breadth {
                for at in (0..width).step_by(K) {
                    let mut columns = [[[0.0; K]; 4]; N];
                    for (j, column) in columns.iter_mut().enumerate() {
                        let mut d = [[0.0; K]; N];
                        for (i, d) in d.iter_mut().enumerate() {
                            d.copy_from_slice(&pixels[i * pitch + (2 * tile + j) * width + at..][..K]);
                        }
                        *column = one.apply(d);
                    }
                    for a in 0..4 {
                        let mut d = [[0.0; K]; N];
                        for (d, column) in d.iter_mut().zip(&columns) {
                            *d = column[a];
                        }
                        for (b, numbers) in one.apply(d).iter().enumerate() {
                            let place = (4 * a + b) * product + (index * self.breadth + tile) * width + at;
                            target[place..place + K].copy_from_slice(numbers);
                        }
                    }
                }
            }
        }
    }

    /// Lays a row of an image out with the channels side by side.
    #[inline(always)]
    fn lay<const K: usize>(&self, [image, row]: [usize; 2], first: usize, width: usize, target: &mut [f32]) {
        let [height, breadth] = self.size;
        let target = &mut target[self.begin[1] * width..];
        for at in (0..width).step_by(K) {
            let mut sources: [&[f32]; K] = [&[]; K];
            for (r, source) in sources.iter_mut().enumerate() {
                let channel = (first + at + r).min(self.channels - 1);
                *source = &self.numbers[((image * self.channels + channel) * height + row) * breadth..][..breadth];
            }
            for (place, target) in target.chunks_exact_mut(width).enumerate().take(breadth) {
                let target = &mut target[at..at + K];
                for (target, source) in target.iter_mut().zip(sources) {
                    *target = source[place];
                }
            }
        }
    }
}

/// `Gᵀ [ ] G` of the sums of one output, whose products lie `apart`, as `[C, 3, 3]`.
#[inline(always)]
fn collect(sums: &[f32], apart: usize, windows: &mut [f32]) {
    const K: usize = 16;
    for (block, windows) in windows.chunks_mut(9 * K).enumerate() {
        let count = windows.len() / 9;
        let mut columns = [[[0.0; K]; 3]; 4];
        for (b, column) in columns.iter_mut().enumerate() {
            let mut u = [[0.0; K]; 4];
            for (a, u) in u.iter_mut().enumerate() {
                u[..count].copy_from_slice(&sums[(4 * a + b) * apart + block * K..][..count]);
            }
            *column = gathered(u);
        }
        for i in 0..3 {
            let row = gathered([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
            for (k, window) in windows.chunks_exact_mut(9).enumerate() {
                for j in 0..3 {
                    window[3 * i + j] = row[j][k];
                }
            }
        }
    }
}

/// `Gᵀ` times four numbers.
#[inline(always)]
fn gathered<const K: usize>(u: [[f32; K]; 4]) -> [[f32; K]; 3] {
    let mut result = [[0.0; K]; 3];
    for k in 0..K {
        let (sum, difference) = (0.5 * (u[1][k] + u[2][k]), 0.5 * (u[1][k] - u[2][k]));
        result[0][k] = u[0][k] + sum;
        result[1][k] = difference;
        result[2][k] = sum + u[3][k];
    }
    result
}
