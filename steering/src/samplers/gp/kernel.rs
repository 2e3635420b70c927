//! The Matérn kernel with ν = 5/2.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | r² | squared distance in units of the length scales |
//! | k | (1 + √5 r + 5 r²/3) exp(−√5 r), for unit variance |
//!
//! C. E. Rasmussen, C. K. I. Williams, *Gaussian Processes for Machine Learning* (2006), equation 4.17.

use crate::numerics::exponentials::exp_negative;
use crate::numerics::vectors::for_this_processor;

const SQRT_FIVE: f64 = 2.236_067_977_499_79;

for_this_processor! {
    /// Replaces each r² by `signal` k + `offset`.
    pub(super) fn covariances<'a>(squares: &'a mut [f64], signal: f64, offset: f64) -> () = covariances_here
}

for_this_processor! {
    /// Replaces each r² by `signal` k + `offset`, and writes `signal` times the derivative of k by r² into `slopes`.
    pub(super) fn covariances_with_slopes<'a>(
        squares: &'a mut [f64], slopes: &'a mut [f64], signal: f64, offset: f64,
    ) -> () = covariances_with_slopes_here
}

#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
fn covariances_here(squares: &mut [f64], signal: f64, offset: f64) {
    for square in squares {
        *square = signal * matern(*square).0 + offset;
    }
}

#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
fn covariances_with_slopes_here(squares: &mut [f64], slopes: &mut [f64], signal: f64, offset: f64) {
    for (square, slope) in squares.iter_mut().zip(slopes) {
        let (k, by_square) = matern(*square);
        *square = signal * k + offset;
        *slope = signal * by_square;
    }
}

/// k and its derivative with respect to r², which is finite at 0.
#[expect(clippy::inline_always, reason = "as above")]
#[inline(always)]
pub(super) fn matern(r2: f64) -> (f64, f64) {
    let r = SQRT_FIVE * r2.sqrt();
    let decay = exp_negative(-r);
    let linear = (1.0 + r) * decay;
    (linear + r * r * decay * (1.0 / 3.0), linear * (-5.0 / 6.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_and_derivative_agree_with_tabulated_values() {
        for (r, k, slope) in [
            (0.0, 1.0, -0.833_333_333_333_333_3),
            (0.1, 0.991_759_236_171_177_6, -0.815_360_065_022_133_6),
            (0.25, 0.950_959_921_678_632_9, -0.742_833_715_839_677_8),
            (0.5, 0.828_649_142_418_125_3, -0.577_026_405_017_966_3),
            (1.0, 0.523_994_108_831_820_3, -0.288_220_193_942_647_8),
            (2.0, 0.138_660_219_138_504_3, -0.052_089_677_096_159_44),
            (3.0, 0.027_723_421_914_625_81, -0.007_842_165_415_190_886),
            (5.0, 0.000_750_933_788_873_755, -0.000_141_552_727_607_506_57),
        ] {
            let found = matern(r * r);
            assert!((found.0 - k).abs() < 1e-14, "{r}: {found:?}");
            assert!((found.1 - slope).abs() < 1e-14, "{r}: {found:?}");
        }
        assert!((matern(2.36).0 - 0.269_646_190_072_367_4).abs() < 1e-14);
    }
}
