//! Replay: every event is checked against the state it meets.

use std::collections::{BTreeMap, BTreeSet};

use protocol::SegmentId;
use thiserror::Error;

use super::event::{AttemptEnd, Event, NewPoint, TaskEnd};
use super::point::{Attempt, AttemptKey, AttemptStatus, Further, PointId, PointOutcome, PointState};

/// An event that cannot follow the ones before it.
#[derive(Debug, Error, PartialEq)]
#[error("illegal event: {0}")]
pub(crate) struct IllegalEvent(pub(crate) String);

fn illegal(reason: impl Into<String>) -> IllegalEvent {
    IllegalEvent(reason.into())
}

/// When a point is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryLimits {
    /// Attempts that may fail by the payload's fault.
    pub(crate) attempts: u32,
    /// Attempts that may be lost through no fault of the payload.
    pub(crate) lost: u32,
    /// Attempts of one evaluation job.
    pub(crate) points_per_job: Option<u32>,
}

/// An evaluation job: a stretch of attempts, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Job {
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// Whether an attempt is under way.
    pub(crate) busy: bool,
    /// Whether it can take another point: its last attempt ended well.
    pub(crate) open: bool,
    /// Whether it was lost or stopped, so that it does not count against `maxEvaluationJobs`.
    pub(crate) excused: bool,
    pub(crate) segment: Option<SegmentId>,
}

/// Counts of one segment, or of the task when there are none.
#[derive(Debug, Clone, Default)]
pub(crate) struct SegmentState {
    /// Points that were ever proposed.
    pub(crate) generated: u32,
    /// Points without an outcome, running ones included.
    pub(crate) open: u32,
    pub(crate) running: u32,
    /// Points to start: fewest attempts first, then by id.
    pub(crate) ready: BTreeSet<(u32, PointId)>,
    /// Jobs that can take another point at once.
    pub(crate) idle_jobs: BTreeSet<u32>,
    /// Jobs that count against `maxEvaluationJobs`.
    pub(crate) counted_jobs: u32,
}

/// All that the journal says.
#[derive(Debug, Clone)]
pub(crate) struct State {
    limits: RetryLimits,
    pub(crate) created: Option<(String, String)>,
    pub(crate) points: Vec<PointState>,
    pub(crate) segments: BTreeMap<Option<SegmentId>, SegmentState>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) running: BTreeSet<AttemptKey>,
    /// Answers of steering so far.
    pub(crate) iterations: u32,
    /// Failures of the iteration that is due.
    pub(crate) steering_failures: Vec<String>,
    /// Steering has said that there are no more points.
    pub(crate) exhausted: bool,
    pub(crate) end: Option<TaskEnd>,
    /// Points with a loss.
    pub(crate) done: u32,
    /// Points that are given up.
    pub(crate) failed: u32,
    best: Option<PointId>,
    /// Starts of a manager.
    pub(crate) starts: u32,
    /// Points of the search, where the user has raised them since the task was made.
    pub(crate) extended: Option<u32>,
}

impl State {
    /// The state before the first record.
    pub(crate) fn new(limits: RetryLimits) -> State {
        State {
            limits,
            created: None,
            points: Vec::new(),
            segments: BTreeMap::new(),
            jobs: Vec::new(),
            running: BTreeSet::new(),
            iterations: 0,
            steering_failures: Vec::new(),
            exhausted: false,
            end: None,
            done: 0,
            failed: 0,
            best: None,
            starts: 0,
            extended: None,
        }
    }

    /// The point with this id.
    pub(crate) fn point(&self, id: PointId) -> Option<&PointState> {
        self.points.get((id.0 as usize).checked_sub(1)?)
    }

    /// The point with the lowest loss, the first of equal ones, of those that had all data if there are any.
    pub(crate) fn best(&self) -> Option<&PointState> {
        self.point(self.best?)
    }

    /// Points with a loss, best first; equal losses in the order of their ids.
    pub(crate) fn ranking(&self) -> Vec<&PointState> {
        let mut done: Vec<&PointState> = self.points.iter().filter(|point| point.loss().is_some()).collect();
        done.sort_by_key(|point| point.merit());
        done
    }

