//! One whole call of steering: from search space and history to new points, for one search or for all segments of a task.

use protocol::error::pointer;
use protocol::search_space::{SearchSpace, SpaceDocument};
use protocol::steering::{HistoryEntry, SteeringInput};
use protocol::{EvaluationInput, Problem, SegmentId, json};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::history::{History, Mode};
use crate::rng::Key;
use crate::samplers::{Registry, SetupError, SuggestError};
use crate::space::Space;

/// The sampler when none is named.
pub const DEFAULT_SAMPLER: &str = "auto";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name of the sampler.
    pub sampler: String,
    /// Settings of the sampler, as `(name, value)`.
    pub settings: Vec<(String, String)>,
    /// Most new points, for each segment.
    pub count: usize,
    /// Points of the whole search; all segments together, as phpo counts. `None`: no limit.
    pub max_points: Option<usize>,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Name of the task; tasks with different names draw different numbers.
    pub task: String,
    /// Which losses are good.
    pub mode: Mode,
    /// Return fewer points by the number of pending ones (of the segment), as hpogrid does.
    pub subtract_pending: bool,
    /// Give every point its ordinal as `hpo.n`, from the first on.
    pub number_points: bool,
}

impl Request {
    /// A request for `count` points from the default sampler.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        Self {
            sampler: DEFAULT_SAMPLER.into(),
            settings: Vec::new(),
            count,
            max_points: None,
            seed,
            task: String::new(),
            mode: Mode::Min,
            subtract_pending: false,
            number_points: false,
        }
    }
}

/// Why there are no new points.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The sampler could not be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The search space has faults; the pointers are those of the search-space document.
    #[error("the search space cannot be laid out: {}", list(.0))]
    Space(Vec<Problem>),
    /// The history has faults; the pointers are those of the steering input.
    #[error("the history does not belong to the search space: {}", list(.0))]
    History(Vec<Problem>),
    /// The sampler cannot work on this space.
    #[error("{}{reason}", place(*.segment))]
    Suggest {
        /// The segment, if there are any.
        segment: Option<SegmentId>,
        /// The reason.
        reason: SuggestError,
    },
    /// A point could not travel.
    #[error("{}a new point is not acceptable: {}", place(*.segment), list(.problems))]
    Point {
        /// The segment, if there are any.
        segment: Option<SegmentId>,
        /// The faults of the point.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn place(segment: Option<SegmentId>) -> String {
    segment.map_or_else(String::new, |id| format!("segment {id}: "))
}

/// The next points, in the order of the segments. None at all mean that the search is over: its points are used up, or its space
/// is.
///
/// # Errors
/// [`AskError`]; then there are no points for any segment.
pub fn ask(
    document: &SpaceDocument,
    input: &SteeringInput,
    request: &Request,
) -> Result<Vec<EvaluationInput>, AskError> {
    let registry = Registry::standard();
    let (entry, sampler) = registry.build(&request.sampler, &request.settings)?;
    let mut answer = Vec::new();
    for turn in turns(document, input, request, entry.name)? {
        let segment = turn.segment;
        let points = sampler
            .suggest(&turn.space, &turn.history, turn.count, turn.key)
            .map_err(|reason| AskError::Suggest { segment, reason })?;
        for point in points {
            let problems = point.problems();
            if !problems.is_empty() {
                return Err(AskError::Point { segment, problems });
            }
            answer.push(EvaluationInput::new(segment, point));
        }
    }
    Ok(answer)
}

/// What a sampler is given, for one segment.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) segment: Option<SegmentId>,
    pub(crate) space: Space,
    pub(crate) history: History,
    pub(crate) count: usize,
    pub(crate) key: Key,
}

