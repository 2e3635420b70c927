//! What the jobs of Slurm do, what goes wrong with them, and the processes of their evaluations.

use protocol::Loss;

use super::{Plant, World, key_of};
use crate::backend::simulated::{EndState, Phase};
use crate::runner::{Assignment, Claimant, Element, EndRequest, RunnerResult, Work};
use crate::state::{AttemptEnd, AttemptKey};

/// What goes wrong with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its node dies, and its processes with it.
    Node,
    /// Its node is cut off: Slurm gives it up, its processes go on.
    CutOff,
    /// As `CutOff`, and Slurm starts it once more.
    StartedOnceMore,
    Preempted,
    TimeLimit,
    Memory,
    /// A runner is killed, and nobody speaks for it.
    Runner,
}

/// An evaluation at work.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) key: AttemptKey,
    pub(super) ends_at: f64,
    pub(super) end: AttemptEnd,
    pub(super) at_time_limit: bool,
    /// When it looks for requests to end.
    pub(super) looks_at: f64,
}

impl World {
    /// The processes of a job save, perhaps, and end.
    pub(super) fn terminate(&mut self, element: Element, at_time_limit: bool) {
        let now = self.now;
        let saves = self.below(2) == 0;
        for process in self.processes.get_mut(&element).into_iter().flatten() {
            process.end = AttemptEnd::Stopped;
            process.ends_at = process.ends_at.min(now + 1.0);
            process.at_time_limit = at_time_limit;
            if saves {
                self.saved.insert(process.key);
            } else if at_time_limit {
                self.to_blame.insert(process.key);
            }
        }
    }

    pub(super) fn step(&mut self, element: Element) {
        let job = &self.jobs[&element];
        match job.phase {
            Phase::Queued if job.at <= self.now => self.start(element),
            Phase::Ended(_) | Phase::Queued => {}
            Phase::Active => {
                if let Some((at, fault)) = job.fault
                    && at <= self.now
                {
                    self.happen(element, fault);
                }
                self.go_on(element);
            }
        }
    }

    fn start(&mut self, element: Element) {
        let trouble = self.below(100) < self.trouble;
        let fault = trouble.then(|| {
            let all = [
                Fault::Node,
                Fault::CutOff,
                Fault::StartedOnceMore,
                Fault::Preempted,
                Fault::TimeLimit,
                Fault::Memory,
                Fault::Runner,
            ];
            let fault = all[self.below(all.len() as u64) as usize];
            (self.now + self.seconds(60), fault)
        });
        let now = self.now;
        *self.starts.entry(element).or_default() += 1;
        let job = self.jobs.get_mut(&element).expect("it is about to start");
        job.phase = Phase::Active;
        job.fault = fault;
        job.at = now;
        let own = match self.batches.get(&element.batch) {
            Some(Work::Attempts(jobs)) => jobs.get(element.index as usize).cloned(),
            _ => None,
        };
        for assignment in own.iter().flatten() {
            self.begin(element, assignment);
        }
    }

    /// A runner starts; it works if nobody else has the attempt.
    fn begin(&mut self, element: Element, assignment: &Assignment) {
        let key = key_of(assignment);
        let is_taken = self.claims.contains_key(&key) && self.plant != Some(Plant::ClaimsIgnored);
        // Without an order a runner ends at once.
        if is_taken || !self.orders.contains(&key) {
            return;
        }
        self.claims.insert(key, Claimant::Job(element));
        let starts = self.starts.get(&element).copied().unwrap_or(0);
        self.claimed_in.insert(key, starts);
        *self.runs.entry(key).or_default() += 1;
        let others = self.processes.values().flatten();
        for other in others.filter(|other| other.key.point == key.point) {
            let request = self.requests.get(&other.key);
            assert_eq!(
                request,
                Some(&EndRequest::Revoked),
                "{} still runs beside {key}",
                other.key
            );
        }
        let end = match self.below(10) {
            0 if !self.is_kind => AttemptEnd::Failed { reason: "x".to_owned() },
            1 if self.trouble > 0 => AttemptEnd::Lost { reason: "x".to_owned() },
            _ => AttemptEnd::Done {
                loss: Loss::new(1.0).expect("a number"),
                losses: Vec::new(),
                message: None,
                metrics: None,
                metadata: false,
            },
        };
        if matches!(end, AttemptEnd::Failed { .. }) {
            self.to_blame.insert(key);
        }
        let ends_at = self.now + self.seconds(60);
        self.processes.entry(element).or_default().push(Process {
            key,
            ends_at,
            end,
            at_time_limit: false,
            looks_at: self.now + 2.0,
        });
    }

