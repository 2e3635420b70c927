//! The numbers of a task: options with their defaults, checked once.

use std::fmt::Write as _;
use std::time::Duration;

use protocol::Problem;
use protocol::task_options::{ContainerRuntime, FractionOf, InputFormat, TaskOptions};
use protocol::units::{duration, size};

use steering::objectives::Objectives;
use steering::schedulers::{Registry, Schedule, Scheduler};

use super::container::Containers;
use super::placement::Placement;
use super::schedule;
use super::shares::Shares;
use crate::state::RetryLimits;

/// Options that passed every check.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Evaluations at a time, per segment.
    pub(crate) slots: u32,
    /// Points of the search, per segment.
    pub(crate) max_points: u32,
    /// Evaluation jobs, per segment.
    pub(crate) max_jobs: u32,
    pub(crate) points_per_iteration: u32,
    pub(crate) min_unevaluated: u32,
    pub(crate) seed: Option<u64>,
    /// Who decides how far points are trained, if our steering is asked to.
    pub(crate) schedule: Option<Schedule>,
    /// Where evaluations run.
    pub(crate) placement: Placement,
    /// What each evaluation gets of this machine, where it is divided and evaluations run here.
    pub(crate) shares: Option<Shares>,
    /// The images in which steering and evaluations run.
    pub(crate) containers: Containers,
    pub(crate) steering_exec: String,
    pub(crate) steering_timeout: Option<Duration>,
    pub(crate) evaluation_exec: String,
    pub(crate) evaluation_timeout: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) retry: RetryLimits,
    pub(crate) input: String,
    pub(crate) training_data: String,
    pub(crate) output: String,
    pub(crate) meta: Option<String>,
    pub(crate) metrics: Option<String>,
    pub(crate) input_format: InputFormat,
    pub(crate) strip_reserved: bool,
    /// Whether a share of the data is a share of the files, so that the manager takes it.
    pub(crate) takes_files: bool,
    pub(crate) checkpoint: Option<CheckpointSettings>,
    pub(crate) sandbox_patterns: Vec<String>,
}

/// What is saved of a running evaluation.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointSettings {
    /// Files or directories, relative to the work directory.
    pub(crate) paths: Vec<String>,
    /// The name under which a retry finds the archive; `None`: unpacked in place.
    pub(crate) load_as: Option<String>,
    pub(crate) interval: Duration,
    /// Mean time between interruptions, where the interval is to follow from it.
    pub(crate) mean_time_to_failure: Option<Duration>,
    pub(crate) largest: u64,
}

/// The directory of a task with the histories of earlier tasks, as they were at submission.
pub(crate) const EARLIER: &str = "earlier";

/// The parts of a comma list.
pub(crate) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The command that runs our own steering.
fn default_steering(options: &TaskOptions) -> String {
    let sampler = options
        .sampler
        .as_deref()
        .map(|name| format!(" --lib {name}"))
        .unwrap_or_default();
    let mut command = format!("steering ask{sampler}");
    if options.transfer == Some(true) {
        command.push_str(" --transfer");
    }
    for number in 1..=options.warm.as_deref().map_or(0, |list| items(list).count()) {
        // From the directory of a run of steering: `steering/<n>` of the task.
        let _ = write!(command, " --warm ../../{EARLIER}/{number}.json");
    }
    command.push_str(&schedule::arguments(options));
    if let Some(objectives) = &options.objectives {
        let quoted = objectives.replace('\'', r"'\''");
        let _ = write!(command, " --objectives '{quoted}'");
    }
    command + " -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT"
}

/// The command that runs our own evaluation.
fn default_evaluation(options: &TaskOptions) -> String {
    let mut command = "evaluation run --model model.json".to_owned();
    let given = [
        ("--input", &options.evaluation_input),
        ("--output", &options.evaluation_output),
        ("--meta", &options.evaluation_meta),
        ("--metrics", &options.evaluation_metrics),
    ];
    for (option, value) in given {
        if let Some(value) = value {
            let _ = write!(command, " {option} {value}");
        }
    }
    if options.training_ds.is_some() || options.segment_spec_file.is_some() {
        let list = options.evaluation_training_data.as_deref().unwrap_or("input_ds.json");
        let _ = write!(command, " --data {list}");
    }
    command
}

