//! What a point has for one hyperparameter.

use std::cell::RefCell;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use crate::json;

/// A JSON value in the third of the memory: a task has thousands of points with dozens of values each.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum PointValue {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number, as it was written: 1 is not 1.0.
    Number(Number),
    /// A string; the same category of many points is kept once.
    Text(Arc<str>),
    /// A list or an object.
    Nested(Arc<Value>),
}

impl PointValue {
    /// The number, as a double.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        self.number().and_then(Number::as_f64)
    }

    /// The number, if it is written as an integer from 0.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.number().and_then(Number::as_u64)
    }

    /// Whether it is a number that is written with a fraction or an exponent.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.number().is_some_and(Number::is_f64)
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<&Number> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Whether there is a number in it that is not finite.
    pub(super) fn contains_non_finite(&self) -> bool {
        match self {
            Self::Text(text) => json::is_non_finite(text),
            Self::Nested(value) => contains_non_finite(value),
            Self::Null | Self::Boolean(_) | Self::Number(_) => false,
        }
    }
}

fn contains_non_finite(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(contains_non_finite),
        Value::Object(map) => map.values().any(contains_non_finite),
        other => json::non_finite(other).is_some(),
    }
}

impl From<Value> for PointValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Boolean(value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(shared(&text)),
            nested @ (Value::Array(_) | Value::Object(_)) => Self::Nested(Arc::new(nested)),
        }
    }
}

impl From<&PointValue> for Value {
    fn from(value: &PointValue) -> Self {
        match value {
            PointValue::Null => Self::Null,
            PointValue::Boolean(value) => Self::Bool(*value),
            PointValue::Number(number) => Self::Number(number.clone()),
            PointValue::Text(text) => Self::String((**text).to_owned()),
            PointValue::Nested(value) => (**value).clone(),
        }
    }
}

macro_rules! from_json {
    ($($kind:ty),+) => {$(
        impl From<$kind> for PointValue {
            fn from(value: $kind) -> Self {
                Value::from(value).into()
            }
        }
    )+};
}

from_json!(f64, i64, u64, u32, i32, bool, &str, String);

impl PartialEq<Value> for PointValue {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Boolean(left), Value::Bool(right)) => left == right,
            (Self::Number(left), Value::Number(right)) => left == right,
            (Self::Text(left), Value::String(right)) => **left == **right,
            (Self::Nested(left), right) => **left == *right,
            _ => false,
        }
    }
}

/// JSON text.
impl fmt::Display for PointValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => value.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(_) => Value::from(self).fmt(f),
            Self::Nested(value) => value.fmt(f),
        }
    }
}

impl Serialize for PointValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Nested(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PointValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = PointValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<PointValue, E> {
        Ok(PointValue::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<PointValue, E> {
        Ok(PointValue::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<PointValue, E> {
        Ok(PointValue::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<PointValue, E> {
        Ok(Number::from_f64(value).map_or(PointValue::Null, PointValue::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<PointValue, E> {
        let text = json::checked_string(value).map_err(E::custom)?;
        Ok(PointValue::Text(shared(text)))
    }

    fn visit_unit<E>(self) -> Result<PointValue, E> {
        Ok(PointValue::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<PointValue, A::Error> {
        json::nested_list(access).map(|value| PointValue::Nested(Arc::new(value)))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<PointValue, A::Error> {
        json::nested_object(access).map(|value| PointValue::Nested(Arc::new(value)))
    }
}

/// Strings up to this many bytes are shared.
const SHORT: usize = 64;
/// Recent strings that are kept for sharing.
const RECENT: usize = 256;

thread_local! {
    static TEXTS: RefCell<Vec<Option<Arc<str>>>> = RefCell::new(vec![None; RECENT]);
}

/// The text, in one place with equal ones that were read shortly before.
fn shared(text: &str) -> Arc<str> {
    if text.len() > SHORT {
        return text.into();
    }
    let place = FxBuildHasher.hash_one(text) as usize % RECENT;
    TEXTS.with_borrow_mut(|texts| match &texts[place] {
        Some(known) if **known == *text => known.clone(),
        _ => texts[place].insert(text.into()).clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_value_is_kept_as_it_was_written() {
        for value in [
            json!(null),
            json!(true),
            json!(1),
            json!(1.0),
            json!(-1),
            json!("a\"b"),
            json!([1, {"x": null}]),
            json!({"a": []}),
        ] {
            let kept = PointValue::from(value.clone());
            assert_eq!(Value::from(&kept), value);
            assert_eq!(kept, value);
            assert_eq!(kept.to_string(), value.to_string());
            assert_eq!(serde_json::to_string(&kept).unwrap(), value.to_string());
            assert_eq!(serde_json::from_str::<PointValue>(&value.to_string()).unwrap(), kept);
        }
        assert_ne!(PointValue::from(1), PointValue::from(1.0));
    }

    #[test]
    fn equal_strings_are_kept_once() {
        let texts: Vec<PointValue> = serde_json::from_str(r#"["adam", "sgd", "adam"]"#).unwrap();
        let [PointValue::Text(first), _, PointValue::Text(last)] = &texts[..] else {
            panic!("three strings");
        };
        assert!(Arc::ptr_eq(first, last));
    }
}
