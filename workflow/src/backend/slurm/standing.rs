//! Where an attempt stands: what its claim and its result say, and what follows from the answers of Slurm.

use super::cluster::EndState;
use super::ledger::Place;
use super::{Claimed, Slurm, pause};
use crate::backend::{Cause, Gone, Job, JobState};
use crate::runner::{Claimant, Element};

impl Slurm {
    pub(super) fn state_of(&mut self, job: &Job) -> JobState {
        if self.ended.contains(&job.key) {
            return JobState::Ended;
        }
        match self.claims.get(&job.key) {
            Some(Claimed {
                by: Claimant::Job(element),
                before,
            }) => self.state_of_claimed(job, *element, *before),
            Some(Claimed {
                by: Claimant::Manager, ..
            }) => gone(Cause::Infrastructure, "it was given up before it began"),
            None if self.forgotten.remove(&job.key) => JobState::NotStarted,
            None if self.is_piloted() => JobState::Running,
            None => self.state_of_unclaimed(job),
        }
    }

    fn state_of_claimed(&self, job: &Job, element: Element, before: u64) -> JobState {
        let place = self.ledger.place(element);
        // It was taken, and after that its job was in the queue: again.
        let is_repeated = place == Place::Queued && before <= self.questions.answered;
        if !is_repeated && !place.is_over() {
            return JobState::Running;
        }
        // The sooner somebody looks, the sooner a slow file system shows what is there.
        if self.shelf.has_result(job) {
            return JobState::Ended;
        }
        match place {
            Place::Queued => gone(Cause::Infrastructure, "its job was started once more"),
            // How its job ended in the end says nothing about a claim of an earlier start.
            Place::Ended(EndState::TimeLimit | EndState::Memory) if self.shelf.has_begun_anew(job, element) => {
                gone(Cause::Infrastructure, "its job was started once more")
            }
            Place::Ended(how) => self.ended_as(element, how),
            Place::Vanished | Place::Refused(_) => gone(Cause::Infrastructure, "Slurm does not know its job any more"),
            Place::Unsure | Place::Active | Place::Ending => JobState::Running,
        }
    }

    fn ended_as(&self, element: Element, how: EndState) -> JobState {
        let words = || {
            let words = self.shelf.last_words(element);
            words.map(|words| format!("; it said: {words}")).unwrap_or_default()
        };
        match how {
            EndState::TimeLimit => gone(Cause::TimeLimit, "its job reached its time limit"),
            EndState::Memory => gone(
                Cause::Memory,
                "its job ran out of memory; give it more with `slurmMemory`",
            ),
            EndState::Node => gone(Cause::Infrastructure, "the node of its job failed"),
            EndState::Preempted => gone(Cause::Infrastructure, "its job was preempted"),
            EndState::Cancelled => gone(Cause::Infrastructure, "its job was cancelled"),
            EndState::Completed | EndState::Failed => gone(
                Cause::Infrastructure,
                &format!("its job ended without a result{}", words()),
            ),
        }
    }

    fn state_of_unclaimed(&mut self, job: &Job) -> JobState {
        let Some(element) = self.assigned.get(&job.key).copied() else {
            return if self.cluster.now() < self.pause_until {
                JobState::Running
            } else {
                JobState::NotStarted
            };
        };
        let place = self.ledger.place(element);
        if !place.is_over() || place == Place::Ending || self.look_for_claim(job).is_some() {
            return JobState::Running;
        }
        match place {
            Place::Refused(message) => {
                self.assigned.remove(&job.key);
                self.refused(element.batch, &message);
                JobState::Running
            }
            Place::Ended(how) => self.ended_as(element, how),
            _ => gone(Cause::Infrastructure, "Slurm does not know its job any more"),
        }
    }

    /// A batch was not accepted: its attempts wait, and are submitted again.
    fn refused(&mut self, batch: u32, message: &str) {
        if self.ledger.batches().contains(&batch) && self.pause_until <= self.cluster.now() {
            self.pause_until = self.cluster.now() + pause(self.refusals + 1);
            self.refusals += 1;
            self.remarks.push(format!(
                "Slurm did not accept jobs (`{message}`); they are submitted again in {} s",
                pause(self.refusals).as_secs()
            ));
        }
    }
}

fn gone(cause: Cause, reason: &str) -> JobState {
    JobState::Gone(Gone {
        cause,
        reason: reason.to_owned(),
    })
}
