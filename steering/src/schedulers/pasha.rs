//! Asynchronous successive halving that trains no longer than it must to tell configurations apart.
//!
//! O. Bohdal, L. Balles, M. Wistuba, B. Ermis, C. Archambeau, G. Zappella, *PASHA: efficient HPO and NAS with progressive resource
//! allocation*, ICLR (2023), section 4. At first only the two lowest rungs are open. As long as the configurations on the two
//! highest open rungs stand in another order on each, one more rung opens. Configurations whose losses differ by less than ε may
//! stand in either order; ε is the 90 % quantile of the differences of pairs that overtake each other back and forth.
//!
//! Deviations: which rungs are open is worked out from all results in every call, not remembered, and curves are known at the
//! rungs only. At the end of the budget the best is trained in full.

use std::collections::{HashMap, HashSet};

use super::asha::{ETA, eta};
use super::halving::{self, Rule, Rung};
use super::{Assignment, Budget, Entry, Fidelity, Plan, Record, Scheduler, Situation};
use crate::registry::{Settings, SetupError};

/// Configurations on a rung of which pairs are compared; of more, the best.
const MOST_COMPARED: usize = 128;
/// Which of the differences within which order means nothing.
const QUANTILE: f64 = 0.9;

pub(super) const ENTRY: Entry = Entry {
    name: "pasha",
    summary: "asha that opens longer training only where the order of configurations still changes",
    settings: &[ETA],
    build,
};

fn build(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    let eta = eta(settings)?;
    Ok(Box::new(Pasha {
        eta,
        rungs: fidelity.rungs(eta),
        fidelity,
    }))
}

#[derive(Debug)]
struct Pasha {
    eta: u64,
    rungs: Vec<u64>,
    fidelity: Fidelity,
}

impl Rule for Pasha {
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
        if rung + 1 < open(rungs) {
            rungs[rung].judged() / self.eta as usize
        } else {
            0
        }
    }
}

impl Scheduler for Pasha {
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

/// How many rungs are open.
fn open(rungs: &[Rung]) -> usize {
    let mut count = 2;
    while count < rungs.len() && !is_settled(&rungs[..count]) {
        count += 1;
    }
    count.min(rungs.len())
}

/// Whether the two highest of these rungs order the configurations that are on both alike.
fn is_settled(rungs: &[Rung]) -> bool {
    let (below, top) = (&rungs[rungs.len() - 2], &rungs[rungs.len() - 1]);
    let best = &top.ranking[..top.ranking.len().min(MOST_COMPARED)];
    let before = of_these(&below.ranking, best);
    let held: HashMap<usize, f64> = before.iter().map(|(loss, position)| (*position, *loss)).collect();
    let now = best.iter().filter(|(_, position)| held.contains_key(position));
    let tolerance = tolerance(rungs, best);
    // Whoever stands at a place now must have had nearly the loss of whoever stood there before.
    now.zip(&before)
        .all(|((_, now), (there, _))| held.get(now).is_some_and(|had| (had - there).abs() <= tolerance))
}

/// The part of a ranking that consists of these configurations.
fn of_these(ranking: &[(f64, usize)], these: &[(f64, usize)]) -> Vec<(f64, usize)> {
    let positions: HashSet<usize> = these.iter().map(|(_, position)| *position).collect();
    let found = ranking.iter().filter(|(_, position)| positions.contains(position));
    found.copied().collect()
}

/// ε: differences on the highest rung of pairs that changed their order at least twice on the way there.
fn tolerance(rungs: &[Rung], best: &[(f64, usize)]) -> f64 {
    let losses: Vec<HashMap<usize, f64>> = (rungs.iter())
        .map(|rung| {
            of_these(&rung.ranking, best)
                .into_iter()
                .map(|(loss, position)| (position, loss))
                .collect()
        })
        .collect();
    let curve = |position: usize| losses.iter().map(|losses| losses.get(&position).copied()).collect();
    let curves: Vec<Vec<f64>> = best.iter().filter_map(|(_, position)| curve(*position)).collect();
    let mut differences = Vec::new();
    for (place, first) in curves.iter().enumerate() {
        for second in &curves[..place] {
            let signs: Vec<bool> = first.iter().zip(second).map(|(a, b)| a < b).collect();
            if signs.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 2 {
                differences.push((first[first.len() - 1] - second[second.len() - 1]).abs());
            }
        }
    }
    if differences.is_empty() {
        return 0.0;
    }
    differences.sort_by(f64::total_cmp);
    let place = libm::ceil(QUANTILE * differences.len() as f64) as usize;
    differences[place.clamp(1, differences.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(losses: &[f64]) -> Rung {
        let mut ranking: Vec<(f64, usize)> = losses.iter().copied().zip(0..).collect();
        ranking.sort_by(|a, b| a.0.total_cmp(&b.0));
        Rung {
            ranking,
            ..Rung::default()
        }
    }

    #[test]
    fn rungs_open_while_the_order_changes() {
        let (low, same, other) = (rung(&[1.0, 2.0, 3.0]), rung(&[0.5, 0.7, 0.9]), rung(&[0.7, 0.5, 0.9]));
        assert!(is_settled(&[rung(&[1.0, 2.0, 3.0]), same]));
        assert!(!is_settled(&[low, other]));
        let rungs = [
            rung(&[1.0, 2.0]),
            rung(&[0.9, 0.8]),
            rung(&[0.6, 0.5]),
            rung(&[]),
            rung(&[]),
        ];
        assert_eq!(open(&rungs), 3);
        assert_eq!(open(&rungs[..1]), 1);
        assert_eq!(open(&[rung(&[]), rung(&[]), rung(&[])]), 2);
    }

    #[test]
    fn pairs_that_overtake_each_other_back_and_forth_set_the_tolerance() {
        let rungs = [rung(&[1.0, 1.1]), rung(&[0.9, 0.8]), rung(&[0.50, 0.53])];
        let best = rungs[2].ranking.clone();
        assert!((tolerance(&rungs, &best) - 0.03).abs() < 1e-12);
        assert!((tolerance(&rungs[1..], &best)).abs() < 1e-12);
    }
}
