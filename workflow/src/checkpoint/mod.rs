//! Checkpoints: what a retry finds of the attempt before.
//!
//! The files that `checkPointToSave` names are packed into `saved-<n>.tar.gz`, with a manifest `saved-<n>.json` beside it that
//! appears last. The last two generations are kept. A file is packed only if it did not change meanwhile, and on the way back
//! everything is verified before anything is put into place; a bad generation gives way to the one before.

#[cfg(test)]
mod disturbed;
mod handover;
mod load;
mod save;

pub(crate) use handover::{Label, PAYLOAD, Source, seal, take_over};
pub(crate) use load::{Restored, restore};
#[cfg(test)]
pub(crate) use load::{extract, unpack};
pub(crate) use save::Saver;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Generations that are kept.
const KEPT: u64 = 2;

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// SHA-256 of the archive.
    archive: String,
    files: Vec<ManifestFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ManifestFile {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

fn archive_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("saved-{generation}.tar.gz"))
}

fn manifest_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("saved-{generation}.json"))
}

/// Numbers of the complete generations, newest first.
fn generations(directory: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut numbers: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("saved-")?
                .strip_suffix(".json")?
                .parse()
                .ok()
        })
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers
}

fn hexadecimal(bytes: &[u8]) -> String {
    crate::files::hexadecimal(bytes)
}

/// Whether anything in a store of checkpoints is newer than a file. Both times are those of one file server.
pub(crate) fn is_newer(store: &Path, than: &Path) -> bool {
    let time = |path: &Path| std::fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
    let Some(begin) = time(than) else { return false };
    // What payloads keep themselves lies one level deeper.
    let entries = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    entries(store)
        .iter()
        .flat_map(|path| {
            if path.is_dir() {
                entries(path)
            } else {
                vec![path.clone()]
            }
        })
        .any(|path| time(&path).is_some_and(|at| at >= begin))
}