    /// Takes one more event.
    ///
    /// # Errors
    /// When the event cannot follow; the state is then unchanged.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        if self.created.is_none() != matches!(event, Event::Created { .. }) {
            return Err(illegal("`created` must be the first event and only that"));
        }
        match event {
            Event::Created { task, digest } => self.created = Some((task.clone(), digest.clone())),
            Event::Started { .. } => self.starts += 1,
            Event::Iteration { number, points, .. } => self.iteration(*number, points)?,
            Event::SteeringFailed { number, reason } => {
                self.must_go_on()?;
                if *number != self.iterations + 1 {
                    return Err(illegal(format!(
                        "steering failure of iteration {number} after {}",
                        self.iterations
                    )));
                }
                self.steering_failures.push(reason.clone());
            }
            Event::Intent {
                point,
                attempt,
                job,
                boot_id,
                slot,
            } => {
                self.intent(
                    AttemptKey {
                        point: *point,
                        attempt: *attempt,
                    },
                    *job,
                    boot_id,
                    *slot,
                )?;
            }
            Event::Reported {
                point,
                attempt,
                reports,
            } => {
                let found = self.running_point(*point, *attempt)?;
                let mut last = found.reports().last().map_or(0, |(epoch, _)| *epoch);
                for (epoch, _) in reports {
                    if *epoch <= last {
                        return Err(illegal(format!(
                            "point {point} reports epoch {epoch} after epoch {last}"
                        )));
                    }
                    last = *epoch;
                }
                found.curve.get_or_insert_default().reports.extend(reports);
            }
            Event::EndedEarly {
                point, attempt, epoch, ..
            } => {
                let found = self.running_point(*point, *attempt)?;
                if found.stopped().is_some() {
                    return Err(illegal(format!("point {point} is ended early twice")));
                }
                found.curve.get_or_insert_default().stopped = Some(*epoch);
            }
            Event::AttemptEnded {
                point,
                attempt,
                end,
                seconds,
                time,
            } => {
                self.ended(
                    AttemptKey {
                        point: *point,
                        attempt: *attempt,
                    },
                    end,
                    *seconds,
                    *time,
                )?;
            }
            Event::Ended { end, .. } => {
                self.must_go_on()?;
                if let Some(key) = self.running.first() {
                    return Err(illegal(format!("the task ends while {key} is running")));
                }
                self.end = Some(end.clone());
            }
            Event::Extended { max_points, .. } => {
                if self.extended.is_some_and(|before| *max_points <= before) {
                    return Err(illegal(format!(
                        "the search is extended to {max_points} points, fewer than before"
                    )));
                }
                self.extended = Some(*max_points);
                // Whoever had no more points for a shorter search may have some for a longer one.
                self.exhausted = false;
            }
            Event::Reopened { .. } => self.reopen(),
        }
        Ok(())
    }

    fn running_point(&mut self, point: PointId, attempt: u32) -> Result<&mut PointState, IllegalEvent> {
        let key = AttemptKey { point, attempt };
        if self.running.contains(&key) {
            Ok(&mut self.points[point.0 as usize - 1])
        } else {
            Err(illegal(format!("{key} is heard of although it is not running")))
        }
    }

    /// The shares of the machine that are in use.
    pub(crate) fn slots_in_use(&self) -> BTreeSet<u32> {
        let attempts = self
            .running
            .iter()
            .filter_map(|key| self.point(key.point)?.attempts.last());
        attempts.filter_map(|attempt| attempt.slot).collect()
    }

    fn must_go_on(&self) -> Result<(), IllegalEvent> {
        if self.end.is_some() {
            Err(illegal("something happens after the end of the task"))
        } else {
            Ok(())
        }
    }

    fn iteration(&mut self, number: u32, points: &[NewPoint]) -> Result<(), IllegalEvent> {
        self.must_go_on()?;
        // A long answer has several records of one number.
        if number != self.iterations + 1 && (number != self.iterations || number == 0 || points.is_empty()) {
            return Err(illegal(format!(
                "iteration {number} follows iteration {}",
                self.iterations
            )));
        }
        for (index, new) in points.iter().enumerate() {
            let expected = self.points.len() + 1 + index;
            if new.id.0 as usize != expected {
                return Err(illegal(format!("point {} where point {expected} is due", new.id)));
            }
        }
        self.iterations = number;
        self.steering_failures.clear();
        self.exhausted = points.is_empty();
        for new in points {
            let segment = self.segments.entry(new.segment).or_default();
            segment.generated += 1;
            segment.open += 1;
            segment.ready.insert((0, new.id));
            self.points.push(PointState {
                id: new.id,
                segment: new.segment,
                point: new.point.clone(),
                iteration: number,
                attempts: Vec::new(),
                outcome: PointOutcome::Open,
                failures: 0,
                lost: 0,
                curve: None,
            });
        }
        Ok(())
    }

    fn intent(&mut self, key: AttemptKey, job: u32, boot_id: &str, slot: Option<u32>) -> Result<(), IllegalEvent> {
        self.must_go_on()?;
        let point = self
            .point(key.point)
            .ok_or_else(|| illegal(format!("{key} of a point that does not exist")))?;
        if point.outcome != PointOutcome::Open || point.is_running() {
            return Err(illegal(format!("{key} starts while the point is {}", point.word())));
        }
        let tries = point.attempts.len() as u32;
        if key.attempt != tries + 1 {
            return Err(illegal(format!("{key} follows attempt {tries}")));
        }
        let segment = point.segment;
        let index_in_job = match self.jobs.get((job as usize).wrapping_sub(1)) {
            Some(found) if found.busy || !found.open || found.segment != segment => {
                return Err(illegal(format!(
                    "{key} joins evaluation job {job}, which cannot take it"
                )));
            }
            Some(found) => found.attempts,
            None if job as usize == self.jobs.len() + 1 => {
                self.jobs.push(Job {
                    attempts: 0,
                    busy: false,
                    open: true,
                    excused: false,
                    segment,
                });
                self.segments.entry(segment).or_default().counted_jobs += 1;
                0
            }
            None => {
                return Err(illegal(format!(
                    "{key} opens evaluation job {job} after {}",
                    self.jobs.len()
                )));
            }
        };
        let job_state = &mut self.jobs[job as usize - 1];
        job_state.busy = true;
        job_state.attempts += 1;
        self.running.insert(key);
        let counts = self.segments.entry(segment).or_default();
        counts.running += 1;
        counts.ready.remove(&(tries, key.point));
        counts.idle_jobs.remove(&job);
        let status = AttemptStatus::Running {
            boot_id: boot_id.to_owned(),
        };
        let attempts = &mut self.points[key.point.0 as usize - 1].attempts;
        // Most points have one attempt, and there may be a hundred thousand points.
        attempts.reserve_exact(1);
        attempts.push(Attempt {
            job,
            index_in_job,
            slot,
            status,
            seconds: 0.0,
            time: 0.0,
        });
        Ok(())
    }

    fn ended(&mut self, key: AttemptKey, end: &AttemptEnd, seconds: f64, time: f64) -> Result<(), IllegalEvent> {
        if !self.running.remove(&key) {
            return Err(illegal(format!("{key} ends although it is not running")));
        }
        let limits = self.limits;
        let point = &mut self.points[key.point.0 as usize - 1];
        let counts = self.segments.entry(point.segment).or_default();
        counts.running -= 1;
        let attempt = point.attempts.last_mut().expect("a running point has an attempt");
        let job = &mut self.jobs[attempt.job as usize - 1];
        job.busy = false;
        job.open =
            matches!(end, AttemptEnd::Done { .. }) && limits.points_per_job.is_none_or(|most| job.attempts < most);
        if job.open {
            counts.idle_jobs.insert(attempt.job);
        }
        if matches!(end, AttemptEnd::Lost { .. } | AttemptEnd::Stopped) {
            job.excused = true;
            counts.counted_jobs -= 1;
        }
        attempt.seconds = seconds;
        attempt.time = time;
        match end {
            AttemptEnd::Done {
                loss,
                losses,
                message,
                metrics,
                metadata,
            } => {
                attempt.status = AttemptStatus::Done;
                let further = Further {
                    losses: losses.clone(),
                    message: message.clone(),
                    metrics: metrics.clone(),
                    metadata: *metadata,
                };
                point.outcome = PointOutcome::Done {
                    loss: *loss,
                    attempt: key.attempt,
                    further: (further != Further::default()).then(|| Box::new(further)),
                };
            }
            AttemptEnd::Failed { reason } => {
                attempt.status = AttemptStatus::Failed { reason: reason.clone() };
                point.failures += 1;
                if point.failures >= limits.attempts {
                    point.outcome = PointOutcome::Failed { by_payload: true };
                }
            }
            AttemptEnd::Lost { reason } => {
                attempt.status = AttemptStatus::Lost { reason: reason.clone() };
                point.lost += 1;
                if point.lost > limits.lost {
                    point.outcome = PointOutcome::Failed { by_payload: false };
                }
            }
            AttemptEnd::Stopped => attempt.status = AttemptStatus::Stopped,
        }
        match point.outcome {
            PointOutcome::Open => {
                counts.ready.insert((point.attempts.len() as u32, point.id));
                return Ok(());
            }
            PointOutcome::Done { .. } => {
                self.done += 1;
                let merit = point.merit();
                let best = self.best.and_then(|best| self.points.get(best.0 as usize - 1));
                if best.is_none_or(|best| merit < best.merit()) {
                    self.best = Some(key.point);
                }
            }
            PointOutcome::Failed { .. } => self.failed += 1,
        }
        counts.open -= 1;
        Ok(())
    }

    fn reopen(&mut self) {
        self.end = None;
        self.failed = 0;
        self.steering_failures.clear();
        for point in &mut self.points {
            if matches!(point.outcome, PointOutcome::Failed { .. }) {
                point.outcome = PointOutcome::Open;
                let counts = self.segments.entry(point.segment).or_default();
                counts.open += 1;
                counts.ready.insert((point.attempts.len() as u32, point.id));
            }
            if point.outcome == PointOutcome::Open {
                point.failures = 0;
                point.lost = 0;
            }
        }
        for job in &mut self.jobs {
            // Jobs spent on what is tried again do not count twice.
            if !job.excused && !job.open && !job.busy {
                job.excused = true;
                self.segments.entry(job.segment).or_default().counted_jobs -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
