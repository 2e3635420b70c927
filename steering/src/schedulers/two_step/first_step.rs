//! How far the first step has come.

use std::collections::VecDeque;

use protocol::Outcome;

use super::TwoStep;
use crate::schedulers::ledger::{Configuration, Stage};
use crate::two_step::spread;

/// The state of the first step, on the rung of the ladder that it has come to.
pub(super) struct FirstStep {
    pub(super) rung: usize,
    /// Loss and position of the configurations that have a loss there, best first.
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
        let mut ranking: Vec<(f64, usize)> = configurations
            .iter()
            .enumerate()
            .filter_map(|(place, configuration)| Some((loss_at(configuration, resource)?, place)))
            .collect();
        ranking.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
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

/// What a configuration lost with this grant.
pub(super) fn loss_at(configuration: &Configuration<'_>, resource: u64) -> Option<f64> {
    let stage = configuration.stages.iter().find(|stage| stage.resource == resource)?;
    stage.outcome.loss()
}
