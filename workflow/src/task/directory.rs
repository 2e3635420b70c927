//! The layout of a task directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::state::{AttemptKey, PointId};

/// A task directory. `task.json` and `journal` are the truth, everything else follows from them.
#[derive(Debug, Clone)]
pub(crate) struct TaskDirectory {
    root: PathBuf,
}

impl TaskDirectory {
    /// The directory at `root`, which must be absolute.
    pub(crate) fn new(root: PathBuf) -> TaskDirectory {
        TaskDirectory { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The frozen task.
    pub(crate) fn task_file(&self) -> PathBuf {
        self.root.join("task.json")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Copies of the user's files, as they were at submission.
    pub(crate) fn sandbox(&self) -> PathBuf {
        self.root.join("sandbox")
    }

    /// Histories of earlier tasks, as they were at submission.
    pub(crate) fn earlier(&self) -> PathBuf {
        self.root.join(super::settings::EARLIER)
    }

    /// Where run `number` of steering happens.
    pub(crate) fn steering(&self, number: u32) -> PathBuf {
        self.root.join("steering").join(number.to_string())
    }

    pub(crate) fn points(&self) -> PathBuf {
        self.root.join("points")
    }

    pub(crate) fn point(&self, point: PointId) -> PathBuf {
        self.points().join(point.to_string())
    }

    pub(crate) fn attempt(&self, key: AttemptKey) -> PathBuf {
        self.point(key.point).join(format!("attempt-{}", key.attempt))
    }

    /// Checkpoints of a point, which outlive its attempts.
    pub(crate) fn checkpoints(&self, point: PointId) -> PathBuf {
        self.root.join("checkpoints").join(point.to_string())
    }

    /// Points of which there are checkpoints.
    pub(crate) fn stored_checkpoints(&self) -> BTreeSet<PointId> {
        let entries = std::fs::read_dir(self.root.join("checkpoints"));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.to_str()?.parse().ok()).collect()
    }

    /// What was submitted to a batch system.
    pub(crate) fn slurm(&self) -> PathBuf {
        self.root.join("slurm")
    }

    /// Marks of attempts on other machines that are over.
    pub(crate) fn ended_marks(&self) -> PathBuf {
        self.slurm().join("ended")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("metrics")
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.root.join("results.json")
    }

    /// Present while the user wants the task to be ended.
    pub(crate) fn kill_request(&self) -> PathBuf {
        self.root.join("kill")
    }

    /// Whether there is a task here.
    pub(crate) fn exists(&self) -> bool {
        self.task_file().is_file()
    }
}
