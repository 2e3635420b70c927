//! Asynchronous successive halving by promotion.
//!
//! L. Li and others, *A system for massively parallel hyperparameter tuning*, Machine Learning and Systems (2020), algorithm 2. Whenever there is a free
//! slot, the best configuration among the best 1/η of a rung climbs to the next, from the highest rung that has one; if none has,
//! a new configuration begins on the lowest.

use super::halving::{self, Rule, Rung};
use super::{Assignment, Budget, Entry, Fidelity, Plan, Record, Scheduler, Situation};
use crate::registry::{Setting, Settings, SetupError};

/// The setting that all of the family have.
pub(super) const ETA: Setting = Setting {
    name: "eta",
    default: "3",
    meaning: "one in so many is promoted from rung to rung, an integer from 2",
};

pub(super) const ENTRY: Entry = Entry {
    name: "asha",
    summary: "asynchronous successive halving: the best third of each rung is trained three times as long, nobody waits",
    settings: &[ETA],
    build,
};

fn build(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    let eta = eta(settings)?;
    Ok(Box::new(Asha {
        eta,
        rungs: fidelity.rungs(eta),
        fidelity,
    }))
}

/// Reads [`ETA`].
pub(super) fn eta(settings: &Settings) -> Result<u64, SetupError> {
    settings.get("eta", "an integer from 2 to 1000000", |eta| {
        (2..=1_000_000).contains(eta)
    })
}

#[derive(Debug)]
struct Asha {
    eta: u64,
    rungs: Vec<u64>,
    fidelity: Fidelity,
}

impl Rule for Asha {
    fn fidelity(&self) -> &Fidelity {
        &self.fidelity
    }

    fn eta(&self) -> u64 {
        self.eta
    }

    fn rungs(&self, _bracket: u64) -> &[u64] {
        &self.rungs
    }

    fn promotable(&self, _bracket: u64, rung: usize, rungs: &[Rung]) -> usize {
        rungs[rung].judged() / self.eta as usize
    }
}

impl Scheduler for Asha {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        halving::assign(self, situation, count, budget)
    }

    fn plan(&self, configurations: Option<u64>) -> Plan {
        halving::plan(self, configurations.unwrap_or_else(|| halving::one_ladder(self)))
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        halving::check(self, record)
    }
}
