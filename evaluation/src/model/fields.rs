//! Reads fields of a JSON document with messages that name the field by JSON pointer, what is expected and what was
//! found.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ModelError;

/// `; did you mean …` for the nearest known name, if one is near.
pub(crate) fn nearest(name: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

/// An object with a fixed set of keys.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    origins: &'a BTreeMap<String, String>,
}

impl<'a> Fields<'a> {
    /// Checks that a value is an object without unknown keys.
    pub(crate) fn new(
        value: &'a Value,
        pointer: impl Into<String>,
        known: &[&str],
        origins: &'a BTreeMap<String, String>,
    ) -> Result<Self, ModelError> {
        let pointer = pointer.into();
        let Value::Object(map) = value else {
            return Err(wrong(&pointer, "an object", value, origins));
        };
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(ModelError::Field {
                pointer: format!("{pointer}/{key}"),
                message: format!("is unknown; known are {}{}", list(known), nearest(key, known)),
            });
        }
        Ok(Self { map, pointer, origins })
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn pointer(&self, key: &str) -> String {
        format!("{}/{key}", self.pointer)
    }

    pub(crate) fn origins(&self) -> &'a BTreeMap<String, String> {
        self.origins
    }

    pub(crate) fn error(&self, key: &str, message: impl Into<String>) -> ModelError {
        ModelError::Field {
            pointer: self.pointer(key),
            message: message.into(),
        }
    }

    pub(crate) fn wrong(&self, key: &str, expected: &str, found: &Value) -> ModelError {
        wrong(&self.pointer(key), expected, found, self.origins)
    }

    /// An integer of at least `least`.
    pub(crate) fn integer(&self, key: &str, least: usize, default: Option<usize>) -> Result<usize, ModelError> {
        let expected = || format!("an integer of at least {least}");
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| self.error(key, format!("is missing; it must be {}", expected())));
        };
        as_integer(value)
            .filter(|number| *number >= least)
            .ok_or_else(|| self.wrong(key, &expected(), value))
    }

    /// A number for which `test` holds; `expected` describes such numbers.
    pub(crate) fn number(
        &self,
        key: &str,
        expected: &str,
        test: impl Fn(f64) -> bool,
        default: Option<f64>,
    ) -> Result<f64, ModelError> {
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| self.error(key, format!("is missing; it must be {expected}")));
        };
        value
            .as_f64()
            .filter(|number| number.is_finite() && test(*number))
            .ok_or_else(|| self.wrong(key, expected, value))
    }

    /// A number of at least 0.
    pub(crate) fn non_negative(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        self.number(key, "a number of at least 0", |number| number >= 0.0, Some(default))
    }

    /// A number above 0.
    pub(crate) fn positive(&self, key: &str, default: Option<f64>) -> Result<f64, ModelError> {
        self.number(key, "a number above 0", |number| number > 0.0, default)
    }

    /// A number in `[0, 1)`.
    pub(crate) fn share(&self, key: &str, default: Option<f64>) -> Result<f64, ModelError> {
        self.number(
            key,
            "a number in [0, 1)",
            |number| (0.0..1.0).contains(&number),
            default,
        )
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.wrong(key, "true or false", value)),
        }
    }

    /// One of several names.
    pub(crate) fn choice<T: Copy>(&self, key: &str, names: &[(&str, T)], default: Option<T>) -> Result<T, ModelError> {
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let Some(value) = self.get(key) else {
            return default.ok_or_else(|| self.error(key, format!("is missing; it must be {}", one_of(&known))));
        };
        choose(value, &self.pointer(key), names, self.origins)
    }

    /// A text that must be there.
    pub(crate) fn text(&self, key: &str, expected: &str) -> Result<&'a str, ModelError> {
        let value = self
            .get(key)
            .ok_or_else(|| self.error(key, format!("is missing; it must be {expected}")))?;
        value.as_str().ok_or_else(|| self.wrong(key, expected, value))
    }

    /// A list of at least one number for all of which `test` holds.
    pub(crate) fn numbers(
        &self,
        key: &str,
        expected: &str,
        test: impl Fn(f64) -> bool,
    ) -> Result<Vec<f64>, ModelError> {
        let value = self
            .get(key)
            .ok_or_else(|| self.error(key, format!("is missing; it must be {expected}")))?;
        let numbers: Option<Vec<f64>> = value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_f64).collect());
        numbers
            .filter(|numbers| !numbers.is_empty() && numbers.iter().all(|number| test(*number)))
            .ok_or_else(|| self.wrong(key, expected, value))
    }

    /// Integers of at least `least`: one, or a list of up to eight.
    pub(crate) fn sizes(&self, key: &str, least: usize, default: Option<usize>) -> Result<Vec<usize>, ModelError> {
        const MOST: usize = 8;
        let expected = || format!("an integer of at least {least}, or a list of up to {MOST}");
        let Some(value) = self.get(key) else {
            let default = default.map(|size| vec![size]);
            return default.ok_or_else(|| self.error(key, format!("is missing; it must be {}", expected())));
        };
        let sizes: Option<Vec<usize>> = match value {
            Value::Array(items) => items.iter().map(as_integer).collect(),
            value => as_integer(value).map(|size| vec![size]),
        };
        let is_small = |size: &usize| *size >= least && *size < 1 << 31;
        sizes
            .filter(|sizes| (1..=MOST).contains(&sizes.len()) && sizes.iter().all(is_small))
            .ok_or_else(|| self.wrong(key, &expected(), value))
    }

    /// A list of integers in ascending order.
    pub(crate) fn ascending(&self, key: &str) -> Result<Vec<usize>, ModelError> {
        let expected = "a list of ascending integers";
        let value = self
            .get(key)
            .ok_or_else(|| self.error(key, format!("is missing; it must be {expected}")))?;
        let numbers: Option<Vec<usize>> = value
            .as_array()
            .and_then(|items| items.iter().map(as_integer).collect());
        numbers
            .filter(|numbers| numbers.is_sorted())
            .ok_or_else(|| self.wrong(key, expected, value))
    }

    /// A list of texts; empty when absent.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let texts: Option<Vec<String>> = value
            .as_array()
            .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        texts.ok_or_else(|| self.wrong(key, "a list of texts", value))
    }

    /// Two numbers in `[0, 1)`.
    pub(crate) fn pair(&self, key: &str, default: [f64; 2]) -> Result<[f64; 2], ModelError> {
        let range: RangeInclusive<f64> = 0.0..=1.0;
        let Some(value) = self.get(key) else { return Ok(default) };
        let numbers: Option<Vec<f64>> = value
            .as_array()
            .and_then(|items| items.iter().map(Value::as_f64).collect());
        match numbers.as_deref() {
            Some(&[first, second]) if [first, second].iter().all(|n| range.contains(n) && *n < 1.0) => {
                Ok([first, second])
            }
            _ => Err(self.wrong(key, "two numbers in [0, 1)", value)),
        }
    }
}

