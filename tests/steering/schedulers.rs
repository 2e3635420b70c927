//! What schedulers decide: known traces, and what every registered one must do in any course of events.

mod conformance;
mod messages;
mod simulation;
mod simulator;
mod traces;
mod two_steps;

use serde_json::{Value, json};
use steering::ask::{Request, ask};
use steering::schedulers::{Fidelity, Schedule};

use crate::support::{document, history, values};

/// Two continuous dimensions.
fn plane() -> Value {
    json!({
        "x": {"method": "uniform", "dimension": {"low": 0, "high": 1}},
        "rate": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 1}},
    })
}

fn schedule(scheduler: &str, full: u64, settings: &[(&str, &str)]) -> Schedule {
    Schedule {
        scheduler: scheduler.into(),
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        fidelity: Fidelity::epochs(1, full).unwrap(),
    }
}

fn scheduled(schedule: Schedule, count: usize, max_points: Option<usize>) -> Request {
    Request {
        sampler: "random".into(),
        schedule: Some(schedule),
        max_points,
        ..Request::new(count, 5)
    }
}

fn next(space: &Value, points: &[Value], request: &Request) -> Vec<Value> {
    let answer = ask(&document(space), &history(&json!(points)), request);
    values(&answer.unwrap_or_else(|error| panic!("{:?}: {error}", request.schedule)))
}
