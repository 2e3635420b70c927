//! Everything that can go wrong on the command line, and its exit code.

use std::io;
use std::path::PathBuf;

use protocol::exit;
use thiserror::Error;

use crate::backend::SlurmError;
use crate::coordinator::CoordinatorError;
use crate::import::ImportError;
use crate::journal::{LockError, ReadError, WriteError, remedy};
use crate::panda::PandaError;
use crate::state::IllegalEvent;
use crate::task::TaskError;

/// An error that ends the program.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Panda(#[from] PandaError),
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Slurm(#[from] SlurmError),
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    #[error("journal `{path}`, record {record}: {source}; it was not written by this program, {remedy}", path = .path.display(), remedy = remedy(.path))]
    Illegal {
        path: PathBuf,
        record: u64,
        source: IllegalEvent,
    },
    #[error("journal `{path}`, record {record}: {reason}; use the hpo that wrote it", path = .path.display())]
    Unknown { path: PathBuf, record: u64, reason: String },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

impl CliError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> CliError {
        CliError::Io {
            what: what.into(),
            source,
        }
    }

    /// Whether the reader of our output went away, which is its right.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, CliError::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code of the program.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            _ if self.is_broken_pipe() => exit::DONE,
            CliError::Task(error) => error.exit_code(),
            CliError::Import(ImportError::Document(error)) => error.exit_code(),
            CliError::Slurm(error) if error.is_usage() => exit::USAGE,
            CliError::Usage(_) | CliError::Import(_) | CliError::Panda(PandaError::Credentials(_)) => exit::USAGE,
            CliError::Failed(_) | CliError::Panda(PandaError::Refused(_)) => exit::FAILED,
            CliError::Illegal { .. } | CliError::Read(ReadError::Damaged { .. } | ReadError::Sequence { .. }) => {
                exit::DAMAGED
            }
            _ => exit::INFRASTRUCTURE,
        }
    }
}
