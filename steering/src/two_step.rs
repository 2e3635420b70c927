//! Searching on part of the data and training the best on all: how many must go on so that the true best is among them?
//!
//! | symbol | meaning |
//! | --- | --- |
//! | N | configurations evaluated on part of the data |
//! | m | of these, evaluated on all of them too, for calibration |
//! | `ρ_S` | rank correlation (Spearman) of the two losses |
//! | ρ | correlation of normal variables with that rank correlation, 2 sin(π `ρ_S` / 6) |
//! | k | configurations that go on, the best on part of the data |
//!
//! The two losses are taken for monotone functions of two normal variables with correlation ρ (a Gaussian copula). Then the chance
//! that the best on all data is among the k best on part of them is a double integral over the best value and its cheap one: given
//! both, the others fall below the cheap one independently of each other.
//!
//! The bound of the rank correlation is that of D. G. Bonett, T. A. Wright, *Sample size requirements for estimating Pearson,
//! Kendall and Spearman correlations*, Psychometrika 65 (2000), equation 3: Fisher's transformation with the variance
//! (1 + `ρ_S`²/2) / (m − 3). It rests on the copula and on a calibration that covers good and bad configurations alike.

use std::f64::consts::PI;

use crate::numerics::normal;

/// One-sided confidence of 95 %.
const CONFIDENCE: f64 = 1.644_853_626_951_472_2;
/// Nodes of the integrals over the best value, its noise, and the values below it.
const BEST_NODES: usize = 32;
const NOISE_NODES: usize = 32;
const BELOW_NODES: usize = 120;
/// How far below the best value the last integral goes, in standard deviations.
const DEPTH: f64 = 9.0;

/// What a calibration says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The rank correlation, in [−1, 1].
    pub correlation: f64,
    /// Its lower bound, with 95 % confidence; −1 for fewer than four pairs.
    pub bound: f64,
    /// Pairs.
    pub pairs: usize,
}

/// The rank correlation of pairs (loss on part of the data, loss on all), ties sharing their ranks; nothing for fewer than two
/// pairs or a series of equal values.
#[must_use]
pub fn agreement(pairs: &[(f64, f64)]) -> Option<Agreement> {
    let first = ranks(pairs.iter().map(|pair| pair.0));
    let second = ranks(pairs.iter().map(|pair| pair.1));
    let centre = (pairs.len() as f64 - 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - centre) * (b - centre)).sum::<f64>();
    let scale = libm::sqrt(sum(&first, &first) * sum(&second, &second));
    if pairs.len() < 2 || scale == 0.0 {
        return None;
    }
    let correlation = (sum(&first, &second) / scale).clamp(-1.0, 1.0);
    Some(Agreement {
        correlation,
        bound: bound(correlation, pairs.len()),
        pairs: pairs.len(),
    })
}

/// Ranks from 0, means for ties.
fn ranks(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let values: Vec<f64> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    for group in order.chunk_by(|a, b| values[*a].to_bits() == values[*b].to_bits()) {
        let below = values
            .iter()
            .filter(|value| value.total_cmp(&values[group[0]]).is_lt())
            .count();
        for place in group {
            ranks[*place] = below as f64 + (group.len() as f64 - 1.0) / 2.0;
        }
    }
    ranks
}

/// Lower bound, with 95 % confidence, of a rank correlation found in `pairs` pairs.
#[must_use]
pub fn bound(correlation: f64, pairs: usize) -> f64 {
    if pairs < 4 {
        return -1.0;
    }
    let found = correlation.clamp(-1.0 + 1e-12, 1.0 - 1e-12);
    let deviation = libm::sqrt((1.0 + found * found / 2.0) / (pairs as f64 - 3.0));
    libm::tanh(libm::atanh(found) - CONFIDENCE * deviation)
}

/// Places at which to calibrate: `pairs` of `count` ranks from 0, spread over the whole range, both ends included.
#[must_use]
pub fn spread(count: usize, pairs: usize) -> Vec<usize> {
    let pairs = pairs.min(count);
    if pairs < 2 {
        return (0..pairs).collect();
    }
    (0..pairs).map(|place| place * (count - 1) / (pairs - 1)).collect()
}

/// What both steps have shown so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guarantee {
    /// Configurations with a loss on part of the data.
    pub first: usize,
    /// How many of the best of them, without a gap, went on to all data.
    pub second: usize,
    /// How many others did: of the calibration, or chosen by a model. The chance does not count on them.
    pub others: usize,
    /// The rank correlation in the calibration.
    pub agreement: Agreement,
    /// The chance that the best of all on all data is among those of the second step, at the lower bound of the correlation.
    pub chance: f64,
}

