//! The scheduling rule, as pure functions of state and settings.
//!
//! Steering runs whenever a segment that still lacks points has fewer than `minUnevaluatedPoints` unevaluated ones (none, if
//! that is 0), and is asked for `nPointsPerIteration − minUnevaluatedPoints`, at most what `maxPoints` leaves. Points are
//! started, fewest attempts first, while there are free slots and evaluation jobs.

use protocol::SegmentId;

use crate::state::{AttemptKey, PointState, State, TaskEnd};
use crate::task::{Jobs, Manner, Placement, Request, Settings, Shares};

/// Runs of steering that may fail one after the other before the task fails.
pub(crate) const STEERING_RETRIES: usize = 3;

/// The next attempt to start, and the evaluation job it belongs to; `ahead` attempts may wait for those that run.
pub(crate) fn next_start(state: &State, settings: &Settings, ahead: u32) -> Option<(AttemptKey, u32)> {
    let most = settings.shares.as_ref().and_then(Shares::most);
    if state.end.is_some() || most.is_some_and(|most| state.running.len() >= most) {
        return None;
    }
    // Where the machine is shared, the segment that has least of it comes first.
    let can_start = state.segments.values().filter(|segment| {
        let has_job = !segment.idle_jobs.is_empty() || segment.counted_jobs < settings.max_jobs;
        segment.running < settings.slots.saturating_add(ahead) && has_job && !segment.ready.is_empty()
    });
    let segment = can_start.min_by_key(|segment| segment.running)?;
    let (tries, point) = *segment.ready.first()?;
    let new_job = state.jobs.len() as u32 + 1;
    let job = segment.idle_jobs.first().copied().unwrap_or(new_job);
    let attempt = tries + 1;
    Some((AttemptKey { point, attempt }, job))
}

/// Attempts that are decided about, and written down, before there is a slot for them.
const MOST_AHEAD: u32 = 32;
/// Mean seconds up to which evaluations are short.
const SHORT: f64 = 1.0;

/// How many attempts may wait for a slot, where evaluations take so many seconds on average.
///
/// Until a free slot is heard of, the next attempt is in the journal and its runner has it, some milliseconds pass. For short
/// evaluations that is a part of their time, so some are made ready before. For long ones it is nothing, and whoever looks at the task
/// shall see what really runs. The queue is one for all, and knows neither segments nor shares of the machine.
pub(crate) fn ahead(settings: &Settings, segments: usize, mean_seconds: Option<f64>) -> u32 {
    let is_plain = settings.placement == Placement::Local && settings.shares.is_none() && segments <= 1;
    if is_plain && mean_seconds.is_some_and(|seconds| seconds < SHORT) {
        MOST_AHEAD
    } else {
        0
    }
}

/// Whether so many attempts wait for a slot that none gets idle if the ends of others are taken in a little later, together.
pub(crate) fn may_gather(state: &State, settings: &Settings) -> bool {
    state.running.len() >= (settings.slots + MOST_AHEAD / 2) as usize
}

/// The lowest share of the machine that nobody has.
pub(crate) fn free_slot(state: &State) -> u32 {
    let used = state.slots_in_use();
    // Of one more than are in use, one is free.
    (0..=used.len() as u32).find(|slot| !used.contains(slot)).unwrap_or(0)
}

/// How long evaluations take, by those that are done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The longest, for each epoch where epochs are granted.
    seconds: f64,
}

impl Pace {
    /// Of the evaluations so far; `None` where nobody asks for it, or nothing is known.
    pub(super) fn of(state: &State, settings: &Settings) -> Option<Pace> {
        let Placement::Slurm(Jobs {
            manner: Manner::Pilots(_) | Manner::Allocation(_),
            ..
        }) = settings.placement
        else {
            return None;
        };
        let done = state.points.iter().filter(|point| point.loss().is_some());
        let paces = done.filter_map(|point| Some(point.attempts.last()?.seconds / epochs(point)));
        paces.max_by(f64::total_cmp).map(|seconds| Pace { seconds })
    }

