//! `evaluation check`: everything but the training.

use std::fmt::Write as _;

use serde_json::json;

use super::arguments::CheckOptions;
use super::failure::Failure;
use super::start::{self, Started};
use super::{prepare, print, say};
use crate::training;

/// Reads model file, point and data, builds the model and describes it.
pub(crate) fn check(options: &CheckOptions) -> Result<(), Failure> {
    let work = prepare::work(&options.subject)?;
    let data = prepare::data(&options.subject, &work, &mut |line| say(&format!("note: {line}")))?;
    for warning in work.warnings.iter().chain(&data.warnings) {
        say(&format!("warning: {warning}"));
    }
    let Started {
        engine,
        origin,
        warning,
    } = start::any(&options.engine)?;
    if let Some(warning) = warning {
        say(&format!("warning: {warning}"));
    }
    let layers = training::summarize(&*engine, &work.plan, &data.train.row_shape, &data.train.targets)?;
    let parameters: usize = layers.iter().map(|layer| layer.parameters).sum();
    if options.json {
        let answer = json!({
            "layers": layers, "parameters": parameters, "data": data.summary, "plan": work.plan,
            "engine": engine.version(), "library": origin, "device": engine.device(),
        });
        print(&format!("{answer:#}\n"));
        return Ok(());
    }
    let mut text = String::new();
    let width = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0).max(4);
    let _ = writeln!(
        text,
        "{:width$}  {:20}  {:>16}  {:>12}",
        "name", "operator", "output", "parameters"
    );
    for layer in &layers {
        let shape = layer
            .output_shape
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(" x ");
        let _ = writeln!(
            text,
            "{:width$}  {:20}  {shape:>16}  {:>12}",
            layer.name, layer.operator, layer.parameters
        );
    }
    let _ = writeln!(
        text,
        "{parameters} parameters; {} training rows, {} validation rows; {} epochs of batches of {}; device {}",
        data.summary.training_rows,
        data.summary.validation_rows,
        work.plan.epochs,
        work.plan.batch_size,
        engine.device()
    );
    print(&text);
    Ok(())
}
