//! `hpo submit --backend panda`.

use std::path::{Path, PathBuf};

use protocol::exit;
use protocol::json::{self, Dialect};
use protocol::limits;
use protocol::task_options::{Backend, TaskOptions};
use serde_json::Value;

use super::arguments::RunArguments;
use super::error::CliError;
use super::output::{print_line, remark};
use crate::panda::{Inputs, archive_name, task_parameters};

/// Makes the parameters of a task of PanDA. As with its own client, paths are relative to the current directory.
pub(super) fn submit(arguments: &RunArguments) -> Result<u8, CliError> {
    let options = merged(arguments)?;
    if options.no_submit != Some(true) {
        return Err(CliError::Usage(
            "`--backend panda` makes the parameters of a task and does not send them; add `--noSubmit`, and `--dumpTaskParams FILE` for the file that a client of PanDA submits"
                .to_owned(),
        ));
    }
    let space = read(options.search_space_file.as_deref(), "search space")?;
    let segments = match read(options.segment_spec_file.as_deref(), "list of segments")? {
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => Some(list),
        None => None,
        Some(other) => {
            return Err(CliError::Usage(format!(
                "`segmentSpecFile`: expected a list of objects, found {}",
                json::type_name(&other)
            )));
        }
    };
    let words: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
    let inputs = Inputs {
        space,
        segments,
        archive: archive_name(),
        command_line: format!("hpo {}", words.join(" ")),
        cache: std::env::var("PANDACACHE_URL").ok(),
    };
    let parameters = task_parameters(&options, inputs).map_err(CliError::Usage)?;
    match &arguments.dump_task_params {
        Some(path) => {
            let text = format!("{:#}\n", Value::Object(parameters));
            let written = protocol::json::write_atomically(path, text.as_bytes());
            written.map_err(|source| CliError::io(format!("`{}` cannot be written", path.display()), source))?;
        }
        None if arguments.manager.manner.json => print_line(&format!("{:#}", Value::Object(parameters)))?,
        None => {
            let mut lines: Vec<String> = (parameters.iter())
                .map(|(key, value)| format!("{key} : {value}"))
                .collect();
            lines.sort();
            print_line(&lines.join("\n"))?;
        }
    }
    Ok(exit::DONE)
}

/// Whether the options name PanDA as the place to run.
pub(super) fn is_wanted(arguments: &RunArguments) -> Result<bool, CliError> {
    Ok(match arguments.options.backend {
        Some(backend) => backend == Backend::Panda,
        None => merged(arguments)?.backend == Some(Backend::Panda),
    })
}

/// The options of the command line over those of the task file, paths as they are.
fn merged(arguments: &RunArguments) -> Result<TaskOptions, CliError> {
    let Some(path) = arguments.task.as_ref().or(arguments.load_json.as_ref()) else {
        return Ok(arguments.options.clone());
    };
    let (from_file, warnings) = TaskOptions::read(path).map_err(crate::task::TaskError::Document)?;
    for warning in warnings {
        remark(&format!("task file `{}`: {warning}", path.display()));
    }
    let (options, overridden) = arguments.options.over(&from_file);
    for key in overridden {
        remark(&format!(
            "option `{key}` of the command line overrides that of the task file"
        ));
    }
    Ok(options)
}

fn read(path: Option<&str>, what: &'static str) -> Result<Option<Value>, CliError> {
    let Some(path) = path else { return Ok(None) };
    let path: PathBuf = Path::new(path).to_owned();
    let value = json::read(what, &path, limits::DOCUMENT_BYTES, Dialect::Commented);
    value
        .map(Some)
        .map_err(|error| CliError::Task(crate::task::TaskError::Document(error)))
}

/// A word as a shell would have to be given it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%@+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
