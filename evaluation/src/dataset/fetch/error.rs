//! What can go wrong with a download.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a file could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The name is not a URL that can be fetched.
    #[error("training data `{url}`: {reason}")]
    Url {
        /// The name as given.
        url: String,
        /// What is wrong.
        reason: String,
    },

    /// The server says no.
    #[error("training data `{url}`: the server answers {status}{hint}")]
    Refused {
        /// The URL, without secrets.
        url: String,
        /// Code and its usual words.
        status: String,
        /// `; check the address` or the like.
        hint: &'static str,
    },

    /// The server cannot be reached or breaks off.
    #[error("training data `{url}`: {reason}")]
    Network {
        /// The URL, without secrets.
        url: String,
        /// The chain of causes.
        reason: String,
    },

    /// The content is not what was promised.
    #[error(
        "training data `{url}`: wrong content, its SHA-256 must be {expected}, found {found}; correct the sum or fetch from elsewhere"
    )]
    Checksum {
        /// The URL, without secrets.
        url: String,
        /// The sum given by the user.
        expected: String,
        /// The sum of what came.
        found: String,
    },

    /// The file is over the limit.
    #[error("training data `{url}`: {found} bytes are over the limit of {limit}")]
    TooLarge {
        /// The URL, without secrets.
        url: String,
        /// The size.
        found: u64,
        /// The limit.
        limit: u64,
    },

    /// The file cannot be kept here.
    #[error("training data `{url}`: cannot write `{path}`: {source}")]
    Local {
        /// The URL, without secrets.
        url: String,
        /// The local file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl FetchError {
    /// Whether the network or this machine is to blame and another try may succeed.
    #[must_use]
    pub fn is_infrastructure(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Local { .. } => true,
            Self::Refused { status, .. } => {
                status.starts_with('5') || status.starts_with("429") || status.starts_with("408")
            }
            Self::Url { .. } | Self::Checksum { .. } | Self::TooLarge { .. } => false,
        }
    }

    /// Whether a copy in the cache is a fair substitute.
    pub(crate) fn is_unreachable(&self) -> bool {
        !matches!(self, Self::Local { .. }) && self.is_infrastructure()
    }
}

/// An error with all its causes in one line, without the URL, which may hold secrets.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() {
        "cannot connect".to_owned()
    } else if error.is_timeout() {
        "the server stays silent".to_owned()
    } else {
        "the connection failed".to_owned()
    };
    let mut source = error.source();
    let mut last = None;
    while let Some(error) = source {
        last = Some(error.to_string());
        source = error.source();
    }
    if let Some(cause) = last {
        text.push_str(": ");
        text.push_str(&cause);
    }
    text
}
