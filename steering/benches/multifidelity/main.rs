//! Epochs of training until a fully trained configuration is as good as what random search finds in its whole budget.
//!
//! ```text
//! cargo bench -p steering --bench multifidelity -- PYTHON KIT OUT.jsonl SEEDS [METHODS [PROBLEMS]]
//! ```
//!
//! PYTHON is an interpreter with the kit's requirements: it serves the learning curves (`problems.py`, beside this file). A method is
//! a sampler, or `SCHEDULER+SAMPLER`, settings of the scheduler behind its name: `asha:eta=4+gp`. Evaluations are made one by one;
//! a configuration that goes on is charged the epochs beyond those it had. A run ends when it has reached the target, or used the
//! epochs of the whole random search. Runs that are in OUT.jsonl already are not repeated; `table.py` makes a table of them, and
//! `peers.py` has the same for other libraries. With `two-step` for METHODS, see [`replay`].

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod curves;
mod replay;

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::time::Instant;

use protocol::steering::{HistoryEntry, SteeringInput};
use protocol::{Loss, Outcome, PointValue};
use serde_json::{Value, json};
use steering::ask::{Request, ask};
use steering::schedulers::{Fidelity, Schedule};

use curves::{Curves, Problem};

/// Full trainings of the random search that sets the target.
const BUDGET: u64 = 100;
/// How much longer random search itself may take, so that its median is not cut off.
const PATIENCE: u64 = 4;
/// A table without dimensions has nothing for a model to learn.
const TABLE: &str = "climsim";

/// A sampler, maybe under a scheduler.
struct Method {
    name: String,
    sampler: String,
    scheduler: Option<(String, Vec<(String, String)>)>,
}

impl Method {
    fn parse(name: &str) -> Self {
        let (scheduler, sampler) = match name.split_once('+') {
            Some((scheduler, sampler)) => (Some(scheduler), sampler),
            None => (None, name),
        };
        let scheduler = scheduler.map(|scheduler| {
            let mut words = scheduler.split(':').map(str::to_owned);
            let name = words.next().unwrap_or_default();
            let settings = words.map(|word| {
                let (name, value) = word.split_once('=').expect("a setting is NAME=VALUE");
                (name.to_owned(), value.to_owned())
            });
            (name, settings.collect())
        });
        Self {
            name: name.to_owned(),
            sampler: sampler.to_owned(),
            scheduler,
        }
    }

    fn request(&self, problem: &Problem, seed: u64) -> Request {
        let fidelity = Fidelity::epochs(1, problem.full).expect("a problem has epochs");
        Request {
            sampler: self.sampler.clone(),
            number_points: true,
            schedule: self.scheduler.clone().map(|(scheduler, settings)| Schedule {
                scheduler,
                settings,
                fidelity,
            }),
            ..Request::new(1, seed)
        }
    }
}

/// Epochs until the target is reached, and whether it was.
fn search(curves: &mut Curves, problem: &Problem, method: &Method, seed: u64) -> (u64, bool) {
    let request = method.request(problem, seed);
    let patience = if method.scheduler.is_none() { PATIENCE } else { 1 };
    let mut input = SteeringInput {
        points: Vec::new(),
        space: None,
    };
    let mut trained: HashMap<u64, u64> = HashMap::new();
    let mut used = 0;
    while used < BUDGET * problem.full * patience {
        let new = ask(&problem.space, &input, &request).expect("the request is sound");
        let Some(new) = new.into_iter().next() else { break };
        let point = new.point();
        let whole = |name: &str| point.reserved(name).and_then(PointValue::as_u64);
        let epochs = whole("epochs").unwrap_or(problem.full);
        if let Some(before) = whole("c").and_then(|configuration| trained.insert(configuration, epochs)) {
            used -= before;
        }
        used += epochs;
        let answer = curves.loss(problem, seed, point, epochs, 1.0);
        if epochs == problem.full && answer.truth.is_some_and(|truth| truth <= problem.goal) {
            return (used, true);
        }
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
    (used, false)
}

fn known(path: &str) -> HashSet<(String, String, u64)> {
    let Ok(file) = File::open(path) else {
        return HashSet::new();
    };
    let lines = BufReader::new(file)
        .lines()
        .map(|line| line.expect("the file can be read"));
    let lines = lines.map(|line| serde_json::from_str::<Value>(&line).expect("a line is JSON"));
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines
        .map(|line| {
            (
                word(&line, "problem"),
                word(&line, "method"),
                line["seed"].as_u64().unwrap_or_default(),
            )
        })
        .collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [python, kit, out, seeds, rest @ ..] = arguments.as_slice() else {
        panic!("expected PYTHON KIT OUT.jsonl SEEDS [METHODS [PROBLEMS]]");
    };
    let seeds: u64 = seeds.parse().expect("SEEDS is a number");
    let methods = rest
        .first()
        .map_or("random,asha+random,asha+tpe,asha+gp", String::as_str);
    let (mut curves, problems) = Curves::start(python, kit);
    if methods.starts_with("two-step") {
        let sampled = if methods.contains('+') {
            methods.to_owned()
        } else {
            format!("{methods}+random")
        };
        return replay::two_step(&mut curves, &problems, seeds, out, &Method::parse(&sampled));
    }
    let methods: Vec<Method> = methods.split(',').map(Method::parse).collect();
    let is_wanted = |problem: &Problem| {
        rest.get(1)
            .is_none_or(|wanted| wanted.split(',').any(|name| name == problem.name))
    };
    let done = known(out);
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(out)
        .expect("OUT.jsonl can be written");
    for seed in 0..seeds {
        for method in &methods {
            for problem in problems.iter().filter(|problem| is_wanted(problem)) {
                let is_done = done.contains(&(problem.name.clone(), method.name.clone(), seed));
                if is_done || (problem.name == TABLE && method.sampler != "random") {
                    continue;
                }
                let start = Instant::now();
                let (epochs, reached) = search(&mut curves, problem, method, seed);
                let line = json!({
                    "problem": problem.name, "method": method.name, "seed": seed, "goal": problem.goal, "full": problem.full,
                    "epochs": epochs, "reached": reached, "seconds": (start.elapsed().as_secs_f64() * 100.0).round() / 100.0,
                });
                writeln!(out, "{line}").expect("OUT.jsonl can be written");
            }
        }
    }
}
