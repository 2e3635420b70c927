//! What was trained how far: the history as schedulers read it.
//!
//! | reserved key | meaning |
//! | --- | --- |
//! | `hpo.n` | ordinal of the point |
//! | `hpo.c` | its configuration: the ordinal of the first point with these hyperparameters |
//! | `hpo.epochs`, `hpo.frac` | what it is granted in total |
//! | `hpo.r`, `hpo.b` | rung and bracket |
//! | `hpo.m`, `hpo.g` | member and generation of a population |
//! | `hpo.from` | ordinal of the point from whose checkpoint it may go on |
//!
//! A point without any of them but the first is one of the user's own, trained in full. Only sets of facts count: entries may come
//! in any order and more than once.

use std::cmp::Ordering;
use std::collections::HashMap;

use protocol::PointValue;
use protocol::error::pointer;
use protocol::limits::RESERVED_PREFIX;
use protocol::steering::{HistoryEntry, STOPPED};
use protocol::{Loss, Outcome, Point, Problem};

use super::{Assignment, Fidelity, Subject, Unit};
use crate::history::{self, Mode};
use crate::stopping::Curve;

/// Most faults that are told at once.
const MOST_PROBLEMS: usize = 20;
/// Largest number in a reserved key.
const MOST: u64 = 1 << 53;

/// One point of the history.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Hyperparameters and reserved keys.
    pub point: &'a Point,
    /// Its ordinal, if it has one.
    pub ordinal: Option<u64>,
    /// Its configuration, if a scheduler made it.
    pub configuration: Option<u64>,
    /// What it is granted in total.
    pub resource: u64,
    /// Epochs that it is granted beside a share of the data, if it says so.
    pub epochs: Option<u64>,
    /// Bracket.
    pub bracket: Option<u64>,
    /// Member of a population.
    pub member: Option<u64>,
    /// Generation of a population.
    pub generation: Option<u64>,
    /// Ordinal of the point that it goes on from.
    pub from: Option<u64>,
    /// What became of it; small losses are good whatever the mode.
    pub outcome: Outcome,
    /// Whether a failure tells something about the point.
    pub blamed: bool,
    /// What was reported while it was evaluated, if the manager tells.
    pub curve: Option<Curve>,
    /// Whether it was ended before it had what it was granted.
    pub stopped: bool,
    place: usize,
}

/// All points of a search.
#[derive(Debug)]
pub struct Ledger<'a> {
    records: Vec<Record<'a>>,
    next: u64,
}

/// How far one set of hyperparameters was trained.
#[derive(Debug, Clone)]
pub struct Configuration<'a> {
    /// Its first record.
    pub first: Record<'a>,
    /// What it was granted, rising, by epochs where shares are equal; one stage for each grant.
    pub stages: Vec<Stage>,
}

/// One grant of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// The ordinal of the point.
    pub ordinal: Option<u64>,
    /// What was granted in total.
    pub resource: u64,
    /// Epochs that were granted beside a share of the data.
    pub epochs: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether a failure tells something about the point.
    pub blamed: bool,
}

impl Configuration<'_> {
    /// Adds what its curve tells about these epochs, of which the last is full training. One that was stopped has no loss there.
    pub(super) fn expand(&mut self, rungs: &[u64]) {
        let Some((full, before)) = rungs.split_last() else {
            return;
        };
        let Some(curve) = self.first.curve.clone() else {
            return self.stop_by_table(*full);
        };
        if self.first.outcome == Outcome::Failed {
            return;
        }
        if self.first.stopped {
            self.stages.retain(|stage| stage.resource != *full);
        }
        for rung in before {
            let loss = curve.best(*rung).and_then(Loss::new);
            let place = self.stages.binary_search_by_key(rung, |stage| stage.resource);
            if let (Some(loss), Err(place)) = (loss, place) {
                let stage = Stage {
                    ordinal: self.first.ordinal,
                    resource: *rung,
                    epochs: None,
                    outcome: Outcome::Done { loss },
                    blamed: true,
                };
                self.stages.insert(place, stage);
            }
        }
        if self.stages.is_empty() {
            // Stopped before the first of them: what is known stands for it.
            self.stages.push(Stage {
                ordinal: self.first.ordinal,
                resource: rungs[0],
                epochs: None,
                outcome: self.first.outcome,
                blamed: self.first.blamed,
            });
        }
    }
}

