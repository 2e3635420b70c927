//! What makes a point worth evaluating.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | μ, s | mean and standard deviation of the model at a point |
//! | v | variance of the noise |
//! | y₀, m₀ | the lowest measured loss, and the loss that the model predicts at its point; less where a point that is being evaluated is predicted to be lower |
//! | t | √(s² + v), the standard deviation of a measurement at the point |
//! | z | (y₀ − μ)/t |
//! | h(z) | φ(z) + z Φ(z) |
//!
//! Without noise this is the expected improvement s h(z). Its logarithm is computed directly, because far from the optimum it
//! underflows and leaves a search without a direction: S. Ament et al., *Unexpected improvements to expected improvement for
//! Bayesian optimization*, Advances in Neural Information Processing Systems 36 (2023), equations 8–9.

use crate::numerics::normal::{LOG_SQRT_TWO_PI, distribution};

/// √(π/2).
const SQRT_HALF_PI: f64 = 1.253_314_137_315_500_3;
/// Gain, as a share of s²/t φ(z), below which its logarithm goes straight on.
const LEAST_GAIN: f64 = 1e-4;

/// How the best point of a search will be read off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    /// y₀.
    pub(super) lowest: f64,
    /// m₀.
    pub(super) predicted: f64,
    /// v.
    pub(super) noise: f64,
}

/// The logarithm of an expected improvement with its derivatives by μ and by s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LogImprovement {
    pub(super) value: f64,
    pub(super) by_mean: f64,
    pub(super) by_deviation: f64,
}

/// The logarithm of the improvement to be expected by a reader who will take the point of lowest measured loss, noise or not;
/// `deviation` must be above 0.
///
/// A new point with the loss f is taken if its measurement y falls below y₀, and then f takes the place of m₀. That is worth
/// E[(m₀ − f) 1{y < y₀}] = (m₀ − μ) Φ(z) + s²/t φ(z), which is the expected improvement where v = 0. A point that is likely to be
/// worse than the best one and may yet be taken for it by luck does harm: where that outweighs what can be gained the logarithm is
/// continued along its tangent.
pub(super) fn log_improvement(mean: f64, deviation: f64, reading: &Reading) -> LogImprovement {
    let variance = deviation * deviation;
    let t = (variance + reading.noise).sqrt();
    // Beyond 37 the density is 0.
    let z = ((reading.lowest - mean) / t).min(37.0);
    let known = variance / t;
    let lead = (reading.predicted - mean) / known;
    let (ratio, slope) = mass_by_density(z);
    // The improvement is φ(z) s²/t g with g = 1 + lead Φ/φ, written so that nothing cancels where lead = z.
    let g = slope + (lead - z) * ratio;
    let (log_g, by_g) = if g > LEAST_GAIN {
        (libm::log(g), 1.0 / g)
    } else {
        (libm::log(LEAST_GAIN) + (g - LEAST_GAIN) / LEAST_GAIN, 1.0 / LEAST_GAIN)
    };
    let (z_by_mean, z_by_deviation) = (-1.0 / t, -z * deviation / (t * t));
    let log_known_by_deviation = 2.0 / deviation - deviation / (t * t);
    let g_by_mean = -ratio / known + lead * slope * z_by_mean;
    let g_by_deviation = lead * (slope * z_by_deviation - log_known_by_deviation * ratio);
    LogImprovement {
        value: -0.5 * z * z - LOG_SQRT_TWO_PI + libm::log(known) + log_g,
        by_mean: -z * z_by_mean + by_g * g_by_mean,
        by_deviation: -z * z_by_deviation + log_known_by_deviation + by_g * g_by_deviation,
    }
}

