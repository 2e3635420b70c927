//! The Gaussian process given the data.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | X | rows of features of the evaluated points | n × d |
//! | z | their transformed losses, mean about 0, standard deviation about 1 | n |
//! | l | length scales | d |
//! | s², v, τ² | variances of the signal, of the noise and of the unknown mean | |
//! | K | s² k(r²) + τ² + v δ, with r² = Σ (xᵢ − x'ᵢ)²/lᵢ² over distances, Σ 1\[xᵢ ≠ x'ᵢ\]/lᵢ² over codes | n × n |
//! | α | K⁻¹ z | n |
//!
//! Rasmussen and Williams (2006), equations 2.25–2.26. The mean of the process is unknown with a normal prior of variance τ²,
//! which amounts to a constant in the kernel (their section 2.7): clustered points then count less for it than spread ones.

use super::kernel::{self, matern};
use crate::numerics::linear_algebra::{Cholesky, add_scaled, dot, row_start};

/// The parameters of the kernel.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::samplers) struct Parameters {
    /// l, one per feature.
    pub(in crate::samplers) lengths: Vec<f64>,
    /// s².
    pub(super) signal: f64,
    /// v.
    pub(super) noise: f64,
    /// τ².
    pub(super) mean_variance: f64,
}

/// The process conditioned on the data.
#[derive(Debug, Clone)]
pub(in crate::samplers) struct Posterior {
    parameters: Parameters,
    distances: usize,
    /// 1/l for distances, 1/l² for codes.
    scales: Vec<f64>,
    /// Features of the data, one column per feature, distances divided by their length scales.
    columns: Vec<Vec<f64>>,
    factor: Cholesky,
    /// α; 0 for points whose value was predicted, not measured.
    weights: Vec<f64>,
}

/// Memory for one prediction after another.
#[derive(Debug, Default)]
pub(in crate::samplers) struct Scratch {
    covariances: Vec<f64>,
    slopes: Vec<f64>,
    solved: Vec<f64>,
}

/// Mean and variance of the noiseless process at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::samplers) struct Prediction {
    pub(in crate::samplers) mean: f64,
    pub(in crate::samplers) variance: f64,
}

/// A prediction and its derivatives by the features that are compared by distance; none if they were not asked for.
#[derive(Debug, Clone)]
pub(super) struct Outlook {
    pub(super) prediction: Prediction,
    pub(super) by_mean: Vec<f64>,
    pub(super) by_variance: Vec<f64>,
}

/// From so many predictions on it pays to solve for them together.
const TOGETHER: usize = 3;

impl Posterior {
    /// Conditions on `values` at `rows`; nothing if the matrix cannot be factored even with some more noise.
    pub(in crate::samplers) fn new(
        parameters: Parameters,
        distances: usize,
        rows: &[Vec<f64>],
        values: &[f64],
    ) -> Option<Self> {
        let scales: Vec<f64> = (parameters.lengths.iter().enumerate())
            .map(|(feature, length)| {
                if feature < distances {
                    1.0 / length
                } else {
                    1.0 / (length * length)
                }
            })
            .collect();
        let columns: Vec<Vec<f64>> = (scales.iter().enumerate())
            .map(|(feature, scale)| {
                let unit = if feature < distances { *scale } else { 1.0 };
                rows.iter().map(|row| row[feature] * unit).collect()
            })
            .collect();
        let mut posterior = Self {
            parameters,
            distances,
            scales,
            columns,
            factor: Cholesky::default(),
            weights: Vec::new(),
        };
        let n = rows.len();
        let mut scratch = Scratch::default();
        for jitter in [0.0, 1e-8, 1e-6, 1e-4, 1e-2] {
            let mut noisy = Vec::with_capacity(row_start(n));
            for (i, row) in rows.iter().enumerate() {
                posterior.covary(row, i + 1, false, &mut scratch);
                noisy.extend_from_slice(&scratch.covariances);
                noisy[row_start(i) + i] += posterior.parameters.noise + jitter;
            }
            if let Some(factor) = Cholesky::new(noisy, n) {
                let mut weights = values.to_vec();
                factor.solve_lower(&mut weights);
                factor.solve_upper(&mut weights);
                posterior.factor = factor;
                posterior.weights = weights;
                return Some(posterior);
            }
        }
        None
    }

