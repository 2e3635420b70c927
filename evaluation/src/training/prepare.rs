//! Brings plan, model and data together before the first step.

use std::collections::BTreeSet;

use super::custom::LossGraph;
use super::metrics::{is_available, largest};
use super::step::{Fed, Recipe};
use super::{Inputs, LayerSummary, Loss, Metric, Samples, Targets, TrainingError, TrainingPlan};
use crate::engine::Engine;
use crate::graph::read_model;
use crate::model::import::Imported;
use crate::model::{Architecture, blocks};

/// Reads or writes the forward model, and fits it to the data.
pub(crate) fn import(
    plan: &TrainingPlan,
    row_shape: &[usize],
    targets: &Targets,
) -> Result<(Imported, usize), TrainingError> {
    let outputs = plan.loss.outputs(targets).map_err(TrainingError::Mismatch)?;
    for metric in std::iter::once(plan.objective.metric).chain(plan.metrics.iter().copied()) {
        check_metric(metric, plan, targets)?;
    }
    let mut imported = match &plan.architecture {
        Architecture::Blocks {
            blocks,
            head,
            initialization,
        } => {
            let model = blocks::build(blocks, *head, *initialization, row_shape, outputs, plan.seed);
            let (model, tensors) = model.map_err(|message| TrainingError::Mismatch(format!("model: {message}")))?;
            Imported::built(model, tensors)?
        }
        Architecture::Onnx {
            path,
            initialization,
            freeze,
        } => {
            let mut imported = Imported::new(read_model(path).map_err(crate::model::ImportError::from)?, freeze)?;
            if let Some(initialization) = initialization {
                imported.reinitialize(*initialization, plan.seed);
            }
            imported
        }
    };
    match plan.loss {
        Loss::CrossEntropy { .. } => imported.strip_final(&["Softmax", "LogSoftmax"]),
        Loss::BinaryCrossEntropy { .. } => imported.strip_final(&["Sigmoid"]),
        _ => false,
    };
    Ok((imported, outputs))
}

/// Checks that a metric exists for loss and targets.
fn check_metric(metric: Metric, plan: &TrainingPlan, targets: &Targets) -> Result<(), TrainingError> {
    if is_available(metric, &plan.loss, targets) {
        return Ok(());
    }
    if let (Metric::Top(count), Targets::Classes { classes, .. }) = (metric, targets)
        && count > *classes
    {
        return Err(TrainingError::Mismatch(format!(
            "the metric `{}` needs at least {count} classes, the data has {classes}",
            metric.name()
        )));
    }
    let names: Vec<&str> = Metric::NAMES
        .iter()
        .copied()
        .filter(|name| {
            Metric::parse(name).is_some_and(|metric| match metric {
                Metric::Top(_) => is_available(Metric::Top(1), &plan.loss, targets),
                metric => is_available(metric, &plan.loss, targets),
            })
        })
        .collect();
    Err(TrainingError::Mismatch(format!(
        "the metric `{}` does not exist for the loss `{}`; there are {}",
        metric.name(),
        plan.loss.name(),
        names.join(", ")
    )))
}

/// Checks that the area under the ROC curve is defined on the validation set: that takes rows of both kinds.
pub(crate) fn check_area(plan: &TrainingPlan, validation: &Samples) -> Result<(), TrainingError> {
    if plan.objective.metric != Metric::Auc && !plan.metrics.contains(&Metric::Auc) {
        return Ok(());
    }
    let rows = (0..validation.rows()).filter(|row| validation.weight(*row) > 0.0);
    let kinds: BTreeSet<i64> = match &validation.targets {
        Targets::Classes { labels, .. } => rows.map(|row| labels[row]).collect(),
        Targets::Values { width, values } if matches!(plan.loss, Loss::BinaryCrossEntropy { .. }) => {
            let columns = |kind: bool| {
                let mut rows = rows.clone();
                (0..*width).any(|at| rows.any(|row| (values[row * width + at] > 0.5) == kind))
            };
            [false, true]
                .into_iter()
                .filter(|kind| columns(*kind))
                .map(i64::from)
                .collect()
        }
        Targets::Values { width, values } => rows
            .map(|row| largest(&values[row * width..][..*width]) as i64)
            .collect(),
    };
    if kinds.len() > 1 {
        return Ok(());
    }
    Err(TrainingError::Mismatch(format!(
        "the metric `auc` compares rows of different classes, all {} rows of the validation set are of class {}; use \
         another metric, or a `data.split` that sets rows of every class apart, such as `\"kind\": \"stratified\"`",
        validation.rows(),
        kinds.first().copied().unwrap_or(0)
    )))
}

