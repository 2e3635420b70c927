//! One whole call of steering: from search space and history to new points, for one search or for all segments of a task.

mod scheduled;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use protocol::error::pointer;
use protocol::search_space::{SearchSpace, SpaceDocument};
use protocol::steering::{HistoryEntry, SteeringInput};
use protocol::{EvaluationInput, Outcome, Point, Problem, SegmentId, json};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::history::{Goal, History, Mode, Related};
use crate::objectives::{self, Objectives, ObjectivesError};
use crate::registry::SetupError;
use crate::rng::Key;
use crate::samplers::{Entry, Registry, Sampler, SuggestError};
use crate::schedulers::Schedule;
use crate::space::Space;

pub(crate) use scheduled::scheduled;

/// The sampler when none is named.
pub const DEFAULT_SAMPLER: &str = "auto";

/// Other segments that a segment learns from, at most.
const NEIGHBOURS: usize = 40;

/// What is asked for.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Request {
    /// Name of the sampler.
    pub sampler: String,
    /// Settings of the sampler, as `(name, value)`.
    pub settings: Vec<(String, String)>,
    /// Who decides how far points are trained; `None`: all in full.
    pub schedule: Option<Schedule>,
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
    /// Let every segment learn from the others.
    pub transfer: bool,
    /// Histories of earlier tasks to learn from, each maybe of several segments.
    pub earlier: Vec<SteeringInput>,
    /// What to make small or large instead of the loss; `mode` does not count then.
    pub objectives: Option<Objectives>,
    /// Prefer points whose evaluation is expected to be short, as `seconds` in the history tell.
    pub cost_aware: bool,
}

impl Request {
    /// A request for `count` points from the default sampler.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        Self {
            sampler: DEFAULT_SAMPLER.into(),
            settings: Vec::new(),
            schedule: None,
            count,
            max_points: None,
            seed,
            task: String::new(),
            mode: Mode::Min,
            subtract_pending: false,
            number_points: false,
            transfer: false,
            earlier: Vec::new(),
            objectives: None,
            cost_aware: false,
        }
    }

    /// What the search is after.
    #[must_use]
    pub fn goal(&self) -> Goal {
        self.objectives.clone().map_or(Goal::Loss(self.mode), Goal::Objectives)
    }
}

/// Why there are no new points.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The sampler could not be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The sampler takes no account of how long evaluations are.
    #[error("the sampler `{sampler}` takes no account of seconds: leave `--cost-aware` out, or choose `auto` or `gp`")]
    CostBlind {
        /// The sampler.
        sampler: &'static str,
    },
    /// The sampler learns nothing from other searches.
    #[error(
        "the sampler `{sampler}` learns from its own search alone; leave `--transfer` and `--warm` out, or choose one of {able}"
    )]
    Unteachable {
        /// The sampler.
        sampler: &'static str,
        /// The samplers that do.
        able: String,
    },
    /// The sampler needs losses that stay what they are.
    #[error(
        "the sampler `{sampler}` cannot search for several objectives, whose weights change from point to point; leave all but one \
         out, or choose one of {able}"
    )]
    OneObjective {
        /// The sampler.
        sampler: &'static str,
        /// The samplers that can.
        able: String,
    },
    /// A scheduler compares points by one loss.
    #[error("a scheduler compares points by their loss alone; leave `--objectives` or `--scheduler` out")]
    ScheduledObjectives,
    /// The history does not have the losses that are asked for.
    #[error(transparent)]
    Objectives(#[from] ObjectivesError),
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
    let (entry, sampler) = sampler(&registry, request)?;
    let mut answer = Vec::new();
    if let Some(schedule) = &request.schedule {
        for (turn, proposals) in scheduled(document, input, request, schedule)? {
            for proposal in proposals {
                answer.push(acceptable(turn.segment, proposal.point)?);
            }
        }
        return Ok(answer);
    }
    for turn in turns(document, input, request, entry.name)? {
        let segment = turn.segment;
        let points = (turn.suggest(sampler.as_ref())).map_err(|reason| AskError::Suggest { segment, reason })?;
        for point in points {
            answer.push(acceptable(segment, point)?);
        }
    }
    Ok(answer)
}

/// A new point in its segment, if it can travel.
fn acceptable(segment: Option<SegmentId>, point: Point) -> Result<EvaluationInput, AskError> {
    let problems = point.problems();
    if problems.is_empty() {
        Ok(EvaluationInput::new(segment, point))
    } else {
        Err(AskError::Point { segment, problems })
    }
}

/// The sampler of a request, which it must be able to do.
pub(crate) fn sampler<'a>(
    registry: &'a Registry,
    request: &Request,
) -> Result<(&'a Entry, Box<dyn Sampler>), AskError> {
    let (entry, sampler) = registry.build(&request.sampler, &request.settings)?;
    if request.cost_aware && !sampler.weighs_seconds() {
        return Err(AskError::CostBlind { sampler: entry.name });
    }
    if (request.transfer || !request.earlier.is_empty()) && !sampler.learns_from_others() {
        return Err(AskError::Unteachable {
            sampler: entry.name,
            able: able(registry, |sampler| sampler.learns_from_others()),
        });
    }
    let several = request
        .objectives
        .as_ref()
        .is_some_and(|objectives| objectives.all().len() > 1);
    if several && !sampler.bears_changing_losses() {
        return Err(AskError::OneObjective {
            sampler: entry.name,
            able: able(registry, |sampler| sampler.bears_changing_losses()),
        });
    }
    Ok((entry, sampler))
}

