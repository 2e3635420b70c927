//! What other tools have left behind, read as a search with its points.
//!
//! | module | what it reads |
//! | --- | --- |
//! | `optuna` | journal files and databases in `SQLite` |
//! | `keras_tuner` | project directories |
//! | `ray_tune` | result folders |
//! | `hpogrid` | project directories and reports |
//! | `sqlite` | the tables of a database file |
//! | `space` | dimensions in the format of hpogrid, and those that can be guessed from points |
//!
//! To add a tool: its file here, and its lines in [`Tool`], `recognise` and `read`.

mod hpogrid;
mod keras_tuner;
mod optuna;
mod ray_tune;
mod space;
mod sqlite;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use protocol::json::{self, Dialect};
use protocol::limits;
use serde_json::{Map, Value};
use thiserror::Error;

#[cfg(test)]
pub(crate) use optuna::{from_database, from_journal};

/// Whose files they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// A journal file or an `SQLite` database of Optuna
    Optuna,
    /// A project directory of Keras Tuner
    KerasTuner,
    /// A result folder of Ray Tune
    RayTune,
    /// A project directory, `config.json` or report of hpogrid
    Hpogrid,
    /// A configuration file of phpo, with search space and segments
    Phpo,
}

impl Tool {
    /// The name that people know it by.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Tool::Optuna => "Optuna",
            Tool::KerasTuner => "Keras Tuner",
            Tool::RayTune => "Ray Tune",
            Tool::Hpogrid => "hpogrid",
            Tool::Phpo => "phpo",
        }
    }
}

/// What the user says where files do not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Which of several studies.
    pub(crate) study: Option<String>,
    /// Which number is optimised.
    pub(crate) metric: Option<String>,
    /// Whether it is to be large.
    pub(crate) maximise: Option<bool>,
}

/// A number that was optimised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) maximise: bool,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// With a number for each goal.
    Done(Vec<f64>),
    /// Before its time, after this epoch, with the first goal's number so far.
    Stopped(u64, f64),
    Failed(String),
}

/// One point with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trial {
    pub(crate) point: Map<String, Value>,
    pub(crate) end: End,
    pub(crate) seconds: f64,
}

/// A search by another tool.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Search {
    pub(crate) name: String,
    /// At least one, if there are trials.
    pub(crate) goals: Vec<Goal>,
    /// In the format of hpogrid; empty if it is not known.
    pub(crate) space: Map<String, Value>,
    /// In the order in which they began.
    pub(crate) trials: Vec<Trial>,
    /// What was left out or guessed.
    pub(crate) remarks: Vec<String>,
    /// Points of the whole search, and at the same time, where the tool says so.
    pub(crate) max_points: Option<u32>,
    pub(crate) parallel: Option<u32>,
    /// The sampler, by a name that `steering` knows.
    pub(crate) sampler: Option<String>,
}

/// Why files cannot be imported.
#[derive(Debug, Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    Document(#[from] protocol::DocumentError),
    #[error("{tool} `{path}`: {message}", tool = .tool.title(), path = .path.display())]
    Content { tool: Tool, path: PathBuf, message: String },
    #[error(
        "`{path}` is of no tool that is known: expected a journal or database of Optuna, a project directory of Keras Tuner (with `oracle.json`) or hpogrid (with `config/config.json`), a result folder of Ray Tune (with `params.json` of its trials), or a configuration of phpo; name the tool with `--tool`",
        path = .path.display()
    )]
    Unknown { path: PathBuf },
}