impl Configuration<'_> {
    /// Whoever has a loss above a cutoff of its table has stopped itself there: at the last such epoch, as nobody says where.
    fn stop_by_table(&mut self, full: u64) {
        let table = self.first.point.reserved("stop").and_then(PointValue::as_str);
        let Some(loss) = self.first.outcome.loss() else { return };
        let pair = |part: &str| {
            let (epoch, cutoff) = part.split_once(':')?;
            Some((epoch.parse().ok()?, cutoff.parse().ok()?))
        };
        let cutoffs = table.into_iter().flat_map(|table| table.split(';')).filter_map(pair);
        let violated = cutoffs.filter(|(_, cutoff): &(u64, f64)| loss > *cutoff);
        if let Some((epoch, _)) = violated.max_by_key(|(epoch, _)| *epoch) {
            for stage in self.stages.iter_mut().filter(|stage| stage.resource == full) {
                stage.resource = epoch;
            }
        }
    }
}

impl<'a> Ledger<'a> {
    /// Reads the entries of one segment, each with its place in the steering input.
    ///
    /// # Errors
    /// All faults, with pointers into the steering input.
    pub fn read(
        entries: &[(usize, &'a HistoryEntry)],
        fidelity: &Fidelity,
        mode: Mode,
        check: impl Fn(&Record<'_>) -> Result<(), String>,
    ) -> Result<Self, Vec<Problem>> {
        let mut records = Vec::with_capacity(entries.len());
        let mut problems = Vec::new();
        let keys = Keys::new(fidelity);
        for (place, entry) in entries {
            let read = keys
                .record(*place, entry, mode)
                .and_then(|record| match check(&record) {
                    Err(message) if record.configuration.is_some() || record.member.is_some() => {
                        Err(Problem::new("", message))
                    }
                    _ => Ok(record),
                });
            match read {
                Ok(record) => records.push(record),
                Err(problem) => problems.push(problem.below(&pointer(&pointer("/points", place), 0))),
            }
            if problems.len() == MOST_PROBLEMS {
                break;
            }
        }
        let next = records
            .iter()
            .filter_map(|record| record.ordinal)
            .max()
            .map_or(0, |last| last + 1)
            .max(entries.len() as u64);
        records.sort_by(order);
        problems.extend(merge(&mut records));
        if problems.is_empty() {
            Ok(Self { records, next })
        } else {
            Err(problems)
        }
    }

    /// The records by ordinal, those without one first; no ordinal twice.
    #[must_use]
    pub fn records(&self) -> &[Record<'a>] {
        &self.records
    }

    /// The ordinal of the next point.
    #[must_use]
    pub fn next_ordinal(&self) -> u64 {
        self.next
    }

    /// The points by configuration: the user's own first, then by ordinal of the first point.
    ///
    /// # Errors
    /// Configurations whose points differ in their hyperparameters.
    pub fn configurations(&self) -> Result<Vec<Configuration<'a>>, Vec<Problem>> {
        let mut own: HashMap<u64, usize> = HashMap::new();
        let mut foreign: HashMap<String, usize> = HashMap::new();
        let mut configurations: Vec<Configuration<'a>> = Vec::new();
        let mut problems = Vec::new();
        for record in &self.records {
            let next = configurations.len();
            let position = match record.configuration {
                Some(id) => *own.entry(id).or_insert(next),
                None => *foreign.entry(record.point.identity()).or_insert(next),
            };
            if position == next {
                configurations.push(Configuration {
                    first: record.clone(),
                    stages: Vec::new(),
                });
            } else if !configurations[position].first.point.hyperparameters_equal(record.point) {
                problems.push(Problem::new(
                    pointer(&pointer("/points", record.place), 0),
                    format!(
                        "expected the hyperparameters of the other points with `hpo.c` {}, found others",
                        record.configuration.unwrap_or_default()
                    ),
                ));
                if problems.len() == MOST_PROBLEMS {
                    break;
                }
                continue;
            }
            add_stage(&mut configurations[position].stages, record);
        }
        // Numbers of configurations rise with those of their first points, but a first point may be missing.
        configurations.sort_by_key(|configuration| configuration.first.configuration);
        if problems.is_empty() {
            Ok(configurations)
        } else {
            Err(problems)
        }
    }
}

/// Adds a point that is only being assigned, as one whose evaluation is pending; `nobody` stands for hyperparameters that are not
/// chosen yet.
pub(super) fn add<'a>(
    configurations: &mut Vec<Configuration<'a>>,
    assignment: &Assignment,
    ordinal: u64,
    nobody: &'a Point,
) {
    let tag = |name: &str| assignment.tags.iter().find(|(known, _)| *known == name)?.1.as_u64();
    let mut record = Record {
        point: nobody,
        ordinal: Some(ordinal),
        configuration: Some(ordinal),
        resource: assignment.resource,
        epochs: tag("epochs"),
        bracket: tag("b"),
        member: None,
        generation: None,
        from: assignment.from,
        outcome: Outcome::Pending,
        blamed: false,
        curve: None,
        stopped: false,
        place: 0,
    };
    let known = match &assignment.subject {
        Subject::Known(point, configuration) => {
            record.configuration = *configuration;
            configurations.iter_mut().find(|known| match configuration {
                Some(_) => known.first.configuration == *configuration,
                None => known.first.configuration.is_none() && known.first.point.hyperparameters_equal(point),
            })
        }
        Subject::New | Subject::Variant(_) => None,
    };
    if let Some(known) = known {
        add_stage(&mut known.stages, &record);
    } else {
        let mut stages = Vec::new();
        add_stage(&mut stages, &record);
        configurations.push(Configuration { first: record, stages });
    }
}

/// Of several evaluations for the same grant the first finite loss counts, else a pending one, else a failure.
fn add_stage(stages: &mut Vec<Stage>, record: &Record<'_>) {
    let stage = Stage {
        ordinal: record.ordinal,
        resource: record.resource,
        epochs: record.epochs,
        outcome: record.outcome,
        blamed: record.blamed,
    };
    let rank = |stage: &Stage| match (stage.outcome, stage.blamed) {
        (Outcome::Done { .. }, _) => 0,
        (Outcome::Pending, _) => 1,
        (Outcome::Failed, true) => 2,
        (Outcome::Failed, false) => 3,
    };
    let grant = |stage: &Stage| (stage.resource, stage.epochs);
    match stages.binary_search_by_key(&grant(&stage), grant) {
        Err(place) => stages.insert(place, stage),
        Ok(place) if rank(&stage) < rank(&stages[place]) => stages[place] = stage,
        Ok(_) => {}
    }
}

/// The reserved keys, spelt once for all points of a history.
struct Keys<'f> {
    fidelity: &'f Fidelity,
    grant: String,
    epochs: String,
    ordinal: String,
    configuration: String,
    bracket: String,
    member: String,
    generation: String,
    from: String,
}

