//! `%IN` and `%OUT`: what steering reads and writes.
//!
//! `%IN` is `{"points": [[point, loss|null], …], "opt_space": space|null}` with all points so far; our manager adds `"meta"`, a
//! list parallel to `points`. `%OUT` is the list of new points. In a segmented task each point is the pair `[model_id, point]`
//! and `opt_space` a list.

mod typed;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{DocumentError, Problem, pointer};
use crate::json::{self, Dialect};
use crate::limits;
use crate::point::{EvaluationInput, Loss, Outcome};

const INPUT: &str = "steering input";
const OUTPUT: &str = "steering output";

/// [`PointMeta::status`] of an evaluation that was ended before it had trained as long as it was granted.
pub const STOPPED: &str = "stopped";

/// What our manager knows about a point beyond its loss; every field may be absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PointMeta {
    /// `done`, [`STOPPED`], `failed` or `pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Whether the point itself is to blame for a failure, or the infrastructure, of which nothing is to be learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// Attempts made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Wall-clock seconds of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Epochs trained, as last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs_done: Option<u64>,
    /// Epochs with their losses as reported while it was evaluated, rising; `null` for what was no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve: Option<Vec<(u64, Option<f64>)>>,
    /// Further losses by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub losses: Option<std::collections::BTreeMap<String, f64>>,
}

/// Who is to blame for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The payload: crash, time-out, non-finite loss.
    Payload,
    /// Lost node, preemption, full disk.
    Infrastructure,
}

/// One point of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Point and segment.
    pub input: EvaluationInput,
    /// What became of it.
    pub outcome: Outcome,
    /// What our manager adds; apart, since most of a history of other managers has none of it.
    pub meta: Option<Box<PointMeta>>,
}

/// The history and the search space, as steering reads them.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeringInput {
    /// All points so far.
    pub points: Vec<HistoryEntry>,
    /// The search-space document, if the input carries one.
    pub space: Option<Value>,
}