/// One of several names.
pub(crate) fn choose<T: Copy>(
    value: &Value,
    pointer: &str,
    names: &[(&str, T)],
    origins: &BTreeMap<String, String>,
) -> Result<T, ModelError> {
    let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let Some(text) = value.as_str() else {
        return Err(wrong(pointer, &one_of(&known), value, origins));
    };
    names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let ModelError::Field { pointer, message } = wrong(pointer, &one_of(&known), value, origins) else {
                unreachable!("`wrong` makes a field error");
            };
            ModelError::Field {
                pointer,
                message: message + &nearest(text, &known),
            }
        })
}

/// An error with expectation and finding.
pub(crate) fn wrong(pointer: &str, expected: &str, found: &Value, origins: &BTreeMap<String, String>) -> ModelError {
    let mut text = found.to_string();
    if text.chars().count() > 60 {
        text = text.chars().take(57).chain("...".chars()).collect();
    }
    let origin = origins
        .get(pointer)
        .map_or_else(String::new, |name| format!(" (hyperparameter `{name}`)"));
    ModelError::Field {
        pointer: pointer.to_owned(),
        message: format!("must be {expected}, found `{text}`{origin}"),
    }
}

/// Whole numbers, also when written as `64.0`.
fn as_integer(value: &Value) -> Option<usize> {
    value.as_u64().map(|number| number as usize).or_else(|| {
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (0.0..9e15).contains(number))
            .map(|number| number as usize)
    })
}

fn one_of(known: &[&str]) -> String {
    match known {
        [only] => format!("`{only}`"),
        _ => format!("one of {}", list(known)),
    }
}

pub(crate) fn list(known: &[&str]) -> String {
    known
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
