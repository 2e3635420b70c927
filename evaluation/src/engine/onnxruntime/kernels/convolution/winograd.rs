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
#![expect(
    clippy::needless_range_loop,
    reason = "bounds known to the compiler keep the numbers in registers; iterators over arrays do not"
)]

use std::sync::{Mutex, PoisonError};

use super::super::Parallel;
use super::super::packing::packed;
use super::super::scratch::Scratch;
use super::super::tile::{Correlation, Form, lanes, vectorized};
use super::{DEPTH, Shapes};

/// Products of a tile.
const PRODUCTS: usize = 16;
/// Channels from which on the products outweigh the transforms.
const CHANNELS: usize = 32;
/// Tiles of a batch from which on they outweigh the transform of the weights.
const TILES: usize = 64;
/// Most tiles of an image: more would not stay in the second cache from one step to the next.
const LARGEST: usize = 1024;
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
        let most = (GROUP / PRODUCTS / (self.channels + self.outputs) / area).clamp(1, images.div_ceil(threads).max(1));
        let group = images.div_ceil(images.div_ceil(most).max(1)).max(1);
        let form = Form::for_columns(group * area);
        let mut weights = Scratch::new(PRODUCTS * packed(self.outputs, self.channels, form.rows));
        self.transform_weights(form.rows, &mut weights, parallel);
        let groups: Vec<(&[f32], Mutex<&mut [f32]>)> = source
            .chunks(group * from)
            .zip(target.chunks_mut(group * to).map(Mutex::new))
            .collect();
        let weights = &*weights;
        parallel(groups.len(), &|index| {
            let (source, target) = &groups[index];
            let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
            let columns = source.len() / from * area;
            let panels = columns.div_ceil(form.width());
            let mut before = Scratch::new(PRODUCTS * panels * form.width() * self.channels);
            self.transform_images(source, form.width(), &mut before);
            let row = columns.next_multiple_of(lanes());
            let mut after = Scratch::new(PRODUCTS * self.outputs * row);
            self.multiply(form, columns, weights, &before, &mut after);
            self.transform_sums(&after, row, &mut target);
        });
    }

    /// `G g Gᵀ` of all windows as `[ξ, parts of the channels, tiles of rows, channels, rows]`.
    fn transform_weights(&self, rows: usize, target: &mut [f32], parallel: Parallel<'_>) {
        let length = packed(self.outputs, self.channels, rows);
        let quarters: Vec<Mutex<&mut [f32]>> = target.chunks_exact_mut(4 * length).map(Mutex::new).collect();
        parallel(quarters.len(), &|a| {
            let mut target = quarters[a].lock().unwrap_or_else(PoisonError::into_inner);
            match rows {
                4 => self.quarter::<4>(a, &mut target),
                6 => self.quarter::<6>(a, &mut target),
                8 => self.quarter::<8>(a, &mut target),
                _ => self.quarter::<12>(a, &mut target),
            }
        });
    }

    /// The four products of row `a`.
    fn quarter<const R: usize>(&self, a: usize, target: &mut [f32]) {
        let length = target.len() / 4;
        // Where the nine numbers of a window lie.
        let place = |output: usize, channel: usize| {
            9 * if self.turned {
                channel * self.outputs + output
            } else {
                output * self.channels + channel
            }
        };
        vectorized(
            #[inline(always)]
            || {
                for first in (0..self.channels).step_by(DEPTH) {
                    let part = (self.channels - first).min(DEPTH);
                    let start = packed(self.outputs, first, R);
                    for tile in 0..self.outputs.div_ceil(R) {
                        for k in 0..part {
                            let mut g = [[0.0; R]; 9];
                            for r in 0..R {
                                let output = (tile * R + r).min(self.outputs - 1);
                                let window = &self.weights[place(output, first + k)..][..9];
                                for i in 0..9 {
                                    g[i][r] = window[if self.turned { 8 - i } else { i }];
                                }
                            }
                            let mut h = [[0.0; R]; 3];
                            for j in 0..3 {
                                h[j] = halved(a, g[j], g[3 + j], g[6 + j]);
                            }
                            let at = start + (tile * part + k) * R;
                            for b in 0..4 {
                                target[b * length + at..][..R].copy_from_slice(&halved(b, h[0], h[1], h[2]));
                            }
                        }
                    }
                }
            },
        );
    }

    /// `Bᵀ d B` of all tiles as `[ξ, panels, channels, width]`.
    fn transform_images(&self, source: &[f32], width: usize, target: &mut [f32]) {
        let [rows, t] = self.tiles();
        let area = rows * t;
        let [height, breadth] = self.from;
        let product = target.len() / PRODUCTS;
        // Of each `b`, the even rows of tiles and the odd ones.
        let plane = (rows + 1) * t;
        let mut planes = Scratch::new(8 * plane);
        let mut line = Scratch::new(2 * (t + 1));
        let mut halves = Scratch::new(2 * (t + 1));
        for (index, image) in source.chunks_exact(height * breadth).enumerate() {
            let (first, channel) = (index / self.channels * area, index % self.channels);
            vectorized(
                #[inline(always)]
                || {
                    line.fill(0.0);
                    let begin = self.begin[1];
                    let length = breadth.min(line.len() - begin);
                    for row in 0..2 * (rows + 1) {
                        let from = row.wrapping_sub(self.begin[0]);
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
                        combine(&mut planes[place..][..t], even, next, |x, y| x - y);
                        combine(&mut planes[plane + place..][..t], odd, next, |x, y| x + y);
                        combine(&mut planes[2 * plane + place..][..t], next, odd, |x, y| x - y);
                        combine(&mut planes[3 * plane + place..][..t], odd, after, |x, y| x - y);
                    }
                    for b in 0..4 {
                        let even = &planes[b * plane..][..plane];
                        let odd = &planes[(4 + b) * plane..][..plane];
                        let mut done = 0;
                        // An image may continue in the next panel.
                        while done < area {
                            let column = first + done;
                            let part = (area - done).min(width - column % width);
                            let place = (column / width * self.channels + channel) * width + column % width;
                            let (even, odd) = (&even[done..], &odd[done..]);
                            let (next, after) = (&even[t..], &odd[t..]);
                            let at = |a: usize| (4 * a + b) * product + place;
                            combine(&mut target[at(0)..][..part], even, next, |x, y| x - y);
                            combine(&mut target[at(1)..][..part], odd, next, |x, y| x + y);
                            combine(&mut target[at(2)..][..part], next, odd, |x, y| x - y);
                            combine(&mut target[at(3)..][..part], odd, after, |x, y| x - y);
                            done += part;
                        }
                    }
                },
            );
        }
    }

    /// The sums over channels, as `[ξ, outputs, columns]`.
    fn multiply(&self, form: Form, columns: usize, weights: &[f32], source: &[f32], target: &mut [f32]) {
        let width = form.width();
        let offsets: Vec<u32> = (0..self.channels).map(|channel| (channel * width) as u32).collect();
        let places: Vec<u32> = (0..columns).step_by(lanes()).map(|column| column as u32).collect();
        let vectors: Vec<u32> = (0..columns)
            .step_by(lanes())
            .map(|column| (column / width * width * self.channels + column % width) as u32)
            .collect();
        let row = target.len() / PRODUCTS / self.outputs;
        let products = weights
            .chunks_exact(weights.len() / PRODUCTS)
            .zip(source.chunks_exact(source.len() / PRODUCTS))
            .zip(target.chunks_exact_mut(target.len() / PRODUCTS));
        for ((weights, source), target) in products {
            for (first, offsets) in (0..).step_by(DEPTH).zip(offsets.chunks(DEPTH)) {
                let start = packed(self.outputs, first, form.rows);
                Correlation {
                    form,
                    weights: &weights[start..start + packed(self.outputs, offsets.len(), form.rows)],
                    outputs: self.outputs,
                    offsets,
                    source,
                    vectors: &vectors,
                    target,
                    target_row: row,
                    places: &places,
                    begins: first == 0,
                    bias: None,
                }
                .run();
            }
        }
    }

    /// `Aᵀ [ ] A` of all sums, whose outputs lie `row` apart.
    fn transform_sums(&self, sums: &[f32], row: usize, target: &mut [f32]) {
        let [rows, t] = self.tiles();
        let area = rows * t;
        let product = self.outputs * row;
        let [height, breadth] = self.to;
        let mut columns = Scratch::new(4 * area);
        let mut lines = Scratch::new(2 * area);
        for (index, image) in target.chunks_exact_mut(height * breadth).enumerate() {
            let (at, output) = (index / self.outputs * area, index % self.outputs);
            let bias = self.bias.map_or(0.0, |bias| bias[output]);
            let sums = &sums[output * row + at..];
            vectorized(
                #[inline(always)]
                || {
                    for upper in [true, false] {
                        // Rows 0, 1 and 2 for the upper numbers of the tiles, 1, 2 and 3 for the lower ones.
                        let first = usize::from(!upper);
                        for b in 0..4 {
                            let three = [0, 1, 2].map(|a| &sums[(4 * (first + a) + b) * product..][..area]);
                            add(&mut columns[b * area..][..area], three, upper, 0.0);
                        }
                        let three = |first: usize| [0, 1, 2].map(|b| &columns[(first + b) * area..][..area]);
                        let (even, odd) = lines.split_at_mut(area);
                        add(even, three(0), true, bias);
                        add(odd, three(1), false, bias);
                        let lines = even.chunks_exact(t).zip(odd.chunks_exact(t));
                        let targets = image.chunks_exact_mut(breadth).skip(first).step_by(2);
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
                },
            );
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

#[inline(always)]
fn combine(target: &mut [f32], x: &[f32], y: &[f32], with: impl Fn(f32, f32) -> f32) {
    for ((target, x), y) in target.iter_mut().zip(x).zip(y) {
        *target = with(*x, *y);
    }
}

/// A row of `Aᵀ` times three numbers: all of them added, or the last two subtracted from the first.
#[inline(always)]
fn add(target: &mut [f32], [x, y, z]: [&[f32]; 3], all: bool, bias: f32) {
    let sums = target.iter_mut().zip(x).zip(y).zip(z);
    if all {
        sums.for_each(|(((target, x), y), z)| *target = x + y + z + bias);
    } else {
        sums.for_each(|(((target, x), y), z)| *target = x - y - z + bias);
    }
}
