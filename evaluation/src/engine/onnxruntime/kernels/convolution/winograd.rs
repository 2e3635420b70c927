//! Convolutions with windows of three by three, with 16 products for four results instead of 36.
//!
//! `F(2×2, 3×3)` of Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", §4.1: with `d` the four by four
//! numbers below a tile of two by two results and `g` a window,
//!
//! ```text
//! y = Aᵀ [ (G g Gᵀ) ∘ (Bᵀ d B) ] A
//! ```
//!
//! Summed over channels, each of the 16 numbers in the brackets is a product of matrices. The transforms add, subtract and
//! halve: their rounding is that of a sum of a few numbers more.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `T` | tiles of an image, `t` of them in a row |
//! | `ξ` | one of the 16 products, `4 a + b` |
//! | `C`, `M` | channels of source and target |

#![expect(
    clippy::inline_always,
    reason = "their instructions are those of the caller, which alone knows the processor"
)]
mod lines;
mod weight_gradient;

use std::sync::{Mutex, PoisonError};

use pulp::{Simd, WithSimd};

use self::lines::{add, subtract, three};
pub(super) use self::weight_gradient::weight_gradient;
use super::super::Parallel;
use super::super::packing::packed;
use super::super::scratch::Scratch;
use super::super::tile::{Correlation, Form, lanes};
use super::{DEPTH, Shapes, group_size, groups};
use crate::vectors::{machine, vectorized};

/// Products of a tile.
const PRODUCTS: usize = 16;
/// Channels from which on the products outweigh the transforms.
const CHANNELS: usize = 32;
/// Tiles of a batch from which on they outweigh the transform of the weights.
const TILES: usize = 192;
/// Most tiles of an image: more would not stay in the second cache from one step to the next.
const LARGEST: usize = 1024;
/// Numbers of weights that are multiplied with a panel while it stays in the nearest cache.
const BLOCK: usize = 1 << 15;
/// Numbers of a group of images in the 16 planes, before and after the products.
const GROUP: usize = 1 << 18;

/// A convolution with windows of three by three and steps of one.
pub(super) struct Winograd<'a> {
    channels: usize,
    outputs: usize,
    from: [usize; 2],
    to: [usize; 2],
    /// Zeros before the first row and column.
    begin: [usize; 2],
    /// `[M, C, 3, 3]`, or, turned around, `[C, M, 3, 3]`.
    weights: &'a [f32],
    turned: bool,
    bias: Option<&'a [f32]>,
}

fn pays(shapes: &Shapes, to: [usize; 2]) -> bool {
    let tiles = to[0].div_ceil(2) * to[1].div_ceil(2);
    let window = &shapes.window;
    [&window.kernel, &window.strides, &window.dilations]
        .iter()
        .zip([3, 1, 1])
        .all(|(list, wanted)| list.iter().all(|size| *size == wanted))
        && window.begin.iter().all(|begin| *begin <= 2)
        && shapes.channels.min(shapes.outputs) >= CHANNELS
        && tiles <= LARGEST
        && tiles * shapes.images >= TILES
}

impl<'a> Winograd<'a> {
    /// `y = x * w + bias`, if it is quicker in this way.
    pub(super) fn forward(shapes: &Shapes, w: &'a [f32], bias: Option<&'a [f32]>) -> Option<Self> {
        pays(shapes, shapes.to).then(|| Self {
            channels: shapes.channels,
            outputs: shapes.outputs,
            from: shapes.from,
            to: shapes.to,
            begin: [shapes.window.begin[0], shapes.window.begin[1]],
            weights: w,
            turned: false,
            bias,
        })
    }

    /// `dx`, the convolution of `dy` with the turned windows, if it is quicker in this way.
    pub(super) fn input_gradient(shapes: &Shapes, w: &'a [f32]) -> Option<Self> {
        pays(shapes, shapes.from).then(|| Self {
            channels: shapes.outputs,
            outputs: shapes.channels,
            from: shapes.to,
            to: shapes.from,
            begin: [2 - shapes.window.begin[0], 2 - shapes.window.begin[1]],
            weights: w,
            turned: true,
            bias: None,
        })
    }

