//! Histories of earlier tasks, from which a search may learn: steering inputs, `results.json`, or task directories with one.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{DocumentError, Problem, pointer};
use crate::json::{self, Dialect};
use crate::limits;
use crate::point::{EvaluationInput, Loss, Outcome, SegmentId};
use crate::steering::{HistoryEntry, PointMeta, SteeringInput};

const WHAT: &str = "history of an earlier task";
/// The file of a task directory that holds its points.
pub const RESULTS: &str = "results.json";

/// Reads the history of an earlier task from a task directory, its `results.json`, or a steering input.
///
/// # Errors
/// [`DocumentError`].
pub fn read(path: &Path, failed_loss: Option<f64>) -> Result<SteeringInput, DocumentError> {
    let file = if path.is_dir() {
        path.join(RESULTS)
    } else {
        path.to_owned()
    };
    let value = json::read(WHAT, &file, limits::HISTORY_BYTES, Dialect::NonFinite)?;
    from_value(value, failed_loss).map_err(|problems| DocumentError::invalid(WHAT, &file, problems))
}

/// Checks the history of an earlier task.
///
/// # Errors
/// All faults, at most 20, with pointers.
pub fn from_value(value: Value, failed_loss: Option<f64>) -> Result<SteeringInput, Vec<Problem>> {
    let results = match value.get("points") {
        Some(Value::Array(points)) if points.first().is_some_and(Value::is_object) => points,
        _ => return SteeringInput::from_value(value, failed_loss),
    };
    let (mut points, mut problems) = (Vec::new(), Vec::new());
    for (index, result) in results.iter().enumerate() {
        match result_entry(result, failed_loss) {
            Ok(entry) => points.push(entry),
            Err(problem) => problems.push(problem.below(&pointer("/points", index))),
        }
        if problems.len() == 20 {
            break;
        }
    }
    if problems.is_empty() {
        Ok(SteeringInput { points, space: None })
    } else {
        Err(problems)
    }
}

/// One point of `results.json`.
fn result_entry(result: &Value, failed_loss: Option<f64>) -> Result<HistoryEntry, Problem> {
    let expected = |key: &str, what: &str, found: Option<&Value>| {
        let found = found.map_or("nothing", json::type_name);
        Problem::new(pointer("", key), format!("expected {what}, found {found}"))
    };
    let Some(Value::Object(point)) = result.get("point") else {
        return Err(expected("point", "an object", result.get("point")));
    };
    let segment = match result.get("model_id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(SegmentId(
            (id.as_u64().and_then(|id| u32::try_from(id).ok()))
                .ok_or_else(|| expected("model_id", "a segment's number", Some(id)))?,
        )),
    };
    let status = result.get("status").and_then(Value::as_str);
    let loss = match result.get("loss") {
        None | Some(Value::Null) => None,
        Some(loss) => Some(
            loss.as_f64()
                .ok_or_else(|| expected("loss", "a number or null", Some(loss)))?,
        ),
    };
    let failed = |loss: f64| failed_loss.is_some_and(|failed| failed.total_cmp(&loss).is_eq());
    let outcome = match (status, loss) {
        (Some("failed"), _) => Outcome::Failed,
        (_, Some(loss)) if failed(loss) => Outcome::Failed,
        (_, Some(loss)) => Loss::new(loss).map_or(Outcome::Failed, |loss| Outcome::Done { loss }),
        (_, None) => Outcome::Pending,
    };
    let meta = PointMeta {
        status: status.map(str::to_owned),
        losses: result.get("losses").and_then(Value::as_object).map(numbers),
        ..PointMeta::default()
    };
    Ok(HistoryEntry {
        input: EvaluationInput::new(segment, point.clone().into()),
        outcome,
        meta: Some(Box::new(meta)),
    })
}

fn numbers(map: &Map<String, Value>) -> BTreeMap<String, f64> {
    map.iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_and_steering_inputs_tell_the_same() {
        let results = json!({"task": "t", "points": [
            {"id": 1, "point": {"x": 1}, "status": "done", "loss": 0.5, "losses": {"time": 3.0}},
            {"id": 2, "point": {"x": 2}, "status": "failed", "loss": 100_000.0},
            {"id": 3, "point": {"x": 3}, "status": "running", "loss": null}
        ]});
        let input = json!({"points": [[{"x": 1}, 0.5], [{"x": 2}, 100_000.0], [{"x": 3}, null]], "opt_space": null});
        let (results, input) = (
            from_value(results, Some(1e5)).unwrap(),
            from_value(input, Some(1e5)).unwrap(),
        );
        for (result, entry) in results.points.iter().zip(&input.points) {
            assert_eq!((&result.input, result.outcome), (&entry.input, entry.outcome));
        }
        let losses = results.points[0].meta.as_ref().unwrap().losses.clone().unwrap();
        assert_eq!(losses, BTreeMap::from([("time".to_owned(), 3.0)]));
        let segmented = json!({"points": [{"point": {}, "model_id": 4, "loss": 1}]});
        let segmented = from_value(segmented, None).unwrap();
        assert_eq!(segmented.points[0].input.segment(), Some(SegmentId(4)));
    }

    #[test]
    fn faults_have_places() {
        let faults = from_value(
            json!({"points": [{"point": 3}, {"point": {}, "loss": "x"}, {"point": {}, "model_id": -1}]}),
            None,
        );
        let faults: Vec<String> = faults.unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "at `/points/0/point`: expected an object, found a number",
                "at `/points/1/loss`: expected a number or null, found a string",
                "at `/points/2/model_id`: expected a segment's number, found a number",
            ]
        );
    }
}
