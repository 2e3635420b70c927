//! The normal distribution.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | Φ | distribution function of the standard normal |
//! | φ | its density |
//! | a, b | ends of an interval in standard units, possibly infinite |

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// log √(2π).
pub(crate) const LOG_SQRT_TWO_PI: f64 = 0.918_938_533_204_672_8;

/// Φ(x), accurate in the left tail.
pub(crate) fn distribution(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// Φ(b) − Φ(a) for a ≤ b, accurate in both tails.
pub(crate) fn mass(a: f64, b: f64) -> f64 {
    if a > 0.0 {
        distribution(-a) - distribution(-b)
    } else {
        distribution(b) - distribution(a)
    }
}

/// log(Φ(b) − Φ(a)) for a < b; finite as long as a double can hold it, also where the mass itself is zero in a double.
pub(crate) fn log_mass(a: f64, b: f64) -> f64 {
    let plain = mass(a, b);
    if plain > 1e-290 {
        return libm::log(plain);
    }
    // Far out, the mass is that of the tail beyond the nearer end: φ(z)/z (1 − 1/z² + …), less what lies beyond the other end.
    let (near, far) = if a > 0.0 { (a, b) } else { (-b, -a) };
    let tail =
        |z: f64| -0.5 * z * z - LOG_SQRT_TWO_PI - libm::log(z) + libm::log1p(-1.0 / (z * z) + 3.0 / (z * z * z * z));
    let beyond = if far.is_finite() {
        libm::exp((tail(far) - tail(near)).min(-1e-16))
    } else {
        0.0
    };
    tail(near) + libm::log1p(-beyond)
}

/// The x with Φ(x) = p, by the rational start of Giles (2010) refined by Halley steps on Φ; ∓∞ at p = 0 and 1.
pub(crate) fn quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    // Tail expansion as a start; exact enough for the refinement to converge quadratically from anywhere left of the median.
    let t = libm::sqrt(-2.0 * libm::log(p));
    let mut x = if p < 0.02 {
        -(t - libm::log(t * libm::sqrt(2.0 * PI)) / t)
    } else {
        (p - 0.5) * libm::sqrt(2.0 * PI)
    };
    for _ in 0..60 {
        let density = libm::exp(-0.5 * x * x - LOG_SQRT_TWO_PI);
        let newton = (distribution(x) - p) / density;
        let step = newton / (1.0 + 0.5 * x * newton).max(0.5);
        x -= step;
        if step.abs() <= 1e-15 * x.abs().max(1.0) {
            break;
        }
    }
    x
}

/// The quantile `u` of a normal with the given centre and scale, cut to [`low`, `high`].
pub(crate) fn truncated_quantile(u: f64, centre: f64, scale: f64, low: f64, high: f64) -> f64 {
    let (a, b) = ((low - centre) / scale, (high - centre) / scale);
    // Work in the tail where a small probability keeps its digits.
    let x = if a > 0.0 {
        -quantile(distribution(-a) - u * mass(a, b))
    } else {
        quantile(distribution(a) + u * mass(a, b))
    };
    (centre + scale * x).clamp(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!(
            (found - expected).abs() <= relative * expected.abs(),
            "{found} is not {expected}"
        );
    }

    #[test]
    fn distribution_and_quantile_agree_with_tabulated_values() {
        close(distribution(0.5), 0.691_462_461_274_013, 1e-14);
        close(distribution(-1.0), 0.158_655_253_931_457, 1e-14);
        close(distribution(-10.0), 7.619_853_024_160_526e-24, 1e-13);
        close(quantile(0.975), 1.959_963_984_540_054, 1e-14);
        close(quantile(1e-10), -6.361_340_902_404_056, 1e-13);
        close(quantile(1e-300), -37.047_099_640_709_5, 1e-4);
        assert!(quantile(0.0).is_infinite() && quantile(1.0).is_infinite());
    }

    #[test]
    fn quantile_inverts_distribution_from_tail_to_tail() {
        for step in -370..=80 {
            let x = f64::from(step) / 10.0;
            let p = distribution(x);
            if x <= 5.0 {
                assert!((quantile(p) - x).abs() < 1e-9, "{x} {}", quantile(p));
            }
        }
    }

    #[test]
    fn log_mass_is_finite_and_continuous_into_the_far_tail() {
        close(log_mass(1.0, 2.0), libm::log(0.135_905_121_983_277_9), 1e-13);
        close(log_mass(-2.0, -1.0), log_mass(1.0, 2.0), 1e-15);
        let mut previous = log_mass(34.0, 34.5);
        for step in 1..100 {
            let a = 34.0 + f64::from(step) * 0.1;
            let now = log_mass(a, a + 0.5);
            assert!(
                now.is_finite() && now < previous && previous - now < 6.0,
                "{a}: {previous} {now}"
            );
            previous = now;
        }
        assert!(log_mass(1e6, 1e6 + 1.0).is_finite());
        close(log_mass(100.0, f64::INFINITY), -5_005.524_208_637_5, 1e-6);
    }

    #[test]
    fn truncated_quantiles_stay_inside_and_rise() {
        let mut previous = 0.2;
        for step in 1..100 {
            let x = truncated_quantile(f64::from(step) / 100.0, 0.3, 0.05, 0.2, 0.9);
            assert!(x > previous && x <= 0.9);
            previous = x;
        }
        close(truncated_quantile(0.5, 5.0, 1.0, 0.0, 10.0), 5.0, 1e-14);
        assert!(truncated_quantile(0.5, 0.0, 1.0, 3.0, f64::INFINITY) > 3.0);
    }
}
