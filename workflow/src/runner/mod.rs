//! The process that carries out one attempt and outlives the manager.
//!
//! `hpo runner <directory>` claims the attempt by creating a file exclusively, builds the work directory, runs the payload,
//! saves checkpoints, interprets what the payload wrote, and leaves `result.json`. The manager may be killed and started again
//! meanwhile; it finds the claim while the runner lives, and the result afterwards.

mod batch;
mod course;
mod crew;
mod fence;
mod group;
mod job;
mod log;
mod order;
mod outcome;
mod plain;
mod steering;
mod supervise;
mod work_directory;

pub(crate) use batch::{Assignment, Batch, Element, EndRequest, Work, key_of, mark_of, read_restarts};
pub(crate) use course::Intervention;
pub(crate) use crew::{MESSAGE, attempt_of, message_of};
pub(crate) use group::group_support;
pub(crate) use job::{enqueue, queued};
pub(crate) use order::{
    CheckpointOrder, Claimant, MetricsOrder, Order, RunnerResult, read_claim, read_claimant, read_claimed_restarts,
    read_result, revoke,
};
pub(crate) use steering::read_end;
pub(crate) use supervise::{Exit, Launch, last_line};

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checkpoint::{Restored, Saver, restore, seal, take_over};
use crate::files::{self, Durability};
use crate::host::ProcessIdentity;
use crate::state::{AttemptEnd, AttemptKey};
use fence::Fence;
use order::Ticket;
use supervise::{Periodic, Signals, supervise};

/// The first argument that makes `hpo` a runner.
pub(crate) const SUBCOMMAND: &str = "runner";
/// The second argument of a runner of steering.
pub(crate) const STEERING: &str = "--steering";

/// The second argument of a job of a batch system.
pub(crate) const JOB: &str = "--job";
/// Tells a runner the seconds after which its job is asked to end because of its time limit.
const WARNED_AFTER: &str = "HPO_JOB_WARNED_AFTER";
/// Slurm warns up to a minute early.
const EARLY: Duration = Duration::from_secs(65);
/// The second argument of a runner that carries out several attempts.
pub(crate) const CREW: &str = "--crew";

/// The whole life of a runner; returns the exit code.
///
/// Kept apart from the command line parser: it is started once for every attempt and has to be quick.
pub(crate) fn main(arguments: &[std::ffi::OsString]) -> u8 {
    let done = match arguments {
        [directory] => evaluate(Path::new(directory)),
        [flag, directory] if flag == STEERING => steering::run(Path::new(directory)),
        [flag, directory] if flag == JOB => job::run(Path::new(directory)),
        [flag, directory] if flag == CREW => begin().and_then(|signals| crew::serve(Path::new(directory), &signals)),
        _ => Err(std::io::Error::other("expected a directory")),
    };
    match done {
        Ok(()) => protocol::exit::DONE,
        Err(error) => {
            // A batch system keeps what its jobs say; elsewhere nobody hears it.
            let _ = std::io::stderr().write_all(format!("hpo runner: {error}\n").as_bytes());
            if arguments.first().is_none_or(|flag| flag != CREW) {
                complain(&arguments.last().map(PathBuf::from).unwrap_or_default(), &error);
            }
            protocol::exit::INFRASTRUCTURE
        }
    }
}

/// Notes beside an attempt why its runner could not do its work.
fn complain(directory: &Path, error: &std::io::Error) {
    let line = format!("hpo runner: {error}\n");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("runner.log"));
    let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
}

/// Removes what a runner that was itself killed has left out of reach of signals.
pub(crate) fn clean_up(directory: &Path) {
    if let Some(cleaning) = Order::read(directory).ok().and_then(|order| order.launch.afterwards) {
        supervise::run_afterwards(&cleaning);
    }
}

fn evaluate(directory: &Path) -> std::io::Result<()> {
    carry_out(directory, &begin()?, &mut None)
}

/// Makes this process one that outlives its manager and buries what it starts.
fn begin() -> std::io::Result<Signals> {
    // Away from the manager's terminal and its Ctrl-C. Fails only for a leader of a group, which a child of ours is not.
    let _ = rustix::process::setsid();
    let signals = Signals::install()?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    Ok(signals)
}

