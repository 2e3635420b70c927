//! One manager at work on one task.
//!
//! Each turn: what ended is taken in, what follows from it is decided, all of it is committed as one group, and only then acted
//! upon and shown. Between turns the manager sleeps until a runner ends, a signal comes, or a second has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use ::steering::schedulers::Scheduler;

use super::steering::{Answer, Context, SteeringRun};
use super::watch::{Heard, Reply};
use super::{keeping, plan};
use crate::backend::{Backend, Job};
use crate::journal::{Journal, WriteError};
use crate::state::{AttemptKey, Event, NewPoint, PointId, State};
use crate::task::{Request, Settings, Task, TaskDirectory};

/// Points of one journal record; a point has at most 3,500 bytes, a record at most a mebibyte.
const POINTS_PER_RECORD: usize = 200;
/// Most letters of what is wrong with an answer of steering.
const LONGEST_REASON: usize = 4000;
/// Longest sleep between two turns.
const TICK: Duration = Duration::from_secs(1);
/// Longest sleep while evaluations wait to hear what becomes of them, and the shortest, after a report, while only few run: who has
/// reported may wait for the answer, and report again soon.
const LISTENING: Duration = Duration::from_millis(100);
const HEARING: Duration = Duration::from_millis(10);
/// Between two turns while enough short evaluations wait for a slot: what ends meanwhile is one commit, and takes less of the
/// machine from those that run.
const GATHERING: Duration = Duration::from_millis(10);
/// How many are few: each costs a look at a file.
const FEW: usize = 32;
/// Between two writings of `results.json`, at least.
const RESULTS_PAUSE: Duration = Duration::from_secs(5);
/// Between two attempts to write to a full disk.
pub(super) const FULL_DISK_PAUSE: Duration = Duration::from_secs(2);

/// Why the manager had to stop.
#[derive(Debug, Error)]
pub(crate) enum CoordinatorError {
    #[error(transparent)]
    Journal(#[from] WriteError),
    #[error("the manager cannot wait for its runners: {0}")]
    Wait(io::Error),
}

/// How the manager's work on a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The task is over; its state says how.
    Over,
    /// The user interrupted; the task can be resumed.
    Interrupted,
}

/// Is told what happens, after it is in the journal.
pub(crate) trait Observer {
    /// Something happened to the task.
    fn event(&mut self, event: &Event, state: &State);
    /// A remark for the user.
    fn note(&mut self, text: &str);
    /// Called once a turn.
    fn tick(&mut self, state: &State);
}

/// The manager.
pub(crate) struct Coordinator<'a> {
    pub(crate) directory: &'a TaskDirectory,
    pub(crate) task: &'a Task,
    pub(crate) settings: &'a Settings,
    /// Decides about running evaluations, where that is asked for.
    pub(crate) scheduler: Option<Box<dyn Scheduler>>,
    pub(crate) state: State,
    pub(crate) journal: Journal,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) executable: PathBuf,
    /// `PATH` of steering and payloads.
    pub(crate) path: String,
    /// How often the user asked to stop.
    pub(crate) interrupts: Arc<AtomicUsize>,
    /// Becomes readable with every signal.
    pub(crate) waker: std::os::unix::net::UnixStream,
    /// Attempts on other hosts are given up.
    pub(crate) take_over: bool,
    pub(crate) flow: Flow,
}

/// What the manager remembers between turns and may forget.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    steering: Option<SteeringRun>,
    /// After steering could not be started for want of something that may come back: when to try again, and how often that was.
    steering_hold: Option<Instant>,
    steering_refusals: u32,
    /// When the last sleep ended.
    woken: Option<Instant>,
    /// What the user wants, at the last look.
    pub(super) request: Option<Request>,
    batch: Vec<Event>,
    pub(super) notes: Vec<String>,
    /// Requests to end that running attempts have been sent.
    pub(super) cancelled: usize,
    /// After losses through no fault of the payload: when to try again, and how many there were in a row.
    pub(super) hold: Option<Instant>,
    pub(super) lost_in_a_row: u32,
    /// Seconds that evaluations take, those of late counting most.
    pub(super) mean_seconds: Option<f64>,
    /// Attempts on other hosts at the last look.
    pub(super) elsewhere: usize,
    /// When `results.json` is to be written next.
    results_due: Option<Instant>,
    pub(super) told_full: bool,
    pub(super) heard: BTreeMap<AttemptKey, Heard>,
    pub(super) replies: Vec<Reply>,
    /// Whether there was a report since the last sleep, and how long that was.
    pub(super) has_heard: bool,
    pub(super) listening: Duration,
    /// Points of a scheduler that may have checkpoints on the disk; `None` before the first look.
    pub(super) stored: Option<BTreeSet<PointId>>,
}

impl std::fmt::Debug for Coordinator<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator")
            .field("task", &self.task.name)
            .field("flow", &self.flow)
            .finish_non_exhaustive()
    }
}

