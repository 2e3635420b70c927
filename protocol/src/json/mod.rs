//! Reading and writing JSON at the border.
//!
//! Strict: UTF-8 only, no duplicate keys, bounded size, depth and strings. Lenient in two places, because real writers are:
//! Python's `NaN`, `Infinity`, `-Infinity` and numbers beyond the range of a double are accepted where a loss stands
//! ([`Dialect::NonFinite`]), and task files may have comments and trailing commas ([`Dialect::Commented`]).

mod commented;
mod non_finite;
mod strict;
mod write;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::error::DocumentError;

pub(crate) use strict::{Nested, checked_key, checked_string, duplicate_key, nested_list, nested_object};
pub use write::{write_atomically, write_whole};

/// Which text is accepted beyond RFC 8259.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Nothing.
    Strict,
    /// Non-finite number tokens, as Python writes them; they become [`NON_FINITE`] strings.
    NonFinite,
    /// Comments and trailing commas, as people write them.
    Commented,
}

/// The key by which a document names its JSON Schema, for editors. It says nothing else.
pub const SCHEMA_KEY: &str = "$schema";

/// First character of the string that stands for a non-finite number after reading. The rest is the token.
pub const NON_FINITE: char = '\u{1}';

/// The non-finite number that a string made by [`Dialect::NonFinite`] stands for.
#[must_use]
pub fn non_finite(value: &Value) -> Option<f64> {
    let token = value.as_str()?.strip_prefix(NON_FINITE)?;
    Some(match token {
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => f64::NAN,
    })
}

/// Whether a string stands for a number that is not finite.
pub(crate) fn is_non_finite(text: &str) -> bool {
    text.starts_with(NON_FINITE)
}

/// Reads the JSON file at `path`.
///
/// # Errors
/// [`DocumentError::Unreadable`], [`DocumentError::TooLarge`] or [`DocumentError::Syntax`].
pub fn read(what: &'static str, path: &Path, limit: u64, dialect: Dialect) -> Result<Value, DocumentError> {
    let bytes = read_bytes(what, path, limit)?;
    parse(&bytes, dialect).map_err(|message| DocumentError::Syntax {
        what,
        path: path.to_owned(),
        message,
    })
}

/// The bytes of the file at `path`, which a user names: links and pipes are fine.
///
/// # Errors
/// [`DocumentError::Unreadable`] or [`DocumentError::TooLarge`].
pub(crate) fn read_bytes(what: &'static str, path: &Path, limit: u64) -> Result<Vec<u8>, DocumentError> {
    let unreadable = |source| DocumentError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(limit) as usize);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        let found = metadata.len().max(bytes.len() as u64);
        return Err(DocumentError::TooLarge {
            what,
            path: path.to_owned(),
            found,
            limit,
        });
    }
    Ok(bytes)
}

/// The bytes of a file that an untrusted program left at `path`: only a regular file is opened (no pipe can block us), no link
/// is followed, at most `limit` bytes are read.
///
/// # Errors
/// [`DocumentError::Unreadable`] or [`DocumentError::TooLarge`].
pub fn read_regular(what: &'static str, path: &Path, limit: u64) -> Result<Vec<u8>, DocumentError> {
    let unreadable = |source| DocumentError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::symlink_metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(limit) as usize);
    let file = File::open(path).map_err(unreadable)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(DocumentError::TooLarge {
            what,
            path: path.to_owned(),
            found: metadata.len(),
            limit,
        });
    }
    Ok(bytes)
}

/// Parses a JSON text.
///
/// # Errors
/// Place and reason, as text for a user.
pub fn parse(bytes: &[u8], dialect: Dialect) -> Result<Value, String> {
    let text = text(bytes)?;
    match dialect {
        Dialect::Strict => strict::strict(text),
        // Most texts have no such token, and it takes time to look for them.
        Dialect::NonFinite => strict::strict(text).or_else(|error| match non_finite::mark(text) {
            Some(marked) => strict::strict(&marked),
            None => Err(error),
        }),
        Dialect::Commented => commented::commented(text),
    }
}

