//! Where a point comes from: the trainings on the way to it, each going on from the one before.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::escape::escape;
use super::table::{number, table};
use crate::coordinator::source;
use crate::state::{PointState, State};

/// One training on the way, or several with the same hyperparameters.
#[derive(Debug)]
struct Stage<'a> {
    /// Epochs, or shares of the data, after which it began and ended.
    from: Value,
    until: Value,
    last: &'a PointState,
}

/// The trainings on the way to a point, the first first.
#[derive(Debug)]
pub(crate) struct Lineage<'a> {
    stages: Vec<Stage<'a>>,
    /// Hyperparameters that change on the way.
    changing: Vec<&'a str>,
}

fn granted(point: &PointState) -> Value {
    let epochs = point.point.reserved("epochs").or_else(|| point.point.reserved("frac"));
    epochs.map_or(Value::Null, Value::from)
}

fn hyperparameters(point: &PointState) -> Map<String, Value> {
    let all = point.point.hyperparameters();
    all.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

impl<'a> Lineage<'a> {
    /// Of this point.
    pub(crate) fn of(state: &'a State, point: &'a PointState) -> Lineage<'a> {
        let mut points = vec![point];
        let mut seen = BTreeSet::from([point.id]);
        while let Some(before) = source(state, points[points.len() - 1]).filter(|before| seen.insert(before.id)) {
            points.push(before);
        }
        points.reverse();
        let changing = point.point.hyperparameters().map(|(name, _)| name);
        let changing = changing.filter(|name| {
            let mut values = points.iter().map(|point| point.point.get(name));
            let first = values.next();
            values.any(|value| Some(value) != first)
        });
        let changing = changing.collect();
        let mut stages: Vec<Stage<'_>> = Vec::new();
        for point in points {
            let begun = stages.last().map_or(json!(0), |stage| stage.until.clone());
            match stages.last_mut() {
                Some(stage) if hyperparameters(stage.last) == hyperparameters(point) => {
                    stage.last = point;
                    stage.until = granted(point);
                }
                _ => stages.push(Stage {
                    from: begun,
                    until: granted(point),
                    last: point,
                }),
            }
        }
        Lineage { stages, changing }
    }

    /// `point`, `loss`, `fixed` and, for each stage, `from`, `until`, `point`, `loss` and the values that change.
    pub(crate) fn json(&self) -> Value {
        let last = self.stages.last().map(|stage| stage.last);
        let stages = self.stages.iter().map(|stage| {
            let values: Map<String, Value> = (self.changing.iter())
                .filter_map(|name| Some(((*name).to_owned(), Value::from(stage.last.point.get(name)?))))
                .collect();
            json!({
                "from": stage.from, "until": stage.until, "point": stage.last.id, "loss": stage.last.loss(), "values": values,
            })
        });
        json!({
            "point": last.map(|point| point.id),
            "loss": last.and_then(PointState::loss),
            "fixed": self.fixed(),
            "stages": stages.collect::<Value>(),
        })
    }

    fn fixed(&self) -> Map<String, Value> {
        let mut all = self
            .stages
            .last()
            .map(|stage| hyperparameters(stage.last))
            .unwrap_or_default();
        all.retain(|name, _| !self.changing.contains(&name.as_str()));
        all
    }

    /// The same as a table with blanks between the columns.
    pub(crate) fn text(&self) -> String {
        let header: Vec<&str> = ["after", "until"]
            .into_iter()
            .chain(self.changing.iter().copied())
            .collect();
        let header: Vec<String> = header.into_iter().chain(["loss", "point"]).map(escape).collect();
        let rows = self.stages.iter().map(|stage| {
            let value = |name: &&str| {
                stage
                    .last
                    .point
                    .get(name)
                    .map_or_else(|| "-".to_owned(), |value| shown(&value.into()))
            };
            let mut row = vec![shown(&stage.from), shown(&stage.until)];
            row.extend(self.changing.iter().map(value));
            row.push(
                stage
                    .last
                    .loss()
                    .map_or_else(|| "-".to_owned(), |loss| number(loss.get())),
            );
            row.push(stage.last.id.to_string());
            row
        });
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut text = table(&header, &rows.collect::<Vec<_>>(), usize::MAX);
        let fixed = self.fixed();
        if !fixed.is_empty() {
            let _ = writeln!(text, "all along: {}", escape(&Value::Object(fixed).to_string()));
        }
        text
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(found) if found.is_f64() => number(found.as_f64().unwrap_or(f64::NAN)),
        other => escape(&other.to_string()),
    }
}
