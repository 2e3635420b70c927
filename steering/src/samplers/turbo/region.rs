//! Where the trust region lies.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | c | the centre: the best point |
//! | Lₖ | 0.8 · 2⁻ᵏ, for k from 0 to 6 |
//! | T | the tolerance: points without improvement that one size of the region is good for |
//!
//! The paper counts successes and failures as they come, and halves the region after T failures. A history says what was evaluated
//! but not always in which order. All points near the best one are failures to improve upon it, though: so the region has the
//! largest side Lₖ for which fewer than T evaluated points lie inside. It shrinks after T failures like that of the paper, and grows
//! when the centre moves away from where it was tried. When even the smallest box holds T points, the centre is a local optimum:
//! what lies in its largest box is put aside, and the search goes on from the best of the other points, after new points that fill
//! the space if there are too few.

use protocol::Outcome;

use crate::history::{History, Observation};
use crate::space::{Coordinate, Domain, Numeric, Space};

/// L₀.
pub(super) const LARGEST: f64 = 0.8;
/// Number of sides.
const LEVELS: i32 = 7;
/// Local optima that are put aside, at most; after as many, nothing new is to be learnt.
const GIVEN_UP: usize = 50;

/// The trust region.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Region {
    /// Position of the best point in the history.
    pub(super) centre: usize,
    /// L.
    pub(super) length: f64,
    /// Evaluated points inside, the centre not counted.
    pub(super) inside: usize,
    /// T.
    pub(super) tolerance: usize,
    /// Local optima that were put aside.
    pub(super) given_up: usize,
}

impl Region {
    /// The region for a history; nothing when fewer than `least` losses are known outside what was put aside.
    pub(super) fn find(space: &Space, history: &History, tolerance: usize, least: usize) -> Option<Self> {
        let observations = history.observations();
        let mut alive: Vec<usize> = (0..observations.len())
            .filter(|position| tells(&observations[*position]))
            .collect();
        for given_up in 0..=GIVEN_UP {
            let evaluated =
                || (alive.iter()).filter_map(|position| Some((observations[*position].outcome.loss()?, *position)));
            if evaluated().count() < least {
                return None;
            }
            let (_, centre) = evaluated().min_by(|a, b| a.0.total_cmp(&b.0))?;
            let sides: Vec<f64> = (alive.iter())
                .map(|position| {
                    side(
                        space,
                        &observations[*position].coordinates,
                        &observations[centre].coordinates,
                    )
                })
                .collect();
            for level in 0..LEVELS {
                let length = LARGEST * 0.5_f64.powi(level);
                let inside = sides.iter().filter(|side| **side <= length).count() - 1;
                if inside < tolerance || given_up == GIVEN_UP {
                    return Some(Self {
                        centre,
                        length,
                        inside,
                        tolerance,
                        given_up,
                    });
                }
            }
            alive = (alive.into_iter().zip(sides))
                .filter_map(|(position, side)| (side > LARGEST).then_some(position))
                .collect();
        }
        None
    }
}

/// Whether the outcome of a point of the space says something about the point.
fn tells(observation: &Observation) -> bool {
    observation.key().is_some()
        && match observation.outcome {
            Outcome::Done { .. } => true,
            Outcome::Failed => observation.blamed,
            Outcome::Pending => false,
        }
}

/// The side of the smallest region round `centre` in which `point` lies. Of discrete numbers the neighbouring value is in every
/// region; of categories one that differs is, and all may differ in the largest.
pub(super) fn side(space: &Space, point: &[Option<Coordinate>], centre: &[Option<Coordinate>]) -> f64 {
    let mut furthest: f64 = 0.0;
    let (mut categories, mut different) = (0_usize, 0_usize);
    for (dimension, (a, b)) in space.dimensions().iter().zip(point.iter().zip(centre)) {
        match (&dimension.domain, a, b) {
            (Domain::Numeric(numeric), Some(a), Some(b)) => {
                if let (Some(a), Some(from)) = (a.t(), b.t()) {
                    furthest = furthest.max((a - from).abs() - grain(numeric, *b));
                }
            }
            (Domain::Categorical { .. }, a, b) => {
                categories += 1;
                different += usize::from(a != b);
            }
            _ => {}
        }
    }
    let share = different.saturating_sub(1) as f64 / categories.saturating_sub(1).max(1) as f64;
    (2.0 * furthest).max(LARGEST * share)
}

