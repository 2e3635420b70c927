//! What a running evaluation tells its manager, and what it hears back.
//!
//! A payload appends one [`Report`] a line to the file named by `HPO_REPORT_FILE`, and may read a [`Decision`] from the file
//! named by `HPO_DECISION_FILE`. Both are optional.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state of a training after an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Epochs trained so far, from 1.
    pub epoch: u64,
    /// Loss after that epoch; `null` when it is not finite.
    pub loss: Option<f64>,
    /// Other series.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// What the manager wants a running evaluation to do. The file holds one of the words `continue`, `pause`, `stop`, and behind it may
/// stand the epoch whose report it answers, for programs that wait for the answer before they go on: `continue 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Train on.
    Continue,
    /// Write a checkpoint and end; the evaluation will be resumed.
    Pause,
    /// End with the loss so far; the evaluation will not be resumed.
    Stop,
}

impl Decision {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Pause => "pause",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for Decision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.split_whitespace().next().unwrap_or_default();
        match word {
            "continue" => Ok(Self::Continue),
            "pause" => Ok(Self::Pause),
            "stop" => Ok(Self::Stop),
            other => Err(format!("expected `continue`, `pause` or `stop`, found `{other}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_compact_line_and_reads_back() {
        let report = Report {
            epoch: 3,
            loss: Some(0.5),
            metrics: BTreeMap::from([("accuracy".into(), 0.9)]),
        };
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(line, r#"{"epoch":3,"loss":0.5,"metrics":{"accuracy":0.9}}"#);
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }

    #[test]
    fn decisions_are_words() {
        for decision in [Decision::Continue, Decision::Pause, Decision::Stop] {
            assert_eq!(format!("{}\n", decision.as_str()).parse(), Ok(decision));
        }
        assert_eq!("stop 12\n".parse(), Ok(Decision::Stop));
        assert!("halt".parse::<Decision>().is_err());
    }
}
