//! Everything that can be wrong with training data, each with its place and a remedy.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::fetch::FetchError;

/// Why training data cannot be used.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// The `data` section of the model file says something impossible.
    #[error("model file: `{pointer}` must be {expected}, found {found}")]
    Description {
        /// JSON pointer of the field, from the root of the model file.
        pointer: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },

    /// No file was named anywhere.
    #[error(
        "no training data given: name files with `--data`, list them in `input_ds.json`, or set `data.files` in the model file"
    )]
    NoFiles,

    /// A file is not there.
    #[error("training data `{path}`: no such file{hint}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where it was looked for, or which name comes nearest; starts with a blank or is empty.
        hint: String,
    },

    /// A file cannot be read.
    #[error("training data `{path}`: cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },

    /// A file has no content at all.
    #[error("training data `{path}`: the file is empty (0 bytes)")]
    Empty {
        /// The file.
        path: PathBuf,
    },

    /// A file has columns but no rows.
    #[error("training data `{path}`: there are no rows")]
    NoRows {
        /// The file.
        path: PathBuf,
    },

    /// The format of a file is none of ours.
    #[error(
        "training data `{path}`: {found}; `.npy`, `.npz`, `.csv` (also gzipped) and `.parquet` can be read"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What the file seems to be.
        found: String,
    },

    /// A file breaks its own format: cut off, not UTF-8, not what its name says.
    #[error("training data `{path}`: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what helps.
        reason: String,
    },

    /// A column or key that is asked for is not there.
    #[error("training data `{path}`: no column `{wanted}`; there are {known}{nearest}")]
    UnknownColumn {
        /// The file that lacks it.
        path: PathBuf,
        /// The name as the model file has it.
        wanted: String,
