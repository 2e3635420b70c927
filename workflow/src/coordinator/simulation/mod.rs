//! The manager against a simulated Slurm: clocks, failures, preemptions and orders of completion are drawn from a seed.
//!
//! The state machine, the planner, the rule that settles attempts and the backend are the real ones; Slurm, its nodes, the files and
//! the runners are simulated by `world`. The manager is killed at any turn, before or after it has committed, and a new one
//! begins with what was committed. At the end nothing may be lost, nothing evaluated beyond the retry rule, and every task over.

mod world;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use protocol::task_options::TaskOptions;
use protocol::{Point, SegmentId};

use super::plan;
use super::settle::{Circumstances, Settled, settle};
use crate::backend::{Backend, Job, Slurm};
use crate::state::{AttemptEnd, AttemptKey, AttemptStatus, Event, NewPoint, PointId, PointOutcome, State, TaskEnd};
use crate::task::{Jobs, Manner, Placement, Settings};
use world::{Handle, Plant, World};

/// Simulated seconds after which a task must be over.
const PATIENCE: f64 = 500_000.0;

/// One task, from its beginning to its end.
struct Schedule {
    world: Rc<RefCell<World>>,
    settings: Settings,
    segments: Vec<Option<SegmentId>>,
    journal: Vec<Event>,
    /// How attempts ended that the user was shown the end of.
    shown: HashMap<AttemptKey, AttemptEnd>,
    state: State,
    slurm: Slurm,
    batch: Vec<Event>,
    crashes: u32,
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let mut world = World::new(seed);
        let pilots = world.below(2) == 0;
        let side_by_side = 1 + world.below(3) as u32;
        let is_segmented = world.below(3) == 0;
        let options = TaskOptions {
            backend: Some(protocol::task_options::Backend::Slurm),
            slurm_pilots: pilots.then(|| 1 + world.below(3) as u32),
            evaluations_per_job: Some(side_by_side),
            slurm_time: Some("10m".to_owned()),
            max_points: Some(2 + world.below(6) as u32),
            n_parallel_evaluation: Some(1 + world.below(5) as u32),
            n_points_per_iteration: Some(3),
            min_unevaluated_points: Some(world.below(3) as u32),
            max_evaluation_jobs: Some(1000),
            max_lost_attempts: Some(30),
            ..TaskOptions::default()
        };
        let segments = if is_segmented {
            vec![Some(SegmentId(0)), Some(SegmentId(1))]
        } else {
            vec![None]
        };
        Schedule::of(world, &options, segments)
    }

    fn of(mut world: World, options: &TaskOptions, segments: Vec<Option<SegmentId>>) -> Schedule {
        let settings = Settings::resolve(options).expect("these options are valid");
        world.slots = settings.slots as usize * segments.len();
        if let Placement::Slurm(Jobs {
            manner: Manner::Pilots(most),
            ..
        }) = settings.placement
        {
            world.most_pilots = most;
        }
        let world = Rc::new(RefCell::new(world));
        let created = Event::Created {
            task: String::new(),
            digest: String::new(),
        };
        let slurm = manager(&world, &settings);
        let mut schedule = Schedule {
            state: State::new(settings.retry),
            world,
            settings,
            segments,
            journal: Vec::new(),
            shown: HashMap::new(),
            slurm,
            batch: Vec::new(),
            crashes: 0,
        };
        schedule.push(created);
        schedule.commit();
        schedule
    }

    fn push(&mut self, event: Event) {
        self.state.apply(&event).expect("the manager makes legal events only");
        self.batch.push(event);
    }

    fn commit(&mut self) {
        for event in &self.batch {
            if let Event::AttemptEnded {
                point, attempt, end, ..
            } = event
            {
                let key = AttemptKey {
                    point: *point,
                    attempt: *attempt,
                };
                self.shown.insert(key, end.clone());
            }
        }
        self.journal.append(&mut self.batch);
    }

    fn chance(&self, in_thousand: u64) -> bool {
        let mut world = self.world.borrow_mut();
        world.below(1000) < in_thousand && !world.is_kind
    }

    /// The manager dies; the next one knows what is in the journal, and finds what is in the files.
    fn crash(&mut self) {
        self.crashes += 1;
        self.batch.clear();
        if self.has_plant(Plant::CommitForgotten) && self.journal.len() > 1 {
            self.journal.pop();
        }
        self.state = State::new(self.settings.retry);
        for event in &self.journal {
            self.state.apply(event).expect("what was committed can be replayed");
        }
        self.must_know_what_was_shown();
        self.world.borrow_mut().manager_dies();
        self.slurm = manager(&self.world, &self.settings);
    }

    fn has_plant(&self, plant: Plant) -> bool {
        self.world.borrow().plant == Some(plant)
    }

    /// Every end that was ever shown is as it was.
    fn must_know_what_was_shown(&self) {
        for (key, end) in &self.shown {
            let attempt = self
                .state
                .point(key.point)
                .and_then(|point| point.attempts.get(key.attempt as usize - 1));
            let is_known = attempt.is_some_and(|attempt| match (&attempt.status, end) {
                (AttemptStatus::Done, AttemptEnd::Done { .. }) | (AttemptStatus::Stopped, AttemptEnd::Stopped) => true,
                (AttemptStatus::Failed { reason: now }, AttemptEnd::Failed { reason: then })
                | (AttemptStatus::Lost { reason: now }, AttemptEnd::Lost { reason: then }) => now == then,
                _ => false,
            });
            assert!(is_known, "the end of {key} was shown and is forgotten");
        }
    }

    fn jobs(&self) -> Vec<Job> {
        self.state.running.iter().map(|key| job(*key)).collect()
    }

    /// One turn of the manager; true when the task is over.
    fn turn(&mut self) -> bool {
        let jobs = self.jobs();
        let found = self.slurm.poll(&jobs);
        let mut missing = Vec::new();
        for (job, found) in jobs.iter().zip(found) {
            let result = self.world.borrow().result(job.key);
            let at = Circumstances {
                asked_to_end: false,
                stopping: false,
                take_over: false,
                is_shared: true,
                rebooted: false,
            };
            let saved = || self.world.borrow().has_saved(job.key);
            match settle(&found, result, at, saved) {
                Settled::Waits => {}
                Settled::Starts => missing.push(job.key),
                Settled::Ends { end, .. } => self.ended(job.key, end),
                Settled::Abandoned { end } => {
                    self.slurm.sweep(job);
                    self.world.borrow_mut().is_abandoned(job.key);
                    self.ended(job.key, end);
                }
            }
        }
        if self.chance(3) {
            self.crash();
            return false;
        }
        let mut starts = missing;
        while let Some((key, number)) = plan::next_start(&self.state, &self.settings, 0) {
            self.push(Event::Intent {
                point: key.point,
                attempt: key.attempt,
                job: number,
                boot_id: String::new(),
                slot: None,
            });
            starts.push(key);
        }
        if let Some(asked) = plan::points_to_ask(&self.state, &self.settings, &self.segments) {
            self.steer(asked);
        } else if let Some(end) = plan::end(&self.state, &self.settings, &self.segments) {
            self.push(Event::Ended { end, time: 0.0 });
        }
        self.commit();
        if self.chance(3) {
            self.crash();
            return false;
        }
        if !starts.is_empty() {
            let jobs: Vec<Job> = starts.iter().map(|key| job(*key)).collect();
            self.world.borrow_mut().prepare(&starts);
            assert!(self.slurm.submit(&jobs).is_empty(), "nothing fails here");
        }
        self.state.end.is_some()
    }

    fn ended(&mut self, key: AttemptKey, end: AttemptEnd) {
        let end = match end {
            AttemptEnd::Lost { reason } if self.has_plant(Plant::PayloadsBlamed) => AttemptEnd::Failed { reason },
            end => end,
        };
        if matches!(end, AttemptEnd::Failed { .. }) {
            self.world.borrow().is_blamed(key);
        }
        self.push(Event::AttemptEnded {
            point: key.point,
            attempt: key.attempt,
            end,
            seconds: 1.0,
            time: 0.0,
        });
    }

    fn steer(&mut self, asked: u32) {
        let first = self.state.points.len() as u32 + 1;
        let mut points = Vec::new();
        for segment in &self.segments {
            let generated = self.state.segments.get(segment).map_or(0, |counts| counts.generated);
            for _ in 0..asked.min(self.settings.max_points - generated) {
                points.push(NewPoint {
                    id: PointId(first + points.len() as u32),
                    segment: *segment,
                    point: Point::default(),
                });
            }
        }
        let number = self.state.iterations + 1;
        self.push(Event::Iteration { number, asked, points });
    }

    /// Runs to the end and judges it.
    fn run(mut self) -> Counts {
        loop {
            if self.turn() {
                break;
            }
            let mut world = self.world.borrow_mut();
            world.advance();
            assert!(
                world.now() < PATIENCE,
                "the task does not come to its end: {:?}",
                self.state.running
            );
        }
        let end = self.state.end.clone();
        assert!(matches!(end, Some(TaskEnd::Finished { .. })), "{end:?}");
        self.slurm.close(&[]);
        self.must_know_what_was_shown();
        let mut world = self.world.borrow_mut();
        world.settle_down();
        world.must_be_quiet();
        let mut counts = Counts {
            crashes: self.crashes,
            faults: world.faults,
            ..Counts::default()
        };
        for point in &self.state.points {
            counts.attempts += point.attempts.len() as u32;
            match &point.outcome {
                PointOutcome::Done { attempt, .. } => {
                    let key = AttemptKey {
                        point: point.id,
                        attempt: *attempt,
                    };
                    assert!(world.has_left_a_result(key), "{key} is done without a result");
                }
                PointOutcome::Failed { by_payload: true } => assert_eq!(point.failures, self.settings.retry.attempts),
                PointOutcome::Failed { by_payload: false } => assert!(point.lost > self.settings.retry.lost),
                PointOutcome::Open => panic!("point {} was forgotten", point.id),
            }
        }
        let most = self.settings.max_points as usize * self.segments.len();
        assert_eq!(self.state.points.len(), most, "points are missing");
        counts
    }
}

