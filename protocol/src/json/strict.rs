//! JSON by the letter, and with the limits of this crate.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::map::Entry;
use serde_json::{Map, Value};

use crate::limits;

pub(super) fn strict(text: &str) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let sizes = Sizes::new();
    let value = Strict {
        depth: 0,
        sizes: &sizes,
    }
    .deserialize(&mut deserializer)
    .map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// A value in the middle of a document that is read by types.
#[derive(Debug)]
pub(crate) struct Nested(pub(crate) Value);

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        nested(|strict| strict.deserialize(deserializer)).map(Self)
    }
}

/// A list in the middle of a document that is read by types.
pub(crate) fn nested_list<'de, A: SeqAccess<'de>>(access: A) -> Result<Value, A::Error> {
    nested(|strict| strict.visit_seq(access))
}

/// An object in the middle of a document that is read by types.
pub(crate) fn nested_object<'de, A: MapAccess<'de>>(access: A) -> Result<Value, A::Error> {
    nested(|strict| strict.visit_map(access))
}

fn nested<T>(read: impl FnOnce(Strict<'_>) -> T) -> T {
    read(Strict {
        depth: NESTED,
        sizes: &Sizes::new(),
    })
}

pub(crate) fn duplicate_key(key: &str) -> String {
    format!("the key `{key}` appears twice in one object")
}

pub(crate) fn checked_key(key: &str) -> Result<&str, String> {
    if key.len() > limits::KEY_BYTES {
        return Err(format!(
            "a key has {} bytes, at most {} are allowed",
            key.len(),
            limits::KEY_BYTES
        ));
    }
    Ok(key)
}

pub(crate) fn checked_string(text: &str) -> Result<&str, String> {
    if text.len() > limits::STRING_BYTES {
        return Err(format!(
            "a string has {} bytes, at most {} are allowed",
            text.len(),
            limits::STRING_BYTES
        ));
    }
    Ok(text)
}

/// How deep a value of a point stands in a document: in the point, its pair, the entry, the list and the document.
const NESTED: usize = 5;

/// The number of members of the last list and object at each depth. Long documents are lists of objects that are alike: with room
/// for as many as the last one had, a history takes half of the memory, and less time.
struct Sizes([Cell<usize>; limits::DEPTH]);

impl Sizes {
    fn new() -> Self {
        Self([const { Cell::new(0) }; limits::DEPTH])
    }

    /// Room to begin with at `depth`; little where the last one was large, for that says nothing about its siblings.
    fn room(&self, depth: usize) -> usize {
        self.0[depth].get().min(64)
    }
}

/// Builds a [`Value`], refusing what [`serde_json`] lets pass: duplicate keys, deep nesting, long strings.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    sizes: &'a Sizes,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == limits::DEPTH {
            return Err(E::custom(format!("nested deeper than {} levels", limits::DEPTH)));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        checked_string(value).map(Into::into).map_err(E::custom)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::with_capacity(self.sizes.room(self.depth));
        while let Some(value) = access.next_element_seed(inner)? {
            array.push(value);
        }
        self.sizes.0[self.depth].set(array.len());
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::with_capacity(self.sizes.room(self.depth));
        while let Some(key) = access.next_key::<String>()? {
            checked_key(&key).map_err(A::Error::custom)?;
            let value = access.next_value_seed(inner)?;
            match map.entry(key) {
                Entry::Vacant(place) => place.insert(value),
                Entry::Occupied(place) => return Err(A::Error::custom(duplicate_key(place.key()))),
            };
        }
        self.sizes.0[self.depth].set(map.len());
        Ok(Value::Object(map))
    }
}
