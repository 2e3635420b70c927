//! Turns a filled-in model file into a plan.

mod architecture;
mod descent;
mod layers;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::fields::{Fields, list, nearest, wrong};
use super::fill::{Filled, fill};
use super::{ModelError, Resolved};
use crate::training::{
    EarlyStopping, Keep, Loss, LossScale, Metric, Mode, Objective, Precision, TrainingPlan, WeightAverage,
};

type Origins = BTreeMap<String, String>;

/// The seed when the model file names none.
const DEFAULT_SEED: usize = 1;

pub(super) fn resolve(
    document: &Value,
    directory: &Path,
    hyperparameters: &Map<String, Value>,
) -> Result<Resolved, ModelError> {
    let filled = fill(document, hyperparameters)?;
    read(&filled, directory, hyperparameters).map_err(|error| filled.in_file(error))
}

fn read(filled: &Filled, directory: &Path, hyperparameters: &Map<String, Value>) -> Result<Resolved, ModelError> {
    let origins = &filled.origins;
    let known = [
        "data",
        "model",
        "loss",
        "optimizer",
        "schedule",
        "training",
        "objective",
        "metrics",
        "description",
        "$schema",
    ];
    let root = Fields::new(&filled.document, "", &known, origins)?;
    let empty = Value::Object(Map::new());
    let section = |key| root.get(key).unwrap_or(&empty);

    let training = Fields::new(
        section("training"),
        "/training",
        &[
            "epochs",
            "batch_size",
            "drop_last",
            "shuffle",
            "early_stopping",
            "clip_norm",
            "clip_value",
            "average",
            "precision",
            "loss_scale",
            "seed",
            "keep",
        ],
        origins,
    )?;
    let epochs = training.integer("epochs", 1, Some(10))?;
    let early_stopping = match training.get("early_stopping") {
        None | Some(Value::Bool(false)) => None,
        Some(value) => {
            let fields = Fields::new(value, "/training/early_stopping", &["patience", "min_delta"], origins)?;
            Some(EarlyStopping {
                patience: fields.integer("patience", 1, None)?,
                min_delta: fields.non_negative("min_delta", 0.0)?,
            })
        }
    };
    let limit = |key: &str| training.get(key).map(|_| training.positive(key, None)).transpose();
    let average = match training.get("average") {
        None => None,
        Some(_) => Some(training.share("average", None)?).filter(|decay| *decay > 0.0),
    };
    let loss = descent::loss(&root, directory)?;
    let loss_scale = loss_scale(&training)?;
    let plan = TrainingPlan {
        architecture: architecture::architecture(&root, directory)?,
        optimizer: descent::optimizer(section("optimizer"), origins)?,
        schedule: descent::schedule(section("schedule"), epochs, origins)?,
        epochs,
        batch_size: training.integer("batch_size", 1, Some(32))?,
        drop_last: training.flag("drop_last", false)?,
        shuffle: training.flag("shuffle", true)?,
        early_stopping,
        clip_norm: limit("clip_norm")?,
        clip_value: limit("clip_value")?,
        average: average.map(|decay| WeightAverage { decay }),
        precision: training.choice(
            "precision",
            &[
                ("float32", Precision::Float32),
                ("bfloat16", Precision::Bfloat16),
                ("float16", Precision::Float16 { loss_scale }),
            ],
            Some(Precision::Float32),
        )?,
        seed: training.integer("seed", 0, Some(DEFAULT_SEED))? as u64,
        keep: training.choice("keep", &[("best", Keep::Best), ("last", Keep::Last)], Some(Keep::Best))?,
        objective: objective(section("objective"), &loss, origins)?,
        metrics: metrics(&root)?,
        loss,
    };
    let warnings = filled
        .unused(hyperparameters)
        .into_iter()
        .map(|name| format!("nothing in the model file refers to the hyperparameter `{name}`"))
        .collect();
    Ok(Resolved {
        plan,
        data: root.get("data").cloned().unwrap_or(Value::Null),
        warnings,
    })
}

/// A number, or how the factor adapts itself.
fn loss_scale(training: &Fields<'_>) -> Result<LossScale, ModelError> {
    let Some(value) = training.get("loss_scale") else {
        return Ok(LossScale::default());
    };
    if value.is_number() {
        return training.positive("loss_scale", None).map(LossScale::Constant);
    }
    if !value.is_object() {
        let expected = "a number above 0, or an object with `initial` and `interval`";
        return Err(training.wrong("loss_scale", expected, value));
    }
    let pointer = training.pointer("loss_scale");
    let fields = Fields::new(value, &pointer, &["initial", "interval"], training.origins())?;
    let [lowest, highest] = LossScale::LIMITS;
    Ok(LossScale::Adaptive {
        initial: fields.number(
            "initial",
            "a number from 2^-24 to 2^24",
            |number| (lowest..=highest).contains(&number),
            Some(65536.0),
        )?,
        interval: fields.integer("interval", 1, Some(2000))?,
    })
}

fn objective(value: &Value, loss: &Loss, origins: &Origins) -> Result<Objective, ModelError> {
    if value.is_string() {
        let named = Value::Object(Map::from_iter([("metric".to_owned(), value.clone())]));
        return objective(&named, loss, origins);
    }
    let fields = Fields::new(value, "/objective", &["metric", "mode"], origins)?;
    let metric = match fields.get("metric") {
        Some(value) => metric(value, &fields.pointer("metric"), origins)?,
        None => match loss {
            Loss::CrossEntropy { .. } | Loss::BinaryCrossEntropy { .. } => Metric::Error,
            _ => Metric::Loss,
        },
    };
    let usual = if metric.is_better_when_greater() {
        Mode::Max
    } else {
        Mode::Min
    };
    let mode = fields.choice("mode", &[("min", Mode::Min), ("max", Mode::Max)], Some(usual))?;
    Ok(Objective { metric, mode })
}

fn metrics(root: &Fields<'_>) -> Result<Vec<Metric>, ModelError> {
    match root.get("metrics") {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| metric(item, &format!("/metrics/{index}"), root.origins()))
            .collect(),
        Some(value) => Err(root.wrong("metrics", "a list of names of metrics", value)),
    }
}

fn metric(value: &Value, pointer: &str, origins: &Origins) -> Result<Metric, ModelError> {
    if let Some(metric) = value.as_str().and_then(Metric::parse) {
        return Ok(metric);
    }
    let error = wrong(
        pointer,
        &format!("one of {} (with numbers of your choice)", list(Metric::NAMES)),
        value,
        origins,
    );
    Err(match (error, value.as_str()) {
        (ModelError::Field { pointer, message }, Some(text)) => ModelError::Field {
            pointer,
            message: message + &nearest(text, Metric::NAMES),
        },
        (error, _) => error,
    })
}
