//! The options of a task: phpo's, spelled as phpo spells them, and ours.
//!
//! One struct is the command line (clap), the task file (JSON keys are option names without dashes) and the frozen `task.json`.
//! Everything is optional here, so that sources can be laid over one another; defaults are applied by the manager.
#![expect(clippy::doc_markdown, reason = "the comments on the fields are help texts")]

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::{DocumentError, Problem, did_you_mean, pointer};
use crate::json::{self, Dialect};
use crate::limits;

/// Shape of `input.json` in a segmented task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum InputFormat {
    /// `[model_id, point]`, as the PanDA job wrapper writes it.
    #[default]
    Pair,
    /// The point alone.
    Plain,
}

/// What a share of the training data is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FractionOf {
    /// Of the rows: the evaluation finds the share in HPO_DATA_FRACTION and `hpo.frac`, and takes as many.
    #[default]
    Rows,
    /// Of the files: the evaluation gets fewer of the files of trainingDS, whatever program it is.
    Files,
}

/// What runs the images of `steeringContainer` and `evaluationContainer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ContainerRuntime {
    /// The first of apptainer, singularity, podman, docker that is installed.
    #[default]
    Auto,
    /// Nothing: commands run on this machine, images are ignored.
    None,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// Apptainer.
    Apptainer,
    /// Singularity.
    Singularity,
}

/// Where evaluations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// As processes of the machine on which hpo runs.
    #[default]
    Local,
    /// As jobs of Slurm: an array for each batch of points, or pilots that take points one after another.
    Slurm,
    /// On all nodes of the Slurm job in which hpo itself runs.
    Allocation,
    /// As a task of PanDA: `hpo submit` makes its parameters.
    Panda,
}

