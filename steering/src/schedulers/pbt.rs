//! Population-based training: members that copy from better ones and change their hyperparameters while they train.
//!
//! M. Jaderberg and others, *Population based training of neural networks*, arXiv:1711.09846 (2017), section 4: truncation
//! selection, perturbation by 1.2 and 0.8, resampling.
//!
//! A point is one stage of one member: `hpo.m` and `hpo.g` name member and generation, from 0, `hpo.from` the point that it goes on
//! from. After each stage a member is ranked among all that have finished the same generation. One of the worst goes on from one
//! of the best instead of from itself, with hyperparameters that differ a little from that one's; all others go on as they are.
//! Nobody waits: whoever has finished a stage goes on, compared with whom there is by then. A member that failed goes on from
//! another as soon as there is one. When a slot is free and all members are at work, the population grows by one.
//!
//! Without the checkpoint of `hpo.from` an evaluation would have to repeat the whole schedule, so it stands in the point, under
//! `hpo.sched`: `2:rate=0.1;5:rate=0.08` means a rate of 0.1 up to epoch 2 and of 0.08 up to epoch 5. Values are JSON; a stage
//! leaves out the keys that are in it what they are in the point itself. That a point has room for many stages, values that change
//! are rounded to four digits. When there is no room left, copies keep the values of whom they are copied from: that adds no stage,
//! so a schedule is always whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use protocol::PointValue;
use protocol::{Outcome, Point, limits};

use super::{Assignment, Budget, Entry, Fidelity, Plan, PlannedBracket, Record, Scheduler, Situation, Subject, bare};
use crate::explain::Explanation;
use crate::registry::{Setting, Settings, SetupError};
use crate::rng::{Generator, Stream};
use crate::space::{Coordinate, Dimension, Domain, Space};

/// Members with the same generation from which on the worst copy from the best.
const QUORUM: usize = 4;
/// Bytes of a point that are kept for the reserved keys other than the schedule.
const RESERVED_BYTES: usize = 240;
/// Digits behind the first one of values that were changed.
const DIGITS: usize = 3;

pub(super) const ENTRY: Entry = Entry {
    name: "pbt",
    summary: "population-based training: finds schedules, by letting the worst go on from the best with changed values",
    settings: &[
        Setting {
            name: "population",
            default: "16",
            meaning: "members, from 4",
        },
        Setting {
            name: "exploit",
            default: "0.2",
            meaning: "share of the members that copy, and that are copied from, in (0, 0.5]",
        },
        Setting {
            name: "resample",
            default: "0.25",
            meaning: "chance that a copied value is drawn anew instead of changed by a fifth, in [0, 1]",
        },
        Setting {
            name: "frozen",
            default: "",
            meaning: "keys that never change, with commas between: those on which the shape of the model depends",
        },
    ],
    build,
};

fn build(settings: &Settings, fidelity: Fidelity) -> Result<Box<dyn Scheduler>, SetupError> {
    let frozen: String = settings.get("frozen", "keys with commas between", |_| true)?;
    Ok(Box::new(Pbt {
        population: settings.get("population", "an integer from 4", |count| *count >= QUORUM)?,
        exploit: settings.get("exploit", "above 0 and at most 0.5", |share| {
            *share > 0.0 && *share <= 0.5
        })?,
        resample: settings.get("resample", "from 0 to 1", |chance| (0.0..=1.0).contains(chance))?,
        frozen: (frozen
            .split(',')
            .map(str::trim)
            .filter(|key| !key.is_empty())
            .map(str::to_owned))
        .collect(),
        fidelity,
    }))
}

#[derive(Debug)]
struct Pbt {
    population: usize,
    exploit: f64,
    resample: f64,
    frozen: Vec<String>,
    fidelity: Fidelity,
}

/// The newest stage of a member.
#[derive(Debug, Clone, Copy)]
struct Standing<'a> {
    record: &'a Record<'a>,
    generation: u64,
    /// Whether a further stage has just been given out.
    busy: bool,
}

/// Loss, number and newest stage of a member.
type Ranked<'a> = (f64, u64, &'a Record<'a>);

