//! What `--transfer` saves among related segments, and costs among unrelated ones. Prints the table of `steering/README.md`.
//!
//! ```text
//! cargo bench -p steering --bench transfer -- [SEEDS [BUDGET [FAMILY]]]
//! ```
//!
//! Every task has 20 segments that are searched side by side, one point each at a time, with and without `--transfer`. Regret is
//! the gap of the best point so far, without noise, to the optimum, where that of a median random point is 1; its mean is over
//! segments and seeds. `saved` is how many times fewer evaluations reach the mean regret that the search without transfer has at
//! its end.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::f64::consts::{PI, TAU};

use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use serde_json::{Value, json};
use steering::ask::{Request, ask};
use steering::rng::{Generator, Key, Stream};

/// Segments of a task.
const SEGMENTS: usize = 20;
/// Points by which the scale of the regret is measured.
const SAMPLE: usize = 4_000;

/// Kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Family {
    /// A smooth valley of six dimensions, one of them categorical, with the optimum elsewhere by a twentieth of each range.
    Training,
    /// Hartmann's function of six dimensions, moved likewise.
    Hartmann,
    /// Branin's function, moved likewise.
    Branin,
    /// Random functions of four dimensions, nine tenths of their variance in common.
    Common,
    /// Random functions with nothing in common.
    Unrelated,
    /// One random function, turned upside down in every second segment.
    Opposed,
}

const FAMILIES: [(&str, Family); 6] = [
    ("training", Family::Training),
    ("hartmann", Family::Hartmann),
    ("branin", Family::Branin),
    ("common", Family::Common),
    ("unrelated", Family::Unrelated),
    ("opposed", Family::Opposed),
];

/// The function of one segment.
#[derive(Debug)]
struct Function {
    family: Family,
    shift: Vec<f64>,
    sign: f64,
    waves: Vec<(f64, Vec<f64>, f64)>,
    noise: f64,
    /// Losses are `scale` (f − `least`) + `offset`.
    least: f64,
    middle: f64,
    scale: f64,
    offset: f64,
}

fn normal(generator: &mut Generator) -> f64 {
    (-2.0 * (1.0 - generator.uniform()).ln()).sqrt() * (TAU * generator.uniform()).cos()
}

fn generator(seed: u64, name: &str, segment: usize) -> Generator {
    Key::new(seed, name, Some(segment as u32), "bench").generator(0, Stream::Startup)
}

fn dimensions(family: Family) -> usize {
    match family {
        Family::Training | Family::Hartmann => 6,
        Family::Branin => 2,
        Family::Common | Family::Unrelated | Family::Opposed => 4,
    }
}

/// Sums of waves: draws from a Gaussian process with a squared exponential kernel of length scale 0.35.
fn waves(count: usize, dimensions: usize, share: f64, generator: &mut Generator) -> Vec<(f64, Vec<f64>, f64)> {
    (0..count)
        .map(|_| {
            let frequencies = (0..dimensions).map(|_| normal(generator) / 0.35).collect();
            (
                (2.0 * share / count as f64).sqrt(),
                frequencies,
                TAU * generator.uniform(),
            )
        })
        .collect()
}

