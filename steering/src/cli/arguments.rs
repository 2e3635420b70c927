//! What can be written on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::Styles;
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::{environment, limits};

use super::scheduling::ScheduleOptions;
use crate::history::Mode;
use crate::objectives::Objectives;

/// Chooses the next points of a hyperparameter search.
#[derive(Debug, Parser)]
#[command(
    name = "steering",
    version,
    styles = Styles::plain(),
    max_term_width = 110,
    before_help = "Example:\n  steering ask -n 4 -m 100 -i input.json -o output.json",
    after_help = "Exit codes: 0 done, 2 wrong usage or input, 3 infrastructure (disk, permissions).\n\
                  Options without a verb are read as `generate`. A binary called `hpogrid` subtracts pending points, as hpogrid does."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write the next points
    #[command(before_help = ASK_EXAMPLE, after_help = ASK_NOTES)]
    Ask(AskOptions),
    /// The same, as hpogrid spells it: `--space` counts only where the input has no search space
    #[command(before_help = GENERATE_EXAMPLE, after_help = ASK_NOTES)]
    Generate(AskOptions),
    /// Check a search space and a steering input, and list all faults
    #[command(before_help = "Example:\n  steering validate -s space.json -i input.json")]
    Validate(ValidateOptions),
    /// Say why each of the points is proposed that `ask` gives for the same options
    #[command(before_help = EXPLAIN_EXAMPLE, after_help = EXPLAIN_NOTES)]
    Explain(ExplainOptions),
    /// Run recorded calls of steering again and compare the answers byte by byte
    #[command(before_help = VERIFY_EXAMPLE, after_help = VERIFY_NOTES)]
    Verify(VerifyOptions),
    /// Say how much of the differences between losses each dimension accounts for
    #[command(before_help = IMPORTANCE_EXAMPLE, after_help = IMPORTANCE_NOTES)]
    Importance(ImportanceOptions),
    /// Print the points that no other beats in all objectives
    #[command(before_help = FRONT_EXAMPLE, after_help = FRONT_NOTES)]
    Front(FrontOptions),
    /// List the samplers and their settings
    #[command(before_help = "Example:\n  steering samplers --json")]
    Samplers(ListOptions),
    /// Say how many evaluations and how much training a scheduler leads to
    #[command(before_help = "Example:\n  steering plan --scheduler hyperband --max-epochs 81")]
    Plan(PlanOptions),
    /// List the schedulers and their settings
    #[command(before_help = "Example:\n  steering schedulers --json")]
    Schedulers(ListOptions),
    /// Print the JSON Schema of search spaces, by which editors check and complete them
    #[command(
        before_help = "Example:\n  steering schema > search_space.schema.json\n  and in a search space: \"$schema\": \"search_space.schema.json\""
    )]
    Schema,
}

const ASK_EXAMPLE: &str = "Example:\n  steering ask -n 4 -m 100 -i input.json -o output.json\n  \
    steering ask -n 1 -i segments.json --transfer\n  \
    steering ask -n 4 -i input.json --warm last_year --warm older.json\n  \
    steering ask -n 4 -i input.json --objectives loss:min,latency:min";
const GENERATE_EXAMPLE: &str = "Example:\n  steering generate --lib=nevergrad --n_point=4 --max_point=20 --infile input.json --outfile output.json";
const EXPLAIN_EXAMPLE: &str = "Example:\n  steering explain --lib tpe -n 4 -m 100 -i input.json";
const EXPLAIN_NOTES: &str = "The options are those of `ask`, so that a recorded call is explained by putting `explain` in the place of `ask`.\n\
    No file is written: `-o` is accepted and not used.";
const IMPORTANCE_EXAMPLE: &str = "Example:\n  steering importance -i input.json";
const IMPORTANCE_NOTES: &str = "Shares are those of the variance of the loss over the whole search space, as a random forest predicts it from the\n\
    evaluated points; ± is one standard deviation. Shares of pairs are beyond those of both dimensions. Where a few\n\
    diverged points outweigh all others, `--cap 0.9` tells more.";
const FRONT_EXAMPLE: &str = "Examples:\n  steering front -i my_task --objectives loss:min,latency:min\n  \
    steering front -i input.json --objectives loss:min,accuracy:max --reference loss=1,accuracy=0.5";
