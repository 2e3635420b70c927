//! `evaluation run`: train and write everything down.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::loss_document::LossDocument;
use protocol::{Loss, environment, exit};
use serde_json::{Map, Value, json};

use super::arguments::RunOptions;
use super::failure::Failure;
use super::observer::{Pace, Reason, Watcher};
use super::prepare::{self, Work};
use super::signals::Signals;
use super::start::{self, Started};
use super::{print, say};
use crate::dataset::Prepared;
use crate::engine::Engine;
use crate::output::{self, Ending, Identity, Metadata, RunRecord};
use crate::training::{self, CheckpointPolicy, Ended, TrainingError, TrainingResult};

/// Trains, and leaves a loss document in any case.
pub(crate) fn run(options: &RunOptions) -> Result<(), Failure> {
    remove_stale(&options.output)?;
    let outcome = evaluate(options);
    let document = match &outcome {
        Ok(document) => document.clone(),
        Err(failure) => LossDocument::failure(failure.to_string()),
    };
    let written = document
        .write(&options.output)
        .map_err(|error| Failure::write("loss document", &options.output, &error));
    outcome.and(written)
}

/// A loss of an earlier run must not be taken for this one's.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    // A device or a pipe would be replaced by a file.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Failure::new(
            exit::USAGE,
            format!("loss document `{}` must be a regular file", path.display()),
        ));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::write("loss document", path, &error))
        }
        _ => Ok(()),
    }
}

fn evaluate(options: &RunOptions) -> Result<LossDocument, Failure> {
    let begin = Instant::now();
    let started = milliseconds();
    let output = options.output.clone();
    let last_words = move |code| {
        let message = format!(
            "ended by {} while data and model were prepared; nothing was trained yet",
            name_of(code)
        );
        say(&format!("error: {message}"));
        if let Err(error) = LossDocument::failure(message).write(&output) {
            say(&format!(
                "error: cannot write loss document `{}`: {error}",
                output.display()
            ));
        }
    };
    let signals = Signals::install(last_words)
        .map_err(|error| Failure::new(exit::INFRASTRUCTURE, format!("cannot handle signals: {error}")))?;
    let work = prepare::work(&options.subject)?;
    let data = prepare::data(&options.subject, &work, &mut |line| say(&format!("note: {line}")))?;
    let data_seconds = begin.elapsed().as_secs_f64();
    let Started {
        engine,
        origin,
        warning,
    } = start::any(&options.engine)?;
    if !options.quiet {
        say(&format!("{origin}; device {}", engine.device()));
        say(&format!(
            "{} training rows, {} validation rows, rows of shape {:?}",
            data.summary.training_rows, data.summary.validation_rows, data.summary.row_shape
        ));
    }
    let setup_seconds = begin.elapsed().as_secs_f64() - data_seconds;

    let variable = |name: &str| std::env::var(name).ok();
    let mut watcher = Watcher {
        signals,
        objective: work.plan.objective,
        total_epochs: work.plan.epochs,
        epoch_limit: work.epoch_limit,
        has_checkpoints: options.checkpoint.is_some(),
        keeps_end: variable(environment::KEEP_CHECKPOINT).as_deref() != Some("0"),
        cutoffs: work.cutoffs.clone(),
        smallest_loss: f64::INFINITY,
        report_file: variable(environment::REPORT_FILE).map(Into::into),
        decision_file: variable(environment::DECISION_FILE).map(Into::into),
        quiet: options.quiet,
        reason: None,
        seen: Vec::new(),
        warnings: Vec::new(),
        epochs_done: 0,
        looked: Instant::now(),
        pace: Pace::new(Duration::from_secs(options.checkpoint_interval.into())),
    };
    for warning in warning.iter().chain(&work.warnings).chain(&data.warnings) {
        watcher.warn(warning);
    }
    let identity = Identity::new(variable, &work.point.identity(), work.segment.map(|segment| segment.0));
    let policy = options.checkpoint.clone().map(|directory| CheckpointPolicy {
        directory,
        every_epochs: 1,
        inherits: work.inherits,
    });

    watcher.signals.end_orderly();
    let training = Instant::now();
    let result = training::train_in_stages(
        &*engine,
        &work.earlier,
        &work.plan,
        (&data.train, &data.validation),
        policy.as_ref(),
        &mut watcher,
    );
    let record = Record {
        options,
        work: &work,
        data: &data,
        identity: &identity,
        started,
    };
    let result = match result {
        Ok(result) => result,
        Err(error) => {
            if matches!(
                error,
                TrainingError::NotFinite { .. } | TrainingError::NotFiniteMetric { .. }
            ) {
                record.metrics(&watcher.seen, None, Ending::Failed, &error.to_string())?;
            }
            return Err(error.into());
        }
    };
    if let Some(Reason::Signal(code)) = watcher.reason {
        return Err(interrupted(code, options.checkpoint.as_deref(), result.epochs.len()));
    }
    let timing = [
        ("data", data_seconds),
        ("setup", setup_seconds),
        ("training", training.elapsed().as_secs_f64()),
        ("total", begin.elapsed().as_secs_f64()),
    ];
    record.all(&result, &watcher, &*engine, &origin, &timing)
}

