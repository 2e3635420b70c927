//! Reading and writing JSON at the border.
//!
//! Strict: UTF-8 only, no duplicate keys, bounded size, depth and strings. Lenient in two places, because real writers are:
//! Python's `NaN`, `Infinity`, `-Infinity` and numbers beyond the range of a double are accepted where a loss stands
//! ([`Dialect::NonFinite`]), and task files may have comments and trailing commas ([`Dialect::Commented`]).

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::DocumentError;
use crate::limits;

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

/// Reads the JSON file at `path`.
///
/// # Errors
/// [`DocumentError::Unreadable`], [`DocumentError::TooLarge`] or [`DocumentError::Syntax`].
pub fn read(what: &'static str, path: &Path, limit: u64, dialect: Dialect) -> Result<Value, DocumentError> {
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
    parse(&bytes, dialect).map_err(|message| DocumentError::Syntax {
        what,
        path: path.to_owned(),
        message,
    })
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
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("byte {} is not UTF-8; save the file as UTF-8", error.valid_up_to() + 1))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("the file is empty".into());
    }
    match dialect {
        Dialect::Strict => strict(text),
        Dialect::NonFinite => match mark_non_finite(text) {
            Some(marked) => strict(&marked),
            None => strict(text),
        },
        Dialect::Commented => commented(text),
    }
}

fn strict(text: &str) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 0 }
        .deserialize(&mut deserializer)
        .map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Comments and trailing commas are removed by a parser that knows them; the checks of [`strict`] then run on what is left.
fn commented(text: &str) -> Result<Value, String> {
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_extended_string_escapes: false,
        allow_non_finite_numbers: false,
    };
    if nesting(text) > limits::DEPTH {
        return Err(format!("nested deeper than {} levels", limits::DEPTH));
    }
    let tree = jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &options)
        .map_err(|error| error.to_string())?;
    let root = tree.value.ok_or("the file holds no value")?;
    from_tree(&root)
}

fn from_tree(value: &jsonc_parser::ast::Value<'_>) -> Result<Value, String> {
    use jsonc_parser::ast::Value as Node;
    Ok(match value {
        Node::NullKeyword(_) => Value::Null,
        Node::BooleanLit(literal) => Value::Bool(literal.value),
        Node::NumberLit(literal) => {
            serde_json::from_str(literal.value).map_err(|_| format!("`{}` is not a number", literal.value))?
        }
        Node::StringLit(literal) => Value::String(checked_string(&literal.value)?.to_owned()),
        Node::Array(array) => Value::Array(array.elements.iter().map(from_tree).collect::<Result<_, _>>()?),
        Node::Object(object) => {
            let mut map = Map::new();
            for property in &object.properties {
                let key = checked_key(property.name.as_str())?;
                if map.insert(key.to_owned(), from_tree(&property.value)?).is_some() {
                    return Err(duplicate_key(key));
                }
            }
            Value::Object(map)
        }
    })
}

/// The deepest nesting of brackets outside strings and comments; an upper bound, computed without recursion.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Replaces the non-finite tokens outside strings by marked strings, and numbers that overflow a double by infinities.
/// Nothing to replace: `None`.
fn mark_non_finite(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'N' | b'I' | b'-' | b'0'..=b'9' => {
                let end = at
                    + bytes[at..]
                        .iter()
                        .position(|byte| !is_token(*byte))
                        .unwrap_or(bytes.len() - at);
                let token = &text[at..end];
                if let Some(name) = non_finite_token(token) {
                    out.push_str(&text[copied..at]);
                    out.push_str("\"\\u0001");
                    out.push_str(name);
                    out.push('"');
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    (copied > 0).then(|| {
        out.push_str(&text[copied..]);
        out
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn non_finite_token(token: &str) -> Option<&'static str> {
    match token {
        "NaN" => Some("NaN"),
        "Infinity" => Some("Infinity"),
        "-Infinity" => Some("-Infinity"),
        number if number.contains(['e', 'E']) || number.len() > 300 => {
            let value: f64 = number.parse().ok()?;
            value
                .is_infinite()
                .then_some(if value > 0.0 { "Infinity" } else { "-Infinity" })
        }
        _ => None,
    }
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn duplicate_key(key: &str) -> String {
    format!("the key `{key}` appears twice in one object")
}

fn checked_key(key: &str) -> Result<&str, String> {
    if key.len() > limits::KEY_BYTES {
        return Err(format!(
            "a key has {} bytes, at most {} are allowed",
            key.len(),
            limits::KEY_BYTES
        ));
    }
    Ok(key)
}

fn checked_string(text: &str) -> Result<&str, String> {
    if text.len() > limits::STRING_BYTES {
        return Err(format!(
            "a string has {} bytes, at most {} are allowed",
            text.len(),
            limits::STRING_BYTES
        ));
    }
    Ok(text)
}

/// Builds a [`Value`], refusing what [`serde_json`] lets pass: duplicate keys, deep nesting, long strings.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == limits::DEPTH {
            return Err(E::custom(format!("nested deeper than {} levels", limits::DEPTH)));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
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
        let mut array = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            checked_key(&key).map_err(A::Error::custom)?;
            let value = access.next_value_seed(inner)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(duplicate_key(&key)));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Writes `bytes` to `path` so that a reader sees the old file or the whole new one, also after a power cut: temporary file in
/// the same directory, fsync, rename, fsync of the directory. A device or a pipe is written to and stays what it is.
///
/// # Errors
/// What the system says; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return File::options().write(true).open(path)?.write_all(bytes);
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let temporary = temporary_name(path);
    let written = File::options()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

fn temporary_name(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{count}.tmp", std::process::id()));
    path.with_file_name(name)
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
