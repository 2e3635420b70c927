//! Samplers, and the registry that knows them by name.
//!
//! To add one: write `samplers/<name>.rs` with a `pub(super) const ENTRY: Entry`, and add that entry to [`Registry::standard`].
//! The conformance suite then tests it without further work.

mod aliases;
mod auto;
mod cmaes;
mod evolution;
mod gp;
mod grid;
mod random;
mod sobol;
mod tpe;
mod turbo;

use std::borrow::Cow;
use std::fmt;

use protocol::Point;

use crate::explain::Explanation;
use crate::history::History;
use crate::registry::{self, Setting, Settings, SetupError};
use crate::rng::{Key, Stream};
use crate::space::{Space, Walk};

pub use aliases::{ALIASES, Alias, resolve};
pub(crate) use gp::Preference;

/// Draws after which a sampler stops hoping for a point that is not taken.
const DRAWS: usize = 100;
/// Unused points of a finite space among which the last resort chooses.
const LAST_RESORT: usize = 10_000;

/// A way of choosing the next points.
pub trait Sampler: fmt::Debug {
    /// The next `count` points, a pure function of the arguments.
    ///
    /// Every returned point is valid in `space`, no two are equal and none is in `history`. Fewer points than asked mean that the
    /// space is exhausted.
    ///
    /// # Errors
    /// When the sampler cannot work on this space.
    fn suggest(&self, space: &Space, history: &History, count: usize, key: Key) -> Result<Vec<Point>, SuggestError>;

    /// Whether [`History::thrift`] counts for the suggestions.
    fn weighs_seconds(&self) -> bool {
        false
    }

    /// Whether [`History::related`] counts for the suggestions.
    fn learns_from_others(&self) -> bool {
        false
    }

    /// Whether the history may have several objectives, whose front the sampler then widens by itself.
    fn knows_fronts(&self) -> bool {
        false
    }

    /// Whether the losses of the history may be others in the next call, as they are with several objectives.
    fn bears_changing_losses(&self) -> bool {
        true
    }

    /// Why this sampler proposes `point` right after `history`, from the same arguments. What every sampler has in common, the
    /// nearest known point above all, is added by the caller.
    fn explain(&self, _space: &Space, history: &History, _point: &Point, _key: Key) -> Explanation {
        Explanation::new(
            "model",
            "the most promising candidate of the sampler's model of the losses",
        )
        .with("points", history.len())
    }
}

/// Why there are no suggestions.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SuggestError {
    /// The grid sampler met a continuum.
    #[error(
        "the sampler `grid` needs a list of values for each dimension, but `{dimension}` has infinitely many; \
         give it `levels`, or choose another sampler"
    )]
    NoLevels {
        /// The dimension without levels.
        dimension: String,
    },
}

/// Makes a sampler from its settings.
pub type Build = fn(&Settings) -> Result<Box<dyn Sampler>, SetupError>;

/// One line of the registry.
pub type Entry = registry::Entry<Build>;

/// All samplers by name.
pub type Registry = registry::Registry<Build>;

const KIND: &str = "sampler";

impl Registry {
    /// The samplers of this program.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(
            KIND,
            vec![
                auto::ENTRY,
                cmaes::ENTRY,
                evolution::ENTRY,
                gp::ENTRY,
                grid::ENTRY,
                random::ENTRY,
                sobol::ENTRY,
                tpe::ENTRY,
                turbo::ENTRY,
            ],
        )
    }

    /// Makes the sampler `name` with settings given as `name=value` pairs.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn build(&self, name: &str, given: &[(String, String)]) -> Result<(&Entry, Box<dyn Sampler>), SetupError> {
        let entry = self.find(name, ALIASES.iter().map(|alias| alias.name))?;
        Ok((entry, build(entry, given)?))
    }
}

fn build(entry: &Entry, given: &[(String, String)]) -> Result<Box<dyn Sampler>, SetupError> {
    (entry.build)(&Settings::of(KIND, entry.name, entry.settings, given)?)
}

/// Makes points one after the other, each knowing those before it. That is what makes one ask of two equal two asks of one.
fn one_by_one(
    space: &Space,
    history: &History,
    count: usize,
    mut next: impl FnMut(&History) -> Option<Point>,
) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::with_capacity(count.min(1_024));
    let mut grown = Cow::Borrowed(history);
    while points.len() < count {
        let Some(mut point) = next(&grown) else { break };
        grown.number(&mut point);
        if points.len() + 1 < count {
            grown.to_mut().push(space, &point);
        }
        points.push(point);
    }
    points
}

/// The first draw that is not taken; if all are, any unused point of a finite space; if there is none, nothing.
fn first_unused(space: &Space, history: &History, key: Key, mut draw: impl FnMut(usize) -> Point) -> Option<Point> {
    let is_new = |point: &Point| !history.is_taken(space, &space.encode(point));
    for attempt in 0..DRAWS {
        let point = draw(attempt);
        if is_new(&point) {
            return Some(point);
        }
    }
    let mut unused: Vec<Point> = Walk::all(space).ok()?.filter(is_new).take(LAST_RESORT).collect();
    if unused.is_empty() {
        return None;
    }
    let chosen = key.generator(history.next_ordinal(), Stream::Tie).below(unused.len());
    Some(unused.swap_remove(chosen))
}

/// A point drawn from the prior.
fn prior_point(space: &Space, mut uniform: impl FnMut() -> f64) -> Point {
    space.at_quantiles(|_| uniform())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_is_found_by_its_name_and_unknown_ones_are_named() {
        let registry = Registry::standard();
        for entry in registry.entries() {
            assert_eq!(registry.build(entry.name, &[]).unwrap().0.name, entry.name);
        }
        let error = registry.build("tpo", &[]).unwrap_err();
        insta::assert_snapshot!(error, @"no sampler is called `tpo`; did you mean `tpe`? (known are auto, cmaes, evolution, gp, grid, random, sobol, tpe, turbo, nevergrad, skopt, hyperopt, optuna, ax, bohb)");
    }
}
