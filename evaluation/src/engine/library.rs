//! Finds the ONNX Runtime library: a path, the environment, Python, the cache, or one pinned download.
//!
//! What is downloaded are wheels with a SHA-256 that is part of this program (module `wheels`), and only libraries are taken out
//! of them. Where a GPU is wanted, a library with CUDA comes before one without, and the libraries of CUDA itself are
//! looked for too ([`cuda`]).

pub mod cuda;
mod wheels;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cuda::{CudaLibrary, Driver};
use wheels::{Folder, Wheel};

/// Version that is downloaded when none is found.
pub const PINNED_VERSION: &str = "1.31.1";

/// Oldest version that works.
pub const OLDEST_VERSION: (u32, u32) = (1, 24);

/// Names of cache folders, before version and architecture.
const CPU_FOLDER: &str = "onnxruntime";
const GPU_FOLDER: &str = "onnxruntime-gpu";

/// Environment variable that names the library.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LibraryRequest {
    /// Path given by the user (`--onnxruntime`): the library or the folder that holds it.
    pub path: Option<PathBuf>,
    /// Never download.
    pub offline: bool,
    /// The cache folder instead of the user's usual one.
    pub cache: Option<PathBuf>,
    /// A library with CUDA comes before one without.
    pub prefer_cuda: bool,
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

impl Library {
    /// Whether the CUDA provider lies beside it.
    #[must_use]
    pub fn has_cuda(&self) -> bool {
        let real = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        real.parent()
            .is_some_and(|folder| folder.join("libonnxruntime_providers_cuda.so").exists())
    }

    /// The providers of processors that lie beside it, after that of the CPU, which is a part of it.
    #[must_use]
    pub fn providers(&self) -> Vec<String> {
        let real = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let mut names: Vec<String> = real
            .parent()
            .and_then(|folder| fs::read_dir(folder).ok())
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let name = name.strip_prefix("libonnxruntime_providers_")?.strip_suffix(".so")?;
                (name != "shared").then(|| name.to_owned())
            })
            .collect();
        names.sort();
        names.insert(0, "cpu".to_owned());
        names
    }
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
    /// Where the loader looks for libraries.
    search_path: Option<OsString>,
    python: OsString,
    nvidia_smi: OsString,
    /// The root of the file system.
    root: PathBuf,
    /// The CPU's library for this machine, if there is one.
    wheel: Option<Wheel>,
    /// Everything for a GPU, if it is published for this machine.
    gpu_wheels: Vec<Wheel>,
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
            search_path: variable("LD_LIBRARY_PATH"),
            python: "python3".into(),
            nvidia_smi: "nvidia-smi".into(),
            root: "/".into(),
            wheel: wheels::cpu(),
            gpu_wheels: wheels::gpu(),
        }
    }

    /// The cache folder of a kind of library.
    fn folder(&self, cache: Option<&PathBuf>, kind: &str) -> Result<PathBuf, LibraryError> {
        let cache = cache.or(self.cache.as_ref()).ok_or_else(|| LibraryError::NotFound {
            message: "neither `XDG_CACHE_HOME` nor `HOME` says where to keep one".into(),
        })?;
        Ok(cache.join(format!("{kind}-{PINNED_VERSION}-{}", std::env::consts::ARCH)))
    }
}

/// Fetches libraries into the cache, those for the GPU where asked; those that are there stay. `note` hears what happens.
///
/// # Errors
/// When a download fails or the cache cannot be written.
pub fn setup(gpu: bool, cache: Option<&PathBuf>, note: &mut dyn FnMut(&str)) -> Result<Library, LibraryError> {
    setup_with(gpu, cache, &Surroundings::of_process(), note)
}

fn setup_with(
    gpu: bool,
    cache: Option<&PathBuf>,
    around: &Surroundings,
    note: &mut dyn FnMut(&str),
) -> Result<Library, LibraryError> {
    let folder = around.folder(cache, if gpu { GPU_FOLDER } else { CPU_FOLDER })?;
    let path = if gpu {
        fetch_gpu(&folder, around, note)?
    } else {
        download(&folder, around)?
    };
    Ok(Library {
        version: version_in_name(&path),
        path,
        source: Source::Cache,
    })
}

/// What the GPU build of the library needs: the libraries of CUDA, and where they are.
#[must_use]
pub fn cuda_libraries(library: &Library) -> Vec<CudaLibrary> {
    cuda_libraries_with(library, &Surroundings::of_process())
}

