//! The first points: they fill the space.
//!
//! The very first one lies in the middle. Each further one is, of some quasi-random candidates, the one furthest from all points
//! known so far, whoever made them: so a history that was begun elsewhere, or with another seed, is completed rather than repeated.

use protocol::Point;

use super::super::{first_unused, prior_point};
use super::candidates::Source;
use super::layout::Layout;
use super::transfer;
use crate::history::History;
use crate::rng::{Key, Stream};
use crate::space::{Coordinate, Space};

/// Candidates among which the furthest is taken. More would drive the points to the borders.
const CANDIDATES: usize = 24;
/// First points that are the best ones of other searches.
const BORROWED: usize = 2;
/// How different each of them must be from the known points, per feature.
const APART: f64 = 0.05;

/// The next point, unless all are taken.
pub(in crate::samplers) fn next(space: &Space, layout: &Layout, history: &History, key: Key) -> Option<Point> {
    let ordinal = history.next_ordinal();
    let source = Source::new(space, layout);
    let mut generator = key.generator(ordinal, Stream::Startup);
    if let Some(point) = taught(space, layout, history, &source, key) {
        return Some(point);
    }
    if history.is_empty() {
        let middle = space.at_quantiles(|position| source.middle(position, &mut generator));
        return Some(middle);
    }
    let known: Vec<Vec<f64>> = history
        .observations()
        .iter()
        .map(|observation| layout.row(&observation.coordinates))
        .collect();
    let mut best: Option<(f64, usize)> = None;
    let candidates = source.spread(CANDIDATES, key, ordinal);
    for (index, candidate) in candidates.iter().enumerate() {
        if history.is_taken(space, &candidate.coordinates) {
            continue;
        }
        let nearest = known
            .iter()
            .map(|other| separation(layout, &candidate.row, other))
            .fold(f64::INFINITY, f64::min);
        if best.is_none_or(|(furthest, _)| nearest > furthest) {
            best = Some((nearest, index));
        }
    }
    match best {
        Some((_, index)) => Some(space.point(source.assignment(&candidates[index]))),
        None => first_unused(space, history, key, |_| prior_point(space, || generator.uniform())),
    }
}

/// The best point of other searches, while little is known and it is not near a known point.
fn taught(space: &Space, layout: &Layout, history: &History, source: &Source<'_>, key: Key) -> Option<Point> {
    if history.len() >= BORROWED {
        return None;
    }
    let known: Vec<Vec<f64>> = (history.observations().iter())
        .map(|observation| layout.row(&observation.coordinates))
        .collect();
    let ordinal = history.next_ordinal();
    let apart = APART * layout.features as f64;
    let point = transfer::promising(layout, history.related(), |coordinates| {
        let row = layout.row(coordinates);
        known.iter().all(|other| separation(layout, &row, other) >= apart)
    })?;
    let fill: Vec<Coordinate> = source.spread(1, key, ordinal)[0].genes.clone();
    let candidate = source.known(point, &fill);
    (!history.is_taken(space, &candidate.coordinates)).then(|| space.point(source.assignment(&candidate)))
}

/// How different two points are: the sum of the differences of their features.
fn separation(layout: &Layout, a: &[f64], b: &[f64]) -> f64 {
    let differences = a.iter().zip(b).enumerate().map(|(feature, (a, b))| {
        if feature < layout.distances {
            (a - b).abs().min(1.0)
        } else {
            0.5 * f64::from(a.to_bits() != b.to_bits())
        }
    });
    differences.sum()
}
