//! The inner loops of convolutions: sums of products kept in registers, for whatever vectors the processor has.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `L` | numbers in a vector of the processor |
//! | `R`, `V` | rows and vectors of a tile, whose `R V` vectors of sums stay in registers |
//!
//! The order of additions depends on shapes and on `L` alone, so that a run on the same kind of machine gives the same
//! bits with any number of threads.

#![expect(
    clippy::inline_always,
    reason = "their instructions are those of the caller, which alone knows the processor"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "bounds known to the compiler keep the sums in registers; iterators over arrays do not"
)]

use pulp::{Simd, WithSimd};

use crate::vectors::machine;

/// `L`
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    machine().dispatch(Lanes)
}

#[inline(always)]
fn load<S: Simd>(values: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(&values[at..at + S::F32_LANES]).0[0]
}

/// `target[m, place + i] = bias[m] + Σₖ weights[m, k] source[offset(k) + vector + i]`, for vectors of `L` places.
///
/// With `offset(k)` the beginning of a shifted image, this is a convolution of images as they lie in memory.
pub(super) struct Correlation<'a> {
    pub(super) form: Form,
    /// From [`Weights::pack`](super::packing::Weights::pack) in tiles of the form's rows.
    pub(super) weights: &'a [f32],
    pub(super) outputs: usize,
    pub(super) offsets: &'a [u32],
    pub(super) source: &'a [f32],
    pub(super) vectors: &'a [u32],
    pub(super) target: &'a mut [f32],
    pub(super) target_row: usize,
    /// Distances of the tiles of weights, and of those of the target.
    pub(super) apart: [usize; 2],
    pub(super) places: &'a [u32],
    /// Whether the sums begin with the bias, or go on with what is in the target.
    pub(super) begins: bool,
    pub(super) bias: Option<&'a [f32]>,
}

/// Rows and vectors of the tiles of a [`Correlation`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    pub(super) rows: usize,
    pub(super) vectors: usize,
}

impl Form {
    /// Those with the fewest loads for a product, the best where vectors abound.
    pub(super) fn wide() -> Self {
        let rows = if lanes() >= 16 { 8 } else { 4 };
        Self { rows, vectors: 3 }
    }

    /// Those that leave the least of their last tiles unused.
    pub(super) fn fitting(rows: usize, columns: usize) -> Self {
        let wide = Self::wide();
        let narrow = Self {
            rows: wide.rows * 3 / 2,
            vectors: 2,
        };
        let small = Self { vectors: 2, ..wide };
        // The smallest tiles load more for each product.
        let taken = |form: Self| rows.next_multiple_of(form.rows) * columns.next_multiple_of(form.width());
        let costs = [(wide, 16), (narrow, 16), (small, 17)].map(|(form, cost)| (form, cost * taken(form)));
        let least = costs.into_iter().min_by_key(|(_, cost)| *cost);
        least.map_or(wide, |(form, _)| form)
    }

    /// Columns of a tile.
    pub(super) fn width(self) -> usize {
        self.vectors * lanes()
    }
}

impl Correlation<'_> {
    pub(super) fn run(mut self) {
        match (self.form.rows, self.form.vectors) {
            (8, 3) => self.tiles::<8, 3>(),
            (12, 2) => self.tiles::<12, 2>(),
            (4, 3) => self.tiles::<4, 3>(),
            (6, 2) => self.tiles::<6, 2>(),
            (8, 2) => self.tiles::<8, 2>(),
            (4, 2) => self.tiles::<4, 2>(),
            _ => unreachable!("there are six forms"),
        }
    }

    fn tiles<const R: usize, const V: usize>(&mut self) {
        let length = R * self.offsets.len();
        for (vectors, places) in self.vectors.chunks(V).zip(self.places.chunks(V)) {
            let at: [usize; V] = std::array::from_fn(|v| vectors[v.min(vectors.len() - 1)] as usize);
            for (tile, top) in (0..self.outputs).step_by(R).enumerate() {
                let [weights, target] = self.apart.map(|apart| tile * apart);
                machine().dispatch(Tile::<R, V> {
                    weights: self.weights[weights..weights + length].as_chunks::<R>().0,
                    offsets: self.offsets,
                    source: self.source,
                    at,
                    target: &mut self.target[target..],
                    target_row: self.target_row,
                    places,
                    rows: self.outputs - top,
                    bias: self.bias.map(|bias| &bias[top..]),
                    begins: self.begins,
                });
            }
        }
    }
}

/// One tile of a correlation, a function of its own so that its sums have all registers. Rows and vectors beyond the
/// last are computed as copies of the last and not stored.
struct Tile<'a, const R: usize, const V: usize> {
    weights: &'a [[f32; R]],
    offsets: &'a [u32],
    source: &'a [f32],
    at: [usize; V],
    target: &'a mut [f32],
    target_row: usize,
    places: &'a [u32],
    rows: usize,
    bias: Option<&'a [f32]>,
    begins: bool,
}

