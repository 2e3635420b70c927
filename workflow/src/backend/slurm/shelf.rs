//! The files through which manager and jobs speak.

use std::io;
use std::path::PathBuf;

use crate::backend::Job;
use crate::runner::{Assignment, Batch, Claimant, Element, EndRequest, Work};
use crate::state::AttemptKey;

/// The part of a task directory that concerns jobs, or what stands for it.
pub(crate) trait Shelf: std::fmt::Debug {
    /// Batches that an earlier manager has left.
    fn found(&self) -> Vec<Found>;

    /// A new batch, which will be found by the next manager; its number.
    ///
    /// # Errors
    /// When it cannot be written.
    fn create(&mut self, work: Work) -> io::Result<u32>;

    /// Slurm has accepted a batch under this id.
    fn accepted(&mut self, batch: u32, id: &str);

    /// Nobody will ask for this batch any more; its pilots take nothing more.
    fn forget(&mut self, batch: u32);

    /// Who has claimed an attempt.
    fn claim(&self, job: &Job) -> Option<Claimant>;

    /// Whether the job that has claimed an attempt was started again since.
    fn has_begun_anew(&self, job: &Job, element: Element) -> bool;

    /// Whether there is a result, also if it was written elsewhere a moment ago.
    fn has_result(&self, job: &Job) -> bool;

    /// Attempts that have said that they are over since the last call.
    fn ended(&mut self) -> Vec<AttemptKey>;

    /// Takes an attempt away from everybody who might come; false if somebody has come.
    fn revoke(&mut self, job: &Job) -> bool;

    /// What a runner was asked for.
    fn request(&self, job: &Job) -> Option<EndRequest>;

    /// Asks a runner to end.
    fn ask_to_end(&mut self, job: &Job, request: EndRequest);

    /// The queue of pilots.
    fn queue(&self) -> PathBuf;

    /// Puts an attempt into the queue.
    ///
    /// # Errors
    /// When it cannot be written.
    fn enqueue(&mut self, number: u64, assignment: &Assignment) -> io::Result<()>;

    /// Attempts in the queue, and those that a pilot takes out at this moment.
    fn queued(&self) -> Vec<AttemptKey>;

    /// The last line that a job has written.
    fn last_words(&self, element: Element) -> Option<String>;

    /// Most jobs of one batch.
    fn largest_array(&self) -> u32;
}

/// A batch of an earlier manager.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) number: u32,
    pub(crate) batch: Batch,
    /// Whether Slurm said that it accepted it.
    pub(crate) is_accepted: bool,
}
