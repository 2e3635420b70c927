//! Bayesian optimisation with Gaussian processes, for mixed spaces and small budgets.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | n | evaluated points |
//! | d | dimensions that vary |
//!
//! One ask, in the order of the modules:
//!
//! 1. [`startup`]: the first points fill the space.
//! 2. [`layout`]: points become rows of features, [`outputs`]: losses are put on a scale on which they look normal.
//! 3. [`kernel`], [`fit`]: the parameters of a Matérn kernel with one length scale per feature, the most probable ones and draws
//!    from their distribution; [`posterior`]: one process for each of these sets, conditioned on the data.
//! 4. [`acquisition`], [`model`]: a point is worth the improvement that a reader of the lowest measured loss may expect of it,
//!    summed over these processes, times its chance of success if points have failed. With several objectives there are processes
//!    for each of them, and a point is worth the volume that it is expected to add to what the front dominates
//!    ([`hypervolume`]). Points that are being evaluated are believed
//!    to have the loss that the model predicts, and improvement counts from the best of them. Every other point is chosen for what
//!    it teaches instead, but not towards the end.
//! 5. [`candidates`], [`search`]: the point of highest worth.
//!
//! Under a scheduler, how far a point was trained is one more feature, and points are chosen for what they promise after training
//! as far as any.
//!
//! Up to about a thousand points the processes are exact, with parameters fitted on three hundred of them; beyond, they are
//! conditioned on the best, the nearest to the best and a share of all others.

mod acquisition;
pub(super) mod candidates;
mod explaining;
mod fit;
mod hypervolume;
mod kernel;
pub(super) mod layout;
pub(super) mod model;
mod outputs;
pub(super) mod posterior;
mod preference;
mod search;
pub(super) mod startup;
#[cfg(test)]
mod tests;
mod transfer;

use protocol::Point;

use super::{Entry, Sampler, Setting, Settings, SetupError, SuggestError, first_unused, one_by_one, prior_point, tpe};
use crate::explain::Explanation;
use crate::history::{History, Related};
use crate::objectives::ranked;
use crate::rng::{Key, Stream};
use crate::space::{Coordinate, Domain, Space, Walk};
use candidates::{Candidate, Source};
use layout::Layout;
use model::{Model, Purpose};
use search::Goal;

pub(crate) use preference::Preference;

/// Candidates drawn from the density of the good points.
const DRAWS: usize = 100;
/// First points of a search that learns from others.
const TAUGHT: usize = 3;
/// Candidates that climb.
const CLIMBERS: usize = 8;
/// Multiplications that a look at one candidate may cost before fewer are looked at.
const WORK: f64 = 120_000.0;
/// Part of a search after which nothing is explored any more.
const LATE: f64 = 0.75;
/// Finite spaces up to this many points are searched completely.
const ENUMERATED: u64 = 4_000;

pub(super) const ENTRY: Entry = Entry {
    name: "gp",
    summary: "Gaussian processes with expected improvement: the fewest evaluations, for up to some thousand points",
    settings: &[
        Setting {
            name: "startup",
            default: "0",
            meaning: "points that fill the space before the first model; 0: 6 to 10, by dimension",
        },
        Setting {
            name: "draws",
            default: "4",
            meaning: "draws of the kernel parameters to average over, up to 64; 0: the most probable ones alone",
        },
        Setting {
            name: "candidates",
            default: "600",
            meaning: "quasi-random candidates for each point, from 1; half as many lie near the best points",
        },
        Setting {
            name: "exact",
            default: "1000",
            meaning: "evaluated points up to which all are used, 10 to 2000",
        },
    ],
    build,
};

/// What can be set.
#[derive(Debug)]
struct Options {
    startup: usize,
    draws: usize,
    candidates: usize,
    exact: usize,
}

fn build(settings: &Settings) -> Result<Box<dyn Sampler>, SetupError> {
    Ok(Box::new(Gp {
        options: Options {
            startup: settings.get("startup", "an integer from 0", |_| true)?,
            draws: settings.get("draws", "an integer from 0 to 64", |count| *count <= 64)?,
            candidates: settings.get("candidates", "an integer from 1 to 100000", |count| {
                (1..=100_000).contains(count)
            })?,
            exact: settings.get("exact", "an integer from 10 to 2000", |count| {
                (10..=2_000).contains(count)
            })?,
        },
    }))
}

#[derive(Debug)]
struct Gp {
    options: Options,
}

impl Sampler for Gp {
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError> {
        let layout = Self::layout(space, history);
        let mut model = None;
        Ok(one_by_one(space, history, count, |grown| {
            if !self.is_starting(space, &layout, grown) {
                // Losses do not come in while points are chosen: one fit serves all of them.
                let model = model.get_or_insert_with(|| Model::new(&layout, history, &self.options, key));
                if let Some(model) = model {
                    return self.model_point(space, &layout, grown, model, key);
                }
            }
            startup::next(space, &layout, grown, key)
        }))
    }

    fn weighs_seconds(&self) -> bool {
        true
    }

    fn learns_from_others(&self) -> bool {
        true
    }

    fn knows_fronts(&self) -> bool {
        true
    }

    fn explain(&self, space: &Space, history: &History, point: &Point, key: Key) -> Explanation {
        self.reason(space, history, point, key)
    }
}

impl Gp {
    /// How points become rows in this search.
    fn layout(space: &Space, history: &History) -> Layout {
        Layout::new(space)
            .graded(!history.glimpses().is_empty())
            .shared(!history.related().is_empty())
    }

