//! Files that appear as a whole.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` so that a reader sees the old file or the whole new one, also after a power cut: temporary file in
/// the same directory, fsync, rename, fsync of the directory. A device or a pipe is written to and stays what it is.
///
/// # Errors
/// What the system says; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if put(path, bytes, File::sync_all)? {
        File::open(directory(path))?.sync_all()?;
    }
    Ok(())
}

/// As [`write_atomically`], for what would be made anew after a power cut: nobody waits for the disk.
///
/// # Errors
/// As for [`write_atomically`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    put(path, bytes, |_| Ok(())).map(|_| ())
}

/// Puts a file with `bytes` in the place of `path`, after `finish` has had it; says whether a file is there, not a device.
fn put(path: &Path, bytes: &[u8], finish: impl FnOnce(&File) -> std::io::Result<()>) -> std::io::Result<bool> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        File::options().write(true).open(path)?.write_all(bytes)?;
        return Ok(false);
    }
    let temporary = temporary_name(path);
    let written = File::options()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            finish(&file)
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(true)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{count}.tmp", std::process::id()));
    path.with_file_name(name)
}
