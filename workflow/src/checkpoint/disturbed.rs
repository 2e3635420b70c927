//! Saves that are disturbed: by the payload, which goes on writing, and by the end of the process that saves.

use std::fs;
use std::path::Path;

use super::save::{Fault, Plan};
use super::{KEPT, archive_path, generations, manifest_path, restore};
use crate::draws::Draws;

const NAMES: [&str; 2] = ["a", "b"];

fn plan(work: &Path, store: &Path) -> Plan {
    Plan {
        work: work.to_owned(),
        store: store.to_owned(),
        paths: NAMES.map(str::to_owned).to_vec(),
        largest: 1 << 20,
    }
}

/// A payload that writes its two files in turn, as good payloads do and as bad ones do, always as many bytes.
struct Writer<'a> {
    work: &'a Path,
    written: [u64; 2],
    /// What was in the files at any moment since the save began.
    moments: Vec<[u64; 2]>,
    draws: Draws,
}

impl Writer<'_> {
    fn step(&mut self) {
        let file = usize::from(self.written[0] > self.written[1]);
        self.written[file] += 1;
        let path = self.work.join(NAMES[file]);
        let text = format!("{:0>20}", self.written[file]);
        if self.draws.below(2) == 0 {
            fs::write(&path, text).unwrap();
        } else {
            let part = self.work.join("part");
            fs::write(&part, text).unwrap();
            fs::rename(part, path).unwrap();
        }
        self.moments.push(self.written);
    }

    fn may_write(&mut self) {
        while self.draws.below(3) == 0 {
            self.step();
        }
    }

    fn holds(&self, found: [u64; 2]) -> bool {
        self.moments.contains(&found)
    }
}

fn content(directory: &Path) -> [u64; 2] {
    NAMES.map(|name| fs::read_to_string(directory.join(name)).unwrap().parse().unwrap())
}

/// Saves so often while a payload writes; returns how many saves there were, and how many of them held what never was. The planted
/// fault: what was packed is taken without looking whether it has changed.
fn saves(count: u64, plant: bool) -> (usize, usize) {
    let (mut all, mut mixed) = (0, 0);
    let work = tempfile::tempdir().unwrap();
    let mut writer = Writer {
        work: work.path(),
        written: [0; 2],
        moments: Vec::new(),
        draws: Draws(5),
    };
    writer.step();
    writer.step();
    for _ in 0..count {
        let store = tempfile::tempdir().unwrap();
        let plan = plan(work.path(), store.path());
        writer.moments = vec![writer.written];
        let found = if plant {
            let listed = plan.fingerprint().unwrap();
            let target = archive_path(store.path(), 1);
            let packed = plan.pack(&target, &listed, &mut || writer.may_write());
            packed.ok().map(|_| {
                super::extract(fs::File::open(target).unwrap(), store.path(), 1 << 20).unwrap();
                content(store.path())
            })
        } else {
            match plan.try_save(&Vec::new(), &mut || writer.may_write()) {
                Ok(_) => {
                    let back = tempfile::tempdir().unwrap();
                    assert_eq!(restore(store.path(), back.path(), None, 1 << 20).generation, Some(1));
                    Some(content(back.path()))
                }
                Err(Fault::Moving(_)) => {
                    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 0, "something is left");
                    None
                }
                Err(other) => panic!("{other:?}"),
            }
        };
        all += usize::from(found.is_some());
        mixed += usize::from(found.is_some_and(|found| !writer.holds(found)));
    }
    (all, mixed)
}

#[test]
fn what_is_saved_while_the_payload_writes_was_there_at_one_moment() {
    let (all, mixed) = saves(30, false);
    assert!(all > 0 && mixed == 0, "{mixed} of {all}");
    let (_, noticed) = saves(40, true);
    assert!(noticed > 0);
}

#[test]
#[ignore = "a thousand saves take some seconds"]
fn a_thousand_saves_while_the_payload_writes_mix_nothing() {
    assert_eq!(saves(1000, false).1, 0);
}

/// The states in which the end of the process that saves generation 3 can leave the store, made of the store before and after; of
/// those in which bytes are missing, every fifth.
fn interrupted(before: &Path, after: &Path, visit: &mut dyn FnMut(&Path, &str)) {
    let copy = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    let (archive, manifest) = (archive_path(after, 3), manifest_path(after, 3));
    let (archive, manifest) = (fs::read(archive).unwrap(), fs::read(manifest).unwrap());
    let mut state = |what: &str, change: &dyn Fn(&Path)| {
        let store = tempfile::tempdir().unwrap();
        copy(before, store.path());
        change(store.path());
        visit(store.path(), what);
    };
    for cut in (0..=archive.len()).step_by(5) {
        let name = ".saved-3.tar.gz.7.1.tmp";
        state("the archive is written", &|store| {
            fs::write(store.join(name), &archive[..cut]).unwrap();
        });
    }
    for cut in (0..=manifest.len()).step_by(5) {
        state("the manifest is written", &|store| {
            fs::write(archive_path(store, 3), &archive).unwrap();
            fs::write(store.join(".saved-3.json.7.2.tmp"), &manifest[..cut]).unwrap();
        });
    }
    let complete = |store: &Path| {
        fs::write(archive_path(store, 3), &archive).unwrap();
        fs::write(manifest_path(store, 3), &manifest).unwrap();
    };
    state("complete", &complete);
    state("complete, one too many", &|store| {
        complete(store);
        fs::remove_file(manifest_path(store, 1)).unwrap();
    });
    // The planted fault: the manifest appears before the archive is whole.
    state("planted", &|store| {
        complete(store);
        fs::write(archive_path(store, 3), &archive[..archive.len() / 2]).unwrap();
    });
}

#[test]
fn whenever_the_process_that_saves_ends_a_whole_generation_is_loaded_and_the_next_save_is_good() {
    assert_eq!(KEPT, 2);
    let (work, before, after) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let write =
        |generation: u64| NAMES.map(|name| fs::write(work.path().join(name), format!("{generation:0>20}")).unwrap());
    let save = |store: &Path| plan(work.path(), store).try_save(&Vec::new(), &mut || {}).unwrap().0;
    for generation in 1..=2 {
        write(generation);
        save(before.path());
        save_as(before.path(), after.path());
    }
    write(3);
    assert_eq!(save(after.path()), Some(3));
    let mut seen = [0; 4];
    interrupted(before.path(), after.path(), &mut |store, what| {
        let is_complete = what.starts_with("complete");
        let back = tempfile::tempdir().unwrap();
        let restored = restore(store, back.path(), None, 1 << 20);
        let expected = if is_complete { 3 } else { 2 };
        assert_eq!(restored.generation, Some(expected), "{what}");
        assert_eq!(content(back.path()), [expected; 2], "{what}");
        assert_eq!(
            restored.warnings.is_empty(),
            what != "planted",
            "{what}: {:?}",
            restored.warnings
        );
        seen[expected as usize] += 1;
    });
    assert!(seen[2] > 60 && seen[3] == 2, "{seen:?}");
    // What is left over does not stand in the way.
    interrupted(before.path(), after.path(), &mut |store, what| {
        if seen[0] % 20 == 0 || what.starts_with("complete") {
            write(4);
            let saved = save(store).unwrap();
            let back = tempfile::tempdir().unwrap();
            assert_eq!(
                restore(store, back.path(), None, 1 << 20).generation,
                Some(saved),
                "{what}"
            );
            assert_eq!(content(back.path()), [4; 2], "{what}");
            assert_eq!(generations(store).len(), 2, "{what}");
        }
        seen[0] += 1;
    });
}

fn save_as(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
