//! What to train and how: a model file with every hyperparameter filled in.

use serde::Serialize;

use super::loss::Loss;
use super::metric::{Metric, Metrics};
use super::optimizers::Optimizer;
use super::precision::Precision;
use super::schedules::Schedule;
use crate::model::Architecture;

/// Everything that decides the result of a training, except for the data.
///
/// Made by [`crate::model::ModelFile::resolve`]; two equal plans on equal data give bit-identical results on the CPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// The forward model.
    pub architecture: Architecture,
    /// What the gradient descends.
    pub loss: Loss,
    /// The update rule.
    pub optimizer: Optimizer,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Passes over the training set, counted from the beginning, at least 1.
    pub epochs: usize,
    /// Rows per step, at least 1; cut to the number of rows.
    pub batch_size: usize,
    /// Leave out the last batch of an epoch when it is smaller than the others.
    pub drop_last: bool,
    /// Draw a new order of the rows for each epoch.
    pub shuffle: bool,
    /// When to stop before the last epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// Largest size of each number of a gradient; larger ones are cut to it, before `clip_norm` acts.
    pub clip_value: Option<f64>,
    /// Largest Euclidean norm of all gradients together; larger ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Judge and keep a moving average of the weights in place of the weights.
    pub average: Option<WeightAverage>,
    /// The type of the operands of products.
    #[serde(skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// Key of every random number: initial weights, shuffles, dropout masks.
    pub seed: u64,
    /// Which epoch's weights are the result.
    pub keep: Keep,
    /// The number that the search minimises or maximises.
    pub objective: Objective,
    /// Metrics to compute besides the usual ones of the loss and the objective.
    pub metrics: Vec<Metric>,
}

/// An exponential moving average of the weights, `a ← d a + (1 - d) w` after every step; the first step sets `a = w`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeightAverage {
    /// `d`, in `[0, 1)`.
    pub decay: f64,
}

/// Ends training when the objective stops improving.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EarlyStopping {
    /// Epochs without improvement that are endured, at least 1.
    pub patience: usize,
    /// An improvement is a change by more than this.
    pub min_delta: f64,
}

/// Which epoch's weights and objective are the result of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Those of the epoch with the best objective.
    Best,
    /// Those of the last epoch.
    Last,
}

/// The validation metric that the search optimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Objective {
    /// Which number.
    pub metric: Metric,
    /// In which direction it is better.
    pub mode: Mode,
}

impl Objective {
    /// The number that is minimised: the metric itself, or its negative when more is better.
    #[must_use]
    pub fn loss(&self, metrics: &Metrics) -> f64 {
        match self.mode {
            Mode::Min => metrics.get(self.metric),
            Mode::Max => -metrics.get(self.metric),
        }
    }
}

/// Direction of improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Less is better.
    Min,
    /// More is better.
    Max,
}
