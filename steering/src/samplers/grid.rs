//! Every combination of the levels, once, in a fixed order.
//!
//! Levels are the categories of a categorical dimension, the `levels` that the search space lists, or else all values of a
//! discrete dimension. The last dimension of the document runs fastest. Points that are in the history, whatever became of them,
//! are left out; when all are, the search is over.

use protocol::Point;

use super::{Entry, Sampler, SuggestError};
use crate::explain::Explanation;
use crate::history::History;
use crate::rng::Key;
use crate::space::{Space, Walk};

pub(super) const ENTRY: Entry = Entry {
    name: "grid",
    summary: "every combination of categories and `levels`, once",
    settings: &[],
    build: |_| Ok(Box::new(Grid)),
};

#[derive(Debug)]
struct Grid;

impl Sampler for Grid {
    fn suggest(&self, space: &Space, history: &History, count: usize, _: Key) -> Result<Vec<Point>, SuggestError> {
        let walk = Walk::grid(space).map_err(|position| SuggestError::NoLevels {
            dimension: space.dimensions()[position].name.clone(),
        })?;
        let mut grown = history.clone();
        let unused = walk
            .filter(|point| !history.is_taken(space, &space.encode(point)))
            .take(count);
        Ok(unused
            .map(|mut point| {
                grown.number(&mut point);
                grown.push(space, &point);
                point
            })
            .collect())
    }

    fn explain(&self, space: &Space, _: &History, point: &Point, _: Key) -> Explanation {
        let wanted = space.encode(point);
        let index = Walk::grid(space)
            .ok()
            .and_then(|mut walk| walk.position(|other| space.encode(&other) == wanted));
        Explanation::new("grid", "the first combination of the grid that was not yet proposed").with("index", index)
    }
}
