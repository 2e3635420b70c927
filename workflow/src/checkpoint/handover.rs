//! Checkpoints from which another point goes on: a promotion from the rung before, a fork from a better member.
//!
//! What an evaluation leaves in its checkpoint directory is sealed when it ends well: a list of all files with their hashes, which
//! appears last and says whose they are and how far they were trained. Whoever goes on from them takes a copy, after every hash was
//! verified. If anything is missing or differs, the evaluation begins anew, comes to the same result and takes longer.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ManifestFile, generations, hexadecimal};
use crate::files;
use crate::state::PointId;

/// Whose checkpoint it is, and how far it was trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) point: PointId,
    /// Number of the configuration, `hpo.c`.
    pub(crate) configuration: Option<u64>,
    /// Epochs in total, `hpo.epochs`.
    pub(crate) epochs: u64,
}

/// A checkpoint to go on from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Source {
    /// The store of that point.
    pub(crate) store: PathBuf,
    pub(crate) label: Label,
}

#[derive(Debug, Serialize, Deserialize)]
struct Seal {
    label: Label,
    files: Vec<ManifestFile>,
}

fn seal_path(store: &Path) -> PathBuf {
    store.join("sealed.json")
}

fn payload_path(store: &Path) -> PathBuf {
    store.join(PAYLOAD)
}

/// Directory within a store for what a payload manages itself.
pub(crate) const PAYLOAD: &str = "payload";

/// Seals what the payload left in `store`.
///
/// # Errors
/// When a file cannot be read or the seal cannot be written.
pub(crate) fn seal(store: &Path, label: &Label) -> io::Result<()> {
    let root = payload_path(store);
    let files = regular_files(&root)?;
    let files = files.into_iter().map(|path| {
        let (bytes, sha256) = hash(&root.join(&path))?;
        Ok(ManifestFile { path, bytes, sha256 })
    });
    let seal = Seal {
        label: label.clone(),
        files: files.collect::<io::Result<_>>()?,
    };
    let text = serde_json::to_vec(&seal)?;
    files::write_whole(&seal_path(store), &text, files::Durability::PowerCut)
}

/// Copies what was sealed at `source` into `store`, unless an earlier attempt has left something there; true if anything came.
///
/// # Errors
/// Why there is nothing to go on from, in words for the user.
pub(crate) fn take_over(source: &Source, store: &Path) -> Result<bool, String> {
    let target = payload_path(store);
    let is_used = fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_some());
    if is_used || !generations(store).is_empty() {
        return Ok(false);
    }
    let refuse = |reason: &dyn std::fmt::Display| {
        format!(
            "the checkpoint of point {} cannot be gone on from ({reason}); training begins anew, with the same result",
            source.label.point
        )
    };
    let text = fs::read(seal_path(&source.store)).map_err(|_| refuse(&"it is missing"))?;
    let seal: Seal = serde_json::from_slice(&text).map_err(|_| refuse(&"its list of files is damaged"))?;
    if seal.label != source.label {
        return Err(refuse(&"it is of another training"));
    }
    if seal.files.is_empty() {
        return Ok(false);
    }
    let staging = store.join("payload.part");
    let copied = copy(&seal, &payload_path(&source.store), &staging).and_then(|()| {
        // The directory appears whole: an attempt that is killed here leaves nothing that looks like a checkpoint.
        let _ = fs::remove_dir(&target);
        fs::rename(&staging, &target)
    });
    if let Err(error) = copied {
        let _ = fs::remove_dir_all(&staging);
        return Err(refuse(&error));
    }
    Ok(true)
}

fn copy(seal: &Seal, from: &Path, to: &Path) -> io::Result<()> {
    let _ = fs::remove_dir_all(to);
    files::create_private_directory(to)?;
    for file in &seal.files {
        let target = to.join(&file.path);
        fs::create_dir_all(files::parent_of(&target))?;
        let missing = |error| io::Error::other(format!("`{}`: {error}", file.path.display()));
        fs::copy(from.join(&file.path), &target).map_err(missing)?;
        // The copy is what will be read, so the copy is what is verified.
        if hash(&target)? != (file.bytes, file.sha256.clone()) {
            return Err(io::Error::other(format!("`{}` is damaged", file.path.display())));
        }
    }
    Ok(())
}

/// Relative paths of all regular files below `root`, sorted; links are left out.
fn regular_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut pending) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Length and SHA-256 of a file.
fn hash(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 65536];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((bytes, hexadecimal(&hash.finalize())));
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(epochs: u64) -> Label {
        Label {
            point: PointId(4),
            configuration: Some(3),
            epochs,
        }
    }

    /// A store with two files, sealed after three epochs.
    fn sealed() -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir_all(store.path().join("payload/deep")).unwrap();
        fs::write(store.path().join("payload/weights"), "w").unwrap();
        fs::write(store.path().join("payload/deep/state"), "s").unwrap();
        seal(store.path(), &label(3)).unwrap();
        store
    }

    fn take(store: &tempfile::TempDir, epochs: u64) -> (Result<bool, String>, Vec<PathBuf>) {
        let target = tempfile::tempdir().unwrap();
        let source = Source {
            store: store.path().to_owned(),
            label: label(epochs),
        };
        let taken = take_over(&source, target.path());
        assert!(!target.path().join("payload.part").exists());
        (taken, regular_files(&target.path().join("payload")).unwrap_or_default())
    }

    #[test]
    fn what_was_sealed_is_copied_whole() {
        let store = sealed();
        let files = vec![PathBuf::from("deep/state"), PathBuf::from("weights")];
        assert_eq!(take(&store, 3), (Ok(true), files));
    }

    #[test]
    fn what_is_not_as_it_was_sealed_is_refused_whole() {
        let refused = |change: &dyn Fn(&Path)| {
            let store = sealed();
            change(store.path());
            let (taken, files) = take(&store, 3);
            assert_eq!(files, Vec::<PathBuf>::new());
            taken.unwrap_err()
        };
        let words = |reason: &str| {
            format!(
                "the checkpoint of point 4 cannot be gone on from ({reason}); training begins anew, with the same result"
            )
        };
        let damage = |store: &Path| fs::write(store.join("payload/weights"), "v").unwrap();
        assert_eq!(refused(&damage), words("`weights` is damaged"));
        let empty = |store: &Path| fs::write(store.join("sealed.json"), "{").unwrap();
        assert_eq!(refused(&empty), words("its list of files is damaged"));
        let gone = |store: &Path| fs::remove_file(store.join("sealed.json")).unwrap();
        assert_eq!(refused(&gone), words("it is missing"));
        let lost = |store: &Path| fs::remove_file(store.join("payload/deep/state")).unwrap();
        assert!(refused(&lost).contains("`deep/state`: "), "{}", refused(&lost));
        assert_eq!(take(&sealed(), 9).0.unwrap_err(), words("it is of another training"));
    }

    #[test]
    fn an_attempt_that_has_something_of_its_own_takes_nothing() {
        let (store, target) = (sealed(), sealed());
        let source = Source {
            store: store.path().to_owned(),
            label: label(3),
        };
        fs::write(target.path().join("payload/weights"), "own").unwrap();
        assert_eq!(take_over(&source, target.path()), Ok(false));
        assert_eq!(fs::read(target.path().join("payload/weights")).unwrap(), b"own");
    }

    #[test]
    fn a_payload_without_checkpoints_is_no_fault() {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir(store.path().join("payload")).unwrap();
        seal(store.path(), &label(3)).unwrap();
        assert_eq!(take(&store, 3).0, Ok(false));
    }
}
