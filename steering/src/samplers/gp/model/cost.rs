//! What an evaluation costs: a Gaussian process for the logarithm of its seconds.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | c | predicted seconds |
//! | a | thrift: how much they count |
//!
//! The worth of a point, a logarithm, loses a ln c: the expected improvement is divided by cᵃ. J. Snoek, H. Larochelle, R. P. Adams,
//! *Practical Bayesian optimization of machine learning algorithms*, NeurIPS 25 (2012), section 3.2, has a = 1.

use super::{FITTED, Fit, PRIOR, Posterior, Scratch, Workspace, mix};
use crate::history::History;
use crate::samplers::gp::layout::Layout;

/// Measured times below which there is nothing to learn.
const LEAST: usize = 4;
/// Standard deviation of ln c below which all evaluations cost the same.
const EQUAL: f64 = 0.02;

/// The process, if seconds count.
#[derive(Debug, Clone)]
pub(super) struct Cost {
    posterior: Posterior,
    /// Mean and standard deviation of ln c over the history.
    mean: f64,
    deviation: f64,
    /// a.
    thrift: f64,
}

impl Cost {
    /// Learns from the points that were evaluated in a known time; nothing if seconds do not count, too few are known or all are
    /// alike.
    pub(super) fn new(layout: &Layout, history: &History) -> Option<Self> {
        let thrift = history.thrift();
        let measured: Vec<(Vec<f64>, f64)> = (history.observations().iter())
            .filter(|observation| observation.key().is_some() && observation.outcome.loss().is_some())
            .filter_map(|observation| Some((layout.row(&observation.coordinates), libm::log(observation.seconds?))))
            .collect();
        if thrift <= 0.0 || measured.len() < LEAST {
            return None;
        }
        // Of a long history, evenly.
        let stride = measured.len().div_ceil(FITTED);
        let (rows, logs): (Vec<Vec<f64>>, Vec<f64>) = measured.into_iter().step_by(stride).unzip();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let deviation = (logs.iter().map(|log| (log - mean) * (log - mean)).sum::<f64>() / n).sqrt();
        if deviation < EQUAL {
            return None;
        }
        let values: Vec<f64> = logs.iter().map(|log| (log - mean) / deviation).collect();
        let fit = Fit::new(&rows, layout.distances, layout.features, PRIOR);
        let optimum = fit.climb(&values, fit.data_driven(&values), 20);
        let posterior = Posterior::new(fit.parameters(&optimum.theta), layout.distances, &rows, &values)?;
        Some(Self {
            posterior,
            mean,
            deviation,
            thrift,
        })
    }

    /// a ln c; its derivatives are subtracted from `slopes`.
    pub(super) fn weight(&self, row: &[f64], workspace: &mut Workspace, slopes: Option<&mut Vec<f64>>) -> f64 {
        let Some(slopes) = slopes else {
            return self.thrift * self.log_seconds(row, &mut workspace.scratch);
        };
        let prediction = self.posterior.predict_with_slopes(
            row,
            &mut workspace.scratch,
            &mut workspace.by_mean,
            &mut workspace.by_variance,
        );
        mix(slopes, -self.thrift * self.deviation, &workspace.by_mean);
        self.thrift * (self.mean + self.deviation * prediction.mean)
    }

    /// ln c.
    pub(super) fn log_seconds(&self, row: &[f64], scratch: &mut Scratch) -> f64 {
        self.mean + self.deviation * self.posterior.mean(row, scratch)
    }
}
