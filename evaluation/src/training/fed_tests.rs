//! Inputs that are fed batch by batch train to the same bits as inputs in memory.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::engine::testing;
use crate::model::ModelFile;

/// Rows in memory that pretend not to be; every pass is shifted by as much as `drift`.
#[derive(Debug)]
struct Store {
    values: Vec<f32>,
    drift: f32,
}

impl RowSource for Store {
    fn rows(&self) -> usize {
        self.values.len() / 2
    }

    fn fill(&self, rows: &[i64], pass: u64, out: &mut [f32]) -> Result<(), String> {
        for (row, out) in rows.iter().zip(out.chunks_mut(2)) {
            let at = 2 * *row as usize;
            out[0] = self.values[at] + self.drift * pass as f32;
            out[1] = self.values[at + 1];
        }
        Ok(())
    }

    fn digest(&self) -> [u8; 32] {
        [self.drift.to_bits() as u8; 32]
    }
}

/// Pauses before a step, counted over all epochs.
struct PauseAt(usize);

impl Observer for PauseAt {
    fn epoch(&mut self, _: &EpochReport) -> Decision {
        Decision::Continue
    }

    fn poll(&mut self) -> Decision {
        if self.0 == 0 {
            return Decision::CheckpointAndStop;
        }
        self.0 -= 1;
        Decision::Continue
    }

    fn warning(&mut self, message: &str) {
        panic!("{message}");
    }
}

fn values() -> Vec<f32> {
    (0..180)
        .map(|at| ((f64::from(at) * 0.618_033_988_75).fract() * 2.0 - 1.0) as f32)
        .collect()
}

fn samples(inputs: Inputs) -> Samples {
    let values = values().chunks(2).map(|row| row[0] * row[1]).collect();
    Samples {
        row_shape: vec![2],
        inputs,
        targets: Targets::Values { width: 1, values },
        weights: None,
    }
}

fn fed(drift: f32) -> Samples {
    samples(Inputs::Fed(Arc::new(Store {
        values: values(),
        drift,
    })))
}

fn run(set: &Samples, policy: Option<&CheckpointPolicy>, observer: &mut dyn Observer) -> TrainingResult {
    let document = json!({
        "model": {"blocks": [
            {"dense": {"units": 6, "activation": "tanh"}}, {"batch_norm": {}}, {"dropout": {"rate": 0.1}},
        ]},
        "loss": "mse",
        "training": {"epochs": 4, "batch_size": 16, "seed": 5},
    });
    let plan = ModelFile::from_value(document, Path::new("."))
        .resolve(&serde_json::Map::new())
        .unwrap()
        .plan;
    train(testing::engine(), &plan, set, set, policy, observer).unwrap()
}

fn bits(result: &TrainingResult) -> Vec<u32> {
    let numbers = result.model.weights().flat_map(|(_, _, values)| values);
    let losses = result.epochs.iter().map(|report| report.train_loss as f32);
    numbers.copied().chain(losses).map(f32::to_bits).collect()
}

#[test]
fn fed_rows_train_to_the_same_bits_as_resident_rows() {
    let resident = run(&samples(values().into()), None, &mut PauseAt(usize::MAX));
    let fed = run(&fed(0.0), None, &mut PauseAt(usize::MAX));
    assert_eq!(bits(&resident), bits(&fed));
    assert_eq!(resident.loss, fed.loss);
}

#[test]
fn a_pause_in_the_middle_of_a_pass_changes_nothing_when_passes_differ() {
    let whole = run(&fed(0.25), None, &mut PauseAt(usize::MAX));
    assert_ne!(bits(&whole), bits(&run(&fed(0.0), None, &mut PauseAt(usize::MAX))));
    let folder = tempfile::tempdir().unwrap();
    let policy = CheckpointPolicy {
        directory: folder.path().to_owned(),
        every_epochs: 0,
        inherits: false,
    };
    let paused = run(&fed(0.25), Some(&policy), &mut PauseAt(9));
    assert_eq!(paused.ended, Ended::Checkpointed);
    let rest = run(&fed(0.25), Some(&policy), &mut PauseAt(usize::MAX));
    assert_eq!(bits(&whole), bits(&rest));
}
