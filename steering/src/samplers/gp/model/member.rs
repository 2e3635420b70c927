//! One member of the ensemble: its processes, and what it would have the next point for.

use super::super::acquisition::{Reading, log_improvement};
use super::super::hypervolume::Region;
use super::super::posterior::{Outlook, Posterior, Scratch};
use super::Purpose;
use crate::numerics::normal::{LOG_SQRT_TWO_PI, distribution};
use crate::objectives::MOST;

/// The processes for one set of parameters.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// What is added to the logarithm of its worths.
    pub(super) shift: f64,
    /// One for each objective.
    pub(super) posteriors: Vec<Posterior>,
    pub(super) aim: Aim,
}

/// On what the next point is to improve.
#[derive(Debug, Clone)]
pub(super) enum Aim {
    /// On the lowest loss.
    Lowest {
        /// Lowest predicted loss among the evaluated points.
        incumbent: f64,
        reading: Reading,
    },
    /// On the front of several losses, as predicted.
    Front(Region),
}

/// The logarithm of a worth with its derivatives by the mean and by the standard deviation of each loss.
pub(super) struct Opinion {
    pub(super) worth: f64,
    pub(super) by_mean: [f64; MOST],
    pub(super) by_deviation: [f64; MOST],
}

impl Member {
    /// Takes a point that is still being evaluated for one with the predicted losses, on which the next is to improve as well.
    pub(super) fn believe(&mut self, row: &[f64]) {
        let means: Vec<f64> = self
            .posteriors
            .iter_mut()
            .map(|posterior| posterior.believe(row))
            .collect();
        match &mut self.aim {
            Aim::Lowest { incumbent, reading } => {
                *incumbent = incumbent.min(means[0]);
                reading.lowest = reading.lowest.min(means[0]);
                reading.predicted = reading.predicted.min(means[0]);
            }
            Aim::Front(region) => *region = region.with(means),
        }
    }

    /// What the point number `point` is worth, of which each process has its outlook.
    pub(super) fn opinion(&self, outlooks: &[Vec<Outlook>], point: usize, purpose: Purpose) -> Opinion {
        match &self.aim {
            Aim::Lowest { incumbent, reading } => {
                let prediction = outlooks[0][point].prediction;
                let (mean, deviation) = (prediction.mean, prediction.variance.sqrt());
                let (worth, by_mean, by_deviation) = match purpose {
                    Purpose::Improve => {
                        let improvement = log_improvement(mean, deviation, reading);
                        (improvement.value, improvement.by_mean, improvement.by_deviation)
                    }
                    Purpose::Explore => exploration(mean, deviation, *incumbent),
                };
                let mut opinion = Opinion {
                    worth,
                    by_mean: [0.0; MOST],
                    by_deviation: [0.0; MOST],
                };
                (opinion.by_mean[0], opinion.by_deviation[0]) = (by_mean, by_deviation);
                opinion
            }
            // The front is wide: what improves one end of it teaches about the other, and nothing is explored for its own sake.
            Aim::Front(region) => {
                let gain = region.log_gain(outlooks.iter().map(|outlooks| outlooks[point].prediction));
                Opinion {
                    worth: gain.value,
                    by_mean: gain.by_mean,
                    by_deviation: gain.by_deviation,
                }
            }
        }
    }

    /// What is believed of a point: how much each loss is above the lowest, its standard deviation, and the chance that it is an
    /// improvement.
    pub(super) fn belief(&self, row: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
        let mut scratch = Scratch::default();
        let predictions: Vec<_> = (self.posteriors.iter())
            .map(|posterior| posterior.predict(row, &mut scratch))
            .collect();
        let deviations: Vec<f64> = predictions
            .iter()
            .map(|prediction| prediction.variance.sqrt())
            .collect();
        let (least, chance) = match &self.aim {
            Aim::Lowest { incumbent, .. } => (
                vec![*incumbent],
                distribution((incumbent - predictions[0].mean) / deviations[0]),
            ),
            Aim::Front(region) => (region.least(), region.chance(&predictions)),
        };
        let above = predictions
            .iter()
            .zip(least)
            .map(|(prediction, least)| prediction.mean - least);
        (above.collect(), deviations, chance)
    }
}

/// The standard deviation, times the chance that the point is better than the incumbent by half of it; with its derivatives.
fn exploration(mean: f64, deviation: f64, incumbent: f64) -> (f64, f64, f64) {
    let z = (incumbent - mean) / deviation + 1.0;
    let mass = distribution(z).max(1e-300);
    let share = libm::exp(-0.5 * z * z - LOG_SQRT_TWO_PI) / mass;
    (
        libm::log(deviation) + libm::log(mass),
        -share / deviation,
        1.0 / deviation - share * (incumbent - mean) / (deviation * deviation),
    )
}
