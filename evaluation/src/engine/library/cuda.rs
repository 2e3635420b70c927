//! The CUDA and cuDNN libraries that the GPU build of ONNX Runtime needs, and the machine's driver and GPUs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

/// Each library by the name under which it is loaded, and the Python package that has it; one that others need comes
/// before them.
const NEEDED: [(&str, &str); 8] = [
    ("libcudart.so.13", "nvidia-cuda-runtime"),
    ("libnvJitLink.so.13", "nvidia-nvjitlink"),
    ("libcublasLt.so.13", "nvidia-cublas"),
    ("libcublas.so.13", "nvidia-cublas"),
    ("libcurand.so.10", "nvidia-curand"),
    ("libcufft.so.12", "nvidia-cufft"),
    ("libnvrtc.so.13", "nvidia-cuda-nvrtc"),
    ("libcudnn.so.9", "nvidia-cudnn-cu13"),
];

/// One of the libraries that CUDA needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CudaLibrary {
    /// The name under which it is loaded.
    pub name: &'static str,
    /// The Python package that has it.
    pub package: &'static str,
    /// Where it was found.
    pub path: Option<PathBuf>,
    /// Files of the same library in other versions, which do not serve.
    pub other_versions: Vec<PathBuf>,
}

/// A GPU as the driver names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Its number, as in `cuda:0`.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its memory in MiB, where it is told.
    pub memory_mib: Option<u64>,
}

/// What the NVIDIA driver tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Driver {
    /// Its version.
    pub version: Option<String>,
    /// The GPUs that it sees.
    pub gpus: Vec<Gpu>,
    /// The library by which programs reach it.
    pub library: Option<PathBuf>,
}

/// Looks for the libraries in the folders, in their order.
pub(super) fn libraries(folders: &[PathBuf]) -> Vec<CudaLibrary> {
    NEEDED
        .into_iter()
        .map(|(name, package)| {
            let stem = name.split_once(".so").map_or(name, |(stem, _)| stem);
            let path = folders
                .iter()
                .map(|folder| folder.join(name))
                .find(|path| path.is_file());
            let mut other_versions: Vec<PathBuf> = folders
                .iter()
                .filter_map(|folder| fs::read_dir(folder).ok())
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    let file = path.file_name().and_then(|file| file.to_str()).unwrap_or("");
                    file.strip_prefix(stem).is_some_and(|rest| {
                        let version = rest.strip_prefix(".so.");
                        version.is_some_and(|version| !name.ends_with(&format!(".{}", first(version))))
                    })
                })
                .collect();
            other_versions.sort();
            other_versions.dedup();
            CudaLibrary {
                name,
                package,
                path,
                other_versions,
            }
        })
        .collect()
}

fn first(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// Where the libraries may lie: beside ONNX Runtime, in the `nvidia` packages of its Python, where the loader looks, and
/// in the usual places of the CUDA toolkit.
pub(super) fn folders(
    library: &Path,
    nvidia: Option<&Path>,
    search_path: Option<&OsString>,
    root: &Path,
) -> Vec<PathBuf> {
    let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    let mut folders: Vec<PathBuf> = real.parent().map(Path::to_owned).into_iter().collect();
    // `site-packages/onnxruntime/capi/libonnxruntime.so` has `site-packages/nvidia` beside its package.
    let beside = real.ancestors().nth(3).map(|packages| packages.join("nvidia"));
    for nvidia in beside.iter().map(PathBuf::as_path).chain(nvidia) {
        let Ok(entries) = fs::read_dir(nvidia) else { continue };
        let mut packages: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path().join("lib")))
            .filter(|folder| folder.is_dir())
            .collect();
        packages.sort();
        folders.extend(packages);
    }
    folders.extend(search_path.iter().flat_map(std::env::split_paths));
    let usual = [
        "usr/local/cuda/lib64",
        "usr/local/cuda-13/lib64",
        "usr/lib/x86_64-linux-gnu",
        "usr/lib64",
        "usr/local/lib",
    ];
    folders.extend(usual.iter().map(|folder| root.join(folder)));
    let mut seen = std::collections::BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// Asks the driver; none where there is none. `root` is the root of the file system.
