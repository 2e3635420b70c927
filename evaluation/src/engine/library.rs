//! Finds the ONNX Runtime library: a path, the environment, Python, the cache, or one pinned download.
//!
//! The download is done by pip, which knows the user's proxies, mirrors and certificates; the wheel is checked
//! against a SHA-256 that is part of this program, and only the library is taken out of it.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// Version that is downloaded when none is found.
pub const PINNED_VERSION: &str = "1.31.1";

/// Oldest version that works.
pub const OLDEST_VERSION: (u32, u32) = (1, 24);

/// Environment variable that names the library.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Platform tag of the wheel and its SHA-256, by processor architecture.
const WHEELS: [(&str, &str, &str); 2] = [
    (
        "x86_64",
        "manylinux_2_28_x86_64",
        "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    ),
    (
        "aarch64",
        "manylinux_2_28_aarch64",
        "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    ),
];

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
    /// Its version, when the file's name tells.
    pub version: Option<String>,
    /// How it was found.
    pub source: Source,
}

/// How a library was found, in the order in which the ways are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By the path given.
    Explicit,
    /// By `ORT_DYLIB_PATH`.
    Environment,
    /// In a Python package.
    Python,
    /// In the cache.
    Cache,
    /// Downloaded now.
    Download,
}

impl fmt::Display for Library {
    /// One line for people: which library, which version, how it was found.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        let how = match self.source {
            Source::Explicit => "given by `--onnxruntime`".to_owned(),
            Source::Environment => format!("named by `{LIBRARY_VARIABLE}`"),
            Source::Python => "of the installed Python package".to_owned(),
            Source::Cache => "from the cache".to_owned(),
            Source::Download => "downloaded now by pip".to_owned(),
        };
        write!(f, "ONNX Runtime {version}, {how}: {}", self.path.display())
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
    #[error(
        "no ONNX Runtime library found: {message}; install one with `python3 -m pip install onnxruntime`, or name one \
         with `--onnxruntime PATH` or `{LIBRARY_VARIABLE}`"
    )]
    NotFound {
        /// What was tried last and how it failed.
        message: String,
    },
    /// The cache cannot be written.
    #[error(
        "cannot write the cache folder `{}`; set `XDG_CACHE_HOME` to a folder that can be written, or name a library \
         with `--onnxruntime`",
        path.display()
    )]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Finds a library, in the order of the variants of [`Source`].
///
/// # Errors
/// When a named library is wrong, or every way failed.
pub fn locate(request: &LibraryRequest) -> Result<Library, LibraryError> {
    locate_with(request, &Surroundings::of_process())
}

/// What the finder reads from the process, apart so that tests can set it.
struct Surroundings {
    library_variable: Option<OsString>,
    cache: Option<PathBuf>,
    python: OsString,
    /// Platform tag and SHA-256 of the wheel for this machine, if there is one.
    wheel: Option<(&'static str, String)>,
}

impl Surroundings {
    fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .map(|folder| folder.join("hpo"));
        Self {
            library_variable: variable(LIBRARY_VARIABLE),
            cache,
            python: "python3".into(),
            wheel: WHEELS
                .into_iter()
                .find(|(arch, ..)| cfg!(target_os = "linux") && *arch == std::env::consts::ARCH)
                .map(|(_, platform, sha256)| (platform, sha256.to_owned())),
        }
    }
}

fn locate_with(request: &LibraryRequest, around: &Surroundings) -> Result<Library, LibraryError> {
    if let Some(path) = &request.path {
        return named(path, "`--onnxruntime`", Source::Explicit);
    }
    if let Some(path) = &around.library_variable {
        return named(Path::new(path), "`ORT_DYLIB_PATH`", Source::Environment);
    }
    if let Some(path) = installed_package(&around.python) {
        return Ok(Library {
            version: version_in_name(&path),
            path,
            source: Source::Python,
        });
    }
    let folder = request
        .cache
        .clone()
        .or_else(|| around.cache.clone())
        .ok_or_else(|| LibraryError::NotFound {
            message: "neither `XDG_CACHE_HOME` nor `HOME` says where to keep one".into(),
        })?;
    let folder = folder.join(format!("onnxruntime-{PINNED_VERSION}-{}", std::env::consts::ARCH));
    if let Some(path) = library_in(&folder) {
        return Ok(Library {
            version: version_in_name(&path),
            path,
            source: Source::Cache,
        });
    }
    if request.offline {
        return Err(LibraryError::NotFound {
            message: "downloading was forbidden".into(),
        });
    }
    let path = download(&folder, around)?;
    Ok(Library {
        version: version_in_name(&path),
        path,
        source: Source::Download,
    })
}

fn named(path: &Path, origin: &'static str, source: Source) -> Result<Library, LibraryError> {
    let error = |message: &str| LibraryError::NotALibrary {
        origin,
        path: path.to_owned(),
        message: message.into(),
    };
    let file = if path.is_dir() {
        library_in(path)
            .or_else(|| library_in(&path.join("capi")))
            .or_else(|| library_in(&path.join("lib")))
            .ok_or_else(|| error("no file `libonnxruntime.so*` in this folder"))?
    } else {
        path.to_owned()
    };
    let mut magic = [0; 4];
    let read = File::open(&file).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Err(problem) if problem.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(error("the file is too short"));
        }
        Err(problem) => return Err(error(&problem.to_string())),
        Ok(()) if cfg!(target_os = "linux") && magic != *b"\x7fELF" => {
            return Err(error("the file is no shared library"));
        }
        Ok(()) => {}
    }
    // The loader resolves relative paths against the program's folder, not against the current one.
    let file = std::path::absolute(&file).unwrap_or(file);
    Ok(Library {
        version: version_in_name(&file.canonicalize().unwrap_or_else(|_| file.clone())),
        path: file,
        source,
    })
}

