//! The fields of the section, one function each.

use protocol::error::{did_you_mean, pointer};
use protocol::training_data::{self, TrainingFile};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Amount, Inputs, Selector, Split, SplitKind};
use crate::dataset::augment::Augment;
use crate::dataset::error::DatasetError;

const AUGMENT_KEYS: [&str; 3] = ["flip", "crop", "seed"];
const SPLIT_KEYS: [&str; 5] = ["validation", "seed", "kind", "group", "validation_files"];

pub(super) fn wrong(pointer: &str, expected: impl Into<String>, found: impl Into<String>) -> DatasetError {
    DatasetError::Description {
        pointer: pointer.to_owned(),
        expected: expected.into(),
        found: found.into(),
    }
}

pub(super) fn check(
    pointer: &str,
    holds: bool,
    expected: &str,
    found: impl std::fmt::Display + Copy,
) -> Result<(), DatasetError> {
    if holds {
        Ok(())
    } else {
        Err(wrong(pointer, expected, found.to_string()))
    }
}

pub(super) fn object<'a>(
    value: &'a Value,
    pointer: &str,
    expected: &str,
) -> Result<&'a Map<String, Value>, DatasetError> {
    value.as_object().ok_or_else(|| match value {
        Value::Null => wrong(pointer, expected, "nothing"),
        value => wrong(pointer, expected, value.to_string()),
    })
}

pub(super) fn check_keys(map: &Map<String, Value>, parent: &str, known: &[&str]) -> Result<(), DatasetError> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(wrong(
            &pointer(parent, key),
            format!("one of `{}`", known.join("`, `")),
            format!("the unknown key `{key}`{}", did_you_mean(key, known.iter().copied())),
        )),
    }
}

pub(super) fn field<T: DeserializeOwned>(
    map: &Map<String, Value>,
    parent: &str,
    key: &str,
    expected: &str,
) -> Result<Option<T>, DatasetError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|_| wrong(&pointer(parent, key), expected, value.to_string())),
    }
}

pub(super) fn files(value: Option<&Value>, place: &str) -> Result<Vec<TrainingFile>, DatasetError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    training_data::from_value(value).map_err(|problems| {
        let problem = problems
            .into_iter()
            .next()
            .expect("a refused list has at least one problem");
        wrong(
            &format!("{place}{}", problem.pointer),
            "file names or URLs",
            problem.message,
        )
    })
}

pub(super) fn selectors(value: &Value, place: &str) -> Result<Vec<Selector>, DatasetError> {
    let list = match value {
        Value::Array(items) => items.clone(),
        single => vec![single.clone()],
    };
    let expected = "column names or positions";
    if list.is_empty() {
        return Err(wrong(place, expected, "an empty list"));
    }
    list.into_iter()
        .map(|item| serde_json::from_value(item.clone()).map_err(|_| wrong(place, expected, item.to_string())))
        .collect()
}

pub(super) fn inputs(value: Option<&Value>) -> Result<Inputs, DatasetError> {
    match value {
        None | Some(Value::Null) => Ok(Inputs::AllOthers),
        Some(Value::String(text)) if text == "all others" => Ok(Inputs::AllOthers),
        Some(value) => selectors(value, "/data/inputs").map(Inputs::Columns),
    }
}

pub(super) fn delimiter(map: &Map<String, Value>) -> Result<Option<u8>, DatasetError> {
    let expected = "one ASCII character, such as \",\" or \"\\t\"";
    let text: Option<String> = field(map, "/data", "delimiter", expected)?;
    match text.as_deref().map(str::as_bytes) {
        None => Ok(None),
        Some(&[byte]) if byte.is_ascii() => Ok(Some(byte)),
        Some(_) => Err(wrong(
            "/data/delimiter",
            expected,
            format!("`{}`", text.unwrap_or_default()),
        )),
    }
}