/// Checks what training relies on.
pub(crate) fn check_samples(name: &str, samples: &Samples, loss: &Loss) -> Result<(), TrainingError> {
    let (rows, width) = (samples.rows(), samples.row_len());
    if rows == 0 {
        return Err(TrainingError::Mismatch(format!("the {name} set has no rows")));
    }
    let numbers = match &samples.inputs {
        Inputs::Resident(values) => values.len(),
        Inputs::Fed(source) => source.rows() * width,
    };
    if width == 0 || numbers != rows * width {
        return Err(TrainingError::Mismatch(format!(
            "the {name} set has {numbers} input numbers for {rows} rows of {width}"
        )));
    }
    if let Some(weights) = &samples.weights {
        if weights.len() != rows {
            return Err(TrainingError::Mismatch(format!(
                "the {name} set has {} weights for {rows} rows",
                weights.len()
            )));
        }
        if let Some(row) = weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
            return Err(TrainingError::Mismatch(format!(
                "the {name} set has the weight {} in row {row}, expected a finite number of at least 0",
                weights[row]
            )));
        }
        if weights.iter().all(|weight| *weight <= 0.0) {
            return Err(TrainingError::Mismatch(format!(
                "the {name} set has no row with a weight above 0"
            )));
        }
    }
    check_values(name, &samples.targets, loss)?;
    if let Targets::Classes { labels, classes } = &samples.targets
        && let Some(row) = labels
            .iter()
            .position(|label| usize::try_from(*label).map_or(true, |label| label >= *classes))
    {
        return Err(TrainingError::Mismatch(format!(
            "the {name} set has the label {} in row {row}, expected 0 to {}",
            labels[row],
            classes - 1
        )));
    }
    Ok(())
}

/// Checks that values are what a loss is defined for.
fn check_values(name: &str, targets: &Targets, loss: &Loss) -> Result<(), TrainingError> {
    type Test = fn(&[f32]) -> bool;
    let Targets::Values { width, values } = targets else {
        return Ok(());
    };
    let (expected, test): (&str, Test) = match loss {
        Loss::CrossEntropy { .. } => (
            "classes as targets, or one probability a class, which sum up to 1",
            |row| row.iter().all(|value| *value >= 0.0) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-3,
        ),
        Loss::BinaryCrossEntropy { .. } => ("values in [0, 1]", |row| {
            row.iter().all(|value| (0.0..=1.0).contains(value))
        }),
        Loss::Poisson { .. } => ("counts, which are at least 0", |row| {
            row.iter().all(|value| *value >= 0.0)
        }),
        _ => return Ok(()),
    };
    match values.chunks_exact(*width).enumerate().find(|(_, row)| !test(row)) {
        None => Ok(()),
        Some((row, found)) => Err(TrainingError::Mismatch(format!(
            "`{}` needs {expected}; row {row} of the {name} set has {:?}",
            loss.name(),
            &found[..found.len().min(10)]
        ))),
    }
}

/// Builds the model for the data without training: each node's output shape and the parameter counts.
///
/// # Errors
/// As [`super::train`] before its first step: an unknown operator, shapes that do not fit.
pub fn summarize(
    engine: &dyn Engine,
    plan: &TrainingPlan,
    row_shape: &[usize],
    targets: &Targets,
) -> Result<Vec<LayerSummary>, TrainingError> {
    let (imported, outputs) = import(plan, row_shape, targets)?;
    let recipe = recipe(
        engine,
        plan,
        &imported,
        (row_shape, targets, false),
        outputs,
        Fed::default(),
    )?;
    let batch = plan.batch_size.max(2);
    let step = recipe.step(batch, batch)?;
    let states = step
        .parameters
        .iter()
        .chain(&step.running)
        .map(|name| (name.clone(), name.clone()));
    let graph = recipe.evaluation(batch, batch, &states.collect::<Vec<_>>())?.graph;
    let types = engine.types(&graph)?;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    Ok(graph
        .nodes
        .iter()
        .skip(1)
        .map(|node| {
            let parameters = node
                .inputs
                .iter()
                .filter(|name| step.parameters.contains(name) && seen.insert(name))
                .filter_map(|name| imported.graph.constants.get(name))
                .map(|tensor| tensor.elements.len())
                .sum();
            let shape = node
                .output(0)
                .and_then(|name| types.get(name))
                .map(|kind| kind.shape.clone());
            LayerSummary {
                name: node.label().to_owned(),
                operator: node.operator.clone(),
                output_shape: shape.unwrap_or_default().into_iter().skip(1).collect(),
                parameters,
            }
        })
        .collect())
}

/// Everything that programs are built from; `data` are shape and targets of the training rows, and whether they have
/// weights.
pub(crate) fn recipe<'a>(
    engine: &'a dyn Engine,
    plan: &'a TrainingPlan,
    imported: &'a Imported,
    data: (&[usize], &Targets, bool),
    outputs: usize,
    fed: Fed,
) -> Result<Recipe<'a>, TrainingError> {
    plan.precision.check(engine)?;
    let (row_shape, targets, weighted) = data;
    let row_shape = imported.row_shape(row_shape)?;
    let class_weights = match &plan.loss {
        Loss::CrossEntropy {
            class_weights: Some(weights),
            ..
        } => Some(weights.resolve(targets).map_err(TrainingError::Mismatch)?),
        _ => None,
    };
    let loss = match &plan.loss {
        Loss::Graph { path } => Some(LossGraph::read(path)?),
        _ => None,
    };
    let labels = matches!(targets, Targets::Classes { .. }) && !matches!(plan.loss, Loss::BinaryCrossEntropy { .. });
    Ok(Recipe {
        engine,
        plan,
        imported,
        row_shape,
        outputs: loss.is_none().then_some(outputs),
        targets: match targets {
            Targets::Classes { .. } => 1,
            Targets::Values { width, .. } => *width,
        },
        labels,
        class_weights,
        weighted,
        loss,
        fed,
    })
}
