//! Trains a model: the whole step — forward, loss, gradients, update — is one ordinary ONNX graph.

mod checkpoint;
mod custom;
#[cfg(test)]
mod descent_tests;
#[cfg(test)]
mod exported_tests;
#[cfg(test)]
mod fed_tests;
mod feeding;
mod loss;
mod losses;
pub(crate) mod lowering;
mod metric;
mod metrics;
pub(crate) mod optimizers;
mod plan;
mod precision;
#[cfg(test)]
mod precision_tests;
mod prepare;
pub(crate) mod random;
mod run;
mod samples;
pub(crate) mod schedules;
mod step;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torch_tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use loss::{ClassWeights, Loss};
pub use metric::{Metric, Metrics};
pub use optimizers::{Adagrad, Adam, DecayTargets, Group, Lion, Optimizer, RAdam, RmsProp, Rule, Sgd};
pub use plan::{EarlyStopping, Keep, Mode, Objective, TrainingPlan, WeightAverage};
pub use precision::{LossScale, Precision};
pub use prepare::summarize;
pub use run::{train, train_in_stages};
pub use samples::{Inputs, RowSource, Samples, Targets};
pub use schedules::{Every, Schedule, Shape};

use crate::autodiff::AutodiffError;
use crate::engine::EngineError;
use crate::graph::{Tensor, encode_model};
use crate::model::import::Imported;
use crate::model::{ImportError, RawInputs};

/// Where checkpoints live and how often they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// A directory of its own; made when absent. Two generations of files are kept in it.
    pub directory: PathBuf,
    /// Epochs between two checkpoints; 0 writes only when the observer asks.
    pub every_epochs: usize,
    /// Whether a training begins with the weights of a checkpoint that lies there and is of other data, and so cannot be
    /// continued. What its optimiser remembered and its epochs count nothing.
    pub inherits: bool,
}

/// What is known after one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Epochs done, from 1.
    pub epoch: usize,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Mean training loss over the epoch's rows.
    pub train_loss: f64,
    /// Metrics over the whole validation set.
    pub validation: Metrics,
    /// Wall time of the epoch, validation included.
    pub seconds: f64,
}

/// What an observer wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Continue,
    /// End with the result so far.
    Stop,
    /// Write a checkpoint now, also in the middle of an epoch, and end.
    CheckpointAndStop,
}

/// Watches a training and may end it.
pub trait Observer {
    /// Called after each epoch, in order; on resuming only for new epochs.
    fn epoch(&mut self, report: &EpochReport) -> Decision;

    /// Called before each step; must be cheap. `Stop` here ends after the epochs completed so far.
    fn poll(&mut self) -> Decision {
        Decision::Continue
    }

    /// Called once before the first step when a checkpoint is taken up, with the reports of the epochs that it had done.
    fn resumed(&mut self, reports: &[EpochReport]) {
        let _ = reports;
    }

    /// Called once before the first step when the training begins with weights that others have, after so many epochs.
    fn inherited(&mut self, epochs: usize) {
        let _ = epochs;
    }

    /// Whether a checkpoint is wanted at the end of the training, for somebody else to go on from.
    fn keeps_end(&self) -> bool {
        true
    }

    /// Called after each step with its training loss; must be cheap.
    fn step(&mut self, loss: f32) {
        let _ = loss;
    }

    /// Asked after an epoch at which the policy wants a checkpoint; `false` puts it off to the next such epoch.
    fn checkpoint_due(&mut self) -> bool {
        true
    }

    /// Something the user should know that is no error, such as a refused checkpoint.
    fn warning(&mut self, message: &str);
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All epochs were done.
    Completed,
    /// Early stopping found no more improvement.
    EarlyStopped,
    /// The observer said `Stop`.
    Stopped,
    /// The observer said `CheckpointAndStop`; a checkpoint lies in the directory.
    Checkpointed,
}

/// The result of a training.
#[derive(Debug)]
pub struct TrainingResult {
    /// Why it ended.
    pub ended: Ended,
    /// One report per epoch, from the first, including those before a resumption.
    pub epochs: Vec<EpochReport>,
    /// Index into `epochs` of the epoch whose weights the model has; none if no epoch was completed.
    pub chosen: Option<usize>,
    /// The number that is minimised, of the chosen epoch.
    pub loss: Option<f64>,
    /// Trainable numbers in the model.
    pub parameters: usize,
    /// Epochs that a checkpoint had done, when training resumed from one.
    pub resumed_from: Option<usize>,
    /// Epochs on other data that the first weights come from, when they were inherited.
    pub inherited_from: Option<usize>,
    /// With `float16`, the steps whose gradients were not finite and that changed nothing.
    pub skipped_steps: Option<usize>,
    /// The model with the chosen weights.
    pub model: TrainedModel,
}

/// A trained model, ready to be saved.
#[derive(Debug)]
pub struct TrainedModel {
    imported: Imported,
    /// Trained weights and running statistics.
    values: Vec<(String, Tensor)>,
}

impl TrainedModel {
    /// Saves an ordinary ONNX file for inference, with a symbolic batch dimension and `metadata` in its metadata
    /// properties. It takes rows as `raw` says, or as the model saw them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(
        &self,
        path: &Path,
        raw: Option<&RawInputs>,
        metadata: &[(String, String)],
    ) -> Result<(), TrainingError> {
        let mut model = self.imported.with_values(&self.values, metadata);
        if let Some(raw) = raw {
            raw.prepend(&mut model, &self.imported.input);
        }
        checkpoint::write_whole(path, &encode_model(&model)).map_err(|source| TrainingError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// The trained weights and running statistics by name, in the model's order: shape and numbers.
    pub fn weights(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.values.iter().filter_map(|(name, tensor)| {
            tensor
                .as_f32()
                .map(|values| (name.as_str(), tensor.shape.as_slice(), values))
        })
    }
}

/// Why a training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// Plan, model and data do not fit together.
    #[error("{0}")]
    Mismatch(String),
    /// The loss became NaN or infinite.
    #[error("the training loss became {value} at epoch {epoch}, step {step}")]
    NotFinite {
        /// The loss.
        value: f32,
        /// Epoch, from 1.
        epoch: usize,
        /// Step in the epoch, from 1.
        step: usize,
    },
    /// A validation metric became NaN or infinite.
    #[error("the validation metric `{}` became {value} at epoch {epoch}", metric.name())]
    NotFiniteMetric {
        /// Which.
        metric: Metric,
        /// The metric.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
    },
    /// The forward model cannot be used.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The forward model cannot be differentiated.
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
    /// Rows could not be read in the middle of the training.
    #[error("training data: {0}")]
    Data(String),
    /// A checkpoint or model file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is not enough memory for the step.
    #[error("{source}, with batches of {batch} rows; {}", smaller(*batch))]
    Memory {
        /// Rows of a batch.
        batch: usize,
        /// What the engine said.
        source: EngineError,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn smaller(batch: usize) -> String {
    if batch > 1 {
        let half = batch / 2;
        format!("a `training.batch_size` of {half} needs about half of the memory of a step, a smaller model less")
    } else {
        "a smaller model needs less".to_owned()
    }
}

/// One line of a model's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerSummary {
    /// Node name or operator.
    pub name: String,
    /// ONNX operator.
    pub operator: String,
    /// Output shape of one row.
    pub output_shape: Vec<usize>,
    /// Trainable numbers first used here.
    pub parameters: usize,
}
