//! Where attempts run.
//!
//! To add a backend: a file beside `local.rs` with a type that implements [`Backend`], and the place in `cli` that makes it.

mod crew;
mod local;

pub(crate) use local::{Local, MARK};

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::state::AttemptKey;

/// An attempt and its directory, which holds the order of its runner.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) key: AttemptKey,
    pub(crate) directory: PathBuf,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobState {
    /// Nobody has taken the attempt. It may be submitted, also once more: only one runner can claim it.
    NotStarted,
    /// Its runner works. Jobs of an earlier manager are found by their claim.
    Running,
    /// Its runner works, or worked, on another host; only its result can tell.
    Elsewhere(String),
    /// Its runner is gone. The result, if there is one, is complete.
    Ended,
}

/// Runs attempts. A job is known by its attempt, so what an earlier manager submitted is looked up and not repeated.
pub(crate) trait Backend: std::fmt::Debug {
    /// Starts a runner for an attempt. When it returns, the runner exists or will exist.
    ///
    /// # Errors
    /// When no runner could be started.
    fn submit(&mut self, job: &Job) -> io::Result<()>;

    /// Tells where each of the jobs stands, in their order.
    fn poll(&mut self, jobs: &[Job]) -> Vec<JobState>;

    /// Asks the runner of an attempt to save a checkpoint and end; asked again, it ends at once. Idempotent, and no error
    /// for a job that is gone.
    fn cancel(&mut self, job: &Job);

    /// Ends whatever a runner that is gone has left behind.
    fn sweep(&mut self, directory: &Path);

    /// Returns when a job may have changed, a descriptor is readable, or the time is over.
    ///
    /// # Errors
    /// When the system cannot wait.
    fn wait(&mut self, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()>;
}
