//! Trains a model: the whole step — forward, loss, gradients, update — is one ordinary ONNX graph.

mod plan;
mod samples;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use plan::{EarlyStopping, Keep, Loss, Metric, Metrics, Mode, Objective, Optimizer, Rule, Schedule, TrainingPlan};
pub use samples::{Samples, Targets};

use crate::engine::{Engine, EngineError};

/// Where checkpoints live and how often they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// A directory of its own; made when absent. Two generations of files are kept in it.
    pub directory: PathBuf,
    /// Epochs between two checkpoints; 0 writes only when the observer asks.
    pub every_epochs: usize,
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
    /// The model with the chosen weights.
    pub model: TrainedModel,
}

/// A trained model, ready to be saved.
#[derive(Debug)]
pub struct TrainedModel {
    pub(crate) onnx: Vec<u8>,
}

impl TrainedModel {
    /// Saves an ordinary ONNX file for inference, with a symbolic batch dimension and `metadata` in its metadata
    /// properties.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, metadata: &[(String, String)]) -> Result<(), TrainingError> {
        let _ = (path, metadata, &self.onnx);
        unimplemented!("skeleton")
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
    /// A checkpoint or model file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Trains `plan` on `train`, judging by `validation` after each epoch.
///
/// # Errors
/// When plan, model and data do not fit, the loss is not finite, a file cannot be written, or the engine fails.
pub fn train(
    engine: &dyn Engine,
    plan: &TrainingPlan,
    train: &Samples,
    validation: &Samples,
    checkpoints: Option<&CheckpointPolicy>,
    observer: &mut dyn Observer,
) -> Result<TrainingResult, TrainingError> {
    let _ = (engine, plan, train, validation, checkpoints, observer);
    unimplemented!("skeleton")
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

/// Builds the model for the data without training: each node's output shape and the parameter counts.
///
/// # Errors
/// As [`train`] before its first step: an unknown operator, shapes that do not fit.
pub fn summarize(
    engine: &dyn Engine,
    plan: &TrainingPlan,
    row_shape: &[usize],
    targets: &Targets,
) -> Result<Vec<LayerSummary>, TrainingError> {
    let _ = (engine, plan, row_shape, targets);
    unimplemented!("skeleton")
}