/// The population, as it changes while points are assigned.
struct Population<'a> {
    pbt: &'a Pbt,
    situation: &'a Situation<'a>,
    members: BTreeMap<u64, Standing<'a>>,
    /// Members with a finite loss by generation, best first; and how many finished it, failures included.
    ranking: BTreeMap<u64, (Vec<Ranked<'a>>, usize)>,
    by_ordinal: HashMap<u64, &'a Record<'a>>,
    /// Number of the next new member, and how many have just joined.
    next: u64,
    joined: usize,
    finished: bool,
}

impl Scheduler for Pbt {
    fn assign(&self, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
        let mut population = Population::new(self, situation);
        let mut budget = budget;
        let mut assignments = Vec::new();
        while assignments.len() < count && budget.left != Some(0) {
            let Some(assignment) = population.next(budget) else {
                break;
            };
            budget.left = budget.left.map(|left| left - 1);
            if matches!(assignment.subject, Subject::New) {
                budget.new = budget.new.map(|new| new - 1);
            }
            assignments.push(assignment);
        }
        assignments
    }

    fn plan(&self, configurations: Option<u64>) -> Plan {
        let members = configurations.unwrap_or(self.population as u64);
        let stages = (0..self.generations()).map(|generation| (self.granted(generation), members));
        Plan {
            brackets: vec![PlannedBracket {
                bracket: 0,
                step: None,
                rungs: stages.collect(),
            }],
        }
    }

    fn fits(&self, space: &Space) -> Result<(), SetupError> {
        let is_known = |key: &&String| space.dimensions().iter().any(|dimension| dimension.name == **key);
        match self.frozen.iter().find(|key| !is_known(key)) {
            None => Ok(()),
            Some(key) => Err(SetupError::BadSetting {
                kind: "scheduler",
                owner: ENTRY.name,
                name: "frozen",
                expected: "keys of the search space",
                found: key.clone(),
            }),
        }
    }

    fn check(&self, record: &Record<'_>) -> Result<(), String> {
        let (Some(_), Some(generation)) = (record.member, record.generation) else {
            return Err("expected `hpo.m` and `hpo.g`, found a point of another scheduler".into());
        };
        let expected = self.granted(generation);
        if generation < self.generations() && record.resource == expected {
            return Ok(());
        }
        Err(format!(
            "expected generation {generation} to be granted {}, found {}: the point is of other settings",
            self.fidelity.value(expected),
            self.fidelity.value(record.resource)
        ))
    }
}

impl Pbt {
    /// Stages of a member.
    fn generations(&self) -> u64 {
        self.fidelity.full().div_ceil(self.fidelity.least())
    }

    /// What a generation is granted in total.
    fn granted(&self, generation: u64) -> u64 {
        self.fidelity
            .least()
            .saturating_mul(generation + 1)
            .min(self.fidelity.full())
    }

    /// A point near `point`. All draws are made whether they are needed or not, so that keys do not disturb each other.
    fn explore(&self, space: &Space, point: &Point, generator: &mut Generator) -> Point {
        let mut assignment = space.blank();
        for &position in space.order() {
            let dimension = &space.dimensions()[position];
            let draws = [generator.uniform(), generator.uniform(), generator.uniform()];
            let Some(value) = point.get(&dimension.name) else {
                continue;
            };
            let is_frozen = dimension.is_parent || self.frozen.contains(&dimension.name);
            let value = match dimension.encode(value) {
                Some(coordinate) if !is_frozen => self.change(dimension, coordinate, draws),
                _ => value.clone(),
            };
            assignment.set(position, value);
        }
        space.point(assignment)
    }

