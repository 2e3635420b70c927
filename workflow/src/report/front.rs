//! The points that no other beats in all objectives.

use protocol::SegmentId;
use serde_json::{Value, json};
use steering::objectives::{Front, Objectives};

use crate::coordinator::history;
use crate::state::{PointState, State};
use crate::task::Task;

/// The front of one segment.
#[derive(Debug)]
pub(crate) struct SegmentFront<'a> {
    pub(crate) segment: Option<SegmentId>,
    /// Each member with its losses, by objective.
    pub(crate) members: Vec<(&'a PointState, Vec<f64>)>,
    hypervolume: f64,
}

/// The objectives of a task; nothing for the loss alone.
pub(crate) fn objectives(task: &Task) -> Option<Objectives> {
    task.options.objectives.as_deref()?.parse().ok()
}

/// The fronts of the segments that have evaluated points.
pub(crate) fn fronts<'a>(task: &Task, state: &'a State, objectives: &Objectives) -> Vec<SegmentFront<'a>> {
    let history = history(task, state);
    let fronts = task.segment_ids().into_iter().filter_map(|segment| {
        let evaluated = history.points.iter().zip(&state.points);
        let evaluated: Vec<(&PointState, Vec<f64>)> = evaluated
            .filter(|(_, point)| point.segment == segment)
            .filter_map(|(entry, point)| Some((point, objectives.losses(entry)?)))
            .collect();
        let losses: Vec<&[f64]> = evaluated.iter().map(|(_, losses)| losses.as_slice()).collect();
        let front = Front::new(&losses, None)?;
        let member = |member: &usize| {
            let (point, losses) = &evaluated[*member];
            (*point, objectives.as_given(losses))
        };
        Some(SegmentFront {
            segment,
            members: front.members.iter().map(member).collect(),
            hypervolume: front.hypervolume,
        })
    });
    fronts.collect()
}

/// The fronts as JSON: ids, by the first objective.
pub(crate) fn fronts_json(fronts: &[SegmentFront<'_>]) -> Value {
    let front = |front: &SegmentFront<'_>| {
        json!({
            "model_id": front.segment,
            "points": front.members.iter().map(|(point, _)| point.id).collect::<Vec<_>>(),
            "hypervolume": front.hypervolume,
        })
    };
    fronts.iter().map(front).collect()
}