    /// Rows and columns of tiles.
    fn tiles(&self) -> [usize; 2] {
        self.to.map(|size| size.div_ceil(2))
    }

    pub(super) fn run(
        &self,
        images: usize,
        source: &[f32],
        target: &mut [f32],
        threads: usize,
        parallel: Parallel<'_>,
    ) {
        let area: usize = self.tiles().iter().product();
        let from = self.channels * self.from[0] * self.from[1];
        let to = self.outputs * self.to[0] * self.to[1];
        let most = GROUP / PRODUCTS / (self.channels + self.outputs) / area;
        let group = group_size(images, most, threads);
        let form = Form::fitting(self.outputs, group * area);
        let mut weights = Scratch::new(PRODUCTS * packed(self.outputs, self.channels, form.rows));
        self.transform_weights(form.rows, &mut weights, parallel);
        let groups = groups(source, target, [from, to], group);
        let weights = &*weights;
        parallel(groups.len(), &|index| {
            let (source, target) = &groups[index];
            let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
            let columns = source.len() / from * area;
            let panels = columns.div_ceil(form.width());
            let mut before = Scratch::new(PRODUCTS * panels * form.width() * self.channels);
            machine().dispatch(TransformImages {
                shape: self,
                source,
                width: form.width(),
                target: &mut before,
            });
            let row = columns.next_multiple_of(lanes());
            let mut after = Scratch::new(PRODUCTS * self.outputs * row);
            let factors = Factors::new(form, self.channels, columns, &before);
            self.multiply(&factors, weights, &mut after, row);
            machine().dispatch(TransformSums {
                shape: self,
                sums: &after,
                row,
                target: &mut target,
            });
        });
    }

    /// `G g Gᵀ` of all windows as `[tiles of rows, ξ, channels, rows]`.
    fn transform_weights(&self, rows: usize, target: &mut [f32], parallel: Parallel<'_>) {
        let tiles = target.chunks_exact_mut(PRODUCTS * self.channels * rows);
        let tiles: Vec<Mutex<&mut [f32]>> = tiles.map(Mutex::new).collect();
        parallel(tiles.len(), &|tile| {
            let mut target = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
            match rows {
                4 => self.tile::<4>(tile, &mut target),
                6 => self.tile::<6>(tile, &mut target),
                8 => self.tile::<8>(tile, &mut target),
                _ => self.tile::<12>(tile, &mut target),
            }
        });
    }

    /// Those of `R` outputs; what is after the last output is a copy of it.
    fn tile<const R: usize>(&self, tile: usize, target: &mut [f32]) {
        let product = self.channels * R;
        let outputs: [usize; R] = std::array::from_fn(|r| (tile * R + r).min(self.outputs - 1));
        vectorized(
            #[inline(always)]
            || {
                for channel in 0..self.channels {
                    let mut g = [[0.0; R]; 9];
                    for r in 0..R {
                        let window: &[f32; 9] = if self.turned {
                            &self.weights.as_chunks().0[channel * self.outputs + outputs[r]]
                        } else {
                            &self.weights.as_chunks().0[outputs[r] * self.channels + channel]
                        };
                        for i in 0..9 {
                            g[i][r] = window[i];
                        }
                    }
                    if self.turned {
                        g.reverse();
                    }
                    for a in 0..4 {
                        let h = [0, 1, 2].map(
                            #[inline(always)]
                            |j| halved(a, g[j], g[3 + j], g[6 + j]),
                        );
                        for b in 0..4 {
                            let place = (4 * a + b) * product + channel * R;
                            target[place..place + R].copy_from_slice(&halved(b, h[0], h[1], h[2]));
                        }
                    }
                }
            },
        );
    }

