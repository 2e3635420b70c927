//! `output.json`: what an evaluation has to say about its point.
//!
//! `{"status": 0, "loss": 0.27, "message": "ok"}`; `status` and `message` are optional, a `status` other than 0 means failure.
//! Read as the PanDA job wrapper and its server read it: a loss may be a string that Python's `float` takes; a status that is a
//! string or null is a failure.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::DocumentError;
use crate::json::{self, Dialect};
use crate::limits;
use crate::point::Loss;

/// The loss document as we write it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossDocument {
    /// 0 for success.
    pub status: i64,
    /// The loss; absent in a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// A sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl LossDocument {
    /// A success.
    #[must_use]
    pub fn success(loss: Loss, message: impl Into<String>) -> Self {
        Self {
            status: 0,
            loss: Some(loss),
            message: message.into(),
        }
    }

    /// A failure.
    #[must_use]
    pub fn failure(message: impl Into<String>) -> Self {
        Self {
            status: 1,
            loss: None,
            message: message.into(),
        }
    }

    /// Writes the document atomically.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        json::write_atomically(path, text.as_bytes())
    }
}

/// What a payload's loss document means.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// A usable loss.
    Loss {
        /// The loss.
        loss: Loss,
        /// Further losses by name, for searches with several objectives.
        losses: Vec<(String, f64)>,
        /// The payload's message, if any.
        message: Option<String>,
    },
    /// No usable loss; the reason, for people.
    Failure {
        /// The payload's message, or what is wrong with its document.
        reason: String,
    },
}

/// Interprets the text of a loss document.
#[must_use]
pub fn interpret(bytes: &[u8]) -> Verdict {
    match json::parse(bytes, Dialect::NonFinite) {
        Ok(Value::Object(document)) => interpret_object(&document),
        Ok(other) => failure(format!(
            "the loss document is {}, expected an object with `loss`",
            json::type_name(&other)
        )),
        Err(message) => failure(format!("the loss document is not valid JSON: {message}")),
    }
}

fn failure(reason: impl Into<String>) -> Verdict {
    Verdict::Failure { reason: reason.into() }
}

fn interpret_object(document: &Map<String, Value>) -> Verdict {
    let message = document
        .get("message")
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    match document.get("status") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Number(status)) if status.as_f64() == Some(0.0) => {}
        Some(status) => {
            let status = if json::non_finite(status).is_some() {
                "a non-finite number".into()
            } else {
                status.to_string()
            };
            return failure(match message {
                Some(message) => format!("status {status}: {message}"),
                None => format!("status {status} without a message"),
            });
        }
    }
    let Some(loss) = document.get("loss") else {
        return failure("the loss document has no `loss`");
    };
    match number(loss).map(|value| (value, Loss::new(value))) {
        Some((_, Some(loss))) => Verdict::Loss {
            loss,
            losses: further_losses(document),
            message,
        },
        Some((value, None)) => failure(format!(
            "the loss is {value}, expected a finite number below {:e}",
            limits::HUGE_LOSS
        )),
        None => failure(format!("the loss is {}, expected a number", json::type_name(loss))),
    }
}

fn further_losses(document: &Map<String, Value>) -> Vec<(String, f64)> {
    match document.get("losses") {
        Some(Value::Object(map)) => map
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), number(value)?)))
            .collect(),
        _ => Vec::new(),
    }
}

/// A number, also one written as a string, as Python's `float` takes it.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(_) if json::non_finite(value).is_some() => json::non_finite(value),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Reads the loss document that a payload left at `path`. Only a regular file is opened, and no link is followed.
///
/// # Errors
/// [`DocumentError::Unreadable`] when there is no such file or it is not a regular one, [`DocumentError::TooLarge`].
pub fn read(path: &Path) -> Result<Verdict, DocumentError> {
    json::read_regular("loss document", path, limits::LOSS_DOCUMENT_BYTES).map(|bytes| interpret(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss_of(text: &str) -> Option<f64> {
        match interpret(text.as_bytes()) {
            Verdict::Loss { loss, .. } => Some(loss.get()),
            Verdict::Failure { .. } => None,
        }
    }

    fn reason_of(text: &str) -> String {
        match interpret(text.as_bytes()) {
            Verdict::Loss { loss, .. } => panic!("a loss of {loss:?}"),
            Verdict::Failure { reason } => reason,
        }
    }

    #[test]
    fn documents_that_the_real_wrapper_accepts_are_accepted() {
        for (text, loss) in [
            (r#"{"status":0,"loss":1.5}"#, 1.5),
            (r#"{"loss":1.5}"#, 1.5),
            (r#"{"status":false,"loss":2}"#, 2.0),
            (r#"{"loss":"0.25"}"#, 0.25),
            (r#"{"loss":0.0,"status":0.0}"#, 0.0),
        ] {
            assert_eq!(loss_of(text), Some(loss), "{text}");
        }
    }

    #[test]
    fn failures_say_why() {
        for (text, reason) in [
            (r#"{"status":1,"loss":1.5,"message":"m"}"#, "status 1: m"),
            (r#"{"status":"0","loss":1}"#, "status \"0\" without a message"),
            (r#"{"status":null,"loss":1}"#, "status null without a message"),
            (r#"{"status":0}"#, "the loss document has no `loss`"),
            (r#"{"loss":null}"#, "the loss is null, expected a number"),
            (
                r#"{"loss":NaN}"#,
                "the loss is NaN, expected a finite number below 1e30",
            ),
            (
                r#"{"loss":1e999}"#,
                "the loss is inf, expected a finite number below 1e30",
            ),
            (r#"{"loss":true}"#, "the loss is a boolean, expected a number"),
            (r#"{"loss":[1]}"#, "the loss is a list, expected a number"),
            ("[1]", "the loss document is a list, expected an object with `loss`"),
            ("", "the loss document is not valid JSON: the file is empty"),
        ] {
            assert_eq!(reason_of(text), reason, "{text}");
        }
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        let text = serde_json::to_string(&LossDocument::success(Loss::new(0.5).unwrap(), "")).unwrap();
        assert_eq!(text, r#"{"status":0,"loss":0.5}"#);
        assert_eq!(loss_of(&text), Some(0.5));
        let text = serde_json::to_string(&LossDocument::failure("diverged")).unwrap();
        assert_eq!(reason_of(&text), "status 1: diverged");
    }
}
