//! What decides whether a point will fail: a Gaussian process for success.

use protocol::Outcome;

use super::{FITTED, Fit, PRIOR, Posterior, Prior, Scratch, mix};
use crate::history::History;
use crate::numerics::normal::{LOG_SQRT_TWO_PI, distribution};
use crate::samplers::gp::layout::Layout;

/// Median of ln v for success and failure.
const LABEL_NOISE: f64 = -1.0;
/// Share of failures that is put up with.
const AFFORDABLE: f64 = 0.05;
/// Chance of success that is asked for when there are more.
const SAFE: f64 = 0.965;
/// Variance added to that of the process for success, which is too sure of itself beside labels.
const DOUBT: f64 = 0.25;
/// What a point loses for each unit of chance that is missing.
const PENALTY: f64 = 1_000.0;

/// The process, and how many failures there have been.
#[derive(Debug, Clone)]
pub(in crate::samplers) struct Success {
    posterior: Posterior,
    /// Failures so far, and the chances of it of points that are still being evaluated.
    failures: f64,
    /// Points so far, those still being evaluated included.
    points: f64,
}

impl Success {
    /// A process for success, +1, and failure, −1; nothing while nothing failed. Failures of the infrastructure say nothing.
    pub(in crate::samplers) fn new(layout: &Layout, history: &History) -> Option<Self> {
        let mut rows = Vec::new();
        let mut values = Vec::new();
        for observation in history.observations() {
            let value = match observation.outcome {
                Outcome::Done { .. } => 1.0,
                Outcome::Failed if observation.blamed => -1.0,
                Outcome::Failed | Outcome::Pending => continue,
            };
            if observation.key().is_some() {
                rows.push(layout.row(&observation.coordinates));
                values.push(value);
            }
        }
        let failures = values.iter().filter(|value| **value < 0.0).count() as f64;
        let points = values.len() as f64;
        if failures < 1.0 {
            return None;
        }
        // Of a long history, failures and successes evenly.
        let stride = rows.len().div_ceil(2 * FITTED);
        let rows: Vec<Vec<f64>> = rows.into_iter().step_by(stride).collect();
        let values: Vec<f64> = values.into_iter().step_by(stride).collect();
        let part = rows.len().div_ceil(FITTED);
        let some_rows: Vec<Vec<f64>> = rows.iter().step_by(part).cloned().collect();
        let some_values: Vec<f64> = values.iter().step_by(part).copied().collect();
        // Much noise keeps the border smooth: a process that follows every label is sure of itself right up to the other side.
        let prior = Prior {
            noise: (LABEL_NOISE, 0.3),
            ..PRIOR
        };
        let fit = Fit::new(&some_rows, layout.distances, layout.features, prior);
        let optimum = fit.climb(&some_values, &fit.data_driven(&some_values), 20);
        let posterior = Posterior::new(fit.parameters(&optimum.theta), layout.distances, &rows, &values)?;
        Some(Self {
            posterior,
            failures,
            points,
        })
    }

    /// Takes a point into account that is still being evaluated: as one that may go either way. Where success is well known that
    /// changes little; near the border, where all points of a batch would make the same mistake, the others keep away.
    pub(super) fn expect(&mut self, row: &[f64]) {
        self.failures += 1.0 - self.chance(row);
        self.points += 1.0;
        self.posterior.suppose(row, 0.0);
    }

    /// P, the chance that the point with these features does not fail.
    pub(in crate::samplers) fn chance(&self, row: &[f64]) -> f64 {
        let prediction = self.posterior.predict(row, &mut Scratch::default());
        distribution(prediction.mean / (prediction.variance + DOUBT).sqrt())
    }

    /// Least chance of success that the next point should have. An optimum at the border would draw every second point across
    /// it, so there is a budget of failures: what is left of it is the most that the next point may take of it.
    fn least(&self) -> f64 {
        let left = AFFORDABLE * (self.points + 1.0) - self.failures;
        (1.0 - left).clamp(0.0, SAFE)
    }

    /// ln P, less a penalty where P is too low, with P the mass above zero of the process; its derivatives are added to `slopes`.
    pub(super) fn worth(&self, row: &[f64], slopes: Option<&mut Vec<f64>>) -> f64 {
        let outlook = self.posterior.outlook(row, slopes.is_some());
        let deviation = (outlook.prediction.variance + DOUBT).sqrt();
        let z = outlook.prediction.mean / deviation;
        let mass = distribution(z).max(1e-300);
        let missing = self.least() - mass;
        if let Some(slopes) = slopes {
            let density = libm::exp(-0.5 * z * z - LOG_SQRT_TWO_PI);
            let by_z = density / mass + if missing > 0.0 { PENALTY * density } else { 0.0 };
            mix(slopes, by_z / deviation, &outlook.by_mean);
            mix(slopes, -by_z * z * 0.5 / (deviation * deviation), &outlook.by_variance);
        }
        libm::log(mass) - PENALTY * missing.max(0.0)
    }
}
