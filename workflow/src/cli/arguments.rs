//! Commands and options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use protocol::task_options::TaskOptions;

const EXAMPLES: &str = "\
Example:
  hpo run task.json --taskDir my-run     run a search; the same line again resumes it
  hpo best my-run                        the best point so far
  hpo show my-run                        all points with status, attempts and loss
  hpo logs my-run 3                      what the evaluation of point 3 printed

Exit codes: 0 done, 1 the work failed, 2 wrong usage or input, 3 the machine failed,
            130 and 143 interrupted (run the same line again to resume)";

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
    /// Show all points of a task
    Show(ShowArguments),
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
    /// Try failed points, or a failed or killed task, again
    Retry(RetryArguments),
    /// Look into the journal of a task
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Check every record of a journal
    Check(TaskArguments),
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
    #[command(flatten)]
    pub(super) manager: ManagerArguments,
    #[command(flatten)]
    pub(super) options: TaskOptions,
}

/// What concerns the manager rather than the task.
#[derive(Debug, Args)]
pub(super) struct ManagerArguments {
    /// Directory of the task; resumed if there is a task in it (default: `hpo-` and the name of the task)
    #[arg(long = "taskDir", value_name = "DIR")]
    pub(super) task_dir: Option<PathBuf>,
    /// Give up what another host was running, and take the task over from it
    #[arg(long = "takeOver")]
    pub(super) take_over: bool,
    /// Print the final result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print remarks and the final result only
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
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
    /// Give up what another host was running, and take the task over from it
    #[arg(long = "takeOver")]
    pub(super) take_over: bool,
    /// Print the final result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print remarks and the final result only
    #[arg(long, short = 'q')]
    pub(super) quiet: bool,
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
    /// The log of this run of steering instead
    #[arg(long, value_name = "N", conflicts_with_all = ["point", "attempt"])]
    pub(super) steering: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
