//! Attempts as processes of this machine.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::crew::Crew;
use super::{Backend, Cause, Gone, Job, JobState};
use crate::host::{Liveness, ProcessIdentity, kill_marked};
use crate::runner::{read_claim, revoke};
use crate::state::AttemptKey;

/// Names the attempt in the environment of its payload, and so in that of all its descendants.
pub(crate) const MARK: &str = "HPO_ATTEMPT_DIRECTORY";
/// An attempt whose runners are killed so often before they have claimed it is lost.
const MOST_TIMES: u32 = 5;

/// Runners on this machine.
#[derive(Debug)]
pub(crate) struct Local {
    crew: Crew,
    /// Evaluations at a time.
    most: usize,
    attempts: HashMap<AttemptKey, Attempt>,
    /// Everybody was asked to end, and nothing new has come since.
    is_winding_down: bool,
}

#[derive(Debug)]
enum Attempt {
    /// Put into the queue of our runners, so many times: it is there, or one of them has it.
    Given { times: u32 },
    /// Taken out of their reach before any of them had it.
    Withdrawn,
    /// With a runner that an earlier manager started.
    Adopted {
        identity: ProcessIdentity,
        /// Becomes readable at its end; `None` where the kernel cannot do that.
        descriptor: Option<OwnedFd>,
    },
}

impl Local {
    /// Evaluations of the task in the directory `root`, at most so many at a time. Runners are started from this very program.
    pub(crate) fn new(executable: PathBuf, root: PathBuf, most: u32) -> Local {
        Local {
            crew: Crew::new(executable, root),
            most: most as usize,
            attempts: HashMap::new(),
            is_winding_down: false,
        }
    }

    fn look_up(&mut self, job: &Job) -> JobState {
        let Some(identity) = read_claim(&job.directory) else {
            return JobState::NotStarted;
        };
        match identity.liveness() {
            Liveness::Dead => JobState::Ended,
            Liveness::Elsewhere => JobState::Elsewhere(identity.host),
            // It may be at another attempt already, or wait for one.
            Liveness::Alive if has_result(&job.directory) => JobState::Ended,
            Liveness::Alive => {
                let descriptor = identity.descriptor();
                self.attempts.insert(job.key, Attempt::Adopted { identity, descriptor });
                JobState::Running
            }
        }
    }

    /// Where a job stands of which a runner has said that it is over: with its result, or with the runner that was there before it.
    fn after(&mut self, job: &Job) -> JobState {
        if has_result(&job.directory) {
            return JobState::Ended;
        }
        match self.look_up(job) {
            JobState::NotStarted => JobState::Ended,
            state => state,
        }
    }

    /// Where a job stands that was in the queue when a runner went away, perhaps with it.
    fn after_a_loss(&mut self, job: &Job, times: u32) -> JobState {
        if has_result(&job.directory) {
            return JobState::Ended;
        }
        match read_claim(&job.directory).map(|identity| identity.liveness()) {
            Some(Liveness::Dead) => JobState::Ended,
            Some(_) => {
                self.attempts.insert(job.key, Attempt::Given { times });
                JobState::Running
            }
            // Should it still be in the queue, the second who takes it finds it claimed.
            None if times < MOST_TIMES && self.crew.give(job.key).is_ok() => {
                self.attempts.insert(job.key, Attempt::Given { times: times + 1 });
                JobState::Running
            }
            None => JobState::Ended,
        }
    }

    fn given(&self) -> usize {
        let given = |attempt: &&Attempt| matches!(attempt, Attempt::Given { .. });
        self.attempts.values().filter(given).count()
    }

    /// Sees to it that there are runners for what is in the queue, beside those of an earlier manager.
    fn staff(&mut self, further: usize) -> io::Result<()> {
        let given = self.given();
        let others = self.attempts.len() - given;
        self.crew.staff((given + further).min(self.most.saturating_sub(others)))
    }
}

fn has_result(directory: &Path) -> bool {
    directory.join("result.json").exists()
}

