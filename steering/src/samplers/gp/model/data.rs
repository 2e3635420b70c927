//! Which points the processes are conditioned on, and what was measured of them.

use super::super::layout::Layout;
use crate::history::History;
use crate::space::Coordinate;

/// Points of which losses after part of their training are taken into account, beside the last, at most: the best.
const WATCHED: usize = 64;

/// A point with its loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evaluated<'a> {
    pub(super) coordinates: &'a [Option<Coordinate>],
    pub(super) loss: f64,
    /// Its place in the history.
    position: usize,
}

impl Evaluated<'_> {
    /// Its loss in another history of the same points.
    pub(super) fn loss_in(&self, history: &History) -> Option<f64> {
        history.observations()[self.position].outcome.loss()
    }
}

/// What was measured of some points, all of them trained in full or each as far as it was.
#[derive(Debug)]
pub(super) struct Trained {
    pub(super) rows: Vec<Vec<f64>>,
    pub(super) losses: Vec<f64>,
    /// Which of the points has the lowest loss among those that were trained furthest.
    pub(super) best: usize,
}

impl Trained {
    /// `rows` and `losses` are those of the points, best first, as if trained as far as any.
    pub(super) fn new(
        layout: &Layout,
        history: &History,
        points: &[Evaluated<'_>],
        mut rows: Vec<Vec<f64>>,
        mut losses: Vec<f64>,
    ) -> Self {
        let mut best = None;
        if layout.is_graded() {
            for (index, point) in points.iter().enumerate() {
                let Some((last, before)) = history.glimpses().of(point.position).split_last() else {
                    continue;
                };
                layout.lower(&mut rows[index], last.height);
                if last.height >= 1.0 {
                    best = best.or(Some(index));
                }
                for glimpse in before.iter().filter(|_| index < WATCHED) {
                    let mut row = rows[index].clone();
                    layout.lower(&mut row, glimpse.height);
                    rows.push(row);
                    losses.push(glimpse.expected);
                }
            }
        }
        Self {
            rows,
            losses,
            best: best.unwrap_or(0),
        }
    }
}

/// The points of the space with their losses, best first.
pub(super) fn evaluated(history: &History) -> Vec<Evaluated<'_>> {
    let mut evaluated: Vec<Evaluated<'_>> = (history.observations().iter().enumerate())
        .filter(|(_, observation)| observation.key().is_some())
        .filter_map(|(position, observation)| {
            Some(Evaluated {
                coordinates: &observation.coordinates,
                loss: observation.outcome.loss()?,
                position,
            })
        })
        .collect();
    evaluated.sort_by(|a, b| a.loss.total_cmp(&b.loss));
    evaluated
}

/// All points up to `exact` of them; of more, three fifths of that number: a fifth each of the best, of those nearest to the best,
/// and of all others evenly by their loss.
pub(super) fn subset<'a>(evaluated: &[Evaluated<'a>], layout: &Layout, exact: usize) -> Vec<Evaluated<'a>> {
    if evaluated.len() <= exact {
        return evaluated.to_vec();
    }
    let share = (exact / 5).max(1);
    let centre = layout.row(evaluated[0].coordinates);
    let mut rest: Vec<(f64, usize)> = (share..evaluated.len())
        .map(|position| {
            let row = layout.row(evaluated[position].coordinates);
            let square = row.iter().zip(&centre).enumerate().map(|(feature, (a, b))| {
                if feature < layout.distances {
                    (a - b) * (a - b)
                } else {
                    0.25 * f64::from(a.to_bits() != b.to_bits())
                }
            });
            (square.sum::<f64>(), position)
        })
        .collect();
    rest.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut chosen: Vec<usize> = (0..share)
        .chain(rest[..share].iter().map(|(_, position)| *position))
        .collect();
    let mut far: Vec<usize> = rest[share..].iter().map(|(_, position)| *position).collect();
    far.sort_unstable();
    let stride = (far.len() / share).max(1);
    chosen.extend(far.iter().step_by(stride).take(share));
    chosen.sort_unstable();
    chosen.into_iter().map(|position| evaluated[position]).collect()
}
