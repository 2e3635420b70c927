//! Files that must be whole or absent, and files written by strangers.
//!
//! What we write appears by write, synchronise, rename. What a payload wrote is opened without following links and
//! without blocking, must be a regular file, and is read only up to a limit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use thiserror::Error;

/// Whether a new file must survive a power cut, or only a crash of our own processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Synchronised together with its directory before the call returns.
    PowerCut,
    /// Renamed into place only; enough for what a replay of the journal produces again.
    Crash,
}

/// Writes `bytes` so that a reader sees the old file or the new one, never a part.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    write_whole_with(path, durability, &mut |file| file.write_all(bytes))
}

/// The same for what `write` writes.
pub(crate) fn write_whole_with(
    path: &Path,
    durability: Durability,
    write: &mut dyn FnMut(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_beside(path);
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        write(&mut file)?;
        if durability == Durability::PowerCut {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(&temporary, path)?;
        if durability == Durability::PowerCut {
            sync_directory(parent_of(path))?;
        }
        Ok(())
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// A name in the same directory that no other process uses.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    parent_of(path).join(format!(".{name}.{}.{count}.tmp", std::process::id()))
}

/// The directory that holds `path`; `.` for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes creations, renames and removals in `directory` survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a directory, and its parents, that only the owner can enter.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Bytes that may still be written below `path`; `None` where the system does not tell.
pub(crate) fn room(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    // Some file systems count no inodes and report none as free.
    if found.f_files > 0 && found.f_favail < 64 {
        return Some(0);
    }
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Opens a file of our own, which must be a regular one: a link or a pipe that somebody put in its place is refused, not followed or
/// waited for.
///
/// # Errors
/// When it is something else, or the system refuses.
pub(crate) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let refused = |metadata: &fs::Metadata| {
        let found = kind_of(metadata);
        io::Error::other(format!(
            "it must be a regular file, found {found}; somebody has put that there, remove it"
        ))
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match options.custom_flags(flags.bits() as i32).open(path) {
        Ok(file) => {
            let metadata = file.metadata()?;
            if metadata.is_file() {
                Ok(file)
            } else {
                Err(refused(&metadata))
            }
        }
        Err(error) => Err(match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.is_file() => refused(&metadata),
            _ => error,
        }),
    }
}

/// The owner of a directory that is not ours, who could have put commands into it to be run as this user.
///
/// Nothing is said to root, whom other users cannot hide anything from and into whose containers their directories are mounted.
pub(crate) fn foreign_owner(directory: &Path) -> io::Result<Option<u32>> {
    let (owner, user) = (fs::metadata(directory)?.uid(), rustix::process::geteuid());
    Ok((!user.is_root() && owner != user.as_raw()).then_some(owner))
}

/// Whether everybody may write into a directory, of which we have made `part` for nobody but us.
///
/// Some file systems know no modes and give everything the same ones, also `part`; then they mean nothing.
pub(crate) fn is_open_to_all(directory: &Path, part: &Path) -> io::Result<bool> {
    let is_open = |path: &Path| Ok::<bool, io::Error>(fs::metadata(path)?.mode() & 0o002 != 0);
    Ok(is_open(directory)? && !is_open(part)?)
}

/// Whether an error is for want of something that others may give back: descriptors, processes, memory, room.
pub(crate) fn may_pass(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let wants = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::AGAIN,
        Errno::NOMEM,
        Errno::NOSPC,
        Errno::DQUOT,
    ];
    wants
        .iter()
        .any(|want| Some(want.raw_os_error()) == error.raw_os_error())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Why a file written by a stranger was not read.
#[derive(Debug, Error)]
pub(crate) enum ForeignFileError {
    #[error("`{0}` was not written")]
    Missing(String),
    #[error("`{name}` must be a regular file, found {found}")]
    NotRegular { name: String, found: &'static str },
    #[error("`{name}` must have at most {limit} bytes, found {found}")]
    TooBig { name: String, limit: u64, found: u64 },
    #[error("`{name}` cannot be read: {source}")]
    Io { name: String, source: io::Error },
}

/// Reads a regular file of at most `limit` bytes, following no link in its last component.
pub(crate) fn read_foreign(path: &Path, limit: u64) -> Result<Vec<u8>, ForeignFileError> {
    let name = || {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let as_io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ForeignFileError::Missing(name()),
        _ => ForeignFileError::Io { name: name(), source },
    };
    let metadata = fs::symlink_metadata(path).map_err(as_io)?;
    if !metadata.is_file() {
        return Err(ForeignFileError::NotRegular {
            name: name(),
            found: kind_of(&metadata),
        });
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let descriptor: OwnedFd =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| as_io(io::Error::from(error)))?;
    let mut file = File::from(descriptor);
    let metadata = file.metadata().map_err(as_io)?;
    if !metadata.is_file() {
        return Err(ForeignFileError::NotRegular {
            name: name(),
            found: kind_of(&metadata),
        });
    }
    if metadata.len() > limit {
        return Err(ForeignFileError::TooBig {
            name: name(),
            limit,
            found: metadata.len(),
        });
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    (&mut file).take(limit + 1).read_to_end(&mut bytes).map_err(as_io)?;
    if bytes.len() as u64 > limit {
        return Err(ForeignFileError::TooBig {
            name: name(),
            limit,
            found: bytes.len() as u64,
        });
    }
    Ok(bytes)
}

fn kind_of(metadata: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_replaces_the_old_one_and_leaves_no_temporary_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        for (text, durability) in [("one", Durability::Crash), ("two", Durability::PowerCut)] {
            write_whole(&path, text.as_bytes(), durability).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_directories_pipes_and_big_files_of_a_payload_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("real"), "12345").unwrap();
        std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        let message = |name: &str| read_foreign(&at(name), 4).unwrap_err().to_string();
        assert_eq!(message("link"), "`link` must be a regular file, found a symbolic link");
        assert_eq!(message("folder"), "`folder` must be a regular file, found a directory");
        assert_eq!(message("pipe"), "`pipe` must be a regular file, found a pipe");
        assert_eq!(message("real"), "`real` must have at most 4 bytes, found 5");
        assert_eq!(message("none"), "`none` was not written");
        assert_eq!(read_foreign(&at("real"), 5).unwrap(), b"12345");
    }
}
