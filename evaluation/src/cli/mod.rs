//! The command line of `evaluation`.
//!
//! Data goes to stdout, everything else to stderr; whatever fails also leaves a loss document with status 1, because that
//! is where users of PanDA look. Exit codes are those of [`protocol::exit`].

mod arguments;
mod check;
mod doctor;
mod failure;
mod inspect;
mod observer;
mod prepare;
mod run;
mod signals;
mod start;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use protocol::exit;
use protocol::loss_document::LossDocument;

use arguments::{Cli, Command};

/// Runs the program on the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let outcome = match cli.command {
        None => run::run(&cli.run),
        Some(Command::Run(options)) => run::run(&options),
        Some(Command::Check(options)) => check::check(&options),
        Some(Command::Library(options)) => inspect::library(&options),
        Some(Command::Doctor(options)) => doctor::doctor(&options),
        Some(Command::Setup(options)) => doctor::setup(&options),
        Some(Command::Data(options)) => inspect::data(&options),
    };
    match outcome {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(failure) => {
            say(&format!("error: {failure}"));
            ExitCode::from(failure.code)
        }
    }
}

/// Help and version are no errors; wrong usage also becomes a loss document where an evaluation was meant.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    // A closed terminal changes nothing about the exit code.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::from(exit::DONE);
    }
    if let Some(path) = intended_output(arguments) {
        let text = error.to_string();
        let first = text
            .lines()
            .next()
            .unwrap_or("wrong usage")
            .trim_start_matches("error: ");
        if let Err(error) = LossDocument::failure(first).write(&path) {
            say(&format!(
                "error: cannot write loss document `{}`: {error}",
                path.display()
            ));
        }
    }
    ExitCode::from(exit::USAGE)
}

/// Where a loss document is expected: at `--output`, or here when there is a point to evaluate here.
fn intended_output(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        if text == "--output" || text == "-o" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--output=") {
            return Some(PathBuf::from(path));
        }
    }
    PathBuf::from(arguments::INPUT)
        .exists()
        .then(|| PathBuf::from(arguments::OUTPUT))
}

/// A line on stderr; nobody listening is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Text on stdout; a closed pipe is success.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
