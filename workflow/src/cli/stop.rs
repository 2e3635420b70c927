//! `hpo kill`, `hpo finish`, `hpo pause`: what a user asks of a task that runs.

use std::time::Duration;

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::{FinishArguments, TaskArguments};
use super::error::CliError;
use super::open::Opened;
use super::output::{Output, print, remark};
use super::run;
use crate::journal;
use crate::task::Request;

/// Between two looks whether a manager has done what it was asked for.
const LOOK: Duration = Duration::from_millis(100);

struct Stopped<'a> {
    name: &'a str,
    status: &'a str,
    directory: String,
}

impl Output for Stopped<'_> {
    fn json(&self) -> Value {
        json!({"task": self.name, "status": self.status, "directory": self.directory})
    }
    fn text(&self) -> String {
        let next = match self.status {
            "paused" => "; `hpo resume` goes on with it",
            "killed" | "finished" => "; `hpo retry` would go on with it",
            _ => "",
        };
        format!("{} is {}{next}\n", crate::report::escape(self.name), self.status)
    }
}

pub(super) fn finish(arguments: &FinishArguments) -> Result<u8, CliError> {
    let request = if arguments.soft {
        Request::FinishSoftly
    } else {
        Request::Finish
    };
    let task = TaskArguments {
        directory: arguments.directory.clone(),
        json: arguments.json,
    };
    stop(&task, request)
}

/// Tells the manager, or becomes it where there is none, and says what came of it.
pub(super) fn stop(arguments: &TaskArguments, request: Request) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let directory = &opened.directory;
    if opened.state.end.is_none() {
        directory.ask(request).map_err(|source| {
            let root = directory.root().display();
            CliError::io(format!("`{root}`: the request cannot be written"), source)
        })?;
        if let Some(holder) = journal::holder(directory.root()) {
            if request == Request::FinishSoftly {
                remark(&format!(
                    "process {} starts no more evaluations; the task is over when those that run are, `hpo watch` shows it",
                    holder.pid
                ));
                return Ok(exit::DONE);
            }
            remark(&format!("asking process {} to end its evaluations", holder.pid));
            // Its own turn is a second; its evaluations have their grace.
            while journal::holder(directory.root()).is_some() {
                std::thread::sleep(LOOK);
            }
        }
        let now = Opened::read(&arguments.directory)?;
        let is_done = now.state.end.is_some() || request == Request::Pause && now.state.running.is_empty();
        if !is_done {
            // Nobody is there to do it, so this process becomes the manager for that.
            run::wind_up(directory)?;
        }
    }
    let opened = Opened::read(&arguments.directory)?;
    let document = crate::report::show(&opened.task, &opened.state, opened.status());
    let status = document["status"].as_str().unwrap_or("?");
    print(
        &Stopped {
            name: &opened.task.name,
            status,
            directory: opened.directory.root().display().to_string(),
        },
        arguments.json,
    )?;
    Ok(exit::DONE)
}
