//! The command line of `hpo`.

mod arguments;
mod detach;
mod doctor;
mod error;
mod import;
mod inspect;
mod journal;
mod lineage;
mod logs;
mod manage;
mod open;
mod output;
mod panda;
mod plan;
mod run;
mod stop;
mod watch;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use crate::task::Request;
use arguments::{Arguments, Command, JournalCommand};

/// The whole program; `arguments` begin with the program's name. Returns the exit code.
#[must_use]
pub fn main(arguments: &[OsString]) -> u8 {
    if arguments
        .get(1)
        .is_some_and(|argument| argument == crate::runner::SUBCOMMAND)
    {
        return crate::runner::main(&arguments[2..]);
    }
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            // Help and version are no errors.
            return if error.use_stderr() {
                protocol::exit::USAGE
            } else {
                protocol::exit::DONE
            };
        }
    };
    let done = match parsed.command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Submit(arguments) => run::submit(*arguments),
        Command::Resume(arguments) => run::resume(&arguments),
        Command::Retry(arguments) => run::retry(&arguments),
        Command::Show(arguments) => inspect::show(&arguments),
        Command::Best(arguments) => inspect::best(&arguments),
        Command::Lineage(arguments) => lineage::lineage(&arguments),
        Command::List(arguments) => inspect::list(&arguments),
        Command::Watch(arguments) => watch::watch(&arguments),
        Command::Logs(arguments) => logs::logs(&arguments),
        Command::Import(arguments) => import::import(&arguments),
        Command::Kill(arguments) => stop::stop(&arguments, Request::Kill),
        Command::Pause(arguments) => stop::stop(&arguments, Request::Pause),
        Command::Finish(arguments) => stop::finish(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Schema => {
            let schema = protocol::task_options::TaskOptions::schema();
            output::print_line(&format!("{schema:#}")).map(|()| protocol::exit::DONE)
        }
        Command::Journal { command } => match command {
            JournalCommand::Check(arguments) => journal::check(&arguments),
            JournalCommand::Repair(arguments) => journal::repair(&arguments),
            JournalCommand::Export(arguments) => journal::export(&arguments),
        },
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            if !error.is_broken_pipe() {
                let _ = writeln!(std::io::stderr(), "hpo: {error}");
            }
            code
        }
    }
}
