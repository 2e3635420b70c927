//! Several objectives for samplers that know one: each point is made for weights of its own.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | m | objectives, 2 to 5 | |
//! | y | losses of a point, all of them minimised | m |
//! | l, h | the least loss of each objective, and the largest on the front | m |
//! | w | weights, at least 0, sum 1 | m |
//!
//! y becomes the one number max w (y − l)/(h − l) + ρ Σ w (y − l)/(h − l), the
//! augmented Chebyshev norm of J. Knowles, *`ParEGO`*, IEEE Transactions on Evolutionary Computation 10 (2006), equation 2, and any
//! sampler minimises that. Deviations: the weights of successive points are a low-discrepancy sequence, so that a few points already
//! cover the front; and losses are scaled by the front, not by all points, because diverged trainings would squash the front.

use std::borrow::Cow;

use protocol::{Loss, Point};

use super::front;
use crate::explain::Explanation;
use crate::history::History;
use crate::rng::{Key, Stream};
use crate::samplers::{Sampler, SuggestError};
use crate::space::Space;

/// ρ.
const AUGMENTATION: f64 = 0.05;

/// The next points by a sampler; with several objectives, of which the sampler knows one, each for weights of its own.
pub(crate) fn suggest(
    sampler: &dyn Sampler,
    space: &Space,
    history: &History,
    count: usize,
    key: Key,
) -> Result<Vec<Point>, SuggestError> {
    if history.objectives() < 2 || sampler.knows_fronts() {
        return sampler.suggest(space, history, count, key);
    }
    let mut grown = history.clone();
    let mut points = Vec::new();
    while points.len() < count {
        let seen = weighted(&grown, &next_weights(&grown, key));
        let Some(point) = sampler.suggest(space, &seen, 1, key)?.pop() else {
            break;
        };
        grown.push(space, &point);
        points.push(point);
    }
    Ok(points)
}

/// The fact of an explanation that holds the weights for which a point was made.
pub(crate) const WEIGHTS: &str = "weights";

/// Why the sampler proposes a point, with the weights for which that was if there were any.
pub(crate) fn explain(sampler: &dyn Sampler, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
    if history.objectives() < 2 || sampler.knows_fronts() {
        return sampler.explain(space, history, point, key);
    }
    let weights = next_weights(history, key);
    let explanation = sampler.explain(space, &weighted(history, &weights), point, key);
    explanation.with(WEIGHTS, weights)
}

/// The history with one number for each point in which all objectives count the same.
pub(crate) fn ranked(history: &History) -> Cow<'_, History> {
    match history.objectives() {
        0 | 1 => Cow::Borrowed(history),
        several => Cow::Owned(weighted(history, &vec![1.0 / several as f64; several])),
    }
}

/// The history with one number for each point, by these weights.
fn weighted(history: &History, weights: &[f64]) -> History {
    history.with_losses(|losses| scalars(losses, weights))
}

/// The weights of the next point.
fn next_weights(history: &History, key: Key) -> Vec<f64> {
    weights(history.objectives(), history.next_ordinal(), key)
}

/// Weights from a Kronecker sequence with a random start: M. Roberts's generalised golden ratio in m − 1 dimensions, whose sorted
/// coordinates divide the unit interval into m parts.
fn weights(objectives: usize, ordinal: u64, key: Key) -> Vec<f64> {
    let dimensions = objectives - 1;
    // The root above 1 of g^(d + 1) = g + 1.
    let mut ratio = 1.5_f64;
    for _ in 0..60 {
        ratio = libm::pow(1.0 + ratio, 1.0 / (dimensions as f64 + 1.0));
    }
    let mut start = key.generator(0, Stream::Weights);
    let mut cuts: Vec<f64> = (1..=dimensions)
        .map(|power| {
            let step = libm::pow(ratio, -(power as f64));
            // Beyond 2^32 points nothing is lost by beginning again.
            let place = start.uniform() + (ordinal % (1 << 32)) as f64 * step;
            place - libm::floor(place)
        })
        .collect();
    cuts.sort_by(f64::total_cmp);
    let ends = cuts.iter().copied().chain([1.0]);
    let begins = [0.0].into_iter().chain(cuts.iter().copied());
    begins.zip(ends).map(|(begin, end)| end - begin).collect()
}

/// One number for each point.
fn scalars(losses: &[&[f64]], weights: &[f64]) -> Vec<f64> {
    let on_front = front(losses);
    let scale = |objective: usize| {
        let mut all: Vec<f64> = losses.iter().map(|losses| losses[objective]).collect();
        all.sort_by(f64::total_cmp);
        let Some(least) = all.first() else { return (0.0, 1.0) };
        let widest = on_front.iter().map(|position| losses[*position][objective]);
        let widest = widest.fold(*least, f64::max) - least;
        // The front may be a single point: then half of all points, or all of them, give the scale.
        let ranges = [widest, all[all.len() / 2] - least, all[all.len() - 1] - least];
        (*least, ranges.into_iter().find(|range| *range > 0.0).unwrap_or(1.0))
    };
    let scales: Vec<(f64, f64)> = (0..weights.len()).map(scale).collect();
    (losses.iter())
        .map(|losses| {
            let terms = weights.iter().zip(*losses).zip(&scales);
            let terms = terms.map(|((weight, loss), (least, range))| weight * (loss - least) / range);
            let (most, sum) = terms.fold((f64::NEG_INFINITY, 0.0), |(most, sum): (f64, f64), term| {
                (most.max(term), sum + term)
            });
            // A loss of one objective may be astronomic; the number must stay a loss.
            Loss::new(most + AUGMENTATION * sum).map_or(1e29, Loss::get)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::MOST;
    use super::*;

    #[test]
    fn weights_sum_to_one_and_spread_over_the_simplex() {
        let key = Key::new(1, "", None, "test");
        for objectives in 2..=MOST {
            let all: Vec<Vec<f64>> = (0..200).map(|ordinal| weights(objectives, ordinal, key)).collect();
            for weights in &all {
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert!(weights.iter().all(|weight| (0.0..=1.0).contains(weight)));
            }
            for objective in 0..objectives {
                let mean = all.iter().map(|weights| weights[objective]).sum::<f64>() / 200.0;
                assert!((mean - 1.0 / objectives as f64).abs() < 0.05, "{objectives} {mean}");
            }
        }
        let mut firsts: Vec<f64> = (0..32).map(|ordinal| weights(2, ordinal, key)[0]).collect();
        firsts.sort_by(f64::total_cmp);
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] < 0.08), "{firsts:?}");
    }

    #[test]
    fn the_best_point_for_an_extreme_weighting_is_best_in_that_objective() {
        let losses: Vec<&[f64]> = vec![&[0.0, 9.0], &[1.0, 1.0], &[8.0, 0.0], &[1e29, 1e29], &[9.0, 9.0]];
        let best = |weights: &[f64]| {
            let scalars = scalars(&losses, weights);
            (0..losses.len())
                .min_by(|a, b| scalars[*a].total_cmp(&scalars[*b]))
                .unwrap()
        };
        assert_eq!((best(&[0.99, 0.01]), best(&[0.01, 0.99]), best(&[0.5, 0.5])), (0, 2, 1));
    }
}
