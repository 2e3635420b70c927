//! What the model says about a point, for people.

use super::Model;
use crate::numerics::normal::distribution;
use crate::samplers::gp::posterior::Scratch;

/// The opinion of the processes about one point, averaged over them. Losses are on the scale on which they were put, where the
/// evaluated ones have a standard deviation of about 1.
#[derive(Debug)]
pub(in crate::samplers::gp) struct Forecast {
    /// How much the predicted loss is above the best one.
    pub(in crate::samplers::gp) above_best: f64,
    /// Standard deviation of the prediction.
    pub(in crate::samplers::gp) deviation: f64,
    /// Chance that the point is better than the best one.
    pub(in crate::samplers::gp) improvement: f64,
    /// Chance that it does not fail; nothing while no point has failed.
    pub(in crate::samplers::gp) success: Option<f64>,
    /// Seconds that its evaluation takes; nothing while they do not count.
    pub(in crate::samplers::gp) seconds: Option<f64>,
}

impl Model {
    /// The forecast for a row of features.
    pub(in crate::samplers::gp) fn forecast(&self, row: &[f64]) -> Forecast {
        let mut scratch = Scratch::default();
        let (mut above_best, mut deviation, mut improvement) = (0.0, 0.0, 0.0);
        for member in &self.members {
            let prediction = member.posterior.predict(row, &mut scratch);
            let spread = prediction.variance.sqrt();
            above_best += prediction.mean - member.incumbent;
            deviation += spread;
            improvement += distribution((member.incumbent - prediction.mean) / spread);
        }
        let count = self.members.len() as f64;
        let success = self.success.as_ref().map(|success| success.chance(row));
        Forecast {
            above_best: above_best / count,
            deviation: deviation / count,
            improvement: improvement / count,
            success,
            seconds: (self.cost.as_ref()).map(|cost| libm::exp(cost.log_seconds(row))),
        }
    }
}
