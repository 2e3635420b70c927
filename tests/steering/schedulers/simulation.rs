//! A search in which everything happens that can: workers of any number, results in any order, failures, entries that come twice.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use steering::ask::Request;
use steering::rng::{Generator, Key, Stream};

use super::next;

/// What happens in a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    pub(super) seed: u64,
    pub(super) workers: usize,
    /// Chances that an evaluation fails, and that an entry of the history comes twice.
    pub(super) failures: f64,
    pub(super) copies: f64,
}

/// A search that has come to its end.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) points: Vec<Value>,
}

/// Falls with training towards a value that depends on the hyperparameters, with crossing curves.
pub(super) fn loss_after(point: &Value, epochs: u64) -> f64 {
    let (x, rate) = (point["x"].as_f64().unwrap(), point["rate"].as_f64().unwrap());
    let end = (x - 0.3).powi(2) + 0.1 * (rate.log10() + 2.0).powi(2);
    end + (0.5 + x) / (epochs as f64).powf(0.3 + rate.min(1.0))
}

/// Runs the search to its end and checks each step of it.
pub(super) fn run(space: &Value, request: &Request, course: Course) -> Finished {
    let mut chance = Key::new(course.seed, "simulation", None, "simulation").generator(0, Stream::Startup);
    let mut points: Vec<Value> = Vec::new();
    let mut running: Vec<usize> = Vec::new();
    loop {
        let free = course.workers - running.len();
        let new = checked(space, request, &points, free, course, &mut chance);
        if new.is_empty() && running.is_empty() {
            return Finished { points };
        }
        for point in new {
            running.push(points.len());
            points.push(json!([point, null]));
            assert!(points.len() < 1_000, "the search has no end: {:?}", request.schedule);
        }
        for _ in 0..=chance.below(course.workers) {
            if running.is_empty() {
                break;
            }
            let done = running.swap_remove(chance.below(running.len()));
            let failed = chance.uniform() < course.failures;
            points[done][1] = if failed {
                [json!(1e5), json!("NaN"), json!("-Infinity")][chance.below(3)].clone()
            } else {
                let epochs = points[done][0]["hpo.epochs"].as_u64().unwrap();
                loss_after(&points[done][0], epochs).into()
            };
        }
    }
}

/// The answer, after a look at whether it depends on what it may not depend on.
fn checked(
    space: &Value,
    request: &Request,
    points: &[Value],
    free: usize,
    course: Course,
    chance: &mut Generator,
) -> Vec<Value> {
    let request = Request {
        count: free,
        ..request.clone()
    };
    let answer = next(space, points, &request);
    let mut shuffled = points.to_vec();
    for last in (1..shuffled.len()).rev() {
        shuffled.swap(last, chance.below(last + 1));
    }
    assert_eq!(
        next(space, &shuffled, &request),
        answer,
        "the order of the history matters"
    );
    if request.max_points.is_none_or(|max| points.len() + 20 < max) && chance.uniform() < course.copies {
        // Copies use up the budget, so far from its end they change nothing else.
        let copied = shuffled.first().cloned();
        shuffled.extend(copied);
        let numberless = |points: &[Value]| -> Vec<Value> {
            let mut points = points.to_vec();
            for point in &mut points {
                for key in ["hpo.n", "hpo.c", "x", "rate"] {
                    point.as_object_mut().unwrap().remove(key);
                }
            }
            points
        };
        let again = next(space, &shuffled, &request);
        assert_eq!(numberless(&again), numberless(&answer), "a copy in the history matters");
    }
    if free > 1 && chance.uniform() < 0.3 {
        let mut grown = points.to_vec();
        for expected in &answer {
            let one = next(
                space,
                &grown,
                &Request {
                    count: 1,
                    ..request.clone()
                },
            );
            assert_eq!(
                one.as_slice(),
                std::slice::from_ref(expected),
                "one ask of {free} is not {free} asks of one"
            );
            grown.push(json!([expected, null]));
        }
    }
    judge(points, &answer, &request);
    answer
}

/// What no answer may contain.
fn judge(points: &[Value], answer: &[Value], request: &Request) {
    let mut granted: HashSet<(u64, u64, String)> = HashSet::new();
    let mut failed: HashSet<u64> = HashSet::new();
    let mut done: HashMap<u64, bool> = HashMap::new();
    let key = |point: &Value, name: &str| point[name].as_u64();
    for pair in points {
        let point = &pair[0];
        let configuration = key(point, "hpo.c").unwrap();
        granted.insert((
            configuration,
            key(point, "hpo.epochs").unwrap(),
            point["hpo.frac"].to_string(),
        ));
        let finite = pair[1].as_f64().is_some_and(|loss| loss < 1e5);
        if !finite && !pair[1].is_null() {
            failed.insert(configuration);
        }
        done.insert(key(point, "hpo.n").unwrap(), finite);
    }
    let full = request.schedule.as_ref().unwrap().fidelity.full();
    for point in answer {
        let (configuration, epochs) = (key(point, "hpo.c").unwrap(), key(point, "hpo.epochs").unwrap());
        assert!((1..=full).contains(&epochs), "{point}");
        assert!(
            granted.insert((configuration, epochs, point["hpo.frac"].to_string())),
            "promoted twice: {point}"
        );
        assert!(!failed.contains(&configuration), "promoted after a failure: {point}");
        assert!(
            !done.contains_key(&key(point, "hpo.n").unwrap()),
            "a number twice: {point}"
        );
        if let Some(from) = key(point, "hpo.from") {
            assert_eq!(done.get(&from), Some(&true), "goes on from what is not there: {point}");
        }
    }
}
