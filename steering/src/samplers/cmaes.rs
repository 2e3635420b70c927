//! CMA-ES with margin: a normal distribution that learns where to search, and in which directions.
//!
//! N. Hansen, A. Ostermeier, *Evol. Comput.* 9 (2001) 159; active covariance update, G. A. Jastrebski, D. V. Arnold, *CEC* (2006);
//! margin for discrete dimensions, R. Hamano et al., *GECCO* (2022); restarts with growing generations, A. Auger, N. Hansen, *CEC*
//! (2005).
//!
//! The first generation is drawn around the centre of the space with a standard deviation of 0.3 of its width, or around the mean
//! of an unbounded dimension as its prior is spread. Integers and other steps are latent continuous coordinates that are rounded.
//! Categories have no place in a normal distribution: each categorical dimension has probabilities of its own, which move towards
//! the categories of the good points and never below a margin, as in CatCMA (R. Hamano et al., *GECCO* 2024). A dimension that is
//! inactive keeps its latent coordinate, which then has no effect.
//!
//! Failed points rank behind all others of their generation; points lost with their machine count for nothing.

mod axes;
mod constants;
mod distribution;
mod margin;
mod replay;

use protocol::Point;

use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, prior_point};
use crate::history::History;
use crate::rng::{Key, Stream};
use crate::space::{Coordinate, Space};
use replay::Replay;

pub(super) const ENTRY: Entry = Entry {
    name: "cmaes",
    summary: "CMA-ES with margin: mostly numeric spaces with 100 evaluations per dimension or more",
    settings: &[Setting {
        name: "generation",
        default: "0",
        meaning: "points of a generation, from 3; 0 for 4 + 3 ln(dimensions)",
    }],
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    let lambda = settings.get("generation", "0 or an integer from 3 to 4096", |size| {
        *size == 0 || (3..=4_096).contains(size)
    })?;
    Ok(Box::new(Cmaes {
        lambda: (lambda > 0).then_some(lambda),
    }))
}

#[derive(Debug)]
struct Cmaes {
    lambda: Option<usize>,
}

impl Sampler for Cmaes {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        // Where points can repeat, what was just proposed may be found at an earlier position: then the replay starts afresh,
        // so that a batch gives what single points would.
        let is_finite = space.size().is_some();
        let mut points = Vec::with_capacity(count.min(1_024));
        let mut grown = history.clone();
        let mut replay = Replay::new(space, &grown, key, self.lambda);
        while points.len() < count {
            let mut point = match replay.next() {
                Some(proposal) => {
                    let point = decode(space, &proposal.coordinates);
                    replay.accept(proposal);
                    point
                }
                None => {
                    let mut generator = key.generator(grown.next_ordinal(), Stream::Startup);
                    match first_unused(space, &grown, key, |_| prior_point(space, || generator.uniform())) {
                        Some(point) => point,
                        None => break,
                    }
                }
            };
            grown.push(space, &mut point);
            points.push(point);
            if is_finite && points.len() < count {
                replay = Replay::new(space, &grown, key, self.lambda);
            }
        }
        Ok(points)
    }
}

fn decode(space: &Space, coordinates: &[Option<Coordinate>]) -> Point {
    let mut assignment = space.blank();
    for (position, coordinate) in coordinates.iter().enumerate() {
        if let Some(coordinate) = coordinate {
            assignment.set(position, space.dimensions()[position].decode(*coordinate));
        }
    }
    space.point(assignment)
}
