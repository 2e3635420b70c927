//! Reading the journal back: all of it is checked, every time.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::record::Record;
use super::{FORMAT, header};

/// What a journal holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Every record that counts, in order. Records of an overtaken manager are left out.
    pub(crate) records: Vec<Record>,
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
        "journal `{path}` is damaged: record {record} at byte {offset} fails its checksum and is not the torn end of the file; nothing was changed, restore it from a copy",
        path = .path.display()
    )]
    Damaged { path: PathBuf, record: u64, offset: u64 },
    #[error(
        "journal `{path}` is damaged: expected record {expected} at byte {offset}, found record {found}; lines are missing or doubled, restore it from a copy",
        path = .path.display()
    )]
    Sequence {
        path: PathBuf,
        expected: u64,
        found: u64,
        offset: u64,
    },
}

/// Reads and checks a journal.
pub(crate) fn read(path: &Path) -> Result<Contents, ReadError> {
    let bytes = std::fs::read(path).map_err(|source| ReadError::Io {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &bytes)
}

/// Checks the bytes of a journal; `path` is only for messages.
///
/// A last line without newline is torn: the write that made it was never acknowledged. Any other bad line is damage.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Contents, ReadError> {
    let header = header();
    let mut contents = Contents {
        records: Vec::new(),
        valid_bytes: 0,
        torn_bytes: 0,
        overtaken: 0,
    };
    if header.as_bytes().starts_with(bytes) && bytes.len() < header.len() {
        contents.torn_bytes = bytes.len() as u64;
        return Ok(contents);
    }
    if !bytes.starts_with(header.as_bytes()) {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let found = String::from_utf8_lossy(&line[..line.len().min(40)])
            .escape_debug()
            .to_string();
        return Err(ReadError::Version {
            path: path.to_owned(),
            found,
        });
    }
    let mut offset = header.len();
    let mut expected = 1;
    let mut highest_epoch = 0;
    while offset < bytes.len() {
        let Some(length) = bytes[offset..].iter().position(|byte| *byte == b'\n') else {
            contents.torn_bytes = (bytes.len() - offset) as u64;
            break;
        };
        let Some(record) = Record::decode(&bytes[offset..offset + length]) else {
            return Err(ReadError::Damaged {
                path: path.to_owned(),
                record: expected,
                offset: offset as u64,
            });
        };
        if record.epoch < highest_epoch {
            // A manager that was stopped, overtaken and woken up: its records count for nothing.
            contents.overtaken += 1;
        } else if record.sequence == expected {
            highest_epoch = record.epoch;
            expected += 1;
            contents.records.push(record);
        } else {
            let found = record.sequence;
            return Err(ReadError::Sequence {
                path: path.to_owned(),
                expected,
                found,
                offset: offset as u64,
            });
        }
        offset += length + 1;
    }
    contents.valid_bytes = offset as u64;
    Ok(contents)
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
                sequence: index as u64 + 1,
                json,
            }
            .encode(&mut bytes);
        }
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        parse(Path::new("journal"), bytes).unwrap_err().to_string()
    }

    #[test]
    fn cut_at_every_byte_a_prefix_of_the_records_is_recovered() {
        let bytes = journal(&[1; 6]);
        let whole = parse(Path::new("journal"), &bytes).unwrap().records;
        let mut ends = vec![header().len()];
        ends.extend(
            (header().len()..bytes.len())
                .filter(|index| bytes[*index] == b'\n')
                .map(|index| index + 1),
        );
        for cut in 0..=bytes.len() {
            let contents = parse(Path::new("journal"), &bytes[..cut]).unwrap();
            let complete = ends.iter().skip(1).filter(|end| **end <= cut).count();
            assert_eq!(contents.records, whole[..complete], "cut at {cut}");
            assert_eq!(contents.valid_bytes + contents.torn_bytes, cut as u64);
            assert!(contents.valid_bytes == 0 || ends.contains(&(contents.valid_bytes as usize)));
        }
    }

    #[test]
    fn a_flip_of_any_bit_is_an_error_or_a_torn_tail_and_never_other_records() {
        let bytes = journal(&[1; 3]);
        let whole = parse(Path::new("journal"), &bytes).unwrap().records;
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(contents) = parse(Path::new("journal"), &flipped) {
                assert!(whole.starts_with(&contents.records), "bit {bit} changed the records");
            }
        }
    }

    #[test]
    fn records_of_an_overtaken_manager_are_ignored() {
        let mut bytes = journal(&[1, 1, 2]);
        Record {
            epoch: 1,
            sequence: 3,
            json: "\"late\"".to_owned(),
        }
        .encode(&mut bytes);
        Record {
            epoch: 2,
            sequence: 4,
            json: "\"next\"".to_owned(),
        }
        .encode(&mut bytes);
        let contents = parse(Path::new("journal"), &bytes).unwrap();
        assert_eq!(contents.overtaken, 1);
        assert_eq!(contents.records.last().unwrap().json, "\"next\"");
        assert_eq!(contents.records.len(), 4);
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let mut bytes = journal(&[1; 3]);
        let offset = header().len() + 9;
        bytes[offset] ^= 1;
        assert_eq!(
            message(&bytes),
            "journal `journal` is damaged: record 1 at byte 14 fails its checksum and is not the torn end of the file; nothing was changed, restore it from a copy"
        );
        let mut bytes = journal(&[1; 2]);
        Record {
            epoch: 1,
            sequence: 4,
            json: "1".to_owned(),
        }
        .encode(&mut bytes);
        assert_eq!(
            message(&bytes),
            format!(
                "journal `journal` is damaged: expected record 3 at byte {}, found record 4; lines are missing or doubled, restore it from a copy",
                journal(&[1; 2]).len()
            )
        );
        assert_eq!(
            message(b"hpo-journal 9\n"),
            "journal `journal` must begin with `hpo-journal 1`, found `hpo-journal 9`; it is not ours or was written by another version"
        );
    }
}
