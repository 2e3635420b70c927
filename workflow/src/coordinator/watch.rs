//! Hearing what running evaluations report, and deciding whether they are worth going on.
//!
//! Reports are taken from the files that payloads append to, recorded, and judged one by one by the rule of the scheduler. A decision
//! is in the journal before the payload can read it. Whoever begins anew after a crash reports the same epochs again; they are
//! answered as before and not recorded twice.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use protocol::report::{Decision, Report};
use steering::history::Mode;
use steering::stopping::{Curve, Judgement};

use super::Coordinator;
use crate::files::{self, Durability};
use crate::state::{AttemptEnd, AttemptKey, Event, PointState};

/// Most bytes of reports that are read at once.
const MOST: u64 = 1 << 20;

/// How far the reports of an attempt were read.
#[derive(Debug, Default)]
pub(super) struct Heard {
    bytes: u64,
    told: bool,
}

/// What an attempt is to be told, about the report of which epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    key: AttemptKey,
    decision: Decision,
    epoch: u64,
}

impl Coordinator<'_> {
    /// Takes in what was reported since the last turn, and decides.
    pub(super) fn watch(&mut self) {
        if self.scheduler.is_none() {
            return;
        }
        for key in self.state.running.clone() {
            self.hear(key, true);
        }
    }

    /// Takes in the last reports of an attempt that has ended.
    ///
    /// One that has a loss was not told in time, and its loss counts. Any other is followed by an attempt that may go on from a
    /// checkpoint behind these reports and never make them again, so they are judged now.
    pub(super) fn hear_out(&mut self, key: AttemptKey, end: &AttemptEnd) {
        self.hear(key, !matches!(end, AttemptEnd::Done { .. }));
        self.flow.heard.remove(&key);
        self.flow.replies.retain(|reply| reply.key != key);
    }

    /// Takes in the reports of an attempt.
    fn hear(&mut self, key: AttemptKey, judging: bool) {
        if self.scheduler.is_none() {
            return;
        }
        let heard = self.flow.heard.entry(key).or_default();
        let (reports, bytes, faults) = read(&self.directory.attempt(key).join("report.jsonl"), heard.bytes);
        heard.bytes += bytes;
        if faults > 0 && !std::mem::replace(&mut heard.told, true) {
            self.flow.notes.push(format!(
                "{key}: {faults} lines of its reports are left out: expected {{\"epoch\": 1, \"loss\": 0.5}}, epochs from 1"
            ));
        }
        let mut latest = None;
        for report in reports {
            let point = self.state.point(key.point).expect("an attempt belongs to a point");
            let last = point.reports().last().map_or(0, |(epoch, _)| *epoch);
            latest = Some(report.epoch);
            self.flow.has_heard = true;
            if report.epoch <= last {
                continue;
            }
            let loss = report.loss.filter(|loss| loss.is_finite());
            self.push(Event::Reported {
                point: key.point,
                attempt: key.attempt,
                reports: vec![(report.epoch, loss)],
            });
            if let Some(Judgement {
                decision: Decision::Stop,
                reason,
            }) = self.judge(key).filter(|_| judging)
            {
                self.push(Event::EndedEarly {
                    point: key.point,
                    attempt: key.attempt,
                    epoch: report.epoch,
                    reason,
                });
            }
        }
        if let Some(epoch) = latest.filter(|_| judging) {
            let point = self.state.point(key.point).expect("an attempt belongs to a point");
            let is_out = point.stopped().is_some_and(|stopped| epoch >= stopped);
            let decision = if is_out { Decision::Stop } else { Decision::Continue };
            self.flow.replies.push(Reply { key, decision, epoch });
        }
    }

    /// What the rule says after the latest report of a point; nothing once it has decided.
    fn judge(&self, key: AttemptKey) -> Option<Judgement> {
        let rule = self.scheduler.as_ref()?.stopping()?;
        let own = self.state.point(key.point)?;
        if own.stopped().is_some() {
            return None;
        }
        let others = self
            .state
            .points
            .iter()
            .filter(|point| point.id != own.id && point.segment == own.segment && !point.reports().is_empty());
        rule.judge(&curve(own), &others.map(curve).collect::<Vec<_>>())
    }

    /// Writes what attempts are to be told; called when it is in the journal.
    pub(super) fn reply(&mut self) {
        let is_pausing = self.flow.cancelled > 0;
        for Reply { key, decision, epoch } in std::mem::take(&mut self.flow.replies) {
            // The request to pause stands until the attempt has read it.
            let decision = match decision {
                Decision::Continue if is_pausing => Decision::Pause,
                decision => decision,
            };
            self.tell(key, &format!("{} {epoch}\n", decision.as_str()));
        }
    }

    /// Asks running evaluations to save and end, for those that look at decisions rather than at signals.
    pub(super) fn ask_to_pause(&mut self) {
        for key in self.state.running.clone() {
            let point = self.state.point(key.point).expect("an attempt belongs to a point");
            // Who was told to stop must not read that it is to go on later.
            if point.stopped().is_none() {
                self.tell(key, "pause\n");
            }
        }
    }

    fn tell(&self, key: AttemptKey, text: &str) {
        let path = self.directory.attempt(key).join("decision");
        // Nobody has to listen: an evaluation that is not told goes on.
        let _ = files::write_whole(&path, text.as_bytes(), Durability::Crash);
    }
}

fn curve(point: &PointState) -> Curve {
    let is_finished = point.loss().is_some() && point.ended_early().is_none();
    Curve::new(point.reports(), is_finished, Mode::Min)
}

/// Whole lines behind the first `from` bytes: the reports, how many bytes they are, and how many lines are no reports.
fn read(path: &Path, from: u64) -> (Vec<Report>, u64, usize) {
    // The payload owns this name: it may be a link or a pipe.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let open = || {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() <= from {
            return None;
        }
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let bytes = open().unwrap_or_default();
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
        // A line that long is none.
        return (Vec::new(), if bytes.len() as u64 == MOST { MOST } else { 0 }, 0);
    };
    let lines = bytes[..end]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty());
    let parsed: Vec<Option<Report>> = lines
        .map(|line| {
            serde_json::from_slice(line)
                .ok()
                .filter(|report: &Report| report.epoch >= 1)
        })
        .collect();
    let faults = parsed.iter().filter(|report| report.is_none()).count();
    (parsed.into_iter().flatten().collect(), end as u64 + 1, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.jsonl");
        assert_eq!(read(&path, 0), (Vec::new(), 0, 0));
        let lines = "{\"epoch\":1,\"loss\":0.5}\nwhat\n{\"epoch\":0,\"loss\":1}\n{\"epoch\":2,\"loss\":null}\n";
        std::fs::write(&path, format!("{lines}{{\"epoch\":3")).unwrap();
        let (reports, bytes, faults) = read(&path, 0);
        let found: Vec<_> = reports.iter().map(|report| (report.epoch, report.loss)).collect();
        assert_eq!(found, [(1, Some(0.5)), (2, None)]);
        assert_eq!((bytes, faults), (lines.len() as u64, 2));
        assert_eq!(read(&path, bytes), (Vec::new(), 0, 0));
    }
}