/// Claims an attempt, carries it out and leaves its result.
fn carry_out(directory: &Path, signals: &Signals, ticket: &mut Option<Ticket>) -> std::io::Result<()> {
    let order = Order::read(directory)?;
    if order.ended.is_some() {
        signals.take_as_one_within(ONE_REQUEST);
    }
    if !claim(directory, ticket)? {
        return Ok(());
    }
    let begin = Instant::now();
    let mut warnings = Vec::new();
    let mut fence = order.ended.is_some().then(|| Fence::new(directory.to_owned()));
    let end = attempt(directory, &order, signals, &mut fence, &mut warnings);
    if fence.is_some_and(|fence| fence.is_revoked()) {
        return Ok(());
    }
    let warned = std::env::var(WARNED_AFTER).ok().and_then(|text| text.parse().ok());
    let warned = warned.is_some_and(|seconds| begin.elapsed() + EARLY >= Duration::from_secs(seconds));
    let result = RunnerResult {
        task: order.task.clone(),
        point: order.point,
        attempt: order.attempt,
        at_time_limit: warned && end == AttemptEnd::Stopped,
        end,
        seconds: begin.elapsed().as_secs_f64(),
        warnings,
    };
    loop {
        match leave(directory, &order, &result) {
            // A result may have taken days: it waits for room as long as there is hope.
            Err(error) if is_full(&error) && !signals.take_stop() => std::thread::sleep(FULL_DISK_PAUSE),
            done => return done,
        }
    }
}

fn claim(directory: &Path, ticket: &mut Option<Ticket>) -> std::io::Result<bool> {
    if let Some(own) = ticket {
        match own.claim(directory) {
            Ok(won) => return Ok(won),
            // It has as many names as a file can have, or lost the last one.
            Err(_) => *ticket = Ticket::new(directory),
        }
    }
    order::claim(directory, &ProcessIdentity::current(), Element::from_environment())
}

/// Leaves the result for the manager.
fn leave(directory: &Path, order: &Order, result: &RunnerResult) -> std::io::Result<()> {
    let text = serde_json::to_vec(result)?;
    // What the journal will say is made durable there; before that, a power cut makes the attempt lost.
    files::write_whole(&directory.join("result.json"), &text, Durability::Crash)?;
    if let Some(ended) = &order.ended {
        // Only a hint: the manager finds the result without it, but later.
        let key = AttemptKey {
            point: order.point,
            attempt: order.attempt,
        };
        let _ = std::fs::write(ended.join(mark_of(key)), b"");
    }
    Ok(())
}

/// A batch system sends its request to end to all processes of a job, and the job hands on its own.
const ONE_REQUEST: Duration = Duration::from_secs(5);

/// Whether the end of a payload is that of its job: who asks a job to end may ask the payload first.
fn ends_with_its_job(exit: Exit, signals: &Signals) -> bool {
    let looks_like_it = match exit {
        Exit::Code(0) => return false,
        // As shells tell it of their children.
        Exit::Code(code) => code > 128,
        Exit::Signal(_) => true,
    };
    let begin = Instant::now();
    while !signals.take_stop() {
        let left = ONE_MOMENT.saturating_sub(begin.elapsed());
        if !looks_like_it || left.is_zero() || signals.wait(left).is_err() {
            return false;
        }
    }
    true
}

/// Between the signals that a batch system sends to the processes of a job.
const ONE_MOMENT: Duration = Duration::from_secs(1);

/// Between two attempts to write to a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}

