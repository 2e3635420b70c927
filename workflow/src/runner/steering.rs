//! The runner of steering: the same control as for a payload, but it dies with the manager.
//!
//! Nothing is lost by that: an answer that the manager has not read is asked for again, and comes out the same.

use std::io;
use std::path::Path;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::supervise::{Ended, Idle, Launch, Signals, supervise};
use crate::files::{self, Durability};

/// How a run of steering ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SteeringEnd {
    pub(crate) ended: Option<Ended>,
    /// Why it could not be started.
    pub(crate) error: Option<String>,
}

/// Runs what `launch.json` in `directory` says, and leaves `end.json`.
pub(super) fn run(directory: &Path) -> io::Result<()> {
    let _ = rustix::process::setsid();
    let signals = Signals::install()?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let launch: Launch = serde_json::from_slice(&std::fs::read(directory.join("launch.json"))?)?;
    let end = match supervise(&launch, &signals, &mut Idle) {
        Ok(ended) => SteeringEnd {
            ended: Some(ended),
            error: None,
        },
        Err(error) => SteeringEnd {
            ended: None,
            error: Some(error.to_string()),
        },
    };
    files::write_whole(
        &directory.join("end.json"),
        &serde_json::to_vec(&end)?,
        Durability::Crash,
    )
}

/// Reads how the run in `directory` ended.
pub(crate) fn read_end(directory: &Path) -> Option<SteeringEnd> {
    serde_json::from_slice(&std::fs::read(directory.join("end.json")).ok()?).ok()
}
