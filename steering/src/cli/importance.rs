//! `steering importance`.

use std::fmt::Write as _;

use anyhow::anyhow;
use protocol::exit;
use protocol::steering::SteeringInput;
use serde_json::{Value, json};

use super::arguments::ImportanceOptions;
use super::{Dialect, Failure, asking, output};
use crate::importance::{Importance, ImportanceError, Options, importance};

/// Predicted share below which a person is warned.
const DOUBTFUL: f64 = 0.3;
/// Pairs that are printed for people, and the least share worth a line.
const PAIRS: usize = 5;
const LEAST: f64 = 0.01;

pub(super) fn run(options: &ImportanceOptions) -> Result<u8, Failure> {
    let input = SteeringInput::read(&options.infile, options.failed_loss.0)?;
    let infile = Some(options.infile.as_path());
    let source = asking::source(infile, options.space.as_deref(), input.space.clone(), Dialect::Own)?;
    let document = asking::check(&source)?;
    let wanted = Options {
        mode: options.mode.into(),
        seed: options.seed,
        cap: options.cap,
    };
    let segments = importance(&document, &input, &wanted).map_err(|error| match error {
        ImportanceError::Ask(error) => asking::explain(error, &source, infile),
        error @ ImportanceError::TooFew { .. } => {
            Failure::input(anyhow!("steering input `{}`: {error}", options.infile.display()))
        }
    })?;
    output::print(&if options.json {
        as_json(&segments)
    } else {
        as_text(&segments)
    })?;
    Ok(exit::DONE)
}

fn as_json(segments: &[Importance]) -> String {
    let segments: Vec<Value> = segments
        .iter()
        .map(|found| {
            let shares: Vec<Value> = found
                .shares
                .iter()
                .map(|share| {
                    json!({
                        "dimension": share.dimension,
                        "share": share.share,
                        "deviation": share.deviation,
                        "best": share.best,
                    })
                })
                .collect();
            let pairs: Vec<Value> = found
                .pairs
                .iter()
                .map(|pair| json!({"dimensions": pair.dimensions, "share": pair.share, "deviation": pair.deviation}))
                .collect();
            json!({
                "model_id": found.segment,
                "evaluated": found.evaluated,
                "predicted": found.predicted,
                "shares": shares,
                "pairs": pairs,
            })
        })
        .collect();
    format!("{}\n", Value::from(segments))
}

fn as_text(segments: &[Importance]) -> String {
    let mut text = String::new();
    for found in segments {
        let place = found.segment.map_or_else(String::new, |id| format!("segment {id}: "));
        let predicted = 100.0 * found.predicted.max(0.0);
        let _ = writeln!(
            text,
            "{place}{} points, {predicted:.0} % of their differences predicted",
            found.evaluated
        );
        if found.predicted < DOUBTFUL {
            let _ = writeln!(
                text,
                "the losses are hardly predictable from the points; do not rely on these shares"
            );
        }
        let pairs: Vec<(String, f64, f64)> = found
            .pairs
            .iter()
            .filter(|pair| pair.share >= LEAST)
            .take(PAIRS)
            .map(|pair| (pair.dimensions.join(" with "), pair.share, pair.deviation))
            .collect();
        let widest = found.shares.iter().map(|share| share.dimension.chars().count());
        let width = widest
            .chain(pairs.iter().map(|(name, _, _)| name.chars().count()))
            .max()
            .unwrap_or(0);
        for share in &found.shares {
            let (percent, deviation) = (100.0 * share.share, 100.0 * share.deviation);
            let _ = writeln!(
                text,
                "{:<width$}  {percent:5.1} % ± {deviation:4.1}  best near {}",
                share.dimension, share.best
            );
        }
        for (name, share, deviation) in pairs {
            let _ = writeln!(
                text,
                "{name:<width$}  {:5.1} % ± {:4.1}",
                100.0 * share,
                100.0 * deviation
            );
        }
    }
    text
}
