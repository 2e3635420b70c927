//! Shared libraries out of Python wheels: fetched by pip, checked, and unpacked one wheel at a time.
//!
//! pip knows the user's proxies, mirrors and certificates. A wheel that has been unpacked is never fetched again, so a
//! set-up that was cut off goes on where it ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

use super::{LibraryError, PINNED_VERSION};

/// A file of the package index.
#[derive(Debug, Clone)]
pub(super) struct Wheel {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    pub(super) sha256: String,
    /// Whether a member of this name, without its folders, is wanted.
    pub(super) wanted: fn(&str) -> bool,
}

/// The CPU's ONNX Runtime: SHA-256 by processor architecture.
const CPU: [(&str, &str); 2] = [
    (
        "x86_64",
        "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    ),
    (
        "aarch64",
        "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    ),
];

/// ONNX Runtime for CUDA 13 and cuDNN 9, and those libraries, for `x86_64`, for which alone it is published. The versions
/// of CUDA are those of 13.0, which the oldest driver of that line runs.
const GPU: [(&str, &str, &str); 8] = [
    (
        "nvidia-cuda-runtime",
        "13.0.96",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    (
        "nvidia-nvjitlink",
        "13.0.88",
        "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
    ),
    (
        "nvidia-cuda-nvrtc",
        "13.0.88",
        "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    ),
    (
        "nvidia-curand",
        "10.4.0.35",
        "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
    ),
    (
        "nvidia-cufft",
        "12.0.0.61",
        "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
    ),
    (
        "nvidia-cublas",
        "13.0.2.14",
        "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
    ),
    (
        "nvidia-cudnn-cu13",
        "9.28.0.42",
        "7358353c75bb121a58e5f7712fe6d588883dc1df8ba00f428237e44e97543c4d",
    ),
    (
        "onnxruntime-gpu",
        PINNED_VERSION,
        "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
    ),
];

/// The wheel with the CPU's library, where there is one for this machine.
pub(super) fn cpu() -> Option<Wheel> {
    let (_, sha256) = CPU
        .into_iter()
        .find(|(arch, _)| cfg!(target_os = "linux") && *arch == std::env::consts::ARCH)?;
    Some(Wheel {
        package: "onnxruntime",
        version: PINNED_VERSION,
        sha256: sha256.to_owned(),
        wanted: |name| name.starts_with("libonnxruntime.so."),
    })
}

/// All wheels for a GPU, ONNX Runtime last; none where it is not published for this machine.
pub(super) fn gpu() -> Vec<Wheel> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Vec::new();
    }
    GPU.into_iter()
        .map(|(package, version, sha256)| Wheel {
            package,
            version,
            sha256: sha256.to_owned(),
            wanted: if package == "onnxruntime-gpu" {
                |name| name.starts_with("libonnxruntime") && !name.contains("tensorrt")
            } else {
                |name| name.starts_with("lib") && name.contains(".so") && !is_spare(name)
            },
        })
        .collect()
}

/// Libraries of the CUDA wheels that ONNX Runtime never loads.
fn is_spare(name: &str) -> bool {
    ["libnvblas", "libcufftw", "libnvrtc.alt", "libnvrtc-builtins.alt"]
        .iter()
        .any(|spare| name.starts_with(spare))
}

/// A folder of libraries, held by one process at a time.
pub(super) struct Folder<'a> {
    path: &'a Path,
    python: &'a OsString,
    _lock: File,
}

impl<'a> Folder<'a> {
    /// Makes the folder, and waits for another process that fills it.
    pub(super) fn open(path: &'a Path, python: &'a OsString) -> Result<Self, LibraryError> {
        let cache_error = |source| LibraryError::Cache {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(cache_error)?;
        let lock = File::create(path.join("lock")).map_err(cache_error)?;
        match rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
            // Some network file systems have no locks; then several may download, and the last rename wins.
            Ok(()) | Err(rustix::io::Errno::NOLCK | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(cache_error(error.into())),
        }
        Ok(Self {
            path,
            python,
            _lock: lock,
        })
    }

    /// Whether all files of a wheel are here.
    pub(super) fn has(&self, wheel: &Wheel) -> bool {
        fs::read_to_string(self.list(wheel)).is_ok_and(|names| names.lines().all(|name| self.path.join(name).is_file()))
    }

    /// Which files a wheel left here.
    fn list(&self, wheel: &Wheel) -> PathBuf {
        self.path.join(format!("{}-{}.files", wheel.package, wheel.version))
    }

    /// Notes that a wheel is here whole, so that it is not fetched again.
    pub(super) fn note(&self, wheel: &Wheel, files: &[PathBuf]) -> Result<(), LibraryError> {
        let names: Vec<String> = files
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        fs::write(self.list(wheel), names.join("\n") + "\n").map_err(|source| self.cache_error(source))
    }

    /// Fetches a wheel and moves the wanted libraries here; returns them.
    pub(super) fn fetch(&self, wheel: &Wheel) -> Result<Vec<PathBuf>, LibraryError> {
        let scratch = tempfile::Builder::new()
            .prefix("download-")
            .tempdir_in(self.path)
            .map_err(|source| self.cache_error(source))?;
        let file = self.download(wheel, scratch.path())?;
        self.unpack(&file, wheel, scratch.path())
    }

    fn download(&self, wheel: &Wheel, to: &Path) -> Result<PathBuf, LibraryError> {
        let (package, version) = (wheel.package, wheel.version);
        let arch = std::env::consts::ARCH;
        let mut command = Command::new(self.python);
        command
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ])
            .args([
                "--only-binary=:all:",
                "--python-version",
                "3.12",
                "--implementation",
                "cp",
            ]);
        for platform in ["manylinux_2_28", "manylinux_2_27", "manylinux2014"] {
            command.arg("--platform").arg(format!("{platform}_{arch}"));
        }
        let output = command
            .arg("--dest")
            .arg(to)
            .arg(format!("{package}=={version}"))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                let name = self.python.to_string_lossy();
                not_found(format!(
                    "`{name}` cannot be started ({error}); install Python 3 with pip, such as the packages `python3` and \
                     `python3-pip`"
                ))
            })?;
        if !output.status.success() {
            return Err(not_found(explain(wheel, &String::from_utf8_lossy(&output.stderr))));
        }
        fs::read_dir(to)
            .map_err(|source| self.cache_error(source))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or_else(|| not_found("pip reported success and left no wheel".into()))
    }

    /// Checks a wheel's sum and moves each library in it here in one step.
    fn unpack(&self, file: &Path, wheel: &Wheel, scratch: &Path) -> Result<Vec<PathBuf>, LibraryError> {
        let found = sum(file).map_err(|source| self.cache_error(source))?;
        if found != wheel.sha256 {
            return Err(not_found(format!(
                "the downloaded wheel has SHA-256 `{found}`, expected `{}`",
                wheel.sha256
            )));
        }
        let broken = |error: ZipError| not_found(format!("the downloaded wheel cannot be unpacked: {error}"));
        let input = File::open(file).map_err(|source| self.cache_error(source))?;
        let mut archive = ZipArchive::new(BufReader::new(input)).map_err(broken)?;
        let members: Vec<String> = archive
            .file_names()
            .filter_map(Result::ok)
            .map(std::borrow::Cow::into_owned)
            .filter(|name| (wheel.wanted)(last(name)))
            .collect();
        if members.is_empty() {
            return Err(not_found(format!(
                "the downloaded wheel `{}` {} holds none of the wanted libraries",
                wheel.package, wheel.version
            )));
        }
        let mut files = Vec::with_capacity(members.len());
        for member in members {
            let temporary = scratch.join(last(&member));
            let mut target = File::create(&temporary).map_err(|source| self.cache_error(source))?;
            io::copy(&mut archive.by_name(&member).map_err(broken)?, &mut target)
                .and_then(|_| target.sync_all())
                .map_err(|source| self.cache_error(source))?;
            let path = self.path.join(last(&member));
            fs::rename(&temporary, &path).map_err(|source| self.cache_error(source))?;
            files.push(path);
        }
        Ok(files)
    }

    fn cache_error(&self, source: io::Error) -> LibraryError {
        LibraryError::Cache {
            path: self.path.to_owned(),
            source,
        }
    }
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().expect("`rsplit` gives at least one part")
}

fn not_found(message: String) -> LibraryError {
    LibraryError::NotFound { message }
}

fn explain(wheel: &Wheel, words: &str) -> String {
    if words.contains("No module named pip") {
        return "`python3` has no module `pip`; install it, such as by the package `python3-pip`".into();
    }
    let (package, version) = (wheel.package, wheel.version);
    let unreachable = [
        "NewConnectionError",
        "Failed to establish",
        "name resolution",
        "Connection refused",
        "timed out",
    ];
    if unreachable.iter().any(|sign| words.contains(sign)) {
        return format!(
            "pip cannot reach the package index for {package} {version}; check network and proxy, or copy the cache folder \
             of a machine where `evaluation setup` has run"
        );
    }
    let last = words.lines().rev().find(|line| !line.trim().is_empty());
    format!(
        "pip could not download {package} {version}: {}",
        last.unwrap_or("no message").trim()
    )
}

fn sum(file: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        hash.update(bytes);
        let length = bytes.len();
        input.consume(length);
    }
    Ok(hash
        .finalize()
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}
