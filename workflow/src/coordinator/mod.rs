//! The loop that connects steering, the journal and a backend.

mod attempts;
mod drive;
mod ends;
mod keeping;
mod plan;
mod settle;
#[cfg(test)]
mod simulation;
mod starts;
mod steering;
mod watch;

pub(crate) use attempts::plan_orders;
pub(crate) use drive::{Coordinator, CoordinatorError, Flow, Halt, Observer, now};
pub(crate) use keeping::source;
pub(crate) use plan::points_to_ask;
pub(crate) use steering::history;