/// Fills in every default, so that what is frozen says everything.
pub(crate) fn with_defaults(options: &TaskOptions) -> TaskOptions {
    let mut full = options.clone();
    let schedule = schedule::schedule(options).ok().flatten();
    let max_points = *full
        .max_points
        .get_or_insert_with(|| schedule.as_ref().map_or(10, planned_points));
    let attempts = *full.max_attempts.get_or_insert(3);
    let slots = *full.n_parallel_evaluation.get_or_insert_with(|| {
        // What is wrong about the placement is told when the settings are resolved.
        if let Some(whole) = Placement::read(options, Duration::ZERO)
            .ok()
            .and_then(|placement| placement.whole())
        {
            return whole;
        }
        let mut shares = Shares::read(options).ok().flatten();
        // Too few GPUs are told when evaluations are to be started.
        shares
            .as_mut()
            .map_or(1, |shares| shares.look().map_or(1, |()| shares.whole()))
    });
    if schedule.is_some() {
        // A scheduler decides best when it knows most: it is asked whenever a slot is free, for as many points as there are.
        let most = full
            .n_points_per_iteration
            .map_or(slots, |count| count.saturating_sub(1));
        full.min_unevaluated_points.get_or_insert(slots.min(most));
    }
    // phpo's default is twice the points; never so few that the attempts of every point would not fit.
    full.max_evaluation_jobs
        .get_or_insert(max_points.saturating_mul(attempts.max(2)));
    // With a threshold above the default the difference would ask for nothing.
    let least = full.min_unevaluated_points.unwrap_or(0).saturating_add(1);
    full.n_points_per_iteration.get_or_insert(least.max(2));
    full.min_unevaluated_points.get_or_insert(0);
    full.max_lost_attempts.get_or_insert(10);
    full.kill_grace.get_or_insert_with(|| "30s".to_owned());
    full.steering_exec.get_or_insert_with(|| default_steering(options));
    full.evaluation_exec.get_or_insert_with(|| default_evaluation(options));
    full.evaluation_input.get_or_insert_with(|| "input.json".to_owned());
    full.evaluation_training_data
        .get_or_insert_with(|| "input_ds.json".to_owned());
    full.evaluation_output.get_or_insert_with(|| "output.json".to_owned());
    full.evaluation_input_format.get_or_insert(InputFormat::Pair);
    full.container_runtime.get_or_insert(ContainerRuntime::Auto);
    if full.check_point_to_save.is_some() {
        full.check_point_interval.get_or_insert(5);
        full.check_point_max_size.get_or_insert_with(|| "100M".to_owned());
    }
    full
}

/// As many points as make a whole of what a scheduler does.
fn planned_points(schedule: &Schedule) -> u32 {
    let planned = Registry::standard()
        .build(schedule)
        .map_or(10, |scheduler| scheduler.plan(None).evaluations());
    u32::try_from(planned).unwrap_or(u32::MAX)
}

