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
        "training data `{path}`: {found}; `.npy`, `.npz`, `.csv` (also gzipped), `.parquet`, `.arrow`, \
         `.feather`, `.h5`, `.nc` and `.root` can be read"
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
        /// `; did you mean …?` or nothing.
        nearest: String,
        /// The names that exist, shortened.
        known: String,
    },

    /// Two files that should be concatenated do not fit.
    #[error("training data `{path}`: column `{column}` has {found}, but `{first}` has {expected}")]
    Schema {
        /// The file that differs.
        path: PathBuf,
        /// The column.
        column: String,
        /// What it has.
        found: String,
        /// The file read first.
        first: PathBuf,
        /// What that one has.
        expected: String,
    },

    /// Columns that belong together differ in length.
    #[error(
        "training data `{path}`: `{column}` has {found} rows, but `{other}` has {expected}; every input and target needs one row per sample"
    )]
    RowCount {
        /// The file.
        path: PathBuf,
        /// The column that differs.
        column: String,
        /// Its rows.
        found: usize,
        /// The column it is compared with.
        other: String,
        /// The rows of that one.
        expected: usize,
    },

    /// The values of a row cannot be arranged as asked.
    #[error("training data: {what} must be {expected}, found {found}")]
    Shape {
        /// Inputs or targets, with names.
        what: String,
        /// What would do.
        expected: String,
        /// What there is.
        found: String,
    },

    /// A value is missing, not finite or not a number.
    #[error("training data `{path}`: row {row}, column `{column}`: {finding}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Row in that file, from 1.
        row: usize,
        /// The column, with the element where a row has several.
        column: String,
        /// What is there and what helps.
        finding: String,
    },

    /// There are too few rows, classes or groups for the split that is asked for.
    #[error("training data: {0}")]
    Split(String),

    /// Rows that were to be read a second time cannot be read.
    #[error("training data: {0}")]
    Reading(String),

    /// The scratch file that holds rows beyond the memory limit cannot be written.
    #[error(
        "training data: cannot write a scratch file in `{folder}`: {source}; name another folder with `--scratch`, or let \
         the data stay in memory with a larger `--data-memory`"
    )]
    Scratch {
        /// The folder.
        folder: PathBuf,
        /// The system's answer.
        source: io::Error,
    },

    /// A download failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl DatasetError {
    /// Whether the machine or the network failed, not the user's input: the same call may succeed elsewhere or later.
    #[must_use]
    pub fn is_infrastructure(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Scratch { .. } | Self::Reading(_) => true,
            Self::Fetch(error) => error.is_infrastructure(),
            _ => false,
        }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn scratch(folder: &Path, source: io::Error) -> Self {
        Self::Scratch {
            folder: folder.to_owned(),
            source,
        }
    }

    /// Turns an error of the system into the variant that tells the user what to do.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing {
                path: path.to_owned(),
                hint: String::new(),
            },
            io::ErrorKind::UnexpectedEof => Self::damaged(path, "the file is cut off; copy or download it again"),
            _ => Self::Io {
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// A list of names for a message: all when they are few, else the first ones and a count.
pub(crate) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        text.push(format!("{} more", names.len() - SHOWN));
    }
    text.join(", ")
}
