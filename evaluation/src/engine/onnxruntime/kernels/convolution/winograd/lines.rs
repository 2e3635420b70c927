//! Sums of lines of numbers, for whatever vectors the processor has.

#![expect(
    clippy::inline_always,
    reason = "their instructions are those of the caller, which alone knows the processor"
)]

use pulp::Simd;

/// `x + y`
#[inline(always)]
pub(super) fn add<S: Simd>(simd: S, target: &mut [f32], x: &[f32], y: &[f32]) {
    each(
        simd,
        target,
        [x, y],
        #[inline(always)]
        |[x, y]: [S::f32s; 2]| simd.add_f32s(x, y),
    );
}

/// `x - y`
#[inline(always)]
pub(super) fn subtract<S: Simd>(simd: S, target: &mut [f32], x: &[f32], y: &[f32]) {
    each(
        simd,
        target,
        [x, y],
        #[inline(always)]
        |[x, y]: [S::f32s; 2]| simd.sub_f32s(x, y),
    );
}

/// A row of `Aᵀ` times three numbers: all of them added, or the last two subtracted from the first.
#[inline(always)]
pub(super) fn three<S: Simd>(simd: S, target: &mut [f32], sources: [&[f32]; 3], all: bool, bias: f32) {
    let bias = simd.splat_f32s(bias);
    if all {
        each(
            simd,
            target,
            sources,
            #[inline(always)]
            |[x, y, z]: [S::f32s; 3]| simd.add_f32s(simd.add_f32s(simd.add_f32s(x, y), z), bias),
        );
    } else {
        each(
            simd,
            target,
            sources,
            #[inline(always)]
            |[x, y, z]: [S::f32s; 3]| simd.add_f32s(simd.sub_f32s(simd.sub_f32s(x, y), z), bias),
        );
    }
}

/// `with` of the numbers at each place of the sources.
#[inline(always)]
fn each<S: Simd, const N: usize>(
    simd: S,
    target: &mut [f32],
    mut sources: [&[f32]; N],
    with: impl Fn([S::f32s; N]) -> S::f32s,
) {
    let mut numbers = [simd.splat_f32s(0.0); N];
    let mut whole: [&[S::f32s]; N] = [&[]; N];
    for n in 0..N {
        (whole[n], sources[n]) = S::as_simd_f32s(&sources[n][..target.len()]);
    }
    let (vectors, rest) = S::as_mut_simd_f32s(target);
    for (index, vector) in vectors.iter_mut().enumerate() {
        for n in 0..N {
            numbers[n] = whole[n][index];
        }
        *vector = with(numbers);
    }
    if !rest.is_empty() {
        for n in 0..N {
            numbers[n] = simd.partial_load_f32s(sources[n]);
        }
        simd.partial_store_f32s(rest, with(numbers));
    }
}
