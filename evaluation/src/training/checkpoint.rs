//! Checkpoints: everything from which a training continues to the same result.
//!
//! A file is a magic line, the length of a JSON header, the header, the tensors as little-endian `f32`, and the
//! SHA-256 of all before it. It appears under its name only when complete and on the disk (write, fsync, rename). The last two
//! generations are kept: should the newest be damaged, the one before it serves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::step::Recipe;
use super::{EpochReport, Inputs, Observer, Samples, Targets, TrainingError};
use crate::graph::{Tensor, encode_model};

const MAGIC: &[u8] = b"hpo checkpoint 1\n";
const GENERATIONS: usize = 2;
const SUFFIX: &str = ".checkpoint";

/// How far a training has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Reports of the epochs done.
    pub(crate) reports: Vec<EpochReport>,
    /// Steps done in the current epoch.
    pub(crate) step: usize,
    /// Steps done in all epochs; keys the dropout masks.
    pub(crate) total_steps: u64,
    /// Sum of training losses in the current epoch, weighted by rows.
    pub(crate) loss_sum: f64,
    /// Rows in that sum.
    pub(crate) loss_rows: usize,
    /// Learning rate of the last step.
    pub(crate) learning_rate: f64,
    /// Time spent in the current epoch by earlier processes.
    pub(crate) epoch_seconds: f64,
    /// Index of the best report.
    pub(crate) best: Option<usize>,
    /// The objective that early stopping compares with.
    pub(crate) reference: Option<f64>,
    /// Epochs since that improved.
    pub(crate) stale_epochs: usize,
    /// Epochs on other data that the first weights come from, when they were inherited.
    #[serde(default)]
    pub(crate) inherited_from: Option<usize>,
}

impl Progress {
    pub(crate) fn end_epoch(&mut self) {
        self.step = 0;
        self.loss_sum = 0.0;
        self.loss_rows = 0;
        self.epoch_seconds = 0.0;
    }
}

/// The contents of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) progress: Progress,
    /// Parameters, running statistics and optimiser slots, by name.
    pub(crate) states: Vec<(String, Tensor)>,
    /// Parameters and running statistics of the best epoch, when they are kept.
    pub(crate) best: Vec<(String, Tensor)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    fingerprint: String,
    progress: Progress,
    states: Vec<(String, Vec<usize>)>,
    best: Vec<(String, Vec<usize>)>,
}

/// What a checkpoint must have been made from to be continued: the plan but for the number of epochs, the initial
/// model, the loss, and the data.
pub(crate) fn fingerprint(recipe: &Recipe<'_>, train: &Samples, validation: &Samples) -> String {
    let mut plan = recipe.plan.clone();
    plan.epochs = 0;
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&plan).expect("a plan is made of numbers and names"));
    hash.update(encode_model(&recipe.imported.file()));
    if let Some(loss) = &recipe.loss {
        hash.update(format!("{loss:?}"));
    }
    for samples in [train, validation] {
        if let Some(weights) = &samples.weights {
            hash.update("weights");
            update_with(&mut hash, weights);
        }
        hash.update(format!("{:?}", samples.row_shape));
        match &samples.inputs {
            Inputs::Resident(values) => update_with(&mut hash, values),
            Inputs::Fed(source) => hash.update(source.digest()),
        }
        match &samples.targets {
            Targets::Classes { labels, classes } => {
                hash.update(format!("classes {classes}"));
                for label in labels {
                    hash.update(label.to_le_bytes());
                }
            }
            Targets::Values { width, values } => {
                hash.update(format!("values {width}"));
                update_with(&mut hash, values);
            }
        }
    }
    hex(&hash.finalize())
}

/// The fingerprint of a stage that follows one with the fingerprint `before`, which ended with epoch `until`.
pub(crate) fn following(before: &str, until: usize, own: &str) -> String {
    hex(&Sha256::digest(format!("{before} {until} {own}")))
}

/// A directory of checkpoints of one training.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    /// Of each stage of the training, with the epoch at which it ends unless it is the last.
    stages: Vec<(String, Option<usize>)>,
}

impl Store {
    /// Opens a directory for a training with these stages: their fingerprints, and where all but the last end.
    pub(crate) fn open(directory: &Path, stages: Vec<(String, Option<usize>)>) -> Result<Self, TrainingError> {
        fs::create_dir_all(directory).map_err(|source| TrainingError::Write {
            path: directory.to_owned(),
            source,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            stages,
        })
    }

