//! The one way in which commands print: as text for people or as JSON for programs.

use std::io::Write;

use serde_json::Value;

use super::error::CliError;

/// What a command has to say.
pub(super) trait Output {
    /// For programs.
    fn json(&self) -> Value;
    /// For people, with a line end.
    fn text(&self) -> String;
}

/// Prints on standard output.
pub(super) fn print(output: &dyn Output, json: bool) -> Result<(), CliError> {
    let text = if json {
        format!("{:#}\n", output.json())
    } else {
        output.text()
    };
    write(&text)
}

/// Prints one line on standard output, at once.
pub(super) fn print_line(line: &str) -> Result<(), CliError> {
    write(&format!("{line}\n"))
}

fn write(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|source| CliError::io("standard output cannot be written", source))
}

/// Says something on standard error.
pub(super) fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "hpo: {text}");
}
