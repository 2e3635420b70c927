//! Packing files that somebody may be writing.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::{KEPT, Manifest, ManifestFile, archive_path, generations, hexadecimal, manifest_path};
use crate::files;

/// What makes a file the same one as before: size, inode, modification time.
type Fingerprint = Vec<(PathBuf, u64, u64, i64, i64)>;

/// What came of a save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saved {
    /// Generation so and so.
    Generation(u64),
    /// Nothing changed since the last one.
    Unchanged,
    /// Not all of the listed files exist.
    Incomplete,
    /// Something to tell the user; the last good generation is kept.
    Refused(String),
}

/// Files that were written so shortly before a save are read twice: a change within one tick of the file system's clock, which is
/// up to two seconds, leaves their times as they are.
const TICK: i64 = 2;

/// How and where to save.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) work: PathBuf,
    pub(super) store: PathBuf,
    pub(super) paths: Vec<String>,
    pub(super) largest: u64,
}

/// Saves in the background at intervals, and a last time at the end.
#[derive(Debug)]
pub(crate) struct Saver {
    plan: Plan,
    interval: Duration,
    /// Mean time between interruptions, where the interval follows from it.
    mean_time_to_failure: Option<Duration>,
    next: Instant,
    last: Fingerprint,
    running: Option<JoinHandle<(Saved, Fingerprint, Duration)>>,
    /// Warnings for the user.
    pub(crate) warnings: Vec<String>,
}

impl Saver {
    /// Saves `paths` below `work` into `store`.
    pub(crate) fn new(work: &Path, store: &Path, paths: &[String], largest: u64, interval: Duration) -> Saver {
        let plan = Plan {
            work: work.to_owned(),
            store: store.to_owned(),
            paths: paths.to_owned(),
            largest,
        };
        Saver {
            plan,
            interval,
            mean_time_to_failure: None,
            next: Instant::now() + interval,
            last: Vec::new(),
            running: None,
            warnings: Vec::new(),
        }
    }

    /// The same, with an interval that follows from how long saves take, if interruptions are so far apart on average.
    pub(crate) fn adapting(self, mean_time_to_failure: Option<Duration>) -> Saver {
        Saver {
            mean_time_to_failure,
            ..self
        }
    }

    /// When the next save is due.
    pub(crate) fn due(&self) -> Instant {
        self.next
    }

    /// Begins a save unless one is under way.
    pub(crate) fn begin(&mut self) {
        let is_busy = self.running.as_ref().is_some_and(|thread| !thread.is_finished());
        if !is_busy {
            self.collect();
            let (plan, last) = (self.plan.clone(), self.last.clone());
            let thread = std::thread::Builder::new().spawn(move || {
                let begin = Instant::now();
                let (saved, fingerprint) = plan.save(&last);
                (saved, fingerprint, begin.elapsed())
            });
            // Where there is no room for a thread now, there may be at the next time.
            self.running = thread.ok();
        }
        self.next = Instant::now() + self.interval;
    }

    /// Waits for a save under way, and saves once more what is there now.
    pub(crate) fn finish(&mut self) -> Saved {
        self.collect();
        let (saved, fingerprint) = self.plan.save(&self.last);
        self.take(&saved, fingerprint);
        saved
    }

    /// Waits for a save under way without another one.
    pub(crate) fn collect(&mut self) {
        if let Some(thread) = self.running.take()
            && let Ok((saved, fingerprint, took)) = thread.join()
        {
            if let (Saved::Generation(_), Some(apart)) = (&saved, self.mean_time_to_failure) {
                self.interval = best_interval(took, apart);
            }
            self.take(&saved, fingerprint);
        }
    }

    fn take(&mut self, saved: &Saved, fingerprint: Fingerprint) {
        match saved {
            Saved::Generation(_) => self.last = fingerprint,
            Saved::Refused(warning) if !self.warnings.contains(warning) => self.warnings.push(warning.clone()),
            _ => {}
        }
    }
}

/// The time between two saves that costs least, if a save takes `cost` and interruptions are `apart` on average.
///
/// Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future Generation Computer Systems 22
/// (2006), equation 37; its first term is Young's. Kept between 30 s and 1 h: neither number is known well.
fn best_interval(cost: Duration, apart: Duration) -> Duration {
    let (cost, apart) = (cost.as_secs_f64(), apart.as_secs_f64());
    let ratio = cost / (2.0 * apart);
    let best = if ratio < 1.0 {
        (2.0 * cost * apart).sqrt() * (1.0 + ratio.sqrt() / 3.0 + ratio / 9.0) - cost
    } else {
        apart
    };
    Duration::from_secs_f64(best.clamp(30.0, 3600.0))
}

