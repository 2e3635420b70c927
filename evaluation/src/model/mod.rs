//! The model file: a JSON description of model and training, whose fields may refer to hyperparameters.
//!
//! ```json
//! {
//!   "data": {"inputs": "images", "targets": "labels"},
//!   "model": {"blocks": [
//!     {"dense": {"units": "$units", "activation": "relu", "repeat": "$layers"}},
//!     {"dropout": {"rate": "$dropout"}}
//!   ]},
//!   "loss": "cross_entropy",
//!   "optimizer": {"name": "sgd", "learning_rate": "$learning_rate", "momentum": 0.9},
//!   "schedule": {"name": "cosine"},
//!   "training": {"epochs": 30, "batch_size": "$batch_size", "early_stopping": {"patience": 5}},
//!   "objective": {"metric": "error", "mode": "min"}
//! }
//! ```
//!
//! Every text `"$name"` is replaced by the hyperparameter `name` of the point; `"$$…"` is a text that begins with `$`.
//! Nothing is taken from the point unless the file refers to it. Only `model` and `loss` are required.
//!
//! | field | meaning and default |
//! | --- | --- |
//! | `data` | where inputs and targets come from; see the documentation of data sets |
//! | `model.blocks` | layers in sequence, see below; the last dense layer, to the number of classes or targets, is added |
//! | `model.onnx` | in place of `blocks`: path of a forward model, relative to the model file |
//! | `model.init` | `default` (uniform in ±1/√inputs), `he_uniform`, `he_normal`, `xavier_uniform`, `xavier_normal`; for `onnx` the weights of the file are the start unless this is given |
//! | `model.freeze` | for `onnx`: weights whose names begin with one of these are not trained |
//! | `loss` | `cross_entropy`, `binary_cross_entropy`, `mse`, `mae`, `huber`, or an object with `name` and `label_smoothing` (0) or `delta` (1) |
//! | `optimizer` | `name` (`adam`), `learning_rate` (0.001; `sgd` and `rmsprop` 0.01), `weight_decay` (0; `adamw` 0.01) and, by name: `sgd` `momentum` (0), `nesterov`; `adam` and `adamw` `betas` (0.9, 0.999), `epsilon` (1e-8); `rmsprop` `alpha` (0.99), `epsilon`, `momentum` |
//! | `schedule` | `constant`; `step` with `step_size`, `gamma` (0.1); `multistep` with `milestones`, `gamma`; `exponential` with `gamma`; `cosine` with `minimum` (0), `warmup_epochs` (0), `total_epochs`; `linear` with `start_factor` (1), `end_factor` (0), `epochs`; `linear_warmup` with `epochs`; `one_cycle` with `rising` (0.3), `initial_divisor` (25), `final_divisor` (10000), `total_epochs` |
//! | `training` | `epochs` (10), `batch_size` (32), `drop_last` (false), `shuffle` (true), `early_stopping` with `patience`, `min_delta` (0), `clip_norm` (none), `seed` (1), `keep`: weights of the `best` (default) or `last` epoch |
//! | `objective` | `metric`: `loss`, `accuracy`, `error`, `mse`, `rmse`, `mae`, `r2` (default `error` for classes, else `loss`), `mode`: `min` or `max` (default by metric) |
//! | `description` | ignored, for people |
//!
//! A block is an object with one key:
//!
//! | block | fields |
//! | --- | --- |
//! | `dense` | `units`, `activation` (`linear`), `bias` (true), `repeat` (1): so many such layers, 0 for none |
//! | `dropout` | `rate` (0.5) |
//! | `batch_norm` | `momentum` (0.1, the share of the new batch), `epsilon` (1e-5) |
//! | `layer_norm` | `epsilon` (1e-5) |
//! | `activation` | `relu`, `leaky_relu`, `elu`, `selu`, `gelu`, `gelu_tanh`, `silu` (`swish`), `sigmoid`, `tanh`, `softplus`, `hard_sigmoid`, `hard_swish`, `linear` |
//! | `flatten` | none: rows become vectors, which they do anyway before the first layer |
//! | `repeat` | `times`, `blocks`: a group of blocks, repeated |
//!
//! A forward model from a file may come from any exporter. It needs one input and one output of type `float32`. Its
//! floating-point tensors with at least one axis become trainable; a final `Softmax` (or `Sigmoid`) is part of
//! the loss and left out in training. Models with batch normalisation or dropout must be exported in training mode:
//! exporters fold these layers away otherwise.

pub(crate) mod blocks;
mod fields;
pub(crate) mod import;
#[cfg(test)]
mod import_tests;
mod initialization;
mod resolve;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

