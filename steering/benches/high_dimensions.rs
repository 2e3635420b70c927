//! How low do samplers get in many dimensions? Prints the table of `README.md`.
//!
//! ```console
//! cargo bench --package steering --bench high_dimensions -- turbo,gp,tpe 3 200
//! ```
//!
//! The arguments are the samplers, the number of seeds and of evaluations; a fourth one is the size of the batches, a fifth names
//! problems. Every line is the mean over seeds of the best loss, where 0 is the best loss of as many random points, and 1 the
//! least loss there is: (random − best) / (random − least), with both at their mean.

#![expect(clippy::print_stdout, reason = "a table is what this program is for")]

use std::f64::consts::{E, PI, TAU};
use std::time::Instant;

use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use serde_json::{Value, json};
use steering::ask::{Request, ask};

/// A loss to be minimised over a search space.
struct Problem {
    name: &'static str,
    space: Value,
    loss: fn(&Value) -> f64,
    least: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let argument = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_owned());
    let number = |index, default| argument(index, default).parse::<usize>().expect("a whole number");
    let samplers = argument(0, "random,turbo");
    let (seeds, evaluations, batch) = (number(1, "3"), number(2, "200"), number(3, "10"));
    let wanted = argument(4, "");
    println!(
        "| problem | sampler | share of the way from random to the least loss | best loss | s for each ask |\n|---|---|---|---|---|"
    );
    for problem in problems() {
        if !wanted.is_empty() && !wanted.split(',').any(|name| name == problem.name) {
            continue;
        }
        let random = mean((0..10).map(|seed| search(&problem, "random", 1_000 + seed, evaluations, evaluations).0));
        for sampler in samplers.split(',') {
            let runs: Vec<(f64, f64)> = (0..seeds as u64)
                .map(|seed| search(&problem, sampler, seed, evaluations, batch))
                .collect();
            let best = mean(runs.iter().map(|run| run.0));
            let seconds = mean(runs.iter().map(|run| run.1));
            println!(
                "| {} | {sampler} | {:.3} | {best:.3} | {seconds:.3} |",
                problem.name,
                (random - best) / (random - problem.least)
            );
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// The best loss, and the mean number of seconds of an ask.
fn search(problem: &Problem, sampler: &str, seed: u64, evaluations: usize, batch: usize) -> (f64, f64) {
    // A setting may follow the name: `turbo:tolerance=10`.
    let mut parts = sampler.split(':');
    let name = parts.next().unwrap_or_default();
    let settings: Vec<(String, String)> = (parts.filter_map(|part| part.split_once('=')))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let document = SpaceDocument::from_value(&problem.space).expect("the search space is right");
    let mut points: Vec<Value> = Vec::new();
    let (mut best, mut seconds, mut asks) = (f64::INFINITY, 0.0, 0.0);
    while points.len() < evaluations {
        let input = SteeringInput::from_value(json!({"points": points}), None).expect("the history is right");
        let request = Request {
            sampler: name.to_owned(),
            settings: settings.clone(),
            ..Request::new(batch.min(evaluations - points.len()), seed)
        };
        let begin = Instant::now();
        let new = ask(&document, &input, &request).expect("there are points");
        seconds += begin.elapsed().as_secs_f64();
        asks += 1.0;
        for one in new {
            let point = json!(one.point());
            let loss = (problem.loss)(&point);
            best = best.min(loss);
            points.push(json!([point, loss]));
        }
    }
    (best, seconds / asks)
}

fn problems() -> Vec<Problem> {
    vec![
        Problem {
            name: "ackley_60",
            space: reals(60),
            loss: |point| ackley(&scaled(point, 15.0)),
            least: 0.0,
        },
        Problem {
            name: "ackley_150",
            space: reals(150),
            loss: |point| ackley(&scaled(point, 15.0)),
            least: 0.0,
        },
        Problem {
            name: "rosenbrock_30",
            space: reals(30),
            loss: |point| rosenbrock(&scaled(point, 15.0)),
            least: 0.0,
        },
        Problem {
            name: "rastrigin_40",
            space: reals(40),
            loss: |point| rastrigin(&scaled(point, 10.0)),
            least: 0.0,
        },
        Problem {
            name: "hidden_six_of_100",
            space: reals(100),
            loss: |point| hartmann(&numbers(point).collect::<Vec<_>>()[..6]),
            least: -3.322_368,
        },
        Problem {
            name: "route_60",
            space: reals(60),
            loss: |point| route(&numbers(point).collect::<Vec<_>>()),
            least: 0.0,
        },
        Problem {
            name: "mixed_53",
            space: mixed(),
            loss: mixed_ackley,
            least: 0.0,
        },
    ]
}

fn reals(dimensions: usize) -> Value {
    let keys = (0..dimensions).map(|key| {
        // Points are at most 3,500 bytes long: short numbers leave room for hundreds of them.
        let space = json!({"method": "quniform", "dimension": {"low": 0.0, "high": 1.0, "q": 0.0001}});
        (format!("x{key:03}"), space)
    });
    Value::Object(keys.collect())
}

/// The numbers of a point.
fn numbers(point: &Value) -> impl Iterator<Item = f64> {
    point
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(Value::as_f64)
}

/// Numbers over a range of this width, each with its zero elsewhere: neither the middle nor the border of the space is special.
fn scaled(point: &Value, width: f64) -> Vec<f64> {
    let zero = |index: usize| 0.15 + 0.7 * (0.618_034 * (index + 1) as f64).fract();
    (numbers(point).enumerate())
        .map(|(index, u)| width * (u - zero(index)))
        .collect()
}

/// D. H. Ackley (1987); least at 0.
fn ackley(x: &[f64]) -> f64 {
    let n = x.len() as f64;
    let square = x.iter().map(|x| x * x).sum::<f64>() / n;
    let wave = x.iter().map(|x| libm::cos(TAU * x)).sum::<f64>() / n;
    20.0 + E - 20.0 * libm::exp(-0.2 * square.sqrt()) - libm::exp(wave)
}

/// H. H. Rosenbrock (1960), as a logarithm; least at 1.
fn rosenbrock(x: &[f64]) -> f64 {
    let terms = x.windows(2).map(|pair| {
        let (valley, slope) = (pair[1] - pair[0] * pair[0], 1.0 - pair[0]);
        100.0 * valley * valley + slope * slope
    });
    libm::log1p(terms.sum())
}

/// L. A. Rastrigin (1974); least at 0.
fn rastrigin(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x - 10.0 * libm::cos(TAU * x) + 10.0).sum()
}

/// J. K. Hartman (1973), in six dimensions.
fn hartmann(x: &[f64]) -> f64 {
    const A: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const P: [[f64; 6]; 4] = [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ];
    let terms = [1.0, 1.2, 3.0, 3.2]
        .iter()
        .zip(A.iter().zip(&P))
        .map(|(weight, (a, p))| {
            let square: f64 = x
                .iter()
                .zip(a.iter().zip(p))
                .map(|(x, (a, p))| a * (x - p) * (x - p))
                .sum();
            weight * libm::exp(-square)
        });
    -terms.sum::<f64>()
}

/// A way of thirty steps through a plane with round obstacles, from one corner to the other: length, what it cuts of obstacles, and
/// distance from the goal. The dimensions are turns and lengths of the steps.
fn route(x: &[f64]) -> f64 {
    let (mut east, mut north, mut heading) = (0.05, 0.05, PI / 4.0);
    let mut loss = 0.0;
    for step in x.chunks(2) {
        heading += (step[0] - 0.5) * PI;
        let length = 0.12 * step[1];
        east += length * libm::cos(heading);
        north += length * libm::sin(heading);
        loss += 0.1 * length;
        for (index, place) in [0.2, 0.35, 0.5, 0.65, 0.8].iter().enumerate() {
            for other in [0.2, 0.5, 0.8] {
                let shifted = other + if index % 2 == 0 { 0.0 } else { 0.15 };
                let gap = ((east - place) * (east - place) + (north - shifted) * (north - shifted)).sqrt();
                loss += 2.0 * (0.08 - gap).max(0.0) + 0.2 * (-east.min(north)).max(0.0);
            }
        }
    }
    loss + 5.0 * ((east - 0.95) * (east - 0.95) + (north - 0.95) * (north - 0.95)).sqrt()
}

/// Fifty switches and three reals.
fn mixed() -> Value {
    let mut space = json!({});
    for key in 0..50 {
        space[format!("s{key:02}")] = json!({"method": "categorical", "dimension": {"categories": [false, true]}});
    }
    for key in 0..3 {
        space[format!("x{key}")] = json!({"method": "uniform", "dimension": {"low": -1.0, "high": 1.0}});
    }
    space
}

/// Ackley's function of both; a third of the switches should be on.
fn mixed_ackley(point: &Value) -> f64 {
    let map = point.as_object().into_iter().flat_map(|map| map.values());
    let values: Vec<f64> = (map.enumerate())
        .map(|(index, value)| match value {
            Value::Bool(on) => f64::from(u8::from(*on != (index % 3 == 0))),
            other => other.as_f64().unwrap_or(0.0) - 0.2,
        })
        .collect();
    ackley(&values)
}
