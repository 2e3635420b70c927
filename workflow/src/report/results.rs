//! The state of a task as JSON: `results.json`, `hpo show --json`.

use std::io::{self, Write};

use protocol::{SegmentId, limits};
use serde_json::{Map, Value, json};

use super::front::{fronts, fronts_json, objectives};
use crate::state::{Further, PointOutcome, PointState, State, TaskEnd};
use crate::task::Task;

/// Writes `results.json`: points that failed carry the very large loss, as they do for steering.
///
/// Point by point, so that a long search takes no memory for it.
///
/// # Errors
/// Those of `to`.
pub(crate) fn write_results(task: &Task, state: &State, to: &mut dyn Write) -> io::Result<()> {
    let status = if state.end.is_some() { "" } else { "unfinished" };
    let failed = Some(limits::FAILED_LOSS);
    let head = summary(task, state, status, failed).to_string();
    let open = head.strip_suffix('}').unwrap_or(&head);
    write!(to, "{open},\"points\":[")?;
    for (index, point) in state.points.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(to, "{comma}{}", point_json(task, point, failed))?;
    }
    to.write_all(b"]}\n")
}

/// `hpo show --json`: points that failed have no loss. `status` is that of a task without an end.
pub(crate) fn show(task: &Task, state: &State, status: &str) -> Value {
    document(task, state, status, None)
}

fn document(task: &Task, state: &State, status: &str, failed: Option<f64>) -> Value {
    let mut document = summary(task, state, status, failed);
    document["points"] = state
        .points
        .iter()
        .map(|point| point_json(task, point, failed))
        .collect();
    document
}

/// Everything but the points.
fn summary(task: &Task, state: &State, status: &str, failed: Option<f64>) -> Value {
    let (status, reason) = match &state.end {
        None => (status, None),
        Some(TaskEnd::Finished { reason }) => ("finished", Some(reason.as_str())),
        Some(TaskEnd::Failed { reason }) => ("failed", Some(reason.as_str())),
        Some(TaskEnd::Killed) => ("killed", None),
    };
    let count = |word: &str| state.points.iter().filter(|point| point.word() == word).count();
    let ranking = state.ranking();
    let mut document = json!({
        "task": task.name,
        "id": task.id,
        "status": status,
        "reason": reason,
        "iterations": state.iterations,
        "evaluation_jobs": state.jobs.len(),
        "counts": {
            "points": state.points.len(),
            "done": count("done"),
            "failed": count("failed"),
            "running": count("running"),
            "pending": count("pending"),
        },
        "best": ranking.first().map(|point| point_json(task, point, failed)),
    });
    if !task.segments.is_empty() {
        let best: Map<String, Value> = task
            .segments
            .iter()
            .enumerate()
            .map(|(index, segment)| {
                let id = Some(SegmentId(index as u32));
                let best = ranking.iter().find(|point| point.segment == id);
                (
                    segment.name.clone(),
                    best.map_or(Value::Null, |point| point_json(task, point, failed)),
                )
            })
            .collect();
        document["best_of_segments"] = Value::Object(best);
    }
    if let Some(objectives) = objectives(task) {
        document["front"] = fronts_json(&fronts(task, state, &objectives));
    }
    document
}

/// One point: `id`, `segment` if there are any, `point`, `status`, `loss`, `attempts` and how each of them ended.
pub(crate) fn point_json(task: &Task, point: &PointState, failed: Option<f64>) -> Value {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(point.id));
    if let Some(name) = task.segment_name(point.segment) {
        object.insert("segment".to_owned(), json!(name));
        object.insert("model_id".to_owned(), json!(point.segment));
    }
    object.insert("point".to_owned(), json!(point.point));
    object.insert("status".to_owned(), json!(point.word()));
    let loss = match &point.outcome {
        PointOutcome::Done { loss, .. } => json!(loss),
        PointOutcome::Failed { .. } => json!(failed),
        PointOutcome::Open => Value::Null,
    };
    object.insert("loss".to_owned(), loss);
    if let Some(epoch) = point.ended_early() {
        object.insert("ended_early_after".to_owned(), json!(epoch));
    }
    if let PointOutcome::Done {
        attempt,
        further: Some(further),
        ..
    } = &point.outcome
    {
        let Further {
            losses,
            message,
            metrics,
            metadata,
        } = &**further;
        if !losses.is_empty() {
            let losses: Map<String, Value> = losses
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            object.insert("losses".to_owned(), Value::Object(losses));
        }
        if let Some(message) = message {
            object.insert("message".to_owned(), json!(message));
        }
        if let Some(metrics) = metrics {
            object.insert("metrics".to_owned(), json!(format!("metrics/{metrics}")));
        }
        if *metadata {
            object.insert(
                "metadata".to_owned(),
                json!(format!("points/{}/attempt-{attempt}/metadata.json", point.id)),
            );
        }
    }
    object.insert("iteration".to_owned(), json!(point.iteration));
    object.insert("attempts".to_owned(), json!(point.attempts.len()));
    let history = point.attempts.iter().enumerate().map(|(index, attempt)| {
        json!({
            "attempt": index + 1,
            "status": attempt.status.word(),
            "reason": attempt.status.reason(),
            "seconds": attempt.seconds,
            "ended": if attempt.time > 0.0 { json!(attempt.time) } else { Value::Null },
            "evaluation_job": attempt.job,
        })
    });
    object.insert("attempt_history".to_owned(), history.collect());
    Value::Object(object)
}