    /// Adds a point that is still being evaluated, with its predicted value for its loss: the mean stays, the variance shrinks. Returns
    /// that value.
    ///
    /// D. Ginsbourger, R. Le Riche, L. Carraro, *Kriging is well-suited to parallelize optimization* (2010), the kriging believer.
    pub(super) fn believe(&mut self, row: &[f64]) -> f64 {
        let mut scratch = Scratch::default();
        let mean = self.mean(row, &mut scratch);
        let parameters = &self.parameters;
        self.factor.append(
            &scratch.covariances,
            parameters.signal + parameters.mean_variance + parameters.noise,
        );
        self.weights.push(0.0);
        for (feature, column) in self.columns.iter_mut().enumerate() {
            column.push(if feature < self.distances {
                row[feature] * self.scales[feature]
            } else {
                row[feature]
            });
        }
        mean
    }

    /// Adds a point as if `value` had been measured there.
    pub(super) fn suppose(&mut self, row: &[f64], value: f64) {
        let surprise = value - self.believe(row);
        // The last column of the new K⁻¹, by which α changes.
        let mut column = vec![0.0; self.weights.len()];
        if let Some(last) = column.last_mut() {
            *last = 1.0;
        }
        self.factor.solve_lower(&mut column);
        self.factor.solve_upper(&mut column);
        add_scaled(&mut self.weights, surprise, &column);
    }

    /// v.
    pub(super) fn noise(&self) -> f64 {
        self.parameters.noise
    }

    /// The prediction at a row of features.
    pub(in crate::samplers) fn predict(&self, row: &[f64], scratch: &mut Scratch) -> Prediction {
        self.covary(row, self.weights.len(), false, scratch);
        self.solve(scratch)
    }

    /// The predictions at many rows of features, which cost much less together.
    pub(super) fn outlooks(&self, rows: &[&[f64]], with_slopes: bool) -> Vec<Outlook> {
        let mut scratch = Scratch::default();
        let mut means = Vec::with_capacity(rows.len());
        let mut slopes = Vec::with_capacity(rows.len());
        let mut solved = Vec::with_capacity(rows.len());
        for row in rows {
            self.covary(row, self.weights.len(), with_slopes, &mut scratch);
            means.push(dot(&scratch.covariances, &self.weights));
            slopes.push(std::mem::take(&mut scratch.slopes));
            solved.push(std::mem::take(&mut scratch.covariances));
        }
        match solved.as_mut_slice() {
            few if few.len() < TOGETHER => {
                for b in few {
                    self.factor.solve_lower(b);
                }
            }
            many => self.factor.solve_lower_all(many),
        }
        let predictions = means.into_iter().zip(&solved);
        let mut outlooks: Vec<Outlook> = predictions
            .map(|(mean, solved)| Outlook {
                prediction: self.prediction(mean, solved),
                by_mean: Vec::new(),
                by_variance: Vec::new(),
            })
            .collect();
        if with_slopes {
            match solved.as_mut_slice() {
                few if few.len() < TOGETHER => {
                    for b in few {
                        self.factor.solve_upper(b);
                    }
                }
                many => self.factor.solve_upper_all(many),
            }
            for (((outlook, row), slopes), solved) in outlooks.iter_mut().zip(rows).zip(&slopes).zip(&solved) {
                (outlook.by_mean, outlook.by_variance) = self.descend(row, slopes, solved);
            }
        }
        outlooks
    }

    /// The mean alone, which costs much less.
    pub(in crate::samplers) fn mean(&self, row: &[f64], scratch: &mut Scratch) -> f64 {
        self.covary(row, self.weights.len(), false, scratch);
        dot(&scratch.covariances, &self.weights)
    }

    /// The prediction at one row with the derivatives of mean and variance, if wanted.
    pub(super) fn outlook(&self, row: &[f64], with_slopes: bool) -> Outlook {
        let mut outlooks = self.outlooks(&[row], with_slopes);
        outlooks.swap_remove(0)
    }

    /// The derivatives of mean and variance at `row`, given those of the covariances by r² and K⁻¹ times the covariances.
    fn descend(&self, row: &[f64], slopes: &[f64], solved: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let columns = self.columns.iter().zip(&self.scales).zip(row);
        columns
            .take(self.distances)
            .map(|((column, scale), x)| {
                let (mut mean, mut variance) = (0.0, 0.0);
                for (i, other) in column.iter().enumerate() {
                    let slope = slopes[i] * (x * scale - other);
                    mean += slope * self.weights[i];
                    variance += slope * solved[i];
                }
                (2.0 * scale * mean, -4.0 * scale * variance)
            })
            .unzip()
    }

