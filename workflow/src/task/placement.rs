//! Where the evaluations of a task run, and what their jobs ask Slurm for.

use std::time::Duration;

use protocol::Problem;
use protocol::task_options::{Backend, TaskOptions};
use protocol::units::{duration, size};

use super::shares::Shares;

/// Where evaluations run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placement {
    /// On this machine.
    Local,
    /// In jobs, or steps of a job, of Slurm.
    Slurm(Jobs),
}

/// What jobs are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jobs {
    pub(crate) manner: Manner,
    /// Evaluations at a time in one job.
    pub(crate) side_by_side: u32,
    /// What each of them gets of its job.
    pub(crate) shares: Option<Shares>,
    /// For `sbatch`.
    pub(crate) arguments: Vec<String>,
    /// Time limit of a job, where it is given.
    pub(crate) limit: Option<Duration>,
    /// So long before the time limit a job is asked to save and end.
    pub(crate) warning: Duration,
    /// Between two questions about all jobs.
    pub(crate) poll: Duration,
}

/// How evaluations come to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Each batch of points is an array.
    Arrays,
    /// At most so many jobs take points one after another.
    Pilots(u32),
    /// The tasks of the job in which hpo runs take points one after another.
    Allocation(u32),
}

/// What Slurm needs at least between its warning and the end: it looks at time limits every half minute, and warns up to
/// a minute early or late.
const LEAST_WARNING: Duration = Duration::from_secs(90);

impl Placement {
    /// Where the options want evaluations to run.
    ///
    /// # Errors
    /// All that is wrong about them, with pointers to the keys.
    pub(crate) fn read(options: &TaskOptions, grace: Duration) -> Result<Placement, Vec<Problem>> {
        let backend = options.backend.unwrap_or_default();
        if backend == Backend::Local {
            return Ok(Placement::Local);
        }
        let mut problems = Vec::new();
        if backend == Backend::Panda {
            problems.push(Problem::new(
                "/backend",
                "`panda` is for `hpo submit --noSubmit`, which makes the parameters of a task; a run needs `local`, `slurm` or `allocation`",
            ));
            return Err(problems);
        }
        for (key, count) in [
            ("slurmPilots", options.slurm_pilots),
            ("evaluationsPerJob", options.evaluations_per_job),
        ] {
            if count == Some(0) {
                problems.push(Problem::new(format!("/{key}"), "must be at least 1, found 0"));
            }
        }
        let mut fault = |key: &str, message: String| problems.push(Problem::new(format!("/{key}"), message));
        let limit = options
            .slurm_time
            .as_deref()
            .and_then(|text| time_limit(text).map_err(|message| fault("slurmTime", message)).ok());
        let poll = options
            .slurm_poll
            .as_deref()
            .map_or(Ok(Duration::from_secs(10)), duration);
        let poll = poll.unwrap_or_else(|message| {
            fault("slurmPoll", message);
            Duration::ZERO
        });
        if let Some(text) = &options.slurm_memory
            && let Err(message) = size(text)
        {
            fault("slurmMemory", message);
        }
        let warning = LEAST_WARNING.max(grace + Duration::from_mins(1));
        if let Some(limit) = limit
            && limit <= warning
        {
            let (limit, warning) = (limit.as_secs(), warning.as_secs());
            fault(
                "slurmTime",
                format!("must be above {warning} s, which evaluations are given to save and end, found {limit} s"),
            );
        }
        // What is wrong about shares is told where the machine's are read.
        let shares = Shares::read(options).unwrap_or_default();
        let side_by_side = options.evaluations_per_job.or(options.evaluations_per_gpu).unwrap_or(1);
        let manner = match (backend, options.slurm_pilots) {
            (Backend::Allocation, _) => Manner::Allocation(tasks_of_allocation()),
            (_, Some(pilots)) => Manner::Pilots(pilots),
            (_, None) => Manner::Arrays,
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut jobs = Jobs {
            manner,
            side_by_side,
            shares,
            arguments: Vec::new(),
            // The limit of an allocation is another one, which its tasks ask for.
            limit: limit.filter(|_| backend == Backend::Slurm),
            warning,
            poll,
        };
        jobs.arguments = jobs.arguments_of(options);
        Ok(Placement::Slurm(jobs))
    }

    /// Options that are given and concern jobs that nobody submits.
    pub(crate) fn unused(options: &TaskOptions) -> Vec<&'static str> {
        let backend = options.backend.unwrap_or_default();
        let asked = [
            ("slurmPilots", options.slurm_pilots.is_some()),
            (
                "evaluationsPerJob",
                options.evaluations_per_job.is_some() && backend == Backend::Local,
            ),
            ("slurmTime", options.slurm_time.is_some()),
            ("slurmPartition", options.slurm_partition.is_some()),
            ("slurmAccount", options.slurm_account.is_some()),
            ("slurmQos", options.slurm_qos.is_some()),
            ("slurmMemory", options.slurm_memory.is_some()),
            ("slurmGres", options.slurm_gres.is_some()),
            ("slurmConstraint", options.slurm_constraint.is_some()),
            ("sbatchOption", options.sbatch_option.is_some()),
        ];
        let unused = asked.iter().filter(|(_, given)| *given && backend != Backend::Slurm);
        unused.map(|(key, _)| *key).collect()
    }

