//! Probes of a file system, by doing there what tasks do.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FlockOperation;

use super::{Probe, Verdict, probe};
use crate::files::{self, Durability};

/// Commits that are timed; the middle one counts.
const COMMITS: usize = 5;
/// A commit that takes longer slows short evaluations down.
const SLOW_COMMIT: Duration = Duration::from_millis(50);
/// Clocks that differ by more are worth a word.
const CLOCKS: Duration = Duration::from_secs(2);
/// Below this much room a task may not come far.
const LITTLE_ROOM: u64 = 1 << 30;

/// All probes; what they make below `directory` is removed again.
pub(super) fn probes(directory: &Path) -> Vec<Probe> {
    let place = files::temporary_beside(&directory.join("hpo-doctor"));
    if let Err(error) = files::create_private_directory(&place) {
        let found = format!("nothing can be written below `{}`: {error}", directory.display());
        return vec![probe("file system", Verdict::Bad, found)];
    }
    let probes = vec![
        kind(&place),
        room(&place),
        judged(
            "exclusive creation",
            exclusive(&place),
            "two runners could take one attempt",
        ),
        locks(&place),
        judged("renaming", renaming(&place), "files could be seen half written"),
        commits(&place),
        judged(
            "symbolic links",
            links(&place),
            "training data cannot be linked into work directories",
        ),
        clocks(&place),
    ];
    let _ = fs::remove_dir_all(&place);
    probes
}

fn judged(name: &'static str, found: io::Result<()>, otherwise: &str) -> Probe {
    match found {
        Ok(()) => probe(name, Verdict::Good, "works"),
        Err(error) => probe(
            name,
            Verdict::Bad,
            format!("{error}; {otherwise}; choose another directory"),
        ),
    }
}

fn kind(place: &Path) -> Probe {
    let Ok(found) = rustix::fs::statfs(place) else {
        return probe("file system", Verdict::Poor, "does not tell its kind");
    };
    // The numbers are those of statfs(2).
    let (name, is_shared) = match found.f_type as u64 & 0xffff_ffff {
        0xef53 => ("ext", false),
        0x5846_5342 => ("xfs", false),
        0x9123_683e => ("btrfs", false),
        0x2fc1_2fc1 => ("zfs", false),
        0x794c_7630 => ("overlay", false),
        0x0102_1994 => {
            let found = "tmpfs, which is gone with the next boot of the machine";
            return probe("file system", Verdict::Poor, found);
        }
        0x6969 => ("nfs", true),
        0xff53_4d42 | 0xfe53_4d42 => ("smb", true),
        0x0bd0_0bd0 => ("lustre", true),
        0x4750_4653 => ("gpfs", true),
        0x1983_0326 => ("beegfs", true),
        0x00c3_6400 => ("ceph", true),
        0x6573_5546 => ("fuse", true),
        _ => ("of a kind that hpo has no name for", false),
    };
    let shared = if is_shared { ", shared between machines" } else { "" };
    probe("file system", Verdict::Good, format!("{name}{shared}"))
}

fn room(place: &Path) -> Probe {
    match files::room(place) {
        None => probe("room", Verdict::Poor, "the file system does not tell"),
        Some(bytes) if bytes < LITTLE_ROOM => probe(
            "room",
            Verdict::Poor,
            format!("{} MiB; below 8 MiB nothing new is started", bytes >> 20),
        ),
        Some(bytes) => probe("room", Verdict::Good, format!("{} GiB", bytes >> 30)),
    }
}

fn exclusive(place: &Path) -> io::Result<()> {
    let path = place.join("exclusive");
    let create = || OpenOptions::new().write(true).create_new(true).open(&path);
    create()?;
    refused(create().map(drop), "a file was created exclusively twice")?;
    // A claim is linked into place.
    let (one, other, target) = (place.join("one"), place.join("other"), place.join("claim"));
    fs::write(&one, "1")?;
    fs::write(&other, "2")?;
    fs::hard_link(&one, &target)?;
    refused(fs::hard_link(&other, &target), "a second link replaced the first")?;
    let directory = place.join("epoch");
    fs::create_dir(&directory)?;
    refused(fs::create_dir(&directory), "a directory was created twice")
}

fn refused(second: io::Result<()>, otherwise: &str) -> io::Result<()> {
    match second {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other(otherwise.to_owned())),
    }
}

