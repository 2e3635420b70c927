//! The command of an evaluation in the templates of PanDA.
//!
//! Its clients translate six placeholders wherever they stand in a command, without a look at what follows them. A word with a
//! placeholder becomes a template, which the server fills in for each job; everything else is a constant, percent-encoded.

use std::fmt::Write as _;

use regex::Regex;
use serde_json::{Value, json};

/// Placeholders in the order in which they are replaced: the name for the server, and how users spell it.
const PLACEHOLDERS: [(&str, &str); 6] = [
    (SEQUENCE, r"%RNDM(?::|=)(\d+)%?"),
    ("DBR", r#"%DB(?::|=)([^ '"}]+)"#),
    ("SKIPEVENTS", "%SKIPEVENTS()"),
    ("FIRSTEVENT", r"%FIRSTEVENT(?::|=)(\d+)%?"),
    ("MAXEVENTS", "%MAXEVENTS()"),
    ("SEGMENT_NAME", "%SEGMENT_NAME()"),
];

/// The number of the job, counted from an offset.
const SEQUENCE: &str = "SEQNUMBER";

/// The parts of a command, in their order; together they are the command.
pub(super) fn parts(command: &str) -> Vec<Value> {
    let mut text = command.to_owned();
    let mut offsets: Vec<(&str, i64)> = Vec::new();
    for (name, spelling) in PLACEHOLDERS {
        let spelling = Regex::new(spelling).expect("the patterns are valid");
        let offset = spelling.captures(&text).and_then(|found| found[1].parse().ok());
        offsets.extend(offset.map(|offset| (name, offset)));
        text = spelling
            .replace_all(&text, regex::NoExpand(&format!("${{{name}}}")))
            .into_owned();
    }
    let words: Vec<String> = PLACEHOLDERS
        .iter()
        .map(|(name, _)| format!(r#"[^=,"' \(\{{;]*\$\{{{name}[^\}}]*\}}[^,"' \)\}};]*"#))
        .collect();
    let words = Regex::new(&words.join("|")).expect("the patterns are valid");
    let mut parts = Vec::new();
    let mut end = 0;
    for word in words.find_iter(&text) {
        parts.push(constant(&text[end..word.start()]));
        parts.push(template(word.as_str(), &offsets));
        end = word.end();
    }
    parts.push(constant(&text[end..]));
    parts
}

fn constant(text: &str) -> Value {
    json!({"type": "constant", "value": percent_encoded(text), "padding": false})
}

fn template(word: &str, offsets: &[(&str, i64)]) -> Value {
    let name = word
        .split("${")
        .nth(1)
        .map_or("", |rest| &rest[..rest.find([':', '}']).unwrap_or(rest.len())]);
    let mut part = if name == SEQUENCE {
        json!({"type": "template", "value": word, "param_type": "pseudo_input", "dataset": "seq_number"})
    } else {
        json!({"type": "template", "value": word, "param_type": "number"})
    };
    if let Some((_, offset)) = offsets.iter().find(|(known, _)| *known == name) {
        part["offset"] = (*offset).into();
    }
    part["padding"] = false.into();
    part
}

/// `text` with everything but letters, digits and `_.-~/` as `%` and two digits a byte.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~/".contains(&byte) {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_placeholders_are_templates_and_the_rest_is_encoded() {
        let found = parts(r#"python a.py --name="%SEGMENT_NAME" --job %RNDM:5 %IN_DATA"#);
        assert_eq!(
            found,
            [
                json!({"type": "constant", "value": "python%20a.py%20--name%3D%22", "padding": false}),
                json!({"type": "template", "value": "${SEGMENT_NAME}", "param_type": "number", "padding": false}),
                json!({"type": "constant", "value": "%22%20--job%20", "padding": false}),
                json!({"type": "template", "value": "${SEQNUMBER}", "param_type": "pseudo_input", "dataset": "seq_number",
                       "offset": 5, "padding": false}),
                json!({"type": "constant", "value": "%20%25IN_DATA", "padding": false}),
            ]
        );
    }

    #[test]
    fn an_empty_command_is_one_empty_constant() {
        assert_eq!(parts(""), [json!({"type": "constant", "value": "", "padding": false})]);
    }
}