/// The names of the samplers that can do something.
fn able(registry: &Registry, can: impl Fn(&dyn Sampler) -> bool) -> String {
    let able = registry.entries().filter(|entry| {
        let built = registry.build(entry.name, &[]);
        built.is_ok_and(|(_, sampler)| can(sampler.as_ref()))
    });
    able.map(|entry| entry.name).collect::<Vec<_>>().join(", ")
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

impl Turn {
    /// The next points.
    pub(crate) fn suggest(&self, sampler: &dyn Sampler) -> Result<Vec<Point>, SuggestError> {
        objectives::suggest(sampler, &self.space, &self.history, self.count, self.key)
    }
}

/// The turns of all segments, in their order.
pub(crate) fn turns(
    document: &SpaceDocument,
    input: &SteeringInput,
    request: &Request,
    algorithm: &str,
) -> Result<Vec<Turn>, AskError> {
    if let Some(objectives) = &request.objectives {
        objectives.check(&input.points)?;
    }
    let goal = request.goal();
    let searches = searches(document, input)?;
    let total = searches.len();
    let turn = |(rank, search): (usize, &Search<'_>)| {
        let (count, _) = allowance(request, &search.entries, rank, total);
        let planned = share(request, rank, total);
        let mut history = History::towards(&search.space, search.entries(), &goal).with_planned(planned);
        if request.number_points {
            history.number_points();
        }
        if request.cost_aware {
            history.weigh_seconds(thrift(request, &history, rank, total));
        }
        history.relate(related(search, &searches, rank, request, &goal, |_| true));
        Turn {
            segment: search.segment,
            count,
            key: key(request, search.segment, algorithm),
            space: search.space.clone(),
            history,
        }
    };
    Ok(searches.iter().enumerate().map(turn).collect())
}

/// What the search number `rank` may learn from; of the other segments, the entries that satisfy `keep`.
fn related(
    search: &Search<'_>,
    searches: &[Search<'_>],
    rank: usize,
    request: &Request,
    goal: &Goal,
    keep: impl Fn(&HistoryEntry) -> bool,
) -> Vec<Related> {
    let mut related: Vec<Related> = (request.earlier.iter())
        .flat_map(by_segment)
        .map(|entries| Related::new(&search.space, entries, goal))
        .collect();
    if request.transfer {
        // Of very many segments, those with most points; of equals those that follow in the circle, so that all serve alike.
        let mut others: Vec<usize> = (1..searches.len()).map(|step| (rank + step) % searches.len()).collect();
        others.sort_by_key(|other| Reverse(searches[*other].entries.len()));
        others.truncate(NEIGHBOURS);
        related.extend(others.into_iter().map(|other| {
            let entries = searches[other].entries().filter(|entry| keep(entry));
            Related::new(&search.space, entries, goal)
        }));
    }
    related
}

/// The entries of an earlier task, apart by segment.
pub(crate) fn by_segment(input: &SteeringInput) -> Vec<Vec<&HistoryEntry>> {
    let mut segments: BTreeMap<Option<SegmentId>, Vec<&HistoryEntry>> = BTreeMap::new();
    for entry in &input.points {
        segments.entry(entry.input.segment()).or_default().push(entry);
    }
    segments.into_values().collect()
}

fn key(request: &Request, segment: Option<SegmentId>, algorithm: &str) -> Key {
    Key::new(request.seed, &request.task, segment.map(|id| id.0), algorithm)
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
    /// The points, each with its place in the steering input.
    entries: Vec<(usize, &'a HistoryEntry)>,
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
            search.entries.push((index, entry));
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

impl<'a> Search<'a> {
    fn entries(&self) -> impl Iterator<Item = &'a HistoryEntry> {
        self.entries.iter().map(|(_, entry)| *entry)
    }
}

/// Seconds count fully at the beginning and no more at the end, when it is quality that is still wanted; without an end, always
/// fully.
///
/// E. H. Lee and others, *Cost-aware Bayesian optimization* (2020), section 3.3, with points in the place of seconds: how many
/// seconds there are nobody says.
fn thrift(request: &Request, history: &History, rank: usize, total: usize) -> f64 {
    match share(request, rank, total) {
        Some(share) => 1.0 - history.len() as f64 / share.max(1) as f64,
        None => 1.0,
    }
}

/// The points of the whole search that are for the segment number `rank` of `total`.
fn share(request: &Request, rank: usize, total: usize) -> Option<usize> {
    (request.max_points).map(|all| all / total + usize::from(rank < all % total))
}

/// How many points the segment number `rank` of `total` gets: what was asked for, less pending ones if they are to be subtracted,
/// within its share of the points that the search has left. And that share, if the search has an end.
fn allowance(
    request: &Request,
    entries: &[(usize, &HistoryEntry)],
    rank: usize,
    total: usize,
) -> (usize, Option<usize>) {
    let is_pending = |(_, entry): &&(usize, &HistoryEntry)| entry.outcome == Outcome::Pending;
    let pending = if request.subtract_pending {
        entries.iter().filter(is_pending).count()
    } else {
        0
    };
    let left = share(request, rank, total).map(|share| share.saturating_sub(entries.len()));
    let count = request.count.saturating_sub(pending).min(left.unwrap_or(usize::MAX));
    (count, left)
}
