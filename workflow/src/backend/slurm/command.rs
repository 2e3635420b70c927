//! The programs of Slurm: their arguments and what they print.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::cluster::{Listed, Phase};
use crate::runner::Element;
use crate::task::Jobs;

/// A program of Slurm that takes longer is ended. With its controller down, each takes some nine seconds to say so.
const PATIENCE: Duration = Duration::from_mins(1);
/// The columns of `squeue`; the name comes last, because it alone may hold anything.
const COLUMNS: &str = "%i|%K|%T|%j";
/// Largest array where Slurm does not say: its own default.
const DEFAULT_ARRAY: u32 = 1000;
/// Most ids on one command line.
const MOST_IDS: usize = 500;

/// Calls of Slurm for one task.
#[derive(Debug, Clone)]
pub(super) struct Commands {
    root: PathBuf,
    name: String,
    arguments: Vec<String>,
}

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) output: String,
    pub(super) error: String,
    pub(super) is_good: bool,
}

impl Commands {
    pub(super) fn new(root: PathBuf, name: String, jobs: &Jobs) -> Commands {
        Commands {
            root,
            name,
            arguments: jobs.arguments.clone(),
        }
    }

    /// Submits a batch; its id.
    pub(super) fn submit(&self, batch: u32, size: u32) -> Result<String, String> {
        let directory = self.root.join(batch.to_string());
        let mut command = Command::new("sbatch");
        command
            .arg("--parsable")
            .arg(format!("--job-name={}-{batch}", self.name))
            .arg(format!("--array=0-{}", size.saturating_sub(1)))
            .arg(format!("--output={}/%a.log", escaped(&directory)))
            .arg(format!("--chdir={}", directory.display()))
            .args(&self.arguments)
            .arg(directory.join("job.sh"));
        let said = run(command)?;
        // With several clusters, the name of the cluster follows.
        let id = said.output.trim().split(';').next().unwrap_or_default();
        if said.is_good && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(id.to_owned())
        } else {
            Err(said.words())
        }
    }

    /// All jobs of the task.
    pub(super) fn list(&self) -> Result<Vec<Listed>, String> {
        let mut command = Command::new("squeue");
        let user = rustix::process::getuid().as_raw().to_string();
        command.args(["-h", "-r", "-t", "all", "-u", &user, "-o", COLUMNS]);
        let said = run(command)?;
        if said.is_good {
            Ok(parse(&said.output, &self.name))
        } else {
            Err(said.words())
        }
    }

    /// Ends jobs.
    pub(super) fn cancel(jobs: &[String]) {
        for part in jobs.chunks(MOST_IDS) {
            let mut command = Command::new("scancel");
            command.args(part);
            // A job that is over cannot be cancelled, and the others are asked for again.
            let _ = run(command);
        }
    }
}

impl Said {
    /// What it complains of, in one line.
    pub(super) fn words(&self) -> String {
        let text = if self.error.trim().is_empty() {
            &self.output
        } else {
            &self.error
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join("; ");
        let short: String = line.chars().take(500).collect();
        if short.is_empty() {
            "it said nothing".to_owned()
        } else {
            crate::report::escape(&short)
        }
    }
}

/// In file names, Slurm replaces what follows a percent sign.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('\\', r"\\").replace('%', "%%")
}

/// Reads what `squeue` printed. Lines of other jobs, and such that are not understood, are left out.
fn parse(text: &str, name: &str) -> Vec<Listed> {
    let jobs = text.lines().filter_map(|line| {
        let mut parts = line.splitn(4, '|');
        let (id, index, state, own) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let batch = own.strip_prefix(name)?.strip_prefix('-')?.parse().ok()?;
        Some(Listed {
            element: Element {
                batch,
                index: index.parse().ok()?,
            },
            id: id.to_owned(),
            phase: Phase::of(state),
        })
    });
    jobs.collect()
}

/// Most jobs of an array here.
pub(super) fn largest_array() -> u32 {
    let mut command = Command::new("scontrol");
    command.args(["show", "config"]);
    let said = run(command).ok().filter(|said| said.is_good);
    said.and_then(|said| largest_of(&said.output)).unwrap_or(DEFAULT_ARRAY)
}

fn largest_of(config: &str) -> Option<u32> {
    let value = config.lines().find_map(|line| line.strip_prefix("MaxArraySize"))?;
    let most: u32 = value.trim_start().strip_prefix('=')?.trim().parse().ok()?;
    // The size counts from index 0 to the one below it; larger arrays gain nothing.
    (most > 0).then(|| most.min(10_000))
}

/// Runs a program of Slurm, for a limited time.
pub(super) fn run(mut command: Command) -> Result<Said, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    // In a job, the variables of that job would be taken for wishes.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("SLURM_") && name != "SLURM_CONF" && name != "SLURM_JWT")
        {
            command.env_remove(name);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("`{program}` cannot be started: {error}"))?;
    let readers = reader(child.stdout.take()).and_then(|output| Ok((output, reader(child.stderr.take())?)));
    let (output, error) = match readers {
        Ok(both) => both,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("what `{program}` says cannot be read: {error}"));
        }
    };
    let begin = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begin.elapsed() < PATIENCE => {}
            _ => break None,
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("`{program}` did not end within {} s", PATIENCE.as_secs()));
    }
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    Ok(Said {
        output: text(output),
        error: text(error),
        is_good: status.is_some_and(|status| status.success()),
    })
}

/// Collects a stream, so that no pipe fills up.
fn reader(stream: Option<impl Read + Send + 'static>) -> io::Result<std::thread::JoinHandle<Vec<u8>>> {
    std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // A hundred thousand jobs are some ten megabytes.
            let _ = stream.take(256 << 20).read_to_end(&mut bytes);
        }
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::super::cluster::EndState;
    use super::*;

    #[test]
    fn jobs_of_the_task_are_read_and_others_left_out() {
        let text = "12_0|0|RUNNING|hpo-ab-3\n12_1|1|PENDING|hpo-ab-3\n13|N/A|RUNNING|hpo-ab-4\n14_0|0|RUNNING|hpo-abc-3\n\
                    15_2|2|NODE_FAIL|hpo-ab-5\nslurm_load_jobs error|\n16_0|0|RUNNING|a|hpo-ab-3\n";
        let found: Vec<_> = parse(text, "hpo-ab")
            .into_iter()
            .map(|job| (job.element.batch, job.element.index, job.id, job.phase))
            .collect();
        let expected = [
            (3, 0, "12_0".to_owned(), Phase::Active),
            (3, 1, "12_1".to_owned(), Phase::Queued),
            (5, 2, "15_2".to_owned(), Phase::Ended(EndState::Node)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_largest_array_is_that_of_the_configuration() {
        assert_eq!(largest_of("MaxArraySize            = 1001\nMaxX = 2\n"), Some(1001));
        assert_eq!(largest_of("MaxArraySize = 9000000\n"), Some(10_000));
        assert_eq!(largest_of("nothing"), None);
    }

    #[test]
    fn what_a_program_complains_of_is_one_line() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no; printf 'error: a\\n\\nerror: \\033b\\n' >&2; exit 1"]);
        let said = run(command).unwrap();
        assert!(!said.is_good);
        assert_eq!(said.words(), "error: a; error: \\u{1b}b");
        let missing = run(Command::new("/no/such/sbatch")).unwrap_err();
        assert!(
            missing.starts_with("`/no/such/sbatch` cannot be started: "),
            "{missing}"
        );
    }
}