impl Drop for Local {
    fn drop(&mut self) {
        let all_idle = self.given() == 0;
        self.crew.dismiss(all_idle);
    }
}

impl Backend for Local {
    fn submit(&mut self, jobs: &[Job]) -> Vec<(AttemptKey, io::Error)> {
        self.is_winding_down = false;
        if let Err(error) = self.staff(jobs.len()) {
            let failed = |job: &Job| (job.key, io::Error::new(error.kind(), error.to_string()));
            return jobs.iter().map(failed).collect();
        }
        let mut failures = Vec::new();
        for job in jobs {
            match self.crew.give(job.key) {
                Ok(()) => drop(self.attempts.insert(job.key, Attempt::Given { times: 1 })),
                Err(error) => failures.push((job.key, error)),
            }
        }
        failures
    }

    fn poll(&mut self, jobs: &[Job]) -> Vec<JobState> {
        let said = self.crew.hear();
        let mut states = Vec::with_capacity(jobs.len());
        // Whether there may be too few runners for what is in the queue.
        let mut is_short = false;
        for job in jobs {
            let is_over = said.over.contains(&job.key);
            states.push(match self.attempts.get(&job.key) {
                None => self.look_up(job),
                Some(Attempt::Given { .. }) if !is_over && !said.is_one_gone => JobState::Running,
                Some(Attempt::Given { times }) => {
                    let times = *times;
                    self.attempts.remove(&job.key);
                    if is_over {
                        self.after(job)
                    } else {
                        let state = self.after_a_loss(job, times);
                        is_short |= state == JobState::Running;
                        state
                    }
                }
                Some(Attempt::Withdrawn) => {
                    self.attempts.remove(&job.key);
                    JobState::Gone(Gone {
                        cause: Cause::Infrastructure,
                        reason: "it was given up before it began".to_owned(),
                    })
                }
                Some(Attempt::Adopted { identity, .. }) => {
                    if identity.liveness() == Liveness::Alive && !has_result(&job.directory) {
                        JobState::Running
                    } else {
                        self.attempts.remove(&job.key);
                        is_short = true;
                        self.look_up(job)
                    }
                }
            });
        }
        if is_short && !self.is_winding_down {
            // If that fails, those that are there do all of it, and each submission tries again.
            let _ = self.staff(0);
        }
        states
    }

    fn cancel(&mut self, jobs: &[Job]) {
        for job in jobs {
            match self.attempts.get_mut(&job.key) {
                // Only what nobody has taken can be taken away; who has it is asked below.
                Some(attempt @ Attempt::Given { .. }) if revoke(&job.directory).unwrap_or(false) => {
                    *attempt = Attempt::Withdrawn;
                }
                Some(Attempt::Adopted { identity, .. }) => identity.signal(Signal::TERM),
                _ => {}
            }
        }
        self.is_winding_down = true;
        self.crew.cancel();
    }

    fn sweep(&mut self, job: &Job) {
        crate::runner::clean_up(&job.directory);
        if let Some(directory) = job.directory.to_str() {
            kill_marked(MARK, directory);
        }
    }

    fn wait(&mut self, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
        let blind = self
            .attempts
            .values()
            .any(|attempt| matches!(attempt, Attempt::Adopted { descriptor: None, .. }));
        let is_known = self
            .attempts
            .values()
            .any(|attempt| matches!(attempt, Attempt::Withdrawn));
        let timeout = match (is_known, blind) {
            (true, _) => Duration::ZERO,
            (false, true) => timeout.min(Duration::from_millis(50)),
            (false, false) => timeout,
        };
        let adopted = self.attempts.values().filter_map(|attempt| match attempt {
            Attempt::Adopted { descriptor, .. } => descriptor.as_ref().map(AsFd::as_fd),
            _ => None,
        });
        super::wait_for(
            descriptors
                .iter()
                .copied()
                .chain(adopted)
                .chain(self.crew.descriptors()),
            timeout,
        )
    }
}