    fn change(&self, dimension: &Dimension, old: Coordinate, draws: [f64; 3]) -> PointValue {
        let [which, up, anew] = draws;
        let up = up < 0.5;
        match (&dimension.domain, old) {
            (Domain::Fixed(value), _) => value.clone(),
            (Domain::Numeric(numeric), _) if which < self.resample => {
                let drawn = dimension.at_quantile(anew).as_f64().unwrap_or_default();
                numeric.json(numeric.nearest(rounded(drawn)))
            }
            _ if which < self.resample => dimension.at_quantile(anew),
            (Domain::Numeric(numeric), _) => {
                let value = numeric.json(old).as_f64().unwrap_or_default();
                let new = numeric.nearest(rounded(value * if up { 1.2 } else { 0.8 }));
                match (old, new) {
                    // A fifth of a small integer rounds to nothing; it moves by one step instead.
                    (Coordinate::Step { index, .. }, Coordinate::Step { index: same, .. }) if index == same => {
                        numeric.json(numeric.beside(old, up))
                    }
                    _ => numeric.json(new),
                }
            }
            (Domain::Categorical { categories, .. }, Coordinate::Category(place)) => {
                // Categories that are numbers stand in an order, the others do not.
                let numbers: Option<Vec<f64>> = categories.iter().map(PointValue::as_f64).collect();
                let Some(numbers) = numbers else {
                    return categories[place].clone();
                };
                let is_beyond = |number: f64| {
                    if up {
                        number > numbers[place]
                    } else {
                        number < numbers[place]
                    }
                };
                let distance = |other: usize| (numbers[other] - numbers[place]).abs();
                let nearest = (0..numbers.len())
                    .filter(|other| is_beyond(numbers[*other]))
                    .min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
                categories[nearest.unwrap_or(place)].clone()
            }
            _ => dimension.decode(old),
        }
    }
}

