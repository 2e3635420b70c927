//! `steering verify`.
//!
//! The manager keeps every call of steering in a directory of its own, `steering/<number>` of the task: the command with its
//! environment in `.hpo/launch.json`, the input, and the output. A call whose command is ours is answered again in this process, and
//! the answer must be the recorded one to the last byte.

mod difference;
mod shell;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _};
use protocol::json::{self, Dialect as Json};
use protocol::{environment, exit, limits};
use serde_json::{Value, json};

use super::arguments::{Arguments, AskOptions, Command, VerifyOptions};
use super::{Dialect, Failure, asking, dialect_of, normalise, output};
use difference::Difference;

/// Where the manager keeps the command of an iteration.
const LAUNCH: &str = ".hpo/launch.json";

/// What became of one call.
struct Finding {
    /// Number of the iteration; nothing for a call given on the command line.
    iteration: Option<u64>,
    verdict: Verdict,
}

enum Verdict {
    Same,
    Differs { file: PathBuf, difference: Difference },
    Skipped(String),
}

pub(super) fn run(options: &VerifyOptions) -> Result<u8, Failure> {
    // Options after the first word belong to a call, but a task directory has none of its own.
    let is_task = options.what.first().is_some_and(|first| Path::new(first).is_dir());
    let as_json_too = is_task && options.what[1..].iter().any(|word| word == "--json");
    let findings = match options.what.as_slice() {
        [first, rest @ ..] if is_task && rest.iter().all(|word| word == "--json") => task(Path::new(first))?,
        [first, rest @ ..] if !first.to_string_lossy().starts_with('-') && (is_task || rest.is_empty()) => {
            let path = Path::new(first).display();
            return Err(Failure::input(if is_task {
                anyhow!(
                    "expected nothing after the task directory `{path}`, found `{}`",
                    rest[0].display()
                )
            } else {
                anyhow!("`{path}` is no directory; give the directory of a task, or a call of steering")
            }));
        }
        words => {
            let words = std::iter::once("steering".into())
                .chain(words.iter().cloned())
                .collect();
            vec![Finding {
                iteration: None,
                verdict: call(words, Path::new(""), None)?,
            }]
        }
    };
    let count = |wanted: fn(&Verdict) -> bool| findings.iter().filter(|finding| wanted(&finding.verdict)).count();
    let same = count(|verdict| matches!(verdict, Verdict::Same));
    let different = count(|verdict| matches!(verdict, Verdict::Differs { .. }));
    output::print(&if options.json || as_json_too {
        as_json(&findings)
    } else {
        as_text(&findings, same)
    })?;
    Ok(match (same, different) {
        (_, 1..) => exit::FAILED,
        (0, 0) => exit::USAGE,
        _ => exit::DONE,
    })
}

/// All iterations of a task, in their order.
fn task(directory: &Path) -> Result<Vec<Finding>, Failure> {
    let place = directory.join("steering");
    let unreadable = |error| {
        Failure::input(anyhow!(
            "cannot read the iterations of the task in `{}`: {error}",
            place.display()
        ))
    };
    let mut iterations: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(&place).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            iterations.push((number, entry.path()));
        }
    }
    iterations.sort();
    iterations
        .into_iter()
        .map(|(number, directory)| {
            Ok(Finding {
                iteration: Some(number),
                verdict: iteration(&directory)?,
            })
        })
        .collect()
}

fn iteration(directory: &Path) -> Result<Verdict, Failure> {
    let launch = directory.join(LAUNCH);
    if !launch.exists() {
        return Ok(Verdict::Skipped(format!("there is no `{LAUNCH}` with its command")));
    }
    let launch = json::read("record of a call", &launch, limits::DOCUMENT_BYTES, Json::Strict)?;
    let command = launch["command"].as_str().unwrap_or_default();
    let Some(shell::Call { mut variables, words }) = shell::split(command) else {
        return Ok(Verdict::Skipped(format!("its command needs a shell: {command}")));
    };
    let program = words
        .first()
        .map(Path::new)
        .and_then(Path::file_stem)
        .unwrap_or_default();
    if program != "steering" && program != "hpogrid" {
        return Ok(Verdict::Skipped(format!("its command is not ours: {command}")));
    }
    let recorded: Vec<(String, String)> = serde_json::from_value(launch["environment"].clone()).unwrap_or_default();
    variables.extend(recorded);
    call(
        words.into_iter().map(OsString::from).collect(),
        directory,
        Some(&variables),
    )
}

