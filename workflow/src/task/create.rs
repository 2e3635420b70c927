//! Making a task out of options, and reading it back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use protocol::error::DocumentError;
use protocol::json::{self, Dialect};
use protocol::search_space::SpaceDocument;
use protocol::segments::{self, SegmentData};
use protocol::steering::SteeringInput;
use protocol::task_options::{ContainerRuntime, TaskOptions};
use protocol::{Problem, SegmentId, earlier, exit, limits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::directory::TaskDirectory;
use super::sandbox::{self, SandboxFile};
use super::settings::{Settings, items, with_defaults};
use super::training;
use crate::files;

/// Version of `task.json`.
const SCHEMA: u32 = 1;

/// Why a task cannot be made or read.
#[derive(Debug, Error)]
pub(crate) enum TaskError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("{}", describe(.0))]
    Options(Vec<Problem>),
    #[error("{what}: `{item}` names no file, looked for `{path}`; paths are relative to the file that names them", path = .path.display())]
    NoTrainingFile { what: String, item: String, path: PathBuf },
    #[error("{what}: `{first}` and `{second}` would have the same name in a work directory; rename one")]
    SameName {
        what: String,
        first: String,
        second: String,
    },
    #[error("the path `{path}` must be UTF-8 to be written into a JSON file; rename it", path = .path.display())]
    NotUtf8 { path: PathBuf },
    #[error(
        "the files to copy into each work directory must be at most {limit_kib} KiB together, found {total_kib} KiB below `{root}`; largest: {largest}; move data elsewhere and name it in `trainingDS`",
        root = .root.display()
    )]
    SandboxTooBig {
        root: PathBuf,
        total_kib: u64,
        limit_kib: u64,
        largest: String,
    },
    #[error("`{root}` has more than {limit} files and directories to search; put the task file into a directory of its own", root = .root.display())]
    SandboxCrowded { root: PathBuf, limit: usize },
    #[error("cannot {action} `{path}`: {source}", path = .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl TaskError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> TaskError {
        TaskError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The exit code of `hpo` for this error.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            TaskError::Document(error) => error.exit_code(),
            TaskError::Io { .. } => exit::INFRASTRUCTURE,
            _ => exit::USAGE,
        }
    }
}

fn describe(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| {
            format!(
                "option `{}`: {}",
                problem.pointer.trim_start_matches('/'),
                problem.message
            )
        })
        .collect();
    lines.join("\n")
}

fn option_problem(key: &str, message: impl Into<String>) -> TaskError {
    TaskError::Options(vec![Problem::new(format!("/{key}"), message)])
}

/// One segment of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskSegment {
    pub(crate) name: String,
    /// Absolute paths and URLs of its training files.
    pub(crate) training: Vec<String>,
}

/// `task.json`: everything that was decided at submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    schema: u32,
    /// Decimal, as the ids of PanDA tasks are; part of the names of metrics archives.
    pub(crate) id: String,
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// All options, defaults included.
    pub(crate) options: TaskOptions,
    /// The search space as steering gets it; a list in a segmented task.
    pub(crate) opt_space: Option<Value>,
    /// Empty in a task without segments.
    pub(crate) segments: Vec<TaskSegment>,
    /// Absolute paths and URLs of the training files of a task without segments.
    pub(crate) training: Option<Vec<String>>,
    pub(crate) sandbox: Vec<SandboxFile>,
}

/// Where options came from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// Options with absolute paths.
    pub(crate) options: TaskOptions,
    /// The directory of the task file, or the current one.
    pub(crate) base: PathBuf,
    /// Name of the task if `outDS` gives none.
    pub(crate) name: String,
}

/// Reads and checks everything that a task needs, and writes nothing.
///
/// # Errors
/// The first document or option that is wrong.
pub(crate) fn prepare(sources: &Sources) -> Result<(Task, Settings), TaskError> {
    let given = &sources.options;
    check_containers(given)?;
    check_own_steering(given)?;
    earlier_tasks(given)?;
    let options = with_defaults(given);
    let settings = Settings::resolve(&options).map_err(TaskError::Options)?;
    let segments = read_segments(given, &settings)?;
    let training = match (&given.training_ds, segments.is_empty()) {
        (Some(list), true) => Some(training::resolve("trainingDS", list, &sources.base)?),
        _ => None,
    };
    let opt_space = read_space(given, &settings, segments.len())?;
    let sandbox = sandbox::collect(&sources.base, &settings.sandbox_patterns)?;
    let created = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let name = options.out_ds.clone().unwrap_or_else(|| sources.name.clone());
    let name = name.trim_end_matches('/').to_owned();
    let task = Task {
        schema: SCHEMA,
        id: created.to_string(),
        name,
        created,
        options,
        opt_space,
        segments,
        training,
        sandbox,
    };
    Ok((task, settings))
}

