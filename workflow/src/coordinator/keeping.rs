//! Which checkpoints are worth their room, as pure functions of the state.
//!
//! A scheduler grants totals, so a checkpoint is never needed, it only saves time: whatever is decided here, results are the same.

use std::collections::{BTreeMap, BTreeSet};

use protocol::SegmentId;
use steering::schedulers::Schedule;

use crate::checkpoint::Label;
use crate::state::{PointId, PointOutcome, PointState, State, TaskEnd};

/// What a checkpoint of this point would be called; `None` if nobody can go on from one.
pub(super) fn label(point: &PointState, schedule: Option<&Schedule>) -> Option<Label> {
    number(point, "n")?;
    // Of a share of the data the evaluation may know its epochs itself.
    let epochs = number(point, "epochs").or_else(|| point.point.reserved("frac").map(|_| 0))?;
    let is_last = schedule.is_some_and(|schedule| schedule.is_last(&point.point));
    (!is_last).then(|| Label {
        point: point.id,
        configuration: number(point, "c"),
        epochs,
    })
}

/// Whether a scheduler made this point, so that others may go on from it.
pub(super) fn is_scheduled(point: &PointState) -> bool {
    number(point, "n").is_some()
}

/// How far a point is trained, in the order in which configurations go on: millionths of the data, and epochs.
fn grant(point: &PointState) -> (u64, u64) {
    let share = point.point.reserved("frac").and_then(protocol::PointValue::as_f64);
    let millionths = share.map_or(1e6, |share| (share * 1e6).round());
    (millionths as u64, number(point, "epochs").unwrap_or(0))
}

/// The point from which this one may go on.
pub(crate) fn source<'a>(state: &'a State, point: &PointState) -> Option<&'a PointState> {
    let from = number(point, "from")?;
    let mut same = state.points.iter().filter(|other| other.segment == point.segment);
    same.find(|other| number(other, "n") == Some(from))
}

fn number(point: &PointState, name: &str) -> Option<u64> {
    point.point.reserved(name)?.as_u64()
}

/// Those of `stored` whose checkpoint nobody will ask for any more.
pub(super) fn unreachable(state: &State, schedule: Option<&Schedule>, stored: &BTreeSet<PointId>) -> BTreeSet<PointId> {
    if stored.is_empty() {
        return BTreeSet::new();
    }
    let uses = Uses::of(state);
    let is_over = matches!(state.end, Some(TaskEnd::Finished { .. }));
    let is_needed = |point: &PointState| match point.outcome {
        // Those that no scheduler made are not touched.
        _ if !is_scheduled(point) => true,
        PointOutcome::Open => true,
        PointOutcome::Failed { .. } => false,
        PointOutcome::Done { .. } => uses.is_asked_for(point) || (!is_over && uses.may_be(point, schedule)),
    };
    let points = stored.iter().filter_map(|id| state.point(*id));
    points.filter(|point| !is_needed(point)).map(|point| point.id).collect()
}

/// Who goes on from whom.
#[derive(Debug, Default)]
struct Uses {
    /// Ordinals from which open points go on.
    asked: BTreeSet<(Option<SegmentId>, u64)>,
    /// How far each configuration was trained with a loss.
    reached: BTreeMap<(Option<SegmentId>, u64), (u64, u64)>,
    /// The newest generation of each member of a population.
    members: BTreeMap<(Option<SegmentId>, u64), u64>,
}

impl Uses {
    fn of(state: &State) -> Uses {
        let mut uses = Uses::default();
        for point in &state.points {
            let named = |name: &str| number(point, name).map(|number| (point.segment, number));
            if point.outcome == PointOutcome::Open {
                uses.asked.extend(named("from"));
            }
            if let (Some(configuration), Some(_)) = (named("c"), point.loss()) {
                let reached = uses.reached.entry(configuration).or_default();
                *reached = grant(point).max(*reached);
            }
            if let (Some(member), Some(generation)) = (named("m"), number(point, "g")) {
                let newest = uses.members.entry(member).or_default();
                *newest = generation.max(*newest);
            }
        }
        uses
    }

    fn is_asked_for(&self, point: &PointState) -> bool {
        number(point, "n").is_some_and(|ordinal| self.asked.contains(&(point.segment, ordinal)))
    }

