//! The command line.
//!
//! Two dialects are understood, with the same options in both. `steering ask` is ours. `steering generate`, or the options without
//! any verb, is hpogrid's. They differ in one point: in ours a file given by `--space` overrides the search space inside the
//! steering input, in hpogrid's it stands in where the input has none.
//!
//! A binary called `hpogrid` also counts as hpogrid does: the number asked for includes the points that are still pending.

mod arguments;
mod asking;
mod explaining;
mod front;
mod importance;
mod listing;
mod output;
mod planning;
mod scheduling;
mod validating;
mod verifying;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;

use clap::Parser as _;
use protocol::exit;
use protocol::search_space::SCHEMA;

use arguments::{Arguments, Command};

/// An error with the exit code that fits.
#[derive(Debug)]
struct Failure {
    error: anyhow::Error,
    code: u8,
}

impl Failure {
    fn input(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            code: exit::USAGE,
        }
    }

    fn infrastructure(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            code: exit::INFRASTRUCTURE,
        }
    }
}

impl From<protocol::DocumentError> for Failure {
    fn from(error: protocol::DocumentError) -> Self {
        // Its text already tells the cause, which would be printed a second time as the source.
        Self {
            code: error.exit_code(),
            error: anyhow::Error::msg(error.to_string()),
        }
    }
}

/// Which program we are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// `steering ask`.
    Own,
    /// `steering generate`, or options without a verb.
    Generate,
    /// Any of these under the name `hpogrid`.
    Hpogrid,
}

/// Runs the program and returns its exit code: 0 done, 1 a replay differs, 2 wrong usage or input, 3 infrastructure.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (arguments, is_hpogrid) = normalise(arguments);
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // A reader that went away has seen what it wanted.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::DONE };
        }
    };
    let done = match parsed.command {
        Command::Ask(options) => asking::run(&options, dialect_of(is_hpogrid, Dialect::Own)),
        Command::Generate(options) => asking::run(&options, dialect_of(is_hpogrid, Dialect::Generate)),
        Command::Validate(options) => validating::run(&options),
        Command::Explain(options) => explaining::run(&options),
        Command::Verify(options) => verifying::run(&options),
        Command::Importance(options) => importance::run(&options),
        Command::Front(options) => front::run(&options),
        Command::Samplers(options) => listing::run(&options),
        Command::Plan(options) => planning::run(&options),
        Command::Schedulers(options) => scheduling::list(&options),
        Command::Schema => output::print(SCHEMA).map(|()| exit::DONE),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {:#}", failure.error);
            failure.code
        }
    }
}

/// The dialect of a verb, under either name of the program.
fn dialect_of(is_hpogrid: bool, verb: Dialect) -> Dialect {
    if is_hpogrid { Dialect::Hpogrid } else { verb }
}

/// Puts the verb `generate` before options that come without a verb, and says whether the program was called `hpogrid`.
fn normalise(mut arguments: Vec<OsString>) -> (Vec<OsString>, bool) {
    let name = arguments
        .first()
        .map(Path::new)
        .and_then(Path::file_stem)
        .unwrap_or_default()
        .to_owned();
    let first = arguments
        .get(1)
        .and_then(|argument| argument.to_str())
        .unwrap_or_default();
    let is_option = first.starts_with('-') && !matches!(first, "-h" | "--help" | "-V" | "--version");
    if is_option {
        arguments.insert(1, "generate".into());
    }
    (arguments, name == "hpogrid")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_without_a_verb_mean_generate_and_the_name_is_recognised() {
        let normal = |line: &str| {
            let (arguments, is_hpogrid) = normalise(line.split(' ').map(OsString::from).collect());
            (arguments.join(" ".as_ref()).into_string().unwrap(), is_hpogrid)
        };
        assert_eq!(
            normal("steering -l=ax -n 1"),
            ("steering generate -l=ax -n 1".into(), false)
        );
        assert_eq!(normal("steering --help"), ("steering --help".into(), false));
        assert_eq!(
            normal("/usr/bin/hpogrid generate -n 1"),
            ("/usr/bin/hpogrid generate -n 1".into(), true)
        );
        assert_eq!(normal("hpogrid.exe -n 1"), ("hpogrid.exe generate -n 1".into(), true));
        assert_eq!(normal("steering"), ("steering".into(), false));
    }
}
