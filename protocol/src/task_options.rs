//! The options of a task: phpo's, spelled as phpo spells them, and ours.
//!
//! One struct is the command line (clap), the task file (JSON keys are option names without dashes) and the frozen `task.json`.
//! Everything is optional here, so that sources can be laid over one another; defaults are applied by the manager.
#![expect(clippy::doc_markdown, reason = "the comments on the fields are help texts")]

mod choices;
mod reading;
mod schema;
mod values;

use serde::{Deserialize, Serialize};

use values::{count, flag, long_count, pairs, text};

pub use choices::{Backend, ContainerRuntime, FractionOf, InputFormat};

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
