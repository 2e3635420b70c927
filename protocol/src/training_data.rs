//! `input_ds.json`: the list of training files of an evaluation.
//!
//! PanDA writes bare names; ours may also be absolute paths, `http(s)` URLs, or objects with a checksum:
//! `["train_0.npz", {"url": "https://…", "sha256": "…"}]`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DocumentError, Problem, pointer};
use crate::json::{self, Dialect};
use crate::limits;

/// One training file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TrainingFile {
    /// A path, relative to the work directory or absolute, or an `http(s)` URL.
    Location(String),
    /// A location whose content is known.
    Verified {
        /// Path or URL.
        #[serde(alias = "path")]
        url: String,
        /// SHA-256 of the content, 64 hexadecimal digits.
        sha256: String,
    },
}

impl TrainingFile {
    /// Path or URL.
    #[must_use]
    pub fn location(&self) -> &str {
        match self {
            Self::Location(location) | Self::Verified { url: location, .. } => location,
        }
    }

    /// The expected SHA-256, if any.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        match self {
            Self::Location(_) => None,
            Self::Verified { sha256, .. } => Some(sha256),
        }
    }
}

/// Checks the list.
///
/// # Errors
/// All faults, with pointers.
pub fn from_value(value: &Value) -> Result<Vec<TrainingFile>, Vec<Problem>> {
    let Value::Array(items) = value else {
        return Err(vec![Problem::new(
            "",
            format!("expected a list of file names, found {}", json::type_name(value)),
        )]);
    };
    let mut files = Vec::with_capacity(items.len());
    let mut problems = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match serde_json::from_value::<TrainingFile>(item.clone()) {
            Ok(file) if file.location().is_empty() => {
                problems.push(Problem::new(
                    pointer("", index),
                    "expected a file name, found an empty string",
                ));
            }
            Ok(file)
                if file
                    .sha256()
                    .is_some_and(|sum| sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit())) =>
            {
                problems.push(Problem::new(
                    pointer(&pointer("", index), "sha256"),
                    "expected 64 hexadecimal digits",
                ));
            }
            Ok(file) => files.push(file),
            Err(_) => problems.push(Problem::new(
                pointer("", index),
                format!(
                    "expected a file name or {{\"url\": …, \"sha256\": …}}, found {}",
                    json::type_name(item)
                ),
            )),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

/// Reads the list of training files.
///
/// # Errors
/// [`DocumentError`].
pub fn read(path: &Path) -> Result<Vec<TrainingFile>, DocumentError> {
    const WHAT: &str = "list of training files";
    let value = json::read(WHAT, path, limits::DOCUMENT_BYTES, Dialect::Strict)?;
    from_value(&value).map_err(|problems| DocumentError::invalid(WHAT, path, problems))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_verified_urls_are_read() {
        let sum = "0".repeat(64);
        let files = from_value(&json!(["a.npz", {"url": "http://h/b.npz", "sha256": sum}])).unwrap();
        assert_eq!(files[0].location(), "a.npz");
        assert_eq!(files[1].sha256(), Some(sum.as_str()));
    }

    #[test]
    fn every_faulty_entry_is_named() {
        let problems = from_value(&json!([1, "", {"url": "u", "sha256": "x"}])).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(places, ["/0", "/1", "/2/sha256"]);
        assert!(from_value(&json!({})).is_err());
    }
}
