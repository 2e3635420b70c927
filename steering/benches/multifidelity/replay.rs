//! Whether two-step search finds what training every configuration in full would find, and at what part of its cost: `two-step` with
//! its default settings, 500 configurations drawn at random.
//!
//! ```text
//! cargo bench -p steering --bench multifidelity -- PYTHON KIT OUT.jsonl SEEDS two-step
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write;

use protocol::steering::{HistoryEntry, SteeringInput};
use protocol::{Loss, Outcome, PointValue};
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

/// How much above the loss of the winner counts as having found it.
const NEAR: f64 = 1.01;

/// Writes a line for each problem and seed: the lowest loss of all configurations, the loss that two-step search ends with, and its
/// cost as a share of training all of them in full. Prints how often the winner was found.
pub(super) fn two_step(curves: &mut Curves, problems: &[Problem], seeds: u64, out: &str) {
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(out)
        .expect("OUT.jsonl can be written");
    // Replays that found the winner, and the sum of their costs.
    let mut sums: BTreeMap<String, (u64, f64)> = BTreeMap::new();
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
                let name = format!("{} ({unit})", problem.name);
                let number = |key: &str| line[key].as_f64().unwrap_or(f64::INFINITY);
                let sum = sums.entry(name.clone()).or_default();
                sum.0 += u64::from(number("chosen") <= NEAR * number("winner"));
                sum.1 += number("cost");
                line["problem"] = name.into();
                line["seed"] = seed.into();
                writeln!(out, "{line}").expect("OUT.jsonl can be written");
            }
        }
    }
    println!("| problem | winner found | cost |\n| --- | ---: | ---: |");
    for (name, (found, cost)) in sums {
        println!("| {name} | {found} of {seeds} | {:.1} % |", 100.0 * cost / seeds as f64);
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
    // What each configuration was granted last, and the lowest loss of those that were trained in full.
    let mut granted: HashMap<u64, u64> = HashMap::new();
    let (mut used, mut chosen) = (0, f64::INFINITY);
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
                .and_then(PointValue::as_u64)
                .expect("a configuration");
            // More data mean training anew; more epochs go on from a checkpoint.
            let before = granted
                .insert(configuration, resource)
                .filter(|_| fidelity.full() == problem.full);
            used += resource - before.unwrap_or(0);
            let loss = evaluate(curves, problem, seed, &new, fidelity, resource);
            if resource == fidelity.full() {
                second += 1;
                chosen = chosen.min(loss.unwrap_or(f64::INFINITY));
            }
            let outcome = loss
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
        let loss = evaluate(curves, problem, seed, &entry.input, fidelity, fidelity.full());
        winner = winner.min(loss.unwrap_or(f64::INFINITY));
    }
    let whole = CONFIGURATIONS as u64 * fidelity.full();
    json!({"winner": winner, "chosen": chosen, "cost": used as f64 / whole as f64, "second": second})
}

/// The loss as the search sees it.
fn evaluate(
    curves: &mut Curves,
    problem: &Problem,
    seed: u64,
    point: &protocol::EvaluationInput,
    fidelity: Fidelity,
    resource: u64,
) -> Option<f64> {
    let (epochs, share) = if fidelity.full() == problem.full {
        (resource, 1.0)
    } else {
        (problem.full, resource as f64 / fidelity.full() as f64)
    };
    curves.loss(problem, seed, point.point(), epochs, share).loss
}