fn cuda_libraries_with(library: &Library, around: &Surroundings) -> Vec<CudaLibrary> {
    let nvidia = package_folder(&around.python, "nvidia");
    let folders = cuda::folders(
        &library.path,
        nvidia.as_deref(),
        around.search_path.as_ref(),
        &around.root,
    );
    cuda::libraries(&folders)
}

/// The NVIDIA driver of this machine, and its GPUs.
#[must_use]
pub fn driver() -> Option<Driver> {
    let around = Surroundings::of_process();
    cuda::driver(&around.root, &around.nvidia_smi)
}

/// The folder in which downloads are kept.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    Surroundings::of_process().cache
}

fn locate_with(request: &LibraryRequest, around: &Surroundings) -> Result<Library, LibraryError> {
    if let Some(path) = &request.path {
        return named(path, "`--onnxruntime`", Source::Explicit);
    }
    if let Some(path) = &around.library_variable {
        return named(Path::new(path), "`ORT_DYLIB_PATH`", Source::Environment);
    }
    let installed = installed_package(&around.python).map(|path| Library {
        version: version_in_name(&path),
        path,
        source: Source::Python,
    });
    let has_cuda = installed.as_ref().is_some_and(Library::has_cuda);
    if request.prefer_cuda
        && !has_cuda
        && let Ok(folder) = around.folder(request.cache.as_ref(), GPU_FOLDER)
        && let Some(path) = library_in(&folder)
    {
        return Ok(Library {
            version: version_in_name(&path),
            path,
            source: Source::Cache,
        });
    }
    if let Some(library) = installed {
        return Ok(library);
    }
    let folder = around.folder(request.cache.as_ref(), CPU_FOLDER)?;
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

/// Asks Python where a package lies, without importing it.
fn package_folder(python: &OsString, name: &str) -> Option<PathBuf> {
    let question = format!(
        "import importlib.util as u; s = u.find_spec('{name}'); \
         print(list(s.submodule_search_locations)[0] if s and s.submodule_search_locations else '')"
    );
    let answer = Command::new(python)
        .args(["-c", &question])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let folder = String::from_utf8(answer.stdout).ok()?;
    let folder = folder.trim();
    (answer.status.success() && !folder.is_empty()).then(|| PathBuf::from(folder))
}

fn installed_package(python: &OsString) -> Option<PathBuf> {
    let folder = package_folder(python, "onnxruntime")?;
    let path = library_in(&folder.join("capi"))?;
    new_enough(&version_in_name(&path)?).then_some(path)
}

/// Fetches the CPU's library, unless another process has done so meanwhile.
fn download(folder: &Path, around: &Surroundings) -> Result<PathBuf, LibraryError> {
    let wheel = around.wheel.as_ref().ok_or_else(|| {
        let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
        LibraryError::NotFound {
            message: format!("no download is known for {arch} on {system}"),
        }
    })?;
    let place = Folder::open(folder, &around.python)?;
    if let Some(path) = library_in(folder) {
        return Ok(path);
    }
    let files = place.fetch(wheel)?;
    Ok(files.into_iter().next().expect("a wheel without libraries is refused"))
}

/// Fetches the GPU's library and those of CUDA, each wheel that is not there yet; the library itself comes last, so it is
/// found only when all are there.
fn fetch_gpu(folder: &Path, around: &Surroundings, note: &mut dyn FnMut(&str)) -> Result<PathBuf, LibraryError> {
    if around.gpu_wheels.is_empty() {
        let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
        return Err(LibraryError::NotFound {
            message: format!("ONNX Runtime with CUDA is not published for {arch} on {system}"),
        });
    }
    let place = Folder::open(folder, &around.python)?;
    for wheel in &around.gpu_wheels {
        let name = format!("{} {}", wheel.package, wheel.version);
        if place.has(wheel) {
            note(&format!("{name} is there"));
            continue;
        }
        note(&format!("fetching {name}"));
        let files = place.fetch(wheel)?;
        place.note(wheel, &files)?;
        let bytes: u64 = files
            .iter()
            .filter_map(|path| Some(fs::metadata(path).ok()?.len()))
            .sum();
        note(&format!("{name}: {} libraries, {} MB", files.len(), bytes / 1_000_000));
    }
    library_in(folder).ok_or_else(|| LibraryError::NotFound {
        message: format!("the downloaded wheels left no library in `{}`", folder.display()),
    })
}

#[cfg(test)]
mod tests;
