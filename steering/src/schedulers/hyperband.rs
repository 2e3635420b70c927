//! Hyperband without waiting: several ladders of asynchronous successive halving side by side, each beginning on another rung.
//!
//! L. Li and others, *Hyperband: a novel bandit-based approach to hyperparameter optimization*, Journal of Machine Learning Research 18 (2018),
//! algorithm 1, for the brackets and their sizes; Machine Learning and Systems (2020), section 3.3, for letting them run asynchronously.
//!
//! A configuration belongs to a bracket by its number: brackets take turns in proportion to their sizes, the one furthest behind
//! its share first. That needs neither chance nor memory.

use super::asha::{ETA, eta};
use super::halving::{self, Rule, Rung};
use super::{Assignment, Budget, Entry, Fidelity, Plan, Record, Scheduler, Situation};
use crate::registry::{Setting, Settings, SetupError};

/// The setting that both kinds of Hyperband have.
pub(super) const BRACKETS: Setting = Setting {
    name: "brackets",
    default: "0",
    meaning: "use only so many brackets, those that begin with the shortest training; 0 for all",
};

pub(super) const ENTRY: Entry = Entry {
    name: "hyperband",
    summary: "asha on several ladders, some of which begin with longer training: for losses that say little at first",
    settings: &[ETA, BRACKETS],
    build,
};

fn build(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    Ok(Box::new(Hyperband(Brackets::new(settings, fidelity)?)))
}

/// The brackets of a range of training. Number s leaves out the s lowest rungs.
#[derive(Debug)]
pub(super) struct Brackets {
    pub(super) eta: u64,
    pub(super) fidelity: Fidelity,
    /// Configurations on the lowest rung of each bracket.
    pub(super) sizes: Vec<u64>,
    /// All rungs.
    rungs: Vec<u64>,
}

impl Brackets {
    /// Reads [`ETA`] and [`BRACKETS`].
    pub(super) fn new(settings: &Settings, fidelity: Fidelity) -> Result<Self, SetupError> {
        let eta = eta(settings)?;
        let limit = settings.get("brackets", "an integer from 0", |_: &usize| true)?;
        // Rounding can make two rungs one; brackets are counted by the rungs that there are.
        let rungs = fidelity.rungs(eta);
        let last = rungs.len() as u64 - 1;
        let size = |bracket: u64| {
            let all = u128::from(last + 1) * u128::from(eta).pow((last - bracket) as u32);
            all.div_ceil(u128::from(last - bracket + 1)) as u64
        };
        let count = if limit == 0 { usize::MAX } else { limit };
        Ok(Self {
            eta,
            fidelity,
            sizes: (0..=last).take(count).map(size).collect(),
            rungs,
        })
    }

    /// The rungs of the bracket that leaves out the `skipped` lowest.
    pub(super) fn rungs(&self, skipped: usize) -> &[u64] {
        &self.rungs[skipped..]
    }
}

#[derive(Debug)]
struct Hyperband(Brackets);

impl Rule for Hyperband {
    fn fidelity(&self) -> &Fidelity {
        &self.0.fidelity
    }

    fn eta(&self) -> u64 {
        self.0.eta
    }

    fn rungs(&self, bracket: u64) -> &[u64] {
        self.0.rungs((bracket as usize).min(self.0.sizes.len() - 1))
    }

    fn bracket(&self, rank: u64) -> u64 {
        turn(&self.0.sizes, rank)
    }

    fn names_brackets(&self) -> bool {
        true
    }

    fn promotable(&self, _bracket: u64, rung: usize, rungs: &[Rung]) -> usize {
        rungs[rung].judged() / self.0.eta as usize
    }
}

impl Scheduler for Hyperband {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        halving::assign(self, situation, count, budget)
    }

    fn plan(&self, configurations: Option<u64>) -> Plan {
        halving::plan(self, configurations.unwrap_or_else(|| self.0.sizes.iter().sum()))
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        let count = self.0.sizes.len() as u64;
        match record.bracket {
            Some(bracket) if bracket >= count => Err(format!(
                "expected a bracket `hpo.b` below {count}, found {bracket}: the point is of another scheduler or of other settings"
            )),
            _ => halving::check(self, record),
        }
    }
}

/// Whose turn it is after `rank` turns, when each takes as many as `shares` says: that of the one furthest behind its share.
fn turn(shares: &[u64], rank: u64) -> u64 {
    let all: u64 = shares.iter().sum();
    let mut taken = vec![0_u64; shares.len()];
    let mut next = 0;
    // After as many turns as there are shares everybody has what is due, and it begins anew.
    for count in 1..=rank % all + 1 {
        let behind =
            |which: usize| i128::from(count) * i128::from(shares[which]) - i128::from(taken[which]) * i128::from(all);
        next = (0..shares.len()).rev().max_by_key(|which| behind(*which)).unwrap_or(0);
        taken[next] += 1;
    }
    next as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brackets(eta: &str, full: u64) -> Brackets {
        let settings = Settings::of("scheduler", "hyperband", ENTRY.settings, &[("eta".into(), eta.into())]).unwrap();
        Brackets::new(&settings, Fidelity::epochs(1, full).unwrap()).unwrap()
    }

    #[test]
    fn brackets_have_the_sizes_of_the_paper() {
        for (eta, full, sizes) in [
            ("3", 81, vec![81, 34, 15, 8, 5]),
            ("3", 27, vec![27, 12, 6, 4]),
            ("3", 9, vec![9, 5, 3]),
            ("4", 16, vec![16, 6, 3]),
            ("4", 64, vec![64, 22, 8, 4]),
            ("3", 1, vec![1]),
        ] {
            assert_eq!(brackets(eta, full).sizes, sizes, "η = {eta}, R = {full}");
        }
        assert_eq!(brackets("3", 81).rungs(2), [9, 27, 81]);
    }

    #[test]
    fn brackets_take_turns_in_proportion_at_all_times() {
        let sizes = [81, 34, 15, 8, 5];
        let all: u64 = sizes.iter().sum();
        let turns: Vec<u64> = (0..2 * all).map(|rank| turn(&sizes, rank)).collect();
        assert_eq!(turns[..6], [0, 1, 0, 2, 0, 1]);
        for (which, size) in sizes.iter().enumerate() {
            let count = |of: &[u64]| of.iter().filter(|turn| **turn == which as u64).count() as u64;
            assert_eq!(count(&turns), 2 * size);
            for length in 0..turns.len() {
                let due = length as f64 * *size as f64 / all as f64;
                assert!(
                    (count(&turns[..length]) as f64 - due).abs() < 2.0,
                    "{which} after {length}"
                );
            }
        }
    }
}
