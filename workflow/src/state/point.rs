//! Points and attempts.

use std::fmt;
use std::str::FromStr;

use protocol::{Loss, Outcome, Point, PointValue, SegmentId};
use serde::{Deserialize, Serialize};

/// Serial number of a point, from 1; a decimal string wherever people or programs see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PointId(pub(crate) u32);

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PointId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<PointId, Self::Err> {
        text.parse().map(PointId)
    }
}

impl Serialize for PointId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PointId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PointId, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Names an attempt within its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptKey {
    pub(crate) point: PointId,
    /// From 1.
    pub(crate) attempt: u32,
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "point {} attempt {}", self.point, self.attempt)
    }
}

/// Where an attempt stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AttemptStatus {
    /// Started, or about to be.
    Running {
        boot_id: String,
    },
    Done,
    Failed {
        reason: String,
    },
    Lost {
        reason: String,
    },
    Stopped,
}

impl AttemptStatus {
    /// One word for tables and JSON.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            AttemptStatus::Running { .. } => "running",
            AttemptStatus::Done => "done",
            AttemptStatus::Failed { .. } => "failed",
            AttemptStatus::Lost { .. } => "lost",
            AttemptStatus::Stopped => "stopped",
        }
    }

    /// Why it did not end well.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            AttemptStatus::Failed { reason } | AttemptStatus::Lost { reason } => Some(reason),
            _ => None,
        }
    }
}

/// One attempt of a point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    /// The evaluation job that it belongs to, from 1.
    pub(crate) job: u32,
    /// Position within the job, from 0.
    pub(crate) index_in_job: u32,
    /// Its share of the machine, where that is divided.
    pub(crate) slot: Option<u32>,
    pub(crate) status: AttemptStatus,
    pub(crate) seconds: f64,
    /// Seconds since 1970 when its end was recorded; 0 before.
    pub(crate) time: f64,
}

/// What became of a point so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PointOutcome {
    Open,
    Done {
        loss: Loss,
        losses: Vec<(String, f64)>,
        message: Option<String>,
        metrics: Option<String>,
        metadata: bool,
        attempt: u32,
    },
    /// Its attempts are exhausted.
    Failed {
        /// Whether the payload was at fault.
        by_payload: bool,
    },
}

/// A point and all that happened to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PointState {
    pub(crate) id: PointId,
    pub(crate) segment: Option<SegmentId>,
    pub(crate) point: Point,
    pub(crate) iteration: u32,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) outcome: PointOutcome,
    /// Failures by the payload since the point was opened.
    pub(crate) failures: u32,
    /// Losses through no fault of the payload since then.
    pub(crate) lost: u32,
    /// Epochs, rising, with the losses that were reported; empty where no decision depends on them.
    pub(crate) reports: Vec<(u64, Option<f64>)>,
    /// The epoch after which it is not worth going on, if that was decided.
    pub(crate) stopped: Option<u64>,
}

impl PointState {
    /// Whether an attempt is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.attempts
            .last()
            .is_some_and(|attempt| matches!(attempt.status, AttemptStatus::Running { .. }))
    }

    /// The outcome in the words of the border.
    pub(crate) fn wire_outcome(&self) -> Outcome {
        match &self.outcome {
            PointOutcome::Open => Outcome::Pending,
            PointOutcome::Done { loss, .. } => Outcome::Done { loss: *loss },
            PointOutcome::Failed { .. } => Outcome::Failed,
        }
    }

    /// The loss, if there is one.
    pub(crate) fn loss(&self) -> Option<Loss> {
        match &self.outcome {
            PointOutcome::Done { loss, .. } => Some(*loss),
            _ => None,
        }
    }

    /// The epoch after which it ended, if it was ended early; one that did not hear of it in time was trained in full.
    pub(crate) fn ended_early(&self) -> Option<u64> {
        let (reached, _) = self.reports.last()?;
        let granted = self.point.reserved("epochs").and_then(PointValue::as_u64);
        let is_full = granted.is_some_and(|granted| *reached >= granted);
        (self.stopped.is_some() && self.loss().is_some() && !is_full).then_some(*reached)
    }

    /// What orders points with a loss, the best first: those that were trained on all data, then the loss, then the id.
    pub(crate) fn merit(&self) -> (bool, u64, PointId) {
        let share = self.point.reserved("frac").and_then(PointValue::as_f64);
        let loss = self.loss().map_or(f64::INFINITY, Loss::get);
        // The bits of a number in an order of their own: as `total_cmp` has it.
        let bits = loss.to_bits();
        let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        (share.is_some_and(|share| share < 1.0), ordered, self.id)
    }

    /// One word for tables and JSON.
    pub(crate) fn word(&self) -> &'static str {
        match &self.outcome {
            PointOutcome::Done { .. } => "done",
            PointOutcome::Failed { .. } => "failed",
            PointOutcome::Open if self.is_running() => "running",
            PointOutcome::Open => "pending",
        }
    }
}