impl Coordinator<'_> {
    /// Works until the task is over or the user interrupts.
    ///
    /// # Errors
    /// When the journal cannot be written any more. Running attempts go on; the next start finds them.
    pub(crate) fn run(&mut self) -> Result<Halt, CoordinatorError> {
        if self.state.end.is_some() {
            return Ok(Halt::Over);
        }
        loop {
            self.watch();
            self.collect_attempts();
            self.collect_steering();
            let interrupted = self.interrupts.load(Ordering::Relaxed);
            let request = self.directory.request();
            self.flow.request = request;
            let mut starts = Vec::new();
            if interrupted > 0 || request.is_some_and(Request::ends_evaluations) {
                self.wind_down(interrupted.max(1));
            } else if request.is_some() {
                self.abandon_steering();
            } else {
                self.decide_starts(&mut starts);
                let segments = self.task.segment_ids();
                if self.flow.steering.is_none()
                    && let Some(end) = plan::end(&self.state, self.settings, &segments)
                {
                    self.push(Event::Ended { end, time: now() });
                }
            }
            if let Some(end) = request.and_then(|request| plan::end_on_request(&self.state, request)) {
                self.push(Event::Ended { end, time: now() });
            }
            let has_ended = self.flow.batch.iter().any(Event::is_an_end);
            self.commit()?;
            self.reply();
            if has_ended || self.flow.stored.is_none() {
                self.discard_checkpoints();
            }
            self.submit(&starts);
            if self.state.end.is_some() {
                self.directory.withdraw_request();
                return Ok(Halt::Over);
            }
            // What runs on other hosts cannot be asked to end; it is left to a manager there.
            let leaves = interrupted > 0 || request == Some(Request::Pause);
            if leaves && self.state.running.len() <= self.flow.elsewhere {
                return Ok(Halt::Interrupted);
            }
            if interrupted == 0 && request.is_none() && !self.may_start_at_once() {
                self.start_steering()?;
            }
            self.observer.tick(&self.state);
            self.write_results(false);
            if !self.flow.batch.is_empty() || self.may_start_at_once() {
                continue;
            }
            self.wait()?;
        }
    }

    /// Leaves running attempts to the next manager, if there are any.
    pub(crate) fn leave(&mut self) {
        let jobs: Vec<Job> = self.state.running.iter().map(|key| self.job(*key)).collect();
        self.backend.close(&jobs);
    }

    /// Applies an event and puts it into the group to be committed.
    pub(super) fn push(&mut self, event: Event) {
        self.state.apply(&event).expect("the manager makes legal events only");
        self.flow.batch.push(event);
    }

    fn commit(&mut self) -> Result<(), CoordinatorError> {
        if !self.flow.batch.is_empty() {
            let text = |event: &Event| serde_json::to_string(event).expect("events are plain data");
            let mut told = false;
            loop {
                match self.journal.commit_each(self.flow.batch.iter().map(text)) {
                    Ok(()) => break,
                    // Running attempts go on meanwhile, and nothing that was not committed is acted upon.
                    Err(WriteError::Full { path }) if self.interrupts.load(Ordering::Relaxed) < 2 => {
                        if !told {
                            let path = path.display();
                            self.observer.note(&format!(
                                "no space left for the journal `{path}`; nothing new is started until there is, running evaluations go on"
                            ));
                            told = true;
                        }
                        std::thread::sleep(FULL_DISK_PAUSE);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            for event in std::mem::take(&mut self.flow.batch) {
                self.observer.event(&event, &self.state);
            }
        }
        for note in std::mem::take(&mut self.flow.notes) {
            self.observer.note(&note);
        }
        Ok(())
    }

    pub(super) fn job(&self, key: AttemptKey) -> Job {
        Job {
            key,
            directory: self.directory.attempt(key),
            seconds: None,
        }
    }

    /// Removes the checkpoints that nobody can go on from any more.
    fn discard_checkpoints(&mut self) {
        let stored = self.flow.stored.get_or_insert_with(|| {
            let mut stored = self.directory.stored_checkpoints();
            stored.retain(|id| self.state.point(*id).is_some_and(keeping::is_scheduled));
            stored
        });
        for id in keeping::unreachable(&self.state, self.settings.schedule.as_ref(), stored) {
            // What stays costs room and nothing else.
            let _ = std::fs::remove_dir_all(self.directory.checkpoints(id));
            stored.remove(&id);
        }
    }

    fn collect_steering(&mut self) {
        if !self.flow.steering.as_mut().is_some_and(SteeringRun::is_over) {
            return;
        }
        let Some(run) = self.flow.steering.take() else { return };
        match run.answer(self.task, self.settings, &self.state) {
            Answer::Points(points, remarks) => {
                self.flow.notes.extend(remarks);
                let (number, asked) = (run.number, run.asked);
                let mut rest = points.into_iter().peekable();
                // Of an answer without points, too, there is a record.
                loop {
                    let points: Vec<NewPoint> = rest.by_ref().take(POINTS_PER_RECORD).collect();
                    self.push(Event::Iteration { number, asked, points });
                    if rest.peek().is_none() {
                        break;
                    }
                }
            }
            Answer::Failure(reason) => {
                let number = run.number;
                let reason = reason.chars().take(LONGEST_REASON).collect();
                self.push(Event::SteeringFailed { number, reason });
            }
        }
    }

    fn start_steering(&mut self) -> Result<(), CoordinatorError> {
        if self.flow.steering.is_some() || self.flow.steering_hold.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.flow.steering_hold = None;
        let segments = self.task.segment_ids();
        let Some(asked) = plan::points_to_ask(&self.state, self.settings, &segments) else {
            return Ok(());
        };
        let context = Context {
            directory: self.directory,
            task: self.task,
            settings: self.settings,
            executable: &self.executable,
            path: &self.path,
        };
        let number = self.state.iterations + 1;
        match SteeringRun::start(context, &self.state, number, asked) {
            Ok(run) => {
                self.flow.steering_refusals = 0;
                self.flow.steering = Some(run);
            }
            Err(error) if crate::files::may_pass(&error) => {
                if self.flow.steering_refusals == 0 {
                    self.observer.note(&format!(
                        "steering cannot be started now ({error}); it is tried again, running evaluations go on"
                    ));
                }
                self.flow.steering_hold = Some(Instant::now() + pause_after(self.flow.steering_refusals));
                self.flow.steering_refusals += 1;
            }
            Err(error) => {
                self.push(Event::SteeringFailed {
                    number,
                    reason: format!("it cannot be started: {error}"),
                });
                self.commit()?;
            }
        }
        Ok(())
    }

    pub(super) fn is_winding_down(&self) -> bool {
        self.interrupts.load(Ordering::Relaxed) > 0 || self.directory.request().is_some_and(Request::ends_evaluations)
    }

    fn abandon_steering(&mut self) {
        if let Some(run) = self.flow.steering.take() {
            run.abandon();
        }
    }

    /// Nothing new is started; running attempts are asked to save a checkpoint and end, and asked again to end at once.
    fn wind_down(&mut self, requests: usize) {
        self.abandon_steering();
        if self.flow.cancelled < requests {
            self.flow.cancelled = requests;
            self.ask_to_pause();
            let jobs: Vec<Job> = self.state.running.iter().map(|key| self.job(*key)).collect();
            self.backend.cancel(&jobs);
        }
    }

    fn wait(&mut self) -> Result<(), CoordinatorError> {
        let since = self.flow.woken.map_or(GATHERING, |at| at.elapsed());
        let left = GATHERING.saturating_sub(since);
        if !left.is_zero() && plan::may_gather(&self.state, self.settings) {
            let signals = std::iter::once(self.waker.as_fd());
            crate::backend::wait_for(signals, left).map_err(CoordinatorError::Wait)?;
        }
        let holds = self.flow.hold.into_iter().chain(self.flow.steering_hold);
        let hold = holds.min().map(|until| until.saturating_duration_since(Instant::now()));
        let tick = if self.scheduler.is_some() && !self.state.running.is_empty() {
            let has_heard = std::mem::take(&mut self.flow.has_heard) && self.state.running.len() <= FEW;
            self.flow.listening = if has_heard {
                HEARING
            } else {
                (self.flow.listening * 2).min(LISTENING)
            };
            self.flow.listening.max(HEARING)
        } else {
            TICK
        };
        let timeout = hold.map_or(tick, |hold| hold.min(tick));
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.waker.as_fd()];
        let steering = self.flow.steering.as_ref();
        let blind = steering.is_some_and(|run| run.descriptor.is_none());
        descriptors.extend(steering.and_then(|run| run.descriptor.as_ref()).map(AsFd::as_fd));
        let timeout = if blind {
            timeout.min(Duration::from_millis(50))
        } else {
            timeout
        };
        self.backend
            .wait(&descriptors, timeout)
            .map_err(CoordinatorError::Wait)?;
        self.flow.woken = Some(Instant::now());
        let mut buffer = [0; 64];
        while matches!(io::Read::read(&mut &self.waker, &mut buffer), Ok(count) if count > 0) {}
        Ok(())
    }

    /// Writes `results.json`, now and then and a last time.
    pub(crate) fn write_results(&mut self, last: bool) {
        let due = self.flow.results_due.is_none_or(|at| Instant::now() >= at);
        if !last && (!due || self.state.points.is_empty()) {
            return;
        }
        let begin = Instant::now();
        let durability = if last {
            crate::files::Durability::PowerCut
        } else {
            crate::files::Durability::Crash
        };
        let (task, state) = (self.task, &self.state);
        let written = crate::files::write_whole_with(&self.directory.results(), durability, &mut |file| {
            let mut buffered = io::BufWriter::new(file);
            crate::report::write_results(task, state, &mut buffered)?;
            io::Write::flush(&mut buffered)
        });
        // Of a long search it takes a while; then it is done less often.
        self.flow.results_due = Some(Instant::now() + RESULTS_PAUSE.max(begin.elapsed() * 50));
        if let Err(error) = written
            && last
        {
            self.observer.note(&format!(
                "results.json cannot be written: {error}; `hpo show` has the results"
            ));
        }
    }
}

/// Between two tries of what could not be started, after so many that failed.
pub(super) fn pause_after(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(9))
}

/// Seconds since 1970, for people only.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}