    fn happen(&mut self, element: Element, fault: Fault) {
        self.faults += 1;
        let later = self.now + 20.0 + self.seconds(60);
        let now = self.now;
        if fault == Fault::Memory {
            let own = self.processes.get(&element).into_iter().flatten();
            self.to_blame.extend(own.map(|process| process.key));
        }
        let is_dead = matches!(fault, Fault::Node | Fault::Memory | Fault::Runner);
        if is_dead {
            self.processes.remove(&element);
        }
        if matches!(fault, Fault::Preempted | Fault::TimeLimit) {
            self.terminate(element, fault == Fault::TimeLimit);
        }
        let again = self.below(4) == 0;
        let job = self.jobs.get_mut(&element).expect("something happens to it");
        job.fault = None;
        let end = match fault {
            Fault::StartedOnceMore => None,
            Fault::Node if again => None,
            Fault::Node | Fault::CutOff => Some(EndState::Node),
            Fault::Preempted => Some(EndState::Preempted),
            Fault::TimeLimit => Some(EndState::TimeLimit),
            Fault::Memory => Some(EndState::Memory),
            Fault::Runner => Some(EndState::Failed),
        };
        match end {
            None => {
                job.phase = Phase::Queued;
                job.at = later;
            }
            Some(end) => {
                job.phase = Phase::Ended(end);
                job.at = now;
            }
        }
    }

    /// A job at work takes what there is, and ends when there is nothing.
    fn go_on(&mut self, element: Element) {
        let (is_known, side_by_side) = match self.batches.get(&element.batch) {
            Some(Work::Pilots { side_by_side, .. }) => (true, Some(*side_by_side)),
            Some(Work::Attempts(_)) => (true, None),
            None => (false, None),
        };
        let busy = |world: &World| world.processes.get(&element).map_or(0, Vec::len);
        let is_stopping = self.jobs[&element].is_stopping || !is_known;
        let is_active = self.jobs[&element].phase == Phase::Active;
        if let Some(side_by_side) = side_by_side
            && !is_stopping
            && is_active
        {
            while busy(self) < side_by_side as usize && !self.queue.is_empty() {
                let (_, assignment) = self.queue.remove(0);
                // Between taking and claiming, too, something may happen.
                if self.below(200) >= self.trouble {
                    self.begin(element, &assignment);
                }
            }
        }
        let (now, count) = (self.now, busy(self));
        let is_pilot = side_by_side.is_some();
        let job = self.jobs.get_mut(&element).expect("it goes on");
        if count > 0 {
            job.at = now;
        } else if is_active && (!is_pilot || is_stopping || now - job.at > 120.0) {
            job.phase = Phase::Ended(if is_stopping {
                EndState::Cancelled
            } else {
                EndState::Completed
            });
            job.at = now;
        }
    }

    pub(super) fn run_processes(&mut self) {
        for (element, processes) in std::mem::take(&mut self.processes) {
            let left: Vec<Process> = processes
                .into_iter()
                .filter_map(|process| self.run_process(process))
                .collect();
            if !left.is_empty() {
                self.processes.insert(element, left);
            }
        }
    }

    /// What is left of a process after it has done what it does now.
    fn run_process(&mut self, process: Process) -> Option<Process> {
        let now = self.now;
        let request = self.requests.get(&process.key).copied();
        let asked = request.is_some() && process.looks_at <= now;
        if request == Some(EndRequest::Revoked) && (asked || process.ends_at <= now) {
            return None;
        }
        if process.ends_at > now && !asked {
            let looks_at = if process.looks_at <= now {
                now + 2.0
            } else {
                process.looks_at
            };
            return Some(Process { looks_at, ..process });
        }
        let end = if asked { AttemptEnd::Stopped } else { process.end };
        let result = RunnerResult {
            task: String::new(),
            point: process.key.point,
            attempt: process.key.attempt,
            at_time_limit: process.at_time_limit && end == AttemptEnd::Stopped,
            end,
            seconds: 1.0,
            warnings: Vec::new(),
        };
        let seen = if self.is_kind { now } else { now + self.seconds(60) };
        self.results.insert(process.key, (seen, result));
        self.marks.push((seen, process.key));
        None
    }
}
