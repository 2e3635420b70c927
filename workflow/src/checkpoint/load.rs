//! Unpacking a checkpoint into a work directory: staged, verified, then moved.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use super::{Manifest, archive_path, generations, hexadecimal, manifest_path};

const MOST_ENTRIES: usize = 10_000;
const DEEPEST: usize = 32;

/// What a retry got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Restored {
    /// The generation, if there was a good one.
    pub(crate) generation: Option<u64>,
    /// Generations that were passed over, and why.
    pub(crate) warnings: Vec<String>,
}

/// Puts the newest good generation of `store` into `work`: as the file `load_as`, or unpacked.
///
/// `largest` is the limit of an archive; unpacked it may have four times as much.
pub(crate) fn restore(store: &Path, work: &Path, load_as: Option<&str>, largest: u64) -> Restored {
    let mut restored = Restored::default();
    for generation in generations(store) {
        match restore_one(store, work, load_as, largest, generation) {
            Ok(()) => {
                restored.generation = Some(generation);
                break;
            }
            Err(error) => restored
                .warnings
                .push(format!("checkpoint {generation} is not usable: {error}")),
        }
    }
    restored
}

fn restore_one(store: &Path, work: &Path, load_as: Option<&str>, largest: u64, generation: u64) -> io::Result<()> {
    let manifest = fs::read(manifest_path(store, generation))?;
    let manifest: Manifest = serde_json::from_slice(&manifest)?;
    let archive = archive_path(store, generation);
    let mut hash = Sha256::new();
    io::copy(&mut File::open(&archive)?, &mut HashOnly(&mut hash))?;
    if hexadecimal(&hash.finalize()) != manifest.archive {
        return Err(io::Error::other("its archive is damaged"));
    }
    let staging = work.join(".hpo-restore");
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir(&staging)?;
    let result = match load_as {
        Some(name) => {
            let target = work.join(name);
            fs::create_dir_all(crate::files::parent_of(&target))?;
            let copy = staging.join("archive");
            fs::copy(&archive, &copy).and_then(|_| fs::rename(&copy, &target))
        }
        None => extract(File::open(&archive)?, &staging, largest.saturating_mul(4)).and_then(|found| {
            let listed: BTreeMap<PathBuf, String> = manifest
                .files
                .iter()
                .map(|file| (file.path.clone(), file.sha256.clone()))
                .collect();
            if found != listed {
                return Err(io::Error::other("its files differ from its manifest"));
            }
            for path in found.keys() {
                let target = work.join(path);
                fs::create_dir_all(crate::files::parent_of(&target))?;
                fs::rename(staging.join(path), target)?;
            }
            Ok(())
        }),
    };
    let _ = fs::remove_dir_all(&staging);
    result
}

/// Unpacks regular files and directories below `target`, a directory of our own without any link, and returns their hashes.
///
/// # Errors
/// Anything else in the archive, and anything over a limit; `target` may then hold a part.
pub(crate) fn extract(archive: impl Read, target: &Path, most_bytes: u64) -> io::Result<BTreeMap<PathBuf, String>> {
    unpack(GzDecoder::new(archive), target, most_bytes)
}

/// The same of an archive that is not compressed.
pub(crate) fn unpack(archive: impl Read, target: &Path, most_bytes: u64) -> io::Result<BTreeMap<PathBuf, String>> {
    let refuse = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    let mut archive = tar::Archive::new(archive.take(most_bytes + (32 << 20)));
    let mut found = BTreeMap::new();
    let mut total = 0_u64;
    for (count, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        if count >= MOST_ENTRIES {
            return Err(refuse(format!("more than {MOST_ENTRIES} entries")));
        }
        let path = entry.path()?.into_owned();
        let shown = path.display().to_string().escape_debug().to_string();
        let parts: Vec<Component<'_>> = path.components().filter(|part| *part != Component::CurDir).collect();
        if parts.len() > DEEPEST || parts.iter().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(refuse(format!("entry `{shown}` leads outside or too deep")));
        }
        let path: PathBuf = parts.iter().collect();
        let place = target.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => fs::create_dir_all(&place)?,
            tar::EntryType::Regular => {
                total = total.saturating_add(entry.size());
                if total > most_bytes {
                    return Err(refuse(format!("more than {most_bytes} bytes unpacked")));
                }
                fs::create_dir_all(crate::files::parent_of(&place))?;
                let mode = if entry.header().mode()? & 0o100 == 0 {
                    0o600
                } else {
                    0o700
                };
                // Exclusive: a name that comes twice is refused.
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&place)?;
                let mut hash = Sha256::new();
                let mut buffer = vec![0; 65536];
                loop {
                    let count = entry.read(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    hash.update(&buffer[..count]);
                    file.write_all(&buffer[..count])?;
                }
                found.insert(path, hexadecimal(&hash.finalize()));
            }
            other => {
                return Err(refuse(format!(
                    "entry `{shown}` is neither file nor directory ({other:?})"
                )));
            }
        }
    }
    Ok(found)
}