impl<'a> Population<'a> {
    fn new(pbt: &'a Pbt, situation: &'a Situation<'a>) -> Self {
        let mut population = Self {
            pbt,
            situation,
            members: BTreeMap::new(),
            ranking: BTreeMap::new(),
            by_ordinal: HashMap::new(),
            next: 0,
            joined: 0,
            finished: false,
        };
        // Of several evaluations of one stage the first finite one counts; records are in the order of their numbers.
        let mut stages: BTreeMap<(u64, u64), &'a Record<'a>> = BTreeMap::new();
        for record in situation.ledger.records() {
            if let Some(ordinal) = record.ordinal {
                population.by_ordinal.insert(ordinal, record);
            }
            let is_full = record.resource >= pbt.fidelity.full();
            population.finished |= is_full && record.outcome.loss().is_some();
            let (Some(member), Some(generation)) = (record.member, record.generation) else {
                continue;
            };
            let known = stages.entry((member, generation)).or_insert(record);
            if known.outcome.loss().is_none() && record.outcome != Outcome::Failed {
                *known = record;
            }
        }
        for ((member, generation), record) in stages {
            let standing = Standing {
                record,
                generation,
                busy: record.outcome == Outcome::Pending,
            };
            // Generations come in their order.
            population.members.insert(member, standing);
            population.next = population.next.max(member + 1);
            if record.outcome != Outcome::Pending {
                let (ranking, finished) = population.ranking.entry(generation).or_default();
                ranking.extend(record.outcome.loss().map(|loss| (loss, member, record)));
                *finished += 1;
            }
        }
        for (ranking, _) in population.ranking.values_mut() {
            ranking.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        population
    }

    fn next(&mut self, budget: Budget) -> Option<Assignment> {
        let stages = self.pbt.generations() as usize;
        let may_start = budget.new != Some(0);
        if budget.left == Some(1) && !self.finished {
            return self.finish(may_start);
        }
        let draining = budget.left.is_some_and(|left| left < stages);
        if self.members.len() + self.joined < self.pbt.population && may_start && !draining {
            return Some(self.start(None));
        }
        if let Some(member) = self.ready(draining) {
            return Some(self.go_on(member, None));
        }
        let missing = self.members.len() + self.joined < self.pbt.population;
        if missing || self.joined > 0 || self.members.values().any(|standing| standing.busy) || !self.finished {
            return if may_start {
                Some(self.start(None))
            } else {
                self.repeat()
            };
        }
        None
    }

    /// The member to go on: the least advanced, or the most advanced when the end is near.
    fn ready(&self, draining: bool) -> Option<u64> {
        let last = self.pbt.generations() - 1;
        let is_ready = |(_, standing): &(&u64, &Standing<'_>)| {
            let can_go_on = standing.record.outcome.loss().is_some() || self.donors(standing.generation).is_some();
            !standing.busy && standing.generation < last && can_go_on
        };
        let members = self.members.iter().filter(is_ready);
        let chosen = if draining {
            let loss = |standing: &Standing<'_>| standing.record.outcome.loss().unwrap_or(f64::INFINITY);
            members.min_by(|(_, a), (_, b)| b.generation.cmp(&a.generation).then(loss(a).total_cmp(&loss(b))))
        } else {
            members.min_by_key(|(member, standing)| (standing.generation, **member))
        };
        chosen.map(|(member, _)| *member)
    }

    /// The best of a generation.
    fn donors(&self, generation: u64) -> Option<&[Ranked<'a>]> {
        let (ranking, finished) = self.ranking.get(&generation)?;
        let count = share(self.pbt.exploit, *finished).min(ranking.len());
        (count > 0).then(|| &ranking[..count])
    }

    /// The next stage of a member, or, if `generation` says so, a later one.
    fn go_on(&mut self, member: u64, generation: Option<u64>) -> Assignment {
        let standing = self.members[&member];
        let key = standing.generation << 32 | member;
        let mut generator = self.situation.key.generator(key, Stream::Exploration);
        let donor = self.donor(member, standing, &mut generator);
        let generation = generation.unwrap_or(standing.generation + 1);
        let granted = self.pbt.fidelity.words(self.pbt.granted(generation));
        let (subject, from, explanation) = if let Some((donor, record)) = donor {
            let mut point = self.pbt.explore(self.situation.space, record.point, &mut generator);
            let fits = |point: &Point| {
                self.schedule(record.ordinal, point)
                    .is_none_or(|text| fits(point, &text))
            };
            let changed = fits(&point);
            if !changed {
                point = bare(record.point);
            }
            let text = format!(
                "member {member} is among the worst of generation {} and goes on from member {donor} with {} values, up to {granted}",
                standing.generation,
                if changed { "changed" } else { "the same" }
            );
            let explanation = Explanation::new("exploit", text).with("donor", donor);
            (Subject::Variant(point), record.ordinal, explanation)
        } else {
            let text = format!("member {member} goes on as it is, up to {granted}");
            let known = Subject::Known(bare(standing.record.point), standing.record.configuration);
            (known, standing.record.ordinal, Explanation::new("continue", text))
        };
        let point = match &subject {
            Subject::Known(point, _) | Subject::Variant(point) => point.clone(),
            Subject::New => Point::default(),
        };
        let mut assignment = self.assignment(subject, member, generation, explanation);
        assignment.from = from;
        // Points of other programs may have histories that no point has room for.
        if let Some(schedule) = self.schedule(from, &point).filter(|schedule| fits(&point, schedule)) {
            assignment.tags.push(("sched", schedule.into()));
        }
        if let Some(standing) = self.members.get_mut(&member) {
            standing.busy = true;
        }
        assignment
    }

    /// From whom a member goes on, if not from itself.
    fn donor(&self, member: u64, standing: Standing<'_>, generator: &mut Generator) -> Option<(u64, &'a Record<'a>)> {
        let (ranking, finished) = self.ranking.get(&standing.generation)?;
        let donors = self.donors(standing.generation)?;
        let chosen = donors[generator.below(donors.len())];
        let place = ranking.iter().position(|(_, other, _)| *other == member);
        let copies = match place {
            None => true,
            Some(place) => *finished >= QUORUM && place + share(self.pbt.exploit, *finished) >= *finished,
        };
        (copies && chosen.1 != member).then_some((chosen.1, chosen.2))
    }

    /// What came before on the way to a point: the values that are others than those of the point itself, stage by stage; nothing
    /// if there are none.
    fn schedule(&self, from: Option<u64>, point: &Point) -> Option<String> {
        let mut stages = Vec::new();
        let mut seen = BTreeSet::new();
        let mut before = from;
        while let Some(record) = before
            .filter(|ordinal| seen.insert(*ordinal))
            .and_then(|ordinal| self.by_ordinal.get(&ordinal))
        {
            stages.push(*record);
            before = record.from;
        }
        stages.reverse();
        let changed: Vec<&str> = point
            .hyperparameters()
            .filter(|(key, value)| stages.iter().any(|stage| stage.point.get(key) != Some(*value)))
            .map(|(key, _)| key)
            .collect();
        if changed.is_empty() {
            return None;
        }
        let mut text = String::new();
        for (place, stage) in stages.iter().enumerate() {
            // What is the same in the next stage, or in the point itself, goes on there.
            let next = stages.get(place + 1).map_or(point, |next| next.point);
            if changed.iter().all(|key| stage.point.get(key) == next.get(key)) {
                continue;
            }
            let separator = if text.is_empty() { "" } else { ";" };
            let _ = write!(text, "{separator}{}:", self.pbt.fidelity.value(stage.resource));
            let differs = |key: &&&str| stage.point.get(key) != point.get(key);
            let other: Vec<&str> = changed.iter().filter(differs).copied().collect();
            // A stage in which all values were what they are now names one of them.
            let named = if other.is_empty() { &changed[..1] } else { &other };
            for (place, key) in named.iter().enumerate() {
                let separator = if place == 0 { "" } else { "," };
                let _ = write!(
                    text,
                    "{separator}{key}={}",
                    stage.point.get(key).unwrap_or(&PointValue::Null)
                );
            }
        }
        Some(text)
    }

    /// A new member, trained for one stage or, if `generation` says so, up to a later one.
    fn start(&mut self, generation: Option<u64>) -> Assignment {
        let member = self.join();
        let generation = generation.unwrap_or(0);
        let granted = self.pbt.fidelity.words(self.pbt.granted(generation));
        let text = format!("member {member} joins the population, to be trained for {granted}");
        self.assignment(Subject::New, member, generation, Explanation::new("start", text))
    }

    /// The last point of the budget, when nobody was trained in full: the member that is furthest is.
    fn finish(&mut self, may_start: bool) -> Option<Assignment> {
        let last = self.pbt.generations() - 1;
        match self.ready(true) {
            Some(member) => Some(self.go_on(member, Some(last))),
            None if may_start => Some(self.start(Some(last))),
            None => self.repeat(),
        }
    }

    /// When the space has no new points and all are at work: a copy of a member, changed a little.
    fn repeat(&mut self) -> Option<Assignment> {
        let model = self.members.values().next()?.record;
        let member = self.join();
        let mut generator = self.situation.key.generator(1 << 63 | member, Stream::Exploration);
        let point = self.pbt.explore(self.situation.space, model.point, &mut generator);
        let explanation = Explanation::new(
            "filler",
            "the space has no new points; a copy of a member, changed a little",
        );
        Some(self.assignment(Subject::Variant(point), member, 0, explanation))
    }

    fn join(&mut self) -> u64 {
        self.joined += 1;
        self.next += 1;
        self.next - 1
    }

    fn assignment(&self, subject: Subject, member: u64, generation: u64, explanation: Explanation) -> Assignment {
        Assignment {
            subject,
            resource: self.pbt.granted(generation),
            from: None,
            tags: vec![("m", member.into()), ("g", generation.into())],
            explanation,
        }
    }
}

/// Whether a point has room for this schedule.
fn fits(point: &Point, schedule: &str) -> bool {
    let length = |text: Result<String, serde_json::Error>| text.map_or(usize::MAX / 4, |text| text.len());
    let (point, schedule) = (serde_json::to_string(point), serde_json::to_string(schedule));
    length(point) + length(schedule) + RESERVED_BYTES <= limits::POINT_BYTES
}

/// A number with few digits.
fn rounded(number: f64) -> f64 {
    format!("{number:.DIGITS$e}").parse().unwrap_or(number)
}

/// How many of `count` are a share of them, at least one.
fn share(part: f64, count: usize) -> usize {
    (libm::ceil(part * count as f64) as usize).clamp(1, (count / 2).max(1))
}
