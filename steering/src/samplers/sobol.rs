//! A scrambled Sobol sequence: spreads points more evenly than chance.
//!
//! The point with ordinal i is point i of the sequence. Where that one is taken, as happens in small discrete spaces, a draw from
//! the prior stands in for it.

use protocol::Point;

use super::{Entry, Sampler, SuggestError, first_unused, one_by_one, prior_point};
use crate::explain::Explanation;
use crate::history::History;
use crate::numerics::sobol::Sobol;
use crate::rng::{Generator, Key, Stream};
use crate::space::{Domain, Space};

pub(super) const ENTRY: Entry = Entry {
    name: "sobol",
    summary: "a scrambled Sobol sequence, more even than random draws",
    settings: &[],
    build: |_| Ok(Box::new(Quasirandom)),
};

#[derive(Debug)]
struct Quasirandom;

impl Sampler for Quasirandom {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let sequence = Sequence::new(space);
        Ok(one_by_one(space, history, count, |history| {
            sequence.next(space, history, key)
        }))
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        Sequence::new(space).explain(space, history, point, key)
    }
}

/// The sequence laid over a space: one coordinate per dimension that varies.
#[derive(Debug)]
pub(super) struct Sequence {
    sobol: Sobol,
    /// Coordinate of the sequence for each dimension of the space.
    columns: Vec<usize>,
}

impl Sequence {
    pub(super) fn new(space: &Space) -> Self {
        let mut varying = 0;
        let columns = space
            .dimensions()
            .iter()
            .map(|dimension| {
                let column = varying;
                varying += usize::from(!matches!(dimension.domain, Domain::Fixed(_)));
                column
            })
            .collect();
        Self {
            sobol: Sobol::new(varying.min(crate::numerics::sobol::DIMENSIONS)),
            columns,
        }
    }

    /// The point that follows the history, unless every point is taken.
    pub(super) fn next(&self, space: &Space, history: &History, key: Key) -> Option<Point> {
        let ordinal = history.next_ordinal();
        let mut generator = key.generator(ordinal, Stream::Startup);
        first_unused(space, history, key, |attempt| match attempt {
            0 => space.at_quantiles(|position| self.quantile(key, ordinal, position, &mut generator)),
            _ => prior_point(space, || generator.uniform()),
        })
    }

    /// Why [`Self::next`] gave `point`.
    pub(super) fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        let ordinal = history.next_ordinal();
        let mut generator = key.generator(ordinal, Stream::Startup);
        let own = space.at_quantiles(|position| self.quantile(key, ordinal, position, &mut generator));
        if space.encode(&own) == space.encode(point) {
            Explanation::new(
                "design",
                format!("point {ordinal} of a scrambled Sobol sequence, which spreads points evenly"),
            )
            .with("index", ordinal)
        } else {
            Explanation::stand_in(&format!("point {ordinal} of the Sobol sequence"))
        }
    }

    fn quantile(&self, key: Key, ordinal: u64, position: usize, generator: &mut Generator) -> f64 {
        let column = self.columns[position];
        match u32::try_from(ordinal) {
            Ok(index) if column < self.sobol.dimensions() => self.sobol.scrambled(key, index, column),
            _ => generator.uniform(),
        }
    }
}
