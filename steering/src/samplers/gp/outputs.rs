//! Losses on a scale on which they look like draws from a normal process.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | y | losses, smaller is better |
//! | f | a transform, rising |
//! | z | f(y), standardised: mean 0, standard deviation 1 |
//!
//! Losses of trainings span decades and have outliers, all on the bad side. Which transform suits is not known beforehand, so
//! several are tried and compared by how well the model predicts each of the better half of the losses from all others. The
//! densities of different scales are compared on the scale of the losses, by the slope of f. The worse half does not vote: no
//! search is won by knowing how bad bad points are.

use crate::numerics::normal::{LOG_SQRT_TWO_PI, quantile};

/// Losses on one scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scaled {
    pub(super) transform: Transform,
    /// z.
    pub(super) values: Vec<f64>,
    /// ln dz/dy.
    log_slopes: Vec<f64>,
}

/// f.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Transform {
    /// f(y) = y.
    Linear,
    /// f(y) = ln(y − least + offset); the offset in units of the distance from the least loss to the median.
    Logarithm { offset: f64 },
    /// f(y) = ln y, where all losses are above zero.
    Plain,
    /// The better half as it is, the worse half as quantiles of a normal with the same spread, then a mild logarithm.
    HalfRank,
}

/// The transforms that can be applied to `losses`.
pub(super) fn all(losses: &[f64]) -> Vec<Scaled> {
    let mut transforms = vec![
        Transform::Logarithm { offset: 1.0 },
        Transform::Linear,
        Transform::Logarithm { offset: 0.1 },
        Transform::HalfRank,
    ];
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    if least > 0.0 {
        transforms.push(Transform::Plain);
    }
    transforms
        .into_iter()
        .filter_map(|transform| apply(transform, losses))
        .collect()
}

/// The scale of `losses` themselves alone.
pub(super) fn linear(losses: &[f64]) -> Vec<Scaled> {
    apply(Transform::Linear, losses).into_iter().collect()
}

/// z with the logarithms of its slopes; nothing if the result is not finite.
pub(super) fn apply(transform: Transform, losses: &[f64]) -> Option<Scaled> {
    let sorted = sorted(losses);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let (values, slopes): (Vec<f64>, Vec<f64>) = match transform {
        Transform::Linear => (losses.to_vec(), vec![0.0; losses.len()]),
        Transform::Plain => losses.iter().map(|y| (libm::log(*y), -libm::log(*y))).unzip(),
        Transform::Logarithm { offset } => {
            let middle = median(&sorted) - least;
            let unit = offset * if middle > 0.0 { middle } else { most - least };
            let unit = if unit > 0.0 { unit } else { 1.0 };
            losses
                .iter()
                .map(|y| libm::log(y - least + unit))
                .map(|log| (log, -log))
                .unzip()
        }
        Transform::HalfRank => {
            let ranked: Vec<f64> = half_rank(losses);
            let warped = log_warp(&ranked);
            // Only the better half is compared, and for it the first step is the identity.
            let (low, high) = ends(&ranked);
            let range = high - low;
            let slope = |y: f64| {
                let inner = 1.0 + (y - low) / range * (WARP - 1.0);
                libm::log((WARP - 1.0) / (range * inner * libm::log(WARP)))
            };
            let slopes = ranked
                .iter()
                .map(|y| if range > 0.0 { slope(*y) } else { 0.0 })
                .collect();
            (warped, slopes)
        }
    };
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n).sqrt();
    // Losses that are all equal up to rounding have no scale; they are all 0.
    let scale = if deviation > 1e-12 * mean.abs().max(f64::MIN_POSITIVE) {
        deviation
    } else {
        f64::INFINITY
    };
    let values: Vec<f64> = values.iter().map(|value| (value - mean) / scale).collect();
    let shift = if scale.is_finite() { libm::log(scale) } else { 0.0 };
    let log_slopes: Vec<f64> = slopes.iter().map(|slope| slope - shift).collect();
    values
        .iter()
        .chain(&log_slopes)
        .all(|value| value.is_finite())
        .then_some(Scaled {
            transform,
            values,
            log_slopes,
        })
}

impl Scaled {
    /// The part at some positions.
    pub(super) fn at(&self, positions: &[usize]) -> Self {
        let pick = |values: &[f64]| positions.iter().map(|position| values[*position]).collect();
        Self {
            transform: self.transform,
            values: pick(&self.values),
            log_slopes: pick(&self.log_slopes),
        }
    }

    /// Mean logarithm of the density at the better half of the losses when each is predicted from all others, on the scale of the
    /// losses; `left_out` holds the error and the variance of each prediction on the scale of z.
    pub(super) fn score(&self, left_out: &[(f64, f64)]) -> f64 {
        let n = left_out.len().max(1) as f64;
        // The parameters may have been fitted on another scale; one factor on all variances makes up for most of that.
        let spread = (left_out
            .iter()
            .map(|(error, variance)| error * error / variance)
            .sum::<f64>()
            / n)
            .max(1e-6);
        let middle = median(&sorted(&self.values));
        let (mut sum, mut count) = (0.0, 0.0);
        for ((value, slope), (error, variance)) in self.values.iter().zip(&self.log_slopes).zip(left_out) {
            if *value <= middle {
                let variance = variance * spread;
                sum += slope - 0.5 * error * error / variance - 0.5 * libm::log(variance) - LOG_SQRT_TWO_PI;
                count += 1.0;
            }
        }
        if count > 0.0 { sum / count } else { f64::NEG_INFINITY }
    }
}

