//! Training data: found or fetched, read, split, scaled.
//!
//! The way of a number: [`fetch`] brings the file here, a reader (`read`) makes columns of it, `gather` puts files below
//! one another, `survey` looks for values that cannot be used, `split` sets the validation rows apart, `targets` numbers
//! the classes, and `prepare` fills, scales and writes the `f32` that the model sees. Inputs that do not fit into memory,
//! or change from pass to pass (`augment`), go another way: `stream` reads files piece by piece into a `store`, and `rows`
//! makes batches of it while the model trains. Which rows validate never depends on a hyperparameter, unless the model file
//! refers to one in `data.split`.

mod augment;
mod column;
mod description;
mod error;
pub mod fetch;
mod gather;
mod layout;
mod memory;
mod numbers;
mod prepare;
mod read;
mod rows;
mod scaling;
mod split;
mod store;
mod stream;
mod survey;
mod targets;

use std::path::{Path, PathBuf};

use protocol::training_data::TrainingFile;
use serde::Serialize;

pub use description::{ClassInputs, DataDescription};
pub use error::DatasetError;
pub use memory::{available as available_memory, parse_size, readable as readable_size};
pub use scaling::Scaling;
pub use targets::TargetKind;

use crate::model::RawInputs;
use crate::training::Samples;
use fetch::FetchOptions;
use store::Target;

/// Data that is ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The rows that train.
    pub train: Samples,
    /// The rows that judge.
    pub validation: Samples,
    /// How inputs were scaled.
    pub scaling: Scaling,
    /// The same for each number of a row, as a saved model holds it.
    pub raw: RawInputs,
    /// Facts for metadata and people.
    pub summary: Summary,
    /// Things that are probably not meant.
    pub warnings: Vec<String>,
}

/// Facts about prepared data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Names of the files without their directories.
    pub files: Vec<String>,
    /// Rows read.
    pub rows: usize,
    /// Rows left out for missing values.
    pub dropped_rows: usize,
    /// Rows that train.
    pub training_rows: usize,
    /// Rows that judge.
    pub validation_rows: usize,
    /// Shape of one row of inputs.
    pub row_shape: Vec<usize>,
    /// Number of input columns.
    pub inputs: usize,
    /// Names of the target columns.
    pub targets: Vec<String>,
    /// Number of classes, when targets are classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Their names in order, when they have names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// Where the inputs are while training.
    pub placement: Placement,
}

/// Where inputs are while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// On the device, all of them.
    Resident,
    /// In memory as the file has them; batches are made while training.
    Memory,
    /// In files; batches are read while training.
    Streamed,
}

/// What one column of a file is like, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnSummary {
    /// The name.
    pub name: String,
    /// `numbers`, `integers` or `text`, with the shape of a row.
    pub content: String,
    /// Rows.
    pub rows: usize,
    /// Values that are missing or not finite.
    pub missing: usize,
}

impl ColumnSummary {
    fn of(column: &column::Column) -> Self {
        Self {
            name: column.name.clone(),
            content: column.describe(),
            rows: column.rows(),
            missing: column.missing(),
        }
    }
}

/// Where files are looked for and how they are fetched.
#[derive(Debug, Clone)]
pub struct Places {
    /// Relative names start here.
    pub base: PathBuf,
    /// How URLs are fetched.
    pub fetching: FetchOptions,
    /// Bytes that inputs may take in memory; a share of half of what is available where absent. Larger ones are
    /// streamed.
    pub memory: Option<u64>,
    /// Processes that share what is available.
    pub slots: u64,
    /// Folder of the file from which inputs are streamed; the system's usual one where absent.
    pub scratch: Option<PathBuf>,
}

