//! What can happen to a task. These types are the journal's format: a change raises its version.

use protocol::{Loss, Point, SegmentId};
use serde::{Deserialize, Serialize};

use super::point::PointId;
use crate::host::ProcessIdentity;

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Event {
    /// The first record: which `task.json` the journal belongs to.
    Created { task: String, digest: String },
    /// A manager began to work.
    Started {
        process: ProcessIdentity,
        version: String,
        time: f64,
    },
    /// Steering answered; these are the points of its answer that were taken, in order.
    ///
    /// An answer with no points is the end of the search. A long answer is written as several records.
    Iteration {
        number: u32,
        asked: u32,
        points: Vec<NewPoint>,
    },
    /// A run of steering gave no usable answer.
    SteeringFailed { number: u32, reason: String },
    /// The attempt will be started by a process of boot `boot_id`; nothing of it exists before this record does.
    Intent {
        point: PointId,
        attempt: u32,
        job: u32,
        boot_id: String,
        /// Its share of the machine, where that is divided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<u32>,
    },
    /// The attempt has come to these epochs, with these losses; `null` for what was no number. Recorded only where decisions
    /// depend on it.
    Reported {
        point: PointId,
        attempt: u32,
        reports: Vec<(u64, Option<f64>)>,
    },
    /// The evaluation of the point is not worth going on after this epoch; it will be told so.
    EndedEarly {
        point: PointId,
        attempt: u32,
        epoch: u64,
        reason: String,
    },
    /// The attempt is over.
    AttemptEnded {
        point: PointId,
        attempt: u32,
        end: AttemptEnd,
        seconds: f64,
        time: f64,
    },
    /// The task is over.
    Ended { end: TaskEnd, time: f64 },
    /// From here on the search has so many points, in each segment if it has segments.
    Extended { max_points: u32, time: f64 },
    /// The user wants failed points, or the failed task, to be tried again.
    Reopened { time: f64 },
}

impl Event {
    /// Whether an attempt or the task is over with it.
    pub(crate) fn is_an_end(&self) -> bool {
        matches!(self, Event::AttemptEnded { .. } | Event::Ended { .. })
    }
}

/// A point as steering proposed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPoint {
    pub(crate) id: PointId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) segment: Option<SegmentId>,
    pub(crate) point: Point,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum AttemptEnd {
    /// With a loss.
    Done {
        loss: Loss,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        losses: Vec<(String, f64)>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// The archive below `metrics/`, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metrics: Option<String>,
        /// Whether the attempt left metadata.
        #[serde(default)]
        metadata: bool,
    },
    /// Through the payload's own fault; counts towards the attempts of the point.
    Failed { reason: String },
    /// Through no fault of the payload; has its own limit.
    Lost { reason: String },
    /// By order of the user; counts nothing.
    Stopped,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum TaskEnd {
    /// The search is over; `reason` says why no further point is tried.
    Finished { reason: String },
    /// Steering cannot go on.
    Failed { reason: String },
    /// The user ended it.
    Killed,
}
