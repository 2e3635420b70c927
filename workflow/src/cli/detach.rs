//! `hpo run --detach`: the manager in the background, which outlives the session of the user.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::error::CliError;
use super::open::Opened;
use super::output::{Output, print};
use crate::files;
use crate::task::TaskDirectory;

/// Between two looks whether the manager has begun.
const LOOK: Duration = Duration::from_millis(10);

struct Detached<'a> {
    task: &'a str,
    directory: String,
    process: u32,
    log: String,
}

impl Output for Detached<'_> {
    fn json(&self) -> Value {
        json!({"task": self.task, "directory": self.directory, "process": self.process, "log": self.log})
    }

    fn text(&self) -> String {
        let Detached {
            task,
            directory,
            process,
            log,
        } = self;
        format!(
            "{} is run by process {process}, which writes to {log}\n`hpo watch {directory}` shows it, `hpo pause {directory}` stops it\n",
            crate::report::escape(task)
        )
    }
}

/// Starts this very command line again in the background, and returns when it is at work or has ended.
///
/// Everything that can be wrong with the task was found before by the caller, so that it was told to the user.
pub(super) fn start(directory: &TaskDirectory, json: bool) -> Result<u8, CliError> {
    let root = directory.root();
    let log_path = directory.manager_log();
    let unwritten = |source| CliError::io(format!("`{}` cannot be written", log_path.display()), source);
    files::create_private_directory(root).map_err(unwritten)?;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let log = files::open_own(&log_path, &mut options).map_err(unwritten)?;
    let before = log.metadata().map_err(unwritten)?.len();
    let earlier = Opened::read(root).map_or(0, |opened| opened.state.starts);
    let executable = std::env::current_exe().map_err(|source| CliError::io("the path of `hpo` is unknown", source))?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Behind the name of the command, where no `--` can stand before it.
    arguments.insert(1, OsString::from("--detached"));
    let mut command = Command::new(executable);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(log.try_clone().map_err(unwritten)?).stderr(log);
    let mut manager = command
        .spawn()
        .map_err(|source| CliError::io("no process can be started", source))?;
    loop {
        let ended = manager
            .try_wait()
            .map_err(|source| CliError::io("the manager cannot be watched", source))?;
        // A short task may be over by now, which is as good as begun.
        if Opened::read(root).is_ok_and(|opened| opened.state.starts > earlier) {
            break;
        }
        if let Some(status) = ended {
            let said = since(&log_path, before);
            let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.unwrap_or(protocol::exit::INFRASTRUCTURE));
        }
        std::thread::sleep(LOOK);
    }
    let opened = Opened::read(root)?;
    print(
        &Detached {
            task: &opened.task.name,
            directory: root.display().to_string(),
            process: manager.id(),
            log: log_path.display().to_string(),
        },
        json,
    )?;
    Ok(protocol::exit::DONE)
}

fn since(path: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    let _ = std::fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.read_to_end(&mut bytes)
    });
    String::from_utf8_lossy(&bytes).into_owned()
}
