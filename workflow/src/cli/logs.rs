//! `hpo logs`: what an evaluation, or steering, printed.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::exit;
use serde_json::{Value, json};

use super::arguments::LogsArguments;
use super::error::CliError;
use super::inspect::find;
use super::open::Opened;
use super::output::{Output, print, print_line};
use crate::host::Liveness;
use crate::journal::holder;
use crate::report::escape_lines;
use crate::runner::{read_claim, read_end};
use crate::state::AttemptKey;

/// Most bytes of a log that are printed; logs are kept below it.
const LARGEST_LOG: u64 = 64 << 20;
/// Between two looks whether more was printed.
const LOOK: Duration = Duration::from_millis(200);

struct Logs {
    stdout: String,
    stderr: String,
    directory: String,
}

impl Output for Logs {
    fn json(&self) -> Value {
        json!({"stdout": self.stdout, "stderr": self.stderr, "directory": self.directory})
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, log) in [("standard output", &self.stdout), ("standard error", &self.stderr)] {
            if !log.is_empty() {
                let _ = write!(text, "--- {name} ---\n{}", escape_lines(log));
                if !log.ends_with('\n') {
                    text.push('\n');
                }
            }
        }
        if text.is_empty() {
            "nothing was printed\n".to_owned()
        } else {
            text
        }
    }
}

pub(super) fn logs(arguments: &LogsArguments) -> Result<u8, CliError> {
    let opened = Opened::read(&arguments.directory)?;
    let directory = match (arguments.steering, arguments.point) {
        (Some(number), _) => opened.directory.steering(number).join(".hpo"),
        (None, id) => {
            let point = find(&opened.state, id.unwrap_or(0))?;
            let attempts = point.attempts.len() as u32;
            let attempt = arguments.attempt.unwrap_or(attempts);
            if attempt == 0 || attempt > attempts {
                return Err(CliError::Usage(format!(
                    "point {} has {attempts} attempts, found {attempt}",
                    point.id
                )));
            }
            opened.directory.attempt(AttemptKey {
                point: point.id,
                attempt,
            })
        }
    };
    if !directory.is_dir() {
        return Err(CliError::Usage(format!(
            "there are no logs in `{}`",
            directory.display()
        )));
    }
    if arguments.follow {
        let root = opened.directory.root();
        // Without a manager nothing begins; what has begun goes on, but for steering, which dies with it.
        let is_over = || match (arguments.steering, read_claim(&directory)) {
            (Some(_), _) => read_end(&directory).is_some() || holder(root).is_none(),
            (None, Some(claim)) => directory.join("result.json").exists() || claim.liveness() == Liveness::Dead,
            (None, None) => holder(root).is_none(),
        };
        return follow(&directory, &is_over, arguments.json);
    }
    let logs = Logs {
        stdout: read_log(&directory.join("stdout.log")),
        stderr: read_log(&directory.join("stderr.log")),
        directory: directory.display().to_string(),
    };
    print(&logs, arguments.json)?;
    Ok(exit::DONE)
}

fn read_log(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(LARGEST_LOG).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A log that grows.
struct Growing {
    name: &'static str,
    path: PathBuf,
    offset: u64,
}

impl Growing {
    /// Whole lines that were added; with the last one, whole or not, if the log is complete.
    fn more(&mut self, is_complete: bool) -> String {
        let mut bytes = Vec::new();
        let _ = fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(LARGEST_LOG).read_to_end(&mut bytes)
        });
        if !is_complete {
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            bytes.truncate(end);
        }
        self.offset += bytes.len() as u64;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Prints what is added until nobody can add anything.
fn follow(directory: &Path, is_over: &dyn Fn() -> bool, json: bool) -> Result<u8, CliError> {
    let mut logs = [("stdout", "stdout.log"), ("stderr", "stderr.log")].map(|(name, file)| Growing {
        name,
        path: directory.join(file),
        offset: 0,
    });
    let mut last = "";
    loop {
        // Asked before reading: what was printed until then is then read whole.
        let is_over = is_over();
        for log in &mut logs {
            let text = log.more(is_over);
            if text.is_empty() {
                continue;
            }
            if json {
                print_line(&json!({"stream": log.name, "text": text}).to_string())?;
                continue;
            }
            if last != log.name {
                let name = if log.name == "stdout" { "output" } else { "error" };
                print_line(&format!("--- standard {name} ---"))?;
                last = log.name;
            }
            print_line(escape_lines(&text).trim_end_matches('\n'))?;
        }
        if is_over {
            return Ok(exit::DONE);
        }
        std::thread::sleep(LOOK);
    }
}
