//! The log of a payload: its beginning and its end, whatever lies between.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Bytes of each log that are kept at most: half from the beginning, half from the end.
pub(crate) const LOG_LIMIT: u64 = 10 << 20;

/// A log file with an upper limit.
#[derive(Debug)]
pub(crate) struct CappedLog {
    path: PathBuf,
    file: Option<File>,
    half: u64,
    written: u64,
    tail: VecDeque<u8>,
    dropped: u64,
}

impl CappedLog {
    /// A log of at most `limit` bytes. The file appears with the first byte.
    pub(crate) fn new(path: PathBuf, limit: u64) -> CappedLog {
        CappedLog {
            path,
            file: None,
            half: limit / 2,
            written: 0,
            tail: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Takes output of the payload.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = (self.half - self.written.min(self.half)) as usize;
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        if !head.is_empty() {
            self.file()?.write_all(head)?;
            self.written += head.len() as u64;
        }
        // Only the last half counts; what is pushed out at the front is lost.
        let rest_start = rest.len().saturating_sub(self.half as usize);
        self.dropped += rest_start as u64;
        self.tail.extend(&rest[rest_start..]);
        let excess = self.tail.len().saturating_sub(self.half as usize);
        self.tail.drain(..excess);
        self.dropped += excess as u64;
        Ok(())
    }

    /// Writes the end of the output behind its beginning.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let (dropped, limit) = (self.dropped, self.half * 2);
        let tail: Vec<u8> = std::mem::take(&mut self.tail).into();
        let file = self.file()?;
        if dropped > 0 {
            write!(
                file,
                "\n[hpo: {dropped} bytes left out here; a log keeps at most {limit} bytes]\n"
            )?;
        }
        file.write_all(&tail)
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            self.file = Some(options.create(true).append(true).mode(0o600).open(&self.path)?);
        }
        Ok(self.file.as_mut().expect("the file was just opened"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit: u64, pieces: &[&[u8]]) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = CappedLog::new(path.clone(), limit);
        for piece in pieces {
            log.push(piece).unwrap();
        }
        log.finish().unwrap();
        std::fs::read_to_string(path).ok()
    }

    #[test]
    fn short_output_is_kept_as_it_is_and_no_output_makes_no_file() {
        assert_eq!(log(8, &[b"abc", b"defgh"]).as_deref(), Some("abcdefgh"));
        assert_eq!(log(8, &[]), None);
    }

    #[test]
    fn of_long_output_beginning_and_end_are_kept_and_the_gap_is_named() {
        let expected = "abcd\n[hpo: 5 bytes left out here; a log keeps at most 8 bytes]\njklm";
        assert_eq!(log(8, &[b"abc", b"defghijklm"]).as_deref(), Some(expected));
        let letters: Vec<&[u8]> = b"abcdefghijklm".chunks(1).collect();
        assert_eq!(log(8, &letters).as_deref(), Some(expected));
    }
}
