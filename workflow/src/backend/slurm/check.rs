//! Whether there is a Slurm, and whether it takes what a task would submit.

use std::process::Command;
use std::time::Duration;

use thiserror::Error;

use super::command::run;
use crate::task::{Jobs, Manner, time_limit};

/// Why a task cannot be run with Slurm.
#[derive(Debug, Error)]
pub(crate) enum SlurmError {
    #[error("Slurm is not to be found here: {0}; run hpo where `sbatch` works, or without `--backend slurm`")]
    Missing(String),
    #[error(
        "Slurm refuses the jobs of this task: {words} (asked for: {arguments}); `sinfo` shows partitions, `sacctmgr show associations` accounts"
    )]
    Refused { words: String, arguments: String },
    #[error(
        "hpo does not run in a job of Slurm; submit it, as in `sbatch --ntasks=4 --wrap 'hpo run task.json --backend allocation'`"
    )]
    NoAllocation,
}

impl SlurmError {
    /// Whether the same call will fail again.
    pub(crate) fn is_usage(&self) -> bool {
        !matches!(self, SlurmError::Missing(_))
    }
}

impl Jobs {
    /// Asks Slurm whether it would take such jobs. A remark if it does not answer: that may be over before it matters.
    ///
    /// # Errors
    /// When there is no Slurm, or it refuses.
    pub(crate) fn check(&self) -> Result<Option<String>, SlurmError> {
        if let Manner::Allocation(_) = self.manner {
            if std::env::var_os("SLURM_JOB_ID").is_none() {
                return Err(SlurmError::NoAllocation);
            }
            let mut srun = Command::new("srun");
            srun.arg("--version");
            return run(srun).map(|_| None).map_err(SlurmError::Missing);
        }
        let mut version = Command::new("sbatch");
        version.arg("--version");
        run(version).map_err(SlurmError::Missing)?;
        let mut trial = Command::new("sbatch");
        trial.arg("--test-only").args(&self.arguments).args(["--wrap", "true"]);
        let Ok(said) = run(trial) else {
            return Ok(Some("Slurm does not answer yet".to_owned()));
        };
        if said.is_good {
            return Ok(None);
        }
        // A refusal by a controller that is there, or none that could refuse?
        let mut question = Command::new("squeue");
        question.args(["-h", "-t", "running", "-u", "0"]);
        if run(question).is_ok_and(|answer| answer.is_good) {
            Err(SlurmError::Refused {
                words: said.words(),
                arguments: self.arguments.join(" "),
            })
        } else {
            Ok(Some(format!("Slurm does not answer yet ({})", said.words())))
        }
    }
}

/// How long this job may still run; `None` where that has no limit, or Slurm does not say.
pub(crate) fn time_left(id: &str) -> Option<Duration> {
    let mut command = Command::new("squeue");
    command.args(["-h", "-o", "%L", "-j", id]);
    let said = run(command).ok().filter(|said| said.is_good)?;
    // Where it is none, a word like `UNLIMITED` stands here.
    time_limit(said.output.trim()).ok()
}

/// Whether Slurm says that this job is over. False where it does not say.
pub(crate) fn job_is_over(id: &str) -> bool {
    let mut command = Command::new("squeue");
    command.args(["-h", "-o", "%T", "-t", "all", "-j", id]);
    let Ok(said) = run(command) else { return false };
    if said.is_good {
        return said
            .output
            .lines()
            .all(|state| matches!(super::cluster::Phase::of(state.trim()), super::cluster::Phase::Ended(_)));
    }
    // An id that was forgotten is an error here; whether the controller answers at all, another question tells.
    let mut question = Command::new("squeue");
    question.args(["-h", "-t", "running", "-u", "0"]);
    run(question).is_ok_and(|answer| answer.is_good)
}
