//! The order of the ways, and every message.

use sha2::{Digest, Sha256};

use super::*;

fn nowhere() -> Surroundings {
    Surroundings {
        library_variable: None,
        cache: None,
        search_path: None,
        python: "/nonexistent/python3".into(),
        nvidia_smi: "/nonexistent/nvidia-smi".into(),
        root: "/nonexistent".into(),
        wheel: Some(wheel("onnxruntime", "0".repeat(64))),
        gpu_wheels: Vec::new(),
    }
}

fn wheel(package: &'static str, sha256: String) -> Wheel {
    Wheel {
        package,
        version: PINNED_VERSION,
        sha256,
        wanted: |name| name.starts_with("lib") && !name.contains("shared"),
    }
}

/// A wheel with these members, and its sum.
fn write_wheel(path: &Path, members: &[&str]) -> String {
    let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
    for member in members {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(*member, options).unwrap();
        io::Write::write_all(&mut archive, b"\x7fELF library").unwrap();
    }
    archive.finish().unwrap();
    let digest = Sha256::digest(fs::read(path).unwrap());
    digest
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn request(path: &Path) -> LibraryRequest {
    LibraryRequest {
        path: Some(path.to_owned()),
        ..LibraryRequest::default()
    }
}

#[test]
fn a_missing_explicit_path_is_an_error_that_names_it() {
    let error = locate_with(&request(Path::new("/nonexistent/lib.so")), &nowhere()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`--onnxruntime` names `/nonexistent/lib.so`: No such file or directory (os error 2)"
    );
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("libonnxruntime.so");
    fs::write(&file, "text, not a library").unwrap();
    let error = locate_with(&request(&file), &nowhere()).unwrap_err();
    assert!(error.to_string().ends_with("the file is no shared library"), "{error}");
}

#[test]
fn a_folder_without_a_library_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = locate_with(&request(folder.path()), &nowhere()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no file `libonnxruntime.so*` in this folder"),
        "{error}"
    );
}

#[test]
fn the_newest_library_of_a_folder_is_taken_and_the_line_says_how() {
    let folder = tempfile::tempdir().unwrap();
    for version in ["1.9.0", "1.31.1", "1.24.4"] {
        fs::write(folder.path().join(format!("libonnxruntime.so.{version}")), b"\x7fELF").unwrap();
    }
    let library = locate_with(&request(folder.path()), &nowhere()).unwrap();
    assert_eq!(library.version.as_deref(), Some("1.31.1"));
    assert!(
        library
            .to_string()
            .starts_with("ONNX Runtime 1.31.1, given by `--onnxruntime`: "),
        "{library}"
    );
}

#[test]
fn the_environment_comes_before_the_cache_and_the_cache_before_a_download() {
    let folder = tempfile::tempdir().unwrap();
    let cached = folder
        .path()
        .join(format!("onnxruntime-{PINNED_VERSION}-{}", std::env::consts::ARCH));
    fs::create_dir(&cached).unwrap();
    fs::write(cached.join("libonnxruntime.so.1.31.1"), b"\x7fELF").unwrap();
    let mut around = Surroundings {
        cache: Some(folder.path().to_owned()),
        ..nowhere()
    };
    assert_eq!(
        locate_with(&LibraryRequest::default(), &around).unwrap().source,
        Source::Cache
    );
    let other = folder.path().join("libonnxruntime.so.1.30.0");
    fs::write(&other, b"\x7fELF").unwrap();
    around.library_variable = Some(other.clone().into());
    let library = locate_with(&LibraryRequest::default(), &around).unwrap();
    assert_eq!((library.source, library.path), (Source::Environment, other));
}

#[test]
fn without_python_the_message_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let around = Surroundings {
        cache: Some(folder.path().to_owned()),
        ..nowhere()
    };
    let message = locate_with(&LibraryRequest::default(), &around)
        .unwrap_err()
        .to_string();
    assert!(message.contains("install Python 3 with pip"), "{message}");
    let offline = LibraryRequest {
        offline: true,
        ..LibraryRequest::default()
    };
    let message = locate_with(&offline, &around).unwrap_err().to_string();
    assert!(
        message.contains("downloading was forbidden") && message.contains("--onnxruntime PATH"),
        "{message}"
    );
}

#[test]
fn a_cache_that_cannot_be_written_and_a_missing_one_are_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let around = Surroundings {
        cache: Some(file),
        ..nowhere()
    };
    let message = locate_with(&LibraryRequest::default(), &around)
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("cannot write the cache folder `") && message.contains("XDG_CACHE_HOME"),
        "{message}"
    );
    let message = locate_with(&LibraryRequest::default(), &nowhere())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("neither `XDG_CACHE_HOME` nor `HOME` says where to keep one"),
        "{message}"
    );
}

#[test]
fn without_pip_the_message_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let python = script(folder.path(), "echo \"python3: No module named pip\" >&2; exit 1");
    let around = Surroundings {
        cache: Some(folder.path().to_owned()),
        python,
        ..nowhere()
    };
    let message = locate_with(&LibraryRequest::default(), &around)
        .unwrap_err()
        .to_string();
    assert!(message.contains("has no module `pip`"), "{message}");
}

