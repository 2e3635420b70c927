//! CMA-ES with margin: a normal distribution that learns where to search, and in which directions.
//!
//! N. Hansen, A. Ostermeier, *Evol. Comput.* 9 (2001) 159; active covariance update, G. A. Jastrebski, D. V. Arnold, *CEC* (2006);
//! margin for discrete dimensions, R. Hamano et al., *GECCO* (2022); restarts with growing generations, A. Auger, N. Hansen, *CEC*
//! (2005).
//!
//! The first generation is drawn around the centre of the space with a standard deviation of 0.3 of its width (of its
//! prior, where that is normal). Integers and other steps are latent continuous coordinates that are rounded. Categories have no place in a normal distribution: each categorical dimension has probabilities of its own, which move towards
//! the categories of the good points and never below a margin, as in `CatCMA` (R. Hamano et al., *GECCO* 2024). A dimension that is
//! inactive keeps its latent coordinate, which then has no effect.
//!
//! Failed points rank behind all others of their generation; points lost with their machine count for nothing.

mod axes;
mod constants;
mod distribution;
mod margin;
mod replay;

use protocol::Point;

use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, one_by_one, prior_point};
use crate::explain::Explanation;
use crate::history::History;
use crate::rng::{Key, Stream};
use crate::space::Space;
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
    /// The strategy is replayed from its start, which other losses would have led elsewhere.
    fn bears_changing_losses(&self) -> bool {
        false
    }

    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        // Where points can repeat, what was just proposed may be found at an earlier position: then the replay starts afresh,
        // so that a batch gives what single points would.
        let is_finite = space.size().is_some();
        let mut replay = Replay::new(space, history, key, self.lambda);
        let mut is_fresh = true;
        Ok(one_by_one(space, history, count, |grown| {
            if is_finite && !is_fresh {
                replay = Replay::new(space, grown, key, self.lambda);
            }
            is_fresh = false;
            if let Some(proposal) = replay.next() {
                let point = space.decode(&proposal.coordinates);
                replay.accept(proposal);
                return Some(point);
            }
            let mut generator = key.generator(grown.next_ordinal(), Stream::Startup);
            first_unused(space, grown, key, |_| prior_point(space, || generator.uniform()))
        }))
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        let mut replay = Replay::new(space, history, key, self.lambda);
        let wanted = space.encode(point);
        match replay.next() {
            Some(proposal) if space.fingerprint(&proposal.coordinates) == space.fingerprint(&wanted) => {
                let now = replay.current();
                let (done, all) = replay.filled();
                let length = now.length(&proposal.latent.x);
                let text = format!(
                    "drawn from the normal distribution after {} generations of {}, with a step of {:.3} of the width of a \
                     dimension; it lies {length:.2} standard deviations from the mean",
                    now.generation, now.constants.lambda, now.sigma
                );
                Explanation::new("evolution", text)
                    .with("restart", now.run)
                    .with("generation", now.generation)
                    .with("generation_size", now.constants.lambda)
                    .with("evaluated_in_generation", done)
                    .with("asked_in_generation", all)
                    .with("position", replay.position)
                    .with("step", now.sigma)
                    .with("deviations_from_mean", length)
            }
            _ => Explanation::stand_in("the point of the evolution strategy"),
        }
    }
}

#[cfg(test)]
mod tests;
