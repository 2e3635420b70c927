//! What a sampler sees of a search under a scheduler: one observation for each configuration, at one fidelity.

use protocol::{Loss, Outcome};

use super::ledger::Configuration;
use crate::history::History;
use crate::space::Space;

/// The configurations as a history, numbered from 0 in their order.
pub(super) fn history(space: &Space, configurations: &[Configuration<'_>]) -> History {
    let losses = super::view::losses(configurations);
    let entries = configurations.iter().zip(losses).map(|(configuration, loss)| {
        let (outcome, blamed) = match loss {
            Some(loss) => (
                Loss::new(loss).map_or(Outcome::Failed, |loss| Outcome::Done { loss }),
                true,
            ),
            None => unjudged(configuration),
        };
        (configuration.first.point, outcome, blamed)
    });
    History::numbered(space, entries)
}

/// The outcome of a configuration without a loss.
fn unjudged(configuration: &Configuration<'_>) -> (Outcome, bool) {
    let pending = configuration
        .stages
        .iter()
        .any(|stage| stage.outcome == Outcome::Pending);
    if pending {
        return (Outcome::Pending, false);
    }
    (Outcome::Failed, configuration.stages.iter().any(|stage| stage.blamed))
}

/// The loss of each configuration.
fn losses(configurations: &[Configuration<'_>]) -> Vec<Option<f64>> {
    configurations
        .iter()
        .map(|configuration| configuration.stages.iter().rev().find_map(|stage| stage.outcome.loss()))
        .collect()
}
