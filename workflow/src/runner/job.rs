//! One job of a batch system, or one task of an allocation: it carries out its attempts, or takes some from a queue.
//!
//! `hpo runner --job <batch>` is what the batch script consists of, so the signals of the batch system come here. Each attempt has
//! a runner of its own, a child of this process, which hands the signals on. An attempt belongs to whoever claims it, so it does no
//! harm that an entry of the queue is seen twice, or that a batch was submitted twice.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal};

use super::batch::{Assignment, BATCH, Batch, ELEMENT, Element, Work, note_restarts, restarts};
use super::order::{Order, RunnerResult, read_claim, read_result};
use super::supervise::Signals;
use crate::backend::{MARK, time_left};
use crate::host::{host_name, kill_marked};
use crate::state::{AttemptEnd, PointId};
use crate::task::Shares;

/// Between two looks into an empty queue.
const LOOK: Duration = Duration::from_millis(200);
/// A pilot without work ends after this.
const IDLE: Duration = Duration::from_mins(2);

/// The whole life of a job.
pub(super) fn run(directory: &Path) -> io::Result<()> {
    let begin = Instant::now();
    let batch = Batch::read(directory)?;
    let name = directory.file_name().and_then(|name| name.to_str());
    let element = Element {
        batch: name.and_then(|name| name.parse().ok()).unwrap_or(0),
        index: index(),
    };
    let restarts = restarts();
    if restarts > 0 {
        // Without it an attempt of an earlier start may be taken for one that failed, no more.
        let _ = note_restarts(directory, element.index, restarts);
    }
    let deadline = end_of_job(begin, &batch);
    let mut crew = Crew {
        directory,
        element,
        shares: batch.shares.clone(),
        warned_at: deadline.map(|at| at.checked_sub(batch.warning).unwrap_or(begin)),
        runners: BTreeMap::new(),
        signals: Signals::install()?,
        stopping: 0,
        longest: 0.0,
    };
    if let Some(shares) = &mut crew.shares
        && shares.look().is_err()
    {
        // GPUs of another make, or named in another way: whatever Slurm has set is passed on as it is.
        shares.leave_gpus();
    }
    match batch.work {
        Work::Attempts(jobs) => {
            let own = jobs.into_iter().nth(element.index as usize).unwrap_or_default();
            for assignment in own {
                crew.start(&assignment)?;
            }
            while !crew.runners.is_empty() {
                crew.turn(Duration::from_mins(1))?;
            }
            Ok(())
        }
        Work::Pilots {
            queue, side_by_side, ..
        } => crew.fly(&queue, side_by_side.max(1) as usize, crew.warned_at),
    }
}

/// The number of this job in its batch.
fn index() -> u32 {
    let names = ["SLURM_ARRAY_TASK_ID", "SLURM_PROCID"];
    let mut found = names.iter().filter_map(|name| std::env::var(name).ok()?.parse().ok());
    found.next().unwrap_or(0)
}

/// When Slurm will end this job, where that is known.
fn end_of_job(begin: Instant, batch: &Batch) -> Option<Instant> {
    let told = std::env::var("SLURM_JOB_END_TIME").ok();
    let told: Option<u64> = told.and_then(|text| text.parse().ok());
    let left = told.and_then(|end| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        end.checked_sub(now).map(Duration::from_secs)
    });
    let left = left.or(batch.limit).or_else(|| match batch.work {
        // Who takes one attempt after another has to know when to stop.
        Work::Pilots { .. } => time_left(&std::env::var("SLURM_JOB_ID").ok()?),
        Work::Attempts(_) => None,
    });
    left.map(|left| begin + left)
}

#[derive(Debug)]
struct Running {
    child: Child,
    directory: PathBuf,
    begin: Instant,
}

#[derive(Debug)]
struct Crew<'a> {
    directory: &'a Path,
    element: Element,
    shares: Option<Shares>,
    /// When Slurm asks this job to end because of its time limit.
    warned_at: Option<Instant>,
    /// By the share of the job that each has.
    runners: BTreeMap<u32, Running>,
    signals: Signals,
    /// How often this job was asked to end.
    stopping: u32,
    /// Seconds of the longest evaluation here.
    longest: f64,
}

