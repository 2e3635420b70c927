//! An evolutionary search for huge budgets: what it does for a point costs time linear in the length of the history, and little.
//!
//! R. Storn, K. Price, *J. Global Optim.* 11 (1997) 341, for differential evolution, with the step towards a good point of J. Zhang,
//! A. C. Sanderson, *JADE*, IEEE Trans. Evol. Comput. 13 (2009) 945; E. Real et al., *Regularized evolution*, AAAI 33 (2019) 4780,
//! for the tournament and for parents that grow old.
//!
//! Parents are the best points of the history, or of its newest evaluated points where `memory` says so: with noisy losses, a lucky
//! point then does not stay for ever. A tournament of two chooses a parent. Its child is made in one of two ways, at random:
//!
//! * *differential*: the parent moves towards one of the best points and along the difference of two others, in some of its
//!   dimensions; a category is taken over where the two others differ;
//! * *mutation*: some dimensions change at random. Steps are spread over three powers of ten, so no step size has to be learnt, and
//!   none has to be remembered.
//!
//! Nothing but the history decides, and points still pending change nothing but which points are taken.

mod breeding;

use protocol::{Outcome, Point};

use super::sobol::Sequence;
use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, one_by_one};
use crate::explain::Explanation;
use crate::history::{History, Observation};
use crate::rng::{Key, Stream};
use crate::space::Space;
use breeding::{Child, Origin, Population};

pub(super) const ENTRY: Entry = Entry {
    name: "evolution",
    summary: "differential evolution and mutation: many thousands of cheap evaluations, any mix of dimensions",
    settings: &[
        Setting {
            name: "startup",
            default: "20",
            meaning: "points of a Sobol sequence before the first child, from 2",
        },
        Setting {
            name: "parents",
            default: "30",
            meaning: "best points that may be parents, from 4",
        },
        Setting {
            name: "memory",
            default: "0",
            meaning: "only so many of the newest evaluated points with `hpo.n` may be parents; 0 for all",
        },
    ],
    build,
};

fn build(settings: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    Ok(Box::new(Evolution {
        startup: settings.get("startup", "an integer from 2", |count| *count >= 2)?,
        parents: settings.get("parents", "an integer from 4", |count| *count >= 4)?,
        memory: settings.get("memory", "an integer from 0", |_| true)?,
    }))
}

#[derive(Debug)]
struct Evolution {
    startup: usize,
    parents: usize,
    memory: usize,
}

impl Sampler for Evolution {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let sequence = Sequence::new(space);
        // Pending points are no parents, so a batch has one population.
        let population = self.population(history);
        Ok(one_by_one(space, history, count, |grown| match &population {
            Some(population) if grown.len() >= self.startup => {
                let mut generator = key.generator(grown.next_ordinal(), Stream::Density);
                first_unused(space, grown, key, |_| {
                    space.decode(&population.child(space, &mut generator).coordinates)
                })
            }
            _ => sequence.next(space, grown, key),
        }))
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        let Some(population) = self.population(history).filter(|_| history.len() >= self.startup) else {
            return Sequence::new(space).explain(space, history, point, key);
        };
        let wanted = space.fingerprint(&space.encode(point));
        let mut generator = key.generator(history.next_ordinal(), Stream::Density);
        let child = (0..super::DRAWS)
            .map(|_| population.child(space, &mut generator))
            .find(|child| space.fingerprint(&child.coordinates) == wanted);
        match child {
            Some(Child { parent, origin, .. }) => {
                let way = match origin {
                    Origin::Differential => "moved towards a better point and along the difference of two others",
                    Origin::Mutation => "with some dimensions changed at random",
                };
                let text = format!(
                    "a child of the point that ranks {} of {}, {way}",
                    parent + 1,
                    population.evaluated()
                );
                Explanation::new(origin.name(), text)
                    .with("parent_rank", parent + 1)
                    .with("parent_loss", population.loss(parent))
                    .with("parents", population.len())
                    .with("evaluated", population.evaluated())
            }
            None => Explanation::stand_in("every child that was tried"),
        }
    }
}

impl Evolution {
    /// The parents, best first; nothing as long as there are too few.
    fn population<'a>(&self, history: &'a History) -> Option<Population<'a>> {
        let mut evaluated: Vec<(f64, usize, &'a Observation)> = history
            .observations()
            .iter()
            .enumerate()
            .filter_map(|(age, observation)| match observation.outcome {
                Outcome::Done { loss } => Some((loss.get(), age, observation)),
                Outcome::Pending | Outcome::Failed => None,
            })
            .collect();
        if self.memory > 0 && history.is_numbered() {
            evaluated.drain(..evaluated.len().saturating_sub(self.memory));
        }
        if evaluated.len() < 4 || 2 * evaluated.len() < self.startup {
            return None;
        }
        let total = evaluated.len();
        let better =
            |a: &(f64, usize, &Observation), b: &(f64, usize, &Observation)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if total > self.parents {
            evaluated.select_nth_unstable_by(self.parents - 1, better);
            evaluated.truncate(self.parents);
        }
        evaluated.sort_unstable_by(better);
        Some(Population::new(
            evaluated
                .into_iter()
                .map(|(loss, _, observation)| (loss, observation))
                .collect(),
            total,
        ))
    }
}
