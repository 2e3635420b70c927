//! The gradients of both forms of the Gaussian error linear unit, in one pass each.
//!
//! The distribution `Φ` is that of Abramowitz and Stegun (1964, 7.1.26), a polynomial in `t = 1/(1 + p |x|/√2)` times the density,
//! with an absolute error of 1.5e-7, which is what rounding to 32 bits costs beside it.

#![expect(
    clippy::inline_always,
    reason = "the instructions are those of the caller, which alone knows the processor"
)]

use std::sync::{Mutex, PoisonError};

use super::Parallel;
use super::cell::{exp_negative, logistic};
use super::plain::{Input, PIECE};
use crate::vectors::vectorized;

/// `Φ(x) + x φ(x)`
#[inline(always)]
fn slope(x: f32) -> f32 {
    const FRAC_1_SQRT_2_PI: f32 = 0.398_942_3;
    let bell = exp_negative(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let mut sum = 1.061_405_4;
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        sum = sum * t + coefficient;
    }
    let tail = 0.5 * sum * t * bell;
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    distribution + x * (bell * FRAC_1_SQRT_2_PI)
}

/// The derivative of `x/2 (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, which is `x σ(2u)` with the logistic function `σ`.
#[inline(always)]
fn slope_by_tanh(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769_2;
    let cubic = 0.044_715 * x * x;
    let small = logistic(-(TWICE_ROOT * x * (1.0 + cubic)).abs());
    let sigma = if x < 0.0 { small } else { 1.0 - small };
    sigma + x * TWICE_ROOT * (1.0 + 3.0 * cubic) * (small - small * small)
}

#[inline(always)]
fn each(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>, slope: impl Fn(f32) -> f32 + Sync) {
    let [dy, x] = [0, 1].map(|index: usize| inputs[index].numbers);
    let pieces: Vec<_> = outputs[0].chunks_mut(PIECE).map(Mutex::new).collect();
    parallel(pieces.len(), &|index| {
        let mut dx = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        let range = index * PIECE..index * PIECE + dx.len();
        let (dy, x) = (&dy[range.clone()], &x[range]);
        vectorized(
            #[inline(always)]
            || {
                for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = dy * slope(*x);
                }
            },
        );
    });
}

/// `dx = dy (Φ(x) + x φ(x))`, from `dy` and `x`.
pub(super) fn gelu_gradient(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    each(inputs, outputs, parallel, slope);
}

/// The same of the approximation by `tanh`.
pub(super) fn gelu_tanh_gradient(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    each(inputs, outputs, parallel, slope_by_tanh);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slopes_are_differences_of_the_functions_in_double_precision() {
        let by_tanh =
            |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
        let exact = |x: f64| x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        let difference = |function: &dyn Fn(f64) -> f64, x: f64| (function(x + 1e-5) - function(x - 1e-5)) / 2e-5;
        for step in -2000..2000 {
            let x = step as f32 * 0.01;
            let found = [f64::from(slope(x)), f64::from(slope_by_tanh(x))];
            let expected = [difference(&exact, x.into()), difference(&by_tanh, x.into())];
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 5e-7, "{x}: {found} {expected}");
            }
        }
        assert!(slope(f32::NAN).is_nan() && slope_by_tanh(f32::NAN).is_nan());
    }
}
