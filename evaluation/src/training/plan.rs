//! What to train and how: a model file with every hyperparameter filled in.

use serde::{Deserialize, Serialize};

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
    /// Largest Euclidean norm of all gradients together; larger ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Key of every random number: initial weights, shuffles, dropout masks.
    pub seed: u64,
    /// Which epoch's weights are the result.
    pub keep: Keep,
    /// The number that the search minimises or maximises.
    pub objective: Objective,
}

/// The function of prediction and target whose mean over the batch is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `-log softmax(z)[label]`; the model's outputs `z` are logits.
    CrossEntropy {
        /// Mass moved from the label to the uniform distribution, in `[0, 1)`.
        label_smoothing: f64,
    },
    /// Binary cross-entropy on logits, mean over the targets.
    BinaryCrossEntropy,
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    Mae,
    /// Quadratic up to `delta`, linear beyond.
    Huber {
        /// Where the parabola becomes a line, above 0.
        delta: f64,
    },
}

impl Loss {
    /// The name in model files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::BinaryCrossEntropy => "binary_cross_entropy",
            Self::Mse => "mse",
            Self::Mae => "mae",
            Self::Huber { .. } => "huber",
        }
    }

    /// Whether the targets are classes; otherwise they are values (`binary_cross_entropy` takes values in `[0, 1]`,
    /// or two classes).
    #[must_use]
    pub fn needs_classes(&self) -> bool {
        matches!(self, Self::CrossEntropy { .. })
    }
}

/// The rule that turns gradients into new weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Optimizer {
    /// Step size before the schedule, above 0.
    pub learning_rate: f64,
    /// Decay of the weights per step; see [`Rule`] for whether it joins the gradient or acts on the weights.
    pub weight_decay: f64,
    /// Which rule, with its constants.
    pub rule: Rule,
}

/// Update rules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Stochastic gradient descent; the decay joins the gradient.
    Sgd {
        /// Share of the previous step that is kept, in `[0, 1)`.
        momentum: f64,
        /// Look-ahead form of momentum.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015); the decay joins the gradient.
    Adam {
        /// Decay of the first and the second moment.
        betas: [f64; 2],
        /// Keeps the division finite.
        epsilon: f64,
    },
    /// Adam with decoupled decay (Loshchilov and Hutter 2019).
    #[serde(rename = "adamw")]
    AdamW {
        /// Decay of the first and the second moment.
        betas: [f64; 2],
        /// Keeps the division finite.
        epsilon: f64,
    },
    /// `RMSprop` (Hinton), with optional momentum; the decay joins the gradient.
    #[serde(rename = "rmsprop")]
    RmsProp {
        /// Decay of the mean square.
        alpha: f64,
        /// Keeps the division finite.
        epsilon: f64,
        /// Share of the previous step that is kept, in `[0, 1)`.
        momentum: f64,
    },
}

impl Rule {
    /// The name in model files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam { .. } => "adam",
            Self::AdamW { .. } => "adamw",
            Self::RmsProp { .. } => "rmsprop",
        }
    }
}

/// How the learning rate changes during training; epochs count from 0.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Schedule {
    /// Always the same.
    Constant,
    /// Times `gamma` every `step_size` epochs.
    Step {
        /// Epochs between two changes.
        step_size: usize,
        /// Factor at each change.
        gamma: f64,
    },
    /// Times `gamma` at each of the named epochs.
    Multistep {
        /// Epochs of the changes, ascending.
        milestones: Vec<usize>,
        /// Factor at each change.
        gamma: f64,
    },
    /// Times `gamma` after every epoch.
    Exponential {
        /// Factor per epoch.
        gamma: f64,
    },
    /// Half a cosine from the learning rate to `minimum` over all epochs (Loshchilov and Hutter 2017).
    Cosine {
        /// Rate at the end.
        minimum: f64,
        /// Epochs of linear increase before the cosine.
        warmup_epochs: usize,
        /// The epoch at which the minimum is reached; the plan's `epochs` unless the model file says otherwise.
        total_epochs: usize,
    },
    /// Straight line from `start_factor` to `end_factor` over `epochs` epochs, then constant.
    Linear {
        /// Factor in the first epoch.
        start_factor: f64,
        /// Factor from epoch `epochs` on.
        end_factor: f64,
        /// Length of the change.
        epochs: usize,
    },
    /// Linear increase over `epochs` epochs, then constant.
    LinearWarmup {
        /// Length of the increase.
        epochs: usize,
    },
    /// One cycle, changed after every step (Smith and Topin 2018): up to the learning rate, then down.
    OneCycle {
        /// Share of all steps that the increase takes, in `(0, 1)`.
        rising: f64,
        /// The rate begins at `learning_rate / initial_divisor`.
        initial_divisor: f64,
        /// It ends at `initial rate / final_divisor`.
        final_divisor: f64,
        /// Length of the cycle; the plan's `epochs` unless the model file says otherwise.
        total_epochs: usize,
    },
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

/// A number computed over the whole validation set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The training loss function, without regularisation.
    Loss,
    /// Share of rows whose class is predicted.
    Accuracy,
    /// One minus the accuracy.
    Error,
    /// Mean squared error.
    Mse,
    /// Square root of the mean squared error.
    Rmse,
    /// Mean absolute error.
    Mae,
    /// Coefficient of determination, mean over the targets.
    R2,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 7] = [
        Self::Loss,
        Self::Accuracy,
        Self::Error,
        Self::Mse,
        Self::Rmse,
        Self::Mae,
        Self::R2,
    ];

    /// The name in model files and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::Error => "error",
            Self::Mse => "mse",
            Self::Rmse => "rmse",
            Self::Mae => "mae",
            Self::R2 => "r2",
        }
    }

    /// The direction that people mean when they name this metric.
    #[must_use]
    pub fn usual_mode(self) -> Mode {
        match self {
            Self::Accuracy | Self::R2 => Mode::Max,
            _ => Mode::Min,
        }
    }
}

/// All metrics of one validation pass, in the order of [`Metric`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics(pub Vec<(Metric, f64)>);

impl Metrics {
    /// The value of one metric.
    ///
    /// # Panics
    /// When the metric does not fit the kind of target; plans are checked for that before training.
    #[must_use]
    pub fn get(&self, metric: Metric) -> f64 {
        self.0
            .iter()
            .find(|(name, _)| *name == metric)
            .map(|(_, value)| *value)
            .expect("the plan's objective was checked against the targets")
    }
}
