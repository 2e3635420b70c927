//! Other searches that may have something to say about this one: other segments of the task, or earlier tasks.

use protocol::steering::HistoryEntry;

use super::{Goal, compare};
use crate::space::{Coordinate, Domain, Space};

/// The evaluated points of another search, in the coordinates of this one.
#[derive(Debug, Clone, Default)]
pub struct Related {
    /// Coordinates and loss, best first. Dimensions that the other search did not have are `None`.
    points: Vec<(Vec<Option<Coordinate>>, f64)>,
    /// With several objectives, the losses of each of them; else nothing.
    losses: Vec<Vec<f64>>,
    /// Points that say nothing here: no dimension of theirs is one of this space, or they have no loss.
    ignored: usize,
    /// Points of which a value was moved to the nearest one that the space has.
    moved: usize,
}

impl Related {
    /// Takes over what `entries` say about the dimensions of `space`. Numbers out of range count as the nearest in range.
    #[must_use]
    pub fn new<'a>(space: &Space, entries: impl IntoIterator<Item = &'a HistoryEntry>, goal: &Goal) -> Self {
        let mut related = Self::default();
        let mut points = Vec::new();
        for entry in entries {
            let (coordinates, moved) = space.encode_nearest(entry.input.point());
            let speaks = (space.dimensions().iter().zip(&coordinates))
                .any(|(dimension, coordinate)| coordinate.is_some() && !matches!(dimension.domain, Domain::Fixed(_)));
            let judged = goal.judge(entry);
            match judged.outcome.loss() {
                Some(loss) if speaks => {
                    related.moved += usize::from(moved);
                    points.push((coordinates, loss, judged.losses));
                }
                _ => related.ignored += 1,
            }
        }
        related.arrange(points);
        related
    }

    /// The same points with one number as the loss of each, made of its losses.
    pub(super) fn with_losses(&self, scalars: impl Fn(&[&[f64]]) -> Vec<f64>) -> Self {
        let mut related = Self {
            ignored: self.ignored,
            moved: self.moved,
            ..Self::default()
        };
        let losses: Vec<&[f64]> = self.losses.iter().map(Vec::as_slice).collect();
        let numbers = scalars(&losses);
        let points = self.points.iter().zip(numbers).zip(&self.losses);
        related.arrange(
            points
                .map(|(((point, _), number), losses)| (point.clone(), number, losses.clone()))
                .collect(),
        );
        related
    }

    fn arrange(&mut self, mut points: Vec<(Vec<Option<Coordinate>>, f64, Vec<f64>)>) {
        let bits = |coordinates: &[Option<Coordinate>]| -> Vec<Option<u64>> {
            coordinates.iter().map(|c| c.map(Coordinate::bits)).collect()
        };
        points.sort_by(|a, b| {
            (a.1.total_cmp(&b.1))
                .then_with(|| bits(&a.0).cmp(&bits(&b.0)))
                .then_with(|| compare(&a.2, &b.2))
        });
        for (coordinates, loss, losses) in points {
            self.points.push((coordinates, loss));
            self.losses.push(losses);
        }
    }

    /// Coordinates and losses, best first.
    pub(crate) fn points(&self) -> &[(Vec<Option<Coordinate>>, f64)] {
        &self.points
    }

    /// Number of points that teach something.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether nothing is to be learnt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Number of points without a loss or without a dimension in common.
    #[must_use]
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// Number of points with values out of range, which count as the nearest in range.
    #[must_use]
    pub fn moved(&self) -> usize {
        self.moved
    }
}
