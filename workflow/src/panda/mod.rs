//! Tasks of PanDA: the parameters that its server takes, from the options of a task, and their submission.

mod command;
mod credentials;
mod dialogue;
mod internet;
mod parameters;
mod submission;
mod token_file;

use thiserror::Error;

pub(crate) use credentials::{Credentials, Environment};
pub(crate) use internet::sign_in;
pub(crate) use parameters::{Inputs, archive_name, task_parameters};
pub(crate) use submission::{LARGEST_ARCHIVE, Servers, Submission, archive};
#[cfg(test)]
pub(crate) use token_file::understood as understood_token;

/// Why a task could not be submitted.
#[derive(Debug, Error)]
pub(crate) enum PandaError {
    /// We have nothing to show to the server, or it does not accept it.
    #[error("{0}")]
    Credentials(String),
    /// The server cannot be reached, or is not well.
    #[error("PanDA cannot be reached: {0}")]
    Network(String),
    /// The server has understood and does not want it.
    #[error("{0}")]
    Refused(String),
}