fn attempt(
    directory: &Path,
    order: &Order,
    signals: &Signals,
    fence: &mut Option<Fence>,
    warnings: &mut Vec<String>,
) -> AttemptEnd {
    let lost = |error: &dyn std::fmt::Display| AttemptEnd::Lost {
        reason: error.to_string(),
    };
    let mut saver = order.checkpoint.as_ref().map(|settings| {
        Saver::new(
            &order.launch.work_directory,
            &order.checkpoints,
            &settings.paths,
            settings.largest,
            settings.interval,
        )
        .adapting(settings.mean_time_to_failure)
    });
    if let Some(source) = &order.source {
        match take_over(source, &order.checkpoints) {
            Ok(true) => {
                let crate::checkpoint::Label { point, epochs, .. } = &source.label;
                warnings.push(format!(
                    "goes on from the checkpoint of point {point} after {epochs} epochs"
                ));
            }
            Ok(false) => {}
            Err(reason) => warnings.push(reason),
        }
    }
    let restore_into = |work: &Path| {
        let Some(settings) = &order.checkpoint else {
            return Restored::default();
        };
        let from = |store: &Path| restore(store, work, settings.load_as.as_deref(), settings.largest);
        let mut restored = from(&order.checkpoints);
        if let (None, Some(source)) = (restored.generation, &order.source) {
            let other = from(&source.store);
            restored.generation = other.generation;
            restored.warnings.extend(other.warnings);
        }
        restored
    };
    match work_directory::build(order, &restore_into) {
        Ok(restored) => {
            warnings.extend(restored.warnings);
            if let Some(generation) = restored.generation {
                warnings.push(format!("continues from checkpoint {generation}"));
            }
        }
        Err(error) => return lost(&format!("work directory: {error}")),
    }
    if signals.take_stop() {
        return AttemptEnd::Stopped;
    }
    let mut periodic = Periods {
        saver: saver.as_mut(),
        fence: fence.as_mut(),
    };
    let mut ended = match supervise(&order.launch, signals, &mut periodic) {
        Ok(ended) => ended,
        Err(error) => return lost(&format!("`/bin/sh` cannot be started: {error}")),
    };
    if order.ended.is_some() && ended.intervention == Intervention::None && ends_with_its_job(ended.exit, signals) {
        ended.intervention = Intervention::Stopped;
    }
    let is_revoked = fence.as_ref().is_some_and(Fence::is_revoked);
    if let Some(saver) = saver.as_mut().filter(|_| !is_revoked) {
        // A point that is done needs no checkpoint any more, unless others may go on from it; every other end may be followed by
        // another attempt.
        if ended.exit == Exit::Code(0) && ended.intervention == Intervention::None && order.keep.is_none() {
            saver.collect();
        } else {
            saver.finish();
        }
        warnings.append(&mut saver.warnings);
    }
    if ended.survivors > 0 {
        warnings.push(format!(
            "{} processes of the evaluation could not be killed",
            ended.survivors
        ));
    }
    match outcome::interpret(directory, order, ended, warnings) {
        // A payload that could not write what it had to write is not to blame for it.
        AttemptEnd::Failed { reason } if files::room(directory).is_some_and(|room| room < LITTLE_ROOM) => {
            AttemptEnd::Lost {
                reason: format!("the disk is full; {reason}"),
            }
        }
        end => {
            if let (AttemptEnd::Done { .. }, Some(label)) = (&end, &order.keep)
                && let Err(error) = seal(&order.checkpoints, label)
            {
                warnings.push(format!("its checkpoint is not kept for other points: {error}"));
            }
            end
        }
    }
}

/// Below this many free bytes a failure is put down to the disk.
const LITTLE_ROOM: u64 = 256 << 10;

struct Periods<'a> {
    saver: Option<&'a mut Saver>,
    fence: Option<&'a mut Fence>,
}

impl Periodic for Periods<'_> {
    fn due(&self) -> Option<Instant> {
        let saving = self.saver.as_ref().map(|saver| saver.due());
        let looking = self.fence.as_ref().map(|fence| fence.due());
        saving.into_iter().chain(looking).min()
    }
    fn run(&mut self) {
        let mut looked = false;
        if let Some(fence) = &mut self.fence {
            looked = Instant::now() >= fence.due();
            fence.look();
            if looked && fence.is_revoked() {
                return;
            }
        }
        if let Some(saver) = &mut self.saver
            && (!looked || Instant::now() >= saver.due())
        {
            saver.begin();
        }
    }
}
