//! One run of steering: its directory, its input, its answer.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use protocol::steering::{FailureKind, HistoryEntry, PointMeta, STOPPED, SteeringInput, read_output};
use protocol::{EvaluationInput, Outcome, SegmentId, environment, limits};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

use crate::host::kill_marked;
use crate::runner::{self, Exit, Intervention, Launch, last_line, read_end};
use crate::state::{NewPoint, PointId, PointOutcome, PointState, State};
use crate::task::{Placeholders, Settings, Surroundings, Task, TaskDirectory, Wrapped, container_name, sandbox_copy};

/// Name of `%IN`, as iDDS has it.
const INPUT: &str = "idds_input.json";
/// Name of `%OUT`, as phpo has it.
const OUTPUT: &str = "output.json";
/// Names the run in the environment of its processes.
const MARK: &str = "HPO_STEERING_DIRECTORY";
/// Between the request to end and the end by force. Steering has nothing to save.
const GRACE: Duration = Duration::from_secs(2);

/// A run under way.
#[derive(Debug)]
pub(super) struct SteeringRun {
    pub(super) number: u32,
    pub(super) asked: u32,
    directory: PathBuf,
    child: Child,
    pub(super) descriptor: Option<OwnedFd>,
    timeout: Option<Duration>,
}

/// What a run amounted to.
#[derive(Debug)]
pub(super) enum Answer {
    /// Points that are taken, and remarks for the user.
    Points(Vec<NewPoint>, Vec<String>),
    /// No usable answer, and why.
    Failure(String),
}

/// Everything that a run needs to know of the task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) directory: &'a TaskDirectory,
    pub(super) task: &'a Task,
    pub(super) settings: &'a Settings,
    pub(super) executable: &'a Path,
    pub(super) path: &'a str,
}

impl Context<'_> {
    /// The placeholders of a run that is asked for `asked` points.
    pub(super) fn placeholders(&self, asked: u32) -> Placeholders {
        let segments = self.task.segments.len().max(1) as u32;
        Placeholders::steering(self.settings.max_points * segments, asked, INPUT, OUTPUT)
    }
}

impl SteeringRun {
    /// Starts run `number` in a directory that holds nothing of an earlier try.
    pub(super) fn start(context: Context<'_>, state: &State, number: u32, asked: u32) -> io::Result<SteeringRun> {
        let directory = context.directory.steering(number);
        let control = directory.join(".hpo");
        if directory.exists() {
            // A manager that was killed may have left a run behind, which must not write into this one.
            kill_marked(MARK, &directory.display().to_string());
            fs::remove_dir_all(&directory)?;
        }
        crate::files::create_private_directory(&control)?;
        sandbox_copy(&context.directory.sandbox(), &directory, &context.task.sandbox).map_err(|(path, error)| {
            if crate::files::may_pass(&error) {
                return error;
            }
            io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
        })?;
        let _ = fs::remove_file(directory.join(OUTPUT));
        let mut input = BufWriter::new(File::create(directory.join(INPUT))?);
        write_history(context.task.opt_space.as_ref(), &state.points, &mut input)?;
        input.flush()?;
        let mark = directory.display().to_string();
        let mut variables = vec![
            (environment::TASK.to_owned(), context.task.name.clone()),
            ("PATH".to_owned(), context.path.to_owned()),
        ];
        if let Some(seed) = context.settings.seed {
            variables.push((environment::STEERING_SEED.to_owned(), seed.to_string()));
        }
        let Wrapped { command, afterwards } = wrapped(context, &directory, asked, &variables);
        let launch = Launch {
            command,
            afterwards,
            work_directory: directory.clone(),
            log_directory: control.clone(),
            environment: variables,
            timeout: context.settings.steering_timeout,
            grace: GRACE,
        };
        fs::write(control.join("launch.json"), serde_json::to_vec(&launch)?)?;
        let mut command = Command::new(context.executable);
        command
            .args([runner::SUBCOMMAND, runner::STEERING])
            .arg(&control)
            .env(MARK, &mark);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        let descriptor = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        Ok(SteeringRun {
            number,
            asked,
            directory,
            child,
            descriptor,
            timeout: launch.timeout,
        })
    }

    /// Whether it is over.
    pub(super) fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it; its answer is not wanted any more.
    pub(super) fn abandon(mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }

