//! How far the first step has come.

use std::cmp::Reverse;
use std::collections::VecDeque;

use protocol::Outcome;

use super::TwoStep;
use crate::schedulers::ledger::{Configuration, Stage};
use crate::two_step::spread;

/// The state of the first step, on the rung of the ladder that it has come to.
pub(super) struct FirstStep {
    pub(super) rung: usize,
    /// Loss, or place under a scheduler, and position of the configurations that have a loss there, best first.
    pub(super) ranking: Vec<(f64, usize)>,
    /// Whether something is still being evaluated there or below.
    pub(super) waiting: bool,
    /// Positions of those that are to be compared there and have not been granted it.
    pub(super) outstanding: VecDeque<usize>,
}

impl FirstStep {
    /// The first step as the history has it.
    pub(super) fn of(two_step: &TwoStep, configurations: &[Configuration<'_>]) -> Self {
        let rungs = &two_step.rungs;
        let all = configurations.iter().flat_map(|configuration| &configuration.stages);
        let highest = all.filter_map(|stage| rungs.binary_search(&stage.resource).ok()).max();
        let rung = highest.unwrap_or(0);
        let mut step = Self::at(two_step, configurations, rung);
        if rung > 0 {
            let below = Self::at(two_step, configurations, rung - 1);
            step.outstanding = below.survivors(two_step, configurations, rungs[rung]);
        }
        step
    }

    fn at(two_step: &TwoStep, configurations: &[Configuration<'_>], rung: usize) -> Self {
        let resource = two_step.rungs[rung];
        // Whoever was trained longer comes first: under a scheduler it has earned that.
        let mut known: Vec<(Reverse<Option<u64>>, f64, usize)> = configurations
            .iter()
            .enumerate()
            .filter_map(|(position, configuration)| {
                let (epochs, loss) = longest_at(configuration, resource)?;
                Some((Reverse(epochs), loss, position))
            })
            .collect();
        known.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let are_ranks = two_step.first.is_some();
        let ranking: Vec<(f64, usize)> = known
            .into_iter()
            .enumerate()
            .map(|(place, (_, loss, position))| (if are_ranks { place as f64 } else { loss }, position))
            .collect();
        let is_pending = |stage: &Stage| stage.resource <= resource && stage.outcome == Outcome::Pending;
        Self {
            rung,
            ranking,
            waiting: configurations
                .iter()
                .any(|configuration| configuration.stages.iter().any(is_pending)),
            outstanding: VecDeque::new(),
        }
    }

    /// Those of this rung who are compared on the next, and have not been granted it.
    pub(super) fn survivors(
        &self,
        two_step: &TwoStep,
        configurations: &[Configuration<'_>],
        next: u64,
    ) -> VecDeque<usize> {
        let better = 0..self.ranking.len().div_ceil(2);
        let mut places: Vec<usize> = better.chain(spread(self.ranking.len(), two_step.calibration)).collect();
        places.sort_unstable();
        places.dedup();
        let positions = places.into_iter().map(|place| self.ranking[place].1);
        let is_new = |position: &usize| {
            configurations[*position]
                .stages
                .iter()
                .all(|stage| stage.resource != next)
        };
        positions.filter(is_new).collect()
    }
}

/// Epochs and loss of the longest training with this grant; nothing if there is none, or one of them failed.
fn longest_at(configuration: &Configuration<'_>, resource: u64) -> Option<(Option<u64>, f64)> {
    let mut longest = None;
    for stage in configuration.stages.iter().filter(|stage| stage.resource == resource) {
        match stage.outcome {
            Outcome::Done { loss } => longest = Some((stage.epochs, loss.get())),
            Outcome::Failed => return None,
            Outcome::Pending => {}
        }
    }
    longest
}
