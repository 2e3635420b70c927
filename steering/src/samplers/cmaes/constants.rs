//! The constants of the strategy.
//!
//! N. Hansen, *The CMA evolution strategy: a tutorial*, arXiv:1604.00772 (2016), table 1.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | n | dimensions of the normal distribution |
//! | λ, μ | points of a generation, and those among them with positive weights |
//! | wᵢ | weight of the i-th best point of a generation |
//! | μ_eff | variance-effective number of points with positive weights |
//! | c₁, c_μ, c_c, c_σ, d_σ | learning rates and damping, by their names in the tutorial |
//! | χ | expected length of a standard normal vector |

/// All constants for one size of generation.
#[derive(Debug, Clone)]
pub(super) struct Constants {
    pub(super) lambda: usize,
    pub(super) mu: usize,
    pub(super) weights: Vec<f64>,
    pub(super) mu_eff: f64,
    pub(super) c_1: f64,
    pub(super) c_mu: f64,
    pub(super) c_c: f64,
    pub(super) c_sigma: f64,
    pub(super) d_sigma: f64,
    pub(super) chi: f64,
}

/// The size of a generation for `dimensions` dimensions of any kind.
pub(super) fn default_lambda(dimensions: usize) -> usize {
    4 + libm::floor(3.0 * libm::log(dimensions.max(1) as f64)) as usize
}

impl Constants {
    /// For `n` numeric dimensions and generations of `lambda` points. With a `diagonal` covariance matrix there is less to learn,
    /// and it is learnt faster: R. Ros, N. Hansen, *PPSN X* (2008), section 3.
    pub(super) fn new(n: usize, lambda: usize, diagonal: bool) -> Self {
        // A space without numeric dimensions still ranks its points.
        let d = n.max(1) as f64;
        let mu = lambda / 2;
        let raw: Vec<f64> = (1..=lambda)
            .map(|rank| libm::log(f64::midpoint(lambda as f64, 1.0)) - libm::log(rank as f64))
            .collect();
        let (plus, minus) = raw.split_at(mu);
        let sum = |part: &[f64]| part.iter().sum::<f64>();
        let effective = |part: &[f64]| sum(part) * sum(part) / part.iter().map(|w| w * w).sum::<f64>();
        let mu_eff = effective(plus);
        let faster = if diagonal { (d + 2.0) / 3.0 } else { 1.0 };
        let c_1 = (faster * 2.0 / ((d + 1.3) * (d + 1.3) + mu_eff)).min(0.5);
        let c_mu = (faster * 2.0 * (mu_eff - 2.0 + 1.0 / mu_eff) / ((d + 2.0) * (d + 2.0) + mu_eff)).min(1.0 - c_1);
        let mu_eff_minus = effective(minus);
        let negative = (1.0 + c_1 / c_mu)
            .min(1.0 + 2.0 * mu_eff_minus / (mu_eff + 2.0))
            .min((1.0 - c_1 - c_mu) / (d * c_mu));
        let (plus_sum, minus_sum) = (sum(plus), -raw.iter().filter(|w| **w < 0.0).sum::<f64>());
        let weights = raw
            .iter()
            .map(|w| {
                if *w >= 0.0 {
                    w / plus_sum
                } else {
                    w * negative / minus_sum
                }
            })
            .collect();
        let c_sigma = (mu_eff + 2.0) / (d + mu_eff + 5.0);
        Self {
            lambda,
            mu,
            weights,
            mu_eff,
            c_1,
            c_mu,
            c_c: (4.0 + mu_eff / d) / (d + 4.0 + 2.0 * mu_eff / d),
            c_sigma,
            d_sigma: 1.0 + 2.0 * (libm::sqrt((mu_eff - 1.0) / (d + 1.0)) - 1.0).max(0.0) + c_sigma,
            chi: libm::sqrt(d) * (1.0 - 1.0 / (4.0 * d) + 1.0 / (21.0 * d * d)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() <= 1e-10 * expected.abs(),
            "{found} is not {expected}"
        );
    }

    #[test]
    fn the_constants_for_six_dimensions_are_those_of_the_tutorial() {
        let constants = Constants::new(6, default_lambda(6), false);
        assert_eq!((constants.lambda, constants.mu), (9, 4));
        close(constants.mu_eff, 2.840_610_429_72);
        close(constants.c_1, 0.035_631_182_071_4);
        close(constants.c_mu, 0.035_686_311_996_8);
        close(constants.c_sigma, 0.349_739_663_167);
        close(constants.d_sigma, 1.349_739_663_167);
        close(constants.c_c, 0.408_649_688_275);
        close(constants.chi, 2.350_667_735_96);
        let expected = [
            0.493_738_377_484_34,
            0.281_096_832_480_64,
            0.156_709_502_558_07,
            0.068_455_287_476_95,
            0.0,
            -0.231_108_164_405_5,
            -0.426_507_333_232_25,
            -0.595_769_792_277_83,
            -0.745_069_862_150_62,
        ];
        for (found, expected) in constants.weights.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
        close(
            -constants.weights.iter().filter(|w| **w < 0.0).sum::<f64>(),
            1.998_455_152_07,
        );
    }

    #[test]
    fn the_constants_for_two_and_twenty_dimensions_are_those_of_the_tutorial() {
        let two = Constants::new(2, default_lambda(2), false);
        assert_eq!(two.lambda, 6);
        close(two.mu_eff, 2.028_611_464_61);
        close(two.c_1, 0.154_815_399_896);
        close(two.c_mu, 0.057_859_085_071_9);
        let twenty = Constants::new(20, default_lambda(20), false);
        assert_eq!(twenty.lambda, 12);
        close(twenty.mu_eff, 3.729_458_934_3);
        close(twenty.c_1, 0.004_372_354_435_16);
        close(twenty.c_mu, 0.008_191_403_277_35);
    }
}
