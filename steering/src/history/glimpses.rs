//! What points lost on the way to full training, where some were trained further than others.

/// What a point lost after part of its training, or all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Glimpse {
    /// Its place among the observations.
    pub(crate) position: usize,
    /// How far it was trained: 1 as far as any, 0 as little as any, rungs at equal steps between.
    pub(crate) height: f64,
    /// The loss that was found.
    pub(crate) found: f64,
    /// The loss that is expected of it after training as far as any.
    pub(crate) expected: f64,
}

/// All of them in a search; none where all points are trained alike.
#[derive(Debug, Clone, Default)]
pub(crate) struct Glimpses(Vec<Glimpse>);

impl Glimpses {
    /// Takes them in the order of their positions, those of one point by rising height.
    pub(crate) fn new(glimpses: Vec<Glimpse>) -> Self {
        Self(glimpses)
    }

    /// Whether all points were trained alike.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of one point, by rising height.
    pub(crate) fn of(&self, position: usize) -> &[Glimpse] {
        let first = self.0.partition_point(|glimpse| glimpse.position < position);
        let own = self.0[first..].partition_point(|glimpse| glimpse.position == position);
        &self.0[first..first + own]
    }

    /// The greatest height at which so many points have a loss; of fewer points, the least height.
    pub(crate) fn highest(&self, enough: usize) -> Option<f64> {
        let mut heights: Vec<f64> = self.0.iter().map(|glimpse| glimpse.height).collect();
        heights.sort_by(|a, b| b.total_cmp(a));
        let groups = heights.chunk_by(|a, b| a.to_bits() == b.to_bits());
        let group = groups
            .clone()
            .find(|group| group.len() >= enough)
            .or_else(|| groups.last())?;
        group.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glimpses(all: &[(usize, f64)]) -> Glimpses {
        let glimpse = |(position, height): &(usize, f64)| Glimpse {
            position: *position,
            height: *height,
            found: 0.0,
            expected: 0.0,
        };
        Glimpses::new(all.iter().map(glimpse).collect())
    }

    #[test]
    fn the_highest_rung_with_enough_points_is_found() {
        let all = glimpses(&[(0, 0.0), (0, 0.5), (0, 1.0), (2, 0.0), (2, 0.5), (3, 0.0), (5, 0.0)]);
        assert_eq!(
            [1, 2, 3, 4, 5].map(|enough| all.highest(enough)),
            [Some(1.0), Some(0.5), Some(0.0), Some(0.0), Some(0.0)]
        );
        assert_eq!(Glimpses::default().highest(1), None);
    }

    #[test]
    fn each_point_has_its_own() {
        let all = glimpses(&[(0, 0.0), (0, 1.0), (2, 0.0)]);
        assert_eq!([0, 1, 2, 3].map(|position| all.of(position).len()), [2, 0, 1, 0]);
    }
}