/// What our own steering does on demand has to be said in `steeringExec` where that is given.
fn check_own_steering(options: &TaskOptions) -> Result<(), TaskError> {
    let Some(command) = options.steering_exec.as_deref().filter(|command| !command.is_empty()) else {
        return Ok(());
    };
    for (key, given) in [
        ("transfer", options.transfer == Some(true)),
        ("warm", options.warm.is_some()),
        ("scheduler", options.scheduler.is_some()),
    ] {
        if given {
            let message = format!("has no effect on the given `steeringExec` (`{command}`); leave one of them out");
            return Err(option_problem(key, message));
        }
    }
    Ok(())
}

/// The histories of the earlier tasks that a task learns from; `warm` carries absolute paths.
fn earlier_tasks(options: &TaskOptions) -> Result<Vec<SteeringInput>, TaskError> {
    items(options.warm.as_deref().unwrap_or_default())
        .map(|path| Ok(earlier::read(Path::new(path), Some(limits::FAILED_LOSS))?))
        .collect()
}

/// Containers are started by nobody yet, so a task that needs one is refused rather than run in another environment.
fn check_containers(options: &TaskOptions) -> Result<(), TaskError> {
    if options.container_runtime == Some(ContainerRuntime::None) {
        return Ok(());
    }
    for (key, image) in [
        ("steeringContainer", &options.steering_container),
        ("evaluationContainer", &options.evaluation_container),
    ] {
        if let Some(image) = image.as_deref().filter(|image| !image.is_empty()) {
            let message = format!(
                "container `{image}` cannot be started: no container runtime is available here; pass `--containerRuntime none` to run the command on this machine without it"
            );
            return Err(option_problem(key, message));
        }
    }
    match options.steering_exec.as_deref() {
        Some(command) if options.steering_container.is_none() && command.trim_start().starts_with("run ") => {
            Err(option_problem(
                "steeringExec",
                "begins with `run`, the arguments of docker as phpo takes them; write the command that runs on this machine",
            ))
        }
        _ => Ok(()),
    }
}

fn read_segments(options: &TaskOptions, settings: &Settings) -> Result<Vec<TaskSegment>, TaskError> {
    let Some(path) = options.segment_spec_file.as_deref() else {
        return Ok(Vec::new());
    };
    let path = Path::new(path);
    let directory = files::parent_of(path).to_owned();
    let specified = segments::read(path)?;
    if specified.len() as u64 * u64::from(settings.max_points) > u64::from(u32::MAX) {
        return Err(option_problem("maxPoints", "too many points for so many segments"));
    }
    // The data set of the task, in which `files` are looked up; options carry absolute paths.
    let whole = match &options.training_ds {
        Some(list) => Some(training::resolve("trainingDS", list, Path::new("/"))?),
        None => None,
    };
    let mut found = Vec::new();
    for (index, segment) in specified.iter().enumerate() {
        let what = format!("segment `{}`", segment.name);
        let mut files = Vec::new();
        match (&segment.data, &whole) {
            (SegmentData::Files(names), Some(whole)) => {
                for name in names {
                    let known = whole.iter().find(|file| {
                        training::name_of(file) == name || file.as_str() == name || file.ends_with(&format!("/{name}"))
                    });
                    let Some(file) = known else {
                        let pointer = format!("/{index}/files");
                        let message = format!("`{name}` is not among the files of `trainingDS`");
                        let problems = vec![Problem::new(pointer, message)];
                        return Err(DocumentError::invalid("segment specification", path, problems).into());
                    };
                    files.push(file.clone());
                }
            }
            (SegmentData::Files(names) | SegmentData::Datasets(names), _) => {
                for name in names {
                    files.extend(training::resolve(&what, name, &directory)?);
                }
            }
        }
        training::distinct(&what, &files)?;
        found.push(TaskSegment {
            name: segment.name.clone(),
            training: files,
        });
    }
    Ok(found)
}