    /// Whether there is too little to learn from.
    fn is_starting(&self, space: &Space, layout: &Layout, history: &History) -> bool {
        let elsewhere: usize = history.related().iter().map(Related::len).sum();
        let startup = self.startup(space);
        // What others found stands in for most of the first points.
        let startup = if elsewhere >= startup {
            startup.min(TAUGHT)
        } else {
            startup
        };
        let evaluated = history
            .observations()
            .iter()
            .filter(|observation| observation.outcome.loss().is_some())
            .count();
        layout.features == 0 || history.len() < startup || evaluated < 2.max(startup / 3)
    }

    fn startup(&self, space: &Space) -> usize {
        if self.options.startup > 0 {
            return self.options.startup;
        }
        let varying = space
            .dimensions()
            .iter()
            .filter(|dimension| !matches!(dimension.domain, Domain::Fixed(_)))
            .count();
        (varying / 2 + 3).clamp(6, 10)
    }

    fn model_point(
        &self,
        space: &Space,
        layout: &Layout,
        history: &History,
        model: &mut Model,
        key: Key,
    ) -> Option<Point> {
        let ordinal = history.next_ordinal();
        let mut with_pending = model.with_pending(layout, history);
        let model = with_pending.as_mut().unwrap_or(model);
        let source = Source::new(space, layout);
        let purpose = purpose(history);
        // X. Song et al., The Vizier Gaussian process bandit algorithm (2024), section 4.5: early on, no leaps into the unknown.
        let radius = 0.2 + 0.3 * model.rows.len() as f64 / (5.0 * (layout.places() as f64 + 1.0));
        let few = space.size().is_some_and(|size| size <= ENUMERATED);
        let mut candidates = if few {
            Self::unused(space, history, &source)
        } else {
            self.candidates(&source, model, &ranked(history), key)
        };
        let rows: Vec<&[f64]> = candidates.iter().map(|candidate| candidate.row.as_slice()).collect();
        let worths = model.balanced(&rows, purpose);
        let goal = Goal {
            model,
            purpose,
            radius,
            source: &source,
        };
        for (candidate, worth) in candidates.iter_mut().zip(worths) {
            candidate.score = goal.trusted(&candidate.row, worth);
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        if !few {
            let mut climbed: Vec<Candidate> = candidates.iter().take(CLIMBERS).cloned().collect();
            goal.climb(&mut climbed);
            climbed.sort_by(|a, b| b.score.total_cmp(&a.score));
            climbed.append(&mut candidates);
            candidates = climbed;
        }
        let new = candidates
            .into_iter()
            .find(|candidate| !history.is_taken(space, &candidate.coordinates));
        if let Some(candidate) = new {
            return Some(space.point(source.assignment(&candidate)));
        }
        let mut generator = key.generator(ordinal, Stream::Startup);
        first_unused(space, history, key, |_| prior_point(space, || generator.uniform()))
    }

    fn candidates(&self, source: &Source<'_>, model: &Model, history: &History, key: Key) -> Vec<Candidate> {
        let ordinal = history.next_ordinal();
        // Beyond some hundred points a look costs as much as hundreds of them did, and fewer are enough for a better model.
        let affordable = |count: usize| (count as f64 * (WORK / model.cost()).min(1.0)) as usize + 1;
        let mut candidates = source.spread(affordable(self.options.candidates), key, ordinal);
        let mut generator = key.generator(ordinal, Stream::Density);
        let fill: Vec<Coordinate> = candidates[0].genes.clone();
        let best: Vec<Candidate> = (model.best_for(ordinal).into_iter())
            .map(|point| source.known(point, &fill))
            .collect();
        for index in 0..affordable(self.options.candidates / 2) {
            let base = &best[index % best.len()];
            let reach = [0.2, 0.07, 0.02][(index / best.len()) % 3];
            let share = [0.2, 0.5, 1.0][(index / best.len() / 3) % 3];
            candidates.push(source.neighbour(base, reach, share, &mut generator));
        }
        for drawn in tpe::good_points(source.space, history, affordable(DRAWS), &mut generator) {
            candidates.push(source.known(&drawn, &fill));
        }
        for base in best.iter().take(2) {
            for position in 0..base.genes.len() {
                if base.coordinates[position].is_some() {
                    for value in source.alternatives(position, base.genes[position]) {
                        let mut genes = base.genes.clone();
                        genes[position] = value;
                        candidates.push(source.express(genes));
                    }
                }
            }
        }
        candidates.extend(best);
        candidates.extend(model.elsewhere.iter().map(|point| source.known(point, &fill)));
        candidates
    }

    fn unused(space: &Space, history: &History, source: &Source<'_>) -> Vec<Candidate> {
        let Ok(walk) = Walk::all(space) else { return Vec::new() };
        let fill: Vec<Coordinate> = source.spread(1, Key::new(0, "", None, "gp"), 0)[0].genes.clone();
        let points = walk
            .map(|point| space.encode(&point))
            .filter(|coordinates| !history.is_taken(space, coordinates));
        points.map(|coordinates| source.known(&coordinates, &fill)).collect()
    }
}

/// What the next point is for: every other one is for learning. A model of few points is wrong in ways that it does not know,
/// and a search that only improves on what it believes keeps asking the same noisy neighbourhood; while other points are being
/// evaluated, more of the same would add little to what they will tell. What is learnt in the last part of a search comes too late
/// to be used: there every point is to improve.
fn purpose(history: &History) -> Purpose {
    let ordinal = history.next_ordinal();
    let late = history
        .planned()
        .is_some_and(|planned| history.len() as f64 >= LATE * planned as f64);
    if late || ordinal.is_multiple_of(2) {
        Purpose::Improve
    } else {
        Purpose::Explore
    }
}