/// All options of a task. Counts are per segment where a task has segments.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, clap::Args)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TaskOptions {
    /// Points evaluated at the same time (default 1)
    #[arg(long = "nParallelEvaluation", value_name = "N", help_heading = "Search")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub n_parallel_evaluation: Option<u32>,

    /// Points in the whole search (default 10; per segment in a segmented task)
    #[arg(long = "maxPoints", value_name = "N", help_heading = "Search")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub max_points: Option<u32>,

    /// Evaluation jobs in the whole search (default maxAttempts, at least 2, for each point; per segment in a segmented task)
    #[arg(long = "maxEvaluationJobs", value_name = "N", help_heading = "Search")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub max_evaluation_jobs: Option<u32>,

    /// Points that one evaluation job evaluates one after another (default: no limit)
    #[arg(long = "maxPointsPerEvaluationJob", value_name = "N", help_heading = "Search")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub max_points_per_evaluation_job: Option<u32>,

    /// Most points that one run of steering is asked for (default 2)
    #[arg(long = "nPointsPerIteration", value_name = "N", help_heading = "Search")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub n_points_per_iteration: Option<u32>,

    /// Steering runs again when fewer points than this are unevaluated (default 0: when none is)
    #[arg(long = "minUnevaluatedPoints", value_name = "N", help_heading = "Search")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub min_unevaluated_points: Option<u32>,

    /// Seed of the search; the same seed gives the same points (default: derived from the search space)
    #[arg(long = "seed", value_name = "N", help_heading = "Search")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "long_count")]
    pub seed: Option<u64>,

    /// Image in which steering runs
    #[arg(long = "steeringContainer", value_name = "IMAGE", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub steering_container: Option<String>,

    /// Command that proposes points, with %NUM_POINTS %MAX_POINTS %IN %OUT (default: our steering)
    #[arg(long = "steeringExec", value_name = "COMMAND", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub steering_exec: Option<String>,

    /// Sampler of our steering when steeringExec is not given
    #[arg(long = "sampler", value_name = "NAME", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub sampler: Option<String>,

    /// Let every segment learn from the others (our steering, with the samplers auto and gp)
    #[arg(long = "transfer", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub transfer: Option<bool>,

    /// Earlier tasks to learn from, a comma list of task directories, `results.json` files or steering inputs (our steering)
    #[arg(long = "warm", value_name = "LIST", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub warm: Option<String>,

    /// Losses to be made small or large at the same time, e.g. loss:min,latency:min (our steering)
    #[arg(long = "objectives", value_name = "LIST", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub objectives: Option<String>,

    /// Who decides how far points are trained: see `steering schedulers` (our steering)
    #[arg(
        long = "scheduler",
        value_name = "NAME",
        help_heading = "Training part of the points further"
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub scheduler: Option<String>,

    /// Epochs of the shortest training under a scheduler (default 1)
    #[arg(
        long = "minEpochs",
        alias = "min-epochs",
        value_name = "N",
        help_heading = "Training part of the points further"
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "long_count")]
    pub min_epochs: Option<u64>,

    /// Epochs of full training under a scheduler; a point finds its own in HPO_EPOCHS
    #[arg(
        long = "maxEpochs",
        alias = "max-epochs",
        value_name = "N",
        help_heading = "Training part of the points further"
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "long_count")]
    pub max_epochs: Option<u64>,

    /// Share of the data of the smallest training, instead of epochs; a point finds its own in HPO_DATA_FRACTION
    #[arg(
        long = "minFraction",
        alias = "min-fraction",
        value_name = "SHARE",
        help_heading = "Training part of the points further"
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub min_fraction: Option<String>,

    /// A setting of the scheduler, see `steering schedulers`; may be given several times (an object or list in a task file)
    #[arg(
        long = "schedule",
        value_name = "NAME=VALUE",
        help_heading = "Training part of the points further"
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "pairs")]
    pub schedule: Option<Vec<String>>,

    /// Search on part of the data first, then train the best on all of them, e.g. fraction=0.05,top=2% (our steering)
    #[arg(
        long = "twoStep",
        value_name = "NAME=VALUE,...",
        help_heading = "Training part of the points further"
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "pairs")]
    pub two_step: Option<Vec<String>>,

    /// What a share of the data is a share of
    #[arg(
        long = "fractionOf",
        value_name = "WHAT",
        help_heading = "Training part of the points further"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction_of: Option<FractionOf>,

    /// Search space: a JSON object, or a list with one space a segment
    #[arg(long = "searchSpaceFile", value_name = "FILE", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub search_space_file: Option<String>,

    /// Time after which a run of steering is killed and repeated, e.g. 90s, 10m, 2h (default 1h)
    #[arg(long = "steeringTimeout", value_name = "TIME", help_heading = "Steering")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub steering_timeout: Option<String>,

    /// Evaluations that share a GPU; nParallelEvaluation then fills the GPUs by default
    #[arg(long = "evaluationsPerGpu", value_name = "N", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub evaluations_per_gpu: Option<u32>,

    /// GPUs of each evaluation, named to it in CUDA_VISIBLE_DEVICES
    #[arg(long = "gpusPerEvaluation", value_name = "N", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub gpus_per_evaluation: Option<u32>,

    /// Threads of each evaluation, told to it in HPO_CPUS, OMP_NUM_THREADS and the like
    #[arg(long = "cpusPerEvaluation", value_name = "N", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub cpus_per_evaluation: Option<u32>,

    /// Image in which evaluations run
    #[arg(long = "evaluationContainer", value_name = "IMAGE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_container: Option<String>,

    /// Command that evaluates a point, run by a shell in its work directory (default: our evaluation with model.json)
    #[arg(long = "evaluationExec", value_name = "COMMAND", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_exec: Option<String>,

    /// File in which an evaluation finds its point (default input.json)
    #[arg(long = "evaluationInput", value_name = "FILE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_input: Option<String>,

    /// File in which an evaluation finds the list of training files (default input_ds.json)
    #[arg(long = "evaluationTrainingData", value_name = "FILE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_training_data: Option<String>,

    /// File in which an evaluation leaves its loss (default output.json)
    #[arg(long = "evaluationOutput", value_name = "FILE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_output: Option<String>,

    /// File in which an evaluation leaves metadata, a JSON object of at most 1 MiB
    #[arg(long = "evaluationMeta", value_name = "FILE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_meta: Option<String>,

    /// File in which an evaluation leaves metrics, kept for every point
    #[arg(long = "evaluationMetrics", value_name = "FILE", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_metrics: Option<String>,

    /// Shape of the input file in a segmented task
    #[arg(long = "evaluationInputFormat", value_name = "FORMAT", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_input_format: Option<InputFormat>,

    /// Time after which an evaluation is stopped and counts as failed, e.g. 90s, 10m, 2h (default: none)
    #[arg(long = "evaluationTimeout", value_name = "TIME", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub evaluation_timeout: Option<String>,

    /// Time between the request to end and the kill of an evaluation (default 30s)
    #[arg(long = "killGrace", value_name = "TIME", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub kill_grace: Option<String>,

    /// Attempts of a point whose evaluation fails, before it gets the very large loss (default 3)
    #[arg(long = "maxAttempts", value_name = "N", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub max_attempts: Option<u32>,

    /// Further attempts of a point whose evaluation was lost through no fault of its own (default 10)
    #[arg(long = "maxLostAttempts", value_name = "N", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub max_lost_attempts: Option<u32>,

    /// Remove the reserved keys (hpo.*) from the input file; they are always exported as HPO_… variables
    #[arg(long = "stripReserved", num_args = 0..=1, default_missing_value = "true", help_heading = "Evaluation")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub strip_reserved: Option<bool>,

    /// Files or directories that are saved from the work directory of a running evaluation, a comma list
    #[arg(long = "checkPointToSave", value_name = "LIST", help_heading = "Checkpoints")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub check_point_to_save: Option<String>,

    /// Name under which a retry finds the saved archive, unextracted (default: extracted in place)
    #[arg(long = "checkPointToLoad", value_name = "FILE", help_heading = "Checkpoints")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub check_point_to_load: Option<String>,

    /// Minutes between two saves (default 5)
    #[arg(long = "checkPointInterval", value_name = "MINUTES", help_heading = "Checkpoints")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub check_point_interval: Option<u32>,

    /// Mean time between interruptions of an evaluation, e.g. 4h; from the first save on, the time between two follows from it and
    /// from how long saves take, between 30 s and 1 h
    #[arg(long = "meanTimeToFailure", value_name = "TIME", help_heading = "Checkpoints")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub mean_time_to_failure: Option<String>,

    /// Largest archive that is kept, e.g. 500M, 2G (default 100M)
    #[arg(long = "checkPointMaxSize", value_name = "SIZE", help_heading = "Checkpoints")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub check_point_max_size: Option<String>,

    /// Training data: a file, a directory, a glob pattern, an http(s) URL, or a comma list of these
    #[arg(long = "trainingDS", value_name = "DATA", help_heading = "Data")]
    #[serde(
        rename = "trainingDS",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "text"
    )]
    pub training_ds: Option<String>,

    /// Segments, each with a model and data of its own
    #[arg(long = "segmentSpecFile", value_name = "FILE", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub segment_spec_file: Option<String>,

    /// Further patterns of files that go into the work directories, a comma list (always: *.json *.py *.sh *.yaml *.onnx)
    #[arg(long = "sandboxPattern", value_name = "LIST", help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub sandbox_pattern: Option<String>,

    /// Name of the task; phpo's output data set (default: name of the task directory)
    #[arg(long = "outDS", value_name = "NAME", help_heading = "Task")]
    #[serde(rename = "outDS", skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub out_ds: Option<String>,

    /// Runtime of the containers
    #[arg(long = "containerRuntime", value_name = "NAME", help_heading = "Task")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_runtime: Option<ContainerRuntime>,

    /// Further arguments of the container runtime, such as `--network none`
    #[arg(
        long = "alrbArgs",
        value_name = "ARGS",
        help_heading = "Task",
        allow_hyphen_values = true
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub alrb_args: Option<String>,

    /// Where evaluations run (default local)
    #[arg(long = "backend", value_name = "WHERE", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,

    /// Submit at most so many jobs that take points one after another until their time is over, instead of one job a point
    #[arg(long = "slurmPilots", value_name = "N", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub slurm_pilots: Option<u32>,

    /// Evaluations side by side in one job (default 1, or evaluationsPerGpu; on an allocation as many as its CPUs or GPUs hold)
    #[arg(long = "evaluationsPerJob", value_name = "N", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count")]
    pub evaluations_per_job: Option<u32>,

    /// Time limit of a job, e.g. 90m, 12h or 1-12:00:00 (default: that of the partition)
    #[arg(long = "slurmTime", value_name = "TIME", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_time: Option<String>,

    /// Partition of the jobs, or a comma list
    #[arg(long = "slurmPartition", value_name = "NAME", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_partition: Option<String>,

    /// Account that is charged
    #[arg(long = "slurmAccount", value_name = "NAME", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_account: Option<String>,

    /// Quality of service
    #[arg(long = "slurmQos", value_name = "NAME", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_qos: Option<String>,

    /// Memory of a job on its node, e.g. 8G
    #[arg(long = "slurmMemory", value_name = "SIZE", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_memory: Option<String>,

    /// Generic resources of a job, e.g. gpu:a100:1 (default: what gpusPerEvaluation or evaluationsPerGpu need)
    #[arg(long = "slurmGres", value_name = "LIST", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_gres: Option<String>,

    /// Features that a node must have
    #[arg(long = "slurmConstraint", value_name = "FEATURES", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_constraint: Option<String>,

    /// A further option of sbatch, e.g. --sbatchOption=--exclude=n7; may be given several times (a list in a task file)
    #[arg(
        long = "sbatchOption",
        value_name = "OPTION",
        help_heading = "Slurm",
        allow_hyphen_values = true
    )]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "pairs")]
    pub sbatch_option: Option<Vec<String>>,

    /// Between two questions to Slurm about all jobs (default 10s)
    #[arg(long = "slurmPoll", value_name = "TIME", help_heading = "Slurm")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub slurm_poll: Option<String>,

    /// Wanted processor and accelerator, `CPU#GPU` forms as in phpo (used on the grid only)
    #[arg(long = "architecture", value_name = "SPEC", help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub architecture: Option<String>,

    /// Site or comma list of sites (used on the grid only)
    #[arg(long = "site", value_name = "LIST", help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub site: Option<String>,

    /// Working group (used on the grid only)
    #[arg(long = "workingGroup", value_name = "NAME", help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub working_group: Option<String>,

    /// VOMS roles (used on the grid only)
    #[arg(long = "voms", value_name = "ROLES", help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text")]
    pub voms_roles: Option<String>,

    /// Official, group production (used on the grid only)
    #[arg(long = "official", num_args = 0..=1, default_missing_value = "true", help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub official: Option<bool>,

    /// No mail at the end (used on the grid only)
    #[arg(long = "noEmail", num_args = 0..=1, default_missing_value = "true", help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub no_email: Option<bool>,

    /// Use the integration server (used on the grid only)
    #[arg(long = "intrSrv", num_args = 0..=1, default_missing_value = "true", hide = true, help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub intr_srv: Option<bool>,

    /// Accepted for compatibility, without effect
    #[arg(short = '3', num_args = 0..=1, default_missing_value = "true", hide = true, help_heading = "Grid")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub python3: Option<bool>,

    /// Say more
    #[arg(short = 'v', long = "verbose", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Task")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub verbose: Option<bool>,

    /// Prepare and check everything, print the plan, start nothing
    #[arg(long = "noSubmit", alias = "dry-run", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Task")]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "flag")]
    pub no_submit: Option<bool>,
}