/// Answers a call again. Its relative paths start at `directory`. Its environment is `variables`, the first of each name, or that
/// of this process.
fn call(words: Vec<OsString>, directory: &Path, variables: Option<&[(String, String)]>) -> Result<Verdict, Failure> {
    let (words, is_hpogrid) = normalise(words);
    let mut grammar = Arguments::command();
    if variables.is_some() {
        for verb in ["ask", "generate"] {
            grammar = grammar.mut_subcommand(verb, |command| {
                command
                    .mut_arg("seed", |seed| seed.env(Resettable::Reset))
                    .mut_arg("task", |task| task.env(Resettable::Reset))
            });
        }
    }
    let parsed = grammar
        .try_get_matches_from(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let (mut options, dialect) = match parsed.map_err(|error| misspelt(&error))?.command {
        Command::Ask(options) => (options, dialect_of(is_hpogrid, Dialect::Own)),
        Command::Generate(options) => (options, dialect_of(is_hpogrid, Dialect::Generate)),
        _ => return Ok(Verdict::Skipped("it is no call for points".into())),
    };
    complete(&mut options, variables.unwrap_or_default())?;
    let files = [&mut options.infile, &mut options.outfile, &mut options.space];
    for path in files.into_iter().flatten().chain(&mut options.warm) {
        *path = directory.join(&*path);
    }
    let Some(file) = options.outfile.clone() else {
        return Ok(Verdict::Skipped("it has no output file (`-o`) to compare with".into()));
    };
    let recorded = match json::read_regular("steering output", &file, limits::HISTORY_BYTES) {
        Err(protocol::DocumentError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Verdict::Skipped(format!("there is no answer `{}`", file.display())));
        }
        other => other?,
    };
    let replayed = asking::answer(&options, dialect)?;
    Ok(match Difference::first(&recorded, replayed.as_bytes()) {
        None => Verdict::Same,
        Some(difference) => Verdict::Differs { file, difference },
    })
}

/// What is wrong with a call that cannot be read.
fn misspelt(error: &clap::Error) -> Failure {
    let text = error.to_string();
    Failure::input(anyhow!("{}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()))
}

/// Fills in what the call took from its environment.
fn complete(options: &mut AskOptions, variables: &[(String, String)]) -> Result<(), Failure> {
    let value = |name: &str| {
        variables
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value)
    };
    if let (None, Some(seed)) = (options.seed, value(environment::STEERING_SEED)) {
        let parsed = seed.parse();
        options.seed = Some(parsed.map_err(|_| {
            Failure::input(anyhow!(
                "the recorded `{}` must be an integer from 0, found `{seed}`",
                environment::STEERING_SEED
            ))
        })?);
    }
    if let (true, Some(task)) = (options.task.is_empty(), value(environment::TASK)) {
        options.task.clone_from(task);
    }
    Ok(())
}

fn as_json(findings: &[Finding]) -> String {
    let iterations: Vec<Value> = findings
        .iter()
        .map(|finding| match &finding.verdict {
            Verdict::Same => json!({"iteration": finding.iteration, "verdict": "same"}),
            Verdict::Skipped(reason) => json!({"iteration": finding.iteration, "verdict": "skipped", "reason": reason}),
            Verdict::Differs { file, difference } => json!({
                "iteration": finding.iteration,
                "verdict": "different",
                "file": file.display().to_string(),
                "byte": difference.byte,
                "recorded": difference.recorded,
                "replayed": difference.replayed,
            }),
        })
        .collect();
    format!("{}\n", Value::from(iterations))
}

fn as_text(findings: &[Finding], same: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let place = finding
            .iteration
            .map_or_else(|| "call".to_owned(), |number| format!("iteration {number}"));
        match &finding.verdict {
            Verdict::Same => {}
            Verdict::Skipped(reason) => {
                let _ = writeln!(text, "{place}: not compared, {reason}");
            }
            Verdict::Differs { file, difference } => {
                let _ = writeln!(
                    text,
                    "{place}: `{}` differs from its replay at byte {}",
                    file.display(),
                    difference.byte
                );
                let _ = writeln!(text, "  recorded {}", difference.recorded);
                let _ = writeln!(text, "  replayed {}", difference.replayed);
            }
        }
    }
    let _ = writeln!(
        text,
        "{same} of {} answers are the same to the last byte",
        findings.len()
    );
    text
}
