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

use pulp::{Arch, Simd, WithSimd};

/// The vectors of this machine.
pub(super) fn machine() -> Arch {
    static MACHINE: std::sync::LazyLock<Arch> = std::sync::LazyLock::new(Arch::new);
    *MACHINE
}

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
    /// A row for each `m`, of which the part `first..first + offsets.len()` is taken.
    pub(super) weights: &'a [f32],
    pub(super) row: usize,
    pub(super) first: usize,
    pub(super) offsets: &'a [u32],
    pub(super) source: &'a [f32],
    pub(super) vectors: &'a [u32],
    pub(super) target: &'a mut [f32],
    pub(super) target_row: usize,
    pub(super) places: &'a [u32],
    /// What the sums begin with where `first` is 0; later parts add to what is there.
    pub(super) bias: Option<&'a [f32]>,
}

impl WithSimd for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::F32_LANES >= 16 {
            self.tiles::<S, 8, 3>(simd);
        } else {
            self.tiles::<S, 4, 3>(simd);
        }
    }
}

impl Correlation<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(&mut self, simd: S) {
        let count = self.weights.len() / self.row;
        for (vectors, places) in self.vectors.chunks(V).zip(self.places.chunks(V)) {
            let at: [usize; V] = std::array::from_fn(|v| vectors[v.min(vectors.len() - 1)] as usize);
            for top in (0..count).step_by(R) {
                self.tile::<S, R, V>(simd, top, count, at, places);
            }
        }
    }

    /// Rows and vectors beyond the last are computed as copies of the last and not stored.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        top: usize,
        count: usize,
        at: [usize; V],
        places: &[u32],
    ) {
        let length = self.offsets.len();
        let rows: [&[f32]; R] = std::array::from_fn(|r| {
            let start = (top + r).min(count - 1) * self.row + self.first;
            &self.weights[start..start + length]
        });
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (k, offset) in self.offsets.iter().enumerate() {
            let x: [S::f32s; V] = std::array::from_fn(|v| load::<S>(self.source, *offset as usize + at[v]));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let weight = simd.splat_f32s(row[k]);
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = simd.mul_add_f32s(weight, x, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(count - top) {
            let bias = simd.splat_f32s(self.bias.map_or(0.0, |bias| bias[top + r]));
            for (sum, place) in sums.iter().zip(places) {
                let start = (top + r) * self.target_row + *place as usize;
                let target = &mut S::as_mut_simd_f32s(&mut self.target[start..start + S::F32_LANES]).0[0];
                let before = if self.first == 0 { bias } else { *target };
                *target = simd.add_f32s(before, *sum);
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
                        for (sums, row) in sums.iter_mut().zip(rows) {
                            let x = simd.splat_f32s(row[p]);
                            for (sum, dy) in sums.iter_mut().zip(dy) {
                                *sum = simd.mul_add_f32s(x, *dy, *sum);
                            }
                        }
                    }
                }
                let start = (tile * panels + column) * R * width;
                let target = S::as_mut_simd_f32s(&mut self.sums[start..start + R * width]).0;
                for (target, sum) in target.iter_mut().zip(sums.as_flattened()) {
                    *target = simd.add_f32s(*target, *sum);
                }
            }
        }
    }
}
