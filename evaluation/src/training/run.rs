//! The training loop.

use std::collections::HashMap;
use std::time::Instant;

use super::checkpoint::{Checkpoint, Progress, Store};
use super::feeding::Feeder;
use super::lowering::running_statistics;
use super::metrics::Accumulator;
use super::optimizers::Settings;
use super::prepare::{check_area, check_samples, import, recipe};
use super::random::{Purpose, Stream};
use super::schedules::Position;
use super::step::{
    Fed, Recipe, Step, TRAIN_INPUTS, TRAIN_TARGETS, TRAIN_WEIGHTS, VALIDATION_INPUTS, VALIDATION_TARGETS, average_name,
    slot_name,
};
use super::{
    CheckpointPolicy, Decision, Ended, EpochReport, Keep, Metric, Metrics, Observer, Samples, Targets, TrainedModel,
    TrainingError, TrainingPlan, TrainingResult,
};
use crate::engine::{Engine, EngineError, Feed, Machine};
use crate::graph::{ElementType, Elements, Tensor, TensorType};

/// Rows of one evaluation batch; the last one is smaller.
const EVALUATION_ROWS: usize = 1024;

/// Trains `plan` on `train`, judging by `validation` after each epoch.
///
/// # Errors
/// When plan, model and data do not fit, the loss is not finite, a file cannot be written, or the engine fails.
pub fn train(
    engine: &dyn Engine,
    plan: &TrainingPlan,
    train: &Samples,
    validation: &Samples,
    checkpoints: Option<&CheckpointPolicy>,
    observer: &mut dyn Observer,
) -> Result<TrainingResult, TrainingError> {
    train_in_stages(engine, &[], plan, (train, validation), checkpoints, observer)
}

/// Trains as [`train()`] does, but by the plans of `earlier` first, each up to as many epochs in total as it says.
///
/// What a stage leaves, weights, statistics and what optimisers remember, is where the next begins; early stopping and the
/// choice of the best epoch begin anew with each. A checkpoint of any of the stages is taken up, so going on from where somebody
/// with the same past has stopped gives the same bits as training all of it.
///
/// # Errors
/// As [`train()`]; [`TrainingError::Mismatch`] too where a stage has weights of other shapes than the one before it.
pub fn train_in_stages(
    engine: &dyn Engine,
    earlier: &[TrainingPlan],
    plan: &TrainingPlan,
    samples: (&Samples, &Samples),
    checkpoints: Option<&CheckpointPolicy>,
    observer: &mut dyn Observer,
) -> Result<TrainingResult, TrainingError> {
    stages(engine, earlier, plan, samples, checkpoints, observer).map_err(|error| match error {
        TrainingError::Engine(source @ EngineError::Memory { .. }) => TrainingError::Memory {
            batch: plan.batch_size.min(samples.0.rows()),
            source,
        },
        error => error,
    })
}

