//! `hpo submit --backend panda`.

use std::path::{Path, PathBuf};

use protocol::exit;
use protocol::json::{self, Dialect};
use protocol::limits;
use protocol::task_options::{Backend, TaskOptions};
use serde_json::{Map, Value, json};

use super::arguments::RunArguments;
use super::error::CliError;
use super::output::{Output, print, print_line, remark};
use crate::panda::{
    Credentials, Inputs, LARGEST_ARCHIVE, PandaError, Servers, Submission, archive, archive_name, task_parameters,
};
use crate::report::escape;

/// Makes the parameters of a task of PanDA and, unless told not to, sends it. As with its own client, paths are relative to the
/// current directory.
pub(super) fn submit(arguments: &RunArguments) -> Result<u8, CliError> {
    let options = merged(arguments)?;
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
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut inputs = Inputs {
        space,
        segments,
        archive: archive_name(),
        command_line: format!("hpo {}", words.join(" ")),
        cache: Servers::find(&variable, options.intr_srv == Some(true)).cache,
    };
    if options.no_submit == Some(true) {
        let parameters = task_parameters(&options, inputs).map_err(CliError::Usage)?;
        show(arguments, parameters)?;
        return Ok(exit::DONE);
    }
    // What is wrong with the options is said before anything is sent.
    task_parameters(&options, inputs.clone()).map_err(CliError::Usage)?;
    let servers = Servers::find(&variable, options.intr_srv == Some(true));
    let sign_in = |organisation: &str| {
        crate::panda::sign_in(&variable, &servers.panda, organisation, &|text| remark(&escape(text)))
    };
    let client = Credentials::find(&variable, &sign_in)?.client(&variable)?;
    let mut submission = Submission {
        client: &client,
        servers,
    };
    inputs.archive = submission.upload(&inputs.archive, &sandbox(&options)?)?;
    inputs.cache.clone_from(&submission.servers.cache);
    let parameters = task_parameters(&options, inputs).map_err(CliError::Usage)?;
    if arguments.dump_task_params.is_some() {
        show(arguments, parameters.clone())?;
    }
    let submitted = submission.submit(&parameters);
    if let Some(path) = &arguments.dump_json {
        dump(path, &options, &submitted)?;
    }
    let (number, message) = submitted?;
    print(&Submitted { number, message }, arguments.manager.manner.json)?;
    Ok(exit::DONE)
}

/// The small files of the current directory, packed.
fn sandbox(options: &TaskOptions) -> Result<Vec<u8>, CliError> {
    let further: Vec<String> = (options.sandbox_pattern.as_deref().unwrap_or_default().split(','))
        .map(|pattern| pattern.trim().to_owned())
        .filter(|pattern| !pattern.is_empty())
        .collect();
    let root = Path::new(".");
    let files = crate::task::collect_sandbox(root, &further)?;
    let packed = archive(root, &files);
    let packed = packed.map_err(|source| CliError::io("the files of the directory cannot be packed", source))?;
    if packed.len() > LARGEST_ARCHIVE {
        return Err(CliError::Usage(format!(
            "the files of the directory are {} bytes packed, PanDA takes at most {LARGEST_ARCHIVE}; submit from a directory with fewer",
            packed.len()
        )));
    }
    Ok(packed)
}

/// Writes or prints the parameters.
fn show(arguments: &RunArguments, parameters: Map<String, Value>) -> Result<(), CliError> {
    match &arguments.dump_task_params {
        Some(path) => write(path, &Value::Object(parameters)),
        None if arguments.manager.manner.json => print_line(&format!("{:#}", Value::Object(parameters))),
        None => {
            let mut lines: Vec<String> = (parameters.iter())
                .map(|(key, value)| format!("{key} : {value}"))
                .collect();
            lines.sort();
            print_line(&lines.join("\n"))
        }
    }
}

/// All options and what came of them, by the names of phpo.
fn dump(
    path: &Path,
    options: &TaskOptions,
    submitted: &Result<(Option<u64>, String), PandaError>,
) -> Result<(), CliError> {
    let mut document = serde_json::to_value(options).unwrap_or_default();
    (document["returnCode"], document["returnOut"], document["jediTaskID"]) = match submitted {
        Ok((number, message)) => (Value::Null, message.as_str().into(), (*number).into()),
        Err(error) => (1.into(), error.to_string().into(), Value::Null),
    };
    write(path, &document)
}

fn write(path: &Path, document: &Value) -> Result<(), CliError> {
    let written = protocol::json::write_atomically(path, format!("{document:#}\n").as_bytes());
    written.map_err(|source| CliError::io(format!("`{}` cannot be written", path.display()), source))
}

struct Submitted {
    number: Option<u64>,
    message: String,
}

impl Output for Submitted {
    fn json(&self) -> Value {
        json!({"task": self.number, "message": self.message})
    }

    fn text(&self) -> String {
        format!("{}\n", escape(self.message.trim()))
    }
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