    /// Evaluations at a time where nobody says.
    pub(crate) fn whole(&self) -> Option<u32> {
        match self {
            Placement::Local => None,
            Placement::Slurm(jobs) => Some(match jobs.manner {
                Manner::Arrays => jobs.side_by_side,
                Manner::Pilots(count) | Manner::Allocation(count) => count.saturating_mul(jobs.side_by_side),
            }),
        }
    }
}

impl Jobs {
    fn arguments_of(&self, options: &TaskOptions) -> Vec<String> {
        let mut arguments = vec!["--nodes=1".to_owned(), "--ntasks=1".to_owned()];
        let mut add = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
        if let Some(limit) = self.limit {
            let minutes = limit.as_secs().div_ceil(60);
            add("time", &minutes.to_string());
        }
        let texts = [
            ("partition", &options.slurm_partition),
            ("account", &options.slurm_account),
            ("qos", &options.slurm_qos),
            ("mem", &options.slurm_memory),
            ("constraint", &options.slurm_constraint),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                add(name, value);
            }
        }
        if let Some(cpus) = options.cpus_per_evaluation {
            add("cpus-per-task", &cpus.saturating_mul(self.side_by_side).to_string());
        }
        let gpus = match (options.gpus_per_evaluation, options.evaluations_per_gpu) {
            (Some(each), _) => Some(each.saturating_mul(self.side_by_side)),
            (None, Some(each)) => Some(self.side_by_side.div_ceil(each.max(1))),
            (None, None) => None,
        };
        match (&options.slurm_gres, gpus) {
            (Some(gres), _) => add("gres", gres),
            (None, Some(gpus)) => add("gres", &format!("gpu:{gpus}")),
            (None, None) => {}
        }
        add("signal", &format!("B:TERM@{}", self.warning.as_secs()));
        // A job that Slurm starts once more would wait for minutes and find its attempts taken: a new attempt is a new job.
        arguments.push("--no-requeue".to_owned());
        // What the user says comes last and wins.
        arguments.extend(options.sbatch_option.clone().unwrap_or_default());
        arguments
    }
}

