//! One ask under a scheduler: what the next points are for, and the points themselves.

use protocol::limits::RESERVED_PREFIX;
use protocol::steering::HistoryEntry;
use protocol::{Point, Problem};

use super::{Budget, Fidelity, Ledger, Scheduler, Situation, Subject, view};
use crate::explain::Explanation;
use crate::history::{History, Mode, Related};
use crate::registry::SetupError;
use crate::rng::Key;
use crate::samplers::{Sampler, SuggestError};
use crate::space::Space;

/// Who decides, and within which range of training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deciders<'a> {
    pub(crate) scheduler: &'a dyn Scheduler,
    pub(crate) sampler: &'a dyn Sampler,
    pub(crate) fidelity: Fidelity,
}

/// The search of one segment.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(crate) space: &'a Space,
    /// Its points, each with its place in the steering input.
    pub(crate) entries: &'a [(usize, &'a HistoryEntry)],
    pub(crate) mode: Mode,
    pub(crate) key: Key,
    /// Points that it has left; `None`: no limit.
    pub(crate) left: Option<usize>,
    /// Other searches to learn from.
    pub(crate) related: Vec<Related>,
}

/// Why there are no points.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The history has faults.
    History(Vec<Problem>),
    /// The scheduler cannot work on this space.
    Scheduler(SetupError),
    /// The sampler cannot work on this space.
    Sampler(SuggestError),
}

/// A new point, why it is proposed, and what the sampler saw when it proposed the hyperparameters.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) point: Point,
    pub(crate) explanation: Explanation,
    /// Whether the sampler chose the hyperparameters.
    pub(crate) sampled: bool,
}

/// The next `count` points, and the history that the sampler was shown.
pub(crate) fn suggest(
    deciders: Deciders<'_>,
    search: Search<'_>,
    count: usize,
) -> Result<(Vec<Proposal>, History), Refusal> {
    let Deciders {
        scheduler,
        sampler,
        fidelity,
    } = deciders;
    scheduler.fits(search.space).map_err(Refusal::Scheduler)?;
    let check = |record: &super::Record<'_>| scheduler.check(record);
    let ledger = Ledger::read(search.entries, &fidelity, search.mode, check).map_err(Refusal::History)?;
    let mut configurations = ledger.configurations().map_err(Refusal::History)?;
    if let Some(rule) = scheduler.stopping() {
        for configuration in &mut configurations {
            configuration.expand(rule.rungs());
        }
    }
    let situation = Situation {
        space: search.space,
        ledger: &ledger,
        configurations: &configurations,
        key: search.key,
    };
    let mut history = view::history(search.space, &configurations);
    history.relate(search.related);
    let assign = |new| {
        let budget = Budget { left: search.left, new };
        scheduler.assign(&situation, count, budget)
    };
    let sought = |assignments: &[super::Assignment]| {
        let is_new = |assignment: &&super::Assignment| matches!(assignment.subject, Subject::New);
        assignments.iter().filter(is_new).count()
    };
    let mut assignments = assign(None);
    let wanted = sought(&assignments);
    let new = sampler
        .suggest(search.space, &history, wanted, search.key)
        .map_err(Refusal::Sampler)?;
    if new.len() < wanted {
        // The space ends here: what would have been for new points is given out again.
        assignments = assign(Some(new.len()));
    }
    let mut new = new.into_iter();
    let mut proposals = Vec::with_capacity(assignments.len());
    for (ordinal, assignment) in (ledger.next_ordinal()..).zip(assignments) {
        let (mut point, configuration, sampled) = match assignment.subject {
            Subject::New => match new.next() {
                Some(point) => (point, Some(ordinal), true),
                None => break,
            },
            Subject::Known(point, configuration) => (point, configuration, false),
            Subject::Variant(point) => (point, Some(ordinal), false),
        };
        point.retain(|key| !protocol::point::is_reserved(key));
        let mut reserve =
            |name: &str, value: serde_json::Value| point.insert(&format!("{RESERVED_PREFIX}{name}"), value);
        reserve("n", ordinal.into());
        if let Some(configuration) = configuration {
            reserve("c", configuration.into());
        }
        for (name, value) in assignment.tags {
            // Whoever stops itself takes small losses for good ones.
            if name != "stop" || search.mode == Mode::Min {
                reserve(name, value);
            }
        }
        if let Some(from) = assignment.from {
            reserve("from", from.into());
        }
        point.insert(&fidelity.key(), fidelity.value(assignment.resource));
        proposals.push(Proposal {
            point,
            explanation: assignment.explanation,
            sampled,
        });
    }
    Ok((proposals, history))
}
