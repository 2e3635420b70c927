//! The second step as a race: its configurations are compared after some of the epochs, and the better part goes on.
//!
//! With η one in so many, K rungs below full training and `top` configurations to be trained in full, as many as `top` · ηᵏ stand on
//! the rung k below the last, so that every rung costs about the same; fewer where fewer went on. All who enter are known
//! beforehand, so whoever climbs is sure to belong to the best of its rung, whatever those lose that are still being evaluated:
//! nobody is promoted wrongly, and nobody waits for longer than that takes.

use super::settings::Second;
use super::{TwoStep, loss_at_end};
use crate::schedulers::halving::{self, Rule, Rung};
use crate::schedulers::ledger::{Configuration, Record, Stage};
use crate::schedulers::{Assignment, Budget, Fidelity, Situation};
use protocol::Outcome;

/// Halvings of known size.
#[derive(Debug)]
pub(super) struct Halving {
    eta: u64,
    rungs: Vec<u64>,
    fidelity: Fidelity,
}

impl Halving {
    pub(super) fn new(fidelity: Fidelity, eta: u64) -> Self {
        Self {
            eta,
            rungs: fidelity.rungs(eta),
            fidelity,
        }
    }

    /// The same with its last two rungs alone.
    pub(super) fn shortened(mut self) -> Self {
        let below = self.rungs.len().saturating_sub(2);
        self.rungs.drain(..below);
        self
    }
}

/// How many stand on each rung if `top` are trained in full and no more than `most` enter.
pub(super) fn sizes(rungs: &[u64], eta: u64, top: usize, most: usize) -> Vec<usize> {
    let below = (0..rungs.len() as u32).rev();
    let size = |steps| (top as u64).saturating_mul(eta.saturating_pow(steps)).min(most as u64) as usize;
    below.map(size).collect()
}

impl Second {
    /// The rungs over the epochs of the second step; nothing where whoever goes on is trained in full.
    pub(super) fn rungs(&self, eta: u64) -> Option<Vec<u64>> {
        match self {
            Self::Nobody => None,
            Self::Halving(halving) | Self::Modelled(halving) => Some(halving.rungs.clone()),
            Self::Scheduler(_, fidelity) => Some(fidelity.rungs(eta)),
        }
    }

    /// Whether promotions depend on who is there alone, not on how many entered.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Scheduler(..))
    }

    /// What the next point of the second step is for, a new one being that of somebody who enters. `entering` is how many will, or `None` as
    /// long as that is not known.
    pub(super) fn assign(
        &self,
        situation: &Situation<'_>,
        budget: Budget,
        (top, entering): (usize, Option<usize>),
    ) -> Option<Assignment> {
        let mut assignments = match self {
            // A model decides for itself.
            Self::Nobody | Self::Modelled(_) => Vec::new(),
            Self::Scheduler(scheduler, _) => scheduler.assign(situation, 1, budget),
            Self::Halving(halving) => {
                let finals = Finals {
                    halving,
                    sizes: entering.map(|most| sizes(&halving.rungs, halving.eta, top, most)),
                };
                halving::assign(&finals, situation, 1, budget)
            }
        };
        assignments.pop()
    }

    /// Whether a record of the second step, its epochs for its grant, stands on a rung.
    pub(super) fn check(&self, record: &Record<'_>) -> Result<(), String> {
        match self {
            Self::Nobody => Ok(()),
            Self::Scheduler(scheduler, _) => scheduler.check(record),
            Self::Halving(halving) | Self::Modelled(halving) => {
                halving::check(&Finals { halving, sizes: None }, record)
            }
        }
    }
}

/// One race.
struct Finals<'a> {
    halving: &'a Halving,
    /// How many stand on each rung; not known as long as it is not known who enters.
    sizes: Option<Vec<usize>>,
}

impl Rule for Finals<'_> {
    fn fidelity(&self) -> &Fidelity {
        &self.halving.fidelity
    }

    fn eta(&self) -> u64 {
        self.halving.eta
    }

    fn rungs(&self, _bracket: u64) -> &[u64] {
        &self.halving.rungs
    }

    fn promotable(&self, _bracket: u64, rung: usize, rungs: &[Rung]) -> usize {
        let Some(sizes) = &self.sizes else { return 0 };
        let mut expected = sizes[0];
        for (place, here) in rungs.iter().enumerate().take(rung + 1) {
            let outstanding = expected.saturating_sub(here.judged() + here.lost);
            if place == rung {
                return sizes[rung + 1].saturating_sub(outstanding);
            }
            // Where all are known, failures may leave fewer than wanted.
            expected = match outstanding {
                0 => sizes[place + 1].min(here.ranking.len()),
                _ => sizes[place + 1],
            };
        }
        0
    }
}

/// What the configurations were trained in one step, its epochs standing for the grant.
pub(super) fn within<'a>(
    configurations: &[Configuration<'a>],
    keeps_brackets: bool,
    epochs: impl Fn(&Stage) -> Option<u64>,
) -> Vec<Configuration<'a>> {
    let part = |configuration: &Configuration<'a>| {
        let stages = configuration.stages.iter();
        let mut stages: Vec<Stage> = stages
            .filter_map(|stage| {
                Some(Stage {
                    resource: epochs(stage)?,
                    epochs: None,
                    ..*stage
                })
            })
            .collect();
        let mut elsewhere = configuration.stages.iter().filter(|stage| epochs(stage).is_none());
        if let Some(last) = stages.last_mut().filter(|last| last.outcome.loss().is_some())
            && elsewhere.any(|stage| stage.outcome == Outcome::Failed)
        {
            // Whoever failed in the other step is no better here, and climbs no more.
            last.outcome = Outcome::Failed;
            last.blamed = false;
        }
        (!stages.is_empty()).then(|| {
            let mut first = configuration.first.clone();
            first.bracket = first.bracket.filter(|_| keeps_brackets);
            Configuration { first, stages }
        })
    };
    configurations.iter().filter_map(part).collect()
}

/// How far the second step is, by configuration.
pub(super) struct Standing {
    /// The loss after full training.
    pub(super) losses: Vec<Option<f64>>,
    /// Whether anything of the second step was granted, and full training.
    pub(super) entered: Vec<bool>,
    pub(super) granted: Vec<bool>,
    /// Whether something of it is still under way.
    pub(super) pending: Vec<bool>,
    /// Whether full training is over, or never will be.
    pub(super) judged: Vec<bool>,
    /// Whether any training of the second step that is not full is still under way.
    pub(super) is_racing: bool,
}

impl Standing {
    pub(super) fn of(two_step: &TwoStep, configurations: &[Configuration<'_>]) -> Self {
        let any = |test: &dyn Fn(&Stage) -> bool| -> Vec<bool> {
            let stages = configurations.iter().map(|configuration| configuration.stages.iter());
            stages
                .map(|mut stages| stages.any(|stage| two_step.is_second(stage.resource) && test(stage)))
                .collect()
        };
        let is_pending = |stage: &Stage| stage.outcome == Outcome::Pending;
        let is_last = |stage: &Stage| two_step.is_full(stage);
        Self {
            losses: configurations
                .iter()
                .map(|configuration| loss_at_end(two_step, configuration))
                .collect(),
            entered: any(&|_| true),
            granted: any(&is_last),
            pending: any(&is_pending),
            judged: any(&|stage| stage.outcome == Outcome::Failed || (is_last(stage) && !is_pending(stage))),
            is_racing: any(&|stage| is_pending(stage) && !is_last(stage)).contains(&true),
        }
    }
}