/// phpo turns every string that looks like an integer into one; so both spellings are taken.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let wide = long_count(deserializer)?;
    wide.map(|count| {
        u32::try_from(count)
            .map_err(|_| serde::de::Error::custom(format!("expected at most {}, found {count}", u32::MAX)))
    })
    .transpose()
}

fn long_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("expected an integer from 0, found {value}")))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        // `architecture` may be a JSON object in phpo.
        Value::Object(map) => Ok(Some(Value::Object(map).to_string())),
        other => Err(serde::de::Error::custom(format!(
            "expected a string, found {}",
            json::type_name(&other)
        ))),
    }
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match &value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        Value::Number(number) if matches!(number.as_u64(), Some(0 | 1)) => Ok(Some(number.as_u64() == Some(1))),
        _ => Err(serde::de::Error::custom(format!(
            "expected true or false, found {value}"
        ))),
    }
}

/// Settings as a list of `name=value`, one such text, or an object.
fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Array(items) => Ok(Some(items.iter().map(plain).collect())),
        Value::Object(map) => Ok(Some(
            map.iter()
                .map(|(key, value)| format!("{key}={}", plain(value)))
                .collect(),
        )),
        Value::Bool(found) => Err(serde::de::Error::custom(format!(
            "expected settings as an object or as texts `name=value`, found {found}"
        ))),
        single => Ok(Some(vec![plain(&single)])),
    }
}

