//! Children.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | t | model coordinate of a numeric dimension, in [0, 1] |
//! | F | how far a child moves along a difference |
//! | s | size of a random step |

use crate::history::Observation;
use crate::rng::Generator;
use crate::space::{Coordinate, Dimension, Domain, Numeric, Space, pick};

/// Share of children made by differences.
const DIFFERENTIAL: f64 = 0.7;
/// The parents that count as best when a child moves towards one, as a share of all.
const BEST: f64 = 0.2;
/// Largest random step.
const STEP: f64 = 0.5;
/// Powers of ten over which random steps are spread.
const DECADES: f64 = 3.0;

/// Points that may be parents, best first.
#[derive(Debug)]
pub(super) struct Population<'a> {
    parents: Vec<(f64, &'a Observation)>,
    evaluated: usize,
}

/// How a child was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Differential,
    Mutation,
}

impl Origin {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Differential => "differential",
            Self::Mutation => "mutation",
        }
    }
}

/// A new point.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) coordinates: Vec<Option<Coordinate>>,
    /// Rank of its parent, from 0.
    pub(super) parent: usize,
    pub(super) origin: Origin,
}

impl<'a> Population<'a> {
    /// Of the parents, best first, with their losses, and the number of points that they are the best of.
    pub(super) fn new(parents: Vec<(f64, &'a Observation)>, evaluated: usize) -> Self {
        Self { parents, evaluated }
    }

    pub(super) fn len(&self) -> usize {
        self.parents.len()
    }

    pub(super) fn evaluated(&self) -> usize {
        self.evaluated
    }

    pub(super) fn loss(&self, rank: usize) -> f64 {
        self.parents[rank].0
    }

    /// One more child.
    pub(super) fn child(&self, space: &Space, generator: &mut Generator) -> Child {
        let parent = generator.below(self.len()).min(generator.below(self.len()));
        let origin = if generator.uniform() < DIFFERENTIAL {
            Origin::Differential
        } else {
            Origin::Mutation
        };
        let varying = space
            .dimensions()
            .iter()
            .filter(|dimension| !matches!(dimension.domain, Domain::Fixed(_)))
            .count();
        let plan = match origin {
            Origin::Differential => self.difference(parent, generator),
            Origin::Mutation => Plan::Mutation {
                share: 1.0 / varying.max(1) as f64,
            },
        };
        // One dimension changes whatever the dice say.
        let forced = generator.below(varying.max(1));
        let mut seen = 0;
        let mut assignment = space.blank();
        let mut coordinates = vec![None; space.dimensions().len()];
        for &position in space.order() {
            let dimension = &space.dimensions()[position];
            let is_forced = seen == forced;
            seen += usize::from(!matches!(dimension.domain, Domain::Fixed(_)));
            if !space.is_active(position, &assignment) {
                continue;
            }
            let own = self.parents[parent].1.coordinates[position];
            let coordinate = match own {
                // A parent in which the dimension is inactive has nothing to pass on.
                None => at_random(dimension, generator),
                Some(own) => plan.gene(dimension, position, own, is_forced, generator),
            };
            if dimension.is_parent {
                assignment.set(position, dimension.decode(coordinate));
            }
            coordinates[position] = Some(coordinate);
        }
        Child {
            coordinates,
            parent,
            origin,
        }
    }

    fn difference(&self, parent: usize, generator: &mut Generator) -> Plan<'a> {
        let best = ((self.len() as f64 * BEST) as usize).max(2).min(self.len());
        let guide = generator.below(best);
        let first = other_than(&[parent], self.len(), generator);
        let second = other_than(&[parent, first], self.len(), generator);
        let genes = |rank: usize| self.parents[rank].1.coordinates.as_slice();
        Plan::Differential {
            guide: genes(guide),
            first: genes(first),
            second: genes(second),
            f: 0.4 + 0.5 * generator.uniform(),
            // Separable losses want few dimensions at a time, others many: both are tried.
            share: if generator.uniform() < 0.5 { 0.9 } else { 0.3 },
        }
    }
}

/// How the dimensions of a child come about.
#[derive(Debug)]
enum Plan<'a> {
    Differential {
        guide: &'a [Option<Coordinate>],
        first: &'a [Option<Coordinate>],
        second: &'a [Option<Coordinate>],
        f: f64,
        share: f64,
    },
    Mutation {
        share: f64,
    },
}

