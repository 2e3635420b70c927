//! What follows from where a job stands: whether its attempt goes on, is submitted again, or is over and how.

use crate::backend::{Cause, Gone, JobState};
use crate::runner::RunnerResult;
use crate::state::AttemptEnd;

/// What has to be known besides.
#[expect(
    clippy::struct_excessive_bools,
    reason = "five independent facts, each of its own origin"
)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// Running attempts were asked to end.
    pub(crate) asked_to_end: bool,
    /// Nothing new is to be started.
    pub(crate) stopping: bool,
    /// Attempts on other hosts are given up.
    pub(crate) take_over: bool,
    /// Others than the manager may ask an attempt to end.
    pub(crate) is_shared: bool,
    /// The machine was started anew since the attempt was to begin.
    pub(crate) rebooted: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settled {
    /// Nothing yet.
    Waits,
    /// The attempt has to be submitted, perhaps once more.
    Starts,
    /// The attempt has said how it ended.
    Ends {
        end: AttemptEnd,
        seconds: f64,
        warnings: Vec<String>,
    },
    /// The attempt will say nothing any more; what is left of it has to be removed first.
    Abandoned { end: AttemptEnd },
}

/// Judges a job that does not simply run. `has_saved` tells whether the attempt has left a checkpoint.
pub(crate) fn settle(
    found: &JobState,
    result: Option<RunnerResult>,
    at: Circumstances,
    has_saved: impl FnOnce() -> bool,
) -> Settled {
    if *found == JobState::Running {
        return Settled::Waits;
    }
    if let Some(result) = result {
        let end = match result.end {
            // Nobody here asked for it.
            AttemptEnd::Stopped if at.is_shared && !at.asked_to_end => interrupted(result.at_time_limit, has_saved()),
            end => end,
        };
        return Settled::Ends {
            end,
            seconds: result.seconds,
            warnings: result.warnings,
        };
    }
    // The request to end may reach a runner before it can answer it.
    let or_stopped = |end: AttemptEnd| if at.asked_to_end { AttemptEnd::Stopped } else { end };
    let lost = |reason: String| AttemptEnd::Lost { reason };
    let end = match found {
        JobState::Ended => or_stopped(lost("its runner ended without a result".to_owned())),
        JobState::Elsewhere(host) if at.take_over => lost(format!("it ran on host `{host}` and was given up")),
        JobState::Running | JobState::Elsewhere(_) => return Settled::Waits,
        JobState::NotStarted if at.rebooted => lost("the machine was started anew".to_owned()),
        JobState::NotStarted if at.stopping => {
            return Settled::Ends {
                end: AttemptEnd::Stopped,
                seconds: 0.0,
                warnings: Vec::new(),
            };
        }
        JobState::NotStarted => return Settled::Starts,
        JobState::Gone(Gone { cause, reason }) => or_stopped(match cause {
            Cause::Infrastructure => lost(reason.clone()),
            Cause::TimeLimit => interrupted(true, has_saved()),
            Cause::Memory => AttemptEnd::Failed { reason: reason.clone() },
        }),
    };
    Settled::Abandoned { end }
}

/// The end of an attempt that was interrupted by somebody else.
///
/// Who has saved something goes on from there, so the interruption counts nothing: a training may be longer than any job. Who
/// has not will not come further the next time if it was its own length that ended it.
fn interrupted(at_time_limit: bool, has_saved: bool) -> AttemptEnd {
    match (has_saved, at_time_limit) {
        (true, _) => AttemptEnd::Stopped,
        (false, true) => AttemptEnd::Failed {
            reason: "not finished within the time limit of its job, and no checkpoint was saved; give it more with `slurmTime`"
                .to_owned(),
        },
        (false, false) => AttemptEnd::Lost {
            reason: "its job was cancelled or preempted, and no checkpoint was saved".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::PointId;

    const HERE: Circumstances = Circumstances {
        asked_to_end: false,
        stopping: false,
        take_over: false,
        is_shared: true,
        rebooted: false,
    };

    fn result(end: AttemptEnd, at_time_limit: bool) -> RunnerResult {
        RunnerResult {
            task: String::new(),
            point: PointId(1),
            attempt: 1,
            end,
            seconds: 1.0,
            warnings: Vec::new(),
            at_time_limit,
        }
    }

    fn word(settled: &Settled) -> &'static str {
        let end = match settled {
            Settled::Waits => return "waits",
            Settled::Starts => return "starts",
            Settled::Ends { end, .. } | Settled::Abandoned { end } => end,
        };
        match end {
            AttemptEnd::Done { .. } => "done",
            AttemptEnd::Failed { .. } => "failed",
            AttemptEnd::Lost { .. } => "lost",
            AttemptEnd::Stopped => "stopped",
        }
    }

    fn gone(cause: Cause) -> JobState {
        JobState::Gone(Gone {
            cause,
            reason: String::new(),
        })
    }

    #[test]
    fn failures_of_the_payload_and_of_the_machine_are_told_apart() {
        let ends = |cause, saved| word(&settle(&gone(cause), None, HERE, || saved));
        assert_eq!(ends(Cause::Infrastructure, true), "lost");
        assert_eq!(ends(Cause::Memory, true), "failed");
        assert_eq!(
            (ends(Cause::TimeLimit, false), ends(Cause::TimeLimit, true)),
            ("failed", "stopped")
        );
    }

    #[test]
    fn a_stop_that_nobody_here_asked_for_counts_unless_something_was_saved() {
        let stopped = |at: Circumstances, limit, saved| {
            let result = result(AttemptEnd::Stopped, limit);
            word(&settle(&JobState::Ended, Some(result), at, || saved))
        };
        assert_eq!(stopped(HERE, false, true), "stopped");
        assert_eq!(stopped(HERE, false, false), "lost");
        assert_eq!(stopped(HERE, true, false), "failed");
        let asked = Circumstances {
            asked_to_end: true,
            ..HERE
        };
        assert_eq!(stopped(asked, true, false), "stopped");
        let alone = Circumstances {
            is_shared: false,
            ..HERE
        };
        assert_eq!(stopped(alone, false, false), "stopped");
    }

    #[test]
    fn a_result_counts_whatever_became_of_its_job() {
        let good = result(AttemptEnd::Failed { reason: "x".into() }, false);
        assert_eq!(
            word(&settle(&gone(Cause::Infrastructure), Some(good), HERE, || false)),
            "failed"
        );
        let elsewhere = JobState::Elsewhere("a".into());
        assert_eq!(settle(&elsewhere, None, HERE, || false), Settled::Waits);
        assert_eq!(settle(&JobState::NotStarted, None, HERE, || false), Settled::Starts);
        let stopping = Circumstances { stopping: true, ..HERE };
        assert_eq!(
            word(&settle(&JobState::NotStarted, None, stopping, || false)),
            "stopped"
        );
    }
}