fn read_space(options: &TaskOptions, settings: &Settings, segments: usize) -> Result<Option<Value>, TaskError> {
    const WHAT: &str = "search space";
    let Some(path) = options.search_space_file.as_deref() else {
        if options.steering_exec.is_none() {
            return Err(option_problem(
                "searchSpaceFile",
                "is needed by the default `steeringExec`, found none",
            ));
        }
        return Ok(None);
    };
    let path = Path::new(path);
    let value = json::read(WHAT, path, limits::DOCUMENT_BYTES, Dialect::Commented)?;
    let invalid = |problems| TaskError::Document(DocumentError::invalid(WHAT, path, problems));
    // Another steering may have a format of its own.
    let own_steering = settings.steering_exec.split_whitespace().next() == Some("steering");
    if own_steering {
        let document = SpaceDocument::from_value(&value).map_err(invalid)?;
        steering::ask::spaces(&document).map_err(invalid)?;
    }
    match (&value, segments) {
        (Value::Array(list), 1..) => {
            let ids: Vec<Option<u64>> = list
                .iter()
                .map(|space| space.get("model_id").and_then(Value::as_u64))
                .collect();
            if (0..segments as u64).all(|id| ids.iter().filter(|found| **found == Some(id)).count() == 1)
                && ids.len() == segments
            {
                Ok(Some(value))
            } else {
                let message = format!(
                    "expected one object with `model_id` and `search_space` for each of the {segments} segments, ids from 0, found ids {}",
                    json!(ids)
                );
                Err(invalid(vec![Problem::new("", message)]))
            }
        }
        (_, 1..) => {
            let list = (0..segments).map(|id| json!({"model_id": id, "search_space": value}));
            Ok(Some(Value::Array(list.collect())))
        }
        (Value::Array(list), 0) if own_steering && !list.is_empty() => {
            let message = "a list of search spaces needs `segmentSpecFile`, found none";
            Err(invalid(vec![Problem::new("", message)]))
        }
        _ => Ok(Some(value)),
    }
}

impl Task {
    /// Writes the task directory except the journal, and returns the digest of `task.json`.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn write(&self, directory: &TaskDirectory, base: &Path) -> Result<String, TaskError> {
        for path in [
            directory.root().to_owned(),
            directory.sandbox(),
            directory.points(),
            directory.metrics(),
        ] {
            files::create_private_directory(&path).map_err(|source| TaskError::io("create", &path, source))?;
        }
        sandbox::copy(base, &directory.sandbox(), &self.sandbox)
            .map_err(|(path, source)| TaskError::io("write", &path, source))?;
        for (index, input) in earlier_tasks(&self.options)?.iter().enumerate() {
            let folder = directory.earlier();
            files::create_private_directory(&folder).map_err(|source| TaskError::io("create", &folder, source))?;
            let path = folder.join(format!("{}.json", index + 1));
            let text = input.to_json(limits::FAILED_LOSS);
            json::write_atomically(&path, text.as_bytes()).map_err(|source| TaskError::io("write", &path, source))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let path = directory.task_file();
        let text = text.map_err(|source| TaskError::io("write", &path, source))? + "\n";
        json::write_atomically(&path, text.as_bytes()).map_err(|source| TaskError::io("write", &path, source))?;
        Ok(digest(text.as_bytes()))
    }

    /// Reads a frozen task and its digest.
    ///
    /// # Errors
    /// When `task.json` is missing or not what [`Task::write`] wrote.
    pub(crate) fn read(directory: &TaskDirectory) -> Result<(Task, Settings, String), TaskError> {
        const WHAT: &str = "frozen task";
        let path = directory.task_file();
        let bytes = fs::read(&path).map_err(|source| DocumentError::Unreadable {
            what: WHAT,
            path: path.clone(),
            source,
        })?;
        let task: Task = serde_json::from_slice(&bytes).map_err(|error| DocumentError::Syntax {
            what: WHAT,
            path: path.clone(),
            message: error.to_string(),
        })?;
        if task.schema != SCHEMA {
            let message = format!(
                "expected version {SCHEMA}, found {}; use the hpo that wrote it",
                task.schema
            );
            let problems = vec![Problem::new("/schema", message)];
            return Err(DocumentError::invalid(WHAT, &path, problems).into());
        }
        let settings = Settings::resolve(&task.options).map_err(TaskError::Options)?;
        Ok((task, settings, digest(&bytes)))
    }

    /// Names of the segments' ids; a single `None` in a task without segments.
    pub(crate) fn segment_ids(&self) -> Vec<Option<SegmentId>> {
        if self.segments.is_empty() {
            vec![None]
        } else {
            (0..self.segments.len())
                .map(|index| Some(SegmentId(index as u32)))
                .collect()
        }
    }

    /// The name of a segment.
    pub(crate) fn segment_name(&self, segment: Option<SegmentId>) -> Option<&str> {
        segment
            .and_then(|id| self.segments.get(id.0 as usize))
            .map(|segment| segment.name.as_str())
    }

    /// The training files of a segment, or of the task.
    pub(crate) fn training_files(&self, segment: Option<SegmentId>) -> Option<&[String]> {
        match segment {
            Some(id) => self
                .segments
                .get(id.0 as usize)
                .map(|segment| segment.training.as_slice()),
            None => self.training.as_deref(),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    files::hexadecimal(&Sha256::digest(bytes))
}
