//! Reading a steering input, or the new points of an output, without a tree of JSON values in between.
//!
//! This is the way of documents that are in order: a third of the time and of the memory of the way through a tree, which says what
//! is wrong where. What is not in order is therefore not explained here: there is no input, and the other way is taken.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{HistoryEntry, PointMeta, SteeringInput, evaluated};
use crate::json;
use crate::point::{AnyPoint, EvaluationInput, Outcome, SegmentId};

/// The input in a JSON text, if nothing is wrong with it. What the manager says about points is read as far as it is known.
pub(super) fn read(text: &str, failed_loss: Option<f64>) -> Option<SteeringInput> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let input = Input { failed_loss }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    let mut segmented = input.points.iter().map(|entry| entry.input.segment().is_some());
    let first = segmented.next();
    segmented.all(|is| Some(is) == first).then_some(input)
}

/// The new points in a JSON text, if nothing is wrong with any of them.
pub(super) fn read_points(text: &str) -> Option<Vec<EvaluationInput>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let points = deserializer.deserialize_seq(NewPoints).ok()?;
    deserializer.end().ok()?;
    let is_in_order = |input: &EvaluationInput| input.point().problems().is_empty();
    points.iter().all(is_in_order).then_some(points)
}

struct NewPoints;

impl<'de> Visitor<'de> for NewPoints {
    type Value = Vec<EvaluationInput>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of points")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut points = Vec::new();
        while let Some(Subject(input)) = access.next_element()? {
            points.push(input);
        }
        Ok(points)
    }
}

struct Input {
    failed_loss: Option<f64>,
}

impl<'de> DeserializeSeed<'de> for Input {
    type Value = SteeringInput;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<SteeringInput, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Input {
    type Value = SteeringInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a steering input")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<SteeringInput, A::Error> {
        let (mut points, mut space, mut meta) = (None, None, None);
        while let Some(key) = access.next_key::<String>()? {
            match key.as_str() {
                "points" if points.is_none() => {
                    let entries = Entries {
                        failed_loss: self.failed_loss,
                    };
                    points = Some(access.next_value_seed(entries)?);
                }
                "opt_space" if space.is_none() => space = Some(access.next_value::<json::Nested>()?.0),
                "meta" if meta.is_none() => meta = Some(access.next_value::<Option<Vec<Meta>>>()?),
                _ => return Err(A::Error::custom("a key that has to be looked at")),
            }
        }
        let mut points: Vec<HistoryEntry> = points.ok_or_else(|| A::Error::custom("no points"))?;
        if let Some(Some(meta)) = meta {
            if meta.len() != points.len() {
                return Err(A::Error::custom("not parallel"));
            }
            for (entry, Meta(meta)) in points.iter_mut().zip(meta) {
                entry.meta = Some(Box::new(meta));
            }
        }
        let space = space.filter(|space: &Value| !space.is_null());
        Ok(SteeringInput { points, space })
    }
}

struct Entries {
    failed_loss: Option<f64>,
}

impl<'de> DeserializeSeed<'de> for Entries {
    type Value = Vec<HistoryEntry>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<HistoryEntry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of [point, loss]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Pair(Subject(input), number)) = access.next_element()? {
            let outcome = number.map_or(Outcome::Pending, |number| evaluated(number, self.failed_loss));
            entries.push(HistoryEntry {
                input,
                outcome,
                meta: None,
            });
        }
        Ok(entries)
    }
}

/// What the manager says about one point, within the limits of any document also where nobody reads it.
struct Meta(PointMeta);

impl<'de> serde::Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json::Nested(value) = serde::Deserialize::deserialize(deserializer)?;
        serde_json::from_value(value).map(Meta).map_err(D::Error::custom)
    }
}

/// A point and its loss.
#[derive(serde::Deserialize)]
struct Pair(Subject, Option<f64>);

/// A point, or the pair `[model_id, point]`.
struct Subject(EvaluationInput);

impl<'de> serde::Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnySubject)
    }
}

struct AnySubject;

impl<'de> Visitor<'de> for AnySubject {
    type Value = Subject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a point")
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Subject, A::Error> {
        AnyPoint
            .visit_map(access)
            .map(|point| Subject(EvaluationInput::Plain(point)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Subject, A::Error> {
        let missing = || A::Error::custom("not a pair");
        let segment = SegmentId(access.next_element()?.ok_or_else(missing)?);
        let point = access.next_element()?.ok_or_else(missing)?;
        Ok(Subject(EvaluationInput::Segmented(segment, point)))
    }
}