struct HashOnly<'a>(&'a mut Sha256);

impl Write for HashOnly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Saver;
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::time::Duration;

    struct Store {
        work: tempfile::TempDir,
        store: tempfile::TempDir,
    }

    fn saved(generations: usize) -> Store {
        let (work, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut saver = Saver::new(
            work.path(),
            store.path(),
            &["d".to_owned()],
            1 << 20,
            Duration::from_mins(1),
        );
        fs::create_dir_all(work.path().join("d/e")).unwrap();
        for generation in 1..=generations {
            fs::write(
                work.path().join("d/e/state"),
                format!("{generation}{}", " ".repeat(generation)),
            )
            .unwrap();
            saver.finish();
        }
        Store { work, store }
    }

    fn state(work: &Path) -> String {
        fs::read_to_string(work.join("d/e/state")).unwrap().trim().to_owned()
    }

    #[test]
    fn what_was_saved_comes_back_and_a_damaged_generation_gives_way() {
        let store = saved(3);
        let work = tempfile::tempdir().unwrap();
        assert_eq!(
            restore(store.store.path(), work.path(), None, 1 << 20).generation,
            Some(3)
        );
        assert_eq!(state(work.path()), "3");
        assert_eq!(state(store.work.path()), "3");
        let archive = archive_path(store.store.path(), 3);
        let mut bytes = fs::read(&archive).unwrap();
        for position in [0, bytes.len() / 2, bytes.len() - 1] {
            bytes[position] ^= 1;
            fs::write(&archive, &bytes).unwrap();
            let work = tempfile::tempdir().unwrap();
            let restored = restore(store.store.path(), work.path(), None, 1 << 20);
            assert_eq!(restored.generation, Some(2));
            assert_eq!(
                restored.warnings,
                ["checkpoint 3 is not usable: its archive is damaged"]
            );
            assert_eq!(state(work.path()), "2");
            bytes[position] ^= 1;
        }
        assert_eq!(
            fs::read_dir(work.path()).unwrap().count(),
            1,
            "no staging directory is left"
        );
    }

    #[test]
    fn the_archive_itself_is_handed_over_when_it_is_to_be_loaded_by_name() {
        let store = saved(1);
        let work = tempfile::tempdir().unwrap();
        restore(store.store.path(), work.path(), Some("in/checkpoint.tgz"), 1 << 20);
        let original = fs::read(archive_path(store.store.path(), 1)).unwrap();
        assert_eq!(fs::read(work.path().join("in/checkpoint.tgz")).unwrap(), original);
    }

    fn hostile(entries: &[(&str, tar::EntryType, &str)]) -> io::Result<BTreeMap<PathBuf, String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tgz");
        let mut archive = tar::Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
        for (name, kind, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o4777);
            header.set_size(if *kind == tar::EntryType::Regular { 3 } else { 0 });
            if !link.is_empty() {
                header.set_link_name_literal(link).unwrap();
            }
            header.set_cksum();
            let data: &[u8] = if *kind == tar::EntryType::Regular { b"abc" } else { b"" };
            archive.append(&header, data).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        let target = directory.path().join("target");
        fs::create_dir(&target).unwrap();
        let result = extract(File::open(&path).unwrap(), &target, 8);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            2,
            "nothing outside the target"
        );
        result
    }

    #[test]
    fn hostile_archives_are_refused() {
        use tar::EntryType::{Char, Fifo, Link, Regular, Symlink};
        let message = |entries: &[(&str, tar::EntryType, &str)]| hostile(entries).unwrap_err().to_string();
        assert_eq!(
            message(&[("../x", Regular, "")]),
            "entry `../x` leads outside or too deep"
        );
        assert_eq!(message(&[("/x", Regular, "")]), "entry `/x` leads outside or too deep");
        let link = [("l", Symlink, "/tmp"), ("l/x", Regular, "")];
        assert_eq!(message(&link), "entry `l` is neither file nor directory (Symlink)");
        for kind in [Link, Char, Fifo] {
            let link = if kind == Link { "/etc/passwd" } else { "" };
            assert!(message(&[("x", kind, link)]).contains("is neither file nor directory"));
        }
        assert!(message(&[("x", Regular, ""), ("x", Regular, "")]).contains("exists"));
        let three = [("x", Regular, ""), ("y", Regular, ""), ("z", Regular, "")];
        assert_eq!(message(&three), "more than 8 bytes unpacked");
        assert_eq!(hostile(&three[..2]).unwrap().len(), 2);
    }
}