    /// Seconds that a point will take at most, if it is like the others.
    pub(super) fn expected(self, point: &PointState) -> u32 {
        (self.seconds * epochs(point)).ceil().min(f64::from(u32::MAX)) as u32
    }
}

fn epochs(point: &PointState) -> f64 {
    let granted = point.point.reserved("epochs").and_then(protocol::PointValue::as_f64);
    granted.unwrap_or(1.0).max(1.0)
}

/// How many points steering is to be asked for now; `None` if it is not to be run.
pub(crate) fn points_to_ask(state: &State, settings: &Settings, segments: &[Option<SegmentId>]) -> Option<u32> {
    if state.end.is_some() || state.exhausted || state.steering_failures.len() > STEERING_RETRIES {
        return None;
    }
    let threshold = settings.min_unevaluated.max(1);
    let mut most = 0;
    for id in segments {
        let (generated, open, stuck) = state.segments.get(id).map_or((0, 0, false), |segment| {
            let stuck = segment.counted_jobs >= settings.max_jobs && segment.idle_jobs.is_empty();
            (segment.generated, segment.open, stuck)
        });
        if open < threshold && !stuck {
            most = most.max(settings.max_points.saturating_sub(generated));
        }
    }
    let wanted = settings.points_per_iteration - settings.min_unevaluated;
    (most > 0).then(|| wanted.min(most))
}

/// Whether the task is over, when nothing runs and nothing more is to be started.
pub(crate) fn end(state: &State, settings: &Settings, segments: &[Option<SegmentId>]) -> Option<TaskEnd> {
    if state.end.is_some()
        || !state.running.is_empty()
        || next_start(state, settings, 0).is_some()
        || points_to_ask(state, settings, segments).is_some()
    {
        return None;
    }
    if state.steering_failures.len() > STEERING_RETRIES {
        let reason = state.steering_failures.last().cloned().unwrap_or_default();
        return Some(TaskEnd::Failed {
            reason: format!("steering failed {} times: {reason}", STEERING_RETRIES + 1),
        });
    }
    let left: u32 = state.segments.values().map(|segment| segment.open).sum();
    let complete = segments.iter().all(|id| {
        state
            .segments
            .get(id)
            .is_some_and(|segment| segment.generated >= settings.max_points)
    });
    let reason = if left > 0 || (!complete && !state.exhausted) {
        format!(
            "maxEvaluationJobs ({}) are used up, {left} points were not evaluated",
            settings.max_jobs
        )
    } else if complete {
        format!("maxPoints ({}) are evaluated", settings.max_points)
    } else {
        "steering proposes no more points".to_owned()
    };
    Some(TaskEnd::Finished { reason })
}