/// What a configuration has shown in both steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// Its loss on part of the data, or its place where some were trained longer there than others.
    pub first: f64,
    /// Whether it went on.
    pub went_on: bool,
    /// Its loss after full training on all data.
    pub full: Option<f64>,
}

/// What can be said after both steps; `calibration` is how many of all ranks were trained on all data. Nothing as long as the
/// calibration says nothing.
#[must_use]
pub fn guarantee(configurations: &[Compared], calibration: usize) -> Option<Guarantee> {
    let mut ranking = configurations.to_vec();
    ranking.sort_by(|a, b| a.first.total_cmp(&b.first));
    let places = spread(ranking.len(), calibration).into_iter();
    // Only what was chosen for all ranks tells how ranks agree: those that went on for being good differ too little.
    let pairs: Vec<(f64, f64)> = places
        .filter_map(|place| Some((ranking[place].first, ranking[place].full?)))
        .collect();
    let agreement = agreement(&pairs)?;
    let second = ranking.iter().take_while(|compared| compared.went_on).count();
    let all = ranking.iter().filter(|compared| compared.went_on).count();
    let chance = Chances::new(ranking.len(), agreement.bound.max(0.0)).among(second);
    Some(Guarantee {
        first: ranking.len(),
        second,
        others: all - second,
        agreement,
        chance,
    })
}

/// The chances that the best of `count` by one measure is among the best by another.
#[derive(Debug)]
pub struct Chances {
    count: usize,
    /// Weight, and the chance with which each of the others is ahead.
    nodes: Vec<(f64, f64)>,
}

impl Chances {
    /// For two measures with this rank correlation.
    #[must_use]
    pub fn new(count: usize, rank_correlation: f64) -> Self {
        let correlation = (2.0 * libm::sin(PI * rank_correlation / 6.0)).clamp(-0.999_999, 0.999_999);
        let noise = libm::sqrt(1.0 - correlation * correlation);
        let middle = |index: usize, of: usize| (index as f64 + 0.5) / of as f64;
        let mut nodes = Vec::with_capacity(BEST_NODES * NOISE_NODES);
        for index in 0..BEST_NODES {
            // The best of N has a value with the distribution function Φᴺ; equal steps of that are equally likely. Large is good.
            let below = libm::exp(libm::log(middle(index, BEST_NODES)) / count.max(1) as f64);
            let best = normal::quantile(below);
            // Density and value of the others, all of which are below.
            let others: Vec<(f64, f64)> = (0..BELOW_NODES)
                .map(|node| best - DEPTH * middle(node, BELOW_NODES))
                .map(|value| (libm::exp(-0.5 * value * value), value))
                .collect();
            let all: f64 = others.iter().map(|(density, _)| density).sum();
            for step in 0..NOISE_NODES {
                let cheap = correlation * best + noise * normal::quantile(middle(step, NOISE_NODES));
                let is_ahead = |value: f64| normal::distribution((correlation * value - cheap) / noise);
                let ahead: f64 = others.iter().map(|(density, value)| density * is_ahead(*value)).sum();
                nodes.push((1.0 / (BEST_NODES * NOISE_NODES) as f64, ahead / all));
            }
        }
        Self { count, nodes }
    }

    /// The chance that the true best is among the `k` best by the cheap measure.
    #[must_use]
    pub fn among(&self, k: usize) -> f64 {
        if k >= self.count {
            return 1.0;
        }
        let others = self.count - 1;
        self.nodes
            .iter()
            .map(|(weight, ahead)| weight * at_most(k, others, *ahead))
            .sum()
    }

    /// The smallest k with at least the chance `wanted`.
    #[must_use]
    pub fn smallest(&self, wanted: f64) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if self.among(middle) >= wanted {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }
}

