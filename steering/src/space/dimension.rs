//! One dimension: its values, its prior, its encoding.

use protocol::PointValue;

use super::condition::{Condition, same};
use super::numeric::Numeric;

/// A named axis of the space.
#[derive(Debug, Clone)]
pub struct Dimension {
    /// The key in a point.
    pub name: String,
    /// The possible values.
    pub domain: Domain,
    /// Values for the grid sampler, when the document lists them.
    pub(crate) levels: Option<Vec<PointValue>>,
    /// All must hold for the dimension to be active.
    pub(crate) conditions: Vec<Condition>,
    /// Whether another dimension has a condition on this one.
    pub(crate) is_parent: bool,
}

/// The possible values of a dimension.
#[derive(Debug, Clone)]
pub enum Domain {
    /// One value; part of every point, and of no model.
    Fixed(PointValue),
    /// Any of several values without an order.
    Categorical {
        /// The distinct values, at least two.
        categories: Vec<PointValue>,
        /// Probability of each; repeated categories of the document are heavier.
        weights: Vec<f64>,
    },
    /// Numbers.
    Numeric(Numeric),
}

/// The value of one dimension, as models see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coordinate {
    /// The only value of a fixed dimension.
    Fixed,
    /// Position among the categories.
    Category(usize),
    /// The number that is `index` steps from zero.
    Step {
        /// Multiple of the step.
        index: i64,
        /// Model coordinate.
        t: f64,
    },
    /// A number of a continuous dimension.
    Real {
        /// The number itself.
        value: f64,
        /// Model coordinate.
        t: f64,
    },
}

impl Coordinate {
    /// The model coordinate of a numeric value.
    #[must_use]
    pub fn t(self) -> Option<f64> {
        match self {
            Self::Step { t, .. } | Self::Real { t, .. } => Some(t),
            Self::Fixed | Self::Category(_) => None,
        }
    }

    /// Equal values of one dimension have equal bits.
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Fixed => 0,
            Self::Category(position) => position as u64,
            Self::Step { index, .. } => index.cast_unsigned(),
            Self::Real { value, .. } => value.to_bits(),
        }
    }
}

impl Dimension {
    /// The value at the quantile `u` of the prior.
    #[must_use]
    pub fn at_quantile(&self, u: f64) -> PointValue {
        match &self.domain {
            Domain::Fixed(value) => value.clone(),
            Domain::Categorical { categories, weights } => categories[pick(weights, u)].clone(),
            Domain::Numeric(numeric) => numeric.json(numeric.at(u)),
        }
    }

    /// The value that a coordinate stands for.
    ///
    /// # Panics
    /// If the coordinate is of another kind of dimension.
    #[must_use]
    pub fn decode(&self, coordinate: Coordinate) -> PointValue {
        match (&self.domain, coordinate) {
            (Domain::Fixed(value), _) => value.clone(),
            (Domain::Categorical { categories, .. }, Coordinate::Category(position)) => categories[position].clone(),
            (Domain::Numeric(numeric), coordinate) => numeric.json(coordinate),
            (Domain::Categorical { .. }, _) => unreachable!("a category has a position"),
        }
    }

    /// The coordinate of a value, or nothing if the dimension does not have it.
    #[must_use]
    pub fn encode(&self, value: &PointValue) -> Option<Coordinate> {
        match &self.domain {
            Domain::Fixed(only) => same(only, value).then_some(Coordinate::Fixed),
            Domain::Categorical { categories, .. } => categories
                .iter()
                .position(|category| category == value)
                .or_else(|| categories.iter().position(|category| same(category, value)))
                .map(Coordinate::Category),
            Domain::Numeric(numeric) => numeric.encode(value),
        }
    }

    /// The number nearest to `value`, which the dimension does not have; nothing where there is no nearest.
    pub(crate) fn nearest(&self, value: &PointValue) -> Option<Coordinate> {
        match &self.domain {
            Domain::Numeric(numeric) => value.as_f64().filter(|v| v.is_finite()).map(|v| numeric.nearest(v)),
            Domain::Fixed(_) | Domain::Categorical { .. } => None,
        }
    }

    /// Number of values, `None` for a continuum.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match &self.domain {
            Domain::Fixed(_) => Some(1),
            Domain::Categorical { categories, .. } => Some(categories.len() as u64),
            Domain::Numeric(numeric) => numeric.size(),
        }
    }

    /// The value number `index` of a dimension with a finite [`Self::size`].
    pub(crate) fn nth(&self, index: u64) -> PointValue {
        match &self.domain {
            Domain::Fixed(value) => value.clone(),
            Domain::Categorical { categories, .. } => categories[index as usize].clone(),
            Domain::Numeric(numeric) => numeric.json(numeric.nth(index)),
        }
    }
}

/// The position at which the running sum of `weights` (which add up to 1) passes `u`.
pub(crate) fn pick(weights: &[f64], u: f64) -> usize {
    let mut sum = 0.0;
    for (position, weight) in weights.iter().enumerate() {
        sum += weight;
        if u < sum {
            return position;
        }
    }
    // Rounding may leave the sum just below 1: the last position that can be drawn at all.
    weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picking_follows_the_weights_and_never_falls_off_the_end() {
        assert_eq!(pick(&[0.5, 0.25, 0.25], 0.0), 0);
        assert_eq!(pick(&[0.5, 0.25, 0.25], 0.5), 1);
        assert_eq!(pick(&[0.5, 0.25, 0.25], 1.0), 2);
        assert_eq!(pick(&[0.5, 0.5, 0.0], 1.0), 1);
    }
}