const FRONT_NOTES: &str = "The hypervolume is that between the front and the reference: in each objective the worst value on the front and a tenth\n\
    of the range of the front, unless given.";
const VERIFY_EXAMPLE: &str =
    "Examples:\n  steering verify my_task\n  steering verify ask --lib tpe -n 4 -i input.json -o output.json";
const VERIFY_NOTES: &str = "A task directory holds its iterations in `steering/1`, `steering/2` and so on, each with the call, its input and\n\
    its output. A single call is given as it was made, with `verify` before it.\n\n\
    Exit codes: 0 all answers are the same, 1 some differ, 2 wrong usage or input, or nothing to compare.";
const ASK_NOTES: &str = "Samplers: auto, cmaes, evolution, gp, grid, random, sobol, tpe; `steering samplers` tells more.\n\
    Names of other libraries stand for the closest sampler:\n  \
    ax, skopt -> gp\n  \
    bohb, hyperopt, nevergrad, optuna -> tpe\n  \
    nevergrad with --method RandomSearch -> random; with a Halton, Hammersley or LHS method -> sobol\n\n\
    At most -n points are returned, and no more than -m leaves. With segments, -n counts for each segment, and -m is\n\
    shared by the segments equally: phpo multiplies its --maxPoints by their number. An empty list means that the\n\
    search is over.";

