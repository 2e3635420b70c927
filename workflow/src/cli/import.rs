//! `hpo import`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use protocol::task_options::TaskOptions;
use protocol::{Loss, Point, exit};
use serde_json::{Value, json};
use steering::objectives::MOST;

use super::arguments::{GoalMode, ImportArguments};
use super::error::CliError;
use super::open::absolute;
use super::output::{Output, print, remark};
use super::run::{check_free, with_absolute_paths};
use crate::coordinator;
use crate::files::{self, Durability};
use crate::import::{self, End, Goal, Search, Tool, Trial, Wish};
use crate::journal::{Claim, Contents, Journal};
use crate::report;
use crate::state::{AttemptEnd, Event, NewPoint, PointId, PointState, State, TaskEnd};
use crate::task::{Settings, Sources, Task, TaskDirectory, prepare};

/// Points of one record of the journal, which must not become too long.
const CHUNK: usize = 200;

/// Makes a task directory of what another tool has left.
pub(super) fn import(arguments: &ImportArguments) -> Result<u8, CliError> {
    let source = absolute(&arguments.source)?;
    let tool = arguments.tool.map_or_else(|| import::recognise(&source), Ok)?;
    let wish = Wish {
        study: arguments.study.clone(),
        metric: arguments.metric.clone(),
        maximise: arguments.mode.map(|mode| mode == GoalMode::Max),
    };
    let search = import::read(tool, &source, &wish)?;
    for text in &search.remarks {
        remark(text);
    }
    let directory = TaskDirectory::new(absolute(&arguments.task_dir)?);
    if directory.exists() {
        return Err(CliError::Usage(format!(
            "`{}` is a task already; import into a new directory, and learn from both with `--warm`",
            arguments.task_dir.display()
        )));
    }
    check_free(&directory)?;
    let (mut options, base) = options(arguments, tool, &source, &directory)?;
    let goes_on = tool == Tool::Phpo || options.evaluation_exec.is_some();
    let root = directory.root();
    files::create_private_directory(root)
        .map_err(|source| CliError::io(format!("`{}` cannot be created", root.display()), source))?;
    let own_space = root.join("search_space.json");
    if tool != Tool::Phpo {
        complete(&mut options, &search, goes_on);
        if options.search_space_file.is_none() {
            let text = format!("{:#}\n", Value::Object(search.space.clone()));
            let written = files::write_whole(&own_space, text.as_bytes(), Durability::Crash);
            written.map_err(|source| CliError::io(format!("`{}` cannot be written", own_space.display()), source))?;
            options.search_space_file = own_space.to_str().map(str::to_owned);
        }
    }
    let name = if search.name.is_empty() {
        tool.title()
    } else {
        &search.name
    };
    let sources = Sources {
        options,
        base: base.clone(),
        name: name.to_owned(),
    };
    let (task, settings) = prepare(&sources).inspect_err(|_| {
        // Nothing has begun: what is there would be in the way of another try.
        let _ = fs::remove_file(&own_space);
        let _ = fs::remove_dir(root);
    })?;
    let reason = (!goes_on).then(|| format!("it was imported from {} `{}`", tool.title(), source.display()));
    let state = write(&directory, &task, &settings, &base, &search, reason)?;
    print(
        &Imported {
            directory: &arguments.task_dir,
            tool,
            state: &state,
            goes_on,
        },
        arguments.json,
    )?;
    Ok(exit::DONE)
}

/// The options of the task, with absolute paths, and the directory that its work directories are made from.
fn options(
    arguments: &ImportArguments,
    tool: Tool,
    source: &Path,
    directory: &TaskDirectory,
) -> Result<(TaskOptions, PathBuf), CliError> {
    let current = absolute(Path::new("."))?;
    let from_line = with_absolute_paths(&arguments.options, &current)?;
    if tool != Tool::Phpo {
        let base = if from_line.evaluation_exec.is_some() {
            current
        } else {
            directory.root().to_owned()
        };
        return Ok((from_line, base));
    }
    let (from_file, warnings) = TaskOptions::read(source).map_err(crate::task::TaskError::Document)?;
    for warning in warnings {
        remark(&format!("configuration `{}`: {warning}", source.display()));
    }
    let base = files::parent_of(source).to_owned();
    let (options, _) = from_line.over(&with_absolute_paths(&from_file, &base)?);
    Ok((options, base))
}

/// Fills in what the search says and the user does not.
fn complete(options: &mut TaskOptions, search: &Search, goes_on: bool) {
    let found = search.trials.len() as u32;
    let planned = options.max_points.or(search.max_points);
    // Ten more are what a new search would have by default.
    let planned = planned.unwrap_or(if goes_on { found + 10 } else { found });
    options.max_points = Some(planned.max(found).max(1));
    if goes_on {
        options.n_parallel_evaluation = options.n_parallel_evaluation.or(search.parallel);
    } else {
        // What failed is not tried again.
        options.max_attempts = Some(1);
    }
    if options.steering_exec.is_some() {
        return;
    }
    if let Some(library) = search.sampler.as_deref().filter(|_| options.sampler.is_none()) {
        let ours = steering::samplers::resolve(library, None);
        if steering::samplers::Registry::standard().build(&ours, &[]).is_ok() {
            options.sampler = Some(ours);
        } else {
            remark(&format!("there is no sampler `{library}` here; the default is used"));
        }
    }
    if search.goals.len() > MOST {
        remark(&format!(
            "of {} goals the first is the loss; at most {MOST} can be searched at a time",
            search.goals.len()
        ));
    } else if search.goals.len() > 1 && options.objectives.is_none() {
        let goals = search.goals.iter().map(|goal| {
            let mode = if goal.maximise { "max" } else { "min" };
            format!("{}:{mode}", named(goal))
        });
        options.objectives = Some(goals.collect::<Vec<_>>().join(","));
    }
}