    /// Means at some rows, and the covariances between them without noise, packed.
    pub(in crate::samplers) fn joint(&self, rows: &[&[f64]]) -> (Vec<f64>, Vec<f64>) {
        let mut scratch = Scratch::default();
        let mut means = Vec::with_capacity(rows.len());
        let mut solved: Vec<Vec<f64>> = Vec::with_capacity(rows.len());
        let mut covariances = Vec::with_capacity(row_start(rows.len()));
        for (i, row) in rows.iter().enumerate() {
            means.push(self.predict(row, &mut scratch).mean);
            solved.push(scratch.solved.clone());
            for (other, explained) in rows[..=i].iter().zip(&solved) {
                covariances.push(self.covariance(row, other) - dot(explained, &scratch.solved));
            }
        }
        (means, covariances)
    }

    /// The covariance of two rows before there are data.
    fn covariance(&self, a: &[f64], b: &[f64]) -> f64 {
        let mut square = 0.0;
        for (feature, scale) in self.scales.iter().enumerate() {
            let (a, b) = (a[feature], b[feature]);
            if feature < self.distances {
                square += (a - b) * (a - b) * scale * scale;
            } else if a.to_bits() != b.to_bits() {
                square += scale;
            }
        }
        self.parameters.signal * matern(square).0 + self.parameters.mean_variance
    }

    fn solve(&self, scratch: &mut Scratch) -> Prediction {
        let mean = dot(&scratch.covariances, &self.weights);
        scratch.solved.clone_from(&scratch.covariances);
        self.factor.solve_lower(&mut scratch.solved);
        self.prediction(mean, &scratch.solved)
    }

    /// The prediction, given L⁻¹ times the covariances with the data.
    fn prediction(&self, mean: f64, solved: &[f64]) -> Prediction {
        let prior = self.parameters.signal + self.parameters.mean_variance;
        let variance = (prior - dot(solved, solved)).max(1e-12 * prior);
        Prediction { mean, variance }
    }

    /// Covariances of `row` with the first `count` points, and if wanted their derivatives by r².
    fn covary(&self, row: &[f64], count: usize, slopes: bool, scratch: &mut Scratch) {
        let squares = &mut scratch.covariances;
        squares.clear();
        squares.resize(count, 0.0);
        for (feature, column) in self.columns.iter().enumerate() {
            let scale = self.scales[feature];
            if feature < self.distances {
                let x = row[feature] * scale;
                for (square, other) in squares.iter_mut().zip(column) {
                    let difference = x - other;
                    *square += difference * difference;
                }
            } else {
                let x = row[feature];
                for (square, other) in squares.iter_mut().zip(column) {
                    *square += if x.to_bits() == other.to_bits() { 0.0 } else { scale };
                }
            }
        }
        let Parameters {
            signal, mean_variance, ..
        } = self.parameters;
        if slopes {
            scratch.slopes.clear();
            scratch.slopes.resize(count, 0.0);
            kernel::covariances_with_slopes(squares, &mut scratch.slopes, signal, mean_variance);
        } else {
            kernel::covariances(squares, signal, mean_variance);
        }
    }
}

/// z − mean and variance of each value predicted from all others (Rasmussen and Williams, equations 5.10–5.12), given the packed
/// K⁻¹ and α.
pub(super) fn leave_one_out(inverse: &[f64], alpha: &[f64]) -> Vec<(f64, f64)> {
    (alpha.iter().enumerate())
        .map(|(i, alpha)| {
            let precision = inverse[row_start(i) + i];
            (alpha / precision, 1.0 / precision)
        })
        .collect()
}

/// Rows scaled and summed: a mixture of slopes.
pub(super) fn mix(total: &mut [f64], weight: f64, part: &[f64]) {
    add_scaled(total, weight, part);
}

#[cfg(test)]
mod tests {
    use super::super::acquisition::{Reading, log_improvement};
    use super::*;

    pub(super) fn toy() -> (Vec<Vec<f64>>, Vec<f64>, Parameters) {
        let rows = vec![vec![0.1, 0.2], vec![0.4, 0.9], vec![0.8, 0.5]];
        let parameters = Parameters {
            lengths: vec![0.5, 1.0],
            signal: 1.3,
            noise: 0.01,
            mean_variance: 0.0,
        };
        (rows, vec![0.7, -1.2, 0.5], parameters)
    }

    fn posterior() -> Posterior {
        let (rows, values, parameters) = toy();
        Posterior::new(parameters, 2, &rows, &values).unwrap()
    }

    fn close(found: f64, wanted: f64) {
        assert!(
            (found - wanted).abs() < 1e-11 * wanted.abs().max(1e-3),
            "{found} is not {wanted}"
        );
    }

