//! A call of steering under a scheduler.

use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;

use super::{AskError, Request, Turn, allowance, key, related, searches};
use crate::history::Goal;
use crate::samplers::Registry;
use crate::schedulers::{self, Deciders, Proposal, Refusal, Schedule, Search, suggest};

/// The proposals for all segments, each list with what the sampler was shown.
pub(crate) fn scheduled(
    document: &SpaceDocument,
    input: &SteeringInput,
    request: &Request,
    schedule: &Schedule,
) -> Result<Vec<(Turn, Vec<Proposal>)>, AskError> {
    if request.objectives.is_some() {
        return Err(AskError::ScheduledObjectives);
    }
    let registry = Registry::standard();
    let (entry, sampler) = super::sampler(&registry, request)?;
    let scheduler = schedulers::Registry::standard().build(schedule)?;
    let deciders = Deciders {
        scheduler: scheduler.as_ref(),
        sampler: sampler.as_ref(),
        fidelity: schedule.fidelity,
    };
    let searches = searches(document, input)?;
    let total = searches.len();
    let mut turns = Vec::with_capacity(total);
    for (rank, search) in searches.iter().enumerate() {
        let segment = search.segment;
        let (count, left) = allowance(request, &search.entries, rank, total);
        let key = key(request, segment, entry.name);
        let (proposals, history) = {
            let search = Search {
                space: &search.space,
                entries: &search.entries,
                mode: request.mode,
                key,
                left,
                related: related(search, &searches, rank, request, &Goal::Loss(request.mode), |entry| {
                    schedule.fidelity.of(entry.input.point()) == Some(schedule.fidelity.full())
                }),
            };
            suggest(deciders, search, count).map_err(|refusal| match refusal {
                Refusal::History(problems) => AskError::History(problems),
                Refusal::Scheduler(error) => AskError::Setup(error),
                Refusal::Sampler(reason) => AskError::Suggest { segment, reason },
            })?
        };
        let turn = Turn {
            segment,
            space: search.space.clone(),
            history,
            count,
            key,
        };
        turns.push((turn, proposals));
    }
    Ok(turns)
}
