#![doc = include_str!("../../MODEL_FILE.md")]

mod block;
pub(crate) mod blocks;
mod expression;
pub(crate) mod fields;
mod fill;
pub(crate) mod import;
#[cfg(test)]
mod import_tests;
mod initialization;
pub(crate) mod pattern;
mod raw;
mod resolve;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

pub use block::{Activation, Block, Cell, Conv, Join, Padding, Reduction};
pub use import::ImportError;
pub use raw::RawInputs;

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
    /// Layers in sequence.
    Blocks {
        /// The layers, repetitions written out.
        blocks: Vec<Block>,
        /// Add a dense layer to the number of outputs.
        head: bool,
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
