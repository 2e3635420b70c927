//! Commands that look and change nothing: `show`, `best`, `list`.

use std::fmt::Write as _;
use std::fs;

use protocol::exit;
use serde_json::{Value, json};
use steering::objectives::Objectives;

use super::arguments::{ListArguments, ShowArguments, TaskArguments};
use super::error::CliError;
use super::open::Opened;
use super::output::{Output, print, remark};
use crate::report::{self, escape, escape_lines, number, point_json, seconds, table, width};
use crate::state::{PointId, PointState, State};
use crate::task::Task;

/// Rows of points for people.
pub(super) fn point_table(task: &Task, points: &[&PointState]) -> String {
    let segmented = !task.segments.is_empty();
    let mut header = vec!["id"];
    if segmented {
        header.push("segment");
    }
    header.extend(["status", "loss", "attempts", "time", "point"]);
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|point| {
            let mut row = vec![point.id.to_string()];
            if segmented {
                row.push(task.segment_name(point.segment).unwrap_or("?").to_owned());
            }
            let time: f64 = point.attempts.iter().map(|attempt| attempt.seconds).sum();
            let values: Vec<String> = point
                .point
                .iter()
                .map(|(key, value)| {
                    let value = value
                        .as_f64()
                        .filter(|_| value.is_real())
                        .map_or_else(|| value.to_string(), number);
                    format!("{}={}", escape(key), escape(&value))
                })
                .collect();
            row.extend([
                point.word().to_owned(),
                point.loss().map_or_else(|| "-".to_owned(), |loss| number(loss.get())),
                point.attempts.len().to_string(),
                seconds(time),
                values.join(" "),
            ]);
            row
        })
        .collect();
    table(&header, &rows, width())
}

struct Shown<'a> {
    task: &'a Task,
    state: &'a State,
    status: &'static str,
}

impl Output for Shown<'_> {
    fn json(&self) -> Value {
        report::show(self.task, self.state, self.status)
    }

    fn text(&self) -> String {
        let document = self.json();
        let mut text = counted(&self.task.name, &document);
        if let Some(reason) = document["reason"].as_str() {
            let _ = writeln!(text, "{}", escape(reason));
        }
        let points: Vec<&PointState> = self.state.points.iter().collect();
        text.push_str(&point_table(self.task, &points));
        if let Some(objectives) = report::objectives(self.task) {
            let _ = writeln!(text, "\non the front of {}:", escape(&objectives.to_string()));
            text.push_str(&front_text(self.task, self.state, &objectives));
        }
        text
    }
}

/// One line of where a task stands.
fn counted(name: &str, document: &Value) -> String {
    let count = |word: &str| document["counts"][word].as_u64().unwrap_or(0);
    format!(
        "{}: {}, {} points: {} done, {} failed, {} running, {} pending\n",
        escape(name),
        document["status"].as_str().unwrap_or("?"),
        count("points"),
        count("done"),
        count("failed"),
        count("running"),
        count("pending")
    )
}

/// The same of a task that was opened, with the best so far.
pub(super) fn headline(opened: &Opened) -> String {
    let state = opened.truthful_state();
    let document = report::show(&opened.task, &state, opened.status());
    let mut text = counted(&opened.task.name, &document);
    if let Some(best) = state.best() {
        let loss = best.loss().map_or(f64::NAN, protocol::Loss::get);
        let _ = writeln!(text, "best so far: loss {} (point {})", number(loss), best.id);
    }
    text
}

struct OnePoint<'a> {
    task: &'a Task,
    point: &'a PointState,
}

impl Output for OnePoint<'_> {
    fn json(&self) -> Value {
        point_json(self.task, self.point, None)
    }

    fn text(&self) -> String {
        let mut text = point_table(self.task, &[self.point]);
        let values = serde_json::to_string_pretty(&self.point.point).unwrap_or_default();
        let _ = writeln!(text, "{}", escape_lines(&values));
        for (index, attempt) in self.point.attempts.iter().enumerate() {
            let reason = attempt
                .status
                .reason()
                .map(|reason| format!(": {}", escape(reason)))
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "attempt {}: {} after {} in evaluation job {}{reason}",
                index + 1,
                attempt.status.word(),
                seconds(attempt.seconds),
                attempt.job
            );
        }
        text
    }
}

pub(super) fn show(arguments: &ShowArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let state = opened.truthful_state();
    if let Some(id) = arguments.point {
        let point = find(&state, id)?;
        print(
            &OnePoint {
                task: &opened.task,
                point,
            },
            arguments.json,
        )?;
    } else {
        print(
            &Shown {
                task: &opened.task,
                state: &state,
                status: opened.status(),
            },
            arguments.json,
        )?;
    }
    Ok(exit::DONE)
}

