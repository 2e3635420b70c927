//! How far the result of a two-step search can be trusted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::{PointValue, SegmentId};
use serde_json::{Value, json};
use steering::two_step::{Guarantee, guarantee};

use super::escape::escape;
use crate::state::State;
use crate::task::{Settings, Task};

/// Configurations of the calibration unless a setting says otherwise, as the scheduler has it.
const CALIBRATION: usize = 12;

/// What can be said of each segment whose calibration says something; nothing under other schedulers.
fn guarantees(state: &State, settings: &Settings) -> Vec<(Option<SegmentId>, Guarantee)> {
    let Some(schedule) = settings
        .schedule
        .as_ref()
        .filter(|schedule| schedule.scheduler == "two-step")
    else {
        return Vec::new();
    };
    let calibration = schedule.settings.iter().rev().find(|(name, _)| name == "calibration");
    let calibration = calibration.map_or(CALIBRATION, |(_, count)| count.parse().unwrap_or(CALIBRATION));
    let full = schedule.fidelity.full();
    // By segment and configuration: grants with their losses.
    let mut losses: BTreeMap<Option<SegmentId>, BTreeMap<u64, BTreeMap<u64, f64>>> = BTreeMap::new();
    for point in &state.points {
        let configuration = point.point.reserved("c").and_then(PointValue::as_u64);
        let granted = schedule.fidelity.of(&point.point);
        if let (Some(configuration), Some(granted), Some(loss)) = (configuration, granted, point.loss()) {
            let known = losses
                .entry(point.segment)
                .or_default()
                .entry(configuration)
                .or_default();
            known.entry(granted).or_insert(loss.get());
        }
    }
    losses
        .into_iter()
        .filter_map(|(segment, configurations)| {
            // Of a ladder its last rung counts.
            let grants = configurations.values().flat_map(BTreeMap::keys).copied();
            let compared = grants.filter(|granted| *granted < full).max()?;
            let pair = |losses: &BTreeMap<u64, f64>| Some((*losses.get(&compared)?, losses.get(&full).copied()));
            let pairs: Vec<(f64, Option<f64>)> = configurations.values().filter_map(pair).collect();
            Some((segment, guarantee(&pairs, calibration)?))
        })
        .collect()
}

/// A list with an object a segment, or nothing.
pub(crate) fn two_step_json(task: &Task, state: &State, settings: &Settings) -> Option<Value> {
    let all = guarantees(state, settings);
    let object = |(segment, found): &(Option<SegmentId>, Guarantee)| {
        json!({
            "segment": task.segment_name(*segment),
            "first_step": found.first,
            "second_step": found.second,
            "pairs": found.agreement.pairs,
            "rank_correlation": found.agreement.correlation,
            "lower_bound": found.agreement.bound,
            "chance": found.chance,
        })
    };
    (!all.is_empty()).then(|| all.iter().map(object).collect())
}

/// A line a segment, or nothing.
pub(crate) fn two_step_text(task: &Task, state: &State, settings: &Settings) -> String {
    let mut text = String::new();
    for (segment, found) in guarantees(state, settings) {
        let name = task.segment_name(segment).map(|name| format!("{}: ", escape(name)));
        let _ = writeln!(
            text,
            "{}the best {} of {} went on to all data; rank correlation {:.2} (at least {:.2} with 95 % confidence, {} pairs): the \
             true best is among them with a chance of {:.2}",
            name.unwrap_or_default(),
            found.second,
            found.first,
            found.agreement.correlation,
            found.agreement.bound,
            found.agreement.pairs,
            found.chance
        );
    }
    text
}
