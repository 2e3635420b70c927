//! Independent draws from the prior: the yardstick of all other samplers.

use protocol::Point;

use super::{Entry, Sampler, SuggestError, first_unused, one_by_one, prior_point};
use crate::explain::Explanation;
use crate::history::History;
use crate::rng::{Key, Stream};
use crate::space::Space;

pub(super) const ENTRY: Entry = Entry {
    name: "random",
    summary: "independent draws from the search space",
    settings: &[],
    build: |_| Ok(Box::new(Random)),
};

#[derive(Debug)]
struct Random;

impl Sampler for Random {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        Ok(one_by_one(space, history, count, |history| {
            let mut generator = key.generator(history.next_ordinal(), Stream::Startup);
            first_unused(space, history, key, |_| prior_point(space, || generator.uniform()))
        }))
    }

    fn explain(&self, _: &Space, history: &History, _: &Point, _: Key) -> Explanation {
        let ordinal = history.next_ordinal();
        Explanation::new(
            "random",
            format!("an independent draw from the search space, number {ordinal}"),
        )
        .with("index", ordinal)
    }
}