impl Function {
    fn new(family: Family, seed: u64, segment: usize) -> Self {
        let mut own = generator(seed, "segment", segment);
        let mut shared = generator(seed, "task", 0);
        let d = dimensions(family);
        let shift = (0..d).map(|_| 0.05 * normal(&mut own)).collect();
        let waves = match family {
            Family::Common => {
                let mut all = waves(200, d, 0.9, &mut shared);
                all.extend(waves(200, d, 0.1, &mut own));
                all
            }
            Family::Unrelated => waves(200, d, 1.0, &mut own),
            Family::Opposed => waves(200, d, 1.0, &mut shared),
            _ => Vec::new(),
        };
        let mut function = Self {
            family,
            shift,
            sign: if family == Family::Opposed && segment % 2 == 1 {
                -1.0
            } else {
                1.0
            },
            waves,
            noise: 0.02,
            least: 0.0,
            middle: 1.0,
            scale: (0.7 * normal(&mut own)).exp(),
            offset: normal(&mut own),
        };
        let mut points: Vec<(f64, Vec<f64>)> = (0..SAMPLE)
            .map(|_| {
                let x: Vec<f64> = (0..d).map(|_| own.uniform()).collect();
                (function.raw(&x), x)
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        function.middle = points[SAMPLE / 2].0;
        function.least = points
            .iter()
            .take(5)
            .map(|(value, x)| function.descend(*value, x.clone(), &mut own))
            .fold(f64::INFINITY, f64::min);
        function
    }

    /// The lowest value near `x`.
    fn descend(&self, mut value: f64, mut x: Vec<f64>, generator: &mut Generator) -> f64 {
        let mut reach = 0.1;
        for _ in 0..3_000 {
            let trial: Vec<f64> = x
                .iter()
                .map(|x| (x + reach * normal(generator)).clamp(0.0, 1.0))
                .collect();
            let found = self.raw(&trial);
            if found < value {
                (value, x) = (found, trial);
                reach *= 1.2;
            } else {
                reach = (reach * 0.97_f64).max(1e-6);
            }
        }
        value
    }

    fn raw(&self, x: &[f64]) -> f64 {
        let moved: Vec<f64> = x.iter().zip(&self.shift).map(|(x, shift)| x + shift).collect();
        match self.family {
            Family::Training => {
                let [rate, decay, width, depth, drop, kind] = [moved[0], moved[1], moved[2], moved[3], moved[4], x[5]];
                let best_rate = if kind < 1.0 / 3.0 { 0.65 } else { 0.45 };
                let valley = 6.0 * (rate - best_rate).powi(2) + 2.0 * (decay - 0.3 - 0.4 * (rate - best_rate)).powi(2);
                let size = 0.8 * (width - 0.7).powi(2) + 0.5 * (depth - 0.6).powi(2) + 0.6 * (drop - 0.2).powi(2);
                let diverged = 2.0 / (1.0 + (-30.0 * (rate - 0.9)).exp());
                valley + size + diverged + if kind < 2.0 / 3.0 { 0.0 } else { 0.3 }
            }
            Family::Hartmann => hartmann(&moved),
            Family::Branin => branin(&moved),
            Family::Common | Family::Unrelated | Family::Opposed => {
                let wave = |(amplitude, frequencies, phase): &(f64, Vec<f64>, f64)| {
                    let angle: f64 = frequencies.iter().zip(x).map(|(frequency, x)| frequency * x).sum();
                    amplitude * (angle + phase).cos()
                };
                self.sign * self.waves.iter().map(wave).sum::<f64>()
            }
        }
    }

    /// Regret of the point, and the loss that is observed.
    fn evaluate(&self, point: &Value, generator: &mut Generator) -> (f64, f64) {
        let x: Vec<f64> = (0..dimensions(self.family))
            .map(|index| match &point[format!("x{index}")] {
                Value::String(kind) => match kind.as_str() {
                    "adam" => 0.1,
                    "sgd" => 0.5,
                    _ => 0.9,
                },
                number => number.as_f64().expect("every other dimension is a number"),
            })
            .collect();
        let regret = (self.raw(&x) - self.least) / (self.middle - self.least);
        (
            regret,
            self.offset + self.scale * (regret + self.noise * normal(generator)),
        )
    }
}

fn hartmann(x: &[f64]) -> f64 {
    const WEIGHTS: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
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
    let term = |(row, weight): (usize, &f64)| {
        let square: f64 = (0..6).map(|i| A[row][i] * (x[i] - P[row][i]).powi(2)).sum();
        -weight * (-square).exp()
    };
    WEIGHTS.iter().enumerate().map(term).sum()
}

fn branin(x: &[f64]) -> f64 {
    let (a, b) = (15.0 * x[0] - 5.0, 15.0 * x[1]);
    (b - 5.1 / (4.0 * PI * PI) * a * a + 5.0 / PI * a - 6.0).powi(2) + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * a.cos() + 10.0
}

fn space(family: Family) -> Value {
    let mut space = json!({});
    for index in 0..dimensions(family) {
        space[format!("x{index}")] = if family == Family::Training && index == 5 {
            json!({"method": "categorical", "dimension": {"categories": ["adam", "sgd", "lamb"]}})
        } else {
            json!({"method": "uniform", "dimension": {"low": 0, "high": 1}})
        };
    }
    space
}

/// Mean regret of the best points of all segments after each round.
fn search(family: Family, seed: u64, budget: usize, transfer: bool) -> Vec<f64> {
    let functions: Vec<Function> = (0..SEGMENTS)
        .map(|segment| Function::new(family, seed, segment))
        .collect();
    let spaces: Vec<Value> = (0..SEGMENTS)
        .map(|segment| json!({"model_id": segment, "search_space": space(family)}))
        .collect();
    let document = SpaceDocument::from_value(&spaces.into()).expect("the spaces are well formed");
    let request = Request {
        transfer,
        sampler: "gp".into(),
        ..Request::new(1, seed)
    };
    let mut noise = generator(seed, "noise", usize::from(transfer));
    let mut best = [f64::INFINITY; SEGMENTS];
    let (mut points, mut curve) = (Vec::new(), Vec::new());
    for _ in 0..budget {
        let input = json!({ "points": points });
        let input = SteeringInput::from_value(input, None).expect("the history is well formed");
        for new in ask(&document, &input, &request).expect("the request is sound") {
            let segment = new.segment().expect("the task has segments").0 as usize;
            let point = Value::Object(new.point().to_object());
            let (regret, loss) = functions[segment].evaluate(&point, &mut noise);
            best[segment] = best[segment].min(regret);
            points.push(json!([[segment, point], loss]));
        }
        curve.push(best.iter().sum::<f64>() / SEGMENTS as f64);
    }
    curve
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |place: usize, otherwise: usize| {
        arguments
            .get(place)
            .map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let (seeds, budget) = (number(0, 5), number(1, 32));
    println!("| family | regret alone, half way and at the end | with `--transfer` | saved |\n|---|---|---|---|");
    for (name, family) in FAMILIES {
        if arguments.get(2).is_some_and(|wanted| wanted != name) {
            continue;
        }
        let mean = |transfer: bool| {
            let mut sum = vec![0.0; budget];
            for seed in 0..seeds as u64 {
                for (sum, regret) in sum.iter_mut().zip(search(family, seed, budget, transfer)) {
                    *sum += regret / seeds as f64;
                }
            }
            sum
        };
        let (alone, together) = (mean(false), mean(true));
        let saved = |goal: usize, slow: &[f64], fast: &[f64]| {
            let needed = fast.iter().position(|regret| *regret <= slow[goal]);
            needed.map(|needed| (goal + 1) as f64 / (needed + 1) as f64)
        };
        let end = budget - 1;
        let factor = match (saved(end, &alone, &together), saved(end, &together, &alone)) {
            (Some(factor), _) => format!("{factor:.2}"),
            (None, Some(loss)) => format!("{:.2}", 1.0 / loss),
            (None, None) => "-".to_owned(),
        };
        println!(
            "| {name} | {:.4}, {:.4} | {:.4}, {:.4} | {factor} |",
            alone[budget / 2 - 1],
            alone[end],
            together[budget / 2 - 1],
            together[end]
        );
        if arguments.get(3).is_some() {
            println!("{alone:.3?}\n{together:.3?}");
        }
    }
}
