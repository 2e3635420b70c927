//! Reading the journal back: all of it is checked, every time, and record by record, so that a long one takes no memory.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::record::{LARGEST_RECORD, Record};
use super::{FORMAT, header};

/// Longest line: the largest record and what stands before it.
const LONGEST_LINE: u64 = LARGEST_RECORD as u64 + 128;

/// How far a journal was read, and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Contents {
    /// Records that count, which is the number of the last one. Those of an overtaken manager are left out.
    pub(crate) records: u64,
    /// The start of a manager that wrote the last of them.
    pub(crate) epoch: u64,
    /// Length of the valid part, in bytes.
    pub(crate) valid_bytes: u64,
    /// Bytes of a torn tail behind it, never acknowledged to anybody.
    pub(crate) torn_bytes: u64,
    /// Records written by a manager after a later one had taken over.
    pub(crate) overtaken: usize,
}

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("journal `{path}` cannot be read: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("journal `{path}` must begin with `hpo-journal {FORMAT}`, found `{found}`; it is not ours or was written by another version", path = .path.display())]
    Version { path: PathBuf, found: String },
    #[error(
        "journal `{path}` is damaged: record {record} at byte {offset} fails its checksum and is not the torn end of the file; nothing was changed, {remedy}",
        path = .path.display(), remedy = remedy(.path)
    )]
    Damaged { path: PathBuf, record: u64, offset: u64 },
    #[error(
        "journal `{path}` is damaged: expected record {expected} at byte {offset}, found record {found}; lines are missing or doubled, {remedy}",
        path = .path.display(), remedy = remedy(.path)
    )]
    Sequence {
        path: PathBuf,
        expected: u64,
        found: u64,
        offset: u64,
    },
}

/// What a user can do about a damaged journal.
pub(crate) fn remedy(path: &Path) -> String {
    let task = crate::files::parent_of(path).display();
    format!("restore it from a copy, or keep what is sound with `hpo journal repair {task}`")
}

/// Reads and checks a journal from its beginning; `visit` gets the records that count, in order.
///
/// # Errors
/// When the journal cannot be read or is damaged, and whatever `visit` returns.
pub(crate) fn read<E: From<ReadError>>(
    path: &Path,
    visit: &mut dyn FnMut(Record) -> Result<(), E>,
) -> Result<Contents, E> {
    let mut contents = Contents::default();
    contents.follow(path, visit)?;
    Ok(contents)
}

impl Contents {
    /// Reads on where the valid part ended.
    ///
    /// A last line without newline is torn: the write that made it was never acknowledged. Any other bad line is damage. A file
    /// that is shorter than before was cut by a manager that started anew: what it cuts off was never valid.
    ///
    /// # Errors
    /// As [`read`].
    pub(crate) fn follow<E: From<ReadError>>(
        &mut self,
        path: &Path,
        visit: &mut dyn FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let as_read = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = crate::files::open_own(path, OpenOptions::new().read(true)).map_err(as_read)?;
        file.seek(SeekFrom::Start(self.valid_bytes)).map_err(as_read)?;
        self.take_all(path, BufReader::with_capacity(1 << 16, file), visit)
    }

