//! Why a point is proposed.
//!
//! Steering has no memory, and needs none to explain itself: whatever led to a point can be worked out again from the history that
//! it was made from. A sampler says what it was after; every point is also compared with the nearest evaluated one.

use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use protocol::{Point, SegmentId};
use serde_json::{Map, Value};

use crate::ask::{AskError, Request, sampler, scheduled, turns};
use crate::history::{History, Mode};
use crate::objectives::{self, WEIGHTS};
use crate::samplers::Registry;
use crate::space::{Coordinate, Space};

/// What a sampler says about a point of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The kind of reason, one word.
    pub reason: &'static str,
    /// The reason in a sentence without a capital and a period.
    pub text: String,
    /// The numbers behind it.
    pub facts: Map<String, Value>,
}

impl Explanation {
    /// A reason without numbers.
    pub fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            facts: Map::new(),
        }
    }

    /// The reason of a draw that was made because the wanted point is known already.
    #[must_use]
    pub fn stand_in(wanted: &str) -> Self {
        Self::new(
            "stand-in",
            format!("{wanted} is known already; this unused point stands in for it"),
        )
    }

    /// Adds what another has to say about the same point.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.text = format!("{}; {}", self.text, other.text);
        self.facts.insert("sampler_reason".to_owned(), other.reason.into());
        self.facts.extend(other.facts);
        self
    }

    /// Adds a number or a list of numbers.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

/// A proposed point with its reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The segment, if there are any.
    pub segment: Option<SegmentId>,
    /// The point.
    pub point: Point,
    /// What the sampler says.
    pub explanation: Explanation,
    /// The evaluated point that is nearest, if there is any.
    pub nearest: Option<Nearest>,
}

/// An evaluated point near a proposed one.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// The point.
    pub point: Point,
    /// Its loss, as it stands in the history.
    pub loss: f64,
    /// Its place among the evaluated points, from 1.
    pub rank: usize,
    /// Number of evaluated points.
    pub of: usize,
    /// Root mean square difference over the dimensions: that of quantiles for numbers, 1 for different categories and for
    /// dimensions that only one of the points has.
    pub distance: f64,
    /// The keys in which the points differ.
    pub changed: Vec<String>,
}

/// The points that [`ask`](crate::ask::ask) gives for the same arguments, each with its reason.
///
/// # Errors
/// Those of `ask`.
pub fn explain(document: &SpaceDocument, input: &SteeringInput, request: &Request) -> Result<Vec<Explained>, AskError> {
    let registry = Registry::standard();
    let (entry, sampler) = sampler(&registry, request)?;
    let mut answer = Vec::new();
    if let Some(schedule) = &request.schedule {
        for (mut turn, proposals) in scheduled(document, input, request, schedule)? {
            for proposal in proposals {
                let mut explanation = proposal.explanation;
                let nearest = nearest(&turn.space, &turn.history, &proposal.point, request.mode);
                if proposal.sampled {
                    let mut shown = proposal.point.clone();
                    turn.history.number(&mut shown);
                    explanation = explanation.and(sampler.explain(&turn.space, &turn.history, &shown, turn.key));
                    turn.history.push(&turn.space, &shown);
                }
                answer.push(Explained {
                    segment: turn.segment,
                    point: proposal.point,
                    explanation,
                    nearest,
                });
            }
        }
        return Ok(answer);
    }
    for mut turn in turns(document, input, request, entry.name)? {
        let segment = turn.segment;
        let points = (turn.suggest(sampler.as_ref())).map_err(|reason| AskError::Suggest { segment, reason })?;
        for point in points {
            let mut explanation = objectives::explain(sampler.as_ref(), &turn.space, &turn.history, &point, turn.key);
            let weights = explanation.facts.get(WEIGHTS).and_then(Value::as_array);
            if let (Some(weights), Some(objectives)) = (weights, &request.objectives) {
                let named = objectives.all().iter().zip(weights.iter().filter_map(Value::as_f64));
                let named: Vec<String> = named
                    .map(|(objective, weight)| format!("{} {weight:.2}", objective.name))
                    .collect();
                explanation.text = format!("{}; made for the weights {}", explanation.text, named.join(", "));
            }
            let nearest = nearest(&turn.space, &turn.history, &point, request.goal().mode());
            turn.history.push(&turn.space, &point);
            answer.push(Explained {
                segment,
                point,
                explanation,
                nearest,
            });
        }
    }
    Ok(answer)
}

fn nearest(space: &Space, history: &History, point: &Point, mode: Mode) -> Option<Nearest> {
    let wanted = space.encode(point);
    let evaluated: Vec<(f64, &[Option<Coordinate>])> = history
        .observations()
        .iter()
        .filter_map(|observation| Some((observation.outcome.loss()?, observation.coordinates.as_slice())))
        .collect();
    let squares = |other: &[Option<Coordinate>]| other.iter().zip(&wanted).map(|(a, b)| square(*a, *b)).sum::<f64>();
    let (loss, coordinates) = evaluated
        .iter()
        .map(|(loss, coordinates)| (squares(coordinates), *loss, *coordinates))
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)))
        .map(|(_, loss, coordinates)| (loss, coordinates))?;
    let changed = space.dimensions().iter().zip(coordinates.iter().zip(&wanted));
    let changed = changed.filter(|(_, (a, b))| a.map(Coordinate::bits) != b.map(Coordinate::bits));
    Some(Nearest {
        point: space.decode(coordinates),
        loss: match mode {
            Mode::Min => loss,
            Mode::Max => -loss,
        },
        rank: 1 + evaluated.iter().filter(|(other, _)| *other < loss).count(),
        of: evaluated.len(),
        distance: libm::sqrt(squares(coordinates) / wanted.len().max(1) as f64),
        changed: changed.map(|(dimension, _)| dimension.name.clone()).collect(),
    })
}

