//! Commands and options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::task_options::TaskOptions;

use crate::import::Tool;

const EXAMPLES: &str = "\
Example:
  hpo run task.json --taskDir my-run     run a search; the same line again resumes it
  hpo best my-run                        the best point so far
  hpo show my-run                        all points with status, attempts and loss
  hpo watch my-run                       what is going on, until it is over
  hpo logs my-run 3                      what the evaluation of point 3 printed

Exit codes: 0 done, 1 the work failed, 2 wrong usage or input, 3 the machine failed,
            4 the journal of the task is damaged (`hpo journal repair`),
            130 and 143 interrupted (run the same line again to resume)";

const SUBMIT_EXAMPLE: &str = "\
Example:
  hpo submit config.json --taskDir my-run                         in the background of this machine
  hpo submit config.json --backend panda                          as a task of PanDA
  hpo submit config.json --backend panda --noSubmit               what would be sent";

const PANDA_VARIABLES: &str = "\
Variables that count for PanDA, as for its own client:
  X509_USER_PROXY         the proxy certificate; by default /tmp/x509up_u and the user's number
  PANDA_AUTH=oidc         show a token in its place, of the organisation in PANDA_AUTH_VO
  PANDA_AUTH_ID_TOKEN     the token
  OIDC_AUTH_TOKEN_FILE    or a file with it
  PANDA_CONFIG_ROOT       or the directory (~/.pathena) of the file .token, which is renewed,
                          or got by signing in with any browser
  PANDA_URL_SSL           the server of tasks
  PANDACACHE_URL          the server of files
  X509_CERT_DIR           certificates of authorities (/etc/grid-security/certificates)
  PANDA_VERIFY_HOST=off   trust any server";

const IMPORT_EXAMPLE: &str = "\
Example:
  hpo import study.log --taskDir old                     a journal of Optuna; `hpo best old` shows the best
  hpo run task.json --warm old                           a new search that learns from it
  hpo import ray_results/exp --taskDir old --metric accuracy --mode max
  hpo import project --taskDir new --evaluationExec 'python3 train.py' --maxPoints 100 && hpo resume new";

/// Searches hyperparameters: asks steering for points, evaluates them, and keeps what it learns.
#[derive(Debug, Parser)]
#[command(name = "hpo", version, before_help = EXAMPLES, infer_subcommands = false)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a task, or resume it
    #[command(infer_long_args = true)]
    Run(Box<RunArguments>),
    /// Run a task in the background, as `run --detach` does; or send it to PanDA, with `--backend panda`
    #[command(infer_long_args = true, before_help = SUBMIT_EXAMPLE, after_help = PANDA_VARIABLES)]
    Submit(Box<RunArguments>),
    /// Go on with a paused or interrupted task
    Resume(ResumeArguments),
    /// Make a task of what another tool has left: a study of Optuna, results of Keras Tuner, Ray Tune or hpogrid, or a configuration of
    /// phpo
    #[command(infer_long_args = true, before_help = IMPORT_EXAMPLE)]
    Import(Box<ImportArguments>),
    /// Show all points of a task
    #[command(alias = "showl")]
    Show(ShowArguments),
    /// Follow a task while it runs: progress, the best so far, what runs and how far it is, what failed
    Watch(WatchArguments),
    /// Show the best point of a task
    Best(TaskArguments),
    /// Show from which trainings the best point comes, with the hyperparameters of each: the schedule that a population has found
    Lineage(LineageArguments),
    /// List the tasks in a directory
    List(ListArguments),
    /// Print what an evaluation, or steering, wrote to its standard output and error
    Logs(LogsArguments),
    /// End a task and its running evaluations
    Kill(TaskArguments),
    /// End a task with the result that it has
    Finish(FinishArguments),
    /// Let running evaluations save their checkpoints and end; `resume` goes on
    Pause(TaskArguments),
    /// Try failed points, or a failed or killed task, again; or search on with more points
    Retry(RetryArguments),
    /// Probe this machine and the file system of a directory for what hpo needs
    Doctor(DoctorArguments),
    /// Print the JSON Schema of task files, by which editors check and complete them
    #[command(
        before_help = "Example:\n  hpo schema > task.schema.json\n  and in a task file: \"$schema\": \"task.schema.json\""
    )]
    Schema,
    /// Look into the journal of a task, or mend it
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Check every record of a journal
    Check(TaskArguments),
    /// Keep what is sound in a damaged journal; the damaged one is put aside, and what was evaluated is not evaluated again
    Repair(RepairArguments),
    /// Print every record, one JSON object a line
    Export(TaskArguments),
}