    /// Reads the answer of a run that is over.
    pub(super) fn answer(&self, task: &Task, settings: &Settings, state: &State) -> Answer {
        let control = self.directory.join(".hpo");
        let said = || {
            last_line(&control.join("stderr.log"))
                .map(|line| {
                    format!(
                        "; last line of its stderr: {line} (all of it in `{}`)",
                        control.join("stderr.log").display()
                    )
                })
                .unwrap_or_default()
        };
        let Some(end) = read_end(&control) else {
            return Answer::Failure(format!("its runner ended without a word{}", said()));
        };
        if let Some(error) = end.error {
            return Answer::Failure(format!("it cannot be started: {error}"));
        }
        let ended = end.ended.map(|ended| (ended.exit, ended.intervention));
        if let Some((_, Intervention::TimedOut)) = ended {
            let seconds = self.timeout.unwrap_or_default().as_secs_f64();
            return Answer::Failure(format!("not finished after {seconds} s (steeringTimeout){}", said()));
        }
        let exit = match ended {
            Some((Exit::Code(0), _)) | None => String::new(),
            Some((Exit::Code(127), _)) => " (exit code 127, command not found)".to_owned(),
            Some((Exit::Code(code), _)) => format!(" (exit code {code})"),
            Some((Exit::Signal(signal), _)) => format!(" (ended by signal {signal})"),
        };
        let output = self.directory.join(OUTPUT);
        if fs::symlink_metadata(&output).is_err() {
            return Answer::Failure(format!("it wrote no `{OUTPUT}` (%OUT){exit}{}", said()));
        }
        match read_output(&output) {
            Ok(points) => take(points, self.asked, task, settings, state, &exit),
            Err(error) => Answer::Failure(format!("{}{exit}{}", crate::report::escape(&error.to_string()), said())),
        }
    }
}

/// Takes what there is room for.
fn take(
    points: Vec<EvaluationInput>,
    asked: u32,
    task: &Task,
    settings: &Settings,
    state: &State,
    exit: &str,
) -> Answer {
    let mut remarks = Vec::new();
    if !exit.is_empty() {
        remarks.push(format!("steering's answer is taken although it did not end well{exit}"));
    }
    let mut taken: Vec<NewPoint> = Vec::new();
    let mut counts: BTreeMap<Option<SegmentId>, u32> = BTreeMap::new();
    let (mut dropped, mut surplus) = (0, false);
    let segments = task.segments.len() as u32;
    for (index, point) in points.into_iter().enumerate() {
        let (segment, point) = point.into_parts();
        match segment {
            None if segments > 0 => {
                return Answer::Failure(format!(
                    "steering output at `/{index}`: expected the pair [model_id, point] in a segmented task, found a point alone"
                ));
            }
            Some(id) if segments == 0 => {
                return Answer::Failure(format!(
                    "steering output at `/{index}`: expected a point, found the pair [{id}, point], which belongs to segmented tasks"
                ));
            }
            Some(id) if id.0 >= segments => {
                return Answer::Failure(format!(
                    "steering output at `/{index}/0`: expected a model_id below {segments}, found {id}"
                ));
            }
            _ => {}
        }
        let generated = state.segments.get(&segment).map_or(0, |counts| counts.generated);
        let now = counts.entry(segment).or_default();
        if generated + *now >= settings.max_points {
            dropped += 1;
            continue;
        }
        surplus |= *now >= asked;
        *now += 1;
        let id = PointId((state.points.len() + taken.len() + 1) as u32);
        taken.push(NewPoint { id, segment, point });
    }
    if dropped > 0 && segments == 0 {
        let most = settings.max_points;
        remarks.push(format!(
            "steering proposed {dropped} points more than maxPoints ({most}) allows; they are left out"
        ));
    } else if surplus {
        remarks.push(format!(
            "steering proposed more points than it was asked for ({asked}); they are taken"
        ));
    }
    Answer::Points(taken, remarks)
}

/// The history as steering reads it.
pub(crate) fn history(task: &Task, state: &State) -> SteeringInput {
    SteeringInput {
        points: state.points.iter().map(entry).collect(),
        space: task.opt_space.clone(),
    }
}

/// Writes what [`history`] is on the wire, point by point, so that a long one takes no memory.
fn write_history(space: Option<&Value>, points: &[PointState], to: &mut impl Write) -> io::Result<()> {
    to.write_all(b"{\"points\":[")?;
    for (index, HistoryEntry { input, outcome, .. }) in points.iter().map(entry).enumerate() {
        let loss = match outcome {
            Outcome::Pending => None,
            Outcome::Done { loss } => Some(loss.get()),
            Outcome::Failed => Some(limits::FAILED_LOSS),
        };
        separate(to, index)?;
        serde_json::to_writer(&mut *to, &(input, loss))?;
    }
    to.write_all(b"],\"opt_space\":")?;
    serde_json::to_writer(&mut *to, &space)?;
    if !points.is_empty() {
        to.write_all(b",\"meta\":[")?;
        for (index, entry) in points.iter().map(entry).enumerate() {
            separate(to, index)?;
            serde_json::to_writer(&mut *to, &entry.meta)?;
        }
        to.write_all(b"]")?;
    }
    to.write_all(b"}")
}

