//! Everything that ends the program early, with its exit code.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use protocol::{DocumentError, exit};

use crate::dataset::DatasetError;
use crate::engine::{EngineError, LibraryError};
use crate::model::ModelError;
use crate::training::TrainingError;

/// Why the program ends, in a line for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A file that cannot be written.
    pub(crate) fn write(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(
            exit::INFRASTRUCTURE,
            format!("cannot write {what} `{}`: {error}", path.display()),
        )
    }
}

/// An error with those of its causes that it does not name itself.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        Self::new(error.exit_code(), chain(&error))
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let code = match &error {
            ModelError::Read { source, .. } if source.kind() != io::ErrorKind::NotFound => exit::INFRASTRUCTURE,
            _ => exit::USAGE,
        };
        Self::new(code, chain(&error))
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        let code = if error.is_infrastructure() {
            exit::INFRASTRUCTURE
        } else {
            exit::USAGE
        };
        Self::new(code, chain(&error))
    }
}

impl From<LibraryError> for Failure {
    fn from(error: LibraryError) -> Self {
        let code = match &error {
            LibraryError::NotALibrary { .. } => exit::USAGE,
            _ => exit::INFRASTRUCTURE,
        };
        Self::new(code, chain(&error))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Run { .. } | EngineError::Memory { .. } => exit::FAILED,
            _ => exit::INFRASTRUCTURE,
        };
        Self::new(code, chain(&error))
    }
}

impl From<TrainingError> for Failure {
    fn from(error: TrainingError) -> Self {
        match error {
            TrainingError::NotFinite { .. } | TrainingError::NotFiniteMetric { .. } => Self::new(
                exit::FAILED,
                format!("{error}; a smaller learning rate or `training.clip_norm` may help"),
            ),
            TrainingError::Mismatch(_) | TrainingError::Import(_) | TrainingError::Autodiff(_) => {
                Self::new(exit::USAGE, chain(&error))
            }
            TrainingError::Write { .. } | TrainingError::Data(_) => Self::new(exit::INFRASTRUCTURE, chain(&error)),
            TrainingError::Memory { .. } => Self::new(exit::FAILED, error.to_string()),
            TrainingError::Engine(error) => error.into(),
        }
    }
}
