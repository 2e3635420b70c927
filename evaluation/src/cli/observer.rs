//! Watches a training: a line per epoch, reports for the manager, its decisions, signals and limits.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use protocol::report::{self, Report};

use super::say;
use super::signals::Signals;
use crate::training::{Decision, EpochReport, Objective, Observer};

/// How often the file with the manager's decision is looked at within an epoch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why an observer ended a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A signal; the exit code that it asks for.
    Signal(u8),
    /// The manager said `stop`.
    Stop,
    /// The manager said `pause`.
    Pause,
    /// The granted epochs are done.
    Limit,
    /// The loss was above the cutoff that the point carries for this epoch.
    Cutoff(usize),
}

/// The observer of `evaluation run`.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) signals: Signals,
    pub(crate) objective: Objective,
    pub(crate) total_epochs: usize,
    pub(crate) epoch_limit: Option<usize>,
    pub(crate) has_checkpoints: bool,
    /// Whether somebody may go on from the checkpoint at the end.
    pub(crate) keeps_end: bool,
    /// Epochs at which the smallest loss so far must not be above a cutoff.
    pub(crate) cutoffs: Vec<(usize, f64)>,
    pub(crate) smallest_loss: f64,
    pub(crate) report_file: Option<PathBuf>,
    pub(crate) decision_file: Option<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) reason: Option<Reason>,
    /// Epochs of this attempt.
    pub(crate) seen: Vec<EpochReport>,
    pub(crate) warnings: Vec<String>,
    pub(crate) epochs_done: usize,
    pub(crate) looked: Instant,
    pub(crate) pace: Pace,
}

/// Decides when the next checkpoint is due, so that writing them never takes much of the time.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// When the latest checkpoint was begun, or training was.
    begun: Instant,
    /// What writing it took, once that is known.
    cost: Option<Duration>,
}

impl Pace {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            begun: Instant::now(),
            cost: Some(Duration::ZERO),
        }
    }

    /// Called when training goes on: what has passed since a checkpoint was begun is what it took.
    fn go_on(&mut self) {
        self.cost.get_or_insert_with(|| self.begun.elapsed());
    }

    fn is_due(&mut self) -> bool {
        let wait = if self.interval.is_zero() {
            Duration::ZERO
        } else {
            self.interval.max(self.cost.unwrap_or_default() * 20)
        };
        let due = self.begun.elapsed() >= wait;
        if due {
            self.begun = Instant::now();
            self.cost = None;
        }
        due
    }
}

impl Watcher {
    /// Says a warning and keeps it for the metadata.
    pub(crate) fn warn(&mut self, message: &str) {
        say(&format!("warning: {message}"));
        self.warnings.push(message.to_owned());
    }

    fn end(&mut self, reason: Reason) -> Decision {
        self.reason = Some(reason);
        match reason {
            Reason::Stop | Reason::Cutoff(_) => Decision::Stop,
            Reason::Limit if !self.keeps_end => Decision::Stop,
            _ if self.has_checkpoints => Decision::CheckpointAndStop,
            _ => Decision::Stop,
        }
    }

    fn signal(&mut self) -> Option<Decision> {
        let code = self.signals.asked()?;
        Some(self.end(Reason::Signal(code)))
    }

    fn decision(&mut self) -> Option<Decision> {
        self.looked = Instant::now();
        let text = std::fs::read_to_string(self.decision_file.as_ref()?).ok()?;
        match text.parse() {
            Ok(report::Decision::Stop) => Some(self.end(Reason::Stop)),
            Ok(report::Decision::Pause) => Some(self.end(Reason::Pause)),
            // A file that is just being written has no word yet.
            Ok(report::Decision::Continue) | Err(_) => None,
        }
    }

    fn limit(&mut self) -> Option<Decision> {
        let reached = self.epoch_limit.is_some_and(|limit| self.epochs_done >= limit);
        reached.then(|| self.end(Reason::Limit))
    }

    fn cutoff(&mut self) -> Option<Decision> {
        let epoch = self.epochs_done;
        let is_above = |(at, cutoff): &(usize, f64)| *at == epoch && self.smallest_loss > *cutoff;
        self.cutoffs
            .iter()
            .any(is_above)
            .then(|| self.end(Reason::Cutoff(epoch)))
    }

    fn take_note(&mut self, report: &EpochReport) {
        self.epochs_done = report.epoch;
        self.smallest_loss = self.smallest_loss.min(self.objective.loss(&report.validation));
    }

    fn report(&mut self, report: &EpochReport) {
        let Some(path) = self.report_file.clone() else { return };
        let loss = self.objective.loss(&report.validation);
        let mut metrics: std::collections::BTreeMap<String, f64> = report
            .validation
            .0
            .iter()
            .map(|(metric, value)| (metric.series().into_owned(), *value))
            .filter(|(_, value)| value.is_finite())
            .collect();
        metrics.insert("train_loss".to_owned(), report.train_loss);
        let line = Report {
            epoch: report.epoch as u64,
            loss: loss.is_finite().then_some(loss),
            metrics,
        };
        let mut text = serde_json::to_string(&line).expect("a report always serialises");
        text.push('\n');
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            self.warn(&format!("cannot append to report file `{}`: {error}", path.display()));
            self.report_file = None;
        }
    }
}

impl Observer for Watcher {
    fn epoch(&mut self, report: &EpochReport) -> Decision {
        self.take_note(report);
        self.seen.push(report.clone());
        if !self.quiet {
            say(&line(report, self.total_epochs));
        }
        self.report(report);
        self.signal()
            .or_else(|| self.limit())
            .or_else(|| self.cutoff())
            .or_else(|| self.decision())
            .unwrap_or(Decision::Continue)
    }

    fn poll(&mut self) -> Decision {
        self.pace.go_on();
        if let Some(decision) = self.signal() {
            return decision;
        }
        if self.epoch_limit.is_some_and(|limit| self.epochs_done >= limit) {
            self.reason = Some(Reason::Limit);
            return Decision::Stop;
        }
        if self.decision_file.is_some() && self.looked.elapsed() >= LOOK_EVERY {
            return self.decision().unwrap_or(Decision::Continue);
        }
        Decision::Continue
    }

    fn checkpoint_due(&mut self) -> bool {
        self.pace.is_due()
    }

    fn resumed(&mut self, reports: &[EpochReport]) {
        for report in reports {
            self.take_note(report);
        }
        say(&format!("resuming after epoch {} from the checkpoint", reports.len()));
    }

    fn inherited(&mut self, epochs: usize) {
        say(&format!("begins with weights after {epochs} epochs on less data"));
    }

    fn keeps_end(&self) -> bool {
        self.keeps_end
    }

    fn warning(&mut self, message: &str) {
        self.warn(message);
    }
}

/// One epoch for people.
fn line(report: &EpochReport, total: usize) -> String {
    let mut text = format!("epoch {}/{total}  train_loss {:.6}", report.epoch, report.train_loss);
    for (metric, value) in &report.validation.0 {
        let _ = write!(text, "  {} {value:.6}", metric.series());
    }
    text + &format!("  learning_rate {:.3e}  {:.2} s", report.learning_rate, report.seconds)
}
