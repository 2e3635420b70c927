//! Which points are good, and what each weighs.

use std::str::FromStr;

use protocol::Outcome;

use crate::history::History;

/// How many more points than dimensions a model needs.
const BEYOND: usize = 2;
/// Most good points: with more, l would describe the middling ones.
const MOST_GOOD: usize = 25;
/// Newest points that keep their full weight when points fade with age.
const FRESH: usize = 25;

/// How points are divided and weighed.
#[derive(Debug)]
pub(super) struct Rule {
    /// Share of the good ones.
    pub(super) good: f64,
    pub(super) weights: Weights,
    pub(super) trained: Trained,
}

/// Which points speak where some were trained further than others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trained {
    /// Those that have come to the highest rung on which there are enough for a model.
    Far,
    /// All, with the losses that are expected of them.
    All,
}

/// How much the points of a set weigh against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// All the same.
    Equal,
    /// Good points by how far they are ahead of the best of the others (Watanabe 2023, expected-improvement weights).
    Gain,
    /// The older, the less; needs a numbered history, since no other order is that of age.
    Age,
}

impl FromStr for Weights {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "equal" => Ok(Self::Equal),
            "gain" => Ok(Self::Gain),
            "age" => Ok(Self::Age),
            _ => Err(()),
        }
    }
}

/// The two sets of points, each a list of (position in the history, weight) by rising position.
#[derive(Debug, PartialEq)]
pub(super) struct Split {
    pub(super) good: Vec<(usize, f64)>,
    pub(super) others: Vec<(usize, f64)>,
}

impl Split {
    /// Divides the history.
    pub(super) fn new(history: &History, rule: &Rule) -> Self {
        let mut evaluated: Vec<(f64, usize)> = Vec::new();
        let mut others: Vec<usize> = Vec::new();
        let mut known = 0;
        let dimensions = history
            .observations()
            .first()
            .map_or(0, |first| first.coordinates.len());
        let glimpses = history.glimpses();
        let height = (rule.trained == Trained::Far)
            .then(|| glimpses.highest(dimensions + BEYOND))
            .flatten();
        for (position, observation) in history.observations().iter().enumerate() {
            match observation.outcome {
                Outcome::Done { loss } => match height {
                    None => evaluated.push((loss.get(), position)),
                    Some(height) => match glimpses.of(position).iter().find(|glimpse| glimpse.height >= height) {
                        Some(there) => evaluated.push((there.found, position)),
                        None => continue,
                    },
                },
                Outcome::Pending => others.push(position),
                Outcome::Failed if observation.blamed => others.push(position),
                Outcome::Failed => continue,
            }
            known += usize::from(observation.outcome != Outcome::Pending);
        }
        evaluated.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let count = good_count(known, rule.good).min(evaluated.len());
        let (best, rest) = evaluated.split_at(count);
        others.extend(rest.iter().map(|(_, position)| *position));
        others.sort_unstable();
        let mut good: Vec<(usize, f64)> = match rule.weights {
            Weights::Gain => gains(best, rest.first().map(|(loss, _)| *loss)),
            Weights::Equal | Weights::Age => best.iter().map(|(_, position)| (*position, 1.0)).collect(),
        };
        good.sort_unstable_by_key(|(position, _)| *position);
        let mut others: Vec<(usize, f64)> = others.into_iter().map(|position| (position, 1.0)).collect();
        if rule.weights == Weights::Age && history.is_numbered() {
            for set in [&mut good, &mut others] {
                let ramp = ramp(set.len());
                for (entry, weight) in set.iter_mut().zip(ramp) {
                    entry.1 = weight;
                }
            }
        }
        Self { good, others }
    }
}

/// Number of good points among `n`.
fn good_count(n: usize, share: f64) -> usize {
    (libm::ceil(share * n as f64) as usize).min(MOST_GOOD)
}

/// Weights in proportion to the lead over `threshold`, 1 on average.
fn gains(best: &[(f64, usize)], threshold: Option<f64>) -> Vec<(usize, f64)> {
    let threshold = threshold
        .or_else(|| best.last().map(|(loss, _)| *loss))
        .unwrap_or_default();
    let gains: Vec<f64> = best.iter().map(|(loss, _)| (threshold - loss).max(1e-12)).collect();
    let mean = gains.iter().sum::<f64>() / gains.len().max(1) as f64;
    best.iter()
        .zip(gains)
        .map(|((_, position), gain)| (*position, gain / mean))
        .collect()
}