/// Base of the mild logarithm after the half-rank transform.
const WARP: f64 = 1.5;

/// Losses above the median become quantiles of a normal around the median whose spread is that of the losses below it.
///
/// X. Song et al., *The Vizier Gaussian process bandit algorithm* (2024), section 4.1, with the sign turned for minimisation.
fn half_rank(losses: &[f64]) -> Vec<f64> {
    let sorted = sorted(losses);
    let middle = median(&sorted);
    let mut distinct: Vec<f64> = sorted.iter().copied().filter(|loss| *loss >= middle).rev().collect();
    distinct.dedup_by(|a, b| a.to_bits() == b.to_bits());
    let owned = distinct.last().is_some_and(|loss| loss.to_bits() == middle.to_bits());
    let worse = distinct.len() - usize::from(owned);
    let denominator = worse as f64 + if owned { 0.5 } else { 0.0 };
    let good: Vec<f64> = sorted
        .iter()
        .copied()
        .filter(|loss| *loss < middle || (owned && *loss <= middle))
        .collect();
    let square = good.iter().map(|loss| (loss - middle) * (loss - middle)).sum::<f64>() / good.len().max(1) as f64;
    let spread = if square > 0.0 {
        square.sqrt()
    } else {
        sorted[sorted.len() - 1] - middle
    };
    losses
        .iter()
        .map(|loss| {
            if *loss <= middle {
                return *loss;
            }
            let rank = distinct
                .iter()
                .position(|other| other.to_bits() == loss.to_bits())
                .unwrap_or(0) as f64
                + 1.0;
            middle - spread * quantile(0.5 * (rank - 0.5) / denominator)
        })
        .collect()
}

/// −½ for the best, +½ for the worst, in between on a mildly logarithmic scale that stretches the good end.
fn log_warp(losses: &[f64]) -> Vec<f64> {
    let (low, high) = ends(losses);
    let range = high - low;
    let warp = |loss: f64| libm::log1p((loss - low) / range * (WARP - 1.0)) / libm::log(WARP) - 0.5;
    losses
        .iter()
        .map(|loss| if range > 0.0 { warp(*loss) } else { 0.0 })
        .collect()
}

fn ends(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    if n == 0 {
        0.0
    } else {
        0.5 * (sorted[(n - 1) / 2] + sorted[n / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
        }
    }

    /// The tabulated example is one of maximisation.
    const EXAMPLE: [f64; 6] = [-1.0, -2.0, -3.0, 100.0, 5.0, -2.5];

    #[test]
    fn half_rank_and_log_warp_agree_with_tabulated_values() {
        let ranked = half_rank(&EXAMPLE);
        close(
            &ranked,
            &[
                -1.272_711_356_882_81,
                -2.0,
                -3.0,
                -0.006_195_612_473_306_911,
                -0.771_467_804_207_550_3,
                -2.5,
            ],
        );
        close(
            &log_warp(&ranked),
            &[
                0.125_111_889_159_548_52,
                -0.119_088_615_104_646_13,
                -0.5,
                0.5,
                0.280_359_381_469_827_64,
                -0.302_197_811_797_709_1,
            ],
        );
    }

    #[test]
    fn every_transform_keeps_the_order_and_is_standardised() {
        for scaled in all(&[0.3, 0.1, 2.0, 1e4, 0.25, 0.7, 0.7]) {
            let z = &scaled.values;
            assert!(
                z[1] < z[4] && z[4] < z[0] && z[0] < z[5] && z[5] < z[2] && z[2] < z[3],
                "{scaled:?}"
            );
            assert!((z[5] - z[6]).abs() < 1e-15);
            assert!(z.iter().sum::<f64>().abs() < 1e-12);
        }
    }

    #[test]
    fn slopes_are_those_of_the_transform() {
        let losses = [0.3, 0.1, 2.0, 9.0, 0.25, 0.7];
        for transform in [Transform::Linear, Transform::Plain, Transform::HalfRank] {
            let scaled = apply(transform, &losses).unwrap();
            // Between the two best losses the slope is close to the mean of the slopes at both.
            let rise = libm::log((scaled.values[4] - scaled.values[1]) / 0.15);
            let slope = 0.5 * (scaled.log_slopes[4] + scaled.log_slopes[1]);
            assert!((rise - slope).abs() < 0.05, "{transform:?}: {rise} {slope}");
        }
    }

    #[test]
    fn equal_and_extreme_losses_are_survived() {
        for losses in [
            vec![3.0; 5],
            vec![0.0; 3],
            vec![-1e29, 1e29, 0.0],
            vec![1e-300, 1e-299],
            vec![5.0],
        ] {
            for scaled in all(&losses) {
                assert!(
                    scaled.values.iter().all(|value| value.is_finite()),
                    "{losses:?} {scaled:?}"
                );
            }
            assert!(!all(&losses).is_empty(), "{losses:?}");
        }
    }

    #[test]
    fn losses_over_decades_are_scored_best_on_a_logarithmic_scale() {
        let losses: Vec<f64> = (0..20).map(|i| libm::exp(f64::from(i * 7 % 20))).collect();
        let score = |transform| {
            let scaled = apply(transform, &losses).unwrap();
            scaled.score(&vec![(0.1, 0.01); 20])
        };
        assert!(score(Transform::Plain) > score(Transform::Linear) + 1.0);
    }
}