fn name_of(code: u8) -> &'static str {
    if code == exit::TERMINATED { "SIGTERM" } else { "SIGINT" }
}

fn interrupted(code: u8, checkpoint: Option<&Path>, epochs: usize) -> Failure {
    let name = name_of(code);
    let message = match checkpoint {
        Some(directory) => format!(
            "ended by {name} after {epochs} epochs; a checkpoint lies in `{}`, the same command resumes from it",
            directory.display()
        ),
        None => format!("ended by {name} after {epochs} epochs; nothing is saved without `--checkpoint`"),
    };
    Failure::new(code, message)
}

/// What is written down about a run.
struct Record<'a> {
    options: &'a RunOptions,
    work: &'a Work,
    data: &'a Prepared,
    identity: &'a Identity,
    started: u64,
}

impl Record<'_> {
    /// Metrics, metadata, model; the loss document is returned, to be written last.
    fn all(
        &self,
        result: &TrainingResult,
        watcher: &Watcher,
        engine: &dyn Engine,
        library: &str,
        timing: &[(&str, f64)],
    ) -> Result<LossDocument, Failure> {
        let ending = if result.loss.is_some() && watcher.reason != Some(Reason::Stop) {
            Ending::Finished
        } else {
            Ending::Killed
        };
        let ended = ended_text(result, watcher.reason);
        self.metrics(&result.epochs, result.loss, ending, &ended)?;
        let best = result.chosen.map(|index| &result.epochs[index]);
        let metadata = Metadata {
            program: concat!("evaluation ", env!("CARGO_PKG_VERSION")).to_owned(),
            engine: engine.version(),
            library: library.to_owned(),
            device: engine.device(),
            machine: machine(),
            identity: self.identity,
            hyperparameters: &self.work.hyperparameters,
            plan: &self.work.plan,
            data: &self.data.summary,
            scaling: &self.data.scaling,
            parameters: result.parameters,
            loss: result.loss,
            ended: ended.clone(),
            epochs_done: result.epochs.len(),
            resumed_from: result.resumed_from,
            inherited_from: result.inherited_from,
            skipped_steps: result.skipped_steps,
            best_epoch: best.map(output::epoch_object),
            seconds: timing
                .iter()
                .map(|(name, seconds)| ((*name).to_owned(), json!(seconds)))
                .collect(),
            warnings: &watcher.warnings,
        };
        if let Some(path) = &self.options.meta {
            output::write_metadata(path, &metadata).map_err(|error| Failure::write("metadata", path, &error))?;
        }
        if let Some(path) = &self.options.save_model {
            let properties = [
                (
                    "hpo.scaling".to_owned(),
                    serde_json::to_string(&self.data.scaling).unwrap_or_default(),
                ),
                (
                    "hpo.data".to_owned(),
                    serde_json::to_string(&self.data.summary).unwrap_or_default(),
                ),
                (
                    "hpo.hyperparameters".to_owned(),
                    Value::Object(self.work.hyperparameters.clone()).to_string(),
                ),
            ];
            result.model.save(path, Some(&self.data.raw), &properties)?;
        }

        if watcher.reason == Some(Reason::Pause) && self.options.checkpoint.is_none() {
            say("warning: paused, but nothing is saved without `--checkpoint`");
        }
        let Some(loss) = result.loss.and_then(Loss::new) else {
            let message = match result.loss {
                Some(value) => format!("the loss is {value}, expected a finite number below 1e30"),
                None => format!("{ended}: no epoch was completed, there is no loss"),
            };
            if watcher.reason == Some(Reason::Pause) {
                say(&message);
                return Ok(LossDocument::failure(message));
            }
            return Err(Failure::new(exit::FAILED, message));
        };
        let epoch = best.map_or(0, |report| report.epoch);
        let message = format!("{ended} after {} epochs; best is epoch {epoch}", result.epochs.len());
        if self.options.json {
            let best: Map<String, Value> = best
                .map(|report| {
                    report
                        .validation
                        .0
                        .iter()
                        .map(|(metric, value)| (metric.name().into_owned(), json!(value)))
                        .collect()
                })
                .unwrap_or_default();
            let answer = json!({
                "loss": loss.get(), "metrics": best, "best_epoch": epoch, "epochs": result.epochs.len(),
                "parameters": result.parameters, "ended": ended, "device": engine.device(),
                "engine": engine.version(),
            });
            print(&format!("{answer:#}\n"));
        } else if !self.options.quiet {
            say(&format!(
                "loss {}  ({message}); written to `{}`",
                loss.get(),
                self.options.output.display()
            ));
        }
        Ok(LossDocument::success(loss, message))
    }

    fn metrics(
        &self,
        epochs: &[training::EpochReport],
        loss: Option<f64>,
        ending: Ending,
        ended: &str,
    ) -> Result<(), Failure> {
        let Some(path) = &self.options.metrics else {
            return Ok(());
        };
        // A run without parameters looks broken in MLflow's lists.
        let mut hyperparameters = self.work.hyperparameters.clone();
        if hyperparameters.is_empty() {
            hyperparameters.insert("seed".to_owned(), self.work.plan.seed.into());
        }
        let record = RunRecord {
            identity: self.identity,
            hyperparameters: &hyperparameters,
            epochs,
            loss,
            tags: &[("hpo.ended".to_owned(), ended.to_owned())],
            started: self.started,
            ended: milliseconds().max(self.started),
            ending,
        };
        output::write_metrics(path, &record).map_err(|error| Failure::write("metrics archive", path, &error))
    }
}

