//! How the values of options are read: as their type, or as what other writers make of it.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::json;

/// phpo turns every string that looks like an integer into one; so both spellings are taken.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let wide = long_count(deserializer)?;
    wide.map(|count| {
        u32::try_from(count)
            .map_err(|_| serde::de::Error::custom(format!("expected at most {}, found {count}", u32::MAX)))
    })
    .transpose()
}

pub(super) fn long_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("expected an integer from 0, found {value}")))
}

pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        // `architecture` may be a JSON object in phpo.
        Value::Object(map) => Ok(Some(Value::Object(map).to_string())),
        other => Err(serde::de::Error::custom(format!(
            "expected a string, found {}",
            json::type_name(&other)
        ))),
    }
}

pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match &value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        Value::Number(number) if matches!(number.as_u64(), Some(0 | 1)) => Ok(Some(number.as_u64() == Some(1))),
        _ => Err(serde::de::Error::custom(format!(
            "expected true or false, found {value}"
        ))),
    }
}

/// Settings as a list of `name=value`, one such text, or an object.
pub(super) fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Array(items) => Ok(Some(items.iter().map(plain).collect())),
        Value::Object(map) => Ok(Some(
            map.iter()
                .map(|(key, value)| format!("{key}={}", plain(value)))
                .collect(),
        )),
        Value::Bool(found) => Err(serde::de::Error::custom(format!(
            "expected settings as an object or as texts `name=value`, found {found}"
        ))),
        single => Ok(Some(vec![plain(&single)])),
    }
}
