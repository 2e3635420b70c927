//! Attempts as jobs of Slurm.
//!
//! Attempts come to jobs in one of two ways: each batch of them is an array, or pilots take them from a queue. Who runs an attempt
//! claims it, and leaves its result; both are files. They are the truth, and what Slurm says is only a hint that nothing comes any
//! more. So an answer that is late, wrong or missing costs time, and never a result:
//!
//! * A submission whose answer is in doubt is looked up by its name. If it was accepted all the same, nothing runs twice.
//! * An attempt is given up only when several answers in a row say that its job is over, or unknown, and there is no result. Before
//!   that it is taken away from whoever might come late.
//! * A job that Slurm starts once more finds its attempts claimed. They are lost, and tried again as new ones.

mod allocation;
mod check;
mod cluster;
mod command;
mod desk;
mod files;
mod ledger;
mod pilots;
mod shelf;
mod standing;

/// What stands for Slurm and for files in tests.
#[cfg(test)]
pub(crate) mod simulated {
    pub(crate) use super::cluster::{Answer, Cluster, EndState, Listed, Phase, Request};
    pub(crate) use super::shelf::{Found, Shelf};
}

pub(crate) use check::{SlurmError, job_is_over, time_left};

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use super::{Backend, Job, JobState};
use crate::runner::{Assignment, Claimant, Element, EndRequest, Work};
use crate::state::AttemptKey;
use crate::task::{Jobs, Manner, TaskDirectory};
use cluster::{Answer, Cluster, Phase, Request};
use ledger::Ledger;
use shelf::Shelf;

/// Longest sleep while attempts are under way: their marks wake nobody.
const LOOK: Duration = Duration::from_millis(200);
/// Between two questions while something is in doubt.
const HURRY: Duration = Duration::from_secs(2);
/// Longest pause after refusals.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A job must be seen without need so often before it is cancelled.
const UNWANTED: u32 = 2;

/// Jobs of Slurm.
#[derive(Debug)]
pub(crate) struct Slurm {
    cluster: Box<dyn Cluster>,
    shelf: Box<dyn Shelf>,
    jobs: Jobs,
    ledger: Ledger,
    /// In which job of which array an attempt is to run.
    assigned: HashMap<AttemptKey, Element>,
    /// Batches of pilots.
    pilots: BTreeSet<u32>,
    claims: HashMap<AttemptKey, Claimed>,
    ended: HashSet<AttemptKey>,
    questions: Questions,
    /// Not to be submitted before.
    pause_until: Duration,
    refusals: u32,
    /// Batches of pilots in a row that evaluated nothing.
    fruitless: u32,
    unwanted: HashMap<Element, u32>,
    /// Attempts that were neither in the queue nor claimed at the last answer.
    missing: HashSet<AttemptKey>,
    /// Attempts that have to be submitted again.
    forgotten: HashSet<AttemptKey>,
    entries: u64,
    is_busy: bool,
    is_silent: bool,
    remarks: Vec<String>,
}

/// Where the conversation with Slurm stands.
#[derive(Debug)]
struct Questions {
    /// Number of the next one.
    next: u64,
    /// The last one that was answered.
    answered: u64,
    is_open: bool,
    asked_at: Option<Duration>,
    /// Something is in doubt, or has changed.
    hurry: bool,
}

#[derive(Debug, Clone, Copy)]
struct Claimed {
    by: Claimant,
    /// The next question when it was known.
    before: u64,
}

impl Claimed {
    fn element(&self) -> Option<Element> {
        match self.by {
            Claimant::Job(element) => Some(element),
            Claimant::Manager => None,
        }
    }
}