/// The library in a folder: the highest version among `libonnxruntime.so*`.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
            name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.")
        })
        .map(|path| (version_numbers(&version_in_name(&path).unwrap_or_default()), path))
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

fn version_in_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("libonnxruntime.so.").map(str::to_owned)
}

fn version_numbers(text: &str) -> Vec<u32> {
    text.split('.').map_while(|part| part.parse().ok()).collect()
}

fn new_enough(version: &str) -> bool {
    match version_numbers(version)[..] {
        [major, minor, ..] => (major, minor) >= OLDEST_VERSION,
        _ => false,
    }
}

/// Asks Python where the package lies, without importing it.
fn installed_package(python: &OsString) -> Option<PathBuf> {
    const QUESTION: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
                            print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')";
    let answer = Command::new(python)
        .args(["-c", QUESTION])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let folder = String::from_utf8(answer.stdout).ok()?;
    let folder = folder.trim();
    if !answer.status.success() || folder.is_empty() {
        return None;
    }
    let path = library_in(&Path::new(folder).join("capi"))?;
    new_enough(&version_in_name(&path)?).then_some(path)
}

fn download(folder: &Path, around: &Surroundings) -> Result<PathBuf, LibraryError> {
    let python = &around.python;
    let not_found = |message: String| LibraryError::NotFound { message };
    let (platform, sha256) = around.wheel.as_ref().ok_or_else(|| {
        let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
        not_found(format!("no download is known for {arch} on {system}"))
    })?;
    let cache_error = |source| LibraryError::Cache {
        path: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(cache_error)?;
    // One process downloads, the others wait for it and then find the library.
    let lock = File::create(folder.join("lock")).map_err(cache_error)?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive) {
        // Some network file systems have no locks; then several may download, and the last rename wins.
        Ok(()) | Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(cache_error(error.into())),
    }
    if let Some(path) = library_in(folder) {
        return Ok(path);
    }
    let scratch = tempfile::Builder::new()
        .prefix("download-")
        .tempdir_in(folder)
        .map_err(cache_error)?;
    let output = Command::new(python)
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
        .args(["--python-version", "3.12", "--implementation", "cp", "--platform", platform, "--dest"])
        .arg(scratch.path())
        .arg(format!("onnxruntime=={PINNED_VERSION}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            let name = python.to_string_lossy();
            not_found(format!("`{name}` cannot be started ({error}); install Python 3 with pip, such as the packages `python3` and `python3-pip`"))
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        if words.contains("No module named pip") {
            return Err(not_found(
                "`python3` has no module `pip`; install it, such as by the package `python3-pip`".into(),
            ));
        }
        let last = words
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no message")
            .trim()
            .to_owned();
        return Err(not_found(format!(
            "pip could not download onnxruntime {PINNED_VERSION}: {last}"
        )));
    }
    let wheel = fs::read_dir(scratch.path())
        .map_err(cache_error)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| not_found("pip reported success and left no wheel".into()))?;
    unpack(&wheel, sha256, folder, scratch.path())
}

/// Checks a wheel's sum and moves the library in it to `folder` in one step.
fn unpack(wheel: &Path, sha256: &str, folder: &Path, scratch: &Path) -> Result<PathBuf, LibraryError> {
    let cache_error = |source| LibraryError::Cache {
        path: folder.to_owned(),
        source,
    };
    let not_found = |message: String| LibraryError::NotFound { message };
    let bytes = fs::read(wheel).map_err(cache_error)?;
    let found = hex(&Sha256::digest(&bytes));
    if found != sha256 {
        return Err(not_found(format!(
            "the downloaded wheel has SHA-256 `{found}`, expected `{sha256}`"
        )));
    }
    let broken = |error: zip::result::ZipError| not_found(format!("the downloaded wheel cannot be unpacked: {error}"));
    let mut archive = zip::ZipArchive::new(io::Cursor::new(bytes)).map_err(broken)?;
    let member = archive
        .file_names()
        .filter_map(Result::ok)
        .find(|name| {
            name.rsplit('/')
                .next()
                .is_some_and(|file| file.starts_with("libonnxruntime.so."))
        })
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| not_found("the downloaded wheel holds no `libonnxruntime.so.*`".into()))?;
    let name = member
        .rsplit('/')
        .next()
        .expect("`rsplit` gives at least one part")
        .to_owned();
    let temporary = scratch.join(&name);
    let mut target = File::create(&temporary).map_err(cache_error)?;
    io::copy(&mut archive.by_name(&member).map_err(broken)?, &mut target).map_err(cache_error)?;
    target.sync_all().map_err(cache_error)?;
    let path = folder.join(name);
    fs::rename(&temporary, &path).map_err(cache_error)?;
    Ok(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests;
