//! Checkpoints of a training under way.

use super::Run;
use crate::training::checkpoint::{Checkpoint, Store};
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
}
