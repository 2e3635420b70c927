//! Attempts as processes of this machine.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Backend, Job, JobState};
use crate::host::{Liveness, ProcessIdentity, kill_marked, start_time};
use crate::runner::{self, read_claim};
use crate::state::AttemptKey;

/// Names the attempt in the environment of its payload, and so in that of all its descendants.
pub(crate) const MARK: &str = "HPO_ATTEMPT_DIRECTORY";

/// Runners on this machine.
#[derive(Debug)]
pub(crate) struct Local {
    executable: PathBuf,
    runners: HashMap<AttemptKey, Runner>,
}

#[derive(Debug)]
struct Runner {
    /// Ours to wait for; `None` for one that an earlier manager started.
    child: Option<Child>,
    identity: ProcessIdentity,
    /// Becomes readable at its end; `None` where the kernel cannot do that.
    descriptor: Option<OwnedFd>,
}

impl Local {
    /// Runners are started from this very program.
    pub(crate) fn new(executable: PathBuf) -> Local {
        Local {
            executable,
            runners: HashMap::new(),
        }
    }

    fn look_up(&mut self, job: &Job) -> JobState {
        let Some(identity) = read_claim(&job.directory) else {
            return JobState::NotStarted;
        };
        match identity.liveness() {
            Liveness::Dead => JobState::Ended,
            Liveness::Elsewhere => JobState::Elsewhere(identity.host),
            Liveness::Alive => {
                let descriptor = identity.descriptor();
                self.runners.insert(
                    job.key,
                    Runner {
                        child: None,
                        identity,
                        descriptor,
                    },
                );
                JobState::Running
            }
        }
    }

    fn start(&mut self, job: &Job) -> io::Result<()> {
        let mut command = Command::new(&self.executable);
        command.arg(runner::SUBCOMMAND).arg(&job.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        let pid = child.id() as i32;
        let identity = ProcessIdentity {
            pid,
            start_time: start_time(pid).unwrap_or(0),
            ..ProcessIdentity::current()
        };
        let descriptor = identity.descriptor();
        self.runners.insert(
            job.key,
            Runner {
                child: Some(child),
                identity,
                descriptor,
            },
        );
        Ok(())
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
            let gone = match self.runners.get_mut(&job.key) {
                None => true,
                Some(Runner { child: Some(child), .. }) => !matches!(child.try_wait(), Ok(None)),
                Some(Runner {
                    child: None, identity, ..
                }) => identity.liveness() != Liveness::Alive,
            };
            if !gone {
                states.push(JobState::Running);
                continue;
            }
            let ours = self.runners.remove(&job.key).is_some();
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
            if let Some(runner) = self.runners.get(&job.key) {
                runner.identity.signal(Signal::TERM);
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
        let blind = self.runners.values().any(|runner| runner.descriptor.is_none());
        let timeout = if blind {
            timeout.min(Duration::from_millis(50))
        } else {
            timeout
        };
        let runners = self
            .runners
            .values()
            .filter_map(|runner| runner.descriptor.as_ref().map(AsFd::as_fd));
        super::wait_for(descriptors.iter().copied().chain(runners), timeout)
    }
}