impl SteeringInput {
    /// Checks an input. A loss equal to `failed_loss` means a failure; so do non-finite and huge ones.
    ///
    /// # Errors
    /// All faults, at most 20, with pointers.
    pub fn from_value(value: Value, failed_loss: Option<f64>) -> Result<Self, Vec<Problem>> {
        let Value::Object(mut map) = value else {
            return Err(vec![Problem::new(
                "",
                format!(
                    "expected {{\"points\": […], \"opt_space\": …}}, found {}",
                    json::type_name(&value)
                ),
            )]);
        };
        let space = map.remove("opt_space").filter(|space| !space.is_null());
        let entries = match map.remove("points") {
            Some(Value::Array(entries)) => entries,
            other => {
                let found = other.as_ref().map_or("nothing", json::type_name);
                return Err(vec![Problem::new(
                    "/points",
                    format!("expected a list of [point, loss], found {found}"),
                )]);
            }
        };
        let meta = match map.remove("meta") {
            Some(Value::Array(meta)) if meta.len() == entries.len() => meta,
            None | Some(Value::Null) => Vec::new(),
            Some(other) => {
                let message = format!(
                    "expected a list parallel to `points`, of {} entries, found {}",
                    entries.len(),
                    json::type_name(&other)
                );
                return Err(vec![Problem::new("/meta", message)]);
            }
        };
        let mut meta = meta.into_iter();
        let mut problems = Vec::new();
        let mut points = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let meta = meta.next().and_then(|value| serde_json::from_value(value).ok());
            match self::entry(entry, failed_loss) {
                Ok((input, outcome)) => points.push(HistoryEntry { input, outcome, meta }),
                Err(problem) => problems.push(problem.below(&pointer("/points", index))),
            }
            if problems.len() == 20 {
                break;
            }
        }
        let segmented = points.iter().filter(|entry| entry.input.segment().is_some()).count();
        if segmented != 0 && segmented != points.len() && problems.is_empty() {
            problems.push(Problem::new("/points", "points with and without a model_id are mixed"));
        }
        if problems.is_empty() {
            Ok(Self { points, space })
        } else {
            Err(problems)
        }
    }

    /// Reads a steering input.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(path: &Path, failed_loss: Option<f64>) -> Result<Self, DocumentError> {
        let bytes = json::read_bytes(INPUT, path, limits::HISTORY_BYTES)?;
        if let Some(input) = Self::read_quickly(&bytes, failed_loss) {
            return Ok(input);
        }
        let value = json::parse(&bytes, Dialect::NonFinite).map_err(|message| DocumentError::Syntax {
            what: INPUT,
            path: path.to_owned(),
            message,
        })?;
        Self::from_value(value, failed_loss).map_err(|problems| DocumentError::invalid(INPUT, path, problems))
    }

    /// Reads a steering input without a tree of JSON values in between, which is quicker; nothing where anything is not in
    /// order, which [`SteeringInput::from_value`] can explain. What is read is the same.
    #[must_use]
    pub fn read_quickly(bytes: &[u8], failed_loss: Option<f64>) -> Option<Self> {
        typed::read(json::text(bytes).ok()?, failed_loss)
    }

    /// The input as JSON text. Failed points carry `failed_loss`; `meta` is written if any entry has it.
    #[must_use]
    pub fn to_json(&self, failed_loss: f64) -> String {
        let points: Vec<Value> = self
            .points
            .iter()
            .map(|entry| {
                let loss = match entry.outcome {
                    Outcome::Pending => Value::Null,
                    Outcome::Done { loss } => loss.get().into(),
                    Outcome::Failed => failed_loss.into(),
                };
                json!([entry.input, loss])
            })
            .collect();
        let mut document = json!({"points": points, "opt_space": self.space});
        if self.points.iter().any(|entry| entry.meta.is_some()) {
            document["meta"] = self
                .points
                .iter()
                .map(|entry| json!(entry.meta.clone().unwrap_or_default()))
                .collect();
        }
        document.to_string()
    }
}

fn entry(entry: Value, failed_loss: Option<f64>) -> Result<(EvaluationInput, Outcome), Problem> {
    let found = json::type_name(&entry);
    let pair = match entry {
        Value::Array(pair) => <[Value; 2]>::try_from(pair).ok(),
        _ => None,
    };
    let [point, loss] =
        pair.ok_or_else(|| Problem::new("", format!("expected the pair [point, loss], found {found}")))?;
    let input = EvaluationInput::from_value(point).map_err(|problem| problem.below("/0"))?;
    Ok((
        input,
        outcome(&loss, failed_loss).map_err(|problem| problem.below("/1"))?,
    ))
}

fn outcome(loss: &Value, failed_loss: Option<f64>) -> Result<Outcome, Problem> {
    let number = match loss {
        Value::Null => return Ok(Outcome::Pending),
        Value::Number(number) => number.as_f64(),
        Value::String(_) if json::non_finite(loss).is_some() => return Ok(Outcome::Failed),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| {
        Problem::new(
            "",
            format!("expected a number or null as loss, found {}", json::type_name(loss)),
        )
    })?;
    Ok(evaluated(number, failed_loss))
}

/// The outcome that a number stands for.
fn evaluated(number: f64, failed_loss: Option<f64>) -> Outcome {
    if failed_loss.is_some_and(|failed| failed.total_cmp(&number).is_eq()) {
        return Outcome::Failed;
    }
    Loss::new(number).map_or(Outcome::Failed, |loss| Outcome::Done { loss })
}