/// How the task ends because the user wants it to, when nothing runs any more.
pub(crate) fn end_on_request(state: &State, request: Request) -> Option<TaskEnd> {
    if state.end.is_some() || !state.running.is_empty() {
        return None;
    }
    let left: u32 = state.segments.values().map(|segment| segment.open).sum();
    match request {
        Request::Pause => None,
        Request::Kill => Some(TaskEnd::Killed),
        Request::Finish | Request::FinishSoftly => Some(TaskEnd::Finished {
            reason: format!("`hpo finish` was called, {left} points were not evaluated"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{AttemptEnd, Event, NewPoint, PointId};
    use protocol::task_options::TaskOptions;
    use protocol::{Loss, Point};
    use std::collections::BTreeMap;

    const PLAIN: [Option<SegmentId>; 1] = [None];

    fn settings(change: impl FnOnce(&mut TaskOptions)) -> Settings {
        let mut options = TaskOptions {
            max_points: Some(6),
            ..TaskOptions::default()
        };
        change(&mut options);
        Settings::resolve(&options).unwrap()
    }

    struct Simulation {
        state: State,
        settings: Settings,
        segments: Vec<Option<SegmentId>>,
    }

    impl Simulation {
        fn new(settings: Settings, segments: &[Option<SegmentId>]) -> Simulation {
            let mut state = State::new(settings.retry);
            state
                .apply(&Event::Created {
                    task: String::new(),
                    digest: String::new(),
                })
                .unwrap();
            Simulation {
                state,
                settings,
                segments: segments.to_vec(),
            }
        }

        fn ask(&self) -> Option<u32> {
            points_to_ask(&self.state, &self.settings, &self.segments)
        }

        fn steer(&mut self, segments: &[Option<SegmentId>]) {
            let first = self.state.points.len() as u32 + 1;
            let points = segments.iter().zip(first..).map(|(segment, id)| NewPoint {
                id: PointId(id),
                segment: *segment,
                point: Point::default(),
            });
            let number = self.state.iterations + 1;
            self.state
                .apply(&Event::Iteration {
                    number,
                    asked: 0,
                    points: points.collect(),
                })
                .unwrap();
        }

        fn start(&mut self, AttemptKey { point, attempt }: AttemptKey, job: u32) {
            self.state
                .apply(&Event::Intent {
                    point,
                    attempt,
                    job,
                    boot_id: String::new(),
                    slot: None,
                })
                .unwrap();
        }

        fn start_all(&mut self) -> Vec<(u32, u32, u32)> {
            let mut started = Vec::new();
            while let Some((key, job)) = next_start(&self.state, &self.settings, 0) {
                self.start(key, job);
                started.push((key.point.0, key.attempt, job));
            }
            started
        }

        fn finish(&mut self, point: u32, attempt: u32, good: bool) {
            let end = if good {
                let loss = Loss::new(1.0).unwrap();
                AttemptEnd::Done {
                    loss,
                    losses: Vec::new(),
                    message: None,
                    metrics: None,
                    metadata: false,
                }
            } else {
                AttemptEnd::Failed { reason: String::new() }
            };
            let event = Event::AttemptEnded {
                point: PointId(point),
                attempt,
                end,
                seconds: 0.0,
                time: 0.0,
            };
            self.state.apply(&event).unwrap();
        }

        fn over(&self) -> Option<TaskEnd> {
            end(&self.state, &self.settings, &self.segments)
        }
    }

    #[test]
    fn only_short_evaluations_of_one_queue_are_decided_about_ahead() {
        let plain = settings(|_| {});
        assert_eq!(ahead(&plain, 1, None), 0, "nothing is known yet");
        assert_eq!(ahead(&plain, 1, Some(0.1)), MOST_AHEAD);
        assert_eq!(ahead(&plain, 1, Some(10.0)), 0);
        assert_eq!(ahead(&plain, 2, Some(0.1)), 0);
        let on_slurm = settings(|options| options.backend = Some(protocol::task_options::Backend::Slurm));
        assert_eq!(ahead(&on_slurm, 1, Some(0.1)), 0);

        let mut search = Simulation::new(settings(|options| options.n_parallel_evaluation = Some(2)), &PLAIN);
        search.steer(&[None; 6]);
        search.start_all();
        assert!(next_start(&search.state, &search.settings, 0).is_none());
        let (key, job) = next_start(&search.state, &search.settings, 1).unwrap();
        assert_eq!((key.point, job), (PointId(3), 3));
        search.start(key, job);
        assert!(next_start(&search.state, &search.settings, 1).is_none());
    }

    #[test]
    fn ends_are_gathered_only_while_enough_attempts_wait() {
        let settings = settings(|options| {
            options.n_parallel_evaluation = Some(2);
            options.max_points = Some(100);
        });
        let mut search = Simulation::new(settings, &PLAIN);
        search.steer(&[None; 100]);
        let mut waiting = 0;
        while let Some((key, job)) = next_start(&search.state, &search.settings, MOST_AHEAD) {
            assert_eq!(
                may_gather(&search.state, &search.settings),
                waiting >= 2 + MOST_AHEAD / 2
            );
            search.start(key, job);
            waiting += 1;
        }
        assert!(may_gather(&search.state, &search.settings));
    }

    #[test]
    fn segments_that_share_a_machine_get_equal_parts_of_it() {
        let segments = [0, 1, 2].map(|id| Some(SegmentId(id)));
        let mut search = Simulation::new(
            settings(|options| {
                options.n_parallel_evaluation = Some(6);
                options.max_points = Some(60);
            }),
            &segments,
        );
        for segment in segments {
            search.steer(&[segment; 20]);
        }
        let mut running = BTreeMap::from(segments.map(|segment| (segment, 0)));
        // Six at a time of eighteen that might run: whatever the order of their ends, nobody gets ahead by more than one.
        for _ in 0..6 {
            let (key, job) = next_start(&search.state, &search.settings, 0).unwrap();
            search.start(key, job);
            *running
                .entry(search.state.point(key.point).unwrap().segment)
                .or_default() += 1;
        }
        assert_eq!(running.values().copied().collect::<Vec<u32>>(), [2, 2, 2]);
        for (point, next) in [
            (21, Some(SegmentId(1))),
            (1, Some(SegmentId(0))),
            (41, Some(SegmentId(2))),
        ] {
            search.finish(point, 1, true);
            let (key, job) = next_start(&search.state, &search.settings, 0).unwrap();
            assert_eq!(search.state.point(key.point).unwrap().segment, next);
            search.start(key, job);
        }
    }

    #[test]
    fn no_slot_is_idle_while_a_point_is_unevaluated() {
        let settings = settings(|options| {
            options.n_parallel_evaluation = Some(3);
            options.n_points_per_iteration = Some(9);
            options.min_unevaluated_points = Some(4);
            options.max_points = Some(40);
            options.max_attempts = Some(2);
        });
        let mut search = Simulation::new(settings, &PLAIN);
        let mut running: Vec<(u32, u32)> = Vec::new();
        let mut order = 7_u32;
        let mut steps = 0;
        while search.over().is_none() {
            // Steering runs beside evaluations, as soon as fewer than four points are unevaluated.
            if let Some(asked) = search.ask() {
                assert!(search.state.segments.get(&None).map_or(0, |counts| counts.open) < 4);
                search.steer(&vec![None; asked as usize]);
            }
            running.extend(search.start_all().iter().map(|(point, attempt, _)| (*point, *attempt)));
            let open = search.state.segments[&None].open;
            assert_eq!(running.len() as u32, open.min(3), "after {steps} ends");
            order = order.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let (point, attempt) = running.swap_remove(order as usize / 7 % running.len());
            search.finish(point, attempt, !order.is_multiple_of(5));
            steps += 1;
        }
        assert!(steps > 40, "some attempts have failed");
    }

    #[test]
    fn without_a_threshold_steering_runs_when_no_point_is_left() {
        let mut search = Simulation::new(settings(|_| ()), &PLAIN);
        assert_eq!(search.ask(), Some(2));
        search.steer(&[None, None]);
        assert_eq!(search.ask(), None);
        assert_eq!(search.start_all(), [(1, 1, 1)]);
        search.finish(1, 1, true);
        assert_eq!(search.ask(), None);
        assert_eq!(search.start_all(), [(2, 1, 1)]);
        search.finish(2, 1, true);
        assert_eq!(search.ask(), Some(2));
    }

    #[test]
    fn with_a_threshold_steering_overlaps_evaluations_and_is_asked_for_the_difference() {
        let settings = settings(|options| {
            options.n_points_per_iteration = Some(5);
            options.min_unevaluated_points = Some(2);
            options.n_parallel_evaluation = Some(4);
        });
        let mut search = Simulation::new(settings, &PLAIN);
        assert_eq!(search.ask(), Some(3));
        search.steer(&[None; 3]);
        assert_eq!(search.start_all().len(), 3);
        search.finish(1, 1, true);
        assert_eq!(search.ask(), None, "two are left, the threshold is two");
        search.finish(2, 1, true);
        assert_eq!(search.ask(), Some(3));
        search.steer(&[None; 3]);
        for point in 3..=6 {
            search.start_all();
            search.finish(point, 1, true);
        }
        assert_eq!(search.ask(), None, "maxPoints are reached");
        assert_eq!(
            search.over(),
            Some(TaskEnd::Finished {
                reason: "maxPoints (6) are evaluated".into()
            })
        );
    }

    #[test]
    fn the_last_iteration_is_asked_for_no_more_than_is_left() {
        let mut search = Simulation::new(settings(|options| options.n_points_per_iteration = Some(4)), &PLAIN);
        search.steer(&[None; 4]);
        for point in 1..=4 {
            search.start_all();
            search.finish(point, 1, true);
        }
        assert_eq!(search.ask(), Some(2));
    }

    #[test]
    fn failed_points_are_retried_in_another_job_after_fresh_ones() {
        let mut search = Simulation::new(settings(|_| ()), &PLAIN);
        search.steer(&[None; 2]);
        search.start_all();
        search.finish(1, 1, false);
        assert_eq!(search.start_all(), [(2, 1, 2)]);
        search.finish(2, 1, true);
        assert_eq!(search.start_all(), [(1, 2, 2)]);
    }

    #[test]
    fn jobs_are_limited_in_length_and_number() {
        let limited = settings(|options| {
            options.max_points_per_evaluation_job = Some(1);
            options.max_evaluation_jobs = Some(3);
            options.n_points_per_iteration = Some(6);
        });
        let mut search = Simulation::new(limited, &PLAIN);
        search.steer(&[None; 6]);
        for point in 1..=3 {
            assert_eq!(search.start_all(), [(point, 1, point)]);
            search.finish(point, 1, true);
        }
        assert_eq!(search.start_all(), []);
        let reason = "maxEvaluationJobs (3) are used up, 3 points were not evaluated".to_owned();
        assert_eq!(search.over(), Some(TaskEnd::Finished { reason }));
    }

    #[test]
    fn segments_have_slots_and_limits_of_their_own() {
        let segments = [Some(SegmentId(0)), Some(SegmentId(1))];
        let two = settings(|options| {
            options.n_parallel_evaluation = Some(1);
            options.max_points = Some(3);
        });
        let mut search = Simulation::new(two, &segments);
        assert_eq!(search.ask(), Some(2));
        search.steer(&[segments[0], segments[0], segments[0], segments[1]]);
        assert_eq!(search.start_all(), [(1, 1, 1), (4, 1, 2)]);
        search.finish(4, 1, true);
        assert_eq!(search.ask(), Some(2), "the second segment has no point left");
        search.steer(&[]);
        search.finish(1, 1, true);
        for point in [2, 3] {
            search.start_all();
            search.finish(point, 1, true);
        }
        let reason = "steering proposes no more points".to_owned();
        assert_eq!(search.over(), Some(TaskEnd::Finished { reason }));
    }

    #[test]
    fn a_steering_that_keeps_failing_ends_the_task_after_what_is_outstanding() {
        let overlapping = settings(|options| {
            options.n_points_per_iteration = Some(3);
            options.min_unevaluated_points = Some(2);
        });
        let mut search = Simulation::new(overlapping, &PLAIN);
        search.steer(&[None]);
        search.start_all();
        for _ in 0..=STEERING_RETRIES {
            assert_eq!(search.ask(), Some(1));
            let failure = Event::SteeringFailed {
                number: 2,
                reason: "no output".into(),
            };
            search.state.apply(&failure).unwrap();
        }
        assert_eq!((search.ask(), search.over()), (None, None));
        search.finish(1, 1, true);
        let reason = "steering failed 4 times: no output".to_owned();
        assert_eq!(search.over(), Some(TaskEnd::Failed { reason }));
    }
}
