//! Opening a task directory: to look, or to work.

use std::path::{Path, PathBuf};

use crate::journal::{self, Contents, Record};
use crate::state::{AttemptStatus, Event, State};
use crate::task::{Placement, Request, Settings, Task, TaskDirectory};

use super::error::CliError;

/// A task and its state.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) directory: TaskDirectory,
    pub(super) task: Task,
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) contents: Contents,
}

/// The absolute form of a path, without asking the file system about links.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|source| CliError::io(format!("`{}`", path.display()), source))
}

impl Opened {
    /// Reads a task without changing anything, also while it is running.
    pub(super) fn read(path: &Path) -> Result<Opened, CliError> {
        let directory = TaskDirectory::new(absolute(path)?);
        if !directory.exists() {
            return Err(CliError::Usage(format!(
                "`{}` is not a task directory: it has no `task.json`; `hpo list` shows the tasks in a directory",
                path.display()
            )));
        }
        let (task, mut settings, digest) = Task::read(&directory)?;
        let path = directory.journal();
        let mut state = State::new(settings.retry);
        let mut contents = Contents::default();
        if path.exists() {
            let mut visit = |record| apply(&path, &mut state, &record).map(drop);
            contents.follow(&path, &mut visit)?;
        } else if has_points(&directory) {
            return Err(CliError::Usage(format!(
                "task `{}` has points but no journal; restore `journal` from a copy",
                directory.root().display()
            )));
        }
        settings.extend(state.extended);
        if contents.records == 0 && has_points(&directory) {
            return Err(CliError::Usage(format!(
                "task `{}` has points but an empty journal; restore `journal` from a copy",
                directory.root().display()
            )));
        }
        if let Some((_, recorded)) = &state.created
            && *recorded != digest
        {
            return Err(CliError::Usage(format!(
                "`{}` was changed after the task began; restore it, or begin a new task with another `--taskDir`",
                directory.task_file().display()
            )));
        }
        Ok(Opened {
            directory,
            task,
            settings,
            state,
            contents,
        })
    }

    /// One word for where the task stands, if it has not ended: does anybody work on it?
    pub(super) fn status(&self) -> &'static str {
        if journal::holder(self.directory.root()).is_some() {
            return "running";
        }
        let alive = self.state.running.iter().any(|key| {
            crate::runner::read_claim(&self.directory.attempt(*key))
                .is_some_and(|claim| claim.liveness() == crate::host::Liveness::Alive)
        });
        // Without a manager, evaluations that run go on; a new start adopts them.
        match self.directory.request() {
            _ if alive => "unattended",
            Some(Request::Pause) => "paused",
            _ => "interrupted",
        }
    }

    /// The state in which attempts without a living process are no longer shown as running.
    pub(super) fn truthful_state(&self) -> State {
        let mut state = self.state.clone();
        // Of jobs elsewhere only their manager knows.
        let is_here = self.settings.placement == Placement::Local;
        if is_here && journal::holder(self.directory.root()).is_none() {
            for key in self.state.running.clone() {
                let dead = crate::runner::read_claim(&self.directory.attempt(key))
                    .is_none_or(|claim| claim.liveness() == crate::host::Liveness::Dead);
                if dead
                    && let Some(point) = state.points.get_mut(key.point.0 as usize - 1)
                    && let Some(attempt) = point.attempts.last_mut()
                {
                    attempt.status = AttemptStatus::Lost {
                        reason: "its process is gone".to_owned(),
                    };
                }
            }
        }
        state
    }
}

fn has_points(directory: &TaskDirectory) -> bool {
    std::fs::read_dir(directory.points()).is_ok_and(|mut entries| entries.next().is_some())
}

/// The event of a record.
pub(super) fn event(path: &Path, record: &Record) -> Result<Event, CliError> {
    serde_json::from_str(&record.json).map_err(|error| CliError::Unknown {
        path: path.to_owned(),
        record: record.sequence,
        reason: error.to_string(),
    })
}

/// Replays one record, and returns its event.
pub(super) fn apply(path: &Path, state: &mut State, record: &Record) -> Result<Event, CliError> {
    let event = event(path, record)?;
    state.apply(&event).map_err(|source| CliError::Illegal {
        path: path.to_owned(),
        record: record.sequence,
        source,
    })?;
    Ok(event)
}