/// Checks a list of new points.
///
/// # Errors
/// All faults, with pointers.
pub fn new_points(value: Value) -> Result<Vec<EvaluationInput>, Vec<Problem>> {
    let Value::Array(items) = value else {
        return Err(vec![Problem::new(
            "",
            format!("expected a list of points, found {}", json::type_name(&value)),
        )]);
    };
    let mut problems = Vec::new();
    let mut points = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let place = pointer("", index);
        match EvaluationInput::from_value(item) {
            Ok(input) => {
                let prefix = if input.segment().is_some() {
                    pointer(&place, 1)
                } else {
                    place
                };
                problems.extend(
                    input
                        .point()
                        .problems()
                        .into_iter()
                        .map(|problem| problem.below(&prefix)),
                );
                points.push(input);
            }
            Err(problem) => problems.push(problem.below(&place)),
        }
    }
    if problems.is_empty() { Ok(points) } else { Err(problems) }
}

/// Reads a steering output.
///
/// # Errors
/// [`DocumentError`]; non-finite numbers are among the faults.
pub fn read_output(path: &Path) -> Result<Vec<EvaluationInput>, DocumentError> {
    let bytes = json::read_regular(OUTPUT, path, limits::HISTORY_BYTES)?;
    if let Some(points) = std::str::from_utf8(&bytes).ok().and_then(typed::read_points) {
        return Ok(points);
    }
    let value = json::parse(&bytes, Dialect::NonFinite).map_err(|message| DocumentError::Syntax {
        what: OUTPUT,
        path: path.to_owned(),
        message,
    })?;
    new_points(value).map_err(|problems| DocumentError::invalid(OUTPUT, path, problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SteeringInput, Vec<Problem>> {
        SteeringInput::from_value(
            json::parse(text.as_bytes(), Dialect::NonFinite).unwrap(),
            Some(limits::FAILED_LOSS),
        )
    }

    #[test]
    fn losses_are_told_from_pending_and_failed_points() {
        let input = read(
            r#"{"points": [[{"x":1},0.0],[{"x":2},null],[{"x":3},NaN],[{"x":4},100000.0],[{"x":5},-Infinity],[{"x":6},1e31],[{"x":7},"2.5"]],
                "opt_space": null}"#,
        )
        .unwrap();
        let losses: Vec<_> = input.points.iter().map(|entry| entry.outcome.loss()).collect();
        assert_eq!(losses, [Some(0.0), None, None, None, None, None, Some(2.5)]);
        let pending: Vec<_> = input
            .points
            .iter()
            .map(|entry| entry.outcome == Outcome::Pending)
            .collect();
        assert_eq!(pending, [false, true, false, false, false, false, false]);
    }

    /// What the way without a tree makes of a text.
    fn typed(text: &str) -> Option<SteeringInput> {
        typed::read(text, Some(limits::FAILED_LOSS))
    }

    #[test]
    fn both_ways_of_reading_make_the_same_of_what_is_in_order() {
        for text in [
            r#"{"points": [], "opt_space": null}"#,
            r#"{"opt_space": {"x": {"method": "uniform"}}, "points": [[{"x": 1}, 0.5], [{"x": 1.0, "y": "a"}, null], [{}, 100000.0], [{"x": [1, {"a": null}]}, 1e31]]}"#,
            r#"{"points": [[[0, {"x": true, "z": null}], -1], [[3, {"x": "\u00e4"}], 2]], "opt_space": [{"model_id": 0, "search_space": {}}]}"#,
            r#"{"points": [[{"x": 1}, 0.5]], "meta": [{"status": "done", "seconds": 2, "curve": [[1, null], [2, 0.5]], "losses": {"a": 1}, "other": 3}]}"#,
            r#"{"points": [[{"x": 1}, 0.5]], "meta": null}"#,
        ] {
            assert_eq!(typed(text), read(text).ok(), "{text}");
            assert!(typed(text).is_some());
        }
    }

    #[test]
    fn what_has_to_be_explained_or_is_rare_takes_the_way_through_a_tree() {
        for text in [
            r#"{"points": [[{"x": 1}, 0.5]], "meta": [{"losses": {"a": 1, "a": 2}}]}"#,
            "{}",
            "[]",
            r#"{"points": [[{"x": 1, "x": 2}, 0.5]]}"#,
            r#"{"points": [[{"x": 1}, 0.5]], "points": []}"#,
            r#"{"points": [[{"x": 1}]]}"#,
            r#"{"points": [[{"x": 1}, 1, 2]]}"#,
            r#"{"points": [[{"x": 1}, "2.5"]]}"#,
            r#"{"points": [[[1, {"x": 1}, 3], 1]]}"#,
            r#"{"points": [[[-1, {"x": 1}], 1]]}"#,
            r#"{"points": [[{"x": 1}, NaN]]}"#,
            r#"{"points": [[{"x": 1}, 1], [[0, {"x": 1}], 2]]}"#,
            r#"{"points": [[{"x": 1}, 1]], "meta": []}"#,
            r#"{"points": [[{"x": 1}, 1]], "meta": [3]}"#,
            r#"{"points": [[{"x": 1}, 1]]} x"#,
        ] {
            assert_eq!(typed(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back_and_has_only_the_two_known_keys_without_meta() {
        let text = r#"{"points":[[[0,{"x":1}],0.5],[[1,{"x":2}],null],[[1,{"x":3}],100000.0]],"opt_space":[{"model_id":0,"search_space":{}}]}"#;
        assert_eq!(read(text).unwrap().to_json(limits::FAILED_LOSS), text);
    }

    #[test]
    fn faults_of_an_input_have_places() {
        let faults = |text| {
            read(text)
                .unwrap_err()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            faults("[]"),
            ["expected {\"points\": […], \"opt_space\": …}, found a list"]
        );
        assert_eq!(
            faults("{}"),
            ["at `/points`: expected a list of [point, loss], found nothing"]
        );
        assert_eq!(
            faults(r#"{"points": [[{}], [{}, true], [3, 1]]}"#),
            [
                "at `/points/0`: expected the pair [point, loss], found a list",
                "at `/points/1/1`: expected a number or null as loss, found a boolean",
                "at `/points/2/0`: expected an object or the pair [model_id, object], found a number",
            ]
        );
        assert_eq!(
            faults(r#"{"points": [[{}, 1], [[0, {}], 1]]}"#),
            ["at `/points`: points with and without a model_id are mixed"]
        );
    }

    #[test]
    fn both_ways_of_reading_new_points_agree() {
        let points = |text: &str| json::parse(text.as_bytes(), Dialect::NonFinite).ok().map(new_points);
        for text in [
            "[]",
            r#"[{"x": 1, "y": "a"}, {"y": [1, null], "x": 1.0}]"#,
            r#"[[0, {"x": 1}], [3, {}]]"#,
            r#"[{"x": 1}, [0, {"x": 1}]]"#,
        ] {
            assert_eq!(typed::read_points(text), points(text).and_then(Result::ok), "{text}");
            assert!(typed::read_points(text).is_some(), "{text}");
        }
        let long = format!(r#"[{{"x": "{}"}}]"#, "x".repeat(4000));
        for text in [
            "",
            "{}",
            "[3]",
            "[{\"x\": NaN}]",
            "[[-1, {}]]",
            "[{\"x\": 1, \"x\": 2}]",
            "[{}] 1",
            &long,
        ] {
            assert_eq!(typed::read_points(text), None, "{text}");
        }
    }

    #[test]
    fn new_points_must_be_finite_objects() {
        let faults = |text: &str| {
            new_points(json::parse(text.as_bytes(), Dialect::NonFinite).unwrap())
                .unwrap_err()
                .len()
        };
        assert_eq!(new_points(serde_json::json!([])).unwrap(), []);
        assert_eq!(faults(r#"{"x": 1}"#), 1);
        assert_eq!(faults(r#"[{"x": NaN}, 3, [0, {"y": Infinity}]]"#), 3);
    }
}