impl Settings {
    /// Checks options in which all defaults are filled in.
    ///
    /// # Errors
    /// All faults at once, with pointers to the keys.
    pub(crate) fn resolve(options: &TaskOptions) -> Result<Settings, Vec<Problem>> {
        let mut check = Check { problems: Vec::new() };
        let full = with_defaults(options);
        let slots = check.at_least_one("nParallelEvaluation", full.n_parallel_evaluation);
        let max_points = check.at_least_one("maxPoints", full.max_points);
        let max_jobs = check.at_least_one("maxEvaluationJobs", full.max_evaluation_jobs);
        let points_per_iteration = check.at_least_one("nPointsPerIteration", full.n_points_per_iteration);
        let attempts = check.at_least_one("maxAttempts", full.max_attempts);
        let min_unevaluated = full.min_unevaluated_points.unwrap_or(0);
        if min_unevaluated > 0 && min_unevaluated >= points_per_iteration {
            check.add(
                "minUnevaluatedPoints",
                format!(
                    "must be below nPointsPerIteration ({points_per_iteration}), found {min_unevaluated}; the difference is what one run of steering is asked for"
                ),
            );
        }
        let duration_of = |check: &mut Check, key: &str, text: &Option<String>| {
            text.as_deref().and_then(|text| match duration(text) {
                Ok(time) => Some(time),
                Err(message) => {
                    check.add(key, message);
                    None
                }
            })
        };
        let evaluation_timeout = duration_of(&mut check, "evaluationTimeout", &full.evaluation_timeout);
        let steering_timeout = duration_of(&mut check, "steeringTimeout", &full.steering_timeout);
        let mean_time_to_failure = duration_of(&mut check, "meanTimeToFailure", &full.mean_time_to_failure);
        if mean_time_to_failure.is_some() && full.check_point_to_save.is_none() {
            check.add("meanTimeToFailure", "is of no use without checkPointToSave".to_owned());
        }
        let grace = duration_of(&mut check, "killGrace", &full.kill_grace).unwrap_or(Duration::from_secs(30));
        let schedule = schedule::schedule(&full).unwrap_or_else(|problems| {
            check.problems.extend(problems);
            None
        });
        if schedule.is_some() && full.objectives.is_some() {
            check.add(
                "objectives",
                "cannot be told apart by a scheduler, which compares points by their loss alone; leave one of them out"
                    .to_owned(),
            );
        }
        let has_files = full.training_ds.is_some() || full.segment_spec_file.is_some();
        if full.fraction_of == Some(FractionOf::Files) && !has_files {
            check.add(
                "fractionOf",
                "is `files`, but there is no `trainingDS` to take them from".to_owned(),
            );
        }
        let shares = Shares::read(&full).unwrap_or_else(|problems| {
            check.problems.extend(problems);
            None
        });
        let placement = Placement::read(&full, grace).unwrap_or_else(|problems| {
            check.problems.extend(problems);
            Placement::Local
        });
        // Elsewhere, the job divides what Slurm gave it.
        let shares = shares.filter(|_| placement == Placement::Local);
        let path = std::env::var("PATH").unwrap_or_default();
        let containers = Containers::resolve(&full, &path).unwrap_or_else(|problems| {
            check.problems.extend(problems);
            Containers::default()
        });
        let steering_exec = check.command("steeringExec", full.steering_exec.as_deref());
        if let Some(Err(error)) = full.objectives.as_deref().map(str::parse::<Objectives>) {
            check.add("objectives", error.to_string());
        }
        let evaluation_exec = check.command("evaluationExec", full.evaluation_exec.as_deref());
        let input = check.file("evaluationInput", full.evaluation_input.as_deref());
        let training_data = check.file("evaluationTrainingData", full.evaluation_training_data.as_deref());
        let output = check.file("evaluationOutput", full.evaluation_output.as_deref());
        let optional = |check: &mut Check, key: &str, text: &Option<String>| {
            text.as_deref()
                .filter(|text| !text.is_empty())
                .map(|text| check.file(key, Some(text)))
        };
        let meta = optional(&mut check, "evaluationMeta", &full.evaluation_meta);
        let metrics = optional(&mut check, "evaluationMetrics", &full.evaluation_metrics);
        let load_as = optional(&mut check, "checkPointToLoad", &full.check_point_to_load);
        if load_as.is_some() && full.check_point_to_save.is_none() {
            check.add("checkPointToLoad", "is of no use without checkPointToSave".to_owned());
        }
        let checkpoint = full.check_point_to_save.as_deref().map(|list| {
            let paths = list.split(',').map(str::trim).filter(|path| !path.is_empty());
            let paths: Vec<String> = paths.map(|path| check.file("checkPointToSave", Some(path))).collect();
            if paths.is_empty() {
                check.add(
                    "checkPointToSave",
                    "expected a comma list of files or directories, found none".to_owned(),
                );
            }
            let largest = match size(full.check_point_max_size.as_deref().unwrap_or("100M")) {
                Ok(bytes) => bytes,
                Err(message) => {
                    check.add("checkPointMaxSize", message);
                    0
                }
            };
            let minutes = check.at_least_one("checkPointInterval", full.check_point_interval);
            let interval = Duration::from_secs(60 * u64::from(minutes));
            CheckpointSettings {
                paths,
                load_as,
                interval,
                mean_time_to_failure,
                largest,
            }
        });
        let list = full.sandbox_pattern.as_deref().unwrap_or_default();
        let sandbox_patterns = list
            .split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .map(str::to_owned)
            .collect();
        if !check.problems.is_empty() {
            return Err(check.problems);
        }
        Ok(Settings {
            slots,
            max_points,
            max_jobs,
            points_per_iteration,
            min_unevaluated,
            seed: full.seed,
            schedule,
            placement,
            shares,
            containers,
            steering_exec,
            steering_timeout,
            evaluation_exec,
            evaluation_timeout,
            grace,
            retry: RetryLimits {
                attempts,
                lost: full.max_lost_attempts.unwrap_or(10),
                points_per_job: full.max_points_per_evaluation_job.filter(|count| *count > 0),
            },
            input,
            training_data,
            output,
            meta,
            metrics,
            input_format: full.evaluation_input_format.unwrap_or_default(),
            strip_reserved: full.strip_reserved.unwrap_or(false),
            takes_files: full.fraction_of == Some(FractionOf::Files),
            checkpoint,
            sandbox_patterns,
        })
    }
}

