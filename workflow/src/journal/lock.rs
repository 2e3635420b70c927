//! One writer at a time, and no harm from one that was only thought to be gone.
//!
//! A lock (`flock`) refuses the second manager in the common case. What makes it safe is the epoch: every start creates
//! `epochs/<n>` exclusively, and each commit first looks whether a higher one exists. A manager that was stopped and
//! wakes up later finds it and ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use thiserror::Error;

use crate::files;
use crate::host::{Liveness, ProcessIdentity};

/// The directory of epochs, in that of a task.
const EPOCHS: &str = "epochs";

/// Why a task directory could not be taken.
#[derive(Debug, Error)]
pub(crate) enum LockError {
    #[error("task `{directory}` is being run by another hpo ({holder}); wait for it, or end it with `hpo kill {directory}`", directory = .directory.display())]
    Held { directory: PathBuf, holder: String },
    #[error("task `{directory}` was last run on host `{host}` and may still run there; run hpo there, or pass `--takeOver` if that hpo is gone", directory = .directory.display())]
    Elsewhere { directory: PathBuf, host: String },
    #[error("task `{directory}` must belong to the user who runs it, found the owner {owner}: whoever owns it says what is run; run hpo as that user, or on a copy", directory = .directory.display())]
    Foreign { directory: PathBuf, owner: u32 },
    #[error("task `{directory}` may be written by everybody, who could so run commands in your name; once its files are as you left them, `chmod o-w {directory}`", directory = .directory.display())]
    Writable { directory: PathBuf },
    #[error("task `{directory}` cannot be locked: {source}", directory = .directory.display())]
    Io { directory: PathBuf, source: io::Error },
}

/// The right to write the journal of one task.
#[derive(Debug)]
pub(crate) struct Claim {
    epochs: PathBuf,
    epoch: u64,
    lock: Option<File>,
}

impl Claim {
    /// Locks the task directory and opens a new epoch above all begun ones.
    pub(crate) fn take(directory: &Path, take_over: bool) -> Result<Claim, LockError> {
        let as_lock = |source| LockError::Io {
            directory: directory.to_owned(),
            source,
        };
        if let Some(owner) = files::foreign_owner(directory).map_err(as_lock)? {
            let directory = directory.to_owned();
            return Err(LockError::Foreign { directory, owner });
        }
        let epochs = directory.join(EPOCHS);
        files::create_private_directory(&epochs).map_err(as_lock)?;
        if files::is_open_to_all(directory, &epochs).map_err(as_lock)? {
            let directory = directory.to_owned();
            return Err(LockError::Writable { directory });
        }
        let lock = Claim::lock(directory, take_over)?;
        let mut claim = Claim::take_epoch_only(directory, 0).map_err(as_lock)?;
        claim.lock = Some(lock);
        Ok(claim)
    }

    /// Moves to an epoch above `recorded`, in case the marks of earlier ones were removed.
    pub(crate) fn raise_above(&mut self, directory: &Path, recorded: u64) -> Result<(), LockError> {
        if self.epoch <= recorded {
            let higher = Claim::take_epoch_only(directory, recorded).map_err(|source| LockError::Io {
                directory: directory.to_owned(),
                source,
            })?;
            self.epoch = higher.epoch;
        }
        Ok(())
    }