impl<'f> Keys<'f> {
    fn new(fidelity: &'f Fidelity) -> Self {
        let key = |name: &str| format!("{RESERVED_PREFIX}{name}");
        Self {
            fidelity,
            grant: fidelity.key(),
            epochs: key("epochs"),
            ordinal: key("n"),
            configuration: key("c"),
            bracket: key("b"),
            member: key("m"),
            generation: key("g"),
            from: key("from"),
        }
    }

    fn record<'a>(&self, place: usize, entry: &'a HistoryEntry, mode: Mode) -> Result<Record<'a>, Problem> {
        let point = entry.input.point();
        let number = |key: &String| match point.get(key) {
            None | Some(PointValue::Null) => Ok(None),
            Some(value) => value.as_u64().filter(|number| *number < MOST).map(Some).ok_or_else(|| {
                Problem::new(
                    pointer("", key),
                    format!("expected a whole number below 2⁵³, found {value}"),
                )
            }),
        };
        let granted = point.get(&self.grant);
        let resource = self.fidelity.granted(granted).ok_or_else(|| {
            let found = granted.unwrap_or(&PointValue::Null);
            Problem::new(
                pointer("", &self.grant),
                format!("expected what a point can be granted, found {found}"),
            )
        })?;
        let meta = entry.meta.as_ref();
        let stopped = meta.is_some_and(|meta| meta.status.as_deref() == Some(STOPPED));
        let outcome = history::outcome(entry, mode);
        let curve = meta.and_then(|meta| meta.curve.as_deref()).map(|reports| {
            let is_finished = outcome.loss().is_some() && !stopped;
            Curve::new(reports, is_finished, mode)
        });
        Ok(Record {
            point,
            ordinal: number(&self.ordinal)?,
            configuration: number(&self.configuration)?,
            resource,
            epochs: match self.fidelity.unit() {
                Unit::Epochs => None,
                Unit::Fraction => number(&self.epochs)?,
            },
            bracket: number(&self.bracket)?,
            member: number(&self.member)?,
            generation: number(&self.generation)?,
            from: number(&self.from)?,
            outcome,
            blamed: history::blamed(entry),
            curve,
            stopped,
            place,
        })
    }
}