/// Loads everything that training needs; `share` in `(0, 1]` is the part of the training rows that a scheduler grants,
/// and `note` hears what happens on the way.
///
/// # Errors
/// When a file is missing, damaged or cannot be fetched, or when it does not hold what the description says.
pub fn load(
    description: &DataDescription,
    files: &[TrainingFile],
    places: &Places,
    kind: TargetKind,
    share: f64,
    note: &mut dyn FnMut(&str),
) -> Result<Prepared, DatasetError> {
    let files = if files.is_empty() { &description.files } else { files };
    if files.is_empty() {
        return Err(DatasetError::NoFiles);
    }
    let group = match &description.split {
        description::Split::Part {
            kind: description::SplitKind::Grouped(group),
            ..
        } => Some(group),
        _ => None,
    };
    let paths = gather::locate(files, &places.base, &places.fetching, note)?;
    let readers = gather::open_all(&paths, description.text)?;
    let Some((first, reader)) = readers.first() else {
        return Err(DatasetError::NoFiles);
    };
    let needed = gather::needed(first, reader.names(), description, group)?;
    let mut readers = readers;
    let mut validation = match &description.split {
        description::Split::Part { .. } => None,
        description::Split::Files(files) => {
            let paths = gather::locate(files, &places.base, &places.fetching, note)?;
            Some(gather::open_all(&paths, description.text)?)
        }
    };
    let loaded = match placement(
        description,
        places,
        &mut readers,
        validation.as_deref_mut(),
        &needed,
        note,
    )? {
        Placement::Resident => gather::load(&needed, description, readers, validation)?,
        Placement::Memory => stream::load(
            &needed,
            description.missing,
            &Target::Memory,
            readers,
            description.max_rows,
            validation,
        )?,
        Placement::Streamed => stream::load(
            &needed,
            description.missing,
            &Target::Scratch(&places.scratch_folder()),
            readers,
            description.max_rows,
            validation,
        )?,
    };
    prepare::prepare(loaded, &needed, description, kind, share)
}

impl Places {
    fn scratch_folder(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// Decides by size where inputs will be while training.
fn placement(
    description: &DataDescription,
    places: &Places,
    readers: &mut [gather::Opened],
    validation: Option<&mut [gather::Opened]>,
    needed: &gather::Needed,
    note: &mut dyn FnMut(&str),
) -> Result<Placement, DatasetError> {
    let limit = places
        .memory
        .or_else(|| memory::available().map(|bytes| bytes / 2 / places.slots.max(1)));
    let mut size = gather::estimate(readers, &needed.inputs)?;
    if let Some(validation) = validation {
        size += gather::estimate(validation, &needed.inputs)?;
    }
    // While they are prepared, columns, inputs and the engine's copy of them exist side by side.
    let needs = size.saturating_mul(if description.augment.is_some() { 2 } else { 4 });
    match limit {
        Some(limit) if needs > limit => {
            note(&format!(
                "the inputs are about {} and would need {} of memory, the limit is {}: they are streamed from files, with \
                 a scratch file in `{}` where they cannot be read in place; `--data-memory` sets another limit",
                memory::readable(size),
                memory::readable(needs),
                memory::readable(limit),
                places.scratch_folder().display()
            ));
            Ok(Placement::Streamed)
        }
        _ if description.augment.is_some() => Ok(Placement::Memory),
        _ => Ok(Placement::Resident),
    }
}

/// Describes every column of a local file.
///
/// # Errors
/// When the file cannot be read.
pub fn inspect(path: &Path, delimiter: Option<u8>, header: Option<bool>) -> Result<Vec<ColumnSummary>, DatasetError> {
    let mut reader = read::open(path, read::TextOptions { delimiter, header })?;
    // All at once: a text table would be parsed anew for every column.
    let all: Vec<usize> = (0..reader.names().len()).collect();
    if let Ok(columns) = reader.read(&all) {
        return Ok(columns.iter().map(ColumnSummary::of).collect());
    }
    // One column that cannot be read hides none of the others.
    let mut summaries = Vec::with_capacity(all.len());
    let mut first_error = None;
    for index in all {
        match reader.read(&[index]) {
            Ok(columns) => summaries.extend(columns.iter().map(ColumnSummary::of)),
            Err(error) => {
                summaries.push(ColumnSummary {
                    name: reader.names()[index].clone(),
                    content: format!("unreadable values: {error}"),
                    rows: 0,
                    missing: 0,
                });
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if summaries.iter().all(|summary| summary.rows == 0) => Err(error),
        _ => Ok(summaries),
    }
}
