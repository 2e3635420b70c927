//! Options and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use protocol::environment;

use crate::engine::{DeviceRequest, EngineRequest};

/// Where the point lies unless told otherwise.
pub(crate) const INPUT: &str = "input.json";
/// Where the list of training files lies unless told otherwise.
pub(crate) const TRAINING_FILES: &str = "input_ds.json";
/// Where the loss goes unless told otherwise.
pub(crate) const OUTPUT: &str = "output.json";

/// Trains one model for one point of a hyperparameter search, through ONNX Runtime.
///
/// Example:
///
///   evaluation --model model.json --data digits.csv.gz
///
/// reads the hyperparameters from `input.json`, trains the model of `model.json`, and writes its loss to `output.json`.
/// Without `--data` the training files are those listed in `input_ds.json`.
#[derive(Debug, Parser)]
#[command(
    name = "evaluation",
    version,
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train; the default when no command is named
    Run(RunOptions),
    /// Check model file, point and data without training; print every block with its shape and the parameter count
    Check(CheckOptions),
    /// Say which ONNX Runtime is used, and fetch it where there is none
    Library(LibraryOptions),
    /// Say what is there to train with: ONNX Runtime, providers, CUDA libraries, GPUs, threads, memory, cache
    ///
    /// Ends with 0 when the device asked for works, else with 3. Downloads nothing.
    ///
    /// Example:
    ///
    ///   evaluation doctor --device cuda
    #[command(verbatim_doc_comment)]
    Doctor(LibraryOptions),
    /// Fetch ONNX Runtime into the cache, with `--gpu` the one for CUDA and its libraries
    ///
    /// The versions are fixed and their sums checked. A set-up that was cut off goes on where it ended.
    ///
    /// Example:
    ///
    ///   evaluation setup --gpu
    #[command(verbatim_doc_comment)]
    Setup(SetupOptions),
    /// List the columns of data files: names, kinds, shapes, rows, missing values
    ///
    /// Reads npy, npz, csv, parquet, Arrow, Feather, HDF5, `NetCDF` and ROOT trees, whatever their names are.
    ///
    /// Example:
    ///
    ///   evaluation data events.root images.h5
    #[command(verbatim_doc_comment)]
    Data(DataOptions),
}

/// What is to be trained.
#[derive(Debug, Clone, Args)]
pub(crate) struct Subject {
    /// The model file
    #[arg(short, long, value_name = "FILE", default_value = "model.json")]
    pub(crate) model: PathBuf,
    /// The point: hyperparameters as a JSON object, or `[model_id, object]` in a task with segments
    #[arg(short, long, value_name = "FILE", default_value = INPUT)]
    pub(crate) input: PathBuf,
    /// Training files: names, http(s) URLs (`#sha256=…` is checked), or one JSON file that lists them
    #[arg(short, long, value_name = "FILE", num_args = 1..)]
    pub(crate) data: Vec<String>,
    /// Relative names of training files start here
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) base_dir: PathBuf,
    /// Where downloads are kept [default: the user's cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Refuse downloads larger than this
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_download: Option<u64>,
    /// Most memory for inputs, such as `2GB`; more than that is streamed from files [default: half of what is available, under `hpo` shared by the evaluations that run at once]
    #[arg(long, value_name = "SIZE", value_parser = crate::dataset::parse_size)]
    pub(crate) data_memory: Option<u64>,
    /// Folder for the file that inputs are streamed from [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// Passes over the training data, in place of the model file's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) epochs: Option<u64>,
    /// Key of all random numbers, in place of the model file's
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// What trains.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArguments {
    /// `auto`, `cpu`, `cuda` or `cuda:N`
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceRequest,
    /// Threads inside an operator on the CPU [default: by the size of a step]
    #[arg(long, value_name = "N", env = environment::CPUS, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Record each step as a CUDA graph and replay it, with `--device cuda`: may help where steps are short; not measured yet
    #[arg(long)]
    pub(crate) cuda_graphs: bool,
    /// The ONNX Runtime library, or the folder that holds it
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// `onnxruntime`, `rten` (embedded, on the CPU, slower) or `auto`: the first where it can be had, else the second
    #[arg(long, value_name = "ENGINE", default_value = "auto", env = environment::ENGINE)]
    pub(crate) engine: EngineRequest,
    /// Never download ONNX Runtime
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
    /// The loss document
    #[arg(short, long, value_name = "FILE", default_value = OUTPUT)]
    pub(crate) output: PathBuf,
    /// Write metadata here: versions, timings, best epoch, data, hyperparameters
    #[arg(long, value_name = "FILE")]
    pub(crate) meta: Option<PathBuf>,
    /// Write an archive here with learning curves and an `mlruns` tree for MLflow
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
    /// Keep checkpoints here, and resume from them
    #[arg(long, value_name = "DIR", env = environment::CHECKPOINT_DIR)]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Least time between two checkpoints, which are written after an epoch; 0 means after every epoch
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) checkpoint_interval: u32,
    /// Save the best model here, as ONNX
    #[arg(long, value_name = "FILE")]
    pub(crate) save_model: Option<PathBuf>,
    /// No line per epoch
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print the result as JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckOptions {
    #[command(flatten)]
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LibraryOptions {
    #[command(flatten)]
    pub(crate) engine: EngineArguments,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SetupOptions {
    /// The GPU build, and the CUDA and cuDNN libraries that it needs
    #[arg(long)]
    pub(crate) gpu: bool,
    /// The cache folder [default: the user's cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DataOptions {
    /// The files
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Separator of text tables
    #[arg(long, value_name = "CHARACTER")]
    pub(crate) delimiter: Option<char>,
    /// Whether the first line of text tables holds names
    #[arg(long, value_name = "true|false")]
    pub(crate) header: Option<bool>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