/// Options of `ask` and `generate`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct AskOptions {
    /// Sampler, or library of hpogrid, in any case of letters
    #[arg(short, long, value_name = "NAME", default_value = crate::ask::DEFAULT_SAMPLER)]
    pub(super) lib: String,
    /// Most new points (of each segment)
    #[arg(
        short = 'n',
        long = "n-point",
        alias = "n_point",
        value_name = "COUNT",
        allow_negative_numbers = true
    )]
    pub(super) n_point: usize,
    /// Points of the whole search; unlimited if absent
    #[arg(
        short = 'm',
        long = "max-point",
        alias = "max_point",
        value_name = "COUNT",
        allow_negative_numbers = true
    )]
    pub(super) max_point: Option<usize>,
    /// Steering input: history and search space; without it the history is empty
    #[arg(short, long, value_name = "FILE")]
    pub(super) infile: Option<PathBuf>,
    /// Where the new points go; standard output if absent
    #[arg(short, long, value_name = "FILE")]
    pub(super) outfile: Option<PathBuf>,
    /// Search space, if the input has none or is to be overridden
    #[arg(short, long, value_name = "FILE")]
    pub(super) space: Option<PathBuf>,
    /// Whether small or large losses are good
    #[arg(long, short_alias = 'd', value_enum, ignore_case = true, default_value = "min")]
    pub(super) mode: ModeName,
    /// Name of the loss; accepted for hpogrid's sake, losses have no name here
    #[arg(long, short_alias = 'e', value_name = "NAME", default_value = "loss")]
    pub(super) metric: String,
    /// Optimiser of nevergrad, see below
    #[arg(long, value_name = "NAME")]
    pub(super) method: Option<String>,
    /// Seed of the random numbers; a hash of the search space if absent
    #[arg(long, value_name = "NUMBER", env = environment::STEERING_SEED, allow_negative_numbers = true)]
    pub(super) seed: Option<u64>,
    /// Name of the task; tasks with different names get different points
    #[arg(long, value_name = "NAME", env = environment::TASK, default_value = "", hide_default_value = true)]
    pub(super) task: String,
    /// The loss that means failure, or `off` where true losses may have that value
    #[arg(long, value_name = "LOSS", default_value = "1e5", value_parser = failed_loss, allow_hyphen_values = true)]
    pub(super) failed_loss: FailedLoss,
    /// Return fewer points by the number of pending ones
    #[arg(long)]
    pub(super) subtract_pending: bool,
    /// Give every point its number as `hpo.n`, from the first on
    #[arg(long)]
    pub(super) number_points: bool,
    /// Let every segment learn from the others
    #[arg(long)]
    pub(super) transfer: bool,
    /// Learn from an earlier task: its directory, its `results.json`, or a steering input of its; may be repeated
    #[arg(long, value_name = "FILE | TASK")]
    pub(super) warm: Vec<PathBuf>,
    /// Losses to be made small or large at the same time, as `loss:min,accuracy:max`; names are those of `losses` in output files
    #[arg(long, value_name = "LIST", conflicts_with = "mode")]
    pub(super) objectives: Option<Objectives>,
    /// Prefer short evaluations, by the `seconds` of the history; for `auto` and `gp`
    #[arg(long, conflicts_with = "scheduler")]
    pub(super) cost_aware: bool,
    /// A setting of the sampler, see `steering samplers`
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub(super) settings: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) schedule: ScheduleOptions,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateOptions {
    /// Search space
    #[arg(short, long, value_name = "FILE", required_unless_present = "infile")]
    pub(super) space: Option<PathBuf>,
    /// Steering input; its points are checked against the search space
    #[arg(short, long, value_name = "FILE")]
    pub(super) infile: Option<PathBuf>,
    /// The loss that means failure, or `off`
    #[arg(long, value_name = "LOSS", default_value = "1e5", value_parser = failed_loss, allow_hyphen_values = true)]
    pub(super) failed_loss: FailedLoss,
    /// Objectives that the evaluated points of the steering input must have
    #[arg(long, value_name = "LIST", requires = "infile")]
    pub(super) objectives: Option<Objectives>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainOptions {
    #[command(flatten)]
    pub(super) ask: AskOptions,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyOptions {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Directory of a task, or a call of steering
    #[arg(required = true, value_name = "TASK | CALL", num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) what: Vec<OsString>,
}

/// Options of `importance`.
#[derive(Debug, Args)]
pub(super) struct ImportanceOptions {
    /// Steering input: history and search space
    #[arg(short, long, value_name = "FILE")]
    pub(super) infile: PathBuf,
    /// Search space, if the input has none or is to be overridden
    #[arg(short, long, value_name = "FILE")]
    pub(super) space: Option<PathBuf>,
    /// Whether small or large losses are good
    #[arg(long, value_enum, ignore_case = true, default_value = "min")]
    pub(super) mode: ModeName,
    /// The loss that means failure, or `off`
    #[arg(long, value_name = "LOSS", default_value = "1e5", value_parser = failed_loss, allow_hyphen_values = true)]
    pub(super) failed_loss: FailedLoss,
    /// Count losses worse than this quantile as equal to it
    #[arg(long, value_name = "QUANTILE", default_value = "1", value_parser = quantile, allow_negative_numbers = true)]
    pub(super) cap: f64,
    /// Seed of the random numbers
    #[arg(long, value_name = "NUMBER", default_value = "1", allow_negative_numbers = true)]
    pub(super) seed: u64,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `front`.
#[derive(Debug, Args)]
pub(super) struct FrontOptions {
    /// Steering input, task directory, or its `results.json`
    #[arg(short, long, value_name = "FILE | TASK")]
    pub(super) infile: PathBuf,
    /// Losses to be made small or large, as `loss:min,accuracy:max`
    #[arg(long, value_name = "LIST")]
    pub(super) objectives: Objectives,
    /// Where the hypervolume ends, as `loss=1,accuracy=0.5`
    #[arg(long, value_name = "LIST")]
    pub(super) reference: Option<String>,
    /// The loss that means failure, or `off`
    #[arg(long, value_name = "LOSS", default_value = "1e5", value_parser = failed_loss, allow_hyphen_values = true)]
    pub(super) failed_loss: FailedLoss,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub(super) struct PlanOptions {
    #[command(flatten)]
    pub(super) schedule: ScheduleOptions,
    /// Configurations to begin; as many as make a whole ladder, round or population if absent
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(super) configurations: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of `samplers` and `schedulers`.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `--mode`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ModeName {
    /// Small losses are good
    Min,
    /// Large losses are good
    Max,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Min => Self::Min,
            ModeName::Max => Self::Max,
        }
    }
}

/// `--failed-loss`: a number, or nothing when switched off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FailedLoss(pub(super) Option<f64>);

fn failed_loss(text: &str) -> Result<FailedLoss, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(FailedLoss(None));
    }
    match text.parse::<f64>() {
        Ok(loss) if loss.is_finite() && loss.abs() < limits::HUGE_LOSS => Ok(FailedLoss(Some(loss))),
        _ => Err(format!(
            "expected `off` or a number of magnitude below {:e}",
            limits::HUGE_LOSS
        )),
    }
}

fn quantile(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(quantile) if quantile > 0.0 && quantile <= 1.0 => Ok(quantile),
        _ => Err("expected a number above 0 and at most 1".into()),
    }
}

pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}