/// The chance that fewer than `k` of `trials` succeed, each with probability `p`.
fn at_most(k: usize, trials: usize, p: f64) -> f64 {
    if p <= 0.0 || k > trials {
        return if k == 0 { 0.0 } else { 1.0 };
    }
    if p >= 1.0 {
        return 0.0;
    }
    // Beyond ten standard deviations, and some for the tails of small numbers, there is nothing.
    let (n, below) = (trials as f64, k as f64);
    let mean = n * p;
    let reach = 10.0 * libm::sqrt(mean * (1.0 - p)) + 30.0;
    if below > mean + reach {
        return 1.0;
    }
    if below < mean - reach {
        return 0.0;
    }
    let first = (mean - reach).max(0.0) as usize;
    let failures = (trials - first) as f64;
    let log_choices = libm::lgamma(n + 1.0) - libm::lgamma(first as f64 + 1.0) - libm::lgamma(failures + 1.0);
    let mut term = libm::exp(log_choices + first as f64 * libm::log(p) + failures * libm::log1p(-p));
    let odds = p / (1.0 - p);
    let mut sum = 0.0;
    for successes in first..k {
        sum += term;
        term *= odds * (trials - successes) as f64 / (successes + 1) as f64;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_successes_have_the_chance_of_the_plain_sum() {
        for (trials, p) in [
            (1, 0.3),
            (7, 0.5),
            (60, 0.01),
            (400, 0.97),
            (3_000, 0.2),
            (17_000, 0.004),
        ] {
            let mut sum = 0.0;
            for k in 0..=trials.min(900) {
                let found = at_most(k, trials, p);
                assert!((found - sum).abs() < 1e-9, "{k} of {trials} at {p}: {found} {sum}");
                let (n, k) = (trials as f64, k as f64);
                let choices = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
                sum += libm::exp(choices + k * libm::log(p) + (n - k) * libm::log1p(-p));
            }
        }
    }

    #[test]
    fn chances_are_those_of_the_monte_carlo_table() {
        let table: [(usize, f64, [f64; 6]); 9] = [
            (100, 0.483, [0.11, 0.34, 0.50, 0.75, 0.92, 1.0]),
            (100, 0.786, [0.32, 0.69, 0.86, 0.98, 1.0, 1.0]),
            (100, 0.891, [0.48, 0.87, 0.96, 1.0, 1.0, 1.0]),
            (1_000, 0.483, [0.06, 0.16, 0.23, 0.38, 0.51, 0.66]),
            (1_000, 0.683, [0.13, 0.34, 0.47, 0.65, 0.79, 0.91]),
            (1_000, 0.786, [0.21, 0.49, 0.64, 0.83, 0.92, 0.98]),
            (1_000, 0.891, [0.38, 0.76, 0.87, 0.96, 0.99, 1.0]),
            (1_000, 0.945, [0.52, 0.89, 0.96, 0.99, 1.0, 1.0]),
            (1_000, 0.989, [0.77, 0.99, 1.0, 1.0, 1.0, 1.0]),
        ];
        for (count, correlation, row) in table {
            let chances = Chances::new(count, correlation);
            for (k, expected) in [1, 5, 10, 25, 50, 100].into_iter().zip(row) {
                let found = chances.among(k);
                // The table has an error of 0.01 and two digits.
                assert!(
                    (found - expected).abs() < 0.035,
                    "N = {count}, ρ = {correlation}, k = {k}: {found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn the_smallest_number_has_the_wanted_chance_and_one_less_has_not() {
        let chances = Chances::new(1_000, 0.891);
        let k = chances.smallest(0.9);
        assert!(chances.among(k) >= 0.9 && chances.among(k - 1) < 0.9, "{k}");
        assert_eq!(Chances::new(1, 0.5).smallest(0.9), 1);
        assert_eq!(Chances::new(20, -0.9).smallest(1.0), 20);
    }

    #[test]
    fn bounds_are_those_of_the_table() {
        for (correlation, pairs, expected) in [(0.9, 8, 0.537), (0.9, 15, 0.721), (0.9, 30, 0.799), (0.8, 20, 0.565)] {
            assert!(
                (bound(correlation, pairs) - expected).abs() < 6e-4,
                "{correlation}, {pairs}: {}",
                bound(correlation, pairs)
            );
        }
        for (correlation, pairs) in [(0.95, 8), (0.9, 14), (0.85, 28), (0.8, 70)] {
            assert!(
                bound(correlation, pairs) >= 0.7 - 5e-3 && bound(correlation, pairs - 1) < 0.7,
                "{correlation}, {pairs}"
            );
        }
        assert_eq!(bound(0.9, 3).to_bits(), (-1.0_f64).to_bits());
    }

    #[test]
    fn agreement_is_that_of_ranks_and_ties_share_theirs() {
        let found = agreement(&[(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 1e9)]).unwrap();
        assert!((found.correlation - 0.8).abs() < 1e-12, "{found:?}");
        let tied = agreement(&[(1.0, 1.0), (1.0, 2.0), (2.0, 3.0)]).unwrap();
        assert!((tied.correlation - 0.866_025_403_784_438_6).abs() < 1e-12, "{tied:?}");
        assert_eq!(agreement(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(agreement(&[(1.0, 1.0)]), None);
    }

    #[test]
    fn calibration_covers_both_ends() {
        assert_eq!(spread(100, 4), [0, 33, 66, 99]);
        assert_eq!(spread(3, 10), [0, 1, 2]);
        assert_eq!(spread(5, 1), [0]);
        assert!(spread(0, 4).is_empty());
    }
}
