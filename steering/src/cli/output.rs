//! Standard output.

use std::io::{ErrorKind, Write as _};

use anyhow::anyhow;

use super::Failure;

/// Writes `text` to standard output. A reader that closed its end has read enough.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::infrastructure(anyhow!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Tells the user something that does not stop the program.
pub(super) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}
