//! The state of a task: a pure function of its journal.

mod event;
mod machine;
mod point;

pub(crate) use event::{AttemptEnd, Event, NewPoint, TaskEnd};
pub(crate) use machine::{IllegalEvent, RetryLimits, State};
pub(crate) use point::{AttemptKey, AttemptStatus, Further, PointId, PointOutcome, PointState};