impl Settings {
    /// Raises the points of the search, and the evaluation jobs with them.
    pub(crate) fn extend(&mut self, max_points: Option<u32>) {
        if let Some(more) = max_points.and_then(|points| points.checked_sub(self.max_points)) {
            self.max_points += more;
            let jobs = more.saturating_mul(self.retry.attempts.max(2));
            self.max_jobs = self.max_jobs.saturating_add(jobs);
        }
    }

    /// The scheduler that decides about running evaluations, if it does.
    pub(crate) fn watching_scheduler(&self) -> Option<Box<dyn Scheduler>> {
        let scheduler = Registry::standard().build(self.schedule.as_ref()?).ok()?;
        scheduler.stopping().is_some().then_some(scheduler)
    }
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn add(&mut self, key: &str, message: String) {
        self.problems.push(Problem::new(format!("/{key}"), message));
    }

    fn at_least_one(&mut self, key: &str, value: Option<u32>) -> u32 {
        let value = value.unwrap_or(0);
        if value == 0 {
            self.add(key, "must be at least 1, found 0".to_owned());
        }
        value
    }

    fn command(&mut self, key: &str, text: Option<&str>) -> String {
        let text = text.unwrap_or_default();
        if text.trim().is_empty() {
            self.add(key, "expected a command, found an empty string".to_owned());
        } else if text.contains('\0') {
            self.add(key, "must not contain a zero byte".to_owned());
        }
        text.to_owned()
    }

    /// A name that stays inside the work directory.
    fn file(&mut self, key: &str, text: Option<&str>) -> String {
        let text = text.unwrap_or_default();
        let inside = std::path::Path::new(text)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
        if text.is_empty() || text.contains('\0') || !inside || text.ends_with("/.") || text == "." {
            self.add(
                key,
                format!(
                    "expected a file name inside the work directory, found `{}`",
                    text.escape_debug()
                ),
            );
        }
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_phpo_with_our_own_programs() {
        let full = with_defaults(&TaskOptions::default());
        assert_eq!(
            full.steering_exec.as_deref(),
            Some("steering ask -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT")
        );
        assert_eq!(
            full.evaluation_exec.as_deref(),
            Some("evaluation run --model model.json")
        );
        let settings = Settings::resolve(&full).unwrap();
        assert_eq!((settings.slots, settings.max_points, settings.max_jobs), (1, 10, 30));
        assert_eq!((settings.points_per_iteration, settings.min_unevaluated), (2, 0));
        assert_eq!((settings.retry.attempts, settings.retry.lost), (3, 10));
        assert_eq!(settings.evaluation_timeout, None);
        assert_eq!(with_defaults(&full), full, "filling in twice changes nothing");
    }

    #[test]
    fn under_a_scheduler_steering_is_asked_whenever_a_slot_is_free() {
        let settings = |points_per_iteration: Option<u32>| {
            let options = TaskOptions {
                scheduler: Some("asha".to_owned()),
                max_epochs: Some(9),
                n_parallel_evaluation: Some(4),
                n_points_per_iteration: points_per_iteration,
                ..TaskOptions::default()
            };
            let settings = Settings::resolve(&options).unwrap();
            (
                settings.min_unevaluated,
                settings.points_per_iteration,
                settings.max_points,
            )
        };
        // As many points as one whole ladder takes: 9 + 3 + 1.
        assert_eq!(settings(None), (4, 5, 13));
        assert_eq!(settings(Some(2)), (1, 2, 13));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let options = TaskOptions {
            n_parallel_evaluation: Some(0),
            max_points: Some(0),
            min_unevaluated_points: Some(4),
            n_points_per_iteration: Some(4),
            evaluation_timeout: Some("soon".into()),
            evaluation_exec: Some(" ".into()),
            evaluation_output: Some("../out.json".into()),
            check_point_to_load: Some("c.tgz".into()),
            ..TaskOptions::default()
        };
        let problems: Vec<String> = Settings::resolve(&options)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "at `/nParallelEvaluation`: must be at least 1, found 0",
                "at `/maxPoints`: must be at least 1, found 0",
                "at `/maxEvaluationJobs`: must be at least 1, found 0",
                "at `/minUnevaluatedPoints`: must be below nPointsPerIteration (4), found 4; the difference is what one run of steering is asked for",
                "at `/evaluationTimeout`: expected a time above 0 such as `90s`, `10m`, `2h` or `1d`, found `soon`",
                "at `/evaluationExec`: expected a command, found an empty string",
                "at `/evaluationOutput`: expected a file name inside the work directory, found `../out.json`",
                "at `/checkPointToLoad`: is of no use without checkPointToSave",
            ]
        );
    }
}
