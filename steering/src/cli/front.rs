//! `steering front`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::anyhow;
use protocol::steering::HistoryEntry;
use protocol::{SegmentId, earlier, exit};
use serde_json::{Map, Value, json};

use super::arguments::FrontOptions;
use super::{Failure, output};
use crate::history::Mode;
use crate::objectives::{Front, Objectives};

/// The front of one segment.
struct Found<'a> {
    segment: Option<SegmentId>,
    evaluated: Vec<(&'a HistoryEntry, Vec<f64>)>,
    front: Option<Front>,
}

pub(super) fn run(options: &FrontOptions) -> Result<u8, Failure> {
    let input = earlier::read(&options.infile, options.failed_loss.0)?;
    let place = |error: anyhow::Error| error.context(format!("steering input `{}`", options.infile.display()));
    let objectives = &options.objectives;
    (objectives.check(&input.points)).map_err(|error| Failure::input(place(error.into())))?;
    let reference = match &options.reference {
        None => None,
        Some(text) => Some(reference(text, objectives).map_err(Failure::input)?),
    };
    let mut segments: BTreeMap<Option<SegmentId>, Vec<(&HistoryEntry, Vec<f64>)>> = BTreeMap::new();
    for entry in &input.points {
        let segment = segments.entry(entry.input.segment()).or_default();
        segment.extend(objectives.losses(entry).map(|losses| (entry, losses)));
    }
    let found: Vec<Found<'_>> = segments
        .into_iter()
        .map(|(segment, evaluated)| {
            let losses: Vec<&[f64]> = evaluated.iter().map(|(_, losses)| losses.as_slice()).collect();
            Found {
                segment,
                front: Front::new(&losses, reference.as_deref()).filter(|_| !losses.is_empty()),
                evaluated,
            }
        })
        .collect();
    output::print(&if options.json {
        as_json(&found, objectives)
    } else {
        as_text(&found, objectives)
    })?;
    Ok(exit::DONE)
}

/// `name=value` for every objective, as losses to be minimised.
fn reference(text: &str, objectives: &Objectives) -> anyhow::Result<Vec<f64>> {
    let mut given: BTreeMap<&str, f64> = BTreeMap::new();
    for part in text.split(',') {
        let pair = part.trim().rsplit_once('=');
        let pair = pair.and_then(|(name, value)| Some((name, value.parse::<f64>().ok().filter(|v| v.is_finite())?)));
        let (name, value) = pair.ok_or_else(|| {
            anyhow!(
                "expected a reference as `name=number`, separated by commas, found `{}`",
                part.trim()
            )
        })?;
        given.insert(name, value);
    }
    let wanted = objectives.all().iter().map(|objective| {
        let value = given.remove(objective.name.as_str());
        let value = value.ok_or_else(|| {
            anyhow!(
                "the reference must name every objective, `{}` is missing",
                objective.name
            )
        })?;
        Ok(if objective.mode == Mode::Max { -value } else { value })
    });
    let reference: anyhow::Result<Vec<f64>> = wanted.collect();
    match (given.keys().next(), reference) {
        (Some(name), Ok(_)) => Err(anyhow!(
            "the reference names `{name}`, which is no objective ({objectives})"
        )),
        (_, reference) => reference,
    }
}

/// Losses by name, as they were before all were to be minimised.
fn named(losses: &[f64], objectives: &Objectives) -> Vec<(String, f64)> {
    let names = objectives.all().iter().map(|objective| objective.name.clone());
    names.zip(objectives.as_given(losses)).collect()
}

fn as_json(found: &[Found<'_>], objectives: &Objectives) -> String {
    let object = |losses: &[f64]| -> Map<String, Value> {
        named(losses, objectives)
            .into_iter()
            .map(|(name, loss)| (name, loss.into()))
            .collect()
    };
    let segments: Vec<Value> = (found.iter())
        .map(|found| {
            let members = found.front.iter().flat_map(|front| &front.members);
            let members: Vec<Value> = members
                .map(|member| {
                    let (entry, losses) = &found.evaluated[*member];
                    json!({"point": entry.input.point(), "losses": object(losses)})
                })
                .collect();
            json!({
                "model_id": found.segment,
                "evaluated": found.evaluated.len(),
                "front": members,
                "reference": found.front.as_ref().map(|front| object(&front.reference)),
                "hypervolume": found.front.as_ref().map(|front| front.hypervolume),
            })
        })
        .collect();
    format!("{}\n", Value::from(segments))
}

fn as_text(found: &[Found<'_>], objectives: &Objectives) -> String {
    let list = |losses: &[f64]| {
        let named = named(losses, objectives);
        let named: Vec<String> = named.iter().map(|(name, loss)| format!("{name} {loss}")).collect();
        named.join(", ")
    };
    let mut text = String::new();
    for found in found {
        let place = found.segment.map_or_else(String::new, |id| format!("segment {id}: "));
        let Some(front) = &found.front else {
            let _ = writeln!(text, "{place}no point is evaluated");
            continue;
        };
        for member in &front.members {
            let (entry, losses) = &found.evaluated[*member];
            let _ = writeln!(text, "{place}{}: {}", list(losses), json!(entry.input.point()));
        }
        let _ = writeln!(
            text,
            "{place}{} of {} points are on the front; hypervolume {} up to {}",
            front.members.len(),
            found.evaluated.len(),
            front.hypervolume,
            list(&front.reference)
        );
    }
    if text.is_empty() { "no points\n".into() } else { text }
}