/// Tasks of the job in which this process runs.
fn tasks_of_allocation() -> u32 {
    let count = std::env::var("SLURM_NTASKS").ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// A time limit as we or as Slurm spell it.
///
/// # Errors
/// What was expected and found.
pub(crate) fn time_limit(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time such as `90m`, `12h`, `12:00:00` or `1-12:00:00`, found `{text}`");
    if !text.contains([':', '-']) {
        return duration(text).map_err(|_| wrong());
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (days.parse::<u32>().map_err(|_| wrong())?, clock),
        None => (0, text),
    };
    let parts: Result<Vec<u64>, _> = clock
        .split(':')
        .map(|part| part.parse::<u32>().map(u64::from))
        .collect();
    let parts = parts.map_err(|_| wrong())?;
    let seconds = match (text.contains('-'), parts.as_slice()) {
        (_, [hours, minutes, seconds]) => hours * 3600 + minutes * 60 + seconds,
        (true, [hours, minutes]) => hours * 3600 + minutes * 60,
        (true, [hours]) => hours * 3600,
        (false, [minutes, seconds]) => minutes * 60 + seconds,
        _ => return Err(wrong()),
    };
    match u64::from(days) * 86400 + seconds {
        0 => Err(wrong()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(options: &serde_json::Value) -> Result<Placement, Vec<String>> {
        let options = TaskOptions::from_map(options.as_object().unwrap()).unwrap().0;
        Placement::read(&options, Duration::from_secs(30))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn arguments(options: &serde_json::Value) -> String {
        match read(options).unwrap() {
            Placement::Slurm(jobs) => jobs.arguments.join(" "),
            Placement::Local => panic!("expected jobs"),
        }
    }

    #[test]
    fn options_become_those_of_sbatch() {
        assert_eq!(
            arguments(&json!({"backend": "slurm"})),
            "--nodes=1 --ntasks=1 --signal=B:TERM@90 --no-requeue"
        );
        let all = json!({"backend": "slurm", "slurmTime": "1-12:00:00", "slurmPartition": "gpu", "slurmAccount": "a",
            "slurmQos": "q", "slurmMemory": "8G", "slurmConstraint": "x&y", "cpusPerEvaluation": 2, "evaluationsPerGpu": 2,
            "evaluationsPerJob": 3, "sbatchOption": ["--exclude=n7", "--requeue"]});
        assert_eq!(
            arguments(&all),
            "--nodes=1 --ntasks=1 --time=2160 --partition=gpu --account=a --qos=q --mem=8G --constraint=x&y \
             --cpus-per-task=6 --gres=gpu:2 --signal=B:TERM@90 --no-requeue --exclude=n7 --requeue"
        );
    }

    #[test]
    fn jobs_are_as_wide_as_is_asked_for() {
        let whole = |options| read(&options).unwrap().whole();
        assert_eq!(whole(json!({"backend": "slurm"})), Some(1));
        assert_eq!(whole(json!({"backend": "slurm", "evaluationsPerGpu": 4})), Some(4));
        assert_eq!(
            whole(json!({"backend": "slurm", "slurmPilots": 5, "evaluationsPerJob": 3})),
            Some(15)
        );
        assert_eq!(whole(json!({})), None);
    }

    #[test]
    fn time_limits_are_read_as_slurm_reads_them() {
        let seconds = |text| time_limit(text).map(|time| time.as_secs());
        for (text, expected) in [
            ("90m", 5400),
            ("30:00", 1800),
            ("2:00:00", 7200),
            ("1-12", 129_600),
            ("1-12:30", 131_400),
            ("1-12:30:15", 131_415),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "soon",
            "1-",
            "-1",
            "1:2:3:4",
            "0:00",
            "99999999999999999999:00",
            "1-99999999999999999",
        ] {
            assert!(time_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_at_once() {
        let problems = read(
            &json!({"backend": "slurm", "slurmTime": "1m", "slurmMemory": "much", "slurmPoll": "often", "evaluationsPerJob": 0}),
        );
        assert_eq!(
            problems.unwrap_err(),
            [
                "at `/evaluationsPerJob`: must be at least 1, found 0",
                "at `/slurmPoll`: expected a time above 0 such as `90s`, `10m`, `2h` or `1d`, found `often`",
                "at `/slurmMemory`: expected a size above 0 such as `500K`, `100M` or `2G`, found `much`",
                "at `/slurmTime`: must be above 90 s, which evaluations are given to save and end, found 60 s",
            ]
        );
    }

    #[test]
    fn options_of_jobs_that_nobody_submits_are_named() {
        let unused = |options: serde_json::Value| {
            let options = TaskOptions::from_map(options.as_object().unwrap()).unwrap().0;
            Placement::unused(&options)
        };
        assert_eq!(
            unused(json!({"slurmTime": "1h", "evaluationsPerJob": 2})),
            ["evaluationsPerJob", "slurmTime"]
        );
        assert_eq!(
            unused(json!({"backend": "allocation", "slurmAccount": "a", "evaluationsPerJob": 2})),
            ["slurmAccount"]
        );
        assert_eq!(unused(json!({"backend": "slurm", "slurmTime": "1h"})), [""; 0]);
    }
}
