//! `hpo journal`: check, repair, export.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::{RepairArguments, TaskArguments};
use super::error::CliError;
use super::open::{Opened, absolute, event};
use super::output::{Output, print, print_line};
use crate::files::{self, Durability};
use crate::journal::{self, Claim, Contents, Dropped, FORMAT, ReadError, Record};
use crate::report::escape;
use crate::state::{Event, PointId, State, TaskEnd};
use crate::task::{Task, TaskDirectory};

struct Checked {
    contents: Contents,
    starts: u32,
}

impl Output for Checked {
    fn json(&self) -> Value {
        json!({
            "sound": true, "records": self.contents.records, "bytes": self.contents.valid_bytes,
            "torn_bytes": self.contents.torn_bytes, "overtaken_records": self.contents.overtaken, "starts": self.starts,
        })
    }

    fn text(&self) -> String {
        let Contents {
            records,
            valid_bytes,
            torn_bytes,
            overtaken,
            ..
        } = self.contents;
        let mut text = format!(
            "sound: {records} records, {valid_bytes} bytes, {} starts\n",
            self.starts
        );
        if torn_bytes > 0 {
            let _ = writeln!(
                text,
                "{torn_bytes} bytes at the end are torn; they were never acknowledged and are cut off at the next start"
            );
        }
        if overtaken > 0 {
            let _ = writeln!(text, "{overtaken} records of an overtaken hpo are ignored");
        }
        text
    }
}

pub(super) fn check(arguments: &TaskArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let checked = Checked {
        contents: opened.contents,
        starts: opened.state.starts,
    };
    print(&checked, arguments.json)?;
    Ok(exit::DONE)
}

pub(super) fn export(arguments: &TaskArguments) -> Result<u8, CliError> {
    let directory = TaskDirectory::new(absolute(&arguments.directory)?);
    let path = directory.journal();
    let mut all = Vec::new();
    let mut visit = |record: Record| {
        let mut object = json!({"record": record.sequence, "epoch": record.epoch});
        if let (Value::Object(object), Value::Object(event)) = (&mut object, json!(event(&path, &record)?)) {
            object.extend(event);
        }
        if arguments.json {
            all.push(object);
            Ok(())
        } else {
            print_line(&object.to_string())
        }
    };
    journal::read::<CliError>(&path, &mut visit)?;
    if arguments.json {
        print_line(&format!("{:#}", Value::Array(all)))?;
    }
    Ok(exit::DONE)
}

/// What a repair keeps, and what it has to leave.
#[derive(Debug)]
struct Repair {
    texts: Vec<String>,
    state: State,
    dropped: Vec<Dropped>,
    missing: Vec<(u64, u64)>,
    /// Sound records that cannot follow what is left, and why.
    orphaned: Vec<(u64, String)>,
    /// Where the damaged journal is; `None` where nothing was done.
    kept_at: Option<PathBuf>,
}

impl Repair {
    fn is_needed(&self) -> bool {
        !self.dropped.is_empty() || !self.missing.is_empty() || !self.orphaned.is_empty()
    }
}

