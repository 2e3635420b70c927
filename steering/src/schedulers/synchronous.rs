//! Hyperband as published: rungs of fixed size, from which the best climb when all have been evaluated.
//!
//! L. Li and others, *Hyperband*, Journal of Machine Learning Research 18 (2018), algorithm 1. Brackets follow each other without
//! end, those that begin with the shortest training first. While a rung waits for its last evaluation, the next bracket begins:
//! there is always something to do. Points carry the number of their bracket, which goes on rising from round to round.

use super::asha::ETA;
use super::halving::{self, Rule, Rung};
use super::hyperband::{BRACKETS, Brackets};
use super::{Assignment, Budget, Entry, Fidelity, Plan, Record, Scheduler, Situation};
use crate::registry::{Settings, SetupError};

pub(super) const ENTRY: Entry = Entry {
    name: "synchronous",
    summary: "hyperband with rungs of fixed size that wait for their last member: few wrong promotions, more waiting",
    settings: &[ETA, BRACKETS],
    build,
};

fn build(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    Ok(Box::new(Synchronous(Brackets::new(settings, fidelity)?)))
}

#[derive(Debug)]
struct Synchronous(Brackets);

impl Synchronous {
    /// How many rungs a bracket leaves out.
    fn skipped(&self, bracket: u64) -> usize {
        (bracket % self.0.sizes.len() as u64) as usize
    }
}

impl Rule for Synchronous {
    fn fidelity(&self) -> &Fidelity {
        &self.0.fidelity
    }

    fn eta(&self) -> u64 {
        self.0.eta
    }

    fn rungs(&self, bracket: u64) -> &[u64] {
        self.0.rungs(self.skipped(bracket))
    }

    fn bracket(&self, rank: u64) -> u64 {
        let round: u64 = self.0.sizes.iter().sum();
        let mut place = rank % round;
        let mut bracket = rank / round * self.0.sizes.len() as u64;
        for size in &self.0.sizes {
            if place < *size {
                break;
            }
            place -= size;
            bracket += 1;
        }
        bracket
    }

    fn names_brackets(&self) -> bool {
        true
    }

    fn promotable(&self, bracket: u64, rung: usize, rungs: &[Rung]) -> usize {
        let first = self.0.sizes[self.skipped(bracket)];
        let size = |rung: usize| (u128::from(first) / u128::from(self.0.eta).pow(rung as u32)).max(1) as usize;
        let mut expected = size(0);
        for (number, here) in rungs.iter().enumerate().take(rung + 1) {
            if here.pending > 0 || here.members() < expected {
                return 0;
            }
            expected = size(number + 1).min(here.ranking.len());
        }
        expected
    }
}

impl Scheduler for Synchronous {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        halving::assign(self, situation, count, budget)
    }

    fn plan(&self, configurations: Option<u64>) -> Plan {
        halving::plan(self, configurations.unwrap_or_else(|| self.0.sizes.iter().sum()))
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        halving::check(self, record)
    }
}