/// The name of a goal as a key of `losses`; commas and colons separate these in options.
fn named(goal: &Goal) -> String {
    goal.name.replace([',', ':'], "_")
}

/// Writes the task and its journal; `reason` says why it is over, if it is not to go on.
fn write(
    directory: &TaskDirectory,
    task: &Task,
    settings: &Settings,
    base: &Path,
    search: &Search,
    reason: Option<String>,
) -> Result<State, CliError> {
    let claim = Claim::take(directory.root(), false)?;
    let digest = task.write(directory, base)?;
    let mut journal = Journal::open(&directory.journal(), &Contents::default(), claim)?;
    let mut state = State::new(settings.retry);
    let time = coordinator::now();
    let created = Event::Created {
        task: task.id.clone(),
        digest,
    };
    let mut commit = |state: &mut State, events: Vec<Event>| -> Result<(), CliError> {
        let mut texts = Vec::with_capacity(events.len());
        for event in &events {
            state.apply(event).expect("imported trials follow one another");
            texts.push(serde_json::to_string(event).expect("events are plain data"));
        }
        Ok(journal.commit(&texts)?)
    };
    commit(&mut state, vec![created])?;
    for (index, chunk) in search.trials.chunks(CHUNK).enumerate() {
        let first = index * CHUNK + 1;
        let number = |place: usize| PointId((first + place) as u32);
        let points = chunk.iter().enumerate().map(|(place, trial)| NewPoint {
            id: number(place),
            segment: None,
            point: point(trial),
        });
        let mut events = vec![Event::Iteration {
            number: 1,
            asked: search.trials.len() as u32,
            points: points.collect(),
        }];
        for (place, trial) in chunk.iter().enumerate() {
            events.extend(events_of(number(place), trial, &search.goals, time));
        }
        commit(&mut state, events)?;
    }
    if let Some(reason) = reason {
        let end = TaskEnd::Finished { reason };
        commit(&mut state, vec![Event::Ended { end, time }])?;
    }
    files::write_whole_with(&directory.results(), Durability::PowerCut, &mut |file| {
        let mut buffered = std::io::BufWriter::new(file);
        report::write_results(task, &state, &mut buffered)?;
        buffered.flush()
    })
    .map_err(|source| CliError::io("results.json cannot be written", source))?;
    Ok(state)
}

fn point(trial: &Trial) -> Point {
    serde_json::from_value(Value::Object(trial.point.clone())).expect("a point is an object")
}

/// What the journal would say had we run the trial: one attempt, in a job of its own.
fn events_of(point: PointId, trial: &Trial, goals: &[Goal], time: f64) -> Vec<Event> {
    let mut events = vec![Event::Intent {
        point,
        attempt: 1,
        job: point.0,
        boot_id: String::new(),
        slot: None,
    }];
    let signed = |goal: &Goal, value: f64| if goal.maximise { -value } else { value };
    let done = |values: &[f64]| {
        let loss = goals
            .first()
            .zip(values.first())
            .map(|(goal, value)| signed(goal, *value));
        let Some(loss) = loss.and_then(Loss::new) else {
            let reason = "its value is not a finite number".to_owned();
            return AttemptEnd::Failed { reason };
        };
        let named = goals
            .iter()
            .zip(values)
            .filter(|(goal, value)| goal.name != "loss" && value.is_finite());
        AttemptEnd::Done {
            loss,
            losses: named.map(|(goal, value)| (self::named(goal), *value)).collect(),
            message: None,
            metrics: None,
            metadata: false,
        }
    };
    let end = match &trial.end {
        End::Done(values) => done(values),
        End::Stopped(epoch, value) => {
            let loss = goals.first().map(|goal| signed(goal, *value));
            events.push(Event::Reported {
                point,
                attempt: 1,
                reports: vec![(*epoch, loss.filter(|loss| loss.is_finite()))],
            });
            events.push(Event::EndedEarly {
                point,
                attempt: 1,
                epoch: *epoch,
                reason: "the other tool ended it early".to_owned(),
            });
            done(&[*value])
        }
        End::Failed(reason) => AttemptEnd::Failed { reason: reason.clone() },
    };
    events.push(Event::AttemptEnded {
        point,
        attempt: 1,
        end,
        seconds: trial.seconds,
        time,
    });
    events
}

struct Imported<'a> {
    directory: &'a Path,
    tool: Tool,
    state: &'a State,
    goes_on: bool,
}

impl Output for Imported<'_> {
    fn json(&self) -> Value {
        json!({
            "directory": self.directory.display().to_string(),
            "tool": self.tool.title(),
            "points": self.state.points.len(),
            "done": self.state.done,
            "best": self.state.best().and_then(PointState::loss),
            "goes_on": self.goes_on,
        })
    }

    fn text(&self) -> String {
        let directory = self.directory.display();
        let head = format!(
            "imported {} points, {} of them with a loss, from {}\n",
            self.state.points.len(),
            self.state.done,
            self.tool.title()
        );
        if self.goes_on {
            head + &format!("hpo resume {directory}    goes on with the search\n")
        } else {
            head + &format!(
                "hpo best {directory}    the best of them\nhpo run task.json --warm {directory}    a new search that learns from them\n"
            )
        }
    }
}
