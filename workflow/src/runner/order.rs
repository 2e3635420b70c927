//! What manager and runner tell each other: the order, the claim, the result.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::batch::{Element, restarts};
use super::supervise::Launch;
use crate::checkpoint::{Label, Source};
use crate::files;
use crate::host::ProcessIdentity;
use crate::state::{AttemptEnd, PointId};
use crate::task::SandboxFile;

/// Everything that a runner has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) task: String,
    pub(crate) point: PointId,
    pub(crate) attempt: u32,
    pub(crate) launch: Launch,
    /// Directory of the frozen sandbox, and its files.
    pub(crate) sandbox: PathBuf,
    pub(crate) sandbox_files: Vec<SandboxFile>,
    /// Name and content of the input file.
    pub(crate) input: String,
    pub(crate) input_content: Value,
    /// Name of the list of training files, and the files.
    pub(crate) training: Option<(String, Vec<String>)>,
    pub(crate) output: String,
    pub(crate) meta: Option<String>,
    pub(crate) metrics: Option<MetricsOrder>,
    pub(crate) checkpoint: Option<CheckpointOrder>,
    /// Where checkpoints of the point are kept.
    pub(crate) checkpoints: PathBuf,
    /// Directory for checkpoints that the payload manages itself.
    pub(crate) payload_checkpoints: PathBuf,
    /// The checkpoint of another point, to go on from.
    #[serde(default)]
    pub(crate) source: Option<Source>,
    /// Directory for a mark at the end, where the manager cannot wait for this process.
    #[serde(default)]
    pub(crate) ended: Option<PathBuf>,
    /// Under this label the checkpoint at the end is kept for other points.
    #[serde(default)]
    pub(crate) keep: Option<Label>,
}

/// What becomes of the metrics file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MetricsOrder {
    /// Its name in the work directory.
    pub(crate) file: String,
    /// Its name within the archive.
    pub(crate) member: String,
    /// The archive, and its name.
    pub(crate) archive: PathBuf,
    pub(crate) archive_name: String,
}

/// What is saved while the payload runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CheckpointOrder {
    pub(crate) paths: Vec<String>,
    pub(crate) load_as: Option<String>,
    pub(crate) interval: Duration,
    /// Mean time between interruptions, where the interval is to follow from it.
    #[serde(default)]
    pub(crate) mean_time_to_failure: Option<Duration>,
    pub(crate) largest: u64,
}

impl Order {
    /// Writes the order into the directory of its attempt.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        // Nobody reads it before the runner is started, so it need not appear at once.
        fs::write(directory.join("order.json"), serde_json::to_vec(self)?)
    }

    pub(super) fn read(directory: &Path) -> io::Result<Order> {
        let bytes = fs::read(directory.join("order.json"))?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// What a runner leaves behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunnerResult {
    pub(crate) task: String,
    pub(crate) point: PointId,
    pub(crate) attempt: u32,
    pub(crate) end: AttemptEnd,
    pub(crate) seconds: f64,
    pub(crate) warnings: Vec<String>,
    /// Whether it was asked to end because the time of its job was over.
    #[serde(default)]
    pub(crate) at_time_limit: bool,
}

/// The result of an attempt, if there is a valid one.
pub(crate) fn read_result(directory: &Path) -> Option<RunnerResult> {
    let bytes = files::read_foreign(&directory.join("result.json"), 4 << 20).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The file that says who has an attempt, in its directory.
const CLAIM: &str = "claim";

/// Who has an attempt.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    #[serde(flatten)]
    process: ProcessIdentity,
    /// The job of a batch system to which the process belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    element: Option<Element>,
    /// How often that job had been started again by then.
    #[serde(default, skip_serializing_if = "is_none")]
    restarts: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "that is how serde calls it")]
fn is_none(restarts: &u32) -> bool {
    *restarts == 0
}

/// Takes the attempt away from everybody who has not claimed it yet; false if somebody has.
pub(crate) fn revoke(directory: &Path) -> io::Result<bool> {
    claim(directory, &ProcessIdentity::current(), None)
}