    /// Whether a later answer of steering may go on from it.
    fn may_be(&self, point: &PointState, schedule: Option<&Schedule>) -> bool {
        let Some(label) = label(point, schedule) else {
            return false;
        };
        if let Some(generation) = number(point, "g") {
            // Whoever has not got further may become a copy.
            let mut behind = self
                .members
                .iter()
                .filter(|((segment, _), _)| *segment == point.segment);
            return behind.any(|(_, newest)| *newest <= generation);
        }
        let configuration = label.configuration.map(|number| (point.segment, number));
        let reached = configuration.and_then(|key| self.reached.get(&key));
        reached.is_none_or(|reached| *reached <= grant(point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{AttemptEnd, Event, NewPoint};
    use protocol::Loss;
    use serde_json::{Value, json};
    use steering::schedulers::Fidelity;

    const NOBODY: [u32; 0] = [];

    fn schedule() -> Schedule {
        Schedule {
            scheduler: "asha".to_owned(),
            settings: Vec::new(),
            fidelity: Fidelity::epochs(1, 9).unwrap(),
        }
    }

    /// Points with these reserved keys; those with a loss are done, the others open.
    fn state(points: &[(Value, bool)]) -> State {
        let settings = crate::task::Settings::resolve(&protocol::task_options::TaskOptions::default()).unwrap();
        let mut state = State::new(settings.retry);
        let mut apply = |event: Event| state.apply(&event).unwrap();
        apply(Event::Created {
            task: String::new(),
            digest: String::new(),
        });
        let new = points.iter().zip(1..).map(|((reserved, _), id)| {
            let reserved = reserved.as_object().unwrap().iter();
            NewPoint {
                id: PointId(id),
                segment: None,
                point: reserved
                    .map(|(key, value)| (format!("hpo.{key}"), value.clone()))
                    .collect(),
            }
        });
        apply(Event::Iteration {
            number: 1,
            asked: 1,
            points: new.collect(),
        });
        for ((_, done), id) in points.iter().zip(1..) {
            let (point, attempt) = (PointId(id), 1);
            apply(Event::Intent {
                point,
                attempt,
                job: id,
                boot_id: String::new(),
                slot: None,
            });
            if *done {
                let end = AttemptEnd::Done {
                    loss: Loss::new(1.0).unwrap(),
                    losses: Vec::new(),
                    message: None,
                    metrics: None,
                    metadata: false,
                };
                apply(Event::AttemptEnded {
                    point,
                    attempt,
                    end,
                    seconds: 0.0,
                    time: 0.0,
                });
            }
        }
        state
    }

    fn discarded(points: &[(Value, bool)]) -> Vec<u32> {
        let state = state(points);
        let stored = (1..=points.len() as u32).map(PointId).collect();
        let found = unreachable(&state, Some(&schedule()), &stored);
        found.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_rung_below_is_kept_until_the_promotion_has_a_loss() {
        let low = (json!({"n": 0, "c": 0, "epochs": 1}), true);
        let next = |done| (json!({"n": 1, "c": 0, "epochs": 3, "from": 0}), done);
        assert_eq!(discarded(std::slice::from_ref(&low)), NOBODY);
        assert_eq!(discarded(&[low.clone(), next(false)]), NOBODY);
        assert_eq!(discarded(&[low.clone(), next(true)]), [1]);
        let top = (json!({"n": 2, "c": 0, "epochs": 9, "from": 1}), true);
        assert_eq!(discarded(&[low, next(true), top]), [1, 2, 3]);
    }

    #[test]
    fn a_member_is_kept_while_another_may_become_its_copy() {
        let member =
            |n: u32, m: u32, g: u32, done: bool| (json!({"n": n, "c": n, "m": m, "g": g, "epochs": g + 1}), done);
        let first = [member(0, 0, 0, true), member(1, 1, 0, true), member(2, 0, 1, true)];
        assert_eq!(discarded(&first), NOBODY, "member 1 is still at generation 0");
        let all = [&first[..], &[member(3, 1, 1, false)]].concat();
        assert_eq!(discarded(&all), [1, 2]);
    }

    #[test]
    fn weights_are_kept_until_the_second_step_has_a_loss() {
        let shares = |weights: &str| Schedule {
            scheduler: "two-step".to_owned(),
            settings: [("full-epochs", "9"), ("second", "halving"), ("weights", weights)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            fidelity: Fidelity::fraction(0.1).unwrap(),
        };
        let first = (json!({"n": 0, "c": 0, "frac": 0.1, "step": 1}), true);
        let second = |epochs: u64| {
            (
                json!({"n": epochs, "c": 0, "frac": 1.0, "epochs": epochs, "step": 2}),
                true,
            )
        };
        let discarded = |points: &[(Value, bool)], schedule: &Schedule| {
            let stored = (1..=points.len() as u32).map(PointId).collect();
            let found = unreachable(&state(points), Some(schedule), &stored);
            found.into_iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(discarded(std::slice::from_ref(&first), &shares("on")), NOBODY);
        assert_eq!(discarded(std::slice::from_ref(&first), &shares("off")), [1]);
        assert_eq!(
            discarded(&[first.clone(), second(3)], &shares("on")),
            [1],
            "the race goes on from its own"
        );
        assert_eq!(discarded(&[first, second(3), second(9)], &shares("on")), [1, 2, 3]);
    }

    #[test]
    fn points_without_a_scheduler_are_left_alone() {
        assert_eq!(discarded(&[(json!({}), true)]), NOBODY);
    }
}
