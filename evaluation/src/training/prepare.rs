//! Brings plan, model and data together before the first step.

use std::collections::BTreeSet;

use super::metrics::available;
use super::step::{Fed, Recipe};
use super::{Inputs, LayerSummary, Loss, Samples, Targets, TrainingError, TrainingPlan};
use crate::engine::Engine;
use crate::graph::read_model;
use crate::model::import::Imported;
use crate::model::{Architecture, blocks};

/// An ONNX file holds at most 2 GiB, so half a billion weights.
const MOST_WEIGHTS: f64 = 5e8;

/// Reads or writes the forward model, and fits it to the data.
pub(crate) fn import(
    plan: &TrainingPlan,
    row_shape: &[usize],
    targets: &Targets,
) -> Result<(Imported, usize), TrainingError> {
    let outputs = match (&plan.loss, targets) {
        (Loss::BinaryCrossEntropy, Targets::Classes { classes: 2, .. }) => 1,
        (Loss::BinaryCrossEntropy, Targets::Classes { classes, .. }) => {
            return Err(TrainingError::Mismatch(format!(
                "`binary_cross_entropy` needs two classes or values in [0, 1], the data has {classes} classes; use \
                 `cross_entropy`"
            )));
        }
        (loss, Targets::Classes { .. }) if !loss.needs_classes() => {
            return Err(TrainingError::Mismatch(format!(
                "`{}` needs values as targets, the data has classes",
                loss.name()
            )));
        }
        (loss, Targets::Values { .. }) if loss.needs_classes() => {
            return Err(TrainingError::Mismatch(format!(
                "`{}` needs classes as targets, the data has values",
                loss.name()
            )));
        }
        (_, targets) => targets.outputs(),
    };
    if !available(&plan.loss).contains(&plan.objective.metric) {
        let names: Vec<&str> = available(&plan.loss).iter().map(|metric| metric.name()).collect();
        return Err(TrainingError::Mismatch(format!(
            "the objective `{}` does not exist for the loss `{}`; there are {}",
            plan.objective.metric.name(),
            plan.loss.name(),
            names.join(", ")
        )));
    }
    let mut imported = match &plan.architecture {
        Architecture::Blocks { blocks, initialization } => {
            let weights = blocks::count(blocks, row_shape, outputs);
            if weights > MOST_WEIGHTS {
                return Err(TrainingError::Mismatch(format!(
                    "the model would have {weights:.1e} weights, more than {MOST_WEIGHTS:.0e}; make its layers smaller"
                )));
            }
            Imported::new(
                blocks::build(blocks, *initialization, row_shape, outputs, plan.seed),
                &[],
            )?
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
        Loss::BinaryCrossEntropy => imported.strip_final(&["Sigmoid"]),
        _ => false,
    };
    Ok((imported, outputs))
}

/// Checks what training relies on.
pub(crate) fn check_samples(name: &str, samples: &Samples) -> Result<(), TrainingError> {
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
    let recipe = recipe(engine, plan, &imported, row_shape, outputs, Fed::default())?;
    let batch = plan.batch_size.max(2);
    let step = recipe.step(batch, batch)?;
    let states = step.parameters.iter().chain(&step.running).cloned().collect();
    let graph = recipe.evaluation(batch, batch, &states)?;
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

/// Everything that programs are built from.
pub(crate) fn recipe<'a>(
    engine: &'a dyn Engine,
    plan: &'a TrainingPlan,
    imported: &'a Imported,
    row_shape: &[usize],
    outputs: usize,
    fed: Fed,
) -> Result<Recipe<'a>, TrainingError> {
    let row_shape = imported.row_shape(row_shape)?;
    Ok(Recipe {
        engine,
        plan,
        imported,
        row_shape,
        outputs,
        classes: plan.loss.needs_classes(),
        fed,
    })
}