/// Φ(z)/φ(z) with its derivative 1 + z Φ(z)/φ(z), which is h(z)/φ(z).
pub(super) fn mass_by_density(z: f64) -> (f64, f64) {
    if z > -1.0 {
        let ratio = distribution(z) / libm::exp(-0.5 * z * z - LOG_SQRT_TWO_PI);
        (ratio, 1.0 + z * ratio)
    } else if z > -1e6 {
        let rest = one_minus_mills(-z);
        ((1.0 - rest) / -z, rest)
    } else {
        (-1.0 / z, 1.0 / (z * z))
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

    /// A reading without noise.
    fn exact(incumbent: f64) -> Reading {
        Reading {
            lowest: incumbent,
            predicted: incumbent,
            noise: 0.0,
        }
    }

    fn close(found: f64, wanted: f64, relative: f64) {
        assert!(
            (found - wanted).abs() <= relative * wanted.abs(),
            "{found} is not {wanted}"
        );
    }

    #[test]
    fn without_noise_it_agrees_with_tabulated_values_of_the_expected_improvement() {
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
            (-2.0, 1.0, 0.0, 0.697_383_545_788_228_3),
            (25.0, 1.0, 0.0, -319.861_463_581_495_95),
            (26.0, 1.0, 0.0, -345.439_546_722_318),
        ] {
            close(log_improvement(mean, deviation, &exact(incumbent)).value, value, 2e-13);
        }
    }

    #[test]
    fn with_noise_it_is_the_improvement_of_the_point_that_is_taken() {
        // By summing over the loss f and over the measurement of it.
        let reading = Reading {
            lowest: -0.4,
            predicted: 0.1,
            noise: 0.36,
        };
        for (mean, deviation) in [(0.0, 0.5), (0.2, 0.8), (-0.3, 0.1), (0.9, 1.5)] {
            let (steps, width) = (4_000, 8.0);
            let mut sum = 0.0;
            for step in 0..steps {
                let u = width * (2.0 * (f64::from(step) + 0.5) / f64::from(steps) - 1.0);
                let f = mean + deviation * u;
                let taken = distribution((reading.lowest - f) / 0.6);
                let density = libm::exp(-0.5 * u * u - LOG_SQRT_TWO_PI);
                sum += (reading.predicted - f) * taken * density * 2.0 * width / f64::from(steps);
            }
            close(log_improvement(mean, deviation, &reading).value, libm::log(sum), 1e-6);
        }
    }

    #[test]
    fn a_point_that_luck_alone_would_make_the_best_is_not_wanted() {
        let reading = Reading {
            lowest: -1.0,
            predicted: -0.5,
            noise: 1.0,
        };
        let known_and_bad = log_improvement(0.0, 0.05, &reading).value;
        let known_and_good = log_improvement(-0.55, 0.05, &reading).value;
        let unknown = log_improvement(0.0, 1.0, &reading).value;
        assert!(known_and_bad < -1_000.0);
        assert!(known_and_good > -20.0 && unknown > -20.0);
    }

    #[test]
    fn it_is_finite_continuous_and_falls_with_the_mean() {
        for noise in [0.0, 1e-5, 0.3] {
            let at = |mean: f64| {
                let reading = Reading { noise, ..exact(0.0) };
                log_improvement(mean, 1.0, &reading).value
            };
            let t = (1.0_f64 + noise).sqrt();
            for edge in [t, 5.0 * t] {
                close(at(edge.next_down()), at(edge.next_up()), 1e-12);
            }
            let mut previous = f64::INFINITY;
            for step in 0..2_000 {
                let value = at(-10.0 + 0.03 * f64::from(step));
                assert!(value < previous);
                previous = value;
            }
            assert!(at(1e8).is_finite() && at(-1e8).is_finite());
        }
    }

    #[test]
    fn derivatives_agree_with_differences() {
        for noise in [0.0, 0.2] {
            let reading = Reading {
                lowest: 0.2,
                predicted: 0.2 + noise,
                noise,
            };
            for mean in [-2.0, -0.1, 0.0, 0.2, 1.0, 3.0, 8.0, 40.0] {
                let at = |mean, deviation| log_improvement(mean, deviation, &reading).value;
                let found = log_improvement(mean, 0.7, &reading);
                let step = 1e-6;
                let by_mean = (at(mean + step, 0.7) - at(mean - step, 0.7)) / (2.0 * step);
                let by_deviation = (at(mean, 0.7 + step) - at(mean, 0.7 - step)) / (2.0 * step);
                assert!(
                    (found.by_mean - by_mean).abs() < 1e-4 * by_mean.abs().max(1.0),
                    "{noise} {mean}: {found:?} {by_mean}"
                );
                assert!(
                    (found.by_deviation - by_deviation).abs() < 1e-4 * by_deviation.abs().max(1.0),
                    "{noise} {mean}: {found:?} {by_deviation}"
                );
            }
        }
    }
}