/// Keys that phpo knows and a task file may carry, but which are not options of a task.
const IGNORED_KEYS: [&str; 6] = [
    "loadJson",
    "dumpJson",
    "version",
    "helpGroup",
    "returnCode",
    "returnOut",
];

impl TaskOptions {
    /// Names of all options as JSON keys, in the order of the declaration.
    #[must_use]
    pub fn keys() -> Vec<String> {
        use clap::Args as _;
        Self::augment_args(clap::Command::new("keys"))
            .get_arguments()
            .map(|argument| match argument.get_id().as_str() {
                "training_ds" => "trainingDS".to_owned(),
                "out_ds" => "outDS".to_owned(),
                id => camel_case(id),
            })
            .collect()
    }

    /// Reads options from a JSON object. Unknown keys are warned of, as phpo does, and skipped.
    ///
    /// # Errors
    /// All wrong types at once, with pointers.
    pub fn from_map(map: &Map<String, Value>) -> Result<(Self, Vec<String>), Vec<Problem>> {
        let known = Self::keys();
        let (mut accepted, mut warnings, mut problems) = (Map::new(), Vec::new(), Vec::new());
        for (key, value) in map {
            if IGNORED_KEYS.contains(&key.as_str()) {
                continue;
            }
            if !known.contains(key) {
                let hint = did_you_mean(key, known.iter().map(String::as_str));
                warnings.push(format!("unknown option `{key}` is ignored{hint}"));
                continue;
            }
            let alone: Map<String, Value> = [(key.clone(), value.clone())].into_iter().collect();
            match serde_json::from_value::<Self>(Value::Object(alone.clone())) {
                Ok(_) => accepted.extend(alone),
                Err(error) => problems.push(Problem::new(pointer("", key), error.to_string())),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        serde_json::from_value(Value::Object(accepted))
            .map(|options| (options, warnings))
            .map_err(|error| vec![Problem::new("", error.to_string())])
    }

    /// Reads a task file, or a phpo configuration. Comments and trailing commas are accepted. Also returns warnings.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(path: &Path) -> Result<(Self, Vec<String>), DocumentError> {
        const WHAT: &str = "task file";
        match json::read(WHAT, path, limits::DOCUMENT_BYTES, Dialect::Commented)? {
            Value::Object(map) => Self::from_map(&map).map_err(|problems| DocumentError::invalid(WHAT, path, problems)),
            other => {
                let message = format!("expected an object of options, found {}", json::type_name(&other));
                Err(DocumentError::invalid(WHAT, path, vec![Problem::new("", message)]))
            }
        }
    }

    /// These options laid over `below`: what is given here wins. Also returns the keys that both give with different values.
    ///
    /// # Panics
    /// Never: every value was read from valid options.
    #[must_use]
    pub fn over(&self, below: &Self) -> (Self, Vec<String>) {
        let mut merged = as_map(below);
        let mut overridden = Vec::new();
        for (key, value) in as_map(self) {
            if merged.get(&key).is_some_and(|other| *other != value) {
                overridden.push(key.clone());
            }
            merged.insert(key, value);
        }
        let merged = serde_json::from_value(Value::Object(merged)).expect("two valid sets of options merge into one");
        (merged, overridden)
    }
}

fn as_map(options: &TaskOptions) -> Map<String, Value> {
    match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        _ => unreachable!("a struct serialises into an object"),
    }
}

