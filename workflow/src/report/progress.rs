//! What is shown while a task runs: plain lines, or live lines on a terminal.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use protocol::report::Report;

use super::escape::escape;
use super::table::{number, seconds};
use crate::coordinator::Observer;
use crate::state::{AttemptEnd, AttemptKey, Event, State, TaskEnd};
use crate::task::TaskDirectory;

/// The sentence for an event, if it is worth one.
pub(crate) fn sentence(event: &Event, state: &State, points: u32) -> Option<String> {
    match event {
        Event::Iteration { number, points, asked } => Some(match points.len() {
            0 => format!("steering {number}: no more points"),
            1 => format!("steering {number}: 1 new point (asked for {asked})"),
            count => format!("steering {number}: {count} new points (asked for {asked})"),
        }),
        Event::SteeringFailed { number, reason } => Some(format!("steering {number} failed: {reason}")),
        Event::AttemptEnded {
            point,
            attempt,
            end,
            seconds: time,
            ..
        } => {
            let key = AttemptKey {
                point: *point,
                attempt: *attempt,
            };
            let found = state.point(*point)?;
            let next = match found.word() {
                "failed" => "given up",
                _ => "will be tried again",
            };
            Some(match end {
                AttemptEnd::Done { loss, .. } => {
                    let (done, best) = (state.done, state.best()?);
                    let best_loss = best.loss().map_or(f64::NAN, protocol::Loss::get);
                    format!(
                        "point {point}: loss {} after {}; {done} of {points} done, best {} (point {})",
                        number(loss.get()),
                        seconds(*time),
                        number(best_loss),
                        best.id
                    )
                }
                AttemptEnd::Failed { reason } => format!("{key} failed: {reason}; {next}"),
                AttemptEnd::Lost { reason } => format!("{key} was lost: {reason}; {next}"),
                AttemptEnd::Stopped => format!("{key} was stopped; it will be resumed"),
            })
        }
        Event::EndedEarly { point, reason, .. } => Some(format!("point {point} is ended early: {reason}")),
        Event::Ended { end, .. } => Some(match end {
            TaskEnd::Finished { reason } => format!("the search is over: {reason}"),
            TaskEnd::Failed { reason } => format!("the task failed: {reason}"),
            TaskEnd::Killed => "the task was ended by `hpo kill`".to_owned(),
        }),
        _ => None,
    }
}

/// One line for each thing that happens, on standard error.
#[derive(Debug)]
pub(crate) struct Lines {
    points: u32,
    quiet: bool,
}

impl Lines {
    /// Of a search with so many points in all. Quiet, it tells only remarks.
    pub(crate) fn new(points: u32, quiet: bool) -> Lines {
        Lines { points, quiet }
    }
}

impl Observer for Lines {
    fn event(&mut self, event: &Event, state: &State) {
        if !self.quiet
            && let Some(text) = sentence(event, state, self.points)
        {
            // Nobody may be reading; that is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    fn note(&mut self, text: &str) {
        let _ = writeln!(std::io::stderr(), "hpo: {text}");
    }

    fn tick(&mut self, _: &State) {}
}

/// A line for each running evaluation, redrawn in place, and the best so far.
#[derive(Debug)]
pub(crate) struct Live {
    directory: TaskDirectory,
    points: u32,
    all: MultiProgress,
    total: ProgressBar,
    running: BTreeMap<AttemptKey, (ProgressBar, Instant)>,
}

/// Most evaluations that get a line.
const MOST_LINES: usize = 16;

impl Live {
    /// Of a search with so many points in all.
    pub(crate) fn new(directory: TaskDirectory, points: u32) -> Live {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(u64::from(points)));
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}") {
            total.set_style(style);
        }
        Live {
            directory,
            points,
            all,
            total,
            running: BTreeMap::new(),
        }
    }

    /// Removes the live lines, so that what follows stands alone.
    pub(crate) fn clear(&self) {
        for (bar, _) in self.running.values() {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
        let _ = self.all.clear();
    }
}

impl Observer for Live {
    fn event(&mut self, event: &Event, state: &State) {
        if let Some(text) = sentence(event, state, self.points) {
            let _ = self.all.println(text);
        }
    }

    fn note(&mut self, text: &str) {
        let _ = self.all.println(format!("hpo: {text}"));
    }

    fn tick(&mut self, state: &State) {
        self.running.retain(|key, (bar, _)| {
            let still = state.running.contains(key);
            if !still {
                bar.finish_and_clear();
            }
            still
        });
        for key in state.running.iter().take(MOST_LINES) {
            let (bar, since) = self.running.entry(*key).or_insert_with(|| {
                let bar = self.all.insert_before(&self.total, ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("  {msg}") {
                    bar.set_style(style);
                }
                (bar, Instant::now())
            });
            let report = last_report(&self.directory.attempt(*key).join("report.jsonl"));
            let report = report.map_or_else(String::new, |report| {
                let loss = report
                    .loss
                    .map(|loss| format!(", loss {}", number(loss)))
                    .unwrap_or_default();
                format!("  epoch {}{loss}", report.epoch)
            });
            bar.set_message(escape(&format!(
                "{key}  {}{report}",
                seconds(since.elapsed().as_secs_f64())
            )));
        }
        self.total.set_position(u64::from(state.done + state.failed));
        if let Some(best) = state.best() {
            let loss = best.loss().map_or(f64::NAN, protocol::Loss::get);
            self.total
                .set_message(format!("best {} (point {})", number(loss), best.id));
        }
    }
}

/// The last whole report of a payload.
pub(crate) fn last_report(path: &Path) -> Option<Report> {
    // The payload owns this name: it may be a link or a pipe.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .ok()?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(8192))).ok()?;
    let mut bytes = Vec::new();
    file.take(8192).read_to_end(&mut bytes).ok()?;
    let whole = &bytes[..=bytes.iter().rposition(|byte| *byte == b'\n')?];
    whole
        .split(|byte| *byte == b'\n')
        .rev()
        .find_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_report_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.jsonl");
        assert_eq!(last_report(&path), None);
        std::fs::write(
            &path,
            "{\"epoch\":1,\"loss\":0.5}\n{\"epoch\":2,\"loss\":0.25}\n{\"epoch\":3,\"lo",
        )
        .unwrap();
        assert_eq!(last_report(&path).map(|report| report.epoch), Some(2));
    }
}
