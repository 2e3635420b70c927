//! What can be wrong with a document, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// One fault in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer (RFC 6901) to the faulty value; empty for the whole document.
    pub pointer: String,
    /// What was expected and what was found.
    pub message: String,
}

impl Problem {
    /// A fault at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
        }
    }

    /// The same fault seen from a document in which this one stands at `prefix`.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "at `{}`: {}", self.pointer, self.message)
        }
    }
}

/// Appends `key` to a JSON pointer, escaped.
#[must_use]
pub fn pointer(parent: &str, key: impl fmt::Display) -> String {
    format!("{parent}/{}", key.to_string().replace('~', "~0").replace('/', "~1"))
}

/// Why a document could not be read or is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file could not be read at all.
    #[error("cannot read {what} `{}`: {source}", path.display())]
    Unreadable {
        /// The kind of document.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason given by the system.
        source: std::io::Error,
    },
    /// The file is larger than its limit.
    #[error("{what} `{}` has {found} bytes, at most {limit} are read", path.display())]
    TooLarge {
        /// The kind of document.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not a JSON text.
    #[error("{what} `{}` is not valid JSON: {message}", path.display())]
    Syntax {
        /// The kind of document.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Place and reason.
        message: String,
    },
    /// The JSON text does not say what it should; all faults at once.
    #[error("{}", describe(what, path, problems))]
    Invalid {
        /// The kind of document.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The faults, at least one.
        problems: Vec<Problem>,
    },
}

impl DocumentError {
    /// Wraps faults found in the document `what` read from `path`.
    #[must_use]
    pub fn invalid(what: &'static str, path: &Path, problems: Vec<Problem>) -> Self {
        Self::Invalid {
            what,
            path: path.to_owned(),
            problems,
        }
    }

    /// The exit code that fits: infrastructure when the system refused, else wrong input.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { source, .. } if source.kind() != std::io::ErrorKind::NotFound => {
                crate::exit::INFRASTRUCTURE
            }
            _ => crate::exit::USAGE,
        }
    }
}

fn describe(what: &str, path: &Path, problems: &[Problem]) -> String {
    match problems {
        [one] => format!("{what} `{}`: {one}", path.display()),
        many => {
            let mut text = format!("{what} `{}` has {} faults:", path.display(), many.len());
            for problem in many {
                text.push_str("\n  ");
                text.push_str(&problem.to_string());
            }
            text
        }
    }
}

/// A hint naming the known word nearest to `found`, or nothing when none is near.
#[must_use]
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let length = found.chars().count();
    let farthest = |word: &str| 1 + word.len() / 4;
    known
        .into_iter()
        // The distance is no less than the difference of the lengths, and takes their product to compute.
        .filter(|word| length.abs_diff(word.chars().count()) <= farthest(word))
        .map(|word| {
            (
                strsim::damerau_levenshtein(&found.to_lowercase(), &word.to_lowercase()),
                word,
            )
        })
        .filter(|(distance, word)| *distance <= farthest(word))
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, word)| format!("; did you mean `{word}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_slash_and_tilde() {
        assert_eq!(pointer("/a", "b/c~d"), "/a/b~1c~0d");
    }

    #[test]
    fn the_nearest_known_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(
            did_you_mean("maxPoint", ["maxPoints", "outDS"]),
            "; did you mean `maxPoints`?"
        );
        assert_eq!(did_you_mean("zebra", ["maxPoints", "outDS"]), "");
    }

    #[test]
    fn several_faults_are_listed_one_a_line() {
        let error = DocumentError::invalid(
            "search space",
            Path::new("s.json"),
            vec![Problem::new("/a", "first"), Problem::new("", "second")],
        );
        assert_eq!(
            error.to_string(),
            "search space `s.json` has 2 faults:\n  at `/a`: first\n  second"
        );
    }
}
