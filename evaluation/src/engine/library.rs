//! Finds the ONNX Runtime library: a path, the environment, Python, the cache, or one pinned download.

use std::fmt;
use std::path::PathBuf;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LibraryRequest {
    /// Path given by the user (`--onnxruntime`): the library or the folder that holds it.
    pub path: Option<PathBuf>,
    /// Never download.
    pub offline: bool,
    /// The cache folder instead of the user's usual one.
    pub cache: Option<PathBuf>,
}

/// A library that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// Its version, when the name or package tells.
    pub version: Option<String>,
    /// How it was found.
    pub source: Source,
}

/// How a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By the path given.
    Explicit,
    /// By `ORT_DYLIB_PATH`.
    Environment,
    /// In an installed Python package.
    Python,
    /// In the cache.
    Cache,
    /// Downloaded now.
    Download,
}

impl fmt::Display for Library {
    /// One line for people: which library, which version, how it was found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

/// Why no library was found.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A named file is not there or is no library.
    #[error("{origin} names `{}`: {message}", path.display())]
    NotALibrary {
        /// Who named it.
        origin: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Every way failed.
    #[error("no ONNX Runtime library found: {message}")]
    NotFound {
        /// What was tried and what to do.
        message: String,
    },
}

/// Finds a library, in the order of the variants of [`Source`].
///
/// # Errors
/// When a named library is wrong, or every way failed.
pub fn locate(request: &LibraryRequest) -> Result<Library, LibraryError> {
    let _ = request;
    unimplemented!("skeleton")
}
