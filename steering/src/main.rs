//! The program `steering`; also `hpogrid`, when it is called by that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(steering::cli::run(std::env::args_os()))
}