/// The JSON text in a file, without the mark that some editors put before it.
///
/// # Errors
/// Place and reason, as text for a user.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("byte {} is not UTF-8; save the file as UTF-8", error.valid_up_to() + 1))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("the file is empty".into());
    }
    Ok(text)
}

/// The name of the JSON type of `value`, for messages.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.starts_with(NON_FINITE) => "a non-finite number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `value` as compact JSON with sorted keys: equal values have equal texts.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn python_tokens_are_read_outside_strings_only() {
        let value = parse(
            br#"{"a": [NaN, -Infinity, Infinity, 1e400, "NaN"], "b": 1}"#,
            Dialect::NonFinite,
        )
        .unwrap();
        let list = value["a"].as_array().unwrap();
        assert!(non_finite(&list[0]).unwrap().is_nan());
        assert_eq!(non_finite(&list[1]), Some(f64::NEG_INFINITY));
        assert_eq!(non_finite(&list[2]), Some(f64::INFINITY));
        assert_eq!(non_finite(&list[3]), Some(f64::INFINITY));
        assert_eq!(list[4], json!("NaN"));
        assert_eq!(value["b"], json!(1));
    }

    #[test]
    fn non_finite_tokens_are_refused_elsewhere() {
        assert!(parse(b"[NaN]", Dialect::Strict).is_err());
    }

    #[test]
    fn duplicate_keys_are_refused_in_every_dialect() {
        for dialect in [Dialect::Strict, Dialect::NonFinite, Dialect::Commented] {
            let message = parse(br#"{"a": 1, "a": 2}"#, dialect).unwrap_err();
            assert!(message.contains("`a` appears twice"), "{message}");
        }
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused_without_a_stack_overflow() {
        let deep = "[".repeat(200_000);
        for dialect in [Dialect::Strict, Dialect::NonFinite, Dialect::Commented] {
            assert!(parse(deep.as_bytes(), dialect).unwrap_err().contains("nested deeper"));
        }
    }

    #[test]
    fn comments_and_trailing_commas_are_for_task_files() {
        let text = b"{ // how many\n \"maxPoints\": 12, /* and */ \"list\": [1, 2,],\n}";
        assert_eq!(
            parse(text, Dialect::Commented).unwrap(),
            json!({"maxPoints": 12, "list": [1, 2]})
        );
        assert!(parse(text, Dialect::Strict).is_err());
    }

    #[test]
    fn integers_and_floats_keep_their_kind() {
        for dialect in [Dialect::Strict, Dialect::NonFinite, Dialect::Commented] {
            let text = r#"[1,1.0,true,"1",9007199254740993]"#;
            assert_eq!(parse(text.as_bytes(), dialect).unwrap().to_string(), text);
        }
    }

    #[test]
    fn empty_and_foreign_bytes_have_their_own_messages() {
        assert_eq!(parse(b" \n", Dialect::Strict).unwrap_err(), "the file is empty");
        assert!(
            parse(b"{\"a\": \"\xff\"}", Dialect::Strict)
                .unwrap_err()
                .starts_with("byte 8 is not UTF-8")
        );
    }

    #[test]
    fn canonical_text_does_not_depend_on_key_order() {
        let a: Value = serde_json::from_str(r#"{"b":[{"y":1,"x":2}],"a":null}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":null,"b":[{"x":2,"y":1}]}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
    }

    #[test]
    fn a_device_stays_a_device() {
        use std::os::unix::fs::FileTypeExt as _;
        write_atomically(Path::new("/dev/null"), b"gone").unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let folder = std::env::temp_dir().join(format!("protocol-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file.json");
        for content in ["first", "second"] {
            write_atomically(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_but_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            for dialect in [Dialect::Strict, Dialect::NonFinite, Dialect::Commented] {
                let _ = parse(&bytes, dialect);
            }
        }
    }
}
