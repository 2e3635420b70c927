//! What every registered scheduler must do. Driven by the registry: a new scheduler is tested by being registered.

use proptest::prelude::*;
use serde_json::Value;
use steering::ask::Request;
use steering::schedulers::{Fidelity, Registry, Schedule};

use super::simulation::{Course, Finished, run};
use super::{next, plane, schedule, scheduled};

/// Each scheduler, with settings that make it small.
fn schedules() -> Vec<Schedule> {
    let registry = Registry::standard();
    let names = registry.entries().map(|entry| entry.name);
    names.map(|name| schedule(name, 9, &[])).collect()
}

/// Searches over shares of the data with a scheduler in each step.
fn in_two_steps() -> Vec<Schedule> {
    let settings = |first, second| {
        [
            ("first", first),
            ("second", second),
            ("epochs", "9"),
            ("full-epochs", "9"),
            ("top", "2"),
            ("calibration", "4"),
        ]
    };
    let steps = [
        ("asha", "halving"),
        ("hyperband", "asha"),
        ("none", "pasha"),
        ("none", "model"),
    ];
    let schedules = steps.map(|(first, second)| Schedule {
        fidelity: Fidelity::fraction(0.1).unwrap(),
        ..schedule("two-step", 9, &settings(first, second))
    });
    schedules.to_vec()
}

fn trained_in_full(finished: &Finished, full: u64) -> (usize, usize) {
    let is_whole = |pair: &&Value| pair[0].get("hpo.frac").is_none_or(|share| *share == 1.0);
    let in_full = finished
        .points
        .iter()
        .filter(|pair| pair[0]["hpo.epochs"] == full)
        .filter(is_whole);
    let evaluated = in_full
        .clone()
        .filter(|pair| pair[1].as_f64().is_some_and(|loss| loss < 1e5));
    (in_full.count(), evaluated.count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    #[test]
    fn in_any_course_of_events_the_same_facts_lead_to_the_same_decisions(
        seed in any::<u64>(), workers in 1_usize..9, failures in 0.0_f64..0.4, max_points in 12_usize..40,
    ) {
        for schedule in schedules().into_iter().chain(in_two_steps()) {
            let full = 9;
            let request = scheduled(schedule, 1, Some(max_points));
            let course = Course { seed, workers, failures, copies: 0.2 };
            let finished = run(&plane(), &request, course);
            prop_assert_eq!(finished.points.len(), max_points, "{:?}", request.schedule);
            let (granted, evaluated) = trained_in_full(&finished, full);
            prop_assert!(granted > 0, "nobody was trained in full: {:?}", request.schedule);
            prop_assert!(evaluated > 0 || failures > 0.0, "{:?}", request.schedule);
        }
    }
}

#[test]
fn every_scheduler_works_under_every_sampler() {
    let samplers = steering::samplers::Registry::standard();
    let free = |name: &&str| *name != "grid";
    for sampler in samplers.entries().map(|entry| entry.name).filter(free) {
        for schedule in schedules() {
            let request = Request {
                sampler: sampler.into(),
                ..scheduled(schedule, 1, Some(24))
            };
            let course = Course {
                seed: 3,
                workers: 3,
                failures: 0.1,
                copies: 0.1,
            };
            let finished = run(&plane(), &request, course);
            assert_eq!(finished.points.len(), 24, "{sampler} under {:?}", request.schedule);
        }
    }
}

#[test]
fn points_of_the_users_own_count_as_trained_in_full() {
    for schedule in schedules() {
        let own = vec![serde_json::json!([{"x": 0.5, "rate": 0.01}, 0.2])];
        let new = next(&plane(), &own, &scheduled(schedule.clone(), 3, Some(2)));
        assert_eq!(new.len(), 1);
        // Those that end evaluations while they run grant everything.
        let grants_all = Registry::standard().build(&schedule).unwrap().stopping().is_some();
        assert_eq!(new[0]["hpo.epochs"] == 9, grants_all, "{}", new[0]);
        assert_eq!(new[0]["hpo.n"], 1);
    }
}

#[test]
fn one_epoch_is_a_range_too() {
    for mut schedule in schedules() {
        schedule.fidelity = steering::schedulers::Fidelity::epochs(1, 1).unwrap();
        let new = next(&plane(), &[], &scheduled(schedule, 4, None));
        assert_eq!(new.len(), 4);
        assert!(new.iter().all(|point| point["hpo.epochs"] == 1), "{new:?}");
    }
}

#[test]
fn the_same_decisions_are_made_with_large_losses_as_good_ones() {
    for schedule in schedules() {
        let request = scheduled(schedule, 2, Some(30));
        let course = Course {
            seed: 1,
            workers: 2,
            failures: 0.1,
            copies: 0.0,
        };
        let points = run(&plane(), &request, course).points;
        let part = &points[..20];
        let negated: Vec<Value> = part
            .iter()
            .map(|pair| {
                let loss = pair[1].as_f64().filter(|loss| *loss < 1e5);
                serde_json::json!([pair[0], loss.map_or(pair[1].clone(), |loss| (-loss).into())])
            })
            .collect();
        let opposite = Request {
            mode: steering::history::Mode::Max,
            ..request.clone()
        };
        assert_eq!(next(&plane(), part, &request), next(&plane(), &negated, &opposite));
    }
}
