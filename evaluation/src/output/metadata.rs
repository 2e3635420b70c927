//! The metadata document: everything one needs to know later about how a loss came about, and no secrets.

use std::io;
use std::path::Path;

use protocol::{json, limits};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Identity;
use crate::dataset::{Scaling, Summary};
use crate::training::TrainingPlan;

/// What is known after an evaluation.
#[derive(Debug, Serialize)]
pub struct Metadata<'a> {
    /// Name and version of this program.
    pub program: String,
    /// Name and version of the engine.
    pub engine: String,
    /// The engine's library and how it was found.
    pub library: String,
    /// The device that trained.
    pub device: String,
    /// Operating system, processor family and number of processors.
    pub machine: Map<String, Value>,
    /// Task, segment, point and attempt.
    pub identity: &'a Identity,
    /// Hyperparameters, reserved keys left out.
    pub hyperparameters: &'a Map<String, Value>,
    /// The whole plan, with every default written out.
    pub plan: &'a TrainingPlan,
    /// Facts about the data.
    pub data: &'a Summary,
    /// How inputs were scaled.
    pub scaling: &'a Scaling,
    /// Trainable numbers in the model.
    pub parameters: usize,
    /// The number that is minimised.
    pub loss: Option<f64>,
    /// Why training ended.
    pub ended: String,
    /// Epochs done.
    pub epochs_done: usize,
    /// Epochs done by an earlier attempt whose checkpoint was taken up.
    pub resumed_from: Option<usize>,
    /// Epochs on less data whose weights the training began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inherited_from: Option<usize>,
    /// Steps whose gradients `float16` could not hold and that changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<usize>,
    /// The report of the epoch whose weights are the result.
    pub best_epoch: Option<Value>,
    /// Seconds by phase.
    pub seconds: Map<String, Value>,
    /// Things that were said on stderr.
    pub warnings: &'a [String],
}

/// Writes the document; over the limit of the PanDA job wrapper, long lists give way.
///
/// # Errors
/// When the file cannot be written.
pub fn write_metadata(path: &Path, metadata: &Metadata<'_>) -> io::Result<()> {
    let mut value = serde_json::to_value(metadata)?;
    json::write_atomically(path, within(&mut value, limits::METADATA_BYTES as usize).as_bytes())
}

/// The text of at most `limit` bytes, without the lists that are longest in practice when it would be longer.
fn within(value: &mut Value, limit: usize) -> String {
    const DISPENSABLE: [&str; 5] = [
        "/scaling/shift",
        "/scaling/divisor",
        "/data/class_names",
        "/data/files",
        "/warnings",
    ];
    for pointer in DISPENSABLE {
        let text = format!("{value:#}\n");
        if text.len() <= limit {
            return text;
        }
        if let Some(list) = value.pointer_mut(pointer) {
            let count = list.as_array().map_or(0, Vec::len);
            *list = Value::from(format!("{count} entries, left out for their length"));
        }
    }
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_lists_give_way_to_the_limit() {
        let mut value = json!({"scaling": {"shift": vec![0.5; 100], "divisor": [1.0]}, "loss": 1.0});
        let text = within(&mut value, 400);
        assert!(text.len() <= 400 && text.contains("100 entries, left out"), "{text}");
        assert!(text.contains("\"loss\": 1.0"));
    }
}