impl Plan<'_> {
    /// The coordinate of a child whose parent has `own`.
    fn gene(
        &self,
        dimension: &Dimension,
        position: usize,
        own: Coordinate,
        forced: bool,
        generator: &mut Generator,
    ) -> Coordinate {
        let share = match self {
            Self::Differential { share, .. } | Self::Mutation { share } => *share,
        };
        if generator.uniform() >= share && !forced {
            return own;
        }
        match (self, &dimension.domain) {
            (
                Self::Differential {
                    guide,
                    first,
                    second,
                    f,
                    ..
                },
                Domain::Numeric(numeric),
            ) => {
                let t = |of: &[Option<Coordinate>]| of[position].and_then(Coordinate::t);
                match (own.t(), t(guide), t(first), t(second)) {
                    (Some(own), Some(guide), Some(first), Some(second)) => {
                        numeric.at(reflected(own + f * (guide - own) + f * (first - second)))
                    }
                    _ => own,
                }
            }
            (
                Self::Differential {
                    guide, first, second, ..
                },
                Domain::Categorical { .. },
            ) => {
                if first[position] == second[position] {
                    own
                } else {
                    let donor = if generator.uniform() < 0.5 { guide } else { first };
                    donor[position].unwrap_or(own)
                }
            }
            (Self::Mutation { .. }, Domain::Numeric(numeric)) => step(numeric, own, generator),
            (Self::Mutation { .. }, Domain::Categorical { .. }) => at_random(dimension, generator),
            (_, Domain::Fixed(_)) => own,
        }
    }
}

/// A step of random size and sign; in a discrete dimension at least to the next value.
fn step(numeric: &Numeric, own: Coordinate, generator: &mut Generator) -> Coordinate {
    let Some(t) = own.t() else { return own };
    let size = STEP * libm::pow(10.0, -DECADES * generator.uniform());
    let sign = if generator.uniform() < 0.5 { -1.0 } else { 1.0 };
    let moved = numeric.at(reflected(t + sign * size));
    match own {
        Coordinate::Step { index, .. } if moved.bits() == own.bits() => {
            let (left, right) = numeric.cell(index);
            // Just beyond the edge of the cell, or of the other one where there is nothing on this side.
            let beyond = if sign < 0.0 && left > 0.0 || right >= 1.0 {
                left - 1e-9
            } else {
                right + 1e-9
            };
            numeric.at(beyond.clamp(0.0, 1.0))
        }
        _ => moved,
    }
}

/// `t` folded back into [0, 1].
fn reflected(t: f64) -> f64 {
    let folded = libm::fabs(t) % 2.0;
    if folded > 1.0 { 2.0 - folded } else { folded }
}

/// A value drawn from the prior.
fn at_random(dimension: &Dimension, generator: &mut Generator) -> Coordinate {
    let u = generator.uniform();
    match &dimension.domain {
        Domain::Fixed(_) => Coordinate::Fixed,
        Domain::Categorical { weights, .. } => Coordinate::Category(pick(weights, u)),
        Domain::Numeric(numeric) => numeric.at(u),
    }
}

/// A number below `count` that is none of `excluded`, as far as that is possible.
fn other_than(excluded: &[usize], count: usize, generator: &mut Generator) -> usize {
    let mut chosen = generator.below(count);
    while excluded.contains(&chosen) && count > excluded.len() {
        chosen = (chosen + 1) % count;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Key, Stream};

    fn generator() -> Generator {
        Key::new(5, "", None, "evolution").generator(0, Stream::Density)
    }

    #[test]
    fn reflection_keeps_everything_inside_and_leaves_the_inside_alone() {
        for (t, expected) in [(0.3, 0.3), (-0.2, 0.2), (1.25, 0.75), (2.5, 0.5), (-1.75, 0.25)] {
            assert!((reflected(t) - expected).abs() < 1e-12, "{t}");
        }
    }

    #[test]
    fn a_step_in_a_discrete_dimension_always_leads_to_another_value() {
        let numeric = Numeric::stepped(1.0, 4.0, 1.0, false, true).unwrap();
        let mut generator = generator();
        let mut seen = std::collections::BTreeSet::new();
        for start in 0..4 {
            for _ in 0..200 {
                let own = numeric.nth(start);
                let moved = step(&numeric, own, &mut generator);
                assert_ne!(own.bits(), moved.bits());
                seen.insert((own.bits(), moved.bits()));
            }
        }
        assert!(seen.len() >= 8, "{seen:?}");
    }

    #[test]
    fn others_are_never_the_excluded_ones() {
        let mut generator = generator();
        for _ in 0..500 {
            let chosen = other_than(&[1, 2], 4, &mut generator);
            assert!(chosen == 0 || chosen == 3);
        }
    }
}
