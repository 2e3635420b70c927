//! The program `evaluation`; see [`evaluation::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    evaluation::cli::main()
}