fn stages(
    engine: &dyn Engine,
    earlier: &[TrainingPlan],
    plan: &TrainingPlan,
    (train, validation): (&Samples, &Samples),
    checkpoints: Option<&CheckpointPolicy>,
    observer: &mut dyn Observer,
) -> Result<TrainingResult, TrainingError> {
    let plans: Vec<&TrainingPlan> = earlier.iter().chain([plan]).collect();
    for plan in &plans {
        check_samples("training", train, &plan.loss)?;
        check_samples("validation", validation, &plan.loss)?;
    }
    if train.row_shape != validation.row_shape || train.targets.outputs() != validation.targets.outputs() {
        return Err(TrainingError::Mismatch(
            "training and validation set have rows of different shapes".into(),
        ));
    }
    for plan in &plans {
        check_area(plan, validation)?;
    }
    let data = (&train.row_shape[..], &train.targets, train.weights.is_some());
    let fed = Fed {
        train: train.inputs.is_fed(),
        validation: validation.inputs.is_fed(),
    };
    let store = match checkpoints {
        None => None,
        Some(policy) => {
            let mut stages: Vec<(String, Option<usize>)> = Vec::with_capacity(plans.len());
            for (stage, plan) in plans.iter().enumerate() {
                let (imported, outputs) = import(plan, &train.row_shape, &train.targets)?;
                let recipe = recipe(engine, plan, &imported, data, outputs, fed)?;
                let own = super::checkpoint::fingerprint(&recipe, train, validation);
                let until = (stage + 1 < plans.len()).then_some(plan.epochs);
                stages.push(match stages.last() {
                    Some((before, Some(end))) => (super::checkpoint::following(before, *end, &own), until),
                    _ => (own, until),
                });
            }
            Some(Store::open(&policy.directory, stages)?)
        }
    };
    let mut found = store.as_ref().and_then(|store| store.latest(observer));
    let mut begin = found.as_ref().map_or(0, |(stage, _)| *stage);
    let (mut resumed_from, mut carried) = (None, None);
    loop {
        let plan = plans[begin];
        let (imported, outputs) = import(plan, &train.row_shape, &train.targets)?;
        let recipe = recipe(engine, plan, &imported, data, outputs, fed)?;
        let mut run = Run::start(recipe, train, validation)?;
        run.stage = begin;
        run.every_epochs = checkpoints.map_or(0, |policy| policy.every_epochs);
        if let Some((stage, checkpoint)) = found.take() {
            match run.restore(checkpoint) {
                Ok(()) => {
                    let reports = &run.progress.reports;
                    resumed_from = Some(reports.len());
                    observer.resumed(reports);
                    let (done, asked) = (reports.len(), plan.epochs);
                    if done > asked {
                        observer.warning(&format!(
                            "the checkpoint has {done} epochs already, {asked} were asked for"
                        ));
                    }
                }
                Err(message) => {
                    observer.warning(&message);
                    if stage > 0 {
                        begin = 0;
                        continue;
                    }
                }
            }
        } else if let Some(carried) = carried.take() {
            run.follow(carried)?;
        }
        let ended = run.epochs(store.as_ref(), observer)?;
        begin += 1;
        let is_over = matches!(ended, Ended::Stopped | Ended::Checkpointed);
        if is_over || begin == plans.len() {
            return run.finish(ended, resumed_from);
        }
        carried = Some(run.carry()?);
    }
}

/// What one stage leaves to the next.
struct Carried {
    progress: Progress,
    states: Vec<(String, Tensor)>,
}

/// A copy, or an error that says how much memory it would take.
fn copied(values: &[f32]) -> Result<Vec<f32>, EngineError> {
    let mut copy = Vec::new();
    if copy.try_reserve_exact(values.len()).is_err() {
        return Err(EngineError::Memory {
            engine: "this program",
            doing: "to hand the data to the engine; `--data-memory` has them streamed".to_owned(),
            bytes: Some(4 * values.len() as u64),
        });
    }
    copy.extend_from_slice(values);
    Ok(copy)
}

/// A training under way.
struct Run<'a> {
    recipe: Recipe<'a>,
    train: &'a Samples,
    validation: &'a Samples,
    machine: Box<dyn Machine>,
    batch: usize,
    /// Programs by batch size.
    steps: HashMap<usize, (usize, Vec<(usize, f64)>)>,
    evaluations: HashMap<usize, (usize, usize)>,
    parameters: Vec<String>,
    /// Parameters and running statistics: what a trained model consists of, with the states that hold them.
    model_states: Vec<(String, String)>,
    /// All states.
    states: Vec<String>,
    settings: Vec<Settings>,
    /// Metrics besides the usual ones.
    metrics: Vec<Metric>,
    progress: Progress,
    /// States of the model at the best epoch.
    best: Option<Vec<Tensor>>,
    every_epochs: usize,
    /// Number of the stage of the training, from 0.
    stage: usize,
}