pub use import::ImportError;

use crate::training::TrainingPlan;

/// A model file, read and not yet filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    document: Value,
    directory: PathBuf,
}

/// A model file with the hyperparameters of one point.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What to train and how.
    pub plan: TrainingPlan,
    /// The section `data`, with references filled in; `Null` when absent.
    pub data: Value,
    /// Things the user should know, such as hyperparameters that nothing refers to.
    pub warnings: Vec<String>,
}

/// The forward model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Layers in sequence; the last dense layer to the number of outputs is added.
    Blocks {
        /// The layers, repetitions written out.
        blocks: Vec<Block>,
        /// How weights begin.
        initialization: Initialization,
    },
    /// A user's forward model.
    Onnx {
        /// The file.
        path: PathBuf,
        /// How its weights begin; none starts from those of the file.
        initialization: Option<Initialization>,
        /// Weights whose names begin with one of these are not trained.
        freeze: Vec<String>,
    },
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A fully connected layer.
    Dense {
        /// Outputs.
        units: usize,
        /// Add a bias.
        bias: bool,
        /// Applied to the result.
        activation: Activation,
    },
    /// Sets a share `rate` of its inputs to zero in training and scales the others by `1/(1-rate)`.
    Dropout {
        /// In `[0, 1)`.
        rate: f64,
    },
    /// Normalises each feature over the batch (Ioffe and Szegedy 2015).
    BatchNorm {
        /// Share of the new batch in the running statistics.
        momentum: f64,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Normalises each row over its features (Ba, Kiros and Hinton 2016).
    LayerNorm {
        /// Added to the variance.
        epsilon: f64,
    },
    /// A function of each number.
    Activation(Activation),
    /// Makes each row a vector.
    Flatten,
}

/// Elementwise functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub enum Activation {
    Linear,
    Relu,
    LeakyRelu,
    Elu,
    Selu,
    Gelu,
    GeluTanh,
    Silu,
    Sigmoid,
    Tanh,
    Softplus,
    HardSigmoid,
    HardSwish,
}

/// Distribution of initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialization {
    /// Uniform in `±1/√inputs`, bias too: PyTorch's default for linear layers.
    Default,
    /// He et al. 2015, uniform, for rectifiers.
    HeUniform,
    /// He et al. 2015, normal.
    HeNormal,
    /// Glorot and Bengio 2010, uniform.
    XavierUniform,
    /// Glorot and Bengio 2010, normal.
    XavierNormal,
}

/// Why a model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read model file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not JSON.
    #[error("model file `{}` is not valid JSON: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// A field is wrong.
    #[error("model file: `{pointer}` {message}")]
    Field {
        /// JSON pointer to the field.
        pointer: String,
        /// Expectation and finding.
        message: String,
    },
}

impl ModelFile {
    /// Reads a model file. Relative paths in it refer to its directory.
    ///
    /// # Errors
    /// When the file cannot be read or is no JSON object.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read(path).map_err(|source| ModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        let syntax = |message: String| ModelError::Syntax {
            path: path.to_owned(),
            message,
        };
        let text = String::from_utf8(text).map_err(|error| syntax(format!("it is not UTF-8: {error}")))?;
        if text.trim().is_empty() {
            return Err(syntax("the file is empty".into()));
        }
        let document = serde_json::from_str(&text).map_err(|error| syntax(error.to_string()))?;
        Ok(Self::from_value(document, path.parent().unwrap_or(Path::new("."))))
    }

    /// Takes a document that is already parsed; relative paths refer to `directory`.
    #[must_use]
    pub fn from_value(document: Value, directory: &Path) -> Self {
        Self {
            document,
            directory: directory.to_owned(),
        }
    }

    /// The same file with another number of epochs, as if it said so itself: schedules stretch to it.
    ///
    /// To train a part of the epochs and go on later, set [`TrainingPlan::epochs`] instead, which leaves schedules as
    /// they are.
    #[must_use]
    pub fn with_epochs(mut self, epochs: usize) -> Self {
        if let Value::Object(document) = &mut self.document {
            let training = document.entry("training").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(training) = training {
                training.insert("epochs".into(), epochs.into());
            }
        }
        self
    }

    /// Fills in the hyperparameters and checks every field. Keys with the prefix `hpo.` are no hyperparameters.
    ///
    /// # Errors
    /// Names the first wrong field by its JSON pointer.
    pub fn resolve(&self, hyperparameters: &Map<String, Value>) -> Result<Resolved, ModelError> {
        resolve::resolve(&self.document, &self.directory, hyperparameters)
    }
}
