//! Attempts as processes of this machine.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::crew::{Member, Said};
use super::{Backend, Job, JobState};
use crate::host::{Liveness, ProcessIdentity, kill_marked};
use crate::runner::read_claim;
use crate::state::AttemptKey;

/// Names the attempt in the environment of its payload, and so in that of all its descendants.
pub(crate) const MARK: &str = "HPO_ATTEMPT_DIRECTORY";

/// Runners on this machine.
#[derive(Debug)]
pub(crate) struct Local {
    executable: PathBuf,
    runners: HashMap<AttemptKey, Runner>,
    /// Runners of ours that wait for an attempt.
    idle: Vec<Member>,
}

#[derive(Debug)]
enum Runner {
    Own(Member),
    /// One that an earlier manager started.
    Adopted {
        identity: ProcessIdentity,
        /// Becomes readable at its end; `None` where the kernel cannot do that.
        descriptor: Option<OwnedFd>,
    },
}

impl Local {
    /// Runners are started from this very program.
    pub(crate) fn new(executable: PathBuf) -> Local {
        Local {
            executable,
            runners: HashMap::new(),
            idle: Vec::new(),
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
                self.runners.insert(job.key, Runner::Adopted { identity, descriptor });
                JobState::Running
            }
        }
    }

    /// Where a job stands whose runner has said that it is over: with its result, or with the runner that was there before it.
    fn after(&mut self, job: &Job) -> JobState {
        if has_result(&job.directory) {
            return JobState::Ended;
        }
        match self.look_up(job) {
            JobState::NotStarted => JobState::Ended,
            state => state,
        }
    }

    fn start(&mut self, job: &Job) -> io::Result<()> {
        while let Some(mut member) = self.idle.pop() {
            match member.give(&job.directory) {
                Ok(()) => {
                    self.runners.insert(job.key, Runner::Own(member));
                    return Ok(());
                }
                // Somebody has killed it while it waited.
                Err(_) => member.dismiss(),
            }
        }
        let member = Member::start(&self.executable, &job.directory)?;
        self.runners.insert(job.key, Runner::Own(member));
        Ok(())
    }
}

fn has_result(directory: &Path) -> bool {
    directory.join("result.json").exists()
}

impl Drop for Local {
    fn drop(&mut self) {
        for member in self.idle.drain(..) {
            member.dismiss();
        }
    }
}

impl Backend for Local {
    fn submit(&mut self, jobs: &[Job]) -> Vec<(AttemptKey, io::Error)> {
        let failed = |job: &Job, error| (job.key, error);
        jobs.iter()
            .filter_map(|job| self.start(job).err().map(|error| failed(job, error)))
            .collect()
    }

    fn poll(&mut self, jobs: &[Job]) -> Vec<JobState> {
        let mut states = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (is_gone, is_idle) = match self.runners.get_mut(&job.key) {
                None => (true, false),
                Some(Runner::Own(member)) => match member.hear() {
                    Said::Nothing => (false, false),
                    Said::Over => (true, true),
                    Said::Gone => (true, false),
                },
                Some(Runner::Adopted { identity, .. }) => {
                    let is_over = identity.liveness() != Liveness::Alive || has_result(&job.directory);
                    (is_over, false)
                }
            };
            if !is_gone {
                states.push(JobState::Running);
                continue;
            }
            let runner = self.runners.remove(&job.key);
            let ours = runner.is_some();
            if let Some(Runner::Own(member)) = runner {
                if is_idle {
                    self.idle.push(member);
                    states.push(self.after(job));
                    continue;
                }
                member.dismiss();
            }
            // Our runner may have lost the attempt to one that an earlier manager started a moment before.
            states.push(match self.look_up(job) {
                JobState::NotStarted if ours => JobState::Ended,
                state => state,
            });
        }
        states
    }

    fn cancel(&mut self, jobs: &[Job]) {
        for job in jobs {
            match self.runners.get_mut(&job.key) {
                Some(Runner::Own(member)) => member.cancel(),
                Some(Runner::Adopted { identity, .. }) => identity.signal(Signal::TERM),
                None => {}
            }
        }
    }

    fn sweep(&mut self, job: &Job) {
        crate::runner::clean_up(&job.directory);
        if let Some(directory) = job.directory.to_str() {
            kill_marked(MARK, directory);
        }
    }

    fn wait(&mut self, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
        let blind = self
            .runners
            .values()
            .any(|runner| matches!(runner, Runner::Adopted { descriptor: None, .. }));
        let timeout = if blind {
            timeout.min(Duration::from_millis(50))
        } else {
            timeout
        };
        let runners = self.runners.values().filter_map(|runner| match runner {
            Runner::Own(member) => Some(member.descriptor()),
            Runner::Adopted { descriptor, .. } => descriptor.as_ref().map(AsFd::as_fd),
        });
        super::wait_for(descriptors.iter().copied().chain(runners), timeout)
    }
}
