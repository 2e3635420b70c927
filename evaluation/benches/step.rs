//! Trains a model the way a user does and prints what a step costs, as one JSON line: `step CASE`, where `CASE` is a
//! JSON object.
//!
//! `compare.py` writes the cases and runs them in turn with PyTorch. Everything that a user's training does is in the
//! time: drawing the order of rows, gathering, the step, reading the loss.

use std::error::Error;
use std::path::Path;

use evaluation::engine::{self, DeviceRequest, EngineOptions, LibraryRequest};
use evaluation::model::ModelFile;
use evaluation::training::{Decision, EpochReport, Observer, Samples, Targets, train};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What is measured.
#[derive(Deserialize)]
struct Case {
    /// The sections `model` and `optimizer` of a model file.
    model: Value,
    optimizer: Value,
    /// Shape of one row.
    row: Vec<usize>,
    classes: usize,
    batch: usize,
    /// Steps of an epoch, and epochs.
    steps: usize,
    epochs: usize,
    threads: usize,
    device: String,
    /// Whether steps are replayed as CUDA graphs.
    #[serde(default)]
    cuda_graphs: bool,
    /// Whether the engine without a library trains.
    #[serde(default)]
    embedded: bool,
}

/// A moment: wall time and CPU time of the process, in seconds.
type Moment = [f64; 2];

fn now() -> Moment {
    [ClockId::Monotonic, ClockId::ProcessCPUTime].map(|clock| {
        let now = clock_gettime(clock);
        now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
    })
}

/// The ends of steps.
#[derive(Default)]
struct Clock {
    /// Before the first step of all, and after it.
    begin: Option<Moment>,
    first: Option<Moment>,
    last: Option<Moment>,
    /// Wall and CPU time of the steps but the first of each epoch.
    times: [Vec<f64>; 2],
    loss: f32,
}

impl Observer for Clock {
    fn epoch(&mut self, _: &EpochReport) -> Decision {
        self.last = None;
        Decision::Continue
    }

    fn poll(&mut self) -> Decision {
        if self.begin.is_none() {
            self.begin = Some(now());
        }
        Decision::Continue
    }

    fn step(&mut self, loss: f32) {
        let now = now();
        self.first.get_or_insert(now);
        if let Some(last) = self.last {
            for (times, (now, last)) in self.times.iter_mut().zip(now.into_iter().zip(last)) {
                times.push(now - last);
            }
        }
        self.last = Some(now);
        self.loss = loss;
    }

    fn warning(&mut self, message: &str) {
        eprintln!("{message}");
    }
}

/// The middle of some numbers, in microseconds.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2] * 1e6
}

/// Largest memory of the process so far, in MB.
fn peak_memory() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.ok_or("no `VmHWM` in /proc/self/status")?.parse::<f64>()? / 1e3)
}

fn main() -> Result<(), Box<dyn Error>> {
    let start = now();
    let argument = std::env::args().skip(1).find(|argument| argument != "--bench");
    let case: Case = serde_json::from_str(&argument.ok_or("expected a case as JSON; run `compare.py`")?)?;

    let options = EngineOptions {
        device: case.device.parse::<DeviceRequest>()?,
        threads: Some(case.threads),
        cuda_graphs: case.cuda_graphs,
    };
    let engine = if case.embedded {
        engine::embedded(options.threads).ok_or("this program was built without the feature `rten`")?
    } else {
        engine::start(&engine::library::locate(&LibraryRequest::default())?, &options)?
    };
    let document = json!({
        "model": case.model, "loss": "cross_entropy", "optimizer": case.optimizer,
        "training": {"epochs": case.epochs, "batch_size": case.batch, "keep": "last"},
    });
    let plan = ModelFile::from_value(document, Path::new("."))
        .resolve(&Map::new())?
        .plan;
    let samples = |rows: usize| {
        let width: usize = case.row.iter().product();
        // A sawtooth of irrational slope is noise enough, and no denormal number.
        let inputs = (0..rows * width)
            .map(|at| ((at as f64 * 0.618_033_988_75).fract() * 2.0 - 1.0) as f32)
            .collect::<Vec<f32>>()
            .into();
        let labels = (0..rows).map(|row| (row * 7 % case.classes) as i64).collect();
        Samples {
            row_shape: case.row.clone(),
            inputs,
            targets: Targets::Classes {
                labels,
                classes: case.classes,
            },
            weights: None,
        }
    };
    let (training, validation) = (samples(case.steps * case.batch), samples(case.batch));
    let ready = now();
    let mut clock = Clock::default();
    let result = train(&*engine, &plan, &training, &validation, None, &mut clock)?;
    let begin = clock.begin.ok_or("there was no step")?;
    let first = clock.first.ok_or("there was no step")?;
    let [wall, cpu] = clock.times;
    let line = json!({
        "engine": engine.version(), "device": engine.device(), "parameters": result.parameters, "steps": cpu.len(),
        "cpu_us": median(cpu), "wall_us": median(wall), "peak_mb": peak_memory()?, "loss": clock.loss,
        // From the data to the end of the first step, and the same with loading the library; from the start to its beginning.
        "build_ms": (first[0] - ready[0]) * 1e3, "start_ms": (first[0] - start[0]) * 1e3, "start_cpu_ms": first[1] * 1e3,
        "begin_ms": (begin[0] - start[0]) * 1e3,
    });
    #[expect(clippy::print_stdout, reason = "this is the program's output")]
    {
        println!("{line}");
    }
    Ok(())
}