/// By ordinal, then by what is known, so that copies stand together with the most telling one first.
fn order(left: &Record<'_>, right: &Record<'_>) -> Ordering {
    let rank = |record: &Record<'_>| match record.outcome {
        Outcome::Done { loss } => (0, loss.get()),
        Outcome::Failed => (1, 0.0),
        Outcome::Pending => (2, 0.0),
    };
    let content = || match left.ordinal {
        // The user's own points have no number: their content orders them.
        None => left.point.identity().cmp(&right.point.identity()),
        Some(_) => Ordering::Equal,
    };
    let ((left_kind, left_loss), (right_kind, right_loss)) = (rank(left), rank(right));
    (left.ordinal.cmp(&right.ordinal))
        .then_with(content)
        .then_with(|| left_kind.cmp(&right_kind))
        .then_with(|| left_loss.total_cmp(&right_loss))
        .then_with(|| right.blamed.cmp(&left.blamed))
}

/// Drops all but the first of records with the same ordinal; they must be of the same point.
fn merge(records: &mut Vec<Record<'_>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    records.dedup_by(|later, first| {
        let same = later.ordinal.is_some() && later.ordinal == first.ordinal;
        if same && !(later.point.hyperparameters_equal(first.point) && later.resource == first.resource) {
            let (low, high) = (later.place.min(first.place), later.place.max(first.place));
            problems.push(Problem::new(
                pointer(&pointer("/points", high), 0),
                format!(
                    "expected a number of its own, found `hpo.n` {} as in `/points/{low}/0`, which is another point",
                    later.ordinal.unwrap_or_default()
                ),
            ));
        }
        same
    });
    problems.truncate(MOST_PROBLEMS);
    problems
}

/// Whether two points agree in all keys but the reserved ones.
trait HyperparametersEqual {
    fn hyperparameters_equal(&self, other: &Self) -> bool;
}

impl HyperparametersEqual for Point {
    fn hyperparameters_equal(&self, other: &Self) -> bool {
        let own = |point: &Self| point.hyperparameters().count();
        own(self) == own(other)
            && self
                .hyperparameters()
                .all(|(key, value)| other.get(key).is_some_and(|found| crate::space::same(value, found)))
    }
}