impl<'a> Run<'a> {
    fn start(recipe: Recipe<'a>, train: &'a Samples, validation: &'a Samples) -> Result<Self, TrainingError> {
        let batch = recipe.plan.batch_size.min(train.rows());
        let step = recipe.step(batch, train.rows())?;
        let weights: usize = step
            .parameters
            .iter()
            .map(|name| recipe.imported.graph.constants[name].elements.len())
            .sum();
        let mut machine = recipe.engine.machine(3.0 * weights as f64 * batch as f64)?;

        for (name, samples) in [(TRAIN_INPUTS, train), (VALIDATION_INPUTS, validation)] {
            if let Some(values) = samples.inputs.resident() {
                let mut shape = vec![samples.rows()];
                shape.extend_from_slice(&recipe.row_shape);
                machine.constant(name, Tensor::f32(shape, copied(values)?))?;
            }
        }
        machine.constant(TRAIN_TARGETS, target_tensor(&train.targets, recipe.labels))?;
        if let Some(weights) = &train.weights {
            machine.constant(TRAIN_WEIGHTS, Tensor::f32([weights.len()], weights.clone()))?;
        }
        if recipe.loss.is_some() {
            machine.constant(VALIDATION_TARGETS, target_tensor(&validation.targets, recipe.labels))?;
        }

        let plan = recipe.plan;
        let mut states: Vec<String> = step.parameters.iter().chain(&step.running).cloned().collect();
        for name in &states {
            machine.set_state(name, &recipe.imported.graph.constants[name])?;
        }
        let mut model_states: Vec<(String, String)> = states.iter().map(|name| (name.clone(), name.clone())).collect();
        for (at, name) in step.parameters.iter().enumerate() {
            let value = &recipe.imported.graph.constants[name];
            let filled = |number: f32| Tensor::f32(value.shape.clone(), vec![number; value.elements.len()]);
            for (slot, initial) in plan.optimizer.rule.slots() {
                let name = slot_name(slot, name);
                machine.set_state(&name, &filled(initial))?;
                states.push(name);
            }
            if plan.average.is_some() {
                let average = average_name(name);
                machine.set_state(&average, value)?;
                states.push(average.clone());
                model_states[at].1 = average;
            }
        }
        let mut metrics = Vec::new();
        for metric in std::iter::once(&plan.objective.metric).chain(&plan.metrics) {
            if !metrics.contains(metric) {
                metrics.push(*metric);
            }
        }
        let mut run = Self {
            recipe,
            train,
            validation,
            machine,
            batch,
            steps: HashMap::new(),
            evaluations: HashMap::new(),
            parameters: step.parameters.clone(),
            model_states,
            states,
            settings: step.settings.clone(),
            metrics,
            progress: Progress::default(),
            best: None,
            every_epochs: 0,
            stage: 0,
        };
        run.load_step(batch, &step)?;
        Ok(run)
    }

    fn load_step(&mut self, batch: usize, step: &Step) -> Result<(), TrainingError> {
        let program = self
            .machine
            .load(&step.graph, &[TensorType::new(ElementType::F32, [])])?;
        self.steps.insert(batch, (program, step.masks.clone()));
        Ok(())
    }

    /// Trains the epochs that are left.
    fn epochs(&mut self, store: Option<&Store>, observer: &mut dyn Observer) -> Result<Ended, TrainingError> {
        let plan = self.recipe.plan;
        while self.progress.reports.len() < plan.epochs {
            if self.is_exhausted() {
                return Ok(Ended::EarlyStopped);
            }
            let start = Instant::now();
            match self.epoch(observer)? {
                Decision::Continue => {}
                Decision::Stop => return Ok(Ended::Stopped),
                Decision::CheckpointAndStop => {
                    self.progress.epoch_seconds += start.elapsed().as_secs_f64();
                    self.save(store, observer)?;
                    return Ok(Ended::Checkpointed);
                }
            }
            let report = self.end_epoch(start)?;
            let decision = observer.epoch(&report);
            let done = self.progress.reports.len();
            let is_last = done == plan.epochs || self.is_exhausted();
            let is_wanted = self.every_epochs > 0 && done.is_multiple_of(self.every_epochs);
            let must_save = (is_last && observer.keeps_end()) || decision == Decision::CheckpointAndStop;
            if store.is_some() && (must_save || (is_wanted && observer.checkpoint_due())) {
                self.save(store, observer)?;
            }
            match decision {
                Decision::Continue => {}
                Decision::Stop => return Ok(Ended::Stopped),
                Decision::CheckpointAndStop => return Ok(Ended::Checkpointed),
            }
        }
        Ok(if self.is_exhausted() {
            Ended::EarlyStopped
        } else {
            Ended::Completed
        })
    }

    /// Whether early stopping ends the training.
    fn is_exhausted(&self) -> bool {
        self.recipe
            .plan
            .early_stopping
            .is_some_and(|early| self.progress.stale_epochs >= early.patience)
    }