    /// Reads `source` to its end, the journal at `path` from where its valid part ended.
    ///
    /// # Errors
    /// As [`read`].
    pub(crate) fn take_all<E: From<ReadError>>(
        &mut self,
        path: &Path,
        mut source: impl BufRead,
        visit: &mut dyn FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let as_read = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        self.torn_bytes = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = source
                .by_ref()
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .map_err(as_read)? as u64;
            if length == 0 {
                return Ok(());
            }
            if self.valid_bytes == 0 {
                if !is_header(path, &line)? {
                    self.torn_bytes = length;
                    return Ok(());
                }
                self.valid_bytes = length;
                continue;
            }
            if line.pop() != Some(b'\n') && length < LONGEST_LINE {
                self.torn_bytes = length;
                return Ok(());
            }
            match self.take(path, &line) {
                Ok(Some(record)) => visit(record)?,
                Ok(None) => {}
                Err(damage) => {
                    if let Some(rest) = torn_rest(&mut source, &line).map_err(as_read)? {
                        self.torn_bytes = length + rest;
                        return Ok(());
                    }
                    return Err(damage.into());
                }
            }
            self.valid_bytes += length;
        }
    }

    /// Takes a line; `None` for one that does not count.
    fn take(&mut self, path: &Path, line: &[u8]) -> Result<Option<Record>, ReadError> {
        let expected = self.records + 1;
        let Some(record) = Record::decode(line) else {
            return Err(ReadError::Damaged {
                path: path.to_owned(),
                record: expected,
                offset: self.valid_bytes,
            });
        };
        if record.epoch < self.epoch {
            // A manager that was stopped, overtaken and woken up: its records count for nothing.
            self.overtaken += 1;
            return Ok(None);
        }
        if record.sequence != expected {
            return Err(ReadError::Sequence {
                path: path.to_owned(),
                expected,
                found: record.sequence,
                offset: self.valid_bytes,
            });
        }
        self.records = record.sequence;
        self.epoch = record.epoch;
        Ok(Some(record))
    }
}

/// Bytes behind a bad line, if it and they are what a power cut has left of a commit that was never acknowledged.
///
/// The pages of a commit reach the disk in any order, and what is missing between them reads as zeros, which no record has. What
/// follows then belongs to the same commit; the first record of another one would show that this one was acknowledged.
fn torn_rest(source: &mut impl BufRead, bad: &[u8]) -> io::Result<Option<u64>> {
    if !bad.contains(&0) {
        return Ok(None);
    }
    let (mut rest, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(Some(rest));
        }
        rest += length as u64;
        line.pop();
        if Record::decode(&line).is_some_and(|record| !record.continues) {
            return Ok(None);
        }
    }
}

