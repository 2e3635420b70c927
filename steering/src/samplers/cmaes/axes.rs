//! How the distribution is laid over a search space.

use crate::space::{Coordinate, Domain, Numeric, Space};

use super::margin::Thresholds;

/// Standard deviation of the first generation, in a range of 1.
pub(super) const SIGMA: f64 = 0.3;
/// Scale of an unbounded dimension: the first generation is spread as the prior is, six standard deviations of which count as 1.
const UNBOUNDED: f64 = 1.0 / (6.0 * SIGMA);

/// The dimensions that vary.
#[derive(Debug)]
pub(super) struct Axes<'a> {
    pub(super) numeric: Vec<Axis<'a>>,
    pub(super) categorical: Vec<Choice<'a>>,
}

/// A numeric dimension.
#[derive(Debug)]
pub(super) struct Axis<'a> {
    pub(super) position: usize,
    numeric: &'a Numeric,
    bounded: bool,
}

/// A categorical dimension with its prior.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) position: usize,
    pub(super) prior: &'a [f64],
}

impl<'a> Axes<'a> {
    pub(super) fn new(space: &'a Space) -> Self {
        let mut axes = Self {
            numeric: Vec::new(),
            categorical: Vec::new(),
        };
        for (position, dimension) in space.dimensions().iter().enumerate() {
            match &dimension.domain {
                Domain::Fixed(_) => {}
                Domain::Categorical { weights, .. } => axes.categorical.push(Choice {
                    position,
                    prior: weights,
                }),
                Domain::Numeric(numeric) => {
                    axes.numeric.push(Axis {
                        position,
                        numeric,
                        bounded: numeric.range().0.is_finite(),
                    });
                }
            }
        }
        axes
    }

    /// Number of dimensions of both kinds.
    pub(super) fn count(&self) -> usize {
        self.numeric.len() + self.categorical.len()
    }
}

impl Axis<'_> {
    pub(super) fn is_discrete(&self) -> bool {
        self.numeric.is_discrete()
    }

    /// The nearest `x` that is inside the bounds of a continuous dimension.
    pub(super) fn feasible(&self, x: f64) -> f64 {
        if self.bounded && !self.is_discrete() {
            x.clamp(0.0, 1.0)
        } else {
            x
        }
    }

    /// The value of the dimension at `x`.
    pub(super) fn at(&self, x: f64) -> Coordinate {
        self.numeric.at(self.t(x))
    }

    /// The ends of the cell that `m` is in.
    pub(super) fn thresholds(&self, m: f64) -> Thresholds {
        let Coordinate::Step { index, .. } = self.at(m) else {
            return Thresholds {
                lower: None,
                upper: None,
            };
        };
        let (left, right) = self.numeric.cell(index);
        let (low, high) = self.numeric.range();
        Thresholds {
            lower: (left > low).then(|| self.x(left)),
            upper: (right < high).then(|| self.x(right)),
        }
    }

    fn t(&self, x: f64) -> f64 {
        if self.bounded { x } else { 0.5 + (x - 0.5) * UNBOUNDED }
    }

    fn x(&self, t: f64) -> f64 {
        if self.bounded { t } else { 0.5 + (t - 0.5) / UNBOUNDED }
    }
}
