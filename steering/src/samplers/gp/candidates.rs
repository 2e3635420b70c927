//! Points that may become the next one.

use crate::numerics::normal::quantile;
use crate::numerics::sobol::Sobol;
use crate::rng::{Generator, Key, Stream};
use crate::space::{Assignment, Coordinate, Domain, Numeric, Space, Spread, pick};

use super::layout::{Layout, is_conditional};

/// Quantiles at which the search ends on the unbounded normal family.
const TAIL: f64 = 1e-4;
/// Values up to which a discrete numeric dimension is searched value by value.
pub(in crate::samplers) const FEW: u64 = 16;

/// A point while it is being improved.
#[derive(Debug, Clone)]
pub(in crate::samplers) struct Candidate {
    /// A value for every dimension, also for those that are inactive for now.
    pub(in crate::samplers) genes: Vec<Coordinate>,
    /// The active ones.
    pub(in crate::samplers) coordinates: Vec<Option<Coordinate>>,
    /// What the kernel sees.
    pub(in crate::samplers) row: Vec<f64>,
    pub(in crate::samplers) score: f64,
}

/// Makes candidates for one point.
#[derive(Debug)]
pub(in crate::samplers) struct Source<'a> {
    pub(in crate::samplers) space: &'a Space,
    pub(in crate::samplers) layout: &'a Layout,
    conditional: bool,
}

impl<'a> Source<'a> {
    pub(in crate::samplers) fn new(space: &'a Space, layout: &'a Layout) -> Self {
        let conditional = space.dimensions().iter().any(is_conditional);
        Self {
            space,
            layout,
            conditional,
        }
    }

    /// The candidate with these genes.
    pub(in crate::samplers) fn express(&self, genes: Vec<Coordinate>) -> Candidate {
        let coordinates = self.active(&genes);
        let row = self.layout.row(&coordinates);
        Candidate {
            genes,
            coordinates,
            row,
            score: f64::NEG_INFINITY,
        }
    }

    /// The candidate of a known point; what it leaves open is filled from `others`.
    pub(in crate::samplers) fn known(&self, coordinates: &[Option<Coordinate>], others: &[Coordinate]) -> Candidate {
        self.express(
            coordinates
                .iter()
                .zip(others)
                .map(|(known, other)| known.unwrap_or(*other))
                .collect(),
        )
    }

    /// `count` points of a Sobol sequence, shifted at random for this ordinal.
    pub(in crate::samplers) fn spread(&self, count: usize, key: Key, ordinal: u64) -> Vec<Candidate> {
        let dimensions = self.space.dimensions().len();
        let sobol = Sobol::new(dimensions.min(crate::numerics::sobol::DIMENSIONS));
        let shifts: Vec<u32> = (0..dimensions)
            .map(|dimension| {
                key.words(
                    Stream::Acquisition,
                    [dimension as u32, ordinal as u32, (ordinal >> 32) as u32 | 1 << 31],
                )[0]
            })
            .collect();
        let mut generator = key.generator(ordinal, Stream::Acquisition);
        (0..count as u32)
            .map(|index| {
                let genes = (0..dimensions).map(|position| {
                    let u = if position < sobol.dimensions() {
                        (f64::from(sobol.coordinate(index, position) ^ shifts[position]) + 0.5) / 4_294_967_296.0
                    } else {
                        generator.uniform()
                    };
                    self.at_quantile(position, u)
                });
                self.express(genes.collect())
            })
            .collect()
    }

    /// A neighbour of `base`: some of its values are changed, at least one of them, numbers by a step around `reach`.
    pub(in crate::samplers) fn neighbour(
        &self,
        base: &Candidate,
        reach: f64,
        share: f64,
        generator: &mut Generator,
    ) -> Candidate {
        let mut genes = base.genes.clone();
        let varying: Vec<usize> = (0..genes.len())
            .filter(|position| base.coordinates[*position].is_some_and(|c| c != Coordinate::Fixed))
            .collect();
        if varying.is_empty() {
            return base.clone();
        }
        let forced = varying[generator.below(varying.len())];
        for position in varying {
            if generator.uniform() < share || position == forced {
                genes[position] = self.mutated(position, genes[position], reach, generator);
            }
        }
        self.express(genes)
    }

