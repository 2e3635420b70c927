//! The ends of attempts: what became of those that are under way is taken in.

use std::time::Instant;

use super::drive::{Coordinator, now, pause_after};
use super::settle::{Circumstances, Settled, settle};
use crate::backend::{Job, JobState};
use crate::host::boot_id;
use crate::runner::{RunnerResult, read_result};
use crate::state::{AttemptEnd, AttemptKey, AttemptStatus, Event};

impl Coordinator<'_> {
    pub(super) fn collect_attempts(&mut self) {
        self.flow.elsewhere = 0;
        let jobs: Vec<Job> = self.state.running.iter().map(|key| self.job(*key)).collect();
        let found = self.backend.poll(&jobs);
        self.flow.notes.extend(self.backend.remarks());
        let stopping = self.is_winding_down();
        let mut missing = Vec::new();
        for (job, found) in jobs.into_iter().zip(found) {
            if found == JobState::Running {
                continue;
            }
            if matches!(found, JobState::Elsewhere(_)) {
                self.flow.elsewhere += 1;
            }
            let at = Circumstances {
                asked_to_end: self.flow.cancelled > 0,
                stopping,
                take_over: self.take_over,
                is_shared: self.backend.is_shared(),
                // After a new boot nobody can say whether a claim was lost with the power.
                rebooted: self.boot_of(job.key).is_some_and(|boot| boot != boot_id()),
            };
            match settle(&found, self.result_of(&job), at, || self.has_saved(&job)) {
                Settled::Waits => {}
                Settled::Starts => missing.push(job.key),
                Settled::Ends { end, seconds, warnings } => {
                    self.hear_out(job.key, &end);
                    for warning in &warnings {
                        self.flow.notes.push(format!("{}: {warning}", job.key));
                    }
                    self.end_attempt(job.key, end, seconds);
                }
                Settled::Abandoned { end } => {
                    self.hear_out(job.key, &end);
                    // Its payload may still run, without anybody to watch it.
                    self.backend.sweep(&job);
                    self.end_attempt(job.key, end, 0.0);
                }
            }
        }
        self.submit(&missing);
    }

    /// Whether an attempt has left a checkpoint from which the next one can go on.
    fn has_saved(&self, job: &Job) -> bool {
        crate::checkpoint::is_newer(&self.directory.checkpoints(job.key.point), &job.directory.join("claim"))
    }

    fn boot_of(&self, key: AttemptKey) -> Option<String> {
        match &self.state.point(key.point)?.attempts.last()?.status {
            AttemptStatus::Running { boot_id } => Some(boot_id.clone()),
            _ => None,
        }
    }

    /// The result that a runner left, if it is that of this attempt of this task.
    fn result_of(&self, job: &Job) -> Option<RunnerResult> {
        read_result(&job.directory).filter(|result| {
            result.task == self.task.id && result.point == job.key.point && result.attempt == job.key.attempt
        })
    }

    pub(super) fn end_attempt(&mut self, key: AttemptKey, end: AttemptEnd, seconds: f64) {
        if matches!(end, AttemptEnd::Lost { .. }) {
            let pause = pause_after(self.flow.lost_in_a_row);
            self.flow.lost_in_a_row += 1;
            self.flow.hold = Some(Instant::now() + pause);
        } else {
            self.flow.lost_in_a_row = 0;
            self.flow.hold = None;
        }
        if matches!(end, AttemptEnd::Done { .. }) {
            let mean = self.flow.mean_seconds.get_or_insert(seconds);
            *mean += (seconds - *mean) / 16.0;
        }
        let AttemptKey { point, attempt } = key;
        self.push(Event::AttemptEnded {
            point,
            attempt,
            end,
            seconds,
            time: now(),
        });
    }
}
