//! Checkpoints of a training under way.

use std::collections::HashMap;

use super::Run;
use crate::graph::Tensor;
use crate::training::checkpoint::{Checkpoint, Store};
use crate::training::step::average_name;
use crate::training::{Observer, TrainingError};

impl Run<'_> {
    pub(super) fn save(&self, store: Option<&Store>, observer: &mut dyn Observer) -> Result<(), TrainingError> {
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

    /// Continues from a checkpoint; fails with a reason in words when it is of another model.
    pub(super) fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
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

    /// Begins with the weights and running statistics of another training, those that its loss was measured with; with its own
    /// where any of them would not fit.
    pub(super) fn inherit(
        &mut self,
        checkpoint: &Checkpoint,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainingError> {
        let chosen: HashMap<&str, &Tensor> = checkpoint.best.iter().map(|(name, value)| (&**name, value)).collect();
        let last: HashMap<&str, &Tensor> = checkpoint.states.iter().map(|(name, value)| (&**name, value)).collect();
        let found = |name: &str| {
            let value = chosen.get(name).or_else(|| last.get(&*average_name(name)));
            let shape = &self.recipe.imported.graph.constants[name].shape;
            value
                .or_else(|| last.get(name))
                .filter(|value| value.shape == *shape)
                .copied()
        };
        let Some(values) = self
            .model_states
            .iter()
            .map(|(name, _)| found(name))
            .collect::<Option<Vec<_>>>()
        else {
            observer.warning("the checkpoint holds other weights than the model has; training begins with new ones");
            return Ok(());
        };
        for ((name, state), value) in self.model_states.iter().zip(values) {
            self.machine.set_state(name, value)?;
            if state != name {
                self.machine.set_state(state, value)?;
            }
        }
        let epochs = checkpoint.progress.reports.len();
        self.progress.inherited_from = Some(epochs);
        observer.inherited(epochs);
        Ok(())
    }
}
