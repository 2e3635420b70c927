//! `hpo watch`: what is going on in a task that somebody else runs.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use protocol::exit;
use serde_json::json;

use super::arguments::WatchArguments;
use super::error::CliError;
use super::inspect::headline;
use super::open::{Opened, apply};
use super::output::{print_line, remark};
use crate::coordinator::Observer;
use crate::report::{self, Live, last_report, number, sentence};
use crate::state::{AttemptKey, Event, State, TaskEnd};

/// Between two looks at the journal.
const LOOK: Duration = Duration::from_millis(500);

/// Follows the journal until the task is over or nobody works on it any more.
pub(super) fn watch(arguments: &WatchArguments) -> Result<u8, CliError> {
    let mut opened = Opened::read(&arguments.directory)?;
    let path = opened.directory.journal();
    let points = opened.settings.max_points * opened.task.segments.len().max(1) as u32;
    let is_live = std::io::stdout().is_terminal() && std::io::stderr().is_terminal() && !arguments.json;
    let mut live = is_live.then(|| Live::new(opened.directory.clone(), points));
    let mut epochs: BTreeMap<AttemptKey, u64> = BTreeMap::new();
    if arguments.json {
        let shown = report::show(&opened.task, &opened.truthful_state(), opened.status());
        let line =
            json!({"event": "watching", "status": shown["status"], "counts": shown["counts"], "best": shown["best"]});
        print_line(&line.to_string())?;
    } else {
        print_line(headline(&opened).trim_end())?;
    }
    if let Some(end) = opened.state.end.clone() {
        // It was over before anybody looked.
        if arguments.json {
            print_line(&json!({"event": "ended", "end": end}).to_string())?;
        } else if let Some(text) = sentence(&Event::Ended { end, time: 0.0 }, &opened.state, points) {
            print_line(&report::escape(&text))?;
        }
    }
    loop {
        // Looked at before the journal: what the manager wrote until its end is then seen.
        let status = opened.status();
        let state = &mut opened.state;
        if path.exists() {
            let mut visit = |record| -> Result<(), CliError> {
                let event = apply(&path, state, &record)?;
                if arguments.json {
                    print_line(&json!(event).to_string())?;
                } else if let Some(live) = &mut live {
                    live.event(&event, state);
                } else if let Some(text) = sentence(&event, state, points) {
                    print_line(&report::escape(&text))?;
                }
                Ok(())
            };
            opened.contents.follow(&path, &mut visit)?;
        }
        match &mut live {
            Some(live) => live.tick(&opened.state),
            None => tell_epochs(&opened, &mut epochs, arguments.json)?,
        }
        let code = match &opened.state.end {
            Some(TaskEnd::Finished { .. }) if opened.state.best().is_some() => Some(exit::DONE),
            Some(_) => Some(exit::FAILED),
            None if status == "running" => None,
            None => Some(exit::INTERRUPTED),
        };
        if let Some(code) = code {
            if let Some(live) = &live {
                live.clear();
            }
            if opened.state.end.is_none() {
                let root = opened.directory.root().display();
                remark(&format!(
                    "nobody works on this task, it is {status}; `hpo resume {root}` goes on"
                ));
            }
            return Ok(code);
        }
        std::thread::sleep(LOOK);
    }
}

/// One line for each running evaluation that has come further.
fn tell_epochs(opened: &Opened, epochs: &mut BTreeMap<AttemptKey, u64>, json: bool) -> Result<(), CliError> {
    let State { running, .. } = &opened.state;
    epochs.retain(|key, _| running.contains(key));
    for key in running {
        let Some(found) = last_report(&opened.directory.attempt(*key).join("report.jsonl")) else {
            continue;
        };
        if epochs.insert(*key, found.epoch) == Some(found.epoch) {
            continue;
        }
        if json {
            let line = json!({
                "event": "progress", "point": key.point, "attempt": key.attempt, "epoch": found.epoch, "loss": found.loss,
            });
            print_line(&line.to_string())?;
        } else {
            let loss = found
                .loss
                .map(|loss| format!(", loss {}", number(loss)))
                .unwrap_or_default();
            print_line(&format!("{key}: epoch {}{loss}", found.epoch))?;
        }
    }
    Ok(())
}
