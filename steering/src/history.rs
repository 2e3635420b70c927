//! The history of one search, in a form that does not depend on how it arrived.
//!
//! Nothing promises that the points of a steering input come in the order in which they were made, so nothing here may depend on
//! it. When every point carries its ordinal (`hpo.n`), the ordinals are the order. Otherwise the order is that of the values
//! of the points: a permuted history is the same history.

mod glimpses;
mod related;

use std::cmp::Ordering;
use std::sync::Arc;

use protocol::limits::RESERVED_PREFIX;
use protocol::steering::{FailureKind, HistoryEntry};
use protocol::{Loss, Outcome, Point, PointValue};
use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::numerics::side_by_side::in_runs;
use crate::objectives::Objectives;
use crate::space::{Coordinate, Space};

pub(crate) use glimpses::{Glimpse, Glimpses};
pub use related::Related;

/// Points that are worth a thread.
const LEAST: usize = 2_000;

/// Which end of the losses is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Small losses.
    #[default]
    Min,
    /// Large ones; they are negated when read.
    Max,
}

/// What a search is after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// The loss.
    Loss(Mode),
    /// Named losses.
    Objectives(Objectives),
}

/// A point with its outcome, as samplers see it.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What the point says about each dimension; `None` also where a foreign point has nothing that fits.
    pub coordinates: Vec<Option<Coordinate>>,
    /// The outcome; smaller losses are better whatever the mode.
    pub outcome: Outcome,
    /// Whether the failure tells something about the point.
    pub blamed: bool,
    /// With several objectives, the losses of an evaluated point, all of them to be minimised; else nothing.
    pub(crate) losses: Vec<f64>,
    /// How long the evaluation took, in seconds above 0, if that is known.
    pub seconds: Option<f64>,
    number: Option<u64>,
    identity: Identity,
}

/// What orders points that carry no numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    /// The key of a point of the space.
    Own(Arc<[u64]>),
    /// The canonical JSON of any other.
    Foreign(String),
}

/// All points of a search with their outcomes.
#[derive(Debug, Clone)]
pub struct History {
    observations: Vec<Observation>,
    numbered: bool,
    taken: FxHashSet<Arc<[u64]>>,
    planned: Option<usize>,
    thrift: f64,
    related: Vec<Related>,
    objectives: usize,
    glimpses: Glimpses,
}

