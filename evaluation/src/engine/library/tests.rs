//! The order of the ways, and every message.

use super::*;

fn nowhere() -> Surroundings {
    Surroundings {
        library_variable: None,
        cache: None,
        python: "/nonexistent/python3".into(),
        wheel: Some(("any", "0".repeat(64))),
    }
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
    let wheel = folder.path().join("source.whl");
    let mut archive = zip::ZipWriter::new(File::create(&wheel).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    archive
        .start_file("onnxruntime/capi/libonnxruntime_providers_shared.so", options)
        .unwrap();
    archive
        .start_file("onnxruntime/capi/libonnxruntime.so.1.31.1", options)
        .unwrap();
    io::Write::write_all(&mut archive, b"\x7fELF library").unwrap();
    archive.finish().unwrap();
    let sha256 = hex(&Sha256::digest(fs::read(&wheel).unwrap()));
    let body = format!(
        "case \"$*\" in *download*) while [ \"$1\" != --dest ]; do shift; done; cp {wheel} \"$2/a.whl\"; \
         echo >> {folder}/count;; esac",
        wheel = wheel.display(),
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
                    wheel: Some(("any", sha256.clone())),
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

/// A program in place of Python.
fn script(folder: &Path, body: &str) -> OsString {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("python3");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.into_os_string()
}