fn camel_case(id: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for letter in id.chars() {
        if letter == '_' {
            upper = true;
        } else {
            out.extend(if upper {
                letter.to_uppercase().collect::<Vec<_>>()
            } else {
                vec![letter]
            });
            upper = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(value: &Value) -> (TaskOptions, Vec<String>) {
        TaskOptions::from_map(value.as_object().unwrap()).unwrap()
    }

    #[test]
    fn every_declared_key_is_a_json_key() {
        let keys = TaskOptions::keys();
        for phpo in [
            "nParallelEvaluation",
            "maxPoints",
            "maxEvaluationJobs",
            "maxPointsPerEvaluationJob",
            "nPointsPerIteration",
            "minUnevaluatedPoints",
            "steeringContainer",
            "steeringExec",
            "searchSpaceFile",
            "evaluationContainer",
            "evaluationExec",
            "evaluationInput",
            "evaluationTrainingData",
            "evaluationOutput",
            "evaluationMeta",
            "evaluationMetrics",
            "checkPointToSave",
            "checkPointToLoad",
            "checkPointInterval",
            "alrbArgs",
            "architecture",
            "segmentSpecFile",
            "verbose",
            "trainingDS",
            "outDS",
            "official",
            "site",
            "workingGroup",
            "noSubmit",
            "python3",
            "vomsRoles",
            "noEmail",
            "intrSrv",
        ] {
            assert!(keys.iter().any(|key| key == phpo), "{phpo} is missing");
        }
        for key in &keys {
            let accepted = [json!(1), json!("pair"), json!("auto"), json!("files"), json!("slurm")]
                .iter()
                .any(|value| {
                    let map = [(key.clone(), value.clone())].into_iter().collect();
                    TaskOptions::from_map(&map)
                        .is_ok_and(|(options, warnings)| warnings.is_empty() && options != TaskOptions::default())
                });
            assert!(accepted, "{key} is declared but not read");
        }
    }

    #[test]
    fn integers_may_be_strings_and_strings_integers_as_in_phpo() {
        let (found, warnings) = options(&json!({"maxPoints": "12", "outDS": 7, "minUnevaluatedPoints": null}));
        assert_eq!(
            (found.max_points, found.out_ds.as_deref(), found.min_unevaluated_points),
            (Some(12), Some("7"), None)
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn unknown_keys_are_warned_of_and_wrong_types_are_errors_with_places() {
        let (_, warnings) = options(&json!({"maxPoint": 3}));
        assert_eq!(
            warnings,
            ["unknown option `maxPoint` is ignored; did you mean `maxPoints`?"]
        );
        let map = json!({"maxPoints": 2.5, "evaluationExec": true, "noEmail": "x", "evaluationInputFormat": "pairs"});
        let problems: Vec<_> = TaskOptions::from_map(map.as_object().unwrap())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "at `/maxPoints`: expected an integer from 0, found 2.5",
                "at `/evaluationExec`: expected a string, found a boolean",
                "at `/noEmail`: expected true or false, found \"x\"",
                "at `/evaluationInputFormat`: unknown variant `pairs`, expected `pair` or `plain`",
            ]
        );
    }

    #[test]
    fn what_is_laid_over_wins_and_is_reported() {
        let (file, _) = options(&json!({"maxPoints": 12, "outDS": "a"}));
        let (line, _) = options(&json!({"maxPoints": 7, "seed": 3}));
        let (merged, overridden) = line.over(&file);
        assert_eq!(
            (merged.max_points, merged.seed, merged.out_ds.as_deref()),
            (Some(7), Some(3), Some("a"))
        );
        assert_eq!(overridden, ["maxPoints"]);
    }
}