    /// The interval of model coordinates that is searched.
    pub(in crate::samplers) fn range(numeric: &Numeric) -> (f64, f64) {
        match numeric.spread() {
            Spread::Uniform { .. } => (0.0, 1.0),
            Spread::Normal { .. } => (TAIL, 1.0 - TAIL),
        }
    }

    /// All other values of a dimension that has few; nothing for one with many.
    pub(in crate::samplers) fn alternatives(&self, position: usize, present: Coordinate) -> Vec<Coordinate> {
        let all: Vec<Coordinate> = match &self.space.dimensions()[position].domain {
            Domain::Fixed(_) => Vec::new(),
            Domain::Categorical { categories, .. } => (0..categories.len()).map(Coordinate::Category).collect(),
            Domain::Numeric(numeric) => match numeric.size() {
                Some(size) if size <= FEW => (0..size).map(|index| numeric.nth(index)).collect(),
                _ => Vec::new(),
            },
        };
        all.into_iter().filter(|value| *value != present).collect()
    }

    /// The number of `position` if it is searched by slopes.
    pub(in crate::samplers) fn smooth(&self, position: usize) -> Option<&Numeric> {
        match &self.space.dimensions()[position].domain {
            Domain::Numeric(numeric) if numeric.size().is_none_or(|size| size > FEW) => Some(numeric),
            _ => None,
        }
    }

    /// The quantile of the middle of a dimension; any category.
    pub(in crate::samplers) fn middle(&self, position: usize, generator: &mut Generator) -> f64 {
        match &self.space.dimensions()[position].domain {
            Domain::Categorical { .. } => generator.uniform(),
            Domain::Fixed(_) | Domain::Numeric(_) => 0.5,
        }
    }

    fn at_quantile(&self, position: usize, u: f64) -> Coordinate {
        match &self.space.dimensions()[position].domain {
            Domain::Fixed(_) => Coordinate::Fixed,
            Domain::Categorical { weights, .. } => Coordinate::Category(pick(weights, u)),
            Domain::Numeric(numeric) => numeric.at(u),
        }
    }

    fn mutated(&self, position: usize, present: Coordinate, reach: f64, generator: &mut Generator) -> Coordinate {
        match (&self.space.dimensions()[position].domain, present) {
            (Domain::Categorical { categories, .. }, Coordinate::Category(category)) => {
                let other = generator.below(categories.len() - 1);
                Coordinate::Category(other + usize::from(other >= category))
            }
            (Domain::Numeric(numeric), present) => {
                let t = present.t().unwrap_or(0.5);
                let step = reach * quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12));
                let (low, high) = Self::range(numeric);
                let moved = numeric.at((t + step).clamp(low, high));
                if let (Coordinate::Step { index: from, .. }, Coordinate::Step { index: to, .. }) = (present, moved)
                    && from == to
                {
                    // A step that rounds to nothing becomes one to the neighbour.
                    let (cell_low, cell_high) = numeric.cell(from);
                    let beyond = 0.5 * (cell_high - cell_low);
                    let t = if step < 0.0 {
                        cell_low - beyond
                    } else {
                        cell_high + beyond
                    };
                    return numeric.at(t.clamp(low, high));
                }
                moved
            }
            _ => present,
        }
    }

    fn active(&self, genes: &[Coordinate]) -> Vec<Option<Coordinate>> {
        if !self.conditional {
            return genes.iter().copied().map(Some).collect();
        }
        let mut coordinates = vec![None; genes.len()];
        let mut assignment = self.space.blank();
        for &position in self.space.order() {
            if self.space.is_active(position, &assignment) {
                coordinates[position] = Some(genes[position]);
                if self.space.dimensions()[position].is_parent {
                    assignment.set(position, self.space.dimensions()[position].decode(genes[position]));
                }
            }
        }
        coordinates
    }

    /// The point of a candidate.
    pub(in crate::samplers) fn assignment(&self, candidate: &Candidate) -> Assignment {
        let mut assignment = self.space.blank();
        for (position, coordinate) in candidate.coordinates.iter().enumerate() {
            if let Some(coordinate) = coordinate {
                assignment.set(position, self.space.dimensions()[position].decode(*coordinate));
            }
        }
        assignment
    }
}