impl History {
    /// Puts the entries of one segment in order.
    #[must_use]
    pub fn new<'a>(space: &Space, entries: impl IntoIterator<Item = &'a HistoryEntry>, mode: Mode) -> Self {
        Self::towards(space, entries, &Goal::Loss(mode))
    }

    /// The same for any goal.
    #[must_use]
    pub fn towards<'a>(space: &Space, entries: impl IntoIterator<Item = &'a HistoryEntry>, goal: &Goal) -> Self {
        let entries: Vec<&HistoryEntry> = entries.into_iter().collect();
        let mut observations = in_runs(entries.len(), LEAST, |place| {
            let entry = entries[place];
            let Judged {
                outcome,
                blamed,
                losses,
            } = goal.judge(entry);
            Observation {
                losses,
                seconds: seconds(entry),
                ..observation(space, entry.input.point(), outcome, blamed)
            }
        });
        let mut numbers: Vec<Option<u64>> = observations.iter().map(|observation| observation.number).collect();
        numbers.sort_unstable();
        let numbered = !numbers.is_empty() && numbers[0].is_some() && numbers.windows(2).all(|pair| pair[0] < pair[1]);
        if !numbered {
            for observation in &mut observations {
                observation.number = None;
            }
        }
        Self {
            objectives: goal.objectives(),
            ..Self::of(observations, numbered)
        }
    }

    /// Points in the order of their numbers, which are those of their places.
    pub(crate) fn numbered<'a>(space: &Space, points: impl IntoIterator<Item = (&'a Point, Outcome, bool)>) -> Self {
        let observations: Vec<Observation> = points
            .into_iter()
            .zip(0..)
            .map(|((point, outcome, blamed), number)| Observation {
                number: Some(number),
                ..observation(space, point, outcome, blamed)
            })
            .collect();
        Self::of(observations, true)
    }

    fn of(observations: Vec<Observation>, numbered: bool) -> Self {
        let mut taken = FxHashSet::with_capacity_and_hasher(observations.len(), FxBuildHasher);
        taken.extend(observations.iter().filter_map(Observation::key).cloned());
        Self {
            observations: sorted(observations),
            numbered,
            taken,
            related: Vec::new(),
            objectives: 1,
            thrift: 0.0,
            planned: None,
            glimpses: Glimpses::default(),
        }
    }

    /// Says how far the points were trained, and what they lost on the way; positions are those of the observations.
    pub(crate) fn with_glimpses(mut self, glimpses: Glimpses) -> Self {
        self.glimpses = glimpses;
        self
    }

    /// How far the points were trained, and what they lost on the way; nothing if all were trained alike.
    pub(crate) fn glimpses(&self) -> &Glimpses {
        &self.glimpses
    }

    /// Says how many points the search will have in all.
    #[must_use]
    pub fn with_planned(mut self, planned: Option<usize>) -> Self {
        self.planned = planned;
        self
    }

    /// Points that the search will have in all, those of `observations` included; nothing if there is no limit.
    #[must_use]
    pub fn planned(&self) -> Option<usize> {
        self.planned
    }

    /// How much the length of evaluations counts: 0 not at all, 1 as much as the improvement that is expected of them.
    #[must_use]
    pub fn thrift(&self) -> f64 {
        self.thrift
    }

    /// From now on the length of evaluations counts, by `thrift` between 0 and 1.
    pub fn weigh_seconds(&mut self, thrift: f64) {
        self.thrift = thrift.clamp(0.0, 1.0);
    }

    /// Lets the search learn from others, of which those that taught nothing are left out.
    pub fn relate(&mut self, others: impl IntoIterator<Item = Related>) {
        self.related
            .extend(others.into_iter().filter(|other| !other.is_empty()));
    }

    /// The searches to learn from.
    #[must_use]
    pub fn related(&self) -> &[Related] {
        &self.related
    }

    /// Number of objectives.
    #[must_use]
    pub fn objectives(&self) -> usize {
        self.objectives
    }

    /// This history, and those related to it, with one number as the loss of each evaluated point, made of its losses.
    pub(crate) fn with_losses(&self, scalars: impl Fn(&[&[f64]]) -> Vec<f64>) -> Self {
        let mut history = self.clone();
        history.objectives = 1;
        let evaluated = |observation: &&mut Observation| observation.outcome.loss().is_some();
        let losses: Vec<&[f64]> = (self.observations.iter())
            .filter(|observation| observation.outcome.loss().is_some())
            .map(|observation| observation.losses.as_slice())
            .collect();
        let numbers = scalars(&losses);
        for (observation, number) in history.observations.iter_mut().filter(evaluated).zip(numbers) {
            observation.outcome = outcome_of(number);
        }
        for related in &mut history.related {
            *related = related.with_losses(&scalars);
        }
        history
    }

    /// The observations, oldest first if the points are numbered, else in canonical order.
    #[must_use]
    pub fn observations(&self) -> &[Observation] {
        &self.observations
    }

    /// Number of points, foreign ones included; also the ordinal of the next point.
    #[must_use]
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// Whether there are no points yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// The ordinal of the next point: one above all others where points are numbered, else their count.
    #[must_use]
    pub fn next_ordinal(&self) -> u64 {
        match self.observations.last() {
            Some(Observation { number: Some(last), .. }) => (last + 1).max(self.len() as u64),
            _ => self.len() as u64,
        }
    }

    /// Whether the order is that in which the points were made.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.numbered
    }

    /// From now on every new point gets its ordinal, provided that the points so far have theirs.
    pub fn number_points(&mut self) {
        self.numbered |= self.is_empty();
    }

    /// Number of points without an outcome.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.observations
            .iter()
            .filter(|observation| observation.outcome == Outcome::Pending)
            .count()
    }

    /// Whether a point with these coordinates is known, evaluated or not.
    #[must_use]
    pub fn is_taken(&self, space: &Space, coordinates: &[Option<Coordinate>]) -> bool {
        space
            .fingerprint(coordinates)
            .is_some_and(|key| self.taken.contains(&key))
    }

    /// Gives a new point the next ordinal, if the others have one.
    pub fn number(&self, point: &mut Point) {
        if self.numbered {
            point.insert(&format!("{RESERVED_PREFIX}n"), self.next_ordinal());
        }
    }

    /// Adds a point that was just suggested, and numbered.
    pub fn push(&mut self, space: &Space, point: &Point) {
        let mut new = observation(space, point, Outcome::Pending, false);
        if !self.numbered {
            new.number = None;
        }
        self.taken.extend(new.key().cloned());
        let place = self
            .observations
            .partition_point(|other| order(other, &new) == Ordering::Less);
        self.observations.insert(place, new);
    }
}

impl Observation {
    /// The key under which equal points are found; nothing for a point that is not of this space.
    pub(crate) fn key(&self) -> Option<&Arc<[u64]>> {
        match &self.identity {
            Identity::Own(key) => Some(key),
            Identity::Foreign(_) => None,
        }
    }
}

