//! How far the result of a two-step search can be trusted.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::{Loss, PointValue, SegmentId};
use serde_json::{Value, json};
use steering::two_step::{Compared, Guarantee, guarantee};

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
    let mut segments: BTreeMap<Option<SegmentId>, BTreeMap<u64, Vec<Grant>>> = BTreeMap::new();
    for point in &state.points {
        let number = |name: &str| point.point.reserved(name).and_then(PointValue::as_u64);
        if let (Some(configuration), Some(granted)) = (number("c"), schedule.fidelity.of(&point.point)) {
            let grants = segments
                .entry(point.segment)
                .or_default()
                .entry(configuration)
                .or_default();
            grants.push(Grant {
                is_second: number("step") == Some(2),
                granted,
                epochs: number("epochs"),
                loss: point.loss().map(Loss::get),
            });
        }
    }
    segments
        .into_iter()
        .filter_map(|(segment, configurations)| {
            Some((segment, guarantee(&compared(&configurations, full)?, calibration)?))
        })
        .collect()
}

/// One training of a configuration.
#[derive(Debug, Clone, Copy)]
struct Grant {
    is_second: bool,
    granted: u64,
    epochs: Option<u64>,
    loss: Option<f64>,
}

/// What the configurations have shown in both steps.
fn compared(configurations: &BTreeMap<u64, Vec<Grant>>, full: u64) -> Option<Vec<Compared>> {
    let all = || configurations.values().flatten();
    // Of a ladder its last rung counts, and full training is the longest on all data.
    let rung = all()
        .filter(|grant| !grant.is_second && grant.loss.is_some())
        .map(|grant| grant.granted)
        .max()?;
    let longest = all()
        .filter(|grant| grant.granted >= full)
        .map(|grant| grant.epochs)
        .max();
    let at_rung = |grants: &[Grant]| {
        let there = grants.iter().filter(|grant| !grant.is_second && grant.granted == rung);
        let known = there.filter_map(|grant| Some((Reverse(grant.epochs), grant.loss?)));
        known.min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))
    };
    let mut found: Vec<(Reverse<Option<u64>>, Compared)> = configurations
        .values()
        .filter_map(|grants| {
            let (epochs, first) = at_rung(grants)?;
            let in_full = |grant: &&Grant| grant.granted >= full && Some(grant.epochs) == longest;
            let compared = Compared {
                first,
                went_on: grants.iter().any(|grant| grant.is_second),
                full: grants.iter().filter(in_full).find_map(|grant| grant.loss),
            };
            Some((epochs, compared))
        })
        .collect();
    if found.windows(2).any(|pair| pair[0].0 != pair[1].0) {
        // Whoever was trained longer in the first step comes first.
        found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.first.total_cmp(&b.1.first)));
        for (place, (_, compared)) in found.iter_mut().enumerate() {
            compared.first = place as f64;
        }
    }
    Some(found.into_iter().map(|(_, compared)| compared).collect())
}

/// A list with an object a segment, or nothing.
pub(crate) fn two_step_json(task: &Task, state: &State, settings: &Settings) -> Option<Value> {
    let all = guarantees(state, settings);
    let object = |(segment, found): &(Option<SegmentId>, Guarantee)| {
        json!({
            "segment": task.segment_name(*segment),
            "first_step": found.first,
            "second_step": found.second,
            "others": found.others,
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
            "{}the best {} of {} went on to all data, and {} others; rank correlation {:.2} (at least {:.2} with 95 % confidence, {} pairs): the \
             true best is among the best {} with a chance of {:.2}",
            name.unwrap_or_default(),
            found.second,
            found.first,
            found.others,
            found.agreement.correlation,
            found.agreement.bound,
            found.agreement.pairs,
            found.second,
            found.chance
        );
    }
    text
}
