//! The sections `loss`, `optimizer` and `schedule`.

use std::path::Path;

use serde_json::{Map, Value};

use super::Origins;
use crate::model::ModelError;
use crate::model::fields::{Fields, wrong};
use crate::training::optimizers::{self, DecayTargets, Group, Optimizer};
use crate::training::schedules::{self, Schedule};
use crate::training::{ClassWeights, Loss};

/// A value that may be a name in place of an object with the field `name`.
fn named(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::Object(Map::from_iter([("name".to_owned(), value.clone())])),
        _ => value.clone(),
    }
}

pub(super) fn loss(root: &Fields<'_>, directory: &Path) -> Result<Loss, ModelError> {
    type Read = fn(&Fields<'_>, &Path) -> Result<Loss, ModelError>;
    const LOSSES: [(&str, &[&str], Read); 9] = [
        ("cross_entropy", &["label_smoothing", "class_weights"], |fields, _| {
            Ok(Loss::CrossEntropy {
                label_smoothing: fields.share("label_smoothing", Some(0.0))?,
                class_weights: class_weights(fields)?,
            })
        }),
        ("binary_cross_entropy", &["positive_weight"], |fields, _| {
            Ok(Loss::BinaryCrossEntropy {
                positive_weight: fields.positive("positive_weight", Some(1.0))?,
            })
        }),
        ("mse", &[], |_, _| Ok(Loss::Mse)),
        ("mae", &[], |_, _| Ok(Loss::Mae)),
        ("huber", &["delta"], |fields, _| {
            Ok(Loss::Huber {
                delta: fields.positive("delta", Some(1.0))?,
            })
        }),
        ("poisson_nll", &["log_input"], |fields, _| {
            Ok(Loss::Poisson {
                log_input: fields.flag("log_input", true)?,
            })
        }),
        ("gaussian_nll", &[], |_, _| Ok(Loss::Gaussian)),
        ("quantile", &["quantiles"], |fields, _| {
            let quantiles = fields.numbers("quantiles", "a list of ascending numbers in (0, 1)", |quantile| {
                quantile > 0.0 && quantile < 1.0
            })?;
            if !quantiles.is_sorted_by(|a, b| a < b) {
                return Err(fields.error("quantiles", "must be ascending, without repetitions"));
            }
            Ok(Loss::Quantile { quantiles })
        }),
        ("graph", &["onnx"], |fields, directory| {
            Ok(Loss::Graph {
                path: directory.join(fields.text("onnx", "the path of an ONNX file")?),
            })
        }),
    ];
    let names: Vec<(&str, usize)> = LOSSES.iter().enumerate().map(|(at, (name, ..))| (*name, at)).collect();
    let Some(value) = root.get("loss") else {
        return root.choice("loss", &names, None).map(|_| Loss::Mse);
    };
    if !value.is_object() {
        // The message names the whole field.
        root.choice("loss", &names, None)?;
    }
    let value = named(value);
    let origins = root.origins();
    let everything: Vec<&str> = std::iter::once("name")
        .chain(LOSSES.iter().flat_map(|(_, fields, _)| fields.iter().copied()))
        .collect();
    let at = Fields::new(&value, "/loss", &everything, origins)?.choice("name", &names, None)?;
    let (_, fields, read) = &LOSSES[at];
    let known: Vec<&str> = std::iter::once("name").chain(fields.iter().copied()).collect();
    read(&Fields::new(&value, "/loss", &known, origins)?, directory)
}

fn class_weights(fields: &Fields<'_>) -> Result<Option<ClassWeights>, ModelError> {
    const KEY: &str = "class_weights";
    const EXPECTED: &str = "`balanced` or a list of numbers of at least 0, not all 0";
    match fields.get(KEY) {
        None => Ok(None),
        Some(Value::String(text)) if text == "balanced" => Ok(Some(ClassWeights::Balanced)),
        Some(value) => {
            let weights = fields.numbers(KEY, EXPECTED, |weight| weight >= 0.0)?;
            if weights.iter().all(|weight| *weight <= 0.0) {
                return Err(fields.wrong(KEY, EXPECTED, value));
            }
            Ok(Some(ClassWeights::Given(weights)))
        }
    }
}

pub(super) fn optimizer(value: &Value, origins: &Origins) -> Result<Optimizer, ModelError> {
    const COMMON: [&str; 5] = ["name", "learning_rate", "weight_decay", "decay", "groups"];
    let value = named(value);
    // Which keys exist depends on the name, so it is read first.
    let everything: Vec<&str> = COMMON
        .into_iter()
        .chain(
            optimizers::ENTRIES
                .iter()
                .flat_map(|entry| entry.fields.iter().copied()),
        )
        .collect();
    let names = optimizers::ENTRIES.map(|entry| (entry.name, entry));
    let usual = names.iter().find(|(name, _)| *name == "adam").map(|(_, entry)| *entry);
    let entry = Fields::new(&value, "/optimizer", &everything, origins)?.choice("name", &names, usual)?;
    let known: Vec<&str> = COMMON[..3]
        .iter()
        .chain(entry.fields)
        .chain(&COMMON[3..])
        .copied()
        .collect();
    let fields = Fields::new(&value, "/optimizer", &known, origins)?;
    Ok(Optimizer {
        rule: (entry.read)(&fields)?,
        learning_rate: fields.positive("learning_rate", Some(entry.learning_rate))?,
        weight_decay: fields.non_negative("weight_decay", entry.weight_decay)?,
        decay: fields.choice(
            "decay",
            &[("all", DecayTargets::All), ("matrices", DecayTargets::Matrices)],
            Some(DecayTargets::All),
        )?,
        groups: groups(&fields)?,
    })
}

fn groups(fields: &Fields<'_>) -> Result<Vec<Group>, ModelError> {
    let items = match fields.get("groups") {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(value) => return Err(fields.wrong("groups", "a list of objects", value)),
    };
    let group = |(index, item): (usize, &Value)| {
        let pointer = format!("{}/{index}", fields.pointer("groups"));
        let known = ["parameters", "learning_rate_factor", "weight_decay"];
        let group = Fields::new(item, pointer.clone(), &known, fields.origins())?;
        let parameters = group.texts("parameters")?;
        if parameters.is_empty() {
            let expected = "an object with `parameters`, a list of names of weights";
            return Err(wrong(&pointer, expected, item, fields.origins()));
        }
        Ok(Group {
            parameters,
            learning_rate_factor: group.non_negative("learning_rate_factor", 1.0)?,
            weight_decay: group
                .get("weight_decay")
                .map(|_| group.non_negative("weight_decay", 0.0))
                .transpose()?,
        })
    };
    items.iter().enumerate().map(group).collect()
}

pub(super) fn schedule(value: &Value, epochs: usize, origins: &Origins) -> Result<Schedule, ModelError> {
    let value = named(value);
    let everything: Vec<&str> = std::iter::once("name")
        .chain(schedules::ENTRIES.iter().flat_map(|entry| entry.fields.iter().copied()))
        .collect();
    let names: Vec<(&str, usize)> = schedules::ENTRIES
        .iter()
        .enumerate()
        .map(|(at, entry)| (entry.name, at))
        .collect();
    let at = Fields::new(&value, "/schedule", &everything, origins)?.choice("name", &names, Some(0))?;
    let entry = &schedules::ENTRIES[at];
    let known: Vec<&str> = std::iter::once("name").chain(entry.fields.iter().copied()).collect();
    (entry.read)(&Fields::new(&value, "/schedule", &known, origins)?, epochs)
}