pub(super) fn find(state: &State, id: u32) -> Result<&PointState, CliError> {
    state.point(PointId(id)).ok_or_else(|| {
        CliError::Usage(format!(
            "there is no point {id}; the task has points 1 to {}",
            state.points.len()
        ))
    })
}

struct Best<'a> {
    task: &'a Task,
    state: &'a State,
}

impl Output for Best<'_> {
    fn json(&self) -> Value {
        let document = report::show(self.task, self.state, "");
        let mut best = document["best"].clone();
        for key in ["best_of_segments", "front"] {
            if let (Some(best), Some(value)) = (best.as_object_mut(), document.get(key)) {
                best.insert(key.to_owned(), value.clone());
            }
        }
        best
    }

    fn text(&self) -> String {
        if let Some(objectives) = report::objectives(self.task) {
            return front_text(self.task, self.state, &objectives);
        }
        let ranking = self.state.ranking();
        let mut text = String::new();
        for segment in self.task.segment_ids() {
            let Some(point) = ranking.iter().find(|point| point.segment == segment) else {
                continue;
            };
            if let Some(name) = self.task.segment_name(segment) {
                let _ = write!(text, "segment {name}: ");
            }
            let loss = point.loss().map_or(f64::NAN, protocol::Loss::get);
            let values = serde_json::to_string_pretty(&point.point).unwrap_or_default();
            let _ = write!(
                text,
                "point {}, loss {}\n{}\n",
                point.id,
                number(loss),
                escape_lines(&values)
            );
        }
        text
    }
}

/// The points of the fronts, by the first objective, with their losses.
fn front_text(task: &Task, state: &State, objectives: &Objectives) -> String {
    let mut text = String::new();
    for front in report::fronts(task, state, objectives) {
        if let Some(name) = task.segment_name(front.segment) {
            let _ = writeln!(text, "segment {name}:");
        }
        for (point, losses) in front.members {
            let named = objectives.all().iter().zip(losses);
            let named: Vec<String> = named
                .map(|(objective, loss)| format!("{} {}", escape(&objective.name), number(loss)))
                .collect();
            let values = serde_json::to_string(&point.point).unwrap_or_default();
            let _ = writeln!(text, "point {}, {}: {}", point.id, named.join(", "), escape(&values));
        }
    }
    if text.is_empty() {
        text.push_str("no point has all losses of the objectives\n");
    }
    text
}

pub(super) fn best(arguments: &TaskArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    if opened.state.ranking().is_empty() {
        return Err(CliError::Failed(format!(
            "no point of `{}` has a loss yet; `hpo show {0}` shows where they stand",
            arguments.directory.display()
        )));
    }
    print(
        &Best {
            task: &opened.task,
            state: &opened.state,
        },
        arguments.json,
    )?;
    Ok(exit::DONE)
}

struct Listed(Vec<Value>);

impl Output for Listed {
    fn json(&self) -> Value {
        json!(self.0)
    }

    fn text(&self) -> String {
        let cell = |task: &Value, key: &str| match &task[key] {
            Value::String(text) => escape(text),
            Value::Number(value) => value.as_f64().map_or_else(String::new, number),
            _ => "-".to_owned(),
        };
        let keys = ["status", "points", "done", "failed", "best", "name", "directory"];
        let rows: Vec<Vec<String>> = self
            .0
            .iter()
            .map(|task| keys.iter().map(|key| cell(task, key)).collect())
            .collect();
        if rows.is_empty() {
            "no tasks here\n".to_owned()
        } else {
            table(&keys, &rows, width())
        }
    }
}

pub(super) fn list(arguments: &ListArguments) -> Result<u8, CliError> {
    let root = &arguments.directory;
    let entries = fs::read_dir(root).map_err(|source| CliError::Usage(format!("`{}`: {source}", root.display())))?;
    let mut directories: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    directories.sort();
    directories.insert(0, root.clone());
    let mut tasks = Vec::new();
    for directory in directories
        .into_iter()
        .filter(|directory| directory.join("task.json").is_file())
    {
        match Opened::read(&directory) {
            Ok(opened) => {
                let document = report::show(&opened.task, &opened.truthful_state(), opened.status());
                tasks.push(json!({
                    "name": opened.task.name,
                    "directory": directory.display().to_string(),
                    "status": document["status"],
                    "points": document["counts"]["points"],
                    "done": document["counts"]["done"],
                    "failed": document["counts"]["failed"],
                    "best": document["best"]["loss"],
                }));
            }
            // A `task.json` of a user is not a task directory of ours.
            Err(_) if !directory.join("journal").exists() => {}
            Err(error) => {
                remark(&error.to_string());
                tasks.push(json!({
                    "name": null, "directory": directory.display().to_string(), "status": "unreadable",
                    "points": null, "done": null, "failed": null, "best": null,
                }));
            }
        }
    }
    print(&Listed(tasks), arguments.json)?;
    Ok(exit::DONE)
}
