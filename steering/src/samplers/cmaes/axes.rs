//! How the distribution is laid over a search space.

use crate::space::{Coordinate, Domain, Numeric, Space};

use super::margin::Thresholds;

/// Standard deviation of the first generation in coordinates that run from 0 to 1.
pub(super) const SIGMA: f64 = 0.3;
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
                    axes.numeric.push(Axis { position, numeric });
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
        if self.is_discrete() { x } else { x.clamp(0.0, 1.0) }
    }

    /// The value of the dimension at `x`.
    pub(super) fn at(&self, x: f64) -> Coordinate {
        self.numeric.at(x)
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
        Thresholds {
            lower: (left > 0.0).then_some(left),
            upper: (right < 1.0).then_some(right),
        }
    }
}
