//! The tasks of the job in which hpo itself runs, as if they were jobs: one `srun` starts a pilot in each.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::cluster::{Answer, Cluster, EndState, Listed, Phase, Request};
use crate::runner::{Element, JOB, SUBCOMMAND};

/// The steps of this job.
#[derive(Debug)]
pub(super) struct Allocation {
    begin: Instant,
    root: PathBuf,
    executable: PathBuf,
    steps: BTreeMap<u32, Step>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Step {
    child: Child,
    size: u32,
    /// Becomes readable at its end; `None` where the kernel cannot do that.
    descriptor: Option<OwnedFd>,
    is_over: bool,
}

impl Allocation {
    /// # Errors
    /// When this process is not in a job of Slurm.
    pub(super) fn new(root: PathBuf, executable: PathBuf) -> io::Result<Allocation> {
        if std::env::var_os("SLURM_JOB_ID").is_none() {
            return Err(io::Error::other(
                "hpo does not run in a job of Slurm; submit it as in `sbatch --ntasks=4 --wrap 'hpo run task.json --backend allocation'`",
            ));
        }
        Ok(Allocation {
            begin: Instant::now(),
            root,
            executable,
            steps: BTreeMap::new(),
            answers: Vec::new(),
        })
    }

    fn start(&mut self, batch: u32, size: u32) -> Result<String, String> {
        let directory = self.root.join(batch.to_string());
        let mut command = Command::new("srun");
        command
            .arg(format!("--ntasks={size}"))
            // One pilot that dies is no reason to end the others.
            .args(["--kill-on-bad-exit=0", "--input=none"])
            .arg(format!(
                "--output={}/%t.log",
                directory.display().to_string().replace('%', "%%")
            ))
            .arg(&self.executable)
            .args([SUBCOMMAND, JOB])
            .arg(&directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .map_err(|error| format!("`srun` cannot be started: {error}"))?;
        let descriptor = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        let id = child.id().to_string();
        let is_over = false;
        self.steps.insert(
            batch,
            Step {
                child,
                size,
                descriptor,
                is_over,
            },
        );
        Ok(id)
    }

    fn list(&mut self) -> Vec<Listed> {
        let mut listed = Vec::new();
        for (batch, step) in &mut self.steps {
            step.is_over = step.is_over || !matches!(step.child.try_wait(), Ok(None));
            let phase = if step.is_over {
                Phase::Ended(EndState::Completed)
            } else {
                Phase::Active
            };
            listed.extend((0..step.size).map(|index| Listed {
                element: Element { batch: *batch, index },
                id: step.child.id().to_string(),
                phase: phase.clone(),
            }));
        }
        listed
    }
}

impl Cluster for Allocation {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn ask(&mut self, request: Request) {
        let answer = match request {
            Request::Submit { batch, size } => Answer::Submitted {
                batch,
                id: self.start(batch, size),
            },
            Request::List { question } => Answer::Listed {
                question,
                jobs: Ok(self.list()),
            },
            // Nothing is started here without need.
            Request::Cancel { .. } => return,
        };
        self.answers.push(answer);
    }

    fn answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let mut steps = self.steps.values().filter(|step| !step.is_over);
        steps.find_map(|step| step.descriptor.as_ref().map(AsFd::as_fd))
    }

    fn close(&mut self, _kept: &BTreeSet<u32>) {
        for step in self.steps.values_mut().filter(|step| !step.is_over) {
            // `srun` hands it on to its tasks, and ends when they have.
            let _ = rustix::process::kill_process(Pid::from_child(&step.child), Signal::TERM);
            let _ = step.child.wait();
        }
    }
}
