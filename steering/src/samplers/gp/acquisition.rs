//! What makes a point worth evaluating.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | μ, s | mean and standard deviation of the model at a point |
//! | b | the incumbent: what is to be improved upon |
//! | z | (b − μ)/s |
//! | h(z) | φ(z) + z Φ(z), so that the expected improvement is s h(z) |
//!
//! S. Ament et al., *Unexpected improvements to expected improvement for Bayesian optimization*, Advances in
//! Neural Information Processing Systems 36 (2023), equations 8–9:
//! the logarithm is computed directly, because far from the optimum the expected improvement itself underflows and leaves a
//! search without a direction.

use crate::numerics::normal::{LOG_SQRT_TWO_PI, distribution};

/// √(π/2).
const SQRT_HALF_PI: f64 = 1.253_314_137_315_500_3;

/// ln EI with its derivatives by μ and by s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LogImprovement {
    pub(super) value: f64,
    pub(super) by_mean: f64,
    pub(super) by_deviation: f64,
}

/// The logarithm of the expected improvement upon `incumbent`, for minimisation; `deviation` must be above 0.
pub(super) fn log_improvement(mean: f64, deviation: f64, incumbent: f64) -> LogImprovement {
    let z = (incumbent - mean) / deviation;
    let log_h = log_h(z);
    // d ln(s h)/dμ = −Φ/(s h); d ln(s h)/ds = φ/(s h).
    let (mass, density) = if z > -1.0 {
        let h = libm::exp(log_h);
        (distribution(z) / h, libm::exp(-0.5 * z * z - LOG_SQRT_TWO_PI) / h)
    } else {
        let density = if z > -1e6 { 1.0 / one_minus_mills(-z) } else { z * z };
        ((density - 1.0) / -z, density)
    };
    LogImprovement {
        value: libm::log(deviation) + log_h,
        by_mean: -mass / deviation,
        by_deviation: density / deviation,
    }
}

/// ln h(z), finite for all z that doubles hold.
pub(super) fn log_h(z: f64) -> f64 {
    if z > -1.0 {
        let density = libm::exp(-0.5 * z * z - LOG_SQRT_TWO_PI);
        return libm::log(density + z * distribution(z));
    }
    let square = -0.5 * z * z - LOG_SQRT_TWO_PI;
    if z > -1e6 {
        square + libm::log(one_minus_mills(-z))
    } else {
        square - 2.0 * libm::log(-z)
    }
}

/// 1 − x R(x) for x ≥ 1, with R(x) = Φ(−x)/φ(x), Mills' ratio. Laplace's continued fraction R = 1/(x + 1/(x + 2/(x + 3/…)))
/// turns the difference into a quotient without cancellation: with t = 1/(x + 2/(x + 3/…)), 1 − x R = t/(x + t).
fn one_minus_mills(x: f64) -> f64 {
    if x < 5.0 {
        let ratio = SQRT_HALF_PI * libm::exp(0.5 * x * x) * libm::erfc(x * std::f64::consts::FRAC_1_SQRT_2);
        return 1.0 - x * ratio;
    }
    let mut tail = x;
    for k in (2..=60).rev() {
        tail = x + f64::from(k) / tail;
    }
    let t = 1.0 / tail;
    t / (x + t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64, relative: f64) {
        assert!(
            (found - wanted).abs() <= relative * wanted.abs(),
            "{found} is not {wanted}"
        );
    }

    #[test]
    fn log_improvement_agrees_with_tabulated_values() {
        for (mean, deviation, incumbent, value) in [
            (0.0, 1.0, 0.0, -0.918_938_533_204_672_7),
            (1.0, 1.0, 0.0, -2.485_121_025_712_641_3),
            (-1.0, 1.0, 0.0, 0.080_026_218_849_306_94),
            (0.0, 0.5, 0.25, -1.052_974_864_305_009_1),
            (0.3, 0.2, 0.1, -4.094_558_938_146_742),
            (5.0, 1.0, 0.0, -16.744_301_162_660_99),
            (10.0, 1.0, 0.0, -55.553_122_036_122_35),
            (2.0, 0.1, 0.0, -209.220_423_602_419_14),
            (30.0, 1.0, 0.0, -457.724_653_760_598),
        ] {
            close(log_improvement(mean, deviation, incumbent).value, value, 2e-13);
        }
    }

    #[test]
    fn log_h_is_accurate_far_into_the_tail() {
        for (z, value) in [
            (2.0, 0.697_383_545_788_228_3),
            (-2.0, -4.768_783_523_917_114),
            (-20.0, -206.917_838_509_425_1),
            (-25.0, -319.861_463_581_495_95),
            (-26.0, -345.439_546_722_318),
            (-100.0, -5_010.129_578_800_25),
            (-1000.0, -500_014.734_452_091_16),
            (-1e5, -5_000_000_023.944_79),
        ] {
            close(log_h(z), value, 1e-12);
        }
        assert!(log_h(-1e100).is_finite());
    }

    #[test]
    fn log_h_rises_and_is_continuous_at_its_branches() {
        for edge in [-1.0_f64, -5.0, -1e6] {
            let (left, right) = (log_h(edge.next_down()), log_h(edge.next_up()));
            close(left, right, 1e-12);
        }
        let mut previous = f64::NEG_INFINITY;
        for step in 0..2_000 {
            let value = log_h(-50.0 + 0.03 * f64::from(step));
            assert!(value > previous);
            previous = value;
        }
    }

    #[test]
    fn derivatives_agree_with_differences() {
        for mean in [-2.0, -0.1, 0.0, 0.2, 1.0, 3.0, 8.0, 40.0] {
            let at = |mean, deviation| log_improvement(mean, deviation, 0.2).value;
            let found = log_improvement(mean, 0.7, 0.2);
            let step = 1e-5;
            let by_mean = (at(mean + step, 0.7) - at(mean - step, 0.7)) / (2.0 * step);
            let by_deviation = (at(mean, 0.7 + step) - at(mean, 0.7 - step)) / (2.0 * step);
            assert!(
                (found.by_mean - by_mean).abs() < 1e-5 * by_mean.abs().max(1.0),
                "{mean}: {found:?} {by_mean}"
            );
            assert!(
                (found.by_deviation - by_deviation).abs() < 1e-5 * by_deviation.abs().max(1.0),
                "{mean}"
            );
        }
    }
}