/// Whether the first line is that of a journal; false if it is the beginning of one.
fn is_header(path: &Path, line: &[u8]) -> Result<bool, ReadError> {
    let header = header();
    if line == header.as_bytes() {
        return Ok(true);
    }
    if header.as_bytes().starts_with(line) {
        return Ok(false);
    }
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let found = String::from_utf8_lossy(&line[..line.len().min(40)])
        .escape_debug()
        .to_string();
    Err(ReadError::Version {
        path: path.to_owned(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(epochs: &[u64]) -> Vec<u8> {
        let mut bytes = header().into_bytes();
        for (index, epoch) in epochs.iter().enumerate() {
            let json = format!("{{\"value\":{index}}}");
            Record {
                epoch: *epoch,
                continues: false,
                sequence: index as u64 + 1,
                json,
            }
            .encode(&mut bytes);
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<(Contents, Vec<Record>), ReadError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        std::fs::write(&path, bytes).unwrap();
        let mut records = Vec::new();
        let contents = read(&path, &mut |record| {
            records.push(record);
            Ok::<(), ReadError>(())
        })?;
        Ok((contents, records))
    }

    fn message(bytes: &[u8]) -> String {
        let text = parse(bytes).unwrap_err().to_string();
        let begin = text.find("journal `").unwrap();
        let name = text[begin + 9..].split('`').next().unwrap().to_owned();
        let directory = name.strip_suffix("/journal").unwrap();
        text.replace(&name, "journal").replace(directory, ".")
    }

    #[test]
    fn cut_at_every_byte_a_prefix_of_the_records_is_recovered() {
        let bytes = journal(&[1; 6]);
        let whole = parse(&bytes).unwrap().1;
        let mut ends = vec![header().len()];
        ends.extend(
            (header().len()..bytes.len())
                .filter(|index| bytes[*index] == b'\n')
                .map(|index| index + 1),
        );
        for cut in 0..=bytes.len() {
            let (contents, records) = parse(&bytes[..cut]).unwrap();
            let complete = ends.iter().skip(1).filter(|end| **end <= cut).count();
            assert_eq!(records, whole[..complete], "cut at {cut}");
            assert_eq!(contents.valid_bytes + contents.torn_bytes, cut as u64);
            assert!(contents.valid_bytes == 0 || ends.contains(&(contents.valid_bytes as usize)));
        }
    }

    #[test]
    fn a_flip_of_any_bit_is_an_error_or_a_torn_tail_and_never_other_records() {
        assert_eq!(flips_that_change_records(1, &|flipped| flipped), Vec::<usize>::new());
    }

    #[test]
    fn flips_are_noticed_where_a_checksum_covers_them() {
        // The planted fault: the checksum of each line is that of what now stands in it.
        let summed = |flipped: Vec<u8>| {
            let lines = flipped.split_inclusive(|byte| *byte == b'\n').map(|line| match line {
                [_, _, _, _, _, _, _, _, b' ', body @ .., b'\n'] => {
                    [format!("{:08x} ", crc32c::crc32c(body)).as_bytes(), body, b"\n"].concat()
                }
                other => other.to_vec(),
            });
            lines.collect::<Vec<_>>().concat()
        };
        assert!(flips_that_change_records(13, &summed).len() > 5);
    }

    /// The bits of a journal, of so many one, that, flipped, bring other records than were written; `after` may change more.
    fn flips_that_change_records(step: usize, after: &dyn Fn(Vec<u8>) -> Vec<u8>) -> Vec<usize> {
        let bytes = journal(&[1; 3]);
        let whole = parse(&bytes).unwrap().1;
        let changes = |bit: &usize| {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            parse(&after(flipped)).is_ok_and(|(_, records)| !whole.starts_with(&records))
        };
        (0..bytes.len() * 8).step_by(step).filter(changes).collect()
    }

    #[test]
    fn records_of_an_overtaken_manager_are_ignored() {
        let mut bytes = journal(&[1, 1, 2]);
        Record {
            epoch: 1,
            continues: false,
            sequence: 3,
            json: "\"late\"".to_owned(),
        }
        .encode(&mut bytes);
        Record {
            epoch: 2,
            continues: false,
            sequence: 4,
            json: "\"next\"".to_owned(),
        }
        .encode(&mut bytes);
        let (contents, records) = parse(&bytes).unwrap();
        assert_eq!(contents.overtaken, 1);
        assert_eq!(records.last().unwrap().json, "\"next\"");
        assert_eq!((records.len(), contents.records, contents.epoch), (4, 4, 2));
    }

    #[test]
    fn a_growing_journal_is_followed_record_by_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let bytes = journal(&[1, 1, 2, 2]);
        let (mut contents, mut records) = (Contents::default(), Vec::new());
        for end in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let mut visit = |record| {
                records.push(record);
                Ok::<(), ReadError>(())
            };
            contents.follow(&path, &mut visit).unwrap();
            assert_eq!((contents, records.clone()), parse(&bytes[..end]).unwrap());
        }
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let mut bytes = journal(&[1; 3]);
        let offset = header().len() + 9;
        bytes[offset] ^= 1;
        assert_eq!(
            message(&bytes),
            "journal `journal` is damaged: record 1 at byte 14 fails its checksum and is not the torn end of the file; nothing was changed, restore it from a copy, or keep what is sound with `hpo journal repair .`"
        );
        let mut bytes = journal(&[1; 2]);
        Record {
            epoch: 1,
            continues: false,
            sequence: 4,
            json: "1".to_owned(),
        }
        .encode(&mut bytes);
        assert_eq!(
            message(&bytes),
            format!(
                "journal `journal` is damaged: expected record 3 at byte {}, found record 4; lines are missing or doubled, restore it from a copy, or keep what is sound with `hpo journal repair .`",
                journal(&[1; 2]).len()
            )
        );
        assert_eq!(
            message(b"hpo-journal 9\n"),
            "journal `journal` must begin with `hpo-journal 1`, found `hpo-journal 9`; it is not ours or was written by another version"
        );
    }
}