/// Weights of `m` points, oldest first: a linear rise from 1/m to 1 over all but the newest [`FRESH`], which weigh 1.
fn ramp(m: usize) -> Vec<f64> {
    let old = m.saturating_sub(FRESH);
    let first = 1.0 / m.max(1) as f64;
    let rise = |index: usize| first + (1.0 - first) * index as f64 / (old.max(2) - 1) as f64;
    (0..m)
        .map(|index| if index < old { rise(index) } else { 1.0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SearchSpace;
    use protocol::steering::SteeringInput;
    use serde_json::{Value, json};

    use super::*;
    use crate::history::{Glimpse, Glimpses, Mode};
    use crate::space::Space;

    fn split(points: &Value, weights: Weights, good: f64) -> Split {
        let space = json!({"x": {"method": "uniformint", "dimension": {"low": 0, "high": 1000}}});
        let space = Space::new(&SearchSpace::from_value(&space).unwrap()).unwrap();
        let input = SteeringInput::from_value(json!({ "points": points }), Some(1e5)).unwrap();
        Split::new(
            &History::new(&space, &input.points, Mode::Min),
            &Rule {
                good,
                weights,
                trained: Trained::Far,
            },
        )
    }

    fn positions(set: &[(usize, f64)]) -> Vec<usize> {
        set.iter().map(|(position, _)| *position).collect()
    }

    #[test]
    fn a_tenth_is_good_and_at_most_twenty_five() {
        for (n, good) in [
            (0, 0),
            (1, 1),
            (10, 1),
            (11, 2),
            (50, 5),
            (100, 10),
            (250, 25),
            (1000, 25),
        ] {
            assert_eq!(good_count(n, 0.1), good, "{n}");
        }
    }

    #[test]
    fn failed_and_pending_points_are_among_the_others_and_never_good() {
        let points = json!([
            [{"x": 1, "hpo.n": 0}, 3.0], [{"x": 2, "hpo.n": 1}, null], [{"x": 3, "hpo.n": 2}, 100_000.0],
            [{"x": 4, "hpo.n": 3}, 0.0], [{"x": 5, "hpo.n": 4}, 5.0], [{"x": 6, "hpo.n": 5}, 5.0]
        ]);
        let halves = split(&points, Weights::Equal, 0.4);
        assert_eq!(positions(&halves.good), [0, 3]);
        assert_eq!(positions(&halves.others), [1, 2, 4, 5]);
        let failed = json!([[{"x": 1}, 100_000.0], [{"x": 2}, null]]);
        assert!(split(&failed, Weights::Equal, 0.4).good.is_empty());
    }

    #[test]
    fn the_highest_rung_with_enough_points_decides() {
        let glimpse = |position: usize, height: f64, found: f64| Glimpse {
            position,
            height,
            found,
            expected: found / 2.0,
        };
        // Three points of one dimension are enough; on the upper rung there are two, the better of which is not good below.
        let below = [5.0, 4.0, 3.0, 2.0].into_iter().enumerate();
        let mut glimpses: Vec<Glimpse> = below.map(|(position, found)| glimpse(position, 0.0, found)).collect();
        let points = json!([[{"x": 1}, 0.5], [{"x": 2}, 2.0], [{"x": 3}, 0.6], [{"x": 4}, 1.0]]);
        let good = |glimpses: &[Glimpse], trained: Trained| {
            let space = json!({"x": {"method": "uniformint", "dimension": {"low": 0, "high": 1000}}});
            let space = Space::new(&SearchSpace::from_value(&space).unwrap()).unwrap();
            let input = SteeringInput::from_value(json!({ "points": points }), Some(1e5)).unwrap();
            let history =
                History::new(&space, &input.points, Mode::Min).with_glimpses(Glimpses::new(glimpses.to_vec()));
            let rule = Rule {
                good: 0.25,
                weights: Weights::Equal,
                trained,
            };
            let split = Split::new(&history, &rule);
            (positions(&split.good), split.others.len())
        };
        glimpses.insert(1, glimpse(0, 1.0, 0.5));
        glimpses.insert(4, glimpse(2, 1.0, 0.6));
        assert_eq!(good(&glimpses, Trained::Far), (vec![3], 3));
        assert_eq!(good(&glimpses, Trained::All), (vec![0], 3));
        glimpses.push(glimpse(3, 1.0, 1.0));
        assert_eq!(good(&glimpses, Trained::Far), (vec![0], 2));
    }

    #[test]
    fn old_points_fade_linearly() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        let ramp_27 = ramp(27);
        close(ramp_27[0], 1.0 / 27.0);
        assert!(ramp_27[1..].iter().all(|weight| (weight - 1.0).abs() < 1e-15));
        for (found, expected) in
            ramp(30)
                .into_iter()
                .zip([1.0 / 30.0, 0.275, 31.0 / 60.0, 0.758_333_333_333_333_4, 1.0, 1.0])
        {
            close(found, expected);
        }
        assert_eq!(ramp(24), vec![1.0; 24]);
    }

    #[test]
    fn a_lead_weighs_in_proportion() {
        let points = json!([[{"x": 1}, 1.0], [{"x": 2}, 3.0], [{"x": 3}, 4.0], [{"x": 4}, 9.0]]);
        let halves = split(&points, Weights::Gain, 0.5);
        assert_eq!(halves.good, [(0, 1.5), (1, 0.5)]);
        let equal = split(&json!([[{"x": 1}, 2.0], [{"x": 2}, 2.0]]), Weights::Gain, 0.9);
        assert_eq!(equal.good, [(0, 1.0), (1, 1.0)]);
    }
}
