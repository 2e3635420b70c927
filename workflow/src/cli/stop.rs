//! `hpo kill`: the task is over for good, until `hpo retry`.

use std::fs;
use std::time::Duration;

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::{RetryArguments, TaskArguments};
use super::error::CliError;
use super::open::Opened;
use super::output::{Output, print, remark};
use super::run;
use crate::journal;

struct Killed<'a> {
    name: &'a str,
    status: &'a str,
}

impl Output for Killed<'_> {
    fn json(&self) -> Value {
        json!({"task": self.name, "status": self.status})
    }
    fn text(&self) -> String {
        format!(
            "{} is {}; `hpo retry` would go on with it\n",
            crate::report::escape(self.name),
            self.status
        )
    }
}

pub(super) fn kill(arguments: &TaskArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    if opened.state.end.is_none() {
        let request = opened.directory.kill_request();
        fs::write(&request, b"")
            .map_err(|source| CliError::io(format!("`{}` cannot be written", request.display()), source))?;
        if let Some(holder) = journal::holder(opened.directory.root()) {
            remark(&format!("asking process {} to end its evaluations", holder.pid));
            // Its own turn is a second; its evaluations have their grace.
            while journal::holder(opened.directory.root()).is_some() {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        if Opened::read(&arguments.directory)?.state.end.is_none() {
            // Nobody is there to do it, so this process becomes the manager for that.
            let quiet = RetryArguments {
                directory: arguments.directory.clone(),
                take_over: false,
                json: false,
                quiet: true,
            };
            run::wind_up(&quiet)?;
        }
    }
    let opened = Opened::read(&arguments.directory)?;
    let document = crate::report::show(&opened.task, &opened.state, opened.status());
    let status = document["status"].as_str().unwrap_or("?");
    print(
        &Killed {
            name: &opened.task.name,
            status,
        },
        arguments.json,
    )?;
    Ok(exit::DONE)
}