    /// The sums over channels, as `[ξ, outputs, columns]` with outputs `row` apart.
    fn multiply(&self, factors: &Factors<'_>, weights: &[f32], target: &mut [f32], row: usize) {
        let rows = factors.form.rows;
        let length = self.channels * rows;
        let block = (BLOCK / (rows * self.channels.min(DEPTH))).max(1);
        for (index, weights) in weights.chunks(block * PRODUCTS * length).enumerate() {
            let top = index * block * rows;
            for (product, target) in target.chunks_exact_mut(self.outputs * row).enumerate() {
                let mut results = Rows {
                    numbers: &mut target[top * row..],
                    count: (self.outputs - top).min(block * rows),
                    apart: row,
                    tiles_apart: rows * row,
                };
                factors.multiply(product, &weights[product * length..], &mut results, true);
            }
        }
    }
}

/// The second factors of the products of matrices, as `[panels, ξ, depth, width]`.
struct Factors<'a> {
    form: Form,
    /// Numbers that are multiplied and added up for one number of a product.
    depth: usize,
    numbers: &'a [f32],
    offsets: Vec<u32>,
    vectors: Vec<u32>,
    places: Vec<u32>,
}

/// Where rows of products go.
struct Rows<'a> {
    numbers: &'a mut [f32],
    count: usize,
    /// Distances of two rows, and of two tiles of `R` rows.
    apart: usize,
    tiles_apart: usize,
}

impl<'a> Factors<'a> {
    fn new(form: Form, depth: usize, columns: usize, numbers: &'a [f32]) -> Self {
        let width = form.width();
        let starts = || (0..columns).step_by(lanes());
        let panel = PRODUCTS * depth * width;
        Self {
            form,
            depth,
            numbers,
            offsets: (0..depth).map(|k| (k * width) as u32).collect(),
            vectors: starts()
                .map(|column| (column / width * panel + column % width) as u32)
                .collect(),
            places: starts().map(|column| column as u32).collect(),
        }
    }

    /// The product `ξ` of some rows with weights, which begin with the first tile's and lie as `[tiles, 16, depth, R]`. Rows begin
    /// with it, or it is added to them.
    fn multiply(&self, product: usize, weights: &[f32], rows: &mut Rows<'_>, begin: bool) {
        let parts = (0..).step_by(DEPTH).zip(self.offsets.chunks(DEPTH));
        for (first, offsets) in parts {
            Correlation {
                form: self.form,
                weights: &weights[first * self.form.rows..],
                outputs: rows.count,
                offsets,
                source: &self.numbers[product * self.depth * self.form.width()..],
                vectors: &self.vectors,
                target: &mut *rows.numbers,
                target_row: rows.apart,
                apart: [PRODUCTS * self.depth * self.form.rows, rows.tiles_apart],
                places: &self.places,
                begins: begin && first == 0,
                bias: None,
            }
            .run();
        }
    }
}

/// `Bᵀ d B` of all tiles as `[panels, ξ, channels, width]`.
struct TransformImages<'a> {
    shape: &'a Winograd<'a>,
    source: &'a [f32],
    width: usize,
    target: &'a mut [f32],
}

