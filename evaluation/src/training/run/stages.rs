//! Trainings in stages, each by a plan of its own, and what one leaves to the next.

use std::collections::HashMap;

use super::Run;
use crate::engine::{Engine, EngineError};
use crate::graph::Tensor;
use crate::training::checkpoint::{Found, Progress, Store, fingerprint, following};
use crate::training::prepare::{check_area, check_samples, import, recipe};
use crate::training::step::Fed;
use crate::training::{CheckpointPolicy, Ended, Observer, Samples, TrainingError, TrainingPlan, TrainingResult};

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
                let own = fingerprint(&recipe, train, validation);
                let until = (stage + 1 < plans.len()).then_some(plan.epochs);
                stages.push(match stages.last() {
                    Some((before, Some(end))) => (following(before, *end, &own), until),
                    _ => (own, until),
                });
            }
            Some(Store::open(&policy.directory, stages)?)
        }
    };
    let inherits = checkpoints.is_some_and(|policy| policy.inherits);
    let found = store.as_ref().and_then(|store| store.latest(inherits, observer));
    let (mut own, mut other) = match found {
        Some(Found::Own(stage, checkpoint)) => (Some((stage, checkpoint)), None),
        Some(Found::Other(checkpoint)) => (None, Some(checkpoint)),
        None => (None, None),
    };
    if inherits && own.is_none() && other.is_none() {
        observer.warning("there is no checkpoint whose weights could be taken; training begins with new ones");
    }
    let mut begin = own.as_ref().map_or(0, |(stage, _)| *stage);
    let (mut resumed_from, mut carried) = (None, None);
    loop {
        let plan = plans[begin];
        let (imported, outputs) = import(plan, &train.row_shape, &train.targets)?;
        let recipe = recipe(engine, plan, &imported, data, outputs, fed)?;
        let mut run = Run::start(recipe, train, validation)?;
        run.stage = begin;
        run.every_epochs = checkpoints.map_or(0, |policy| policy.every_epochs);
        if let Some((stage, checkpoint)) = own.take() {
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
        } else if let Some(checkpoint) = other.take() {
            run.inherit(&checkpoint, observer)?;
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

impl Run<'_> {
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
}
