//! The segment specification: a list of `{"name": …, "files": […]}` or `{"name": …, "datasets": […]}`, one independent model
//! each. The position in the list is the segment's id.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DocumentError, Problem, did_you_mean, pointer};
use crate::json::{self, Dialect};
use crate::limits;

/// Where the training data of a segment are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentData {
    /// Names of files in the training data set of the task.
    Files(Vec<String>),
    /// Data sets of the segment's own: directories, files or glob patterns.
    Datasets(Vec<String>),
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Name: a letter, digit or `_`, then at most 63 of these, `.` and `-`.
    pub name: String,
    /// Training data.
    #[serde(flatten)]
    pub data: SegmentData,
}

/// Whether `name` may name a segment, and with it files and directories.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    bytes.next().is_some_and(word) && name.len() <= 64 && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Checks a segment specification.
///
/// # Errors
/// All faults, with pointers.
pub fn from_value(value: &Value) -> Result<Vec<Segment>, Vec<Problem>> {
    let Value::Array(items) = value else {
        return Err(vec![Problem::new(
            "",
            format!("expected a list of segments, found {}", json::type_name(value)),
        )]);
    };
    let mut problems = Vec::new();
    if items.is_empty() {
        problems.push(Problem::new("", "expected at least one segment, found an empty list"));
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = pointer("", index);
        match segment(item, &place) {
            Ok(segment) if segments.iter().any(|other| other.name == segment.name) => problems.push(Problem::new(
                pointer(&place, "name"),
                format!("the name `{}` is taken by an earlier segment", segment.name),
            )),
            Ok(segment) => segments.push(segment),
            Err(mut faults) => problems.append(&mut faults),
        }
    }
    if problems.is_empty() {
        Ok(segments)
    } else {
        Err(problems)
    }
}

fn segment(item: &Value, place: &str) -> Result<Segment, Vec<Problem>> {
    let Value::Object(map) = item else {
        return Err(vec![Problem::new(
            place,
            format!("expected an object, found {}", json::type_name(item)),
        )]);
    };
    let mut problems = Vec::new();
    for key in map.keys() {
        if !["name", "files", "datasets", "id"].contains(&key.as_str()) {
            let hint = did_you_mean(key, ["name", "files", "datasets"]);
            problems.push(Problem::new(pointer(place, key), format!("unknown key{hint}")));
        }
    }
    let name = match map.get("name") {
        Some(Value::String(name)) if is_name(name) => Some(name.clone()),
        Some(Value::String(name)) => {
            problems.push(Problem::new(
                pointer(place, "name"),
                format!("expected at most 64 letters, digits, `_`, `.`, `-`, the first a letter, digit or `_`; found {name:?}"),
            ));
            None
        }
        other => {
            let found = other.map_or("nothing", json::type_name);
            problems.push(Problem::new(
                pointer(place, "name"),
                format!("expected a string, found {found}"),
            ));
            None
        }
    };
    let data = match (map.get("files"), map.get("datasets")) {
        (Some(files), None) => names(files, &pointer(place, "files"), &mut problems).map(SegmentData::Files),
        (None, Some(sets)) => names(sets, &pointer(place, "datasets"), &mut problems).map(SegmentData::Datasets),
        _ => {
            problems.push(Problem::new(place, "expected either `files` or `datasets`"));
            None
        }
    };
    match (name, data) {
        (Some(name), Some(data)) if problems.is_empty() => Ok(Segment { name, data }),
        _ => Err(problems),
    }
}

fn names(value: &Value, place: &str, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let list = match value {
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
            .collect::<Option<Vec<_>>>(),
        _ => None,
    };
    if list.is_none() {
        problems.push(Problem::new(place, "expected a list of at least one name"));
    }
    list
}

/// Reads a segment specification. Comments and trailing commas are accepted.
///
/// # Errors
/// [`DocumentError`].
pub fn read(path: &Path) -> Result<Vec<Segment>, DocumentError> {
    const WHAT: &str = "segment specification";
    let value = json::read(WHAT, path, limits::DOCUMENT_BYTES, Dialect::Commented)?;
    from_value(&value).map_err(|problems| DocumentError::invalid(WHAT, path, problems))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_and_datasets_are_read() {
        let segments =
            from_value(&json!([{"name": "arm", "files": ["f1"]}, {"name": "leg", "datasets": ["d2"]}])).unwrap();
        assert_eq!(segments[0].data, SegmentData::Files(vec!["f1".into()]));
        assert_eq!(segments[1].data, SegmentData::Datasets(vec!["d2".into()]));
        assert_eq!(
            serde_json::to_value(&segments[0]).unwrap(),
            json!({"name": "arm", "files": ["f1"]})
        );
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let problems = from_value(&json!([
            {"name": "a", "files": ["f"]},
            {"name": "a", "files": ["f"]},
            {"name": "../x", "files": []},
            {"name": "b", "file": ["f"]},
            3
        ]))
        .unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(places, ["/1/name", "/2/name", "/2/files", "/3/file", "/3", "/4"]);
    }
}