/// What happened in a schedule.
#[derive(Debug, Default)]
struct Counts {
    attempts: u32,
    crashes: u32,
    faults: u32,
}

fn job(key: AttemptKey) -> Job {
    Job {
        key,
        directory: format!("{}-{}", key.point, key.attempt).into(),
        seconds: None,
    }
}

fn manager(world: &Rc<RefCell<World>>, settings: &Settings) -> Slurm {
    let Placement::Slurm(jobs) = &settings.placement else {
        panic!("the simulation is one of Slurm");
    };
    let handle = Handle(Rc::clone(world));
    Slurm::with(Box::new(handle.clone()), Box::new(handle), jobs.clone())
}

fn run(seeds: std::ops::Range<u64>) -> HashMap<&'static str, u64> {
    let mut sums = HashMap::new();
    for seed in seeds {
        let counts = std::panic::catch_unwind(|| Schedule::new(seed).run());
        let counts = counts.unwrap_or_else(|_| panic!("schedule {seed} went wrong, see above"));
        for (name, count) in [
            ("schedules", 1),
            ("attempts", counts.attempts),
            ("crashes", counts.crashes),
            ("faults", counts.faults),
        ] {
            *sums.entry(name).or_default() += u64::from(count);
        }
    }
    sums
}

#[test]
fn whatever_happens_to_jobs_and_manager_nothing_is_lost_or_done_twice() {
    let sums = run(0..150);
    // Otherwise this would be no test.
    assert!(sums["crashes"] > 50 && sums["faults"] > 50, "{sums:?}");
}