/// Whose files lie at `path`.
///
/// # Errors
/// If that cannot be told.
pub(crate) fn recognise(path: &Path) -> Result<Tool, ImportError> {
    let unknown = || ImportError::Unknown { path: path.to_owned() };
    if path.is_dir() {
        let tools = [
            (path.join("oracle.json").is_file(), Tool::KerasTuner),
            (path.join("config/config.json").is_file(), Tool::Hpogrid),
            (!ray_tune::folders(path).is_empty(), Tool::RayTune),
        ];
        let found = tools.into_iter().find(|(found, _)| *found);
        return found.map(|(_, tool)| tool).ok_or_else(unknown);
    }
    let bytes = json::read_regular("file", path, limits::HISTORY_BYTES)?;
    if bytes.starts_with(sqlite::MAGIC) {
        return Ok(Tool::Optuna);
    }
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if let Ok(Value::Object(line)) = json::parse(first, Dialect::NonFinite)
        && line.contains_key("op_code")
    {
        return Ok(Tool::Optuna);
    }
    match json::parse(&bytes, Dialect::Commented).or_else(|_| json::parse(&bytes, Dialect::NonFinite)) {
        Ok(document) if hpogrid::is_one(&document) => Ok(Tool::Hpogrid),
        Ok(Value::Object(map))
            if ["evaluationExec", "steeringExec"]
                .iter()
                .any(|key| map.contains_key(*key)) =>
        {
            Ok(Tool::Phpo)
        }
        _ => Err(unknown()),
    }
}

/// Reads the search that `tool` has left at `path`; that of phpo has no points and is a task file.
///
/// # Errors
/// What is wrong with the files, or what the user has to say beyond them.
pub(crate) fn read(tool: Tool, path: &Path, wish: &Wish) -> Result<Search, ImportError> {
    let content = |message| ImportError::Content {
        tool,
        path: path.to_owned(),
        message,
    };
    let mut search = match tool {
        Tool::Optuna => {
            let bytes = json::read_regular("storage of Optuna", path, limits::HISTORY_BYTES)?;
            if bytes.starts_with(sqlite::MAGIC) {
                sqlite::check_companions(path).map_err(content)?;
                optuna::from_database(bytes, wish).map_err(content)?
            } else {
                optuna::from_journal(&bytes, wish).map_err(content)?
            }
        }
        Tool::KerasTuner => keras_tuner::read(path, wish)?.map_err(content)?,
        Tool::RayTune => ray_tune::read(path, wish)?.map_err(content)?,
        Tool::Hpogrid => hpogrid::read(path, wish)?.map_err(content)?,
        Tool::Phpo => Search::default(),
    };
    if search.space.is_empty() && !search.trials.is_empty() {
        search.space = space::guessed(&search.trials);
        let remark = "the search space is not in the files: its bounds are those of the values that were tried; give the real one with `--searchSpaceFile`";
        search.remarks.push(remark.to_owned());
    }
    Ok(search)
}

/// The number of trials that were not over, for a remark.
fn unfinished(count: usize) -> Option<String> {
    (count > 0).then(|| format!("{count} trials that were not over are left out"))
}

/// The one of several names that the user wants.
fn chosen<'a>(what: &str, option: &str, names: &'a [String], wish: Option<&str>) -> Result<&'a String, String> {
    let known = || {
        names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (wish, names) {
        (Some(wish), _) => names
            .iter()
            .find(|name| *name == wish)
            .ok_or_else(|| format!("there is no {what} `{wish}`, found {}", known())),
        (None, [only]) => Ok(only),
        (None, []) => Err(format!("there is no {what}")),
        (None, _) => Err(format!(
            "there are several of {what}: {}; choose one with `{option}`",
            known()
        )),
    }
}

/// A document below `path`, with Python's tokens for what is no number.
fn document(path: &Path) -> Result<Value, protocol::DocumentError> {
    json::read("document", path, limits::HISTORY_BYTES, Dialect::NonFinite)
}

/// A number, also one that is not finite.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| json::non_finite(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_names_must_be_chosen() {
        let names = ["a".to_owned(), "b".to_owned()];
        let choice = |names: &[String], wish| chosen("study", "--study", names, wish).cloned();
        assert_eq!(choice(&names, Some("b")).unwrap(), "b");
        assert_eq!(choice(&names[..1], None).unwrap(), "a");
        assert_eq!(
            choice(&names, None).unwrap_err(),
            "there are several of study: `a`, `b`; choose one with `--study`"
        );
        assert_eq!(
            choice(&names, Some("c")).unwrap_err(),
            "there is no study `c`, found `a`, `b`"
        );
        assert_eq!(choice(&[], None).unwrap_err(), "there is no study");
    }
}