/// Why there is no new generation.
#[derive(Debug)]
pub(super) enum Fault {
    /// A file changed while it was read.
    Moving(PathBuf),
    Missing,
    TooBig,
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

impl Plan {
    fn save(&self, last: &Fingerprint) -> (Saved, Fingerprint) {
        let mut moving = PathBuf::new();
        for attempt in 0..3 {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(200));
            }
            match self.try_save(last, &mut || {}) {
                Ok((generation, fingerprint)) => {
                    let saved = generation.map_or(Saved::Unchanged, Saved::Generation);
                    return (saved, fingerprint);
                }
                Err(Fault::Moving(path)) => moving = path,
                Err(Fault::Missing) => return (Saved::Incomplete, Vec::new()),
                Err(Fault::TooBig) => {
                    let limit = self.largest;
                    let message = format!(
                        "checkpoint not saved: the archive would have more than {limit} bytes (checkPointMaxSize); the last good one is kept"
                    );
                    return (Saved::Refused(message), Vec::new());
                }
                Err(Fault::Io(error)) => {
                    return (
                        Saved::Refused(format!("checkpoint not saved: {error}; the last good one is kept")),
                        Vec::new(),
                    );
                }
            }
        }
        let message = format!(
            "checkpoint not saved: `{}` is written without pause; let the payload write aside and rename",
            moving.display()
        );
        (Saved::Refused(message), Vec::new())
    }

    /// `between` is called wherever the payload may write between two of our steps: tests write there.
    pub(super) fn try_save(
        &self,
        last: &Fingerprint,
        between: &mut dyn FnMut(),
    ) -> Result<(Option<u64>, Fingerprint), Fault> {
        let before = self.fingerprint()?;
        if before == *last && !generations(&self.store).is_empty() {
            return Ok((None, before));
        }
        files::create_private_directory(&self.store)?;
        let generation = generations(&self.store).first().map_or(1, |newest| newest + 1);
        let temporary = files::temporary_beside(&archive_path(&self.store, generation));
        let result = self.pack(&temporary, &before, between).and_then(|(manifest, begin)| {
            if self.fingerprint()? != before {
                return Err(Fault::Moving(PathBuf::from(&self.paths[0])));
            }
            if before.iter().any(|(.., modified, _)| *modified + TICK >= begin) {
                self.must_be_as_packed(&manifest, between)?;
            }
            fs::rename(&temporary, archive_path(&self.store, generation))?;
            let text = serde_json::to_vec(&manifest).map_err(io::Error::from)?;
            files::write_whole(
                &manifest_path(&self.store, generation),
                &text,
                files::Durability::PowerCut,
            )?;
            Ok(())
        });
        if let Err(fault) = result {
            let _ = fs::remove_file(&temporary);
            return Err(fault);
        }
        for old in generations(&self.store)
            .into_iter()
            .filter(|old| old + KEPT <= generation)
        {
            let _ = fs::remove_file(manifest_path(&self.store, old));
            let _ = fs::remove_file(archive_path(&self.store, old));
        }
        Ok((Some(generation), before))
    }

    /// All regular files below the listed paths, sorted.
    pub(super) fn fingerprint(&self) -> Result<Fingerprint, Fault> {
        let mut found = Vec::new();
        let mut pending: Vec<PathBuf> = self.paths.iter().map(PathBuf::from).collect();
        while let Some(path) = pending.pop() {
            let metadata = match fs::symlink_metadata(self.work.join(&path)) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Fault::Missing),
                Err(error) => return Err(error.into()),
            };
            if metadata.is_dir() {
                for entry in fs::read_dir(self.work.join(&path))? {
                    pending.push(path.join(entry?.file_name()));
                }
            } else if metadata.is_file() {
                found.push((
                    path,
                    metadata.len(),
                    metadata.ino(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                ));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Packs what is listed into `target`; the second value is when that began, in seconds of the file system's clock.
    pub(super) fn pack(
        &self,
        target: &Path,
        listed: &Fingerprint,
        between: &mut dyn FnMut(),
    ) -> Result<(Manifest, i64), Fault> {
        let inner = File::create_new(target)?;
        let begin = inner.metadata()?.mtime();
        let output = Hashing {
            inner,
            hash: Sha256::new(),
            written: 0,
        };
        let mut archive = tar::Builder::new(GzEncoder::new(output, Compression::fast()));
        let mut manifest = Manifest {
            archive: String::new(),
            files: Vec::new(),
        };
        for (path, bytes, ..) in listed {
            between();
            let file = File::open(self.work.join(path))?;
            let mut header = tar::Header::new_gnu();
            header.set_size(*bytes);
            header.set_mode(file.metadata()?.mode() & 0o755);
            header.set_mtime(file.metadata()?.mtime().max(0) as u64);
            let mut content = Hashing {
                inner: file.take(*bytes),
                hash: Sha256::new(),
                written: 0,
            };
            archive.append_data(&mut header, path, &mut content)?;
            if content.written != *bytes {
                return Err(Fault::Moving(path.clone()));
            }
            let sha256 = hexadecimal(&content.hash.finalize());
            manifest.files.push(ManifestFile {
                path: path.clone(),
                bytes: *bytes,
                sha256,
            });
            if archive.get_ref().get_ref().written > self.largest {
                return Err(Fault::TooBig);
            }
        }
        let output = archive.into_inner()?.finish()?;
        if output.written > self.largest {
            return Err(Fault::TooBig);
        }
        output.inner.sync_all()?;
        manifest.archive = hexadecimal(&output.hash.finalize());
        between();
        Ok((manifest, begin))
    }

    /// Reads all files once more: what is then as it was packed was so at one moment, that between the two readings.
    fn must_be_as_packed(&self, manifest: &Manifest, between: &mut dyn FnMut()) -> Result<(), Fault> {
        for file in &manifest.files {
            between();
            let mut content = Hashing {
                inner: File::open(self.work.join(&file.path))?,
                hash: Sha256::new(),
                written: 0,
            };
            io::copy(&mut content, &mut io::sink())?;
            if hexadecimal(&content.hash.finalize()) != file.sha256 {
                return Err(Fault::Moving(file.path.clone()));
            }
        }
        Ok(())
    }
}

/// Passes bytes through and hashes them.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    written: u64,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.written += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saver(work: &Path, store: &Path, largest: u64) -> Saver {
        Saver::new(
            work,
            store,
            &["model".to_owned(), "state.txt".to_owned()],
            largest,
            Duration::from_mins(1),
        )
    }

    #[test]
    fn two_generations_are_kept_and_nothing_is_saved_twice() {
        let (work, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut saver = saver(work.path(), store.path(), 1 << 20);
        assert_eq!(saver.finish(), Saved::Incomplete);
        fs::create_dir(work.path().join("model")).unwrap();
        fs::write(work.path().join("model/weights"), "w").unwrap();
        for generation in 1..=4 {
            fs::write(work.path().join("state.txt"), "x".repeat(generation)).unwrap();
            assert_eq!(saver.finish(), Saved::Generation(generation as u64));
            assert_eq!(saver.finish(), Saved::Unchanged);
        }
        assert_eq!(generations(store.path()), [4, 3]);
        assert_eq!(fs::read_dir(store.path()).unwrap().count(), 4);
    }

    #[test]
    fn the_interval_follows_from_the_time_of_a_save_and_between_interruptions() {
        let seconds = |cost: f64, apart: f64| {
            best_interval(Duration::from_secs_f64(cost), Duration::from_secs_f64(apart))
                .as_secs_f64()
                .round()
        };
        let cases = [
            (10.0, 3600.0, 262.0),
            (60.0, 3600.0, 618.0),
            (60.0, 86400.0, 3180.0),
            (30.0, 14400.0, 910.0),
            (0.01, 3600.0, 30.0),
            (600.0, 864_000.0, 3600.0),
            (600.0, 120.0, 120.0),
        ];
        for (cost, apart, expected) in cases {
            assert!((seconds(cost, apart) - expected).abs() < 0.5, "{cost} {apart}");
        }
    }

    #[test]
    fn after_a_save_the_next_is_due_when_it_pays() {
        let (work, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(work.path().join("model")).unwrap();
        fs::write(work.path().join("state.txt"), "x").unwrap();
        let mut saver = saver(work.path(), store.path(), 1 << 20).adapting(Some(Duration::from_hours(1)));
        let before = saver.interval;
        saver.begin();
        saver.collect();
        assert_ne!(saver.interval, before);
        // A save of so little takes far less than a tenth of a second, so the shortest interval is the best.
        assert_eq!(saver.interval, Duration::from_secs(30));
    }

    #[test]
    fn too_big_an_archive_is_told_and_the_last_good_one_kept() {
        let (work, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(work.path().join("model")).unwrap();
        fs::write(work.path().join("state.txt"), "x").unwrap();
        let mut saver = saver(work.path(), store.path(), 1000);
        assert_eq!(saver.finish(), Saved::Generation(1));
        let noise: Vec<u8> = (0..20_000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        fs::write(work.path().join("model/weights"), noise).unwrap();
        saver.finish();
        assert_eq!(
            saver.warnings,
            [
                "checkpoint not saved: the archive would have more than 1000 bytes (checkPointMaxSize); the last good one is kept"
            ]
        );
        assert_eq!(generations(store.path()), [1]);
    }
}
