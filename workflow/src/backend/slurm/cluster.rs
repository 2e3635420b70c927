//! What is asked of Slurm, and what it answers.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::runner::Element;

/// Slurm, or what stands for it. Questions are answered later and in their order, so nobody waits for a busy controller.
pub(crate) trait Cluster: std::fmt::Debug {
    /// Time since some moment.
    fn now(&self) -> Duration;

    /// Takes a request.
    fn ask(&mut self, request: Request);

    /// The answers that have come.
    fn answers(&mut self) -> Vec<Answer>;

    /// Readable when there is an answer.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// The manager leaves: what was asked is done first, then all jobs of the task are ended, but for those of these batches.
    fn close(&mut self, kept: &BTreeSet<u32>);
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Submit the jobs of this batch.
    Submit { batch: u32, size: u32 },
    /// Where do all jobs stand?
    List { question: u64 },
    /// End these jobs, named as Slurm names them.
    Cancel { jobs: Vec<String> },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The id of a batch; or what `sbatch` said instead, which does not mean that nothing was accepted.
    Submitted { batch: u32, id: Result<String, String> },
    /// All jobs of the task that Slurm knows, or why it did not say.
    Listed {
        question: u64,
        jobs: Result<Vec<Listed>, String>,
    },
}

/// A job as Slurm shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) element: Element,
    /// For `scancel`.
    pub(crate) id: String,
    pub(crate) phase: Phase,
}

/// Where a job of Slurm stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In the queue, for the first time or again.
    Queued,
    /// At work, or in a state that we do not know: unknown is not ended.
    Active,
    /// Over, in this state.
    Ended(EndState),
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndState {
    Completed,
    Failed,
    Cancelled,
    TimeLimit,
    Memory,
    Node,
    Preempted,
}

impl Phase {
    /// The phase behind the long name of a state.
    pub(crate) fn of(state: &str) -> Phase {
        // A reason may follow, as in `CANCELLED by 0`.
        let word = state.split([' ', '+']).next().unwrap_or_default();
        Phase::Ended(match word {
            "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT"
            | "RESV_DEL_HOLD" => return Phase::Queued,
            "COMPLETED" => EndState::Completed,
            "FAILED" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => EndState::Failed,
            "CANCELLED" | "REVOKED" => EndState::Cancelled,
            "TIMEOUT" | "DEADLINE" => EndState::TimeLimit,
            "OUT_OF_MEMORY" => EndState::Memory,
            "NODE_FAIL" | "BOOT_FAIL" => EndState::Node,
            "PREEMPTED" => EndState::Preempted,
            _ => return Phase::Active,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_states_are_not_taken_for_an_end() {
        assert_eq!(Phase::of("PENDING"), Phase::Queued);
        assert_eq!(Phase::of("CANCELLED by 1000"), Phase::Ended(EndState::Cancelled));
        for state in ["RUNNING", "COMPLETING", "SUSPENDED", "SOMETHING_NEW", ""] {
            assert_eq!(Phase::of(state), Phase::Active, "{state}");
        }
    }
}
