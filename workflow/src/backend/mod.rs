//! Where attempts run.
//!
//! To add a backend: a file beside `local.rs` with a type that implements [`Backend`], and the place in `cli` that makes it.

mod crew;
mod local;
mod slurm;

pub(crate) use local::{Local, MARK};
#[cfg(test)]
pub(crate) use slurm::simulated;
pub(crate) use slurm::{Slurm, SlurmError, job_is_over, time_left};

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::state::AttemptKey;

/// An attempt and its directory, which holds the order of its runner.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) key: AttemptKey,
    pub(crate) directory: PathBuf,
    /// Seconds that it will take, as far as others tell.
    pub(crate) seconds: Option<u32>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobState {
    /// Nobody has taken the attempt. It may be submitted, also once more: only one runner can claim it.
    NotStarted,
    /// Its runner works, or will. Jobs of an earlier manager are found by their claim.
    Running,
    /// Its runner works, or worked, on another host; only its result can tell.
    Elsewhere(String),
    /// Its runner is gone. The result, if there is one, is complete.
    Ended,
    /// Its runner is gone or will never come, through no doing of its own.
    Gone(Gone),
}

/// Why a runner is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) cause: Cause,
    /// In words for the user.
    pub(crate) reason: String,
}

/// What took a runner away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its job took longer than it may.
    TimeLimit,
    /// Its job took more memory than it may.
    Memory,
    /// Something for which it is not to blame.
    Infrastructure,
}

/// Runs attempts. A job is known by its attempt, so what an earlier manager submitted is looked up and not repeated.
pub(crate) trait Backend: std::fmt::Debug {
    /// Starts runners for attempts. When it returns, a runner exists or will exist for each that is not in the answer, which
    /// names those that could not be started.
    fn submit(&mut self, jobs: &[Job]) -> Vec<(AttemptKey, io::Error)>;

    /// Tells where each of the jobs stands, in their order; these are all that anybody is still interested in.
    fn poll(&mut self, jobs: &[Job]) -> Vec<JobState>;

    /// Asks the runners of attempts to save a checkpoint and end; asked again, they end at once. Idempotent, and no error
    /// for a job that is gone.
    fn cancel(&mut self, jobs: &[Job]);

    /// Ends whatever a runner that is gone has left behind, and sees to it that none comes late.
    fn sweep(&mut self, job: &Job);

    /// What the user should know, since the last call.
    fn remarks(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a runner that was asked to end by somebody else has to say what that was.
    fn is_shared(&self) -> bool {
        false
    }

    /// Called once, when the manager leaves in good order, and these go on.
    fn close(&mut self, _jobs: &[Job]) {}

    /// Returns when a job may have changed, a descriptor is readable, or the time is over.
    ///
    /// # Errors
    /// When the system cannot wait.
    fn wait(&mut self, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()>;
}

/// Sleeps until a descriptor is readable, or the time is over.
pub(crate) fn wait_for<'a>(descriptors: impl Iterator<Item = BorrowedFd<'a>>, timeout: Duration) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let mut polled: Vec<PollFd<'_>> = descriptors
        .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
        .collect();
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
