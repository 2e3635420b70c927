//! CPU time of a training step, as one JSON line: `step <widths> <optimizer> <batch> <epochs>`.
//!
//! `compare.py` runs it in turn with PyTorch. Everything that a user's training does is in the time: drawing the order
//! of rows, gathering, the step, reading the loss.

use std::error::Error;
use std::path::Path;

use evaluation::engine::{self, DeviceRequest, EngineOptions, LibraryRequest};
use evaluation::model::ModelFile;
use evaluation::training::{Decision, EpochReport, Observer, Samples, Targets, train};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, json};

/// CPU time of the process at the end of each step, in seconds.
#[derive(Default)]
struct Clock(Vec<f64>);

impl Observer for Clock {
    fn epoch(&mut self, _: &EpochReport) -> Decision {
        self.0.clear();
        Decision::Continue
    }

    fn step(&mut self, _: f32) {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        self.0.push(now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9);
        MEDIANS.with_borrow_mut(|medians| {
            if self.0.len() >= 2 {
                medians.push(self.0[self.0.len() - 1] - self.0[self.0.len() - 2]);
            }
        });
    }

    fn warning(&mut self, message: &str) {
        eprintln!("{message}");
    }
}

thread_local! {
    static MEDIANS: std::cell::RefCell<Vec<f64>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let argument = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_owned());
    let widths: Vec<usize> = argument(0, "784-256-128-10")
        .split('-')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let optimizer = argument(1, "sgd");
    let (batch, epochs): (usize, usize) = (argument(2, "64").parse()?, argument(3, "10").parse()?);

    let library = engine::library::locate(&LibraryRequest::default())?;
    let options = EngineOptions {
        device: DeviceRequest::Cpu,
        threads: Some(1),
    };
    let engine = engine::start(&library, &options)?;
    let (inputs, outputs) = (widths[0], widths[widths.len() - 1]);
    let blocks: Vec<_> = widths[1..widths.len() - 1]
        .iter()
        .map(|units| json!({"dense": {"units": units, "activation": "relu"}}))
        .collect();
    let optimizer_section = if optimizer == "sgd" {
        json!({"name": "sgd", "learning_rate": 0.01, "momentum": 0.9})
    } else {
        json!({"name": optimizer, "learning_rate": 0.001})
    };
    let document = json!({
        "model": {"blocks": blocks}, "loss": "cross_entropy", "optimizer": optimizer_section,
        "training": {"epochs": epochs, "batch_size": batch, "keep": "last"},
    });
    let plan = ModelFile::from_value(document, Path::new("."))
        .resolve(&Map::new())?
        .plan;
    let samples = |rows: usize| {
        // A sawtooth of irrational slope is noise enough, and no denormal number.
        let inputs = (0..rows * inputs)
            .map(|at| ((at as f64 * 0.618_033_988_75).fract() * 2.0 - 1.0) as f32)
            .collect::<Vec<f32>>()
            .into();
        let labels = (0..rows).map(|row| (row * 7 % outputs) as i64).collect();
        Samples {
            row_shape: vec![widths[0]],
            inputs,
            targets: Targets::Classes {
                labels,
                classes: outputs,
            },
            weights: None,
        }
    };
    train(
        &*engine,
        &plan,
        &samples(64 * batch),
        &samples(64),
        None,
        &mut Clock::default(),
    )?;
    let mut times = MEDIANS.take();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] * 1e6;
    let line = json!({
        "engine": engine.version(), "median_us": at(0.5), "fastest_us": at(0.0), "steps": times.len(),
        "mean_us": times.iter().sum::<f64>() / times.len() as f64 * 1e6,
    });
    #[expect(clippy::print_stdout, reason = "this is the program's output")]
    {
        println!("{line}");
    }
    Ok(())
}