fn ended_text(result: &TrainingResult, reason: Option<Reason>) -> String {
    if let Some(Reason::Cutoff(epoch)) = reason {
        return format!("stopped@{epoch} by the cutoff of its point");
    }
    match (result.ended, reason) {
        (_, Some(Reason::Limit)) => "granted epochs done",
        (_, Some(Reason::Stop)) => "stopped by the scheduler",
        (_, Some(Reason::Pause)) => "paused by the scheduler",
        (Ended::EarlyStopped, _) => "stopped early",
        (Ended::Completed, _) => "completed",
        (Ended::Stopped | Ended::Checkpointed, _) => "ended",
    }
    .to_owned()
}

/// Milliseconds since 1970.
fn milliseconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// What may explain a difference between two machines; nothing that identifies a person.
fn machine() -> Map<String, Value> {
    let mut machine = Map::new();
    machine.insert("system".to_owned(), std::env::consts::OS.into());
    machine.insert("processor".to_owned(), std::env::consts::ARCH.into());
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    machine.insert("processors".to_owned(), processors.into());
    for name in ["SLURM_JOB_ID", "PanDA_TaskID", "PANDAID"] {
        if let Ok(value) = std::env::var(name) {
            machine.insert(name.to_owned(), value.into());
        }
    }
    machine
}