    /// The steps of an epoch that are left.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Result<Decision, TrainingError> {
        let plan = self.recipe.plan;
        let rows = self.train.rows();
        let epoch = self.progress.reports.len();
        let mut order: Vec<i64> = (0..rows as i64).collect();
        if plan.shuffle {
            Stream::new(plan.seed, Purpose::Order, epoch as u64).shuffle(&mut order);
        }
        let losses: Vec<f64> = self
            .progress
            .reports
            .iter()
            .map(|report| plan.objective.loss(&report.validation))
            .collect();
        let whole = rows / self.batch;
        let steps = if plan.drop_last {
            whole
        } else {
            rows.div_ceil(self.batch)
        };
        let left = &order[rows.min(self.progress.step * self.batch)..];
        let feeder = Feeder::start(&self.train.inputs, self.train.row_len(), left, self.batch, epoch as u64)?;
        while self.progress.step < steps {
            let decision = observer.poll();
            if decision != Decision::Continue {
                return Ok(decision);
            }
            let step = self.progress.step;
            let chosen = &order[step * self.batch..rows.min((step + 1) * self.batch)];
            let at = Position {
                epoch,
                step,
                steps,
                losses: &losses,
            };
            let rate = plan.schedule.rate(plan.optimizer.learning_rate, at);
            let loss = self.step(chosen, rate, feeder.as_ref())?;
            if !loss.is_finite() {
                return Err(TrainingError::NotFinite {
                    value: loss,
                    epoch: epoch + 1,
                    step: step + 1,
                });
            }
            observer.step(loss);
            self.progress.loss_sum += f64::from(loss) * chosen.len() as f64;
            self.progress.loss_rows += chosen.len();
            self.progress.learning_rate = rate;
            self.progress.step += 1;
        }
        Ok(Decision::Continue)
    }

    fn step(&mut self, chosen: &[i64], rate: f64, feeder: Option<&Feeder>) -> Result<f32, TrainingError> {
        let plan = self.recipe.plan;
        if !self.steps.contains_key(&chosen.len()) {
            let step = self.recipe.step(chosen.len(), self.train.rows())?;
            self.load_step(chosen.len(), &step)?;
        }
        let (program, masks) = &self.steps[&chosen.len()];
        self.progress.total_steps += 1;
        let masks: Vec<Vec<f32>> = masks
            .iter()
            .enumerate()
            .map(|(layer, (length, rate))| {
                let index = (self.progress.total_steps << 16) | layer as u64;
                let mut mask = vec![0.0; *length];
                Stream::new(plan.seed, Purpose::Dropout, index).dropout_mask(&mut mask, *rate);
                mask
            })
            .collect();
        let total_steps = self.progress.total_steps;
        let mut scalars: Vec<f32> = self
            .settings
            .iter()
            .flat_map(|settings| plan.optimizer.scalars(*settings, rate, total_steps))
            .map(|(_, value)| value)
            .collect();
        if let Some(average) = plan.average {
            let decay = if total_steps == 1 { 0.0 } else { average.decay };
            scalars.extend([decay as f32, (1.0 - decay) as f32]);
        }
        let batch = feeder.map(Feeder::next).transpose()?;
        let mut feeds = vec![Feed::I64(chosen)];
        feeds.extend(batch.iter().map(|inputs| Feed::F32(inputs)));
        feeds.extend(masks.iter().map(|mask| Feed::F32(mask)));
        feeds.extend(scalars.iter().map(|scalar| Feed::F32(std::slice::from_ref(scalar))));
        self.machine.run(*program, &feeds)?;
        if let (Some(feeder), Some(batch)) = (feeder, batch) {
            feeder.give_back(batch);
        }
        Ok(self.machine.result(*program, 0)?[0])
    }

    /// Validates, and takes note of the result.
    fn end_epoch(&mut self, start: Instant) -> Result<EpochReport, TrainingError> {
        let plan = self.recipe.plan;
        let epoch = self.progress.reports.len() + 1;
        let validation = self.validate()?;
        if let Some((metric, value)) = validation.0.iter().find(|(_, value)| !value.is_finite()) {
            return Err(TrainingError::NotFiniteMetric {
                metric: *metric,
                value: *value,
                epoch,
            });
        }
        let loss = plan.objective.loss(&validation);
        let best = self
            .progress
            .best
            .map(|best| plan.objective.loss(&self.progress.reports[best].validation));
        let report = EpochReport {
            epoch,
            learning_rate: self.progress.learning_rate,
            train_loss: self.progress.loss_sum / self.progress.loss_rows.max(1) as f64,
            validation,
            seconds: self.progress.epoch_seconds + start.elapsed().as_secs_f64(),
        };
        self.progress.reports.push(report.clone());
        if best.is_none_or(|best| loss < best) {
            self.progress.best = Some(epoch - 1);
            if plan.keep == Keep::Best {
                self.best = Some(self.read(self.model_states.iter().map(|(_, state)| state))?);
            }
        }
        let min_delta = plan.early_stopping.map_or(0.0, |early| early.min_delta);
        if self
            .progress
            .reference
            .is_none_or(|reference| loss < reference - min_delta)
        {
            self.progress.reference = Some(loss);
            self.progress.stale_epochs = 0;
        } else {
            self.progress.stale_epochs += 1;
        }
        self.progress.end_epoch();
        Ok(report)
    }

    fn validate(&mut self) -> Result<Metrics, TrainingError> {
        let rows = self.validation.rows();
        let mut sums = None;
        let all: Vec<i64> = (0..rows as i64).collect();
        let (inputs, row_len) = (&self.validation.inputs, self.validation.row_len());
        let feeder = Feeder::start(inputs, row_len, &all, EVALUATION_ROWS, 0)?;
        for chosen in all.chunks(EVALUATION_ROWS) {
            let (program, outputs) = if let Some(known) = self.evaluations.get(&chosen.len()) {
                *known
            } else {
                let evaluation = self.recipe.evaluation(chosen.len(), rows, &self.model_states)?;
                let program = self.machine.load(&evaluation.graph, &evaluation.results)?;
                let outputs = evaluation.results[0].shape[1];
                self.evaluations.insert(chosen.len(), (program, outputs));
                (program, outputs)
            };
            let batch = feeder.as_ref().map(Feeder::next).transpose()?;
            let mut feeds = vec![Feed::I64(chosen)];
            feeds.extend(batch.iter().map(|inputs| Feed::F32(inputs)));
            self.machine.run(program, &feeds)?;
            if let (Some(feeder), Some(batch)) = (&feeder, batch) {
                feeder.give_back(batch);
            }
            let values = match self.recipe.loss {
                Some(_) => Some(self.machine.result(program, 1)?),
                None => None,
            };
            sums.get_or_insert_with(|| {
                let classes = self.recipe.class_weights.clone();
                Accumulator::new(&self.recipe.plan.loss, classes, self.validation, outputs, &self.metrics)
            })
            .add(self.machine.result(program, 0)?, values);
        }
        let metrics = sums.expect("the validation set has rows").finish();
        let objective = self.recipe.plan.objective.metric;
        if metrics.0.iter().all(|(metric, _)| *metric != objective) {
            return Err(TrainingError::Mismatch(format!(
                "the objective `{}` is not defined on the validation set: {}",
                objective.name(),
                match objective {
                    Metric::Auc =>
                        "it needs rows of both kinds with a weight above 0, and predictions that are numbers",
                    Metric::RelativeError(_) => "all its targets are zero",
                    _ => "the loss graph predicts other numbers than the targets",
                }
            )));
        }
        Ok(metrics)
    }

    fn read<'b>(&self, names: impl Iterator<Item = &'b String>) -> Result<Vec<Tensor>, TrainingError> {
        names
            .map(|name| self.machine.state(name).map_err(TrainingError::from))
            .collect()
    }

    fn save(&self, store: Option<&Store>, observer: &mut dyn Observer) -> Result<(), TrainingError> {
        let Some(store) = store else {
            observer.warning("no checkpoint was written, since no checkpoint directory is set");
            return Ok(());
        };
        let states = self
            .states
            .iter()
            .cloned()
            .zip(self.read(self.states.iter())?)
            .collect();
        let best = self.best.as_ref().map(|best| {
            let names = self.model_states.iter().map(|(name, _)| name.clone());
            names.zip(best.iter().cloned()).collect()
        });
        let checkpoint = Checkpoint {
            progress: self.progress.clone(),
            states,
            best: best.unwrap_or_default(),
        };
        store.save(self.stage, &checkpoint)
    }

    /// What the next stage begins with.
    fn carry(&self) -> Result<Carried, TrainingError> {
        let states = self.states.iter().cloned().zip(self.read(self.states.iter())?);
        Ok(Carried {
            progress: self.progress.clone(),
            states: states.collect(),
        })
    }

    /// Begins where the stage before has ended. Optimisers that remember other things begin with what they have in common.
    fn follow(&mut self, carried: Carried) -> Result<(), TrainingError> {
        let before: HashMap<String, Tensor> = carried.states.into_iter().collect();
        for (name, state) in &self.model_states {
            let value = before.get(name).filter(|value| {
                let own = &self.recipe.imported.graph.constants[name];
                own.shape == value.shape
            });
            let value = value.ok_or_else(|| {
                TrainingError::Mismatch(format!(
                    "`{name}` has another shape, or is new, after epoch {}: the schedule in `hpo.sched` changes a hyperparameter \
                     on which the shape of the model depends; such ones have to be frozen (`frozen=NAME` of the scheduler)",
                    carried.progress.reports.len()
                ))
            })?;
            self.machine.set_state(name, value)?;
            if state != name {
                // An average that is new begins with the weights themselves.
                self.machine.set_state(state, before.get(state).unwrap_or(value))?;
            }
        }
        for name in &self.states {
            let is_slot = self
                .model_states
                .iter()
                .all(|(weight, state)| weight != name && state != name);
            if let Some(value) = before.get(name).filter(|_| is_slot) {
                self.machine.set_state(name, value)?;
            }
        }
        self.progress = Progress {
            best: None,
            reference: None,
            stale_epochs: 0,
            ..carried.progress
        };
        Ok(())
    }

    /// Continues from a checkpoint; fails with a reason in words when it is of another model.
    fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        if !checkpoint.states.iter().map(|(name, _)| name).eq(&self.states) {
            return Err("the checkpoint holds other weights than the model has; training begins anew".into());
        }
        for (name, value) in &checkpoint.states {
            self.machine.set_state(name, value).map_err(|error| error.to_string())?;
        }
        self.best =
            (!checkpoint.best.is_empty()).then(|| checkpoint.best.into_iter().map(|(_, value)| value).collect());
        self.progress = checkpoint.progress;
        Ok(())
    }

    fn finish(self, ended: Ended, resumed_from: Option<usize>) -> Result<TrainingResult, TrainingError> {
        let plan = self.recipe.plan;
        let last = self.progress.reports.len().checked_sub(1);
        let (chosen, values) = match (plan.keep, self.best.clone()) {
            (Keep::Best, Some(best)) => (self.progress.best, best),
            _ => (last, self.read(self.model_states.iter().map(|(_, state)| state))?),
        };
        let names = self.model_states.iter().map(|(name, _)| name.clone());
        let values: Vec<(String, Tensor)> = names.zip(values).collect();
        let parameters = self
            .parameters
            .iter()
            .map(|name| self.recipe.imported.graph.constants[name].elements.len())
            .sum();
        let loss = chosen.map(|index| plan.objective.loss(&self.progress.reports[index].validation));
        debug_assert!(
            running_statistics(&self.recipe.imported.graph)
                .iter()
                .all(|name| !self.parameters.contains(name))
        );
        Ok(TrainingResult {
            ended,
            chosen,
            loss,
            parameters,
            resumed_from,
            model: TrainedModel {
                imported: self.recipe.imported.clone(),
                values,
            },
            epochs: self.progress.reports,
        })
    }
}

fn target_tensor(targets: &Targets, classes: bool) -> Tensor {
    match targets {
        Targets::Classes { labels, .. } if classes => Tensor::new([labels.len()], Elements::I64(labels.clone())),
        Targets::Classes { labels, .. } => {
            Tensor::f32([labels.len(), 1], labels.iter().map(|label| *label as f32).collect())
        }
        Targets::Values { width, values } => Tensor::f32([values.len() / width, *width], values.clone()),
    }
}