impl<const R: usize, const V: usize> WithSimd for Tile<'_, R, V> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (weights, offset) in self.weights.iter().zip(self.offsets) {
            let mut x = [simd.splat_f32s(0.0); V];
            for v in 0..V {
                x[v] = load::<S>(self.source, *offset as usize + self.at[v]);
            }
            for r in 0..R {
                let weight = simd.splat_f32s(weights[r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_f32s(weight, x[v], sums[r][v]);
                }
            }
        }
        // Bounds known to the compiler keep the sums out of memory.
        for r in 0..R {
            if r >= self.rows {
                continue;
            }
            let bias = simd.splat_f32s(self.bias.map_or(0.0, |bias| bias[r]));
            for v in 0..V {
                if v < self.places.len() {
                    let start = r * self.target_row + self.places[v] as usize;
                    let target = &mut S::as_mut_simd_f32s(&mut self.target[start..start + S::F32_LANES]).0[0];
                    let before = if self.begins { bias } else { *target };
                    *target = simd.add_f32s(before, sums[r][v]);
                }
            }
        }
    }
}

/// Rows and vectors of the tiles of [`Outer`] for `columns` columns: as few columns too many as possible.
pub(super) fn outer_tile(columns: usize) -> (usize, usize) {
    let lanes = lanes();
    let forms: &[(usize, usize)] = if lanes >= 16 {
        &[(6, 4), (8, 3), (12, 2), (14, 1)]
    } else {
        &[(6, 2), (10, 1)]
    };
    let width = |vectors: usize| columns.div_ceil(vectors * lanes) * vectors;
    *forms
        .iter()
        .min_by_key(|(_, vectors)| width(*vectors))
        .expect("there are forms")
}

/// `sums[k, m] += Σₚ source[offset(k) + p] dy[p, m]` over positions `p` of several images.
pub(super) struct Outer<'a> {
    /// From [`outer_tile`].
    pub(super) tile: (usize, usize),
    pub(super) source: &'a [f32],
    pub(super) offsets: &'a [u32],
    pub(super) images: usize,
    /// Distance of two images in `source`, and positions of an image in `dy`.
    pub(super) image: usize,
    pub(super) positions: usize,
    /// The positions that are taken of each image.
    pub(super) taken: std::ops::Range<usize>,
    /// `[column panels, images, positions, V L]`
    pub(super) dy: &'a [f32],
    /// `[row tiles, column panels, R, V L]`
    pub(super) sums: &'a mut [f32],
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::F32_LANES >= 16 {
            match self.tile.1 {
                4 => self.tiles::<S, 6, 4>(simd),
                3 => self.tiles::<S, 8, 3>(simd),
                2 => self.tiles::<S, 12, 2>(simd),
                _ => self.tiles::<S, 14, 1>(simd),
            }
        } else if self.tile.1 == 2 {
            self.tiles::<S, 6, 2>(simd);
        } else {
            self.tiles::<S, 10, 1>(simd);
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(&mut self, simd: S) {
        let width = V * S::F32_LANES;
        let panel = self.images * self.positions * width;
        let panels = self.dy.len() / panel;
        for column in 0..panels {
            for (tile, offsets) in self.offsets.chunks(R).enumerate() {
                let at: [usize; R] = std::array::from_fn(|r| offsets[r.min(offsets.len() - 1)] as usize);
                let mut sums = [[simd.splat_f32s(0.0); V]; R];
                for image in 0..self.images {
                    let first = image * self.image + self.taken.start;
                    let rows: [&[f32]; R] = std::array::from_fn(|r| &self.source[at[r] + first..][..self.taken.len()]);
                    let start = column * panel + (image * self.positions + self.taken.start) * width;
                    let dy = S::as_simd_f32s(&self.dy[start..start + self.taken.len() * width]).0;
                    for (p, dy) in dy.as_chunks::<V>().0.iter().enumerate().take(self.taken.len()) {
                        for r in 0..R {
                            let x = simd.splat_f32s(rows[r][p]);
                            for v in 0..V {
                                sums[r][v] = simd.mul_add_f32s(x, dy[v], sums[r][v]);
                            }
                        }
                    }
                }
                let start = (tile * panels + column) * R * width;
                let target = S::as_mut_simd_f32s(&mut self.sums[start..start + R * width]).0;
                for r in 0..R {
                    for v in 0..V {
                        target[r * V + v] = simd.add_f32s(target[r * V + v], sums[r][v]);
                    }
                }
            }
        }
    }
}