#[derive(Debug, Args)]
pub(super) struct RepairArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Say what would be kept and change nothing
    #[arg(long = "dry-run")]
    pub(super) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct WatchArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FinishArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Let running evaluations come to their end
    #[arg(long)]
    pub(super) soft: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// A task, or the directory in which tasks are to be
    #[arg(value_name = "DIR", default_value = ".")]
    pub(super) directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Task file, a JSON file of options (comments and trailing commas are allowed)
    #[arg(value_name = "TASK.json")]
    pub(super) task: Option<PathBuf>,
    /// The same as the argument, as phpo spells it
    #[arg(long = "loadJson", value_name = "FILE", conflicts_with = "task")]
    pub(super) load_json: Option<PathBuf>,
    /// Write all options, defaults included, to this file
    #[arg(long = "dumpJson", value_name = "FILE")]
    pub(super) dump_json: Option<PathBuf>,
    /// Write the parameters of a task of PanDA to this file (`submit` with `--backend panda --noSubmit`)
    #[arg(long = "dumpTaskParams", value_name = "FILE")]
    pub(super) dump_task_params: Option<PathBuf>,
    #[command(flatten)]
    pub(super) manager: ManagerArguments,
    #[command(flatten)]
    pub(super) options: TaskOptions,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// What the tool has left: a file or a directory
    #[arg(value_name = "SOURCE")]
    pub(super) source: PathBuf,
    /// Directory of the new task
    #[arg(long = "taskDir", value_name = "DIR")]
    pub(super) task_dir: PathBuf,
    /// Whose files these are (default: as they look)
    #[arg(long, value_name = "NAME")]
    pub(super) tool: Option<Tool>,
    /// Which of several studies of Optuna
    #[arg(long, value_name = "NAME")]
    pub(super) study: Option<String>,
    /// Which of several reported numbers was optimised
    #[arg(long, value_name = "NAME")]
    pub(super) metric: Option<String>,
    /// Whether it was to be small or large (default: as the files say)
    #[arg(long, value_name = "MODE")]
    pub(super) mode: Option<GoalMode>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// With `evaluationExec` the search can go on; without, its points can be looked at and learnt from
    #[command(flatten)]
    pub(super) options: TaskOptions,
}

/// Which numbers are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GoalMode {
    Min,
    Max,
}

/// What concerns the manager rather than the task.
#[derive(Debug, Args)]
pub(super) struct ManagerArguments {
    /// Directory of the task; resumed if there is a task in it (default: `hpo-` and the name of the task)
    #[arg(long = "taskDir", value_name = "DIR")]
    pub(super) task_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) manner: MannerArguments,
}

/// How a manager is to behave.
#[derive(Debug, Clone, Copy, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct MannerArguments {
    /// Give up what another host was running, and take the task over from it
    #[arg(long = "takeOver")]
    pub(super) take_over: bool,
    /// Run in the background, also after this session; `hpo watch` shows it, `manager.log` keeps what it says
    #[arg(long)]
    pub(super) detach: bool,
    /// This process is the one in the background
    #[arg(long = "detached", hide = true)]
    pub(super) detached: bool,
    /// Print the final result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print remarks and the final result only
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    #[command(flatten)]
    pub(super) manner: MannerArguments,
}

#[derive(Debug, Args)]
pub(super) struct TaskArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RetryArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Points of the whole search from now on, more than before (per segment in a segmented task)
    #[arg(long = "maxPoints", value_name = "N")]
    pub(super) max_points: Option<u32>,
    #[command(flatten)]
    pub(super) manner: MannerArguments,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Show one point with all its attempts
    #[arg(long, value_name = "ID")]
    pub(super) point: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LineageArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Id of the point (default: the best)
    #[arg(long, value_name = "ID")]
    pub(super) point: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Directory in which to look for tasks
    #[arg(value_name = "DIR", default_value = ".")]
    pub(super) directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogsArguments {
    /// Directory of the task
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Id of the point
    #[arg(value_name = "POINT", required_unless_present = "steering")]
    pub(super) point: Option<u32>,
    /// Number of the attempt (default: the last)
    #[arg(long, value_name = "N")]
    pub(super) attempt: Option<u32>,
    /// Go on printing until the attempt is over
    #[arg(long, short = 'f')]
    pub(super) follow: bool,
    /// The log of this run of steering instead
    #[arg(long, value_name = "N", conflicts_with_all = ["point", "attempt"])]
    pub(super) steering: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