/// Takes the attempt for this process; false if another process has it.
///
/// The claim is written aside and linked into place, so that it is never seen half written and only one link succeeds.
pub(super) fn claim(directory: &Path, process: &ProcessIdentity, element: Option<Element>) -> io::Result<bool> {
    let path = directory.join(CLAIM);
    let temporary = files::temporary_beside(&path);
    let mut file = File::create_new(&temporary)?;
    file.write_all(&claim_of(process, element)?)?;
    drop(file);
    let linked = fs::hard_link(&temporary, &path);
    fs::remove_file(&temporary)?;
    is_won(linked)
}

fn claim_of(process: &ProcessIdentity, element: Option<Element>) -> io::Result<Vec<u8>> {
    let claim = Claim {
        process: process.clone(),
        element,
        restarts: element.map_or(0, |_| restarts()),
    };
    Ok(serde_json::to_vec(&claim)?)
}

fn is_won(linked: io::Result<()>) -> io::Result<bool> {
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// The claim of a process that takes many attempts: one file without a name, which each of them is given a name of.
///
/// Between two evaluations, that is one change of a directory instead of three.
#[derive(Debug)]
pub(super) struct Ticket(File);

impl Ticket {
    /// A claim of this process on the file system of `directory`; `None` where there are no files without a name.
    pub(super) fn new(directory: &Path) -> Option<Ticket> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR).ok()?;
        let mut file = File::from(file);
        file.write_all(&claim_of(&ProcessIdentity::current(), None).ok()?)
            .ok()?;
        Some(Ticket(file))
    }

    /// Takes an attempt as [`claim`] does. An error says nothing about the attempt.
    pub(super) fn claim(&self, directory: &Path) -> io::Result<bool> {
        let own = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let path = directory.join(CLAIM);
        let linked = rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW);
        is_won(linked.map_err(io::Error::from))
    }
}

/// Who has taken the attempt, if anybody.
pub(crate) fn read_claim(directory: &Path) -> Option<ProcessIdentity> {
    Some(read(directory)?.process)
}

/// What kind of process has taken an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claimant {
    /// A process of this job of a batch system.
    Job(Element),
    /// A manager, so that nobody else can.
    Manager,
}

/// Who has taken an attempt that runs in jobs of a batch system.
pub(crate) fn read_claimant(directory: &Path) -> Option<Claimant> {
    Some(read(directory)?.element.map_or(Claimant::Manager, Claimant::Job))
}

/// How often the job of a batch system that has taken an attempt had been started again by then.
pub(crate) fn read_claimed_restarts(directory: &Path) -> Option<u32> {
    Some(read(directory)?.restarts)
}

fn read(directory: &Path) -> Option<Claim> {
    serde_json::from_slice(&fs::read(directory.join(CLAIM)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_gets_an_attempt() {
        let directory = tempfile::tempdir().unwrap();
        let process = ProcessIdentity::current();
        let start = std::sync::Barrier::new(8);
        let won = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        claim(directory.path(), &process, None).unwrap()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(won, 1);
        assert_eq!(read_claim(directory.path()), Some(process));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_ticket_takes_many_attempts_and_none_that_somebody_has() {
        let directory = tempfile::tempdir().unwrap();
        // Some file systems have no files without a name; there the other way is taken.
        let Some(ticket) = Ticket::new(directory.path()) else {
            return;
        };
        for name in ["one", "two"] {
            let at = directory.path().join(name);
            fs::create_dir(&at).unwrap();
            assert!(ticket.claim(&at).unwrap());
            assert!(!ticket.claim(&at).unwrap());
            assert!(!revoke(&at).unwrap());
            assert_eq!(read_claim(&at), Some(ProcessIdentity::current()));
        }
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(revoke(&taken).unwrap());
        assert!(!ticket.claim(&taken).unwrap());
        assert!(ticket.claim(&directory.path().join("missing")).is_err());
    }
}