fn separate(to: &mut impl Write, index: usize) -> io::Result<()> {
    if index > 0 { to.write_all(b",") } else { Ok(()) }
}

fn entry(point: &PointState) -> HistoryEntry {
    let failure = match point.outcome {
        PointOutcome::Failed { by_payload: true } => Some(FailureKind::Payload),
        PointOutcome::Failed { by_payload: false } => Some(FailureKind::Infrastructure),
        _ => None,
    };
    let losses = point.further().filter(|further| !further.losses.is_empty());
    let losses = losses.map(|further| further.losses.iter().cloned().collect());
    let outcome = point.wire_outcome();
    let status = if point.ended_early().is_some() {
        STOPPED
    } else {
        point.word()
    };
    let seconds = (!matches!(outcome, Outcome::Pending))
        .then(|| point.attempts.last().map(|attempt| attempt.seconds))
        .flatten();
    let meta = PointMeta {
        status: Some(status.to_owned()),
        failure,
        attempts: Some(point.attempts.len() as u32),
        seconds,
        epochs_done: point.reports().last().map(|(epoch, _)| *epoch),
        curve: (!point.reports().is_empty()).then(|| point.reports().to_vec()),
        losses,
    };
    HistoryEntry {
        input: EvaluationInput::new(point.segment, point.point.clone()),
        outcome,
        meta: Some(Box::new(meta)),
    }
}

/// The command of steering, in its container if it has one.
fn wrapped(context: Context<'_>, directory: &Path, asked: u32, variables: &[(String, String)]) -> Wrapped {
    let mut command = context
        .placeholders(asked)
        .expand(&context.settings.steering_exec)
        .command;
    let containers = &context.settings.containers;
    if let Some(program) = containers.before_steering {
        command = format!("{program} {command}");
    }
    let Some(container) = &containers.steering else {
        return Wrapped {
            command,
            afterwards: None,
        };
    };
    let earlier = context.directory.earlier();
    let surroundings = Surroundings {
        work_directory: directory,
        writable: vec![directory],
        readable: if earlier.exists() { vec![earlier] } else { Vec::new() },
        variables,
        name: container_name(directory),
    };
    container.wrap(&command, &surroundings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::state::{AttemptEnd, Event};

    #[test]
    fn a_history_is_written_as_the_protocol_has_it() {
        let mut state = State::new(crate::state::RetryLimits {
            attempts: 1,
            lost: 1,
            points_per_job: None,
        });
        let point = |id| NewPoint {
            id: PointId(id),
            segment: None,
            point: serde_json::from_value(json!({"x": id, "y": 0.1, "z": "a\"b", "hpo.epochs": 3})).unwrap(),
        };
        let mut events = vec![
            Event::Created {
                task: String::new(),
                digest: String::new(),
            },
            Event::Iteration {
                number: 1,
                asked: 3,
                points: vec![point(1), point(2), point(3)],
            },
        ];
        let done = AttemptEnd::Done {
            loss: protocol::Loss::new(0.25).unwrap(),
            losses: vec![("b".to_owned(), 1.5), ("a".to_owned(), 2.0)],
            message: None,
            metrics: None,
            metadata: false,
        };
        let failed = AttemptEnd::Failed { reason: String::new() };
        for (id, end) in [(1, done), (2, failed)] {
            let (point, attempt) = (PointId(id), 1);
            events.push(Event::Intent {
                point,
                attempt,
                job: id,
                boot_id: String::new(),
                slot: None,
            });
            events.push(Event::Reported {
                point,
                attempt,
                reports: vec![(1, Some(0.5)), (2, None)],
            });
            events.push(Event::AttemptEnded {
                point,
                attempt,
                end,
                seconds: 1.5,
                time: 0.0,
            });
        }
        for event in &events {
            state.apply(event).unwrap();
        }
        for (points, space) in [(&state.points[..], Some(json!({"x": {"low": 1e-3}}))), (&[], None)] {
            let mut written = Vec::new();
            write_history(space.as_ref(), points, &mut written).unwrap();
            let whole = SteeringInput {
                points: points.iter().map(entry).collect(),
                space,
            };
            assert_eq!(String::from_utf8(written).unwrap(), whole.to_json(limits::FAILED_LOSS));
        }
    }
}
