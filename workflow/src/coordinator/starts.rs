//! The starts of attempts: which are decided about, and how they reach the backend once that is in the journal.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::drive::{Coordinator, FULL_DISK_PAUSE};
use super::{keeping, plan};
use crate::backend::Job;
use crate::host::boot_id;
use crate::state::{AttemptEnd, AttemptKey, Event};

/// Room that is kept for the journal and for the results of what runs.
const LEAST_ROOM: u64 = 8 << 20;

impl Coordinator<'_> {
    /// Whether the next turn has attempts to start without anything else happening.
    pub(super) fn may_start_at_once(&self) -> bool {
        self.interrupts.load(Ordering::Relaxed) == 0
            && self.flow.hold.is_none()
            && self.flow.request.is_none()
            && plan::next_start(&self.state, self.settings, self.ahead()).is_some()
    }

    fn ahead(&self) -> u32 {
        plan::ahead(self.settings, self.task.segments.len(), self.flow.mean_seconds)
    }

    pub(super) fn decide_starts(&mut self, starts: &mut Vec<AttemptKey>) {
        if self.flow.hold.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.flow.hold = None;
        if plan::next_start(&self.state, self.settings, self.ahead()).is_some()
            && crate::files::room(self.directory.root()).is_some_and(|room| room < LEAST_ROOM)
        {
            if !self.flow.told_full {
                let root = self.directory.root().display();
                self.flow.notes.push(format!(
                    "less than {} MiB are free in `{root}`; nothing new is started until there is room, running evaluations go on",
                    LEAST_ROOM >> 20
                ));
            }
            self.flow.told_full = true;
            self.flow.hold = Some(Instant::now() + FULL_DISK_PAUSE);
            return;
        }
        self.flow.told_full = false;
        while let Some((key, job)) = plan::next_start(&self.state, self.settings, self.ahead()) {
            let AttemptKey { point, attempt } = key;
            let slot = self.settings.shares.is_some().then(|| plan::free_slot(&self.state));
            self.push(Event::Intent {
                point,
                attempt,
                job,
                boot_id: boot_id(),
                slot,
            });
            starts.push(key);
        }
    }

    pub(super) fn submit(&mut self, keys: &[AttemptKey]) {
        if keys.is_empty() {
            return;
        }
        let pace = plan::Pace::of(&self.state, self.settings);
        let (mut jobs, mut failures) = (Vec::new(), Vec::new());
        for key in keys {
            let is_scheduled = self.state.point(key.point).is_some_and(keeping::is_scheduled);
            if let Some(stored) = self.flow.stored.as_mut().filter(|_| is_scheduled) {
                stored.insert(key.point);
            }
            match super::attempts::prepare(self.directory, self.task, self.settings, &self.state, &self.path, *key) {
                Ok(()) => jobs.push(Job {
                    seconds: pace.and_then(|pace| Some(pace.expected(self.state.point(key.point)?))),
                    ..self.job(*key)
                }),
                Err(error) => failures.push((*key, error)),
            }
        }
        if !jobs.is_empty() {
            failures.extend(self.backend.submit(&jobs));
        }
        for (key, error) in failures {
            self.end_attempt(
                key,
                AttemptEnd::Lost {
                    reason: format!("it could not be started: {error}"),
                },
                0.0,
            );
        }
    }
}