#[test]
fn a_wheel_with_another_sum_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let python = script(
        folder.path(),
        "case \"$*\" in *download*) while [ \"$1\" != --dest ]; do shift; done; echo no > \"$2/a.whl\";; esac",
    );
    let around = Surroundings {
        cache: Some(folder.path().to_owned()),
        python,
        ..nowhere()
    };
    let message = locate_with(&LibraryRequest::default(), &around)
        .unwrap_err()
        .to_string();
    assert!(message.contains("the downloaded wheel has SHA-256 `"), "{message}");
}

#[test]
fn several_processes_at_once_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let wheel_file = folder.path().join("source.whl");
    let sha256 = write_wheel(
        &wheel_file,
        &[
            "onnxruntime/capi/libonnxruntime_providers_shared.so",
            "onnxruntime/capi/libonnxruntime.so.1.31.1",
        ],
    );
    let body = format!(
        "case \"$*\" in *download*) while [ \"$1\" != --dest ]; do shift; done; cp {wheel} \"$2/a.whl\"; \
         echo >> {folder}/count;; esac",
        wheel = wheel_file.display(),
        folder = folder.path().display()
    );
    let python = script(folder.path(), &body);
    let cache = folder.path().join("cache");
    let found: Vec<Library> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let around = Surroundings {
                    cache: Some(cache.clone()),
                    python: python.clone(),
                    wheel: Some(wheel("onnxruntime", sha256.clone())),
                    ..nowhere()
                };
                scope.spawn(move || locate_with(&LibraryRequest::default(), &around).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        found
            .iter()
            .all(|library| fs::read(&library.path).unwrap() == b"\x7fELF library")
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("count")).unwrap().lines().count(),
        1
    );
    let names = fs::read_dir(found[0].path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 2, "only the lock and the library are left");
}

#[test]
fn a_machine_without_a_wheel_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let around = Surroundings {
        cache: Some(folder.path().to_owned()),
        wheel: None,
        ..nowhere()
    };
    let message = locate_with(&LibraryRequest::default(), &around)
        .unwrap_err()
        .to_string();
    assert!(message.contains("no download is known for "), "{message}");
}

#[test]
fn a_setup_for_the_gpu_goes_on_where_it_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_wheel(
        &folder.path().join("nvidia-cublas.whl"),
        &["nvidia/cu13/lib/libcublas.so.13"],
    );
    let second = write_wheel(
        &folder.path().join("onnxruntime-gpu.whl"),
        &[
            "onnxruntime/capi/libonnxruntime.so.1.31.1",
            "onnxruntime/capi/libonnxruntime_providers_cuda.so",
        ],
    );
    // The index is gone after the first wheel, until the file `up` is there.
    let body = format!(
        "case \"$*\" in *download*) last=; for last; do :; done; package=${{last%%==*}}; echo $package >> {here}/log; \
         if [ $package = onnxruntime-gpu ] && ! [ -e {here}/up ]; then echo NewConnectionError >&2; exit 1; fi; \
         while [ \"$1\" != --dest ]; do shift; done; cp {here}/$package.whl \"$2/\";; esac",
        here = folder.path().display()
    );
    let around = Surroundings {
        cache: Some(folder.path().join("cache")),
        python: script(folder.path(), &body),
        gpu_wheels: vec![wheel("nvidia-cublas", first), wheel("onnxruntime-gpu", second)],
        ..nowhere()
    };
    let mut notes = Vec::new();
    let message = setup_with(true, None, &around, &mut |note| notes.push(note.to_owned()))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("pip cannot reach the package index for onnxruntime-gpu 1.31.1; check network"),
        "{message}"
    );
    let prefer_cuda = LibraryRequest {
        prefer_cuda: true,
        offline: true,
        ..LibraryRequest::default()
    };
    assert!(locate_with(&prefer_cuda, &around).is_err(), "half a set-up is none");
    fs::write(folder.path().join("up"), "").unwrap();
    let library = setup_with(true, None, &around, &mut |note| notes.push(note.to_owned())).unwrap();
    assert_eq!(
        fs::read_to_string(folder.path().join("log")).unwrap(),
        "nvidia-cublas\nonnxruntime-gpu\nonnxruntime-gpu\n"
    );
    assert_eq!(notes[3], "nvidia-cublas 1.31.1 is there");
    assert!(library.has_cuda());
    assert_eq!(library.providers(), ["cpu", "cuda"]);
    let found = locate_with(&prefer_cuda, &around).unwrap();
    assert_eq!((&found.path, found.source), (&library.path, Source::Cache));
    let cublas = cuda_libraries_with(&found, &around);
    let cublas = cublas.iter().find(|library| library.name == "libcublas.so.13").unwrap();
    assert!(cublas.path.is_some());
}

#[test]
fn a_gpu_library_that_is_not_published_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let around = Surroundings {
        cache: Some(folder.path().to_owned()),
        ..nowhere()
    };
    let message = setup_with(true, None, &around, &mut |_| {}).unwrap_err().to_string();
    assert!(
        message.contains("ONNX Runtime with CUDA is not published for "),
        "{message}"
    );
}

/// A program in place of Python.
fn script(folder: &Path, body: &str) -> OsString {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("python3");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.into_os_string()
}