fn square(a: Option<Coordinate>, b: Option<Coordinate>) -> f64 {
    match (a, b) {
        (None, None) => 0.0,
        (Some(a), Some(b)) => match (a.t(), b.t()) {
            (Some(a), Some(b)) => (a - b) * (a - b),
            _ => f64::from(u8::from(a != b)),
        },
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn explained(sampler: &str, losses: usize, count: usize) -> Vec<Explained> {
        let document = SpaceDocument::from_value(&json!({
            "rate": {"method": "loguniform", "dimension": {"low": 1e-5, "high": 1.0, "levels": 20}},
            "depth": {"method": "uniformint", "dimension": {"low": 1, "high": 8}},
            "kind": {"method": "categorical", "dimension": {"categories": ["a", "b"]}}
        }))
        .unwrap();
        let points: Vec<Value> = (0..losses)
            .map(|index| {
                let rate = libm::pow(10.0, -0.25 * index as f64 % 5.0);
                json!([{"rate": rate, "depth": index % 8 + 1, "kind": if index % 2 == 0 { "a" } else { "b" }}, (index as f64 - 9.0).abs()])
            })
            .collect();
        let input = SteeringInput::from_value(json!({"points": points}), None).unwrap();
        explain(
            &document,
            &input,
            &Request {
                sampler: sampler.into(),
                ..Request::new(count, 3)
            },
        )
        .unwrap()
    }

    #[test]
    fn every_sampler_gives_a_reason_before_and_after_it_has_learnt() {
        for entry in Registry::standard().entries() {
            for losses in [0, 40] {
                let explained = explained(entry.name, losses, 3);
                assert_eq!(explained.len(), 3, "{}", entry.name);
                for one in explained {
                    assert!(
                        !one.explanation.text.is_empty() && !one.explanation.reason.is_empty(),
                        "{}",
                        entry.name
                    );
                    assert_eq!(one.nearest.is_some(), losses > 0, "{}", entry.name);
                }
            }
        }
    }

    #[test]
    fn a_start_is_a_design_and_a_model_names_its_density_ratio() {
        let start = explained("tpe", 0, 2);
        assert_eq!(start[1].explanation.reason, "design");
        assert_eq!(start[1].explanation.facts["index"], 1);
        let model = explained("tpe", 40, 1);
        assert_eq!(model[0].explanation.reason, "density");
        assert!(model[0].explanation.facts["log_density_ratio"].as_f64().unwrap() > 0.0);
        assert_eq!(
            model[0].explanation.facts["log_density_ratio_by_dimension"]
                .as_object()
                .unwrap()
                .len(),
            3
        );
    }

    #[test]
    fn the_default_names_its_sampler_and_its_chances() {
        let explained = explained("auto", 40, 2);
        for one in &explained {
            assert_eq!(one.explanation.facts["sampler"], "gp");
            let chance = one.explanation.facts["chance_of_improvement"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&chance), "{chance}");
            assert!(one.explanation.facts["deviation"].as_f64().unwrap() > 0.0);
            assert!(one.explanation.facts["chance_of_success"].is_null());
        }
        assert_eq!(explained[1].explanation.facts["pending"], 1);
    }

    #[test]
    fn the_nearest_point_is_named_with_its_rank_and_the_keys_that_differ() {
        let document = SpaceDocument::from_value(&json!({
            "x": {"method": "uniform", "dimension": {"low": 0.0, "high": 1.0}},
            "c": {"method": "categorical", "dimension": {"categories": ["a", "b"]}}
        }))
        .unwrap();
        let (_, space) = crate::ask::spaces(&document).unwrap().remove(0);
        let points = json!([[{"x": 0.1, "c": "a"}, 1.0], [{"x": 0.5, "c": "a"}, 0.5], [{"x": 0.5, "c": "b"}, 0.7], [{"x": 0.6, "c": "a"}, null]]);
        let input = SteeringInput::from_value(json!({"points": points}), None).unwrap();
        let history = History::new(&space, &input.points, Mode::Min);
        let new: Point = serde_json::from_value(json!({"x": 0.7, "c": "b"})).unwrap();
        let nearest = nearest(&space, &history, &new, Mode::Min).unwrap();
        assert_eq!(
            serde_json::to_value(&nearest.point).unwrap(),
            json!({"x": 0.5, "c": "b"})
        );
        assert_eq!(
            (nearest.rank, nearest.of, nearest.changed),
            (2, 3, vec!["x".to_owned()])
        );
        assert!((nearest.distance - 0.2 / libm::sqrt(2.0)).abs() < 1e-12);
    }
}