fn locks(place: &Path) -> Probe {
    let path = place.join("lock");
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(&path)
    };
    let (Ok(first), Ok(second)) = (open(), open()) else {
        return probe("locks", Verdict::Poor, "the lock file cannot be opened");
    };
    let lock = |file: &File| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    match (lock(&first), lock(&second)) {
        (Ok(()), Err(rustix::io::Errno::WOULDBLOCK)) => probe("locks", Verdict::Good, "work"),
        (Ok(()), _) => probe(
            "locks",
            Verdict::Poor,
            "do not exclude each other; a second hpo is still kept out by its record of the first and by epochs",
        ),
        (Err(error), _) => probe(
            "locks",
            Verdict::Poor,
            format!("{error}; a second hpo is still kept out by its record of the first and by epochs"),
        ),
    }
}

fn renaming(place: &Path) -> io::Result<()> {
    let path = place.join("whole");
    for text in ["one", "two"] {
        files::write_whole(&path, text.as_bytes(), Durability::PowerCut)?;
        if fs::read_to_string(&path)? != text {
            return Err(io::Error::other("a renamed file does not have its content"));
        }
    }
    Ok(())
}

/// What a commit of the journal takes: an append and its synchronisation.
fn commits(place: &Path) -> Probe {
    let timed = || -> io::Result<Duration> {
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(place.join("journal"))?;
        let mut times = Vec::new();
        for _ in 0..COMMITS {
            let begin = Instant::now();
            file.write_all(&[b'x'; 200])?;
            file.sync_data()?;
            times.push(begin.elapsed());
        }
        files::sync_directory(place)?;
        times.sort_unstable();
        Ok(times[COMMITS / 2])
    };
    match timed() {
        Ok(time) if time > SLOW_COMMIT => probe(
            "commits",
            Verdict::Poor,
            format!(
                "{:.1} ms, which slows evaluations down that are shorter",
                time.as_secs_f64() * 1e3
            ),
        ),
        Ok(time) => probe("commits", Verdict::Good, format!("{:.1} ms", time.as_secs_f64() * 1e3)),
        Err(error) => probe(
            "commits",
            Verdict::Bad,
            format!("{error}; what was shown could be lost in a power cut; choose another directory"),
        ),
    }
}

fn links(place: &Path) -> io::Result<()> {
    let link = place.join("link");
    std::os::unix::fs::symlink("target", &link)?;
    if fs::read_link(&link)? == Path::new("target") {
        Ok(())
    } else {
        Err(io::Error::other("a link does not lead where it should"))
    }
}

fn clocks(place: &Path) -> Probe {
    let path = place.join("clock");
    let looked = || -> io::Result<(Duration, bool)> {
        fs::write(&path, "1")?;
        let metadata = fs::metadata(&path)?;
        let now = SystemTime::now();
        let modified = metadata.modified()?;
        let apart = now
            .duration_since(modified)
            .or_else(|_| modified.duration_since(now))
            .unwrap_or_default();
        Ok((apart, metadata.mtime_nsec() != 0))
    };
    match looked() {
        Ok((apart, _)) if apart > CLOCKS => probe(
            "clocks",
            Verdict::Poor,
            format!(
                "the file system is {:.0} s away from this machine; times in tables may look odd, nothing else depends on them",
                apart.as_secs_f64()
            ),
        ),
        Ok((_, false)) => probe(
            "clocks",
            Verdict::Poor,
            "times of files have whole seconds; a checkpoint that is written again within one may be taken for unchanged",
        ),
        Ok(_) => probe("clocks", Verdict::Good, "agree"),
        Err(error) => probe("clocks", Verdict::Bad, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probes_of_a_sound_file_system_find_nothing_bad_and_leave_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let probes = probes(directory.path());
        assert!(probes.iter().all(|probe| probe.verdict != Verdict::Bad), "{probes:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_bad() {
        let directory = tempfile::tempdir().unwrap();
        let probes = probes(&directory.path().join("nowhere/\0"));
        assert_eq!(probes[0].verdict, Verdict::Bad);
    }

    #[test]
    fn creation_that_is_not_exclusive_is_noticed() {
        assert!(refused(Ok(()), "twice").is_err());
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        assert!(refused(Err(exists), "twice").is_ok());
    }
}
