//! What `run` and `check` have in common: from options to a plan and data.

use std::path::{Path, PathBuf};

use protocol::training_data::{self, TrainingFile};
use protocol::{EvaluationInput, Point, PointValue, SegmentId, environment, exit};
use serde_json::{Map, Value};

use super::arguments::{INPUT, Subject, TRAINING_FILES};
use super::failure::Failure;
use super::stages;
use crate::dataset::fetch::FetchOptions;
use crate::dataset::{self, ClassInputs, DataDescription, Places, Prepared, TargetKind};
use crate::model::{Architecture, Block, ModelFile};
use crate::training::{Loss, TrainingPlan};

/// A point and what it makes of the model file.
pub(crate) struct Work {
    pub(crate) segment: Option<SegmentId>,
    pub(crate) point: Point,
    pub(crate) hyperparameters: Map<String, Value>,
    pub(crate) plan: TrainingPlan,
    /// What came before it on the way of the point, each plan up to as many epochs as it says.
    pub(crate) earlier: Vec<TrainingPlan>,
    /// Epochs, and the smallest loss that must have been reached by then.
    pub(crate) cutoffs: Vec<(usize, f64)>,
    pub(crate) data: Value,
    /// Total epochs that a scheduler grants.
    pub(crate) epoch_limit: Option<usize>,
    /// Share of the training rows that a scheduler grants.
    pub(crate) share: f64,
    /// Whether a scheduler wants the weights of the same point with less data to begin with.
    pub(crate) inherits: bool,
    pub(crate) warnings: Vec<String>,
}

/// Reads point and model file.
pub(crate) fn work(subject: &Subject) -> Result<Work, Failure> {
    let mut model = ModelFile::read(&subject.model)?;
    if let Some(epochs) = subject.epochs {
        // Before the file is resolved: schedules stretch to the number of epochs.
        model = model.with_epochs(epochs as usize);
    }
    let (segment, point) = read_point(&subject.input)?;
    let hyperparameters: Map<String, Value> = point
        .hyperparameters()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let mut resolved = model.resolve(&point.to_object()).map_err(|error| {
        let failure = Failure::from(error);
        if point.is_empty() && !subject.input.exists() {
            Failure::new(
                failure.code,
                format!("{failure}; there is no `{INPUT}` here, name the point with `--input`"),
            )
        } else {
            failure
        }
    })?;

    let epoch_limit = reserved(&point, "epochs", "a whole number of at least 1", |value| {
        let number = value.as_f64()?;
        (number >= 1.0 && number.fract() == 0.0 && number < 1e15).then_some(number as usize)
    })?;
    let share = reserved(&point, "frac", "a number above 0 and at most 1", |value| {
        value.as_f64().filter(|share| *share > 0.0 && *share <= 1.0)
    })?;
    let inherits = reserved(&point, "weights", "0 or 1", |value| match value.as_u64()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    })?;
    if let Some(limit) = epoch_limit {
        // The schedule spans the plan's epochs; a smaller limit only ends training earlier, so that it can go on later.
        resolved.plan.epochs = resolved.plan.epochs.max(limit);
    }
    if let Some(seed) = subject.seed {
        resolved.plan.seed = seed;
    }
    let stages = text(&point, "sched")?.map(stages::read_schedule).transpose()?;
    let granted = epoch_limit.unwrap_or(resolved.plan.epochs);
    let earlier = stages::earlier(&model, &point, &resolved, &stages.unwrap_or_default(), granted)?;
    let cutoffs = text(&point, "stop")?.map(stages::read_cutoffs).transpose()?;
    Ok(Work {
        earlier,
        cutoffs: cutoffs.unwrap_or_default(),
        segment,
        point,
        hyperparameters,
        epoch_limit: epoch_limit.filter(|limit| *limit < resolved.plan.epochs),
        plan: resolved.plan,
        data: resolved.data,
        share: share.unwrap_or(1.0),
        inherits: inherits.unwrap_or(false),
        warnings: resolved.warnings,
    })
}

