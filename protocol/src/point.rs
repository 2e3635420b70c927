//! Points, their outcomes, and `input.json`, the file from which an evaluation learns its point.

mod names;
mod value;

use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::{DocumentError, Problem};
use crate::json::{self, Dialect};
use crate::limits;
use names::{Names, NamesBuilder};

pub use value::PointValue;

/// One value per hyperparameter, JSON types and key order kept. Keys that begin with `hpo.` are reserved: they carry what a
/// scheduler has to say and are no hyperparameters.
///
/// Points of one task share their names and their strings, so that a hundred thousand of them fit into a few tens of megabytes.
/// Points with the same values are equal, whatever their order.
#[derive(Debug, Clone, Default)]
pub struct Point {
    names: Names,
    values: Box<[PointValue]>,
}

impl Point {
    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PointValue)> {
        self.names.iter().map(|name| &**name).zip(&self.values)
    }

    /// The hyperparameters: all keys but the reserved ones.
    pub fn hyperparameters(&self) -> impl Iterator<Item = (&str, &PointValue)> {
        self.iter().filter(|(key, _)| !is_reserved(key))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&PointValue> {
        let place = self.names.iter().position(|name| **name == *key)?;
        Some(&self.values[place])
    }

    /// The value of the reserved key `hpo.<name>`.
    #[must_use]
    pub fn reserved(&self, name: &str) -> Option<&PointValue> {
        let is_it = |(key, _): &(&str, _)| key.strip_prefix(limits::RESERVED_PREFIX) == Some(name);
        self.iter().find(is_it).map(|(_, value)| value)
    }

    /// Number of keys, reserved ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Gives `key` a value, in its place if it has one already, else at the end.
    pub fn insert(&mut self, key: &str, value: impl Into<PointValue>) {
        let value = value.into();
        if let Some(place) = self.names.iter().position(|name| **name == *key) {
            self.values[place] = value;
            return;
        }
        let values = std::mem::take(&mut self.values).into_iter();
        *self = (self.names.iter().map(|name| &**name))
            .zip(values)
            .chain([(key, value)])
            .collect();
    }

    /// Keeps the keys for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        if self.names.iter().all(|name| keep(name)) {
            return;
        }
        let values = std::mem::take(&mut self.values).into_iter();
        *self = (self.names.iter().map(|name| &**name))
            .zip(values)
            .filter(|(key, _)| keep(key))
            .collect();
    }

    /// Takes `key` away, and gives the value that it had.
    pub fn remove(&mut self, key: &str) -> Option<PointValue> {
        let value = self.get(key).cloned();
        self.retain(|other| other != key);
        value
    }

    /// The point as a JSON object.
    #[must_use]
    pub fn to_object(&self) -> Map<String, Value> {
        self.iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
    }

    /// Equal points have equal identities, whatever the order of their keys; reserved keys do not count.
    #[must_use]
    pub fn identity(&self) -> String {
        let own = self
            .hyperparameters()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        json::canonical(&Value::Object(own))
    }

    /// Faults of a point that would break a reader further on: too long, too many keys, deep or non-finite values.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let length = serde_json::to_string(&self).map_or(0, |text| text.len());
        if length > limits::POINT_BYTES {
            problems.push(Problem::new(
                "",
                format!(
                    "a point of {length} bytes, at most {} fit into the tables of iDDS; shorten names or categories",
                    limits::POINT_BYTES
                ),
            ));
        }
        if self.len() > limits::KEYS {
            problems.push(Problem::new(
                "",
                format!("a point with {} keys, at most {} are allowed", self.len(), limits::KEYS),
            ));
        }
        for (key, value) in self.iter() {
            if value.contains_non_finite() {
                problems.push(Problem::new(
                    crate::error::pointer("", key),
                    "expected a finite value, found a non-finite number",
                ));
            }
        }
        problems
    }
}

impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        if self.names.is(&other.names) {
            return self.values == other.values;
        }
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

/// Of a key that appears twice, the last value counts.
impl<K: AsRef<str>, V: Into<PointValue>> FromIterator<(K, V)> for Point {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut names = NamesBuilder::new();
        let mut values: Vec<PointValue> = Vec::with_capacity(names.expected());
        let mut again = Vec::new();
        for (key, value) in entries {
            if names.push(key.as_ref()) {
                values.push(value.into());
            } else {
                again.push((key, value.into()));
            }
        }
        let mut point = Self {
            names: names.finish(),
            values: values.into(),
        };
        for (key, value) in again {
            point.insert(key.as_ref(), value);
        }
        point
    }
}

impl From<Map<String, Value>> for Point {
    fn from(map: Map<String, Value>) -> Self {
        map.into_iter().collect()
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnyPoint)
    }
}

/// Reads an object as a point, refusing keys that appear twice.
pub(crate) struct AnyPoint;

impl<'de> Visitor<'de> for AnyPoint {
    type Value = Point;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Point, A::Error> {
        let mut names = NamesBuilder::new();
        let mut values = Vec::with_capacity(names.expected());
        while access.next_key_seed(NextName(&mut names))?.is_some() {
            values.push(access.next_value()?);
        }
        Ok(Point {
            names: names.finish(),
            values: values.into(),
        })
    }
}

/// Takes the name that is read next.
struct NextName<'a>(&'a mut NamesBuilder);

impl<'de> DeserializeSeed<'de> for NextName<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NextName<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        let key = json::checked_key(key).map_err(E::custom)?;
        if self.0.push(key) {
            Ok(())
        } else {
            Err(E::custom(json::duplicate_key(key)))
        }
    }
}

