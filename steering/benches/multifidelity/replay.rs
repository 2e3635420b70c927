//! Whether two-step search finds what training every configuration in full would find, and at what part of its cost: `two-step` with
//! its default settings and 500 configurations drawn at random, or with settings behind its name.
//!
//! ```text
//! cargo bench -p steering --bench multifidelity -- PYTHON KIT OUT.jsonl SEEDS two-step[:NAME=VALUE...]
//! ```
//!
//! The first step is one epoch, or, where curves are known for shares of the data as well, all epochs on
//! 1/27 of the data, with `second=model` unless told otherwise. Both searches choose by the losses that they see; what they have chosen is compared without noise.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write;

use protocol::steering::{HistoryEntry, SteeringInput};
use protocol::{Loss, Outcome, PointValue};
use serde_json::{Value, json};
use steering::ask::{Request, ask};
use steering::schedulers::{Fidelity, Schedule, Unit};

use super::Method;
use super::curves::{Answer, Curves, Problem};

/// Points of the first step, which is random, that are asked for at a time; those of the second are evaluated one by one.
const BATCH: usize = 10;
/// The problem whose curves are known for shares of the data as well, and the least of these shares.
const SHARED: &str = "mlp_digits";
const LEAST: f64 = 1.0 / 27.0;

/// How much above the loss of the winner counts as having found it.
const NEAR: f64 = 1.01;

/// Writes a line for each problem and seed: the losses of the best of all configurations and of what two-step search ends with, and its
/// cost as a share of training all of them in full. Prints how often the winner was found.
pub(super) fn two_step(curves: &mut Curves, problems: &[Problem], seeds: u64, out: &str, method: &Method) {
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(out)
        .expect("OUT.jsonl can be written");
    // Replays that found the winner, and the sum of their costs.
    let mut sums: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for seed in 0..seeds {
        for problem in problems {
            let epochs = Fidelity::epochs(1, problem.full).expect("a problem has epochs");
            let mut fidelities = vec![("epochs", epochs)];
            if problem.name == SHARED {
                fidelities.push(("data", Fidelity::fraction(LEAST).expect("a share")));
            }
            for (unit, fidelity) in fidelities {
                let mut line = replay(curves, problem, seed, fidelity, method);
                let name = format!("{} ({unit})", problem.name);
                let number = |key: &str| line[key].as_f64().unwrap_or(f64::INFINITY);
                let sum = sums.entry(name.clone()).or_default();
                sum.0 += u64::from(number("chosen") <= NEAR * number("winner"));
                sum.1 += number("cost");
                line["problem"] = name.into();
                line["method"] = method.name.clone().into();
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

/// The configuration with the lowest loss that was seen, and its loss without noise.
#[derive(Default)]
struct Best(Option<(f64, f64)>);

impl Best {
    fn see(&mut self, answer: Answer) {
        let Answer {
            loss: Some(loss),
            truth: Some(truth),
        } = answer
        else {
            return;
        };
        if self.0.is_none_or(|(lowest, _)| loss < lowest) {
            self.0 = Some((loss, truth));
        }
    }

    fn truth(&self) -> Option<f64> {
        self.0.map(|(_, truth)| truth)
    }
}

fn replay(curves: &mut Curves, problem: &Problem, seed: u64, fidelity: Fidelity, method: &Method) -> Value {
    let (_, given) = method.scheduler.as_ref().expect("it is two-step");
    let mut settings = given.clone();
    if fidelity.unit() == Unit::Fraction {
        let epochs = |name: &str| (name.to_owned(), problem.full.to_string());
        settings.extend([epochs("epochs"), epochs("full-epochs")]);
        if settings.iter().all(|(name, _)| name != "second") {
            settings.push(("second".to_owned(), "model".to_owned()));
        }
    }
    let mut request = Request {
        sampler: method.sampler.clone(),
        schedule: Some(Schedule {
            scheduler: "two-step".into(),
            settings,
            fidelity,
        }),
        ..Request::new(BATCH, seed)
    };
    let mut input = SteeringInput {
        points: Vec::new(),
        space: None,
    };
    // Share and epochs that each configuration was granted last.
    let mut granted: HashMap<u64, (f64, u64)> = HashMap::new();
    let (mut used, mut chosen) = (0.0, Best::default());
    loop {
        let new = ask(&problem.space, &input, &request).expect("the request is sound");
        if new.is_empty() {
            break;
        }
        for new in new {
            let point = new.point();
            if point.reserved("step").and_then(PointValue::as_u64) == Some(2) {
                request.count = 1;
            }
            let share = point.reserved("frac").and_then(PointValue::as_f64).unwrap_or(1.0);
            let epochs = point
                .reserved("epochs")
                .and_then(PointValue::as_u64)
                .unwrap_or(problem.full);
            let configuration = point
                .reserved("c")
                .and_then(PointValue::as_u64)
                .expect("a configuration");
            // More data mean training anew; more epochs go on from a checkpoint.
            let before = granted.insert(configuration, (share, epochs));
            let before = before.map_or(
                0,
                |(before, epochs)| if before.to_bits() == share.to_bits() { epochs } else { 0 },
            );
            used += share * (epochs - before) as f64;
            let answer = curves.loss(problem, seed, point, epochs, share);
            chosen.see(answer);
            let outcome = answer
                .loss
                .and_then(Loss::new)
                .map_or(Outcome::Failed, |loss| Outcome::Done { loss });
            input.points.push(HistoryEntry {
                input: new,
                outcome,
                meta: None,
            });
        }
    }
    // The same configurations, each trained in full.
    let mut winner = Best::default();
    for entry in &input.points {
        winner.see(curves.loss(problem, seed, entry.input.point(), problem.full, 1.0));
    }
    let whole = granted.len() as f64 * problem.full as f64;
    json!({
        "winner": winner.truth(), "chosen": chosen.truth(), "cost": used / whole, "configurations": granted.len(),
        "evaluations": input.points.len(),
    })
}