fn observation(space: &Space, point: &Point, outcome: Outcome, blamed: bool) -> Observation {
    let number = point
        .reserved("n")
        .and_then(PointValue::as_u64)
        .filter(|number| *number < 1 << 53);
    let coordinates = space.encode(point);
    let identity = space
        .fingerprint(&coordinates)
        .map_or_else(|| Identity::Foreign(point.identity()), Identity::Own);
    Observation {
        coordinates,
        outcome,
        blamed,
        losses: Vec::new(),
        seconds: None,
        number,
        identity,
    }
}

/// What an entry says.
struct Judged {
    outcome: Outcome,
    blamed: bool,
    losses: Vec<f64>,
}

impl Goal {
    /// Whether the first or only objective is to be made large.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Self::Loss(mode) => *mode,
            Self::Objectives(objectives) => objectives.all()[0].mode,
        }
    }

    fn objectives(&self) -> usize {
        match self {
            Self::Loss(_) => 1,
            Self::Objectives(objectives) => objectives.all().len(),
        }
    }

    fn judge(&self, entry: &HistoryEntry) -> Judged {
        let (outcome, blamed) = (outcome(entry, Mode::Min), blamed(entry));
        match (self, outcome) {
            (Self::Loss(mode), _) => Judged {
                outcome: self::outcome(entry, *mode),
                blamed,
                losses: Vec::new(),
            },
            (Self::Objectives(objectives), Outcome::Done { .. }) => match objectives.losses(entry) {
                Some(losses) => Judged {
                    outcome: outcome_of(losses[0]),
                    blamed,
                    losses,
                },
                // An evaluation that did not say is not to blame.
                None => Judged {
                    outcome: Outcome::Failed,
                    blamed: false,
                    losses: Vec::new(),
                },
            },
            (Self::Objectives(_), outcome) => Judged {
                outcome,
                blamed,
                losses: Vec::new(),
            },
        }
    }
}

/// A number as an outcome.
fn outcome_of(number: f64) -> Outcome {
    Loss::new(number).map_or(Outcome::Failed, |loss| Outcome::Done { loss })
}

/// The outcome of an entry, small losses being good ones.
pub(crate) fn outcome(entry: &HistoryEntry, mode: Mode) -> Outcome {
    let status = entry.meta.as_ref().and_then(|meta| meta.status.as_deref());
    match (entry.outcome, status, mode) {
        (_, Some("failed"), _) => Outcome::Failed,
        (Outcome::Done { loss }, _, Mode::Max) => {
            Loss::new(-loss.get()).map_or(Outcome::Failed, |loss| Outcome::Done { loss })
        }
        (outcome, _, _) => outcome,
    }
}

/// A lost node says nothing about the point that it was evaluating.
pub(crate) fn blamed(entry: &HistoryEntry) -> bool {
    entry.meta.as_ref().and_then(|meta| meta.failure) != Some(FailureKind::Infrastructure)
}

/// Times that are not above zero were not measured.
fn seconds(entry: &HistoryEntry) -> Option<f64> {
    let seconds = entry.meta.as_ref()?.seconds?;
    (seconds > 0.0 && seconds.is_finite()).then_some(seconds)
}

/// In the order of [`order`], found for places first: an observation is large.
fn sorted(mut observations: Vec<Observation>) -> Vec<Observation> {
    let mut places: Vec<usize> = (0..observations.len()).collect();
    places.sort_by(|left, right| order(&observations[*left], &observations[*right]));
    for place in 0..places.len() {
        // Whoever belongs here was moved on by the exchanges at the places before, from each to the one where it was needed.
        let mut from = places[place];
        while from < place {
            from = places[from];
        }
        observations.swap(place, from);
        places[place] = from;
    }
    observations
}

/// By number, else by content; equal points (evaluated twice) by outcome, so that their order is always the same.
fn order(left: &Observation, right: &Observation) -> Ordering {
    let rank = |observation: &Observation| match observation.outcome {
        Outcome::Done { loss } => (0, loss.get()),
        Outcome::Failed => (1, 0.0),
        Outcome::Pending => (2, 0.0),
    };
    let ((left_kind, left_loss), (right_kind, right_loss)) = (rank(left), rank(right));
    (left.number.cmp(&right.number))
        .then_with(|| left.identity.cmp(&right.identity))
        .then_with(|| left_kind.cmp(&right_kind))
        .then_with(|| left_loss.total_cmp(&right_loss))
        .then_with(|| left.blamed.cmp(&right.blamed))
        .then_with(|| left.seconds.unwrap_or(0.0).total_cmp(&right.seconds.unwrap_or(0.0)))
        .then_with(|| compare(&left.losses, &right.losses))
}

/// By the first number that differs.
fn compare(left: &[f64], right: &[f64]) -> Ordering {
    let unequal = left
        .iter()
        .zip(right)
        .map(|(a, b)| a.total_cmp(b))
        .find(|order| order.is_ne());
    unequal.unwrap_or(Ordering::Equal)
}
