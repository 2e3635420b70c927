//! The world as the manager sees it: a cluster and a shelf.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::{Plant, World};
use crate::backend::Job;
use crate::backend::simulated::{Answer, Cluster, Found, Request, Shelf};
use crate::runner::{Assignment, Batch, Claimant, Element, EndRequest, Work};
use crate::state::{AttemptKey, PointId};

/// What the manager holds of the world.
#[derive(Debug, Clone)]
pub(in crate::coordinator::simulation) struct Handle(pub(in crate::coordinator::simulation) Rc<RefCell<World>>);

impl Cluster for Handle {
    fn now(&self) -> Duration {
        Duration::from_secs_f64(self.0.borrow().now)
    }

    fn ask(&mut self, request: Request) {
        let mut world = self.0.borrow_mut();
        let due = world.now + world.seconds(5);
        if let Request::Submit { batch, size } = request {
            world.submissions.push(size);
            world.is_submitted(batch);
        }
        world.inbox.push_back((due, request));
    }

    fn answers(&mut self) -> Vec<Answer> {
        let mut world = self.0.borrow_mut();
        let mut answers = Vec::new();
        while world.answers.front().is_some_and(|(due, _)| *due <= world.now) {
            answers.extend(world.answers.pop_front().map(|(_, answer)| answer));
        }
        answers
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn close(&mut self, kept: &BTreeSet<u32>) {
        let mut world = self.0.borrow_mut();
        while let Some((_, request)) = world.inbox.pop_front() {
            if let Request::Submit { batch, size } = request {
                world.accept(batch, size);
            }
        }
        let elements: Vec<Element> = world.jobs.keys().copied().collect();
        for element in elements.into_iter().filter(|element| !kept.contains(&element.batch)) {
            world.stop(element);
        }
    }
}

impl Shelf for Handle {
    fn found(&self) -> Vec<Found> {
        let world = self.0.borrow();
        if world.plant == Some(Plant::SubmissionsForgotten) {
            return Vec::new();
        }
        let found = world.batches.iter().map(|(number, work)| Found {
            number: *number,
            batch: Batch {
                work: work.clone(),
                shares: None,
                limit: None,
                warning: Duration::ZERO,
            },
            is_accepted: world.accepted.contains(number),
        });
        found.collect()
    }

    fn create(&mut self, work: Work) -> io::Result<u32> {
        let mut world = self.0.borrow_mut();
        let number = world.next_batch;
        world.next_batch += 1;
        world.batches.insert(number, work);
        Ok(number)
    }

    fn accepted(&mut self, batch: u32, _id: &str) {
        self.0.borrow_mut().accepted.insert(batch);
    }

    fn forget(&mut self, batch: u32) {
        self.0.borrow_mut().batches.remove(&batch);
    }

    fn claim(&self, job: &Job) -> Option<Claimant> {
        self.0.borrow().claims.get(&job.key).copied()
    }

    fn has_begun_anew(&self, job: &Job, element: Element) -> bool {
        let world = self.0.borrow();
        world.claimed_in.get(&job.key) < world.starts.get(&element)
    }

    fn has_result(&self, job: &Job) -> bool {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        let found = world.results.get_mut(&job.key);
        found.map(|(seen, _)| *seen = seen.min(now)).is_some()
    }

    fn ended(&mut self) -> Vec<AttemptKey> {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        let seen: Vec<AttemptKey> = world
            .marks
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, key)| *key)
            .collect();
        world.marks.retain(|(at, _)| *at > now);
        seen
    }

    fn revoke(&mut self, job: &Job) -> bool {
        let mut world = self.0.borrow_mut();
        *world.claims.entry(job.key).or_insert(Claimant::Manager) == Claimant::Manager
    }

    fn request(&self, job: &Job) -> Option<EndRequest> {
        self.0.borrow().requests.get(&job.key).copied()
    }

    fn ask_to_end(&mut self, job: &Job, request: EndRequest) {
        self.0.borrow_mut().requests.insert(job.key, request);
    }

    fn queue(&self) -> PathBuf {
        PathBuf::new()
    }

    fn enqueue(&mut self, number: u64, assignment: &Assignment) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.queue.push((number, assignment.clone()));
        world.queue.sort_by_key(|(number, _)| *number);
        Ok(())
    }

    fn queued(&self) -> Vec<AttemptKey> {
        let world = self.0.borrow();
        let keys = world.queue.iter().map(|(_, assignment)| AttemptKey {
            point: PointId(assignment.point),
            attempt: assignment.attempt,
        });
        keys.collect()
    }

    fn last_words(&self, _element: Element) -> Option<String> {
        None
    }

    fn largest_array(&self) -> u32 {
        1000
    }
}