impl WithSimd for TransformImages<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            shape,
            source,
            width,
            target,
        } = self;
        let [rows, t] = shape.tiles();
        let area = rows * t;
        let [height, breadth] = shape.from;
        let product = shape.channels * width;
        // Of each `b`, the even rows of tiles and the odd ones.
        let plane = (rows + 1) * t;
        let mut planes = Scratch::new(8 * plane);
        let mut line = Scratch::new(2 * (t + 1));
        let mut halves = Scratch::new(2 * (t + 1));
        let begin = shape.begin[1];
        let length = breadth.min(line.len() - begin);
        line.fill(0.0);
        for (index, image) in source.chunks_exact(height * breadth).enumerate() {
            let (first, channel) = (index / shape.channels * area, index % shape.channels);
            for row in 0..2 * (rows + 1) {
                let from = row.wrapping_sub(shape.begin[0]);
                let place = row % 2 * 4 * plane + row / 2 * t;
                if from >= height {
                    for b in 0..4 {
                        planes[b * plane + place..][..t].fill(0.0);
                    }
                    continue;
                }
                line[begin..begin + length].copy_from_slice(&image[from * breadth..][..length]);
                let (even, odd) = halves.split_at_mut(t + 1);
                for ((pair, even), odd) in line.as_chunks::<2>().0.iter().zip(&mut *even).zip(&mut *odd) {
                    *even = pair[0];
                    *odd = pair[1];
                }
                let (next, after) = (&even[1..], &odd[1..]);
                subtract(simd, &mut planes[place..][..t], even, next);
                add(simd, &mut planes[plane + place..][..t], odd, next);
                subtract(simd, &mut planes[2 * plane + place..][..t], next, odd);
                subtract(simd, &mut planes[3 * plane + place..][..t], odd, after);
            }
            for b in 0..4 {
                let even = &planes[b * plane..][..plane];
                let odd = &planes[(4 + b) * plane..][..plane];
                let mut done = 0;
                // An image may continue in the next panel.
                while done < area {
                    let column = first + done;
                    let part = (area - done).min(width - column % width);
                    let place = column / width * PRODUCTS * product + channel * width + column % width;
                    let (even, odd) = (&even[done..], &odd[done..]);
                    let (next, after) = (&even[t..], &odd[t..]);
                    let start = b * product + place;
                    subtract(simd, &mut target[start..][..part], even, next);
                    add(simd, &mut target[start + 4 * product..][..part], odd, next);
                    subtract(simd, &mut target[start + 8 * product..][..part], next, odd);
                    subtract(simd, &mut target[start + 12 * product..][..part], odd, after);
                    done += part;
                }
            }
        }
    }
}

/// `Aᵀ [ ] A` of all sums, whose outputs lie `row` apart.
struct TransformSums<'a> {
    shape: &'a Winograd<'a>,
    sums: &'a [f32],
    row: usize,
    target: &'a mut [f32],
}

impl WithSimd for TransformSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            shape,
            sums,
            row,
            target,
        } = self;
        let [rows, t] = shape.tiles();
        let area = rows * t;
        let product = shape.outputs * row;
        let [height, breadth] = shape.to;
        let mut columns = Scratch::new(4 * area);
        let mut lines = Scratch::new(2 * area);
        for (index, image) in target.chunks_exact_mut(height * breadth).enumerate() {
            let (at, output) = (index / shape.outputs * area, index % shape.outputs);
            let bias = shape.bias.map_or(0.0, |bias| bias[output]);
            let sums = &sums[output * row + at..];
            // Rows 0, 1 and 2 for the upper numbers of the tiles, 1, 2 and 3 for the lower ones.
            for lower in [0, 1] {
                for b in 0..4 {
                    let [x, y, z] = [0, 1, 2].map(|a| &sums[(4 * (lower + a) + b) * product..][..area]);
                    three(simd, &mut columns[b * area..][..area], [x, y, z], lower == 0, 0.0);
                }
                let column = |b: usize| &columns[b * area..][..area];
                let (even, odd) = lines.split_at_mut(area);
                three(simd, even, [column(0), column(1), column(2)], true, bias);
                three(simd, odd, [column(1), column(2), column(3)], false, bias);
                let lines = even.chunks_exact(t).zip(odd.chunks_exact(t));
                let targets = image.chunks_exact_mut(breadth).skip(lower).step_by(2);
                for ((even, odd), target) in lines.zip(targets) {
                    let (pairs, last) = target.as_chunks_mut::<2>();
                    for ((pair, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
                        *pair = [*even, *odd];
                    }
                    if let Some(last) = last.first_mut() {
                        *last = even[t - 1];
                    }
                }
            }
        }
    }
}

/// The row `row` of `G` times three numbers, for each of `R`.
#[inline(always)]
fn halved<const R: usize>(row: usize, x: [f32; R], y: [f32; R], z: [f32; R]) -> [f32; R] {
    match row {
        0 => x,
        3 => z,
        _ => {
            let sign = if row == 1 { 1.0 } else { -1.0 };
            std::array::from_fn(|r| 0.5 * (x[r] + sign * y[r] + z[r]))
        }
    }
}
