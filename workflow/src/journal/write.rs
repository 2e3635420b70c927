//! Appending to the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::header;
use super::lock::Claim;
use super::read::Contents;
use super::record::{self, LARGEST_RECORD};
use crate::files;

/// Why a commit did not happen.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    /// Nothing of the commit is in the journal; it may be tried again.
    #[error("no space left on the device for journal `{path}`", path = .path.display())]
    Full { path: PathBuf },
    /// The state of the file is unknown: the process must end and a new one must replay.
    #[error("journal `{path}` cannot be written ({source}); hpo stops here, run it again once the storage is sound", path = .path.display())]
    Broken { path: PathBuf, source: io::Error },
    #[error("another hpo has taken over task `{directory}` (epoch {epoch}); this one stops without touching it", directory = .directory.display())]
    Superseded { directory: PathBuf, epoch: u64 },
    #[error("journal `{path}` was removed or replaced while hpo was running; hpo stops here", path = .path.display())]
    Replaced { path: PathBuf },
    #[error("a journal record must have at most {LARGEST_RECORD} bytes, found {found}")]
    TooBig { found: usize },
}

/// Where the bytes go. Tests put a failing medium in its place.
pub(crate) trait Medium: std::fmt::Debug {
    /// Writes all bytes behind the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything appended is on stable storage.
    fn synchronise(&mut self) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Device and inode of the open file.
    fn identity(&self) -> io::Result<(u64, u64)>;
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn synchronise(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
    }
}

/// The open journal of the one manager that may write it.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    medium: Box<dyn Medium>,
    claim: Claim,
    sequence: u64,
    length: u64,
    broken: bool,
}

