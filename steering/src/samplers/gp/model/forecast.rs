//! What the model says about a point, for people.

use super::Model;

/// The opinion of the processes about one point, averaged over them. Losses are on the scale on which they were put, where the
/// evaluated ones have a standard deviation of about 1.
#[derive(Debug)]
pub(in crate::samplers::gp) struct Forecast {
    /// How much each predicted loss is above the lowest one.
    pub(in crate::samplers::gp) above_best: Vec<f64>,
    /// Standard deviation of the prediction of each loss.
    pub(in crate::samplers::gp) deviation: Vec<f64>,
    /// Chance that the point is better than the best one; with several objectives, that no other beats it.
    pub(in crate::samplers::gp) improvement: f64,
    /// Chance that it does not fail; nothing while no point has failed.
    pub(in crate::samplers::gp) success: Option<f64>,
    /// Seconds that its evaluation takes; nothing while they do not count.
    pub(in crate::samplers::gp) seconds: Option<f64>,
}

impl Model {
    /// The forecast for a row of features.
    pub(in crate::samplers::gp) fn forecast(&self, row: &[f64]) -> Forecast {
        let objectives = self.objectives();
        let (mut above_best, mut deviation, mut improvement) = (vec![0.0; objectives], vec![0.0; objectives], 0.0);
        let count = self.members.len() as f64;
        for member in &self.members {
            let (above, spread, chance) = member.belief(row);
            for objective in 0..objectives {
                above_best[objective] += above[objective] / count;
                deviation[objective] += spread[objective] / count;
            }
            improvement += chance / count;
        }
        Forecast {
            above_best,
            deviation,
            improvement,
            success: self.success.as_ref().map(|success| success.chance(row)),
            seconds: (self.cost.as_ref()).map(|cost| libm::exp(cost.log_seconds(row))),
        }
    }
}
