//! Options with a few named values.

use serde::{Deserialize, Serialize};

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
    /// As a task of PanDA, which `hpo submit` sends.
    Panda,
}