/// A run by hand of a model without hyperparameters needs no point.
fn read_point(path: &Path) -> Result<(Option<SegmentId>, Point), Failure> {
    if path == Path::new(INPUT) && !path.exists() {
        return Ok((None, Point::default()));
    }
    let input = EvaluationInput::read(path)?;
    let problems = input.point().problems();
    if !problems.is_empty() {
        return Err(protocol::DocumentError::invalid("point", path, problems).into());
    }
    Ok(input.into_parts())
}

/// The text under a reserved key.
fn text<'a>(point: &'a Point, name: &str) -> Result<Option<&'a str>, Failure> {
    match point.reserved(name) {
        None | Some(PointValue::Null) => Ok(None),
        Some(PointValue::Text(text)) => Ok(Some(text)),
        Some(other) => Err(Failure::new(
            exit::USAGE,
            format!("point: `hpo.{name}` must be a text, found {other}"),
        )),
    }
}

fn reserved<T>(
    point: &Point,
    name: &str,
    expected: &str,
    read: impl Fn(&PointValue) -> Option<T>,
) -> Result<Option<T>, Failure> {
    match point.reserved(name) {
        None | Some(PointValue::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| {
            Failure::new(
                exit::USAGE,
                format!("point: `hpo.{name}` must be {expected}, found {value}"),
            )
        }),
    }
}

/// Loads the data that the model file describes; `note` hears about downloads.
pub(crate) fn data(subject: &Subject, work: &Work, note: &mut dyn FnMut(&str)) -> Result<Prepared, Failure> {
    let description = DataDescription::from_value(&work.data)?.with_class_inputs(class_inputs(&work.plan.architecture));
    let files = training_files(subject, &description)?;
    let kind = match work.plan.loss {
        Loss::BinaryCrossEntropy { .. } | Loss::Graph { .. } => TargetKind::Either,
        Loss::CrossEntropy { .. } => TargetKind::ClassesOrShares,
        _ => TargetKind::Values,
    };
    let mut fetching = FetchOptions::new(subject.cache.clone().unwrap_or_else(cache));
    fetching.max_bytes = subject.max_download;
    let places = Places {
        base: subject.base_dir.clone(),
        fetching,
        memory: subject.data_memory,
        slots: std::env::var(environment::SLOTS)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(1),
        scratch: subject.scratch.clone(),
    };
    Ok(dataset::load(&description, &files, &places, kind, work.share, note)?)
}

/// What the first layer takes for numbers of classes.
fn class_inputs(architecture: &Architecture) -> ClassInputs {
    match architecture {
        Architecture::Blocks { blocks, .. } => match blocks.first() {
            Some(Block::Embedding { .. }) => ClassInputs::All,
            Some(Block::FeatureTokens { categorical, .. }) => {
                ClassInputs::At(categorical.iter().map(|(column, _)| *column).collect())
            }
            _ => ClassInputs::None,
        },
        Architecture::Onnx { .. } => ClassInputs::None,
    }
}

/// Those of `--data`, else those of `input_ds.json`, else none: the model file may name some.
fn training_files(subject: &Subject, description: &DataDescription) -> Result<Vec<TrainingFile>, Failure> {
    match subject.data.as_slice() {
        [] => {
            let list = Path::new(TRAINING_FILES);
            if list.exists() || (description.files.is_empty() && list.is_symlink()) {
                Ok(training_data::read(list)?)
            } else {
                Ok(Vec::new())
            }
        }
        [list] if is_json(list) => Ok(training_data::read(Path::new(list))?),
        names => Ok(names.iter().cloned().map(TrainingFile::Location).collect()),
    }
}

fn is_json(name: &str) -> bool {
    !name.contains("://")
        && Path::new(name)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// The user's cache, else a folder here.
fn cache() -> PathBuf {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| PathBuf::from(".cache"), |base| base.join("hpo"))
        .join("data")
}