/// How far the neighbours of a discrete value are.
pub(super) fn grain(numeric: &Numeric, of: Coordinate) -> f64 {
    match of {
        Coordinate::Step { index, .. } => {
            let (low, high) = numeric.cell(index);
            1.5 * (high - low)
        }
        _ => 0.0,
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sides are powers of two times a constant")]
mod tests {
    use protocol::search_space::SearchSpace;
    use protocol::steering::SteeringInput;
    use serde_json::{Value, json};

    use super::*;
    use crate::history::Mode;

    fn plane() -> Space {
        let axis = json!({"method": "uniform", "dimension": {"low": 0, "high": 1}});
        Space::new(&SearchSpace::from_value(&json!({"x": axis, "y": axis})).unwrap()).unwrap()
    }

    fn region(points: &[(f64, f64, f64)]) -> Option<Region> {
        let points: Vec<Value> = (points.iter())
            .map(|(x, y, loss)| json!([{"x": x, "y": y}, loss]))
            .collect();
        let input = SteeringInput::from_value(json!({"points": points}), Some(1e5)).unwrap();
        let space = plane();
        Region::find(&space, &History::new(&space, &input.points, Mode::Min), 4, 2)
    }

    /// `count` points on a small ring round a place.
    fn ring(x: f64, y: f64, radius: f64, count: usize, loss: f64) -> Vec<(f64, f64, f64)> {
        (0..count)
            .map(|index| {
                let (sine, cosine) = libm::sincos(index as f64);
                (x + radius * cosine, y + radius * sine, loss)
            })
            .collect()
    }

    #[test]
    fn the_region_halves_with_every_fill_of_failures_and_starts_anew_where_the_centre_goes() {
        let mut points = vec![(0.5, 0.5, 0.0), (0.05, 0.95, 1.0)];
        assert_eq!(region(&points).unwrap().length, 0.8);
        points.extend(ring(0.5, 0.5, 0.19, 3, 1.0));
        assert_eq!(region(&points).unwrap().length, 0.8);
        points.extend(ring(0.5, 0.5, 0.18, 1, 100_000.0));
        let found = region(&points).unwrap();
        assert_eq!(
            (found.length, found.inside),
            (0.2, 0),
            "failed points count, and boxes of 0.4 hold all"
        );
        points.push((0.95, 0.05, -1.0));
        let found = region(&points).unwrap();
        assert_eq!((found.length, found.given_up), (0.8, 0));
    }

    #[test]
    fn a_centre_with_nothing_left_round_it_is_put_aside() {
        let mut points = vec![(0.2, 0.2, 0.0), (0.9, 0.9, 0.5), (0.8, 0.95, 0.7)];
        points.extend(ring(0.2, 0.2, 0.005, 4, 1.0));
        let found = region(&points).unwrap();
        assert_eq!((found.given_up, found.length), (1, 0.8));
        points.truncate(2);
        points.extend(ring(0.2, 0.2, 0.005, 4, 1.0));
        assert_eq!(region(&points), None, "too few are left");
    }

    #[test]
    fn the_neighbour_of_a_discrete_value_and_one_other_category_are_always_inside() {
        let document = json!({
            "n": {"method": "uniformint", "dimension": {"low": 1, "high": 4}},
            "a": {"method": "categorical", "dimension": {"categories": [1, 2]}},
            "b": {"method": "categorical", "dimension": {"categories": [1, 2]}}
        });
        let space = Space::new(&SearchSpace::from_value(&document).unwrap()).unwrap();
        let encoded = |value: Value| space.encode(&serde_json::from_value(value).unwrap());
        let centre = encoded(json!({"n": 2, "a": 1, "b": 1}));
        let from = |value: Value| side(&space, &encoded(value), &centre);
        assert!(from(json!({"n": 3, "a": 1, "b": 2})) <= 0.0);
        assert!(from(json!({"n": 4, "a": 1, "b": 1})) > 0.1);
        assert!((from(json!({"n": 2, "a": 2, "b": 2})) - LARGEST).abs() < 1e-15);
    }
}
