//! What manager and jobs of a batch system tell each other: the attempts of a batch, the queue of pilots, and requests to end.
//!
//! All of it is files, because a file system is the one thing that the nodes of every cluster share.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::{self, Durability};
use crate::state::AttemptKey;
use crate::task::Shares;

/// Jobs that are submitted together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) work: Work,
    /// How evaluations side by side divide the job.
    pub(crate) shares: Option<Shares>,
    /// Time limit of a job, where it is known.
    pub(crate) limit: Option<Duration>,
    /// So long before the limit a job is asked to end.
    pub(crate) warning: Duration,
}

/// What the jobs of a batch have to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// For each job, the attempts that it carries out side by side.
    Attempts(Vec<Vec<Assignment>>),
    /// Each job takes attempts from the queue, so many at a time.
    Pilots {
        count: u32,
        queue: PathBuf,
        side_by_side: u32,
    },
}

/// An attempt and its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) point: u32,
    pub(crate) attempt: u32,
    pub(crate) directory: PathBuf,
    /// Seconds that it will take, as far as one can tell from others.
    #[serde(default)]
    pub(crate) seconds: Option<u32>,
}

/// The file of a batch in its directory.
pub(super) const BATCH: &str = "batch.json";

impl Batch {
    /// Jobs of the batch.
    pub(crate) fn size(&self) -> u32 {
        match &self.work {
            Work::Attempts(jobs) => jobs.len() as u32,
            Work::Pilots { count, .. } => *count,
        }
    }

    /// Writes the batch into its directory, to stay.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        files::write_whole(&directory.join(BATCH), &text, Durability::PowerCut)
    }

    /// Reads the batch of this directory.
    pub(crate) fn read(directory: &Path) -> io::Result<Batch> {
        Ok(serde_json::from_slice(&fs::read(directory.join(BATCH))?)?)
    }
}

/// One job of a batch: the number of the batch, and that of the job in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Element {
    pub(crate) batch: u32,
    pub(crate) index: u32,
}

/// Names the element to the runners of a job.
pub(super) const ELEMENT: &str = "HPO_BATCH_ELEMENT";

impl Element {
    /// The element that the environment names.
    pub(super) fn from_environment() -> Option<Element> {
        let text = std::env::var(ELEMENT).ok()?;
        let (batch, index) = text.split_once('/')?;
        Some(Element {
            batch: batch.parse().ok()?,
            index: index.parse().ok()?,
        })
    }

    pub(super) fn to_text(self) -> String {
        format!("{}/{}", self.batch, self.index)
    }
}

/// How often Slurm has started the job of this process again, after its node failed or it was preempted.
pub(super) fn restarts() -> u32 {
    let text = std::env::var("SLURM_RESTART_COUNT").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Notes that a job of the batch in this directory was started again.
pub(super) fn note_restarts(directory: &Path, index: u32, restarts: u32) -> io::Result<()> {
    files::write_whole(
        &restarts_file(directory, index),
        restarts.to_string().as_bytes(),
        Durability::Crash,
    )
}

/// How often a job of the batch in this directory was started again.
pub(crate) fn read_restarts(directory: &Path, index: u32) -> u32 {
    let text = fs::read_to_string(restarts_file(directory, index)).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn restarts_file(directory: &Path, index: u32) -> PathBuf {
    directory.join(format!("{index}.restarts"))
}

/// What a running attempt is asked for, by a file in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EndRequest {
    /// To save a checkpoint and end.
    Stop,
    /// To end at once.
    Kill,
    /// To end at once and leave nothing behind: the attempt is given up, and another one may be under way.
    Revoked,
}

impl EndRequest {
    const ALL: [EndRequest; 3] = [EndRequest::Stop, EndRequest::Kill, EndRequest::Revoked];

    fn word(self) -> &'static str {
        match self {
            EndRequest::Stop => "stop",
            EndRequest::Kill => "kill",
            EndRequest::Revoked => "revoked",
        }
    }

    /// What the attempt in this directory is asked for, if anything.
    pub(crate) fn read(directory: &Path) -> Option<EndRequest> {
        let text = fs::read_to_string(directory.join("end")).ok()?;
        EndRequest::ALL.into_iter().find(|request| request.word() == text)
    }

    /// Asks the attempt in this directory.
    pub(crate) fn write(self, directory: &Path) -> io::Result<()> {
        files::write_whole(&directory.join("end"), self.word().as_bytes(), Durability::Crash)
    }
}

/// The file that says that an attempt is over, for those that cannot wait for its process.
pub(crate) fn mark_of(key: AttemptKey) -> String {
    format!("{}-{}", key.point, key.attempt)
}

/// The attempt of a mark.
pub(crate) fn key_of(mark: &str) -> Option<AttemptKey> {
    let (point, attempt) = mark.split_once('-')?;
    Some(AttemptKey {
        point: point.parse().ok()?,
        attempt: attempt.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::PointId;

    #[test]
    fn requests_and_marks_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(EndRequest::read(directory.path()), None);
        for request in EndRequest::ALL {
            request.write(directory.path()).unwrap();
            assert_eq!(EndRequest::read(directory.path()), Some(request));
        }
        let key = AttemptKey {
            point: PointId(12),
            attempt: 3,
        };
        assert_eq!(key_of(&mark_of(key)), Some(key));
        assert_eq!(key_of("12"), None);
        assert_eq!(read_restarts(directory.path(), 3), 0);
        note_restarts(directory.path(), 3, 2).unwrap();
        assert_eq!(read_restarts(directory.path(), 3), 2);
    }
}