impl Journal {
    /// Opens the journal for appending behind its valid part; a torn tail is cut off, and a missing file is made.
    pub(crate) fn open(path: &Path, contents: &Contents, claim: Claim) -> Result<Journal, WriteError> {
        let broken = |source| WriteError::Broken {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let mut file = files::open_own(path, &mut options).map_err(broken)?;
        let mut length = contents.valid_bytes;
        if contents.torn_bytes > 0 || length == 0 {
            file.set_len(length).map_err(broken)?;
        }
        if length == 0 {
            file.append(header().as_bytes()).map_err(broken)?;
            length = header().len() as u64;
        }
        file.sync_all().map_err(broken)?;
        files::sync_directory(files::parent_of(path)).map_err(broken)?;
        Ok(Journal::over(path, Box::new(file), claim, contents.records, length))
    }

    /// A journal over any medium whose first `length` bytes hold `sequence` records.
    pub(crate) fn over(path: &Path, medium: Box<dyn Medium>, claim: Claim, sequence: u64, length: u64) -> Journal {
        Journal {
            path: path.to_owned(),
            medium,
            claim,
            sequence,
            length,
            broken: false,
        }
    }

    /// Removes what is left of earlier epochs. To be called once a record of this one is committed.
    pub(crate) fn forget_earlier_epochs(&self) {
        self.claim.forget_earlier();
    }

    /// Appends all texts as one group and returns when they are on stable storage.
    ///
    /// # Errors
    /// After [`WriteError::Full`] the journal is as before. After any other error it accepts nothing more.
    pub(crate) fn commit(&mut self, texts: &[String]) -> Result<(), WriteError> {
        self.commit_each(texts.iter())
    }

    /// The same for texts that are made one after the other, so that a hundred thousand of them are never there at once.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub(crate) fn commit_each<T: AsRef<str>>(&mut self, texts: impl Iterator<Item = T>) -> Result<(), WriteError> {
        let broken = |source| WriteError::Broken {
            path: self.path.clone(),
            source,
        };
        if self.broken {
            return Err(broken(io::Error::other("an earlier write failed")));
        }
        let mut bytes = Vec::new();
        let mut sequence = self.sequence;
        for json in texts {
            let json = json.as_ref();
            if json.len() > LARGEST_RECORD {
                return Err(WriteError::TooBig { found: json.len() });
            }
            sequence += 1;
            let continues = sequence > self.sequence + 1;
            record::encode(self.claim.epoch(), continues, sequence, json, &mut bytes);
        }
        self.check_ownership()?;
        if let Err(error) = self.medium.append(&bytes) {
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if full && self.medium.truncate(self.length).is_ok() {
                return Err(WriteError::Full {
                    path: self.path.clone(),
                });
            }
            self.broken = true;
            return Err(WriteError::Broken {
                path: self.path.clone(),
                source: error,
            });
        }
        // A failed synchronisation is final: the kernel may have dropped the pages, and a second call would succeed.
        if let Err(source) = self.medium.synchronise() {
            self.broken = true;
            return Err(WriteError::Broken {
                path: self.path.clone(),
                source,
            });
        }
        self.sequence = sequence;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn check_ownership(&mut self) -> Result<(), WriteError> {
        if let Some(epoch) = self.claim.superseded_by() {
            self.broken = true;
            let directory = files::parent_of(&self.path).to_owned();
            return Err(WriteError::Superseded { directory, epoch });
        }
        let on_disk = std::fs::symlink_metadata(&self.path)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        if on_disk.is_none() || self.medium.identity().ok() != on_disk {
            self.broken = true;
            return Err(WriteError::Replaced {
                path: self.path.clone(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::read::ReadError;
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[derive(Debug, Default)]
    struct Faults {
        append: Option<io::ErrorKind>,
        synchronise: Option<io::ErrorKind>,
        /// Bytes that reach the file before the append fails.
        partial: usize,
    }

    #[derive(Debug)]
    struct Faulty(File, Rc<RefCell<Faults>>);

    impl Medium for Faulty {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            let faults = self.1.borrow();
            if let Some(kind) = faults.append {
                self.0.append(&bytes[..faults.partial])?;
                return Err(kind.into());
            }
            self.0.append(bytes)
        }
        fn synchronise(&mut self) -> io::Result<()> {
            self.1.borrow().synchronise.map_or(Ok(()), |kind| Err(kind.into()))
        }
        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.0.truncate(length)
        }
        fn identity(&self) -> io::Result<(u64, u64)> {
            self.0.identity()
        }
    }

    fn read(path: &Path) -> Result<(Contents, Vec<Record>), ReadError> {
        let mut records = Vec::new();
        let contents = super::super::read::read(path, &mut |record| {
            records.push(record);
            Ok::<(), ReadError>(())
        })?;
        Ok((contents, records))
    }

    fn open(directory: &Path) -> Journal {
        let path = directory.join("journal");
        let contents = read(&path).map_or_else(|_| Contents::default(), |(contents, _)| contents);
        let newest = contents.epoch;
        Journal::open(&path, &contents, Claim::take_epoch_only(directory, newest).unwrap()).unwrap()
    }

    fn faulty(directory: &Path) -> (Journal, Rc<RefCell<Faults>>) {
        drop(open(directory));
        let path = directory.join("journal");
        let faults = Rc::new(RefCell::new(Faults::default()));
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        let claim = Claim::take_epoch_only(directory, 0).unwrap();
        let length = header().len() as u64;
        (
            Journal::over(&path, Box::new(Faulty(file, Rc::clone(&faults))), claim, 0, length),
            faults,
        )
    }

    #[test]
    fn records_survive_reopening_and_sequence_numbers_go_on() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).commit(&["1".into(), "2".into()]).unwrap();
        open(directory.path()).commit(&["3".into()]).unwrap();
        let records = read(&directory.path().join("journal")).unwrap().1;
        let found: Vec<_> = records.iter().map(|r| (r.epoch, r.sequence, r.json.as_str())).collect();
        assert_eq!(found, [(1, 1, "1"), (1, 2, "2"), (2, 3, "3")]);
    }

    #[test]
    fn nothing_is_ever_appended_behind_a_torn_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        open(directory.path()).commit(&["1".into(), "2".into()]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in header().len()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let kept = read(&path).unwrap().0.records;
            open(directory.path()).commit(&["3".into()]).unwrap();
            let (contents, _) = read(&path).unwrap();
            assert_eq!((contents.records, contents.torn_bytes), (kept + 1, 0), "cut at {cut}");
        }
    }

    #[test]
    fn a_manager_that_was_overtaken_cannot_commit_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = open(directory.path());
        first.commit(&["1".into()]).unwrap();
        let mut second = open(directory.path());
        second.commit(&["2".into()]).unwrap();
        let message = first.commit(&["3".into()]).unwrap_err().to_string();
        let expected = format!(
            "another hpo has taken over task `{}` (epoch 2); this one stops without touching it",
            directory.path().display()
        );
        assert_eq!(message, expected);
        second.commit(&["4".into()]).unwrap();
        assert_eq!(read(&directory.path().join("journal")).unwrap().0.records, 3);
    }

    #[test]
    fn a_removed_journal_is_noticed_and_not_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = open(directory.path());
        std::fs::remove_file(&path).unwrap();
        let message = journal.commit(&["1".into()]).unwrap_err().to_string();
        assert!(
            message.ends_with("was removed or replaced while hpo was running; hpo stops here"),
            "{message}"
        );
        assert!(!path.exists());
    }

    #[test]
    fn a_full_disk_leaves_the_journal_as_it_was_and_the_commit_can_be_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, faults) = faulty(directory.path());
        *faults.borrow_mut() = Faults {
            append: Some(io::ErrorKind::StorageFull),
            partial: 7,
            synchronise: None,
        };
        assert!(matches!(journal.commit(&["1".into()]), Err(WriteError::Full { .. })));
        *faults.borrow_mut() = Faults::default();
        journal.commit(&["1".into()]).unwrap();
        let (contents, _) = read(&directory.path().join("journal")).unwrap();
        assert_eq!((contents.records, contents.torn_bytes), (1, 0));
    }

    #[test]
    fn a_failed_synchronisation_is_final() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, faults) = faulty(directory.path());
        faults.borrow_mut().synchronise = Some(io::ErrorKind::Other);
        assert!(matches!(journal.commit(&["1".into()]), Err(WriteError::Broken { .. })));
        *faults.borrow_mut() = Faults::default();
        let message = journal.commit(&["1".into()]).unwrap_err().to_string();
        assert!(message.contains("an earlier write failed"), "{message}");
    }
}