/// The turns of all segments, in their order.
pub(crate) fn turns(
    document: &SpaceDocument,
    input: &SteeringInput,
    request: &Request,
    algorithm: &str,
) -> Result<Vec<Turn>, AskError> {
    let searches = searches(document, input)?;
    let total = searches.len();
    let turn = |(rank, search): (usize, Search<'_>)| {
        let planned = planned(request, rank, total);
        let mut history = History::new(&search.space, search.entries, request.mode).with_planned(planned);
        if request.number_points {
            history.number_points();
        }
        Turn {
            segment: search.segment,
            count: allowance(request, &history),
            key: Key::new(request.seed, &request.task, search.segment.map(|id| id.0), algorithm),
            space: search.space,
            history,
        }
    };
    Ok(searches.into_iter().enumerate().map(turn).collect())
}

/// The seed of a search whose user gave none: a hash of its search space. Not zero for everybody, and the same in every call.
#[must_use]
pub fn seed_of(document: &Value) -> u64 {
    let digest = Sha256::digest(json::canonical(document).as_bytes());
    digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// The spaces of a document, encoded.
///
/// # Errors
/// All faults, with pointers into the document.
pub fn spaces(document: &SpaceDocument) -> Result<Vec<(Option<SegmentId>, Space)>, Vec<Problem>> {
    let parts: Vec<(Option<SegmentId>, String, &SearchSpace)> = match document {
        SpaceDocument::Single(space) => vec![(None, String::new(), space)],
        SpaceDocument::Segmented(spaces) => spaces
            .iter()
            .enumerate()
            .map(|(index, (id, space))| (Some(*id), pointer(&pointer("", index), "search_space"), space))
            .collect(),
    };
    let mut encoded = Vec::with_capacity(parts.len());
    let mut problems = Vec::new();
    for (segment, prefix, space) in parts {
        match Space::new(space) {
            Ok(space) => encoded.push((segment, space)),
            Err(faults) => problems.extend(faults.into_iter().map(|fault| fault.below(&prefix))),
        }
    }
    if problems.is_empty() {
        Ok(encoded)
    } else {
        Err(problems)
    }
}

struct Search<'a> {
    segment: Option<SegmentId>,
    space: Space,
    entries: Vec<&'a HistoryEntry>,
}

fn searches<'a>(document: &SpaceDocument, input: &'a SteeringInput) -> Result<Vec<Search<'a>>, AskError> {
    let mut searches: Vec<Search<'a>> = spaces(document)
        .map_err(AskError::Space)?
        .into_iter()
        .map(|(segment, space)| Search {
            segment,
            space,
            entries: Vec::new(),
        })
        .collect();
    let mut problems = Vec::new();
    for (index, entry) in input.points.iter().enumerate() {
        let segment = entry.input.segment();
        if let Some(search) = searches.iter_mut().find(|search| search.segment == segment) {
            search.entries.push(entry);
        } else if problems.len() < 20 {
            let message = match segment {
                None => "expected the pair [model_id, point], since the search space has segments, found a point alone"
                    .to_owned(),
                Some(id) if matches!(document, SpaceDocument::Single(_)) => {
                    format!("expected a point alone, since the search space has no segments, found one of segment {id}")
                }
                Some(id) => format!("no segment of the search space has the model_id {id}"),
            };
            problems.push(Problem::new(pointer(&pointer("/points", index), 0), message));
        }
    }
    if problems.is_empty() {
        Ok(searches)
    } else {
        Err(AskError::History(problems))
    }
}

/// How many points the segment number `rank` of `total` is to have in all.
fn planned(request: &Request, rank: usize, total: usize) -> Option<usize> {
    let all = request.max_points?;
    Some(all / total + usize::from(rank < all % total))
}

/// How many points a segment gets: what was asked for, less pending ones if they are to be subtracted, within what it has left.
fn allowance(request: &Request, history: &History) -> usize {
    let pending = if request.subtract_pending { history.pending() } else { 0 };
    let left = history
        .planned()
        .map_or(usize::MAX, |planned| planned.saturating_sub(history.len()));
    request.count.saturating_sub(pending).min(left)
}