    /// Writes a new generation and removes all but the last two.
    pub(crate) fn save(&self, stage: usize, checkpoint: &Checkpoint) -> Result<(), TrainingError> {
        let names = self.names();
        let generation = names.last().map_or(0, |(generation, _)| *generation) + 1;
        let path = self.directory.join(format!("{generation:08}{SUFFIX}"));
        let bytes = self.encode(stage, checkpoint);
        write_whole(&path, &bytes).map_err(|source| TrainingError::Write {
            path: path.clone(),
            source,
        })?;
        for (_, old) in names.iter().rev().skip(GENERATIONS - 1) {
            // An old generation that stays costs space and nothing else.
            let _ = fs::remove_file(old);
        }
        Ok(())
    }

    /// The newest checkpoint that is whole, if it is of this training or, for one that `inherits`, of any. Warns about those that
    /// are refused.
    pub(crate) fn latest(&self, inherits: bool, observer: &mut dyn Observer) -> Option<Found> {
        for (_, path) in self.names().into_iter().rev() {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    observer.warning(&format!("checkpoint `{}` cannot be read: {error}", path.display()));
                    continue;
                }
            };
            match self.decode(&bytes) {
                Ok((Some(stage), checkpoint)) => return Some(Found::Own(stage, checkpoint)),
                Ok((None, checkpoint)) if inherits => return Some(Found::Other(checkpoint)),
                Err(Damaged) => {
                    observer.warning(&format!(
                        "checkpoint `{}` is damaged; the one before it is tried",
                        path.display()
                    ));
                }
                Ok((None, _)) => {
                    observer.warning(&format!(
                        "checkpoint `{}` is of other hyperparameters or data; training begins anew",
                        path.display()
                    ));
                    return None;
                }
            }
        }
        None
    }

    /// Generations with their files, oldest first.
    fn names(&self) -> Vec<(u64, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        let mut names: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let generation = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
                Some((generation, path))
            })
            .collect();
        names.sort();
        names
    }

    fn encode(&self, stage: usize, checkpoint: &Checkpoint) -> Vec<u8> {
        let shapes = |tensors: &[(String, Tensor)]| {
            tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
                .collect()
        };
        let header = Header {
            fingerprint: self.stages[stage].0.clone(),
            progress: checkpoint.progress.clone(),
            states: shapes(&checkpoint.states),
            best: shapes(&checkpoint.best),
        };
        let header = serde_json::to_vec(&header).expect("a header is made of numbers and names");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&header);
        for (_, tensor) in checkpoint.states.iter().chain(&checkpoint.best) {
            for value in tensor.as_f32().expect("states are 32-bit numbers") {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// The contents, and the stage of this training that they are of.
    fn decode(&self, bytes: &[u8]) -> Result<(Option<usize>, Checkpoint), Damaged> {
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or(Damaged)?;
        if Sha256::digest(body)[..] != sum[..] {
            return Err(Damaged);
        }
        let rest = body.strip_prefix(MAGIC).ok_or(Damaged)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(Damaged)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| Damaged)?;
        let (header, mut numbers) = rest.split_at_checked(length).ok_or(Damaged)?;
        let header: Header = serde_json::from_slice(header).map_err(|_| Damaged)?;
        let done = header.progress.reports.len();
        let is_of = |(fingerprint, until): &(String, Option<usize>)| {
            *fingerprint == header.fingerprint && until.is_none_or(|until| done <= until)
        };
        // Of stages with equal plans the latest that fits.
        let stage = self.stages.iter().rposition(is_of);
        let mut take = |shapes: Vec<(String, Vec<usize>)>| {
            shapes
                .into_iter()
                .map(|(name, shape)| {
                    let size = shape.iter().product::<usize>() * 4;
                    let (bytes, rest) = numbers.split_at_checked(size).ok_or(Damaged)?;
                    numbers = rest;
                    let values = bytes
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|chunk| f32::from_le_bytes(*chunk))
                        .collect();
                    Ok((name, Tensor::f32(shape, values)))
                })
                .collect::<Result<Vec<_>, Damaged>>()
        };
        let checkpoint = Checkpoint {
            progress: header.progress,
            states: take(header.states)?,
            best: take(header.best)?,
        };
        Ok((stage, checkpoint))
    }
}

/// A checkpoint that is whole.
pub(crate) enum Found {
    /// Of a stage of this training.
    Own(usize, Checkpoint),
    /// Of another training.
    Other(Checkpoint),
}

/// Not what was written once.
struct Damaged;

/// Writes a file so that under its name it is either whole or what it was before.
///
/// A name that stands for something else than a file, such as a device, is written to and not replaced.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::write(path, bytes);
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // One name for all attempts: what a killed process leaves is overwritten by the next.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The new name itself must survive a crash.
    File::open(folder)?.sync_all()
}

fn update_with(hash: &mut Sha256, values: &[f32]) {
    let mut buffer = Vec::with_capacity(values.len().min(1 << 16) * 4);
    for chunk in values.chunks(1 << 16) {
        buffer.clear();
        for value in chunk {
            buffer.extend_from_slice(&value.to_le_bytes());
        }
        hash.update(&buffer);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
