//! The layout of a task directory.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{self, Durability};
use crate::state::{AttemptKey, PointId};

/// Name of the log of a manager that runs on its own.
pub(crate) const MANAGER_LOG: &str = "manager.log";

/// What a user can ask of a task at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// End its evaluations and the task.
    Kill,
    /// End its evaluations; what there is, is the result.
    Finish,
    /// Start no more evaluations; the result is there when those that run are over.
    FinishSoftly,
    /// Let its evaluations save and end; the task can be resumed.
    Pause,
}

impl Request {
    const ALL: [Request; 4] = [Request::Kill, Request::Finish, Request::FinishSoftly, Request::Pause];

    fn word(self) -> &'static str {
        match self {
            Request::Kill => "kill",
            Request::Finish => "finish",
            Request::FinishSoftly => "finish softly",
            Request::Pause => "pause",
        }
    }

    /// Whether running evaluations are to be ended.
    pub(crate) fn ends_evaluations(self) -> bool {
        self != Request::FinishSoftly
    }
}

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
        self.all_checkpoints().join(point.to_string())
    }

    pub(crate) fn all_checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Points of which there are checkpoints.
    pub(crate) fn stored_checkpoints(&self) -> BTreeSet<PointId> {
        let entries = std::fs::read_dir(self.all_checkpoints());
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

    fn request_file(&self) -> PathBuf {
        self.root.join("request")
    }

    /// What the user wants of the task beyond its being run.
    pub(crate) fn request(&self) -> Option<Request> {
        let word = std::fs::read_to_string(self.request_file()).ok()?;
        Request::ALL.into_iter().find(|request| request.word() == word.trim())
    }

    /// Leaves a request for the manager at work, or the next one.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn ask(&self, request: Request) -> io::Result<()> {
        let text = format!("{}\n", request.word());
        files::write_whole(&self.request_file(), text.as_bytes(), Durability::PowerCut)
    }

    /// Takes the request back, or notes that it was carried out.
    pub(crate) fn withdraw_request(&self) {
        let _ = std::fs::remove_file(self.request_file());
    }

    /// What a manager that runs on its own has printed.
    pub(crate) fn manager_log(&self) -> PathBuf {
        self.root.join(MANAGER_LOG)
    }

    /// Whether there is a task here.
    pub(crate) fn exists(&self) -> bool {
        self.task_file().is_file()
    }
}
