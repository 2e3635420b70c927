//! Whether the best of part of the training is the best of the whole: `two-step` with its default settings against training every
//! configuration in full.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;

use protocol::steering::{HistoryEntry, SteeringInput};
use protocol::{Loss, Outcome};
use serde_json::{Value, json};
use steering::ask::{Request, ask};
use steering::schedulers::{Fidelity, Schedule};

use super::curves::{Curves, Problem};

/// Configurations of the first step: what `two-step` takes if nobody says how many.
const CONFIGURATIONS: usize = 500;
/// Points that are evaluated at the same time.
const BATCH: usize = 10;
/// The problem whose curves are known for shares of the data as well.
const SHARED: &str = "mlp_digits";
/// The least of these shares.
const LEAST: f64 = 1.0 / 27.0;

/// Writes a line for each problem and seed: the loss of the true winner of all configurations, that of the configuration which
/// two-step search ends with, and its cost as a share of training all of them in full.
pub(super) fn two_step(curves: &mut Curves, problems: &[Problem], seeds: u64, out: &str) {
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(out)
        .expect("OUT.jsonl can be written");
    for seed in 0..seeds {
        for problem in problems {
            let mut fidelities = vec![(
                "epochs",
                Fidelity::epochs(1, problem.full).expect("a problem has epochs"),
            )];
            if problem.name == SHARED {
                fidelities.push(("data", Fidelity::fraction(LEAST).expect("a share")));
            }
            for (unit, fidelity) in fidelities {
                let mut line = replay(curves, problem, seed, fidelity);
                line["problem"] = format!("{} ({unit})", problem.name).into();
                line["seed"] = seed.into();
                writeln!(out, "{line}").expect("OUT.jsonl can be written");
            }
        }
    }
}

fn replay(curves: &mut Curves, problem: &Problem, seed: u64, fidelity: Fidelity) -> Value {
    let request = Request {
        sampler: "random".into(),
        schedule: Some(Schedule {
            scheduler: "two-step".into(),
            settings: Vec::new(),
            fidelity,
        }),
        ..Request::new(BATCH, seed)
    };
    let mut input = SteeringInput {
        points: Vec::new(),
        space: None,
    };
    // What each configuration was granted last, and its observed and true loss in full.
    let mut granted: HashMap<u64, u64> = HashMap::new();
    let (mut used, mut chosen) = (0, (f64::INFINITY, f64::NAN));
    let mut second = 0;
    loop {
        let new = ask(&problem.space, &input, &request).expect("the request is sound");
        if new.is_empty() {
            break;
        }
        for new in new {
            let resource = fidelity.of(new.point()).expect("the scheduler grants it");
            let configuration = new
                .point()
                .reserved("c")
                .and_then(Value::as_u64)
                .expect("a configuration");
            // More data mean training anew; more epochs go on from a checkpoint.
            let before = granted
                .insert(configuration, resource)
                .filter(|_| fidelity.full() == problem.full);
            used += resource - before.unwrap_or(0);
            let answer = evaluate(curves, problem, seed, &new, fidelity, resource);
            if resource == fidelity.full() {
                second += 1;
                if let (Some(loss), Some(truth)) = answer
                    && loss < chosen.0
                {
                    chosen = (loss, truth);
                }
            }
            let outcome = answer
                .0
                .and_then(Loss::new)
                .map_or(Outcome::Failed, |loss| Outcome::Done { loss });
            input.points.push(HistoryEntry {
                input: new,
                outcome,
                meta: None,
            });
        }
    }
    assert_eq!(granted.len(), CONFIGURATIONS, "the first step has its default size");
    // The same configurations, each trained in full.
    let mut winner = f64::INFINITY;
    for entry in &input.points {
        if let (_, Some(truth)) = evaluate(curves, problem, seed, &entry.input, fidelity, fidelity.full()) {
            winner = winner.min(truth);
        }
    }
    let whole = CONFIGURATIONS as u64 * fidelity.full();
    json!({"winner": winner, "chosen": chosen.1, "cost": used as f64 / whole as f64, "second": second})
}

/// Observed and, of full training, true loss.
fn evaluate(
    curves: &mut Curves,
    problem: &Problem,
    seed: u64,
    point: &protocol::EvaluationInput,
    fidelity: Fidelity,
    resource: u64,
) -> (Option<f64>, Option<f64>) {
    let (epochs, share) = if fidelity.full() == problem.full {
        (resource, 1.0)
    } else {
        (problem.full, resource as f64 / fidelity.full() as f64)
    };
    let answer = curves.loss(problem, seed, point.point(), epochs, share);
    (answer.loss, answer.truth)
}