/// Whether `key` is a reserved key of a point.
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    key.starts_with(limits::RESERVED_PREFIX)
}

/// Position of a segment in the segment file, from 0; called `model_id` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u32);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A finite number that is minimised.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Loss(f64);

impl Loss {
    /// `value` as a loss, unless it is not finite or its magnitude is [`limits::HUGE_LOSS`] or more.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (value.is_finite() && value.abs() < limits::HUGE_LOSS).then_some(Self(value))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Self::new(value).ok_or_else(|| serde::de::Error::custom(format!("expected a finite loss, found {value}")))
    }
}

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Not evaluated yet, or being evaluated.
    Pending,
    /// Evaluated.
    Done {
        /// The loss.
        loss: Loss,
    },
    /// Given up, or evaluated to something that is not a number.
    Failed,
}

impl Outcome {
    /// The loss of a point that is done.
    #[must_use]
    pub fn loss(self) -> Option<f64> {
        match self {
            Self::Done { loss } => Some(loss.get()),
            Self::Pending | Self::Failed => None,
        }
    }
}

/// A point as it stands in steering files and `input.json`: alone, or as the pair `[model_id, point]` of a segmented task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EvaluationInput {
    /// A point alone.
    Plain(Point),
    /// A point of a segment.
    Segmented(SegmentId, Point),
}

impl EvaluationInput {
    /// Puts a point into its segment, if there are segments.
    #[must_use]
    pub fn new(segment: Option<SegmentId>, point: Point) -> Self {
        match segment {
            None => Self::Plain(point),
            Some(segment) => Self::Segmented(segment, point),
        }
    }

    /// The point.
    #[must_use]
    pub fn point(&self) -> &Point {
        match self {
            Self::Plain(point) | Self::Segmented(_, point) => point,
        }
    }

    /// The segment, if any.
    #[must_use]
    pub fn segment(&self) -> Option<SegmentId> {
        match self {
            Self::Plain(_) => None,
            Self::Segmented(segment, _) => Some(*segment),
        }
    }

    /// Segment and point.
    #[must_use]
    pub fn into_parts(self) -> (Option<SegmentId>, Point) {
        match self {
            Self::Plain(point) => (None, point),
            Self::Segmented(segment, point) => (Some(segment), point),
        }
    }

    /// Reads either shape.
    ///
    /// # Errors
    /// One [`Problem`] with a pointer relative to `value`.
    pub fn from_value(value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(map) => Ok(Self::Plain(map.into())),
            Value::Array(pair) => {
                let found = pair.len();
                let [segment, point] = <[Value; 2]>::try_from(pair).map_err(|_| {
                    Problem::new(
                        "",
                        format!("expected an object or the pair [model_id, object], found a list of {found}"),
                    )
                })?;
                let segment = segment
                    .as_u64()
                    .and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(|| Problem::new("/0", format!("expected a model_id from 0, found {segment}")))?;
                match point {
                    Value::Object(map) => Ok(Self::Segmented(SegmentId(segment), map.into())),
                    other => Err(Problem::new(
                        "/1",
                        format!("expected an object, found {}", json::type_name(&other)),
                    )),
                }
            }
            other => Err(Problem::new(
                "",
                format!(
                    "expected an object or the pair [model_id, object], found {}",
                    json::type_name(&other)
                ),
            )),
        }
    }

    /// Reads `input.json`.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        const WHAT: &str = "point";
        let value = json::read(WHAT, path, limits::DOCUMENT_BYTES, Dialect::Strict)?;
        Self::from_value(value).map_err(|problem| DocumentError::invalid(WHAT, path, vec![problem]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn point(value: Value) -> Point {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn both_shapes_are_read_and_written_back_unchanged() {
        for text in [r#"{"lr":0.5,"n":1}"#, r#"[3,{"lr":0.5,"n":1}]"#] {
            let input = EvaluationInput::from_value(serde_json::from_str(text).unwrap()).unwrap();
            assert_eq!(serde_json::to_string(&input).unwrap(), text);
        }
    }

    #[test]
    fn a_wrong_shape_is_named_with_its_place() {
        let error = |value| EvaluationInput::from_value(value).unwrap_err().to_string();
        insta_like(
            &error(json!(7)),
            "expected an object or the pair [model_id, object], found a number",
        );
        insta_like(
            &error(json!([1])),
            "expected an object or the pair [model_id, object], found a list of 1",
        );
        insta_like(&error(json!([-1, {}])), "at `/0`: expected a model_id from 0, found -1");
        insta_like(&error(json!([1, 2])), "at `/1`: expected an object, found a number");
    }

    fn insta_like(found: &str, expected: &str) {
        assert_eq!(found, expected);
    }

    #[test]
    fn identity_ignores_key_order_and_reserved_keys() {
        let a = point(json!({"x": 1, "y": "a", "hpo.n": 4}));
        let b = point(json!({"y": "a", "x": 1}));
        assert_eq!(a.identity(), b.identity());
        assert_ne!(a.identity(), point(json!({"y": "a", "x": 1.0})).identity());
    }

    #[test]
    fn a_point_that_would_not_fit_the_tables_of_idds_is_refused() {
        let long = point(json!({"name": "x".repeat(3_600)}));
        assert_eq!(long.problems().len(), 1);
        assert!(point(json!({"x": 1})).problems().is_empty());
    }

    #[test]
    fn infinite_and_huge_numbers_are_no_losses() {
        assert_eq!(Loss::new(0.0).map(Loss::get), Some(0.0));
        for value in [f64::NAN, f64::INFINITY, 1e30, -1e300] {
            assert_eq!(Loss::new(value), None);
        }
    }
}