pub(super) fn driver(root: &Path, nvidia_smi: &OsString) -> Option<Driver> {
    let mut driver = Driver {
        version: fs::read_to_string(root.join("proc/driver/nvidia/version"))
            .ok()
            .and_then(|text| version_in(&text)),
        ..Driver::default()
    };
    let places = [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib64",
        "usr/local/nvidia/lib64",
        "usr/lib/wsl/lib",
    ];
    driver.library = places
        .iter()
        .map(|folder| root.join(folder).join("libcuda.so.1"))
        .find(|path| path.exists());
    let answer = Command::new(nvidia_smi)
        .args([
            "--query-gpu=index,name,memory.total,driver_version",
            "--format=csv,noheader,nounits",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    if let Ok(answer) = answer
        && answer.status.success()
    {
        for line in String::from_utf8_lossy(&answer.stdout).lines() {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [index, name, memory, version] = fields[..] else {
                continue;
            };
            let Ok(index) = index.parse() else { continue };
            driver.gpus.push(Gpu {
                index,
                name: name.to_owned(),
                memory_mib: memory.parse().ok(),
            });
            driver.version.get_or_insert_with(|| version.to_owned());
        }
    }
    if driver.gpus.is_empty() {
        driver.gpus = from_proc(root);
    }
    let is_there = driver.version.is_some() || driver.library.is_some() || !driver.gpus.is_empty();
    is_there.then_some(driver)
}

/// Such as `580.95.05` in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue …`.
fn version_in(text: &str) -> Option<String> {
    text.lines()
        .next()?
        .split_whitespace()
        .find(|word| {
            word.split('.').count() >= 2
                && word
                    .split('.')
                    .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(str::to_owned)
}

fn from_proc(root: &Path) -> Vec<Gpu> {
    let Ok(entries) = fs::read_dir(root.join("proc/driver/nvidia/gpus")) else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    folders
        .iter()
        .zip(0..)
        .map(|(folder, index)| {
            let text = fs::read_to_string(folder.join("information")).unwrap_or_default();
            let model = text.lines().find_map(|line| line.strip_prefix("Model:"));
            Gpu {
                index,
                name: model.unwrap_or("unknown").trim().to_owned(),
                memory_mib: None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn libraries_are_found_in_the_packages_beside_and_wrong_versions_are_named() {
        let root = tree(&[
            ("site/onnxruntime/capi/libonnxruntime.so.1.31.1", ""),
            ("site/nvidia/cu13/lib/libcudart.so.13", ""),
            ("site/nvidia/cudnn/lib/libcudnn.so.8", ""),
            ("toolkit/libcublas.so.12", ""),
            ("toolkit/libcublasLt.so.13", ""),
            ("usr/lib64/libcurand.so.10", ""),
        ]);
        let library = root.path().join("site/onnxruntime/capi/libonnxruntime.so.1.31.1");
        let search: OsString = root.path().join("toolkit").into();
        let found = libraries(&folders(&library, None, Some(&search), root.path()));
        let one = |name: &str| found.iter().find(|library| library.name == name).unwrap();
        let path = |name: &str| one(name).path.clone();
        let real = root.path().canonicalize().unwrap();
        assert_eq!(
            path("libcudart.so.13"),
            Some(real.join("site/nvidia/cu13/lib/libcudart.so.13"))
        );
        assert_eq!(
            path("libcublasLt.so.13"),
            Some(root.path().join("toolkit/libcublasLt.so.13"))
        );
        assert_eq!(
            path("libcurand.so.10"),
            Some(root.path().join("usr/lib64/libcurand.so.10"))
        );
        assert_eq!(path("libcublas.so.13"), None);
        assert_eq!(
            one("libcublas.so.13").other_versions,
            [root.path().join("toolkit/libcublas.so.12")]
        );
        assert_eq!(
            one("libcudnn.so.9").other_versions,
            [real.join("site/nvidia/cudnn/lib/libcudnn.so.8")]
        );
    }

    #[test]
    fn the_driver_tells_version_and_gpus() {
        use std::os::unix::fs::PermissionsExt;
        let root = tree(&[
            (
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC version: 12.2.0\n",
            ),
            (
                "proc/driver/nvidia/gpus/0000:01:00.0/information",
                "Model: \t\t NVIDIA H200\nIRQ: 5\n",
            ),
            (
                "smi",
                "#!/bin/sh\necho '0, NVIDIA H200, 143771, 580.95.05'\necho '1, NVIDIA H200, 143771, 580.95.05'\n",
            ),
        ]);
        let driver_of = |smi: &OsString| driver(root.path(), smi).unwrap();
        let plain = driver_of(&"/nonexistent/nvidia-smi".into());
        assert_eq!(plain.version.as_deref(), Some("580.95.05"));
        assert_eq!((plain.gpus.len(), plain.gpus[0].name.as_str()), (1, "NVIDIA H200"));
        let smi = root.path().join("smi");
        fs::set_permissions(&smi, fs::Permissions::from_mode(0o755)).unwrap();
        let told = driver_of(&smi.into_os_string());
        assert_eq!((told.gpus.len(), told.gpus[1].memory_mib), (2, Some(143_771)));
        let bare = tempfile::tempdir().unwrap();
        assert_eq!(driver(bare.path(), &"/nonexistent/nvidia-smi".into()), None);
    }
}
