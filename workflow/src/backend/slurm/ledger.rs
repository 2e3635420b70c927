//! What is known of the jobs that were submitted: a function of the answers of Slurm, and of nothing else.
//!
//! A job is known by the name of its batch and its number in it, never by the id that Slurm gave it: after a failure of its
//! controller an id may be that of another job. Silence is no answer, one answer is no proof, and only several in a row
//! without the job say that it does not exist.

use std::collections::BTreeMap;

use super::cluster::{EndState, Listed, Phase};
use crate::runner::Element;

/// So many answers must show the end of a job before it is believed that nothing comes any more.
const ENDS: u32 = 2;
/// So many answers must lack a job before it is believed that it does not exist.
const ABSENCES: u32 = 3;

/// Where a job stands, as far as answers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing is known yet: on its way to Slurm, or perhaps accepted and perhaps not.
    Unsure,
    Queued,
    Active,
    /// Seen at its end once; what it left may still be on its way.
    Ending,
    Ended(EndState),
    /// Was accepted, and is not known any more.
    Vanished,
    /// Was never accepted; this is what was said instead.
    Refused(String),
}

impl Place {
    /// Whether it will not do anything any more, or only seems so.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self, Place::Unsure | Place::Queued | Place::Active)
    }
}

/// All batches.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    batches: BTreeMap<u32, Batch>,
}

#[derive(Debug)]
struct Batch {
    size: u32,
    submission: Submission,
    jobs: BTreeMap<u32, Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Submission {
    /// Given to `sbatch`.
    Sent,
    /// `sbatch` did not say that it was accepted. Answers to questions from `from` on count.
    Doubtful {
        from: u64,
        without: u32,
        message: String,
    },
    /// Answers to questions from `from` on count.
    Accepted {
        from: u64,
    },
    Refused {
        message: String,
    },
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Phase>,
    ends: u32,
    absences: u32,
}

impl Ledger {
    /// A batch is about to be submitted.
    pub(crate) fn sent(&mut self, batch: u32, size: u32) {
        self.insert(batch, size, Submission::Sent);
    }

    /// A batch of an earlier manager, which saw it accepted or not.
    pub(crate) fn found(&mut self, batch: u32, size: u32, accepted: bool) {
        let submission = if accepted {
            Submission::Accepted { from: 0 }
        } else {
            let message = "the manager before this one ended before it heard of them".to_owned();
            Submission::Doubtful {
                from: 0,
                without: 0,
                message,
            }
        };
        self.insert(batch, size, submission);
    }

    fn insert(&mut self, batch: u32, size: u32, submission: Submission) {
        let jobs = BTreeMap::new();
        self.batches.insert(batch, Batch { size, submission, jobs });
    }

    /// What `sbatch` said; the next question will be number `next`.
    pub(crate) fn submitted(&mut self, batch: u32, id: Result<(), String>, next: u64) {
        if let Some(batch) = self.batches.get_mut(&batch)
            && batch.submission == Submission::Sent
        {
            batch.submission = match id {
                Ok(()) => Submission::Accepted { from: next },
                Err(message) => Submission::Doubtful {
                    from: next,
                    without: 0,
                    message,
                },
            };
        }
    }

    /// All jobs that Slurm knows, as the answer to a question.
    pub(crate) fn listed(&mut self, question: u64, jobs: &[Listed]) {
        let mut by_batch: BTreeMap<u32, BTreeMap<u32, &Listed>> = BTreeMap::new();
        for job in jobs {
            let known = by_batch.entry(job.element.batch).or_default();
            // Of two of one name, the one that may still do something counts.
            match known.get(&job.element.index) {
                Some(other) if !matches!(other.phase, Phase::Ended(_)) => {}
                _ => {
                    known.insert(job.element.index, job);
                }
            }
        }
        let none = BTreeMap::new();
        for (number, batch) in &mut self.batches {
            batch.listed(question, by_batch.get(number).unwrap_or(&none));
        }
    }

    /// Where a job stands.
    pub(crate) fn place(&self, element: Element) -> Place {
        let Some(batch) = self.batches.get(&element.batch) else {
            return Place::Vanished;
        };
        match &batch.submission {
            Submission::Sent | Submission::Doubtful { .. } => return Place::Unsure,
            Submission::Refused { message } => return Place::Refused(message.clone()),
            Submission::Accepted { .. } => {}
        }
        let Some(seen) = batch.jobs.get(&element.index) else {
            return Place::Unsure;
        };
        match &seen.last {
            _ if seen.absences >= ABSENCES => Place::Vanished,
            None => Place::Unsure,
            Some(Phase::Queued) => Place::Queued,
            Some(Phase::Active) => Place::Active,
            Some(Phase::Ended(how)) if seen.ends >= ENDS => Place::Ended(*how),
            Some(Phase::Ended(_)) => Place::Ending,
        }
    }