pub(super) fn augment(value: Option<&Value>) -> Result<Option<Augment>, DatasetError> {
    const PLACE: &str = "/data/augment";
    let map = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => object(
            value,
            PLACE,
            "an object such as {\"flip\": \"horizontal\", \"crop\": 4}",
        )?,
    };
    check_keys(map, PLACE, &AUGMENT_KEYS)?;
    let flip: Option<String> = field(map, PLACE, "flip", "`horizontal`, `vertical`, `both` or `none`")?;
    let (flip_horizontal, flip_vertical) = match flip.as_deref() {
        None | Some("none") => (false, false),
        Some("horizontal") => (true, false),
        Some("vertical") => (false, true),
        Some("both") => (true, true),
        Some(other) => {
            return Err(wrong(
                "/data/augment/flip",
                "`horizontal`, `vertical`, `both` or `none`",
                format!("`{other}`"),
            ));
        }
    };
    let augment = Augment {
        flip_horizontal,
        flip_vertical,
        pad: field(map, PLACE, "crop", "a number of pixels by which images may shift")?.unwrap_or(0),
        seed: field(map, PLACE, "seed", "a whole number of at least 0")?.unwrap_or(0),
    };
    let changes = flip_horizontal || flip_vertical || augment.pad > 0;
    Ok(changes.then_some(augment))
}

pub(super) fn split(value: Option<&Value>) -> Result<Split, DatasetError> {
    const PLACE: &str = "/data/split";
    let empty = Map::new();
    let map = match value {
        None | Some(Value::Null) => &empty,
        Some(value) => object(value, PLACE, "an object such as {\"validation\": 0.2}")?,
    };
    check_keys(map, PLACE, &SPLIT_KEYS)?;
    if map.contains_key("validation_files") {
        if let Some(other) = map.keys().find(|key| *key != "validation_files") {
            return Err(wrong(
                PLACE,
                "either `validation_files` or a part of the same files",
                format!("`{other}` too"),
            ));
        }
        let files = files(map.get("validation_files"), "/data/split/validation_files")?;
        check(
            "/data/split/validation_files",
            !files.is_empty(),
            "at least one file",
            "an empty list",
        )?;
        return Ok(Split::Files(files));
    }
    let amount = "a share between 0 and 1, or a number of rows";
    let amount = match field::<f64>(map, PLACE, "validation", amount)? {
        None => Amount::Share(0.2),
        Some(share) if share > 0.0 && share < 1.0 => Amount::Share(share),
        Some(rows) if rows >= 1.0 && rows.fract() == 0.0 && rows < 1e15 => Amount::Rows(rows as usize),
        Some(other) => return Err(wrong("/data/split/validation", amount, other.to_string())),
    };
    let group: Option<Selector> = field(map, PLACE, "group", "a column name or position")?;
    let kind: Option<String> = field(map, PLACE, "kind", "a word")?;
    let kind = match (kind.as_deref(), group) {
        (None | Some("grouped"), Some(group)) => SplitKind::Grouped(group),
        (Some("grouped"), None) => {
            return Err(wrong(
                "/data/split/group",
                "the column whose values are the groups",
                "nothing",
            ));
        }
        (Some(kind), Some(_)) => {
            return Err(wrong(
                "/data/split/kind",
                "`grouped` where there is a `group`",
                format!("`{kind}`"),
            ));
        }
        (None | Some("random"), None) => SplitKind::Random,
        (Some("stratified"), None) => SplitKind::Stratified,
        (Some("last"), None) => SplitKind::Last,
        (Some("by_file"), None) => SplitKind::ByFile,
        (Some(other), None) => {
            let known = ["random", "stratified", "grouped", "last", "by_file"];
            return Err(wrong(
                "/data/split/kind",
                format!("one of `{}`", known.join("`, `")),
                format!("`{other}`{}", did_you_mean(other, known)),
            ));
        }
    };
    Ok(Split::Part {
        amount,
        seed: field(map, PLACE, "seed", "a whole number of at least 0")?.unwrap_or(0),
        kind,
    })
}