impl Crew<'_> {
    fn start(&mut self, assignment: &Assignment) -> io::Result<()> {
        let taken = self.runners.len() as u32;
        let slot = (0..=taken)
            .find(|slot| !self.runners.contains_key(slot))
            .unwrap_or(taken);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(super::SUBCOMMAND).arg(&assignment.directory);
        command.env(ELEMENT, self.element.to_text());
        if let Some(at) = self.warned_at {
            let left = at.saturating_duration_since(Instant::now()).as_secs();
            command.env(super::WARNED_AFTER, left.to_string());
        }
        if let Some(shares) = &self.shares {
            command.envs(shares.variables(slot));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let running = Running {
            child: command.spawn()?,
            directory: assignment.directory.clone(),
            begin: Instant::now(),
        };
        self.runners.insert(slot, running);
        Ok(())
    }

    /// Waits for something to happen, at most so long, and deals with it.
    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        self.signals.wait(wait)?;
        if self.signals.take_checkpoint() {
            self.tell(Signal::USR1);
        }
        if self.signals.take_stop() {
            self.stopping += 1;
            self.tell(Signal::TERM);
        }
        let mut ended = Vec::new();
        for (slot, running) in &mut self.runners {
            if !matches!(running.child.try_wait(), Ok(None)) {
                ended.push(*slot);
            }
        }
        for running in ended
            .iter()
            .filter_map(|slot| self.runners.remove(slot))
            .collect::<Vec<_>>()
        {
            self.longest = self.longest.max(running.begin.elapsed().as_secs_f64());
            Crew::conclude(&running);
        }
        Ok(())
    }

    fn tell(&self, signal: Signal) {
        for running in self.runners.values() {
            let _ = rustix::process::kill_process(Pid::from_child(&running.child), signal);
        }
    }

    /// Speaks for a runner that was itself killed.
    fn conclude(running: &Running) {
        let own = read_claim(&running.directory)
            .is_some_and(|claim| claim.pid == running.child.id() as i32 && claim.host == host_name());
        if !own || read_result(&running.directory).is_some() {
            return;
        }
        super::clean_up(&running.directory);
        if let Some(directory) = running.directory.to_str() {
            kill_marked(MARK, directory);
        }
        let Ok(order) = Order::read(&running.directory) else {
            return;
        };
        let result = RunnerResult {
            task: order.task.clone(),
            point: order.point,
            attempt: order.attempt,
            end: AttemptEnd::Lost {
                reason: format!("its runner on node `{}` was killed", host_name()),
            },
            seconds: running.begin.elapsed().as_secs_f64(),
            warnings: Vec::new(),
            at_time_limit: false,
        };
        // The manager finds out by itself, only later.
        let _ = super::leave(&running.directory, &order, &result);
    }

    /// Takes attempts from the queue until there is no more work, or no time for it.
    fn fly(&mut self, queue: &Path, side_by_side: usize, until: Option<Instant>) -> io::Result<()> {
        // The manager removes what it does not need any more.
        let needed = self.directory.join(BATCH);
        let mut idle_since = Instant::now();
        loop {
            let is_over = self.stopping > 0 || !needed.exists() || until.is_some_and(|until| Instant::now() >= until);
            let mut left_out = false;
            while !is_over && self.runners.len() < side_by_side {
                match take(queue, self.element, |work| self.fits(work, until)) {
                    Taken::Work(assignment) => self.start(&assignment)?,
                    Taken::Nothing => break,
                    Taken::TooLong => {
                        left_out = true;
                        break;
                    }
                }
            }
            if !self.runners.is_empty() {
                idle_since = Instant::now();
            } else if is_over || left_out || idle_since.elapsed() > IDLE {
                return Ok(());
            }
            let is_full = is_over || self.runners.len() >= side_by_side;
            self.turn(if is_full { Duration::from_secs(1) } else { LOOK })?;
        }
    }

    /// Whether there is time for it. Who knows nothing of it tries.
    fn fits(&self, work: &Assignment, until: Option<Instant>) -> bool {
        let needed = work.seconds.map_or(self.longest, f64::from);
        until.is_none_or(|until| until.saturating_duration_since(Instant::now()).as_secs_f64() >= needed)
    }
}

enum Taken {
    Work(Assignment),
    Nothing,
    TooLong,
}

/// Takes the first entry of the queue that fits. Only one of several that want it gets it, and if it dies with it, the manager puts
/// the entry there again.
fn take(queue: &Path, element: Element, fits: impl Fn(&Assignment) -> bool) -> Taken {
    let entries = fs::read_dir(queue).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let mut left_out = false;
    for name in names {
        let path = queue.join(&name);
        let read = || -> Option<Assignment> { serde_json::from_slice(&fs::read(&path).ok()?).ok() };
        let Some(assignment) = read() else { continue };
        if !fits(&assignment) {
            left_out = true;
            continue;
        }
        let own = queue.join(format!(".{name}.{}-{}", element.batch, element.index));
        if fs::rename(&path, &own).is_ok() {
            let _ = fs::remove_file(&own);
            return Taken::Work(assignment);
        }
    }
    if left_out { Taken::TooLong } else { Taken::Nothing }
}

/// Puts an attempt into the queue; entries are taken in the order of their numbers.
pub(crate) fn enqueue(queue: &Path, number: u64, assignment: &Assignment) -> io::Result<()> {
    let name = format!("{number:012}-{}-{}", assignment.point, assignment.attempt);
    let text = serde_json::to_vec(assignment)?;
    crate::files::write_whole(&queue.join(name), &text, crate::files::Durability::Crash)
}

/// Attempts that wait in the queue.
pub(crate) fn queued(queue: &Path) -> Vec<crate::state::AttemptKey> {
    let entries = fs::read_dir(queue).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let keys = names.filter_map(|name| {
        let mut parts = name.split('-').skip(1).map(str::parse::<u32>);
        Some(crate::state::AttemptKey {
            point: PointId(parts.next()?.ok()?),
            attempt: parts.next()?.ok()?,
        })
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::AttemptKey;

    #[test]
    fn the_queue_is_taken_in_order_and_each_entry_once() {
        let queue = tempfile::tempdir().unwrap();
        for point in [1, 2, 3] {
            let assignment = Assignment {
                point,
                attempt: 1,
                directory: PathBuf::from("x"),
                seconds: Some(10 * point),
            };
            enqueue(queue.path(), u64::from(4 - point), &assignment).unwrap();
        }
        let key = |point| AttemptKey {
            point: PointId(point),
            attempt: 1,
        };
        let mut waiting = queued(queue.path());
        waiting.sort();
        assert_eq!(waiting, [key(1), key(2), key(3)]);
        let element = Element { batch: 1, index: 0 };
        let next = |most: u32| match take(queue.path(), element, |work| work.seconds.unwrap() <= most) {
            Taken::Work(assignment) => Some(assignment.point),
            Taken::Nothing => None,
            Taken::TooLong => Some(0),
        };
        // Point 3 came first, and is passed over where there is no time for it.
        assert_eq!((next(20), next(20), next(20)), (Some(2), Some(1), Some(0)));
        assert_eq!((next(30), next(30)), (Some(3), None));
    }
}