    /// Jobs of a batch that may still do something.
    pub(crate) fn alive(&self, batch: u32) -> u32 {
        let size = self.batches.get(&batch).map_or(0, |batch| batch.size);
        let places = (0..size).map(|index| self.place(Element { batch, index }));
        places.filter(|place| !place.is_over()).count() as u32
    }

    /// Whether it is not known of some batch what became of it.
    pub(crate) fn is_unsure(&self) -> bool {
        let mut batches = self.batches.iter();
        batches.any(|(number, batch)| {
            let index = 0;
            batch.size > 0 && self.place(Element { batch: *number, index }) == Place::Unsure
        })
    }

    /// Numbers of all batches.
    pub(crate) fn batches(&self) -> Vec<u32> {
        self.batches.keys().copied().collect()
    }

    /// Nobody will ask for this batch any more.
    pub(crate) fn forget(&mut self, batch: u32) {
        self.batches.remove(&batch);
    }
}

impl Batch {
    fn listed(&mut self, question: u64, jobs: &BTreeMap<u32, &Listed>) {
        match &mut self.submission {
            // Whatever `sbatch` says: there they are.
            Submission::Sent | Submission::Doubtful { .. } | Submission::Refused { .. } if !jobs.is_empty() => {
                self.submission = Submission::Accepted { from: question };
            }
            Submission::Doubtful { from, without, message } if question >= *from => {
                *without += 1;
                if *without >= ABSENCES {
                    let message = std::mem::take(message);
                    self.submission = Submission::Refused { message };
                }
                return;
            }
            Submission::Accepted { from } if question >= *from => {}
            _ => return,
        }
        for index in 0..self.size {
            let seen = self.jobs.entry(index).or_default();
            match jobs.get(&index) {
                Some(job) => {
                    seen.absences = 0;
                    seen.ends = if matches!(job.phase, Phase::Ended(_)) {
                        seen.ends + 1
                    } else {
                        0
                    };
                    seen.last = Some(job.phase.clone());
                }
                None => seen.absences += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Element = Element { batch: 1, index: 0 };

    fn listed(phase: Phase) -> Vec<Listed> {
        vec![Listed {
            element: JOB,
            id: "7_0".to_owned(),
            phase,
        }]
    }

    #[test]
    fn a_submission_in_doubt_is_looked_up_before_it_counts_as_refused() {
        let mut ledger = Ledger::default();
        ledger.sent(1, 1);
        ledger.submitted(1, Err("timed out".to_owned()), 5);
        // An answer to a question from before tells nothing.
        for question in [3, 4, 5, 6] {
            ledger.listed(question, &[]);
            assert_eq!(ledger.place(JOB), Place::Unsure, "{question}");
        }
        ledger.listed(7, &[]);
        assert_eq!(ledger.place(JOB), Place::Refused("timed out".to_owned()));
        // Late, but there.
        ledger.listed(8, &listed(Phase::Queued));
        assert_eq!(ledger.place(JOB), Place::Queued);
    }

    #[test]
    fn an_end_has_to_be_seen_twice_and_an_absence_thrice() {
        let mut ledger = Ledger::default();
        ledger.sent(1, 1);
        ledger.submitted(1, Ok(()), 1);
        ledger.listed(1, &listed(Phase::Active));
        ledger.listed(2, &listed(Phase::Ended(EndState::Node)));
        assert_eq!(ledger.place(JOB), Place::Ending);
        ledger.listed(3, &listed(Phase::Queued));
        assert_eq!(ledger.place(JOB), Place::Queued, "it was requeued");
        ledger.listed(4, &listed(Phase::Ended(EndState::Node)));
        ledger.listed(5, &listed(Phase::Ended(EndState::Node)));
        assert_eq!(ledger.place(JOB), Place::Ended(EndState::Node));

        ledger.sent(1, 1);
        ledger.submitted(1, Ok(()), 6);
        for (question, expected) in [(6, Place::Unsure), (7, Place::Unsure), (8, Place::Vanished)] {
            ledger.listed(question, &[]);
            assert_eq!(ledger.place(JOB), expected);
        }
    }

    #[test]
    fn what_an_earlier_manager_submitted_is_looked_up() {
        let mut ledger = Ledger::default();
        ledger.found(1, 2, false);
        assert!(ledger.is_unsure());
        ledger.listed(1, &listed(Phase::Active));
        assert_eq!((ledger.place(JOB), ledger.alive(1)), (Place::Active, 2));
        ledger.listed(2, &listed(Phase::Active));
        ledger.listed(3, &listed(Phase::Active));
        assert_eq!(ledger.alive(1), 1, "the second job is not there");
    }
}