/// What goes wrong first when a fault is planted into schedules from the first on, if anything does within two thousand.
fn noticed(plant: Plant) -> Option<String> {
    (0..2000).find_map(|seed| {
        let schedule = Schedule::new(seed);
        schedule.world.borrow_mut().plant = Some(plant);
        let noticed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| schedule.run())).err()?;
        let said = noticed.downcast_ref::<String>().cloned();
        Some(said.unwrap_or_else(|| {
            noticed
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .unwrap_or_default()
        }))
    })
}

#[test]
fn every_planted_fault_is_noticed_for_what_it_is() {
    for (plant, expected) in Plant::ALL {
        let said = noticed(plant).unwrap_or_else(|| panic!("{plant:?} goes unnoticed"));
        assert!(expected.iter().any(|words| said.contains(words)), "{plant:?}: {said}");
    }
}

#[test]
fn a_thousand_points_are_one_submission() {
    let submissions = |change: &dyn Fn(&mut TaskOptions)| {
        let mut options = TaskOptions {
            backend: Some(protocol::task_options::Backend::Slurm),
            max_points: Some(1000),
            n_points_per_iteration: Some(1000),
            min_unevaluated_points: Some(0),
            ..TaskOptions::default()
        };
        change(&mut options);
        let schedule = Schedule::of(World::quiet(), &options, vec![None]);
        let world = Rc::clone(&schedule.world);
        let counts = schedule.run();
        assert_eq!(counts.attempts, 1000);
        world.borrow().submissions.clone()
    };
    let arrays = submissions(&|options| {
        options.n_parallel_evaluation = Some(1000);
        options.evaluations_per_job = Some(2);
    });
    assert_eq!(arrays, [500]);
    let pilots = submissions(&|options| {
        options.n_parallel_evaluation = Some(100);
        options.slurm_pilots = Some(25);
        options.evaluations_per_job = Some(4);
    });
    assert_eq!(pilots, [25]);
}

/// For `cargo test --release -p workflow million -- --ignored`; `HPO_SCHEDULES` says how many, if not a million.
#[test]
#[ignore = "takes long; for releases"]
fn a_million_schedules_lose_nothing() {
    let all = std::env::var("HPO_SCHEDULES").ok().and_then(|count| count.parse().ok());
    let all: u64 = all.unwrap_or(1_000_000);
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let begin = next.fetch_add(1000, std::sync::atomic::Ordering::Relaxed);
                    if begin >= all {
                        return;
                    }
                    run(begin..all.min(begin + 1000));
                }
            });
        }
    });
}