impl Output for Repair {
    fn json(&self) -> Value {
        json!({
            "kept_records": self.texts.len(),
            "points": self.state.points.len(),
            "dropped": self.dropped.iter().map(|dropped| json!({
                "offset": dropped.offset, "bytes": dropped.bytes, "reason": dropped.reason,
            })).collect::<Vec<_>>(),
            "missing_records": self.missing,
            "orphaned_records": self.orphaned.iter().map(|(record, reason)| json!({
                "record": record, "reason": reason,
            })).collect::<Vec<_>>(),
            "damaged_journal": self.kept_at.as_ref().map(|path| path.display().to_string()),
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Dropped { offset, bytes, reason } in &self.dropped {
            let _ = writeln!(text, "dropped: {bytes} bytes at byte {offset}: {reason}");
        }
        for (from, to) in &self.missing {
            let _ = writeln!(text, "missing: records {from} to {to}");
        }
        for (record, reason) in &self.orphaned {
            let _ = writeln!(text, "dropped: record {record}: {}", escape(reason));
        }
        let (records, points) = (self.texts.len(), self.state.points.len());
        let _ = match (&self.kept_at, self.is_needed()) {
            (_, false) => writeln!(text, "sound: {records} records, nothing to repair"),
            (None, true) => writeln!(text, "{records} records with {points} points would be kept"),
            (Some(path), true) => writeln!(
                text,
                "{records} records with {points} points are kept; the damaged journal is in {}",
                path.display()
            ),
        };
        text
    }
}

/// Writes the journal anew from its sound records.
///
/// A record that is lost is mostly found again by the next start: results lie beside their attempts, and a claim shows which
/// attempts have begun. Only points that are lost must not meet the directories of others with their ids, so those are put aside.
pub(super) fn repair(arguments: &RepairArguments) -> Result<u8, CliError> {
    let directory = TaskDirectory::new(absolute(&arguments.directory)?);
    if !directory.exists() {
        return Err(CliError::Usage(format!(
            "`{}` is not a task directory: it has no `task.json`; `hpo list` shows the tasks in a directory",
            arguments.directory.display()
        )));
    }
    let mut claim = if arguments.dry_run {
        None
    } else {
        Some(Claim::take(directory.root(), false)?)
    };
    let (task, settings, digest) = Task::read(&directory)?;
    let path = directory.journal();
    let unread = |source| ReadError::Io {
        path: path.clone(),
        source,
    };
    let bytes = fs::read(&path).map_err(unread)?;
    refuse_later_formats(&path, &bytes)?;
    let salvaged = journal::salvage(&bytes);
    let newest = salvaged.records.iter().map(|record| record.epoch).max().unwrap_or(0);
    let mut repair = Repair {
        texts: Vec::new(),
        state: State::new(settings.retry),
        dropped: salvaged.dropped,
        missing: salvaged.missing,
        orphaned: Vec::new(),
        kept_at: None,
    };
    let is_damaged = repair.is_needed();
    for record in &salvaged.records {
        // What this version does not know must not be lost by it.
        let event = event(&path, record)?;
        if repair.state.created.is_none() && !matches!(event, Event::Created { .. }) {
            let (task, digest) = (task.id.clone(), digest.clone());
            repair.take(0, &Event::Created { task, digest });
        }
        if is_damaged && matches!(&event, Event::Ended { end, .. } if *end != TaskEnd::Killed) {
            let reason = "the end of the task, which is decided anew from what is left".to_owned();
            repair.orphaned.push((record.sequence, reason));
            continue;
        }
        repair.take(record.sequence, &event);
    }
    if let Some(claim) = claim.as_mut().filter(|_| repair.is_needed()) {
        claim.raise_above(directory.root(), newest)?;
        let aside = put_aside(&directory, &bytes, repair.state.points.len());
        let written = aside.and_then(|aside| {
            let text = journal::written_anew(&repair.texts, claim.epoch());
            files::write_whole(&path, &text, Durability::PowerCut)?;
            Ok(aside)
        });
        let aside = written.map_err(|source| {
            let root = directory.root().display();
            CliError::io(format!("the journal of `{root}` cannot be written anew"), source)
        })?;
        repair.kept_at = Some(aside.join("journal"));
    }
    print(&repair, arguments.json)?;
    Ok(exit::DONE)
}

impl Repair {
    fn take(&mut self, record: u64, event: &Event) {
        match self.state.apply(event) {
            Ok(()) => self
                .texts
                .push(serde_json::to_string(event).expect("events are plain data")),
            Err(error) => self.orphaned.push((record, error.0)),
        }
    }
}

/// A journal of a later format may look damaged to this version.
fn refuse_later_formats(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(40)]);
    let format = line
        .strip_prefix("hpo-journal ")
        .and_then(|number| number.parse::<u32>().ok());
    if format.is_some_and(|format| format > FORMAT) {
        return Err(ReadError::Version {
            path: path.to_owned(),
            found: line.into_owned(),
        }
        .into());
    }
    Ok(())
}

/// Keeps the damaged journal, and the directories of points that it no longer knows, in a directory of their own.
fn put_aside(directory: &TaskDirectory, bytes: &[u8], points: usize) -> std::io::Result<PathBuf> {
    let mut number = 1;
    let aside = loop {
        let aside = directory.root().join(format!("repaired-{number}"));
        match fs::create_dir(&aside) {
            Ok(()) => break aside,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    };
    files::write_whole(&aside.join("journal"), bytes, Durability::PowerCut)?;
    for (name, below) in [
        ("points", directory.points()),
        ("checkpoints", directory.all_checkpoints()),
    ] {
        for entry in fs::read_dir(&below).into_iter().flatten().flatten() {
            let id: Option<PointId> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if id.is_some_and(|id| id.0 as usize > points) {
                let target = aside.join(name);
                files::create_private_directory(&target)?;
                fs::rename(entry.path(), target.join(entry.file_name()))?;
            }
        }
    }
    Ok(aside)
}