impl Slurm {
    /// Jobs for the task in this directory; finds those of earlier managers.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn new(directory: &TaskDirectory, jobs: Jobs, executable: &Path) -> io::Result<Slurm> {
        let shelf = files::Files::open(directory, executable, &jobs)?;
        let cluster: Box<dyn Cluster> = match jobs.manner {
            Manner::Allocation(_) => Box::new(allocation::Allocation::new(directory.slurm(), executable.to_owned())?),
            Manner::Arrays | Manner::Pilots(_) => {
                let commands = command::Commands::new(directory.slurm(), shelf.name().to_owned(), &jobs);
                Box::new(desk::Desk::open(commands)?)
            }
        };
        Ok(Slurm::with(cluster, Box::new(shelf), jobs))
    }

    /// Jobs of any cluster.
    pub(crate) fn with(cluster: Box<dyn Cluster>, shelf: Box<dyn Shelf>, jobs: Jobs) -> Slurm {
        let mut slurm = Slurm {
            cluster,
            shelf,
            jobs,
            ledger: Ledger::default(),
            assigned: HashMap::new(),
            pilots: BTreeSet::new(),
            claims: HashMap::new(),
            ended: HashSet::new(),
            questions: Questions {
                next: 1,
                answered: 0,
                is_open: false,
                asked_at: None,
                hurry: false,
            },
            pause_until: Duration::ZERO,
            refusals: 0,
            fruitless: 0,
            unwanted: HashMap::new(),
            missing: HashSet::new(),
            forgotten: HashSet::new(),
            entries: 0,
            is_busy: false,
            is_silent: false,
            remarks: Vec::new(),
        };
        for found in slurm.shelf.found() {
            slurm.ledger.found(found.number, found.batch.size(), found.is_accepted);
            match found.batch.work {
                Work::Attempts(jobs) => slurm.assign(found.number, &jobs),
                Work::Pilots { .. } => {
                    slurm.pilots.insert(found.number);
                }
            }
        }
        slurm
    }

    fn assign(&mut self, batch: u32, jobs: &[Vec<Assignment>]) {
        for (index, job) in jobs.iter().enumerate() {
            let index = index as u32;
            for assignment in job {
                self.assigned.insert(key_of(assignment), Element { batch, index });
            }
        }
    }

    fn is_piloted(&self) -> bool {
        self.jobs.manner != Manner::Arrays
    }

    /// Writes a batch and hands it to Slurm.
    fn send(&mut self, work: &Work) -> io::Result<()> {
        let batch = self.shelf.create(work.clone())?;
        let size = match work {
            Work::Attempts(jobs) => {
                self.assign(batch, jobs);
                jobs.len() as u32
            }
            Work::Pilots { count, .. } => {
                self.pilots.insert(batch);
                *count
            }
        };
        self.ledger.sent(batch, size);
        self.cluster.ask(Request::Submit { batch, size });
        Ok(())
    }

    fn take_answers(&mut self, jobs: &[Job]) {
        for answer in self.cluster.answers() {
            match answer {
                Answer::Submitted { batch, id } => {
                    if let Ok(id) = &id {
                        self.shelf.accepted(batch, id);
                    }
                    self.ledger.submitted(batch, id.map(|_| ()), self.questions.next);
                    self.questions.hurry = true;
                }
                Answer::Listed { question, jobs: listed } => {
                    self.questions.is_open = false;
                    match listed {
                        Ok(listed) => {
                            self.ledger.listed(question, &listed);
                            self.questions.answered = question;
                            if std::mem::take(&mut self.is_silent) {
                                self.remarks.push("Slurm answers again".to_owned());
                            }
                            self.cancel_unwanted(&listed, jobs);
                            self.look_for_forgotten(jobs);
                        }
                        Err(message) => {
                            if !std::mem::replace(&mut self.is_silent, true) {
                                self.remarks.push(format!(
                                    "Slurm does not answer ({message}); jobs go on, and it is asked again"
                                ));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Asks where all jobs stand, when it is time for that.
    fn ask(&mut self, jobs: &[Job]) {
        if self.questions.is_open || (jobs.is_empty() && self.ledger.batches().is_empty()) {
            return;
        }
        let in_doubt = self.questions.hurry || self.ledger.is_unsure();
        let interval = if in_doubt {
            HURRY.min(self.jobs.poll)
        } else {
            self.jobs.poll
        };
        let now = self.cluster.now();
        if self.questions.asked_at.is_some_and(|at| now < at + interval) {
            return;
        }
        // Known before the question: whoever is in the queue then was there before.
        for job in jobs {
            self.look_for_claim(job);
        }
        let question = self.questions.next;
        self.questions.next += 1;
        self.cluster.ask(Request::List { question });
        self.questions.is_open = true;
        self.questions.hurry = false;
        self.questions.asked_at = Some(now);
    }

    fn look_for_claim(&mut self, job: &Job) -> Option<Claimed> {
        if let Some(claimed) = self.claims.get(&job.key) {
            return Some(*claimed);
        }
        let claimed = Claimed {
            by: self.shelf.claim(job)?,
            before: self.questions.next,
        };
        self.claims.insert(job.key, claimed);
        Some(claimed)
    }

    /// Cancels jobs that nobody waits for: late ones of a submission that was repeated, started once more, or left over.
    fn cancel_unwanted(&mut self, listed: &[cluster::Listed], jobs: &[Job]) {
        let keys: HashSet<AttemptKey> = jobs.iter().map(|job| job.key).collect();
        let assigned = self.assigned.iter().filter(|(key, _)| keys.contains(key));
        let mut wanted: HashSet<Element> = assigned.map(|(_, element)| *element).collect();
        let claims = self.claims.iter().filter(|(key, _)| keys.contains(key));
        wanted.extend(claims.filter_map(|(_, claimed)| claimed.element()));
        let mut counts = HashMap::new();
        let mut surplus = Vec::new();
        for job in listed {
            let is_pilot = self.pilots.contains(&job.element.batch);
            if matches!(job.phase, Phase::Ended(_)) || wanted.contains(&job.element) || is_pilot {
                continue;
            }
            let count = self.unwanted.get(&job.element).copied().unwrap_or(0) + 1;
            counts.insert(job.element, count);
            if count >= UNWANTED {
                surplus.push(job.id.clone());
            }
        }
        self.unwanted = counts;
        if !surplus.is_empty() {
            self.cluster.ask(Request::Cancel { jobs: surplus });
        }
    }

    /// Removes what belongs to attempts that are over.
    fn forget(&mut self, jobs: &[Job]) {
        let keys: HashSet<AttemptKey> = jobs.iter().map(|job| job.key).collect();
        self.ended.retain(|key| keys.contains(key));
        self.forgotten.retain(|key| keys.contains(key));
        self.claims.retain(|key, _| keys.contains(key));
        self.assigned.retain(|key, _| keys.contains(key));
        let mut used: BTreeSet<u32> = self.assigned.values().map(|element| element.batch).collect();
        used.extend(
            self.claims
                .values()
                .filter_map(|claimed| Some(claimed.element()?.batch)),
        );
        for batch in self.ledger.batches() {
            let is_needed = used.contains(&batch) || (self.pilots.contains(&batch) && self.ledger.alive(batch) > 0);
            if !is_needed {
                self.ledger.forget(batch);
                self.pilots.remove(&batch);
                self.shelf.forget(batch);
            }
        }
    }
}

/// Grows with every failure in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => Duration::from_secs(1 << failures.min(9)).min(LONGEST_PAUSE),
    }
}

fn key_of(assignment: &Assignment) -> AttemptKey {
    AttemptKey {
        point: crate::state::PointId(assignment.point),
        attempt: assignment.attempt,
    }
}

fn assignment_of(job: &Job) -> Assignment {
    Assignment {
        point: job.key.point.0,
        attempt: job.key.attempt,
        directory: job.directory.clone(),
        seconds: job.seconds,
    }
}

impl Backend for Slurm {
    fn submit(&mut self, jobs: &[Job]) -> Vec<(AttemptKey, io::Error)> {
        self.is_busy = true;
        if self.is_piloted() {
            let tried = jobs.iter().map(|job| (job.key, self.enqueue(job)));
            let failed = tried.collect::<Vec<_>>();
            return failed
                .into_iter()
                .filter_map(|(key, done)| Some((key, done.err()?)))
                .collect();
        }
        let mut failed = Vec::new();
        let width = self.jobs.side_by_side as usize;
        let largest = self.shelf.largest_array() as usize * width;
        for batch in jobs.chunks(largest) {
            let parts = batch.chunks(width).map(|part| part.iter().map(assignment_of).collect());
            if let Err(error) = self.send(&Work::Attempts(parts.collect())) {
                let again = |job: &Job| (job.key, io::Error::new(error.kind(), error.to_string()));
                failed.extend(batch.iter().map(again));
            }
        }
        failed
    }

    fn poll(&mut self, jobs: &[Job]) -> Vec<JobState> {
        self.is_busy = !jobs.is_empty();
        self.take_answers(jobs);
        let marks = self.shelf.ended();
        if !marks.is_empty() {
            self.fruitless = 0;
            self.refusals = 0;
        }
        self.ended.extend(marks);
        self.ask(jobs);
        self.keep_pilots(jobs);
        let states = jobs.iter().map(|job| self.state_of(job)).collect();
        self.forget(jobs);
        states
    }

    fn cancel(&mut self, jobs: &[Job]) {
        for job in jobs {
            if self.look_for_claim(job).is_none() && self.shelf.revoke(job) {
                let claimed = Claimed {
                    by: Claimant::Manager,
                    before: self.questions.next,
                };
                self.claims.insert(job.key, claimed);
                continue;
            }
            let request = match self.shelf.request(job) {
                None => EndRequest::Stop,
                Some(earlier) => earlier.max(EndRequest::Kill),
            };
            self.shelf.ask_to_end(job, request);
        }
        self.questions.hurry = true;
    }

    fn sweep(&mut self, job: &Job) {
        if !self.shelf.revoke(job) {
            self.shelf.ask_to_end(job, EndRequest::Revoked);
        }
        // The job of an attempt that is over is wanted no more, and cancelled once that is certain.
        self.questions.hurry = true;
    }

    fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn close(&mut self, jobs: &[Job]) {
        self.forget(jobs);
        // What still evaluates something goes on, and is found by the next manager.
        let used = self
            .claims
            .values()
            .filter_map(|claimed| Some(claimed.element()?.batch));
        let used: BTreeSet<u32> = used.filter(|batch| !self.pilots.contains(batch)).collect();
        self.cluster.close(&used);
        for batch in self.ledger.batches() {
            if !used.contains(&batch) {
                self.shelf.forget(batch);
            }
        }
    }

    fn wait(&mut self, descriptors: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<()> {
        let timeout = if self.is_busy { timeout.min(LOOK) } else { timeout };
        let answers = self.cluster.descriptor();
        super::wait_for(descriptors.iter().copied().chain(answers), timeout)
    }
}