    #[test]
    fn predictions_agree_with_tabulated_values() {
        let posterior = posterior();
        for (found, wanted) in
            posterior
                .weights
                .iter()
                .zip([1.592_475_909_016_002, -2.651_726_630_463_814, 1.434_941_255_116_581])
        {
            close(*found, wanted);
        }
        for (row, mean, variance) in [
            ([0.3, 0.3], 0.190_116_905_495_582_9, 0.169_908_009_340_715_7),
            ([0.8, 0.5], 0.485_650_587_448_833_9, 0.009_884_449_502_178_372),
            ([1.0, 0.0], 0.791_439_841_084_479_1, 0.538_433_848_325_320_6),
        ] {
            let found = posterior.predict(&row, &mut Scratch::default());
            close(found.mean, mean);
            close(found.variance, variance);
            close(posterior.mean(&row, &mut Scratch::default()), mean);
        }
        let near = posterior.predict(&[0.3, 0.3], &mut Scratch::default());
        let reading = Reading {
            lowest: -1.2,
            predicted: -1.2,
            noise: 0.0,
        };
        let improvement = log_improvement(near.mean, near.variance.sqrt(), &reading).value;
        assert!((libm::exp(improvement) - 3.974_746_442_961_004e-5).abs() < 1e-14);
        let at = posterior.predict(&[0.8, 0.5], &mut Scratch::default());
        assert!((log_improvement(at.mean, at.variance.sqrt(), &reading).value + 152.630_464_709_757_6).abs() < 1e-8);
    }

    #[test]
    fn a_believed_point_leaves_the_mean_and_shrinks_the_variance() {
        let mut posterior = posterior();
        let before = posterior.predict(&[0.35, 0.4], &mut Scratch::default());
        close(before.mean, -0.086_518_967_193_258_3);
        close(before.variance, 0.181_892_968_504_197_23);
        posterior.believe(&[0.3, 0.3]);
        let after = posterior.predict(&[0.35, 0.4], &mut Scratch::default());
        close(after.mean, before.mean);
        close(after.variance, 0.019_930_594_053_586_548);
        close(
            posterior.predict(&[0.9, 0.9], &mut Scratch::default()).variance,
            0.310_304_689_232_045_35,
        );
    }

    #[test]
    fn a_supposed_value_counts_like_a_measured_one() {
        let (mut rows, mut values, parameters) = toy();
        let mut supposed = posterior();
        supposed.suppose(&[0.3, 0.3], -0.4);
        rows.push(vec![0.3, 0.3]);
        values.push(-0.4);
        let measured = Posterior::new(parameters, 2, &rows, &values).unwrap();
        for row in [[0.35, 0.4], [0.9, 0.1]] {
            let found = supposed.predict(&row, &mut Scratch::default());
            let wanted = measured.predict(&row, &mut Scratch::default());
            close(found.mean, wanted.mean);
            close(found.variance, wanted.variance);
        }
    }

    #[test]
    fn many_predictions_at_a_time_are_those_of_each() {
        let posterior = posterior();
        let rows: Vec<Vec<f64>> = (0..11)
            .map(|i| vec![0.1 * f64::from(i), 0.9 - 0.07 * f64::from(i)])
            .collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        for count in [2, 11] {
            let all = posterior.outlooks(&rows[..count], true);
            let without = posterior.outlooks(&rows[..count], false);
            for ((row, found), plain) in rows.iter().zip(all).zip(without) {
                let wanted = posterior.outlook(row, true);
                close(found.prediction.mean, wanted.prediction.mean);
                close(found.prediction.variance, wanted.prediction.variance);
                assert_eq!(plain.prediction, found.prediction);
                for feature in 0..2 {
                    close(found.by_mean[feature], wanted.by_mean[feature]);
                    close(found.by_variance[feature], wanted.by_variance[feature]);
                }
            }
        }
    }

    #[test]
    fn slopes_agree_with_differences() {
        let mut posterior = posterior();
        posterior.believe(&[0.6, 0.1]);
        let row = [0.25, 0.45];
        let Outlook {
            by_mean, by_variance, ..
        } = posterior.outlook(&row, true);
        for feature in 0..2 {
            let at = |step: f64| {
                let mut moved = row;
                moved[feature] += step;
                posterior.predict(&moved, &mut Scratch::default())
            };
            let (left, right) = (at(-1e-6), at(1e-6));
            assert!((by_mean[feature] - (right.mean - left.mean) / 2e-6).abs() < 1e-8);
            assert!((by_variance[feature] - (right.variance - left.variance) / 2e-6).abs() < 1e-8);
        }
    }
}
