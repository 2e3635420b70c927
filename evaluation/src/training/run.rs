//! A training under way: the loop over its steps and epochs.

mod keeping;
mod stages;
mod validation;

use std::collections::HashMap;
use std::time::Instant;

pub use self::stages::{train, train_in_stages};
use super::checkpoint::{Progress, Store};
use super::feeding::Feeder;
use super::lowering::running_statistics;
use super::optimizers::Settings;
use super::precision::SKIPPED;
use super::random::{Purpose, Stream};
use super::schedules::Position;
use super::step::{
    Recipe, Step, TRAIN_INPUTS, TRAIN_TARGETS, TRAIN_WEIGHTS, VALIDATION_INPUTS, VALIDATION_TARGETS, average_name,
    slot_name,
};
use super::{Decision, Ended, Keep, Metric, Observer, Samples, Targets, TrainedModel, TrainingError, TrainingResult};
use crate::engine::{Feed, Machine};
use crate::graph::{ElementType, Elements, Tensor, TensorType};

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
                machine.data(name, &shape, values)?;
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
            for (slot, initial) in plan.optimizer.rule.slots() {
                let name = slot_name(slot, name);
                machine.set_filled(&name, &value.shape, initial)?;
                states.push(name);
            }
            if plan.average.is_some() {
                let average = average_name(name);
                machine.set_state(&average, value)?;
                states.push(average.clone());
                model_states[at].1 = average;
            }
        }
        for (name, initial) in plan.precision.states() {
            machine.set_state(name, &Tensor::f32([], vec![initial]))?;
            states.push(name.to_owned());
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

    fn read<'b>(&self, names: impl Iterator<Item = &'b String>) -> Result<Vec<Tensor>, TrainingError> {
        names
            .map(|name| self.machine.state(name).map_err(TrainingError::from))
            .collect()
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
        let skipped = self.states.iter().find(|name| *name == SKIPPED);
        let skipped = skipped.map(|name| self.machine.state(name)).transpose()?;
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
            inherited_from: self.progress.inherited_from,
            skipped_steps: skipped.and_then(|count| Some(count.as_f32()?[0] as usize)),
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
