//! Schedulers, which decide how far each point is trained, and the registry that knows them by name.
//!
//! A scheduler says what the next point is for: a new set of hyperparameters, which the sampler then chooses, or one that is known
//! already and has earned more training. Like samplers, schedulers are functions of the history. What they must remember travels
//! in the points, under reserved keys (see [`ledger`]); grants are totals, so that a point means the same whether the evaluation
//! finds the checkpoint of the one before it or begins anew.
//!
//! To add one: write `schedulers/<name>.rs` with a `pub(super) const ENTRY: Entry`, and add that entry to [`Registry::standard`].
//! The conformance suite then tests it without further work.

mod asha;
mod asking;
mod fidelity;
mod halving;
mod hyperband;
pub mod ledger;
mod pasha;
mod pbt;
mod plan;
mod stopping;
mod synchronous;
mod two_step;
mod view;

use std::fmt;

use protocol::Point;
use serde_json::Value;

use crate::explain::Explanation;
use crate::registry::{self, Settings, SetupError};
use crate::rng::Key;
use crate::space::Space;
use crate::stopping::Stopping;

pub(crate) use asking::{Deciders, Proposal, Refusal, Search, suggest};
pub use fidelity::{Fidelity, FidelityError, Unit};
pub use ledger::{Ledger, Record};
pub use plan::{Plan, PlannedBracket, PlannedStep};

/// A scheduler with its settings, as it is asked for.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Name of the scheduler.
    pub scheduler: String,
    /// Its settings, as `(name, value)`.
    pub settings: Vec<(String, String)>,
    /// How far points are trained.
    pub fidelity: Fidelity,
}

impl Schedule {
    /// Whether nobody will go on from where the training of a point ends: it is full, or whoever follows begins anew.
    #[must_use]
    pub fn is_last(&self, point: &Point) -> bool {
        let granted = self.fidelity.of(point).unwrap_or(self.fidelity.full());
        match self.fidelity.unit() {
            Unit::Epochs => granted >= self.fidelity.full(),
            // On more data training begins anew, so that every loss means the same, unless the steps of a search say otherwise.
            Unit::Fraction if self.scheduler == two_step::ENTRY.name => {
                two_step::is_last(self, granted >= self.fidelity.full(), point)
            }
            Unit::Fraction => true,
        }
    }

    /// A setting, if it is given.
    fn setting(&self, name: &str) -> Option<&str> {
        let mut given = self.settings.iter().rev();
        given.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A way of deciding how far points are trained.
pub trait Scheduler: fmt::Debug {
    /// What the next `count` points are for, a pure function of the arguments. Deciding about two at once is deciding twice.
    ///
    /// Fewer than asked mean that the search is over. As long as it is not, and whatever is still being evaluated, there is
    /// something to do. With the last point of a budget at least one configuration has been granted full training.
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment>;

    /// What becomes of so many configurations; `None`: of as many as make a whole of it.
    fn plan(&self, configurations: Option<u64>) -> Plan;

    /// Whether the settings make sense in this space.
    ///
    /// # Errors
    /// The setting that does not.
    fn fits(&self, _space: &Space) -> Result<(), SetupError> {
        Ok(())
    }

    /// Whether this scheduler can have made a point.
    ///
    /// # Errors
    /// What is expected and found.
    fn check(&self, record: &Record<'_>) -> Result<(), String>;

    /// The rule by which evaluations are ended while they run, if this scheduler has one.
    fn stopping(&self) -> Option<&dyn Stopping> {
        None
    }
}

/// What a scheduler decides from.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The search space.
    pub space: &'a Space,
    /// The points so far.
    pub ledger: &'a Ledger<'a>,
    /// The points by configuration.
    pub configurations: &'a [ledger::Configuration<'a>],
    /// The random numbers of the search.
    pub key: Key,
}

/// What may still be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Points that the search has left; `None`: no limit.
    pub left: Option<usize>,
    /// New sets of hyperparameters that the space has left; `None`: it is not known to end.
    pub new: Option<usize>,
}

/// What one point is for.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Whose training it is.
    pub subject: Subject,
    /// What it is granted in total.
    pub resource: u64,
    /// Ordinal of the point whose checkpoint may be used.
    pub from: Option<u64>,
    /// Further reserved keys, without their prefix.
    pub tags: Vec<(&'static str, Value)>,
    /// Why.
    pub explanation: Explanation,
}

/// Whose training a point is.
#[derive(Debug, Clone)]
pub enum Subject {
    /// That of a new set of hyperparameters, for the sampler to choose.
    New,
    /// That of a known set, whose configuration has this number.
    Known(Point, Option<u64>),
    /// That of a set which the scheduler made of a known one.
    Variant(Point),
}

/// Makes a scheduler from its settings.
pub type Build = fn(&Settings, Fidelity) -> Result<Box<dyn Scheduler>, SetupError>;

/// One line of the registry.
pub type Entry = registry::Entry<Build>;

/// All schedulers by name.
pub type Registry = registry::Registry<Build>;

const KIND: &str = "scheduler";

impl Registry {
    /// The schedulers of this program.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(
            KIND,
            vec![
                asha::ENTRY,
                hyperband::ENTRY,
                pasha::ENTRY,
                pbt::ENTRY,
                stopping::HALVING,
                stopping::MEDIAN,
                synchronous::ENTRY,
                two_step::ENTRY,
            ],
        )
    }

    /// Makes the scheduler that is asked for.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn build(&self, schedule: &Schedule) -> Result<Box<dyn Scheduler>, SetupError> {
        let entry = self.find(&schedule.scheduler, [].into_iter())?;
        let settings = Settings::of(KIND, entry.name, entry.settings, &schedule.settings)?;
        (entry.build)(&settings, schedule.fidelity)
    }
}

/// The hyperparameters of a point alone.
fn bare(point: &Point) -> Point {
    point
        .hyperparameters()
        .map(|(key, value)| (key, value.clone()))
        .collect()
}
