//! The end of an epoch: its validation, and what follows from it.

use std::time::Instant;

use super::Run;
use crate::engine::Feed;
use crate::training::feeding::Feeder;
use crate::training::metrics::Accumulator;
use crate::training::{EpochReport, Keep, Metric, Metrics, TrainingError};

/// Rows of one evaluation batch; the last one is smaller.
const EVALUATION_ROWS: usize = 1024;

impl Run<'_> {
    /// Validates, and takes note of the result.
    pub(super) fn end_epoch(&mut self, start: Instant) -> Result<EpochReport, TrainingError> {
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
}