    /// Opens a new epoch without the lock.
    pub(crate) fn take_epoch_only(directory: &Path, newest_recorded: u64) -> io::Result<Claim> {
        let epochs = directory.join(EPOCHS);
        files::create_private_directory(&epochs)?;
        let mut epoch = newest_recorded.max(highest(&epochs)?) + 1;
        loop {
            match fs::create_dir(epochs.join(epoch.to_string())) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => epoch += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(Claim {
            epochs,
            epoch,
            lock: None,
        })
    }

    fn lock(directory: &Path, take_over: bool) -> Result<File, LockError> {
        let as_lock = |source| LockError::Io {
            directory: directory.to_owned(),
            source,
        };
        let path = directory.join("lock");
        let mut options = OpenOptions::new();
        // Read and write: some network file systems lock only what is open for both.
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = files::open_own(&path, &mut options).map_err(as_lock)?;
        let mut text = String::new();
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        file.read_to_string(&mut text).map_err(as_lock)?;
        let holder: Option<ProcessIdentity> = serde_json::from_str(&text).ok();
        // Any other error means a file system without locks: the holder's record and the epochs have to do.
        if locked == Err(rustix::io::Errno::WOULDBLOCK) {
            let holder = holder.map_or_else(
                || "just starting".to_owned(),
                |holder| format!("process {} on host `{}`", holder.pid, holder.host),
            );
            return Err(LockError::Held {
                directory: directory.to_owned(),
                holder,
            });
        }
        if let Some(holder) = holder
            && !take_over
        {
            match holder.liveness() {
                Liveness::Elsewhere => {
                    return Err(LockError::Elsewhere {
                        directory: directory.to_owned(),
                        host: holder.host,
                    });
                }
                Liveness::Alive if locked.is_err() => {
                    let holder = format!("process {} on host `{}`", holder.pid, holder.host);
                    return Err(LockError::Held {
                        directory: directory.to_owned(),
                        holder,
                    });
                }
                Liveness::Alive | Liveness::Dead => {}
            }
        }
        let text = serde_json::to_string(&ProcessIdentity::current()).map_err(|error| as_lock(error.into()))?;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(as_lock)?;
        Ok(file)
    }

    /// The number of this start.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The epoch that took over from this one, if any.
    pub(crate) fn superseded_by(&self) -> Option<u64> {
        // Epochs are begun one above the highest, so the next number tells; it may be gone only after a higher one
        // was begun, which the listing finds.
        if self.epochs.join((self.epoch + 1).to_string()).exists() || !self.epochs.join(self.epoch.to_string()).exists()
        {
            return Some(
                highest(&self.epochs)
                    .ok()
                    .filter(|found| *found > self.epoch)
                    .unwrap_or(self.epoch + 1),
            );
        }
        None
    }

    /// Removes the marks of earlier epochs. To be called once a record of this epoch is in the journal.
    pub(crate) fn forget_earlier(&self) {
        let Ok(entries) = fs::read_dir(&self.epochs) else {
            return;
        };
        for entry in entries.flatten() {
            if entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok())
                .is_some_and(|n| n < self.epoch)
            {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Drop for Claim {
    /// A clean end leaves no holder behind, so that another host may go on without being told.
    fn drop(&mut self) {
        if let Some(lock) = &self.lock
            && self.superseded_by().is_none()
        {
            let _ = lock.set_len(0);
        }
    }
}

/// The process that holds the lock of a task, if it is alive on this machine.
pub(crate) fn holder(directory: &Path) -> Option<ProcessIdentity> {
    let holder = last_holder(directory)?;
    (holder.liveness() == Liveness::Alive).then_some(holder)
}

/// The process that took the lock last and did not give it back, alive or not.
pub(crate) fn last_holder(directory: &Path) -> Option<ProcessIdentity> {
    let text = fs::read_to_string(directory.join("lock")).ok()?;
    serde_json::from_str(&text).ok()
}

fn highest(epochs: &Path) -> io::Result<u64> {
    let mut highest = 0;
    for entry in fs::read_dir(epochs)? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .unwrap_or(0);
        highest = highest.max(number);
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_manager_is_refused_while_the_first_holds_the_task() {
        let directory = tempfile::tempdir().unwrap();
        let first = Claim::take(directory.path(), false).unwrap();
        let message = Claim::take(directory.path(), false).unwrap_err().to_string();
        assert!(message.contains("is being run by another hpo (process "), "{message}");
        assert_eq!(holder(directory.path()).unwrap().pid, std::process::id() as i32);
        drop(first);
        assert_eq!(Claim::take(directory.path(), false).unwrap().epoch(), 2);
    }

    #[test]
    fn a_task_left_behind_on_another_host_is_taken_only_on_demand() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = ProcessIdentity {
            host: "other".to_owned(),
            ..ProcessIdentity::current()
        };
        fs::write(
            directory.path().join("lock"),
            serde_json::to_string(&elsewhere).unwrap(),
        )
        .unwrap();
        let message = Claim::take(directory.path(), false).unwrap_err().to_string();
        assert!(message.contains("was last run on host `other`"), "{message}");
        Claim::take(directory.path(), true).unwrap();
    }

    #[test]
    fn of_many_simultaneous_starts_exactly_one_holds_the_task() {
        let directory = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(16);
        let claims: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        Claim::take(directory.path(), false)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1);
    }

    #[test]
    fn epochs_grow_and_their_marks_do_not_pile_up() {
        let directory = tempfile::tempdir().unwrap();
        for expected in 1..=20 {
            let claim = Claim::take(directory.path(), false).unwrap();
            assert_eq!(claim.epoch(), expected);
            claim.forget_earlier();
        }
        assert_eq!(fs::read_dir(directory.path().join("epochs")).unwrap().count(), 1);
    }
}
