//! Jobs that take attempts from a queue, one after another.

use std::collections::HashSet;
use std::io;

use super::ledger::Place;
use super::{Slurm, assignment_of, pause};
use crate::backend::Job;
use crate::runner::{Element, Work};
use crate::state::AttemptKey;
use crate::task::Manner;

impl Slurm {
    /// Finds attempts that nobody will take: a pilot took them and did not come to claim them, or an earlier manager did not come to
    /// put them into the queue.
    pub(super) fn look_for_forgotten(&mut self, jobs: &[Job]) {
        if !self.is_piloted() {
            return;
        }
        let queued: HashSet<AttemptKey> = self.shelf.queued().into_iter().collect();
        let mut missing = HashSet::new();
        for job in jobs {
            if queued.contains(&job.key) || self.ended.contains(&job.key) || self.look_for_claim(job).is_some() {
                continue;
            }
            if self.missing.contains(&job.key) {
                self.forgotten.insert(job.key);
            }
            missing.insert(job.key);
        }
        self.missing = missing;
    }

    pub(super) fn enqueue(&mut self, job: &Job) -> io::Result<()> {
        self.entries += 1;
        self.shelf.enqueue(self.entries, &assignment_of(job))
    }

    /// Sees to it that there are enough pilots for what is to be done.
    pub(super) fn keep_pilots(&mut self, jobs: &[Job]) {
        let (most, all_at_once) = match self.jobs.manner {
            Manner::Arrays => return,
            Manner::Pilots(most) => (most, false),
            Manner::Allocation(tasks) => (tasks, true),
        };
        let alive: u32 = self.pilots.iter().map(|batch| self.ledger.alive(*batch)).sum();
        let needed = (jobs.len() as u32).div_ceil(self.jobs.side_by_side).min(most);
        let now = self.cluster.now();
        if alive >= needed || (all_at_once && alive > 0) || now < self.pause_until {
            return;
        }
        if self.fruitless >= 2 {
            let said = self.last_words_of_pilots();
            self.remarks.push(format!(
                "jobs end before they have evaluated anything{said}; trying again"
            ));
        }
        let work = Work::Pilots {
            count: if all_at_once { most } else { needed - alive },
            queue: self.shelf.queue(),
            side_by_side: self.jobs.side_by_side,
        };
        self.pause_until = now + pause(self.fruitless);
        self.fruitless += 1;
        if let Err(error) = self.send(&work) {
            self.remarks.push(format!("a batch of jobs cannot be written: {error}"));
        }
    }

    fn last_words_of_pilots(&self) -> String {
        let words = self.pilots.iter().rev().find_map(|batch| {
            let first = Element {
                batch: *batch,
                index: 0,
            };
            match self.ledger.place(first) {
                Place::Refused(message) => Some(message),
                _ => self.shelf.last_words(first),
            }
        });
        words.map(|words| format!(" (`{words}`)")).unwrap_or_default()
    }
}
