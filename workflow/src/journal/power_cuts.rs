//! Power cuts, simulated: what was not synchronised may be there, be missing, or read as zeros, page by page.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use super::lock::Claim;
use super::read::{Contents, ReadError, read};
use super::write::{Journal, Medium};
use crate::draws::Draws;

/// Units that reach the disk as a whole, in bytes: small, so that many of them make a commit.
const PAGE: usize = 64;

/// A disk with a cache that forgets.
#[derive(Debug, Default)]
struct Disk {
    durable: Vec<u8>,
    cached: Vec<u8>,
    /// Synchronisations until the power is cut.
    left: usize,
    /// The planted fault: synchronisation does nothing.
    lies: bool,
    identity: (u64, u64),
}

impl Disk {
    /// What is found after the power was cut.
    fn cut(&self, draws: &mut Draws) -> Vec<u8> {
        let (old, new) = (self.durable.len(), self.cached.len());
        let mut found = self.cached[..old + draws.place(new - old + 1)].to_vec();
        for page in (old / PAGE)..found.len().div_ceil(PAGE) {
            if draws.place(3) == 0 {
                let end = found.len().min((page + 1) * PAGE);
                found[(page * PAGE).max(old)..end].fill(0);
            }
        }
        found
    }
}

#[derive(Debug)]
struct Cache(Rc<RefCell<Disk>>);

impl Medium for Cache {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().cached.extend_from_slice(bytes);
        Ok(())
    }
    fn synchronise(&mut self) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if disk.left == 0 {
            return Err(io::Error::other("the power was cut"));
        }
        disk.left -= 1;
        if !disk.lies {
            disk.durable = disk.cached.clone();
        }
        Ok(())
    }
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.borrow_mut().cached.truncate(length as usize);
        Ok(())
    }
    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok(self.0.borrow().identity)
    }
}

/// Writes commits until the power is cut, and reads what is left; over and over on one journal. Returns the cuts that lost an
/// acknowledged record, brought one that never was, or left a journal that is refused.
fn cuts(count: usize, seed: u64, lies: bool) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut draws = Draws(seed);
    let mut bad = 0;
    let mut acknowledged: Vec<String> = Vec::new();
    std::fs::write(&path, super::header()).unwrap();
    for number in 0..count {
        if number % 50 == 0 {
            acknowledged.clear();
            std::fs::write(&path, super::header()).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        let disk = Rc::new(RefCell::new(Disk {
            durable: bytes.clone(),
            cached: bytes.clone(),
            left: draws.place(4),
            lies,
            identity: (metadata.dev(), metadata.ino()),
        }));
        let claim = Claim::take_epoch_only(directory.path(), 0).unwrap();
        claim.forget_earlier();
        let medium = Box::new(Cache(Rc::clone(&disk)));
        let mut journal = Journal::over(&path, medium, claim, acknowledged.len() as u64, bytes.len() as u64);
        let mut issued = acknowledged.clone();
        for commit in 0.. {
            let texts: Vec<String> = (0..=draws.place(12))
                .map(|record| format!("\"{number}/{commit}/{record}{}\"", "x".repeat(draws.place(90))))
                .collect();
            issued.extend(texts.clone());
            if journal.commit(&texts).is_err() {
                break;
            }
            acknowledged.clone_from(&issued);
        }
        let left = disk.borrow().cut(&mut draws);
        std::fs::write(&path, left).unwrap();
        let mut found = Vec::new();
        let contents: Result<Contents, ReadError> = read(&path, &mut |record| {
            found.push(record.json);
            Ok(())
        });
        let is_good = contents.is_ok() && found.len() >= acknowledged.len() && issued.starts_with(&found);
        if !is_good {
            bad += 1;
            acknowledged.clear();
            std::fs::write(&path, super::header()).unwrap();
            continue;
        }
        let whole = std::fs::read(&path).unwrap();
        let valid = contents.map_or(0, |contents| contents.valid_bytes) as usize;
        // What the next start does: the torn tail is cut off.
        std::fs::write(&path, &whole[..valid]).unwrap();
        acknowledged = found;
    }
    bad
}

#[test]
fn no_power_cut_loses_an_acknowledged_record_or_leaves_a_journal_that_is_refused() {
    assert_eq!(cuts(500, 1, false), 0);
}

#[test]
fn the_simulation_notices_a_disk_that_lies() {
    assert!(cuts(100, 1, true) > 10);
}

#[test]
#[ignore = "ten thousand power cuts take a minute"]
fn ten_thousand_power_cuts_lose_no_acknowledged_record() {
    assert_eq!(cuts(10_000, 2, false), 0);
}

#[test]
fn damage_to_what_was_acknowledged_is_no_torn_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut whole = super::header().into_bytes();
    let add = |sequence: u64, continues: bool, bytes: &mut Vec<u8>| {
        let json = format!("\"{sequence}\"");
        let record = super::Record {
            epoch: 1,
            continues,
            sequence,
            json,
        };
        record.encode(bytes);
    };
    for sequence in 1..=3 {
        add(sequence, sequence > 1, &mut whole);
    }
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read(&path, &mut |_| Ok::<(), ReadError>(())).is_err()
    };
    let second = whole.len() / 2;
    // Zeros within one commit are a torn commit; any other letter is damage; so are zeros before another commit.
    let mut zeros = whole.clone();
    zeros[second] = 0;
    assert!(!refused(&zeros));
    let mut flipped = whole.clone();
    flipped[second] ^= 1;
    assert!(refused(&flipped));
    add(4, false, &mut zeros);
    assert!(refused(&zeros));
}
