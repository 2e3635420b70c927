//! What the schedulers of the successive-halving family share: rungs, who stands on them, and who may climb.
//!
//! L. Li, K. Jamieson, A. Rostamizadeh, E. Gonina, J. Ben-Tzur, M. Hardt, B. Recht, A. Talwalkar, *A system for massively parallel
//! hyperparameter tuning*, Machine Learning and Systems (2020), algorithm 2, for promotion without waiting.
//!
//! Beyond the paper: failed evaluations count as members of a rung and are never promoted, those lost with their node do not even
//! count; when the budget is nearly used up nothing new is begun, and the last point of all is full training if no configuration
//! has had that; when the space has no new points, what is best is promoted early as long as anything is still being evaluated.

use std::collections::BTreeMap;

use protocol::Outcome;

use super::ledger::Configuration;
use super::{Assignment, Budget, Fidelity, Plan, PlannedBracket, Situation, Subject, bare};
use crate::explain::Explanation;

/// What tells one member of the family from another.
pub(super) trait Rule {
    /// How far points are trained.
    fn fidelity(&self) -> &Fidelity;

    /// One in so many climbs.
    fn eta(&self) -> u64;

    /// The rungs of a bracket, rising, the last one full training. There is always one. Without brackets all rungs that there are.
    fn rungs(&self, bracket: u64) -> &[u64];

    /// The bracket of a new configuration, whose number among all that were begun is `rank`.
    fn bracket(&self, _rank: u64) -> u64 {
        0
    }

    /// Whether points name their bracket.
    fn names_brackets(&self) -> bool {
        false
    }

    /// How many of the best on rung number `rung` of `bracket` may climb to the next; `rungs` are those of the bracket, never just
    /// one, and `rung` is not the last.
    fn promotable(&self, bracket: u64, rung: usize, rungs: &[Rung]) -> usize;
}

/// Who was trained for a rung.
#[derive(Debug, Default)]
pub(super) struct Rung {
    /// What the rung grants in total.
    pub(super) resource: u64,
    /// Loss and position of the configurations, best first.
    pub(super) ranking: Vec<(f64, usize)>,
    /// Configurations that failed here.
    pub(super) failed: usize,
    /// Configurations that were lost with their node.
    pub(super) lost: usize,
    /// Configurations that are still being evaluated.
    pub(super) pending: usize,
    /// How many of the best may climb. Points that are only being assigned change nothing about it: they are no results.
    pub(super) limit: usize,
    /// How many of the best are known to have climbed.
    pub(super) climbed: usize,
}

impl Rung {
    /// Evaluations that say something about their point.
    pub(super) fn judged(&self) -> usize {
        self.ranking.len() + self.failed
    }

    /// All configurations that came here.
    pub(super) fn members(&self) -> usize {
        self.judged() + self.lost + self.pending
    }
}

/// Configurations of which one reaches the last rung of a single ladder.
pub(super) fn one_ladder(rule: &impl Rule) -> u64 {
    rule.eta().saturating_pow(rule.fidelity().halvings(rule.eta()))
}

/// How many evaluations `configurations` lead to.
pub(super) fn plan(rule: &impl Rule, configurations: u64) -> Plan {
    let mut begun: BTreeMap<u64, u64> = BTreeMap::new();
    for rank in 0..configurations {
        *begun.entry(rule.bracket(rank)).or_default() += 1;
    }
    let brackets = begun.into_iter().map(|(bracket, mut count)| {
        let mut rungs = Vec::new();
        for resource in rule.rungs(bracket) {
            rungs.push((*resource, count));
            count /= rule.eta();
        }
        PlannedBracket {
            bracket,
            step: None,
            rungs,
        }
    });
    Plan {
        brackets: brackets.collect(),
    }
}

/// Checks that a point stands on a rung of its bracket.
pub(super) fn check(rule: &impl Rule, record: &super::Record<'_>) -> Result<(), String> {
    if record.member.is_some() || record.generation.is_some() {
        return Err(
            "expected a point of a successive-halving scheduler, found the keys `hpo.m` and `hpo.g` of a population"
                .into(),
        );
    }
    let bracket = record.bracket.unwrap_or(0);
    if record.bracket.is_some() != rule.names_brackets() {
        let (expected, found) = if rule.names_brackets() {
            ("a", "none")
        } else {
            ("no", "one")
        };
        return Err(format!(
            "expected {expected} bracket `hpo.b`, found {found}: the point is of another scheduler"
        ));
    }
    let rungs = rule.rungs(bracket);
    if rungs.contains(&record.resource) {
        return Ok(());
    }
    let fidelity = rule.fidelity();
    let rungs: Vec<String> = rungs.iter().map(|rung| fidelity.value(*rung).to_string()).collect();
    Err(format!(
        "expected one of the rungs {} in `{}`, found {}: the point is of another scheduler or of other settings",
        rungs.join(", "),
        fidelity.key(),
        fidelity.value(record.resource)
    ))
}

/// What the next `count` points are for.
pub(super) fn assign(rule: &impl Rule, situation: &Situation<'_>, count: usize, budget: Budget) -> Vec<Assignment> {
    let mut ladder = Ladder::new(rule, situation.configurations);
    let mut left = budget;
    let mut assignments = Vec::with_capacity(count.min(1_024));
    while assignments.len() < count {
        let Some(assignment) = ladder.next(left) else { break };
        left.left = left.left.map(|left| left.saturating_sub(1));
        if matches!(assignment.subject, Subject::New) {
            left.new = left.new.map(|new| new - 1);
        }
        assignments.push(assignment);
    }
    assignments
}

/// All brackets with their rungs, as they change while points are assigned.
struct Ladder<'a, R> {
    rule: &'a R,
    configurations: &'a [Configuration<'a>],
    brackets: BTreeMap<u64, Vec<Rung>>,
    /// The largest grant of each configuration, evaluated or not.
    reached: Vec<u64>,
    /// Configurations begun so far.
    begun: u64,
    /// Whether a configuration has been trained in full.
    finished: bool,
    /// Points that are still being evaluated.
    pending: usize,
}

impl<'a, R: Rule> Ladder<'a, R> {
    fn new(rule: &'a R, configurations: &'a [Configuration<'a>]) -> Self {
        let mut ladder = Self {
            rule,
            configurations,
            brackets: BTreeMap::new(),
            reached: Vec::with_capacity(configurations.len()),
            begun: 0,
            finished: false,
            pending: 0,
        };
        for (position, configuration) in configurations.iter().enumerate() {
            ladder.begun += u64::from(configuration.first.configuration.is_some());
            let last = configuration.stages.last().map_or(0, |stage| stage.resource);
            ladder.reached.push(last);
            let rungs = ladder.bracket(configuration.first.bracket.unwrap_or(0));
            let mut pending = 0;
            let mut full = false;
            for stage in &configuration.stages {
                pending += usize::from(stage.outcome == Outcome::Pending);
                let Some(rung) = rungs.iter_mut().find(|rung| rung.resource == stage.resource) else {
                    continue;
                };
                match stage.outcome {
                    Outcome::Done { loss } => rung.ranking.push((loss.get(), position)),
                    Outcome::Failed if stage.blamed => rung.failed += 1,
                    Outcome::Failed => rung.lost += 1,
                    Outcome::Pending => rung.pending += 1,
                }
                full |= stage.outcome.loss().is_some() && stage.resource >= rule.fidelity().full();
            }
            ladder.pending += pending;
            ladder.finished |= full;
        }
        for rung in ladder.brackets.values_mut().flatten() {
            rung.ranking.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        for (bracket, rungs) in &mut ladder.brackets {
            for rung in 0..rungs.len() - 1 {
                rungs[rung].limit = rule.promotable(*bracket, rung, rungs).min(rungs[rung].ranking.len());
            }
        }
        ladder
    }

    fn bracket(&mut self, bracket: u64) -> &mut Vec<Rung> {
        self.brackets.entry(bracket).or_insert_with(|| {
            let rungs = self.rule.rungs(bracket);
            rungs
                .iter()
                .map(|resource| Rung {
                    resource: *resource,
                    ..Rung::default()
                })
                .collect()
        })
    }

    fn next(&mut self, budget: Budget) -> Option<Assignment> {
        let promotions = self.rule.rungs(0).len() - 1;
        let draining = budget.left.is_some_and(|left| left <= promotions.max(1));
        let exhausted = budget.new == Some(0);
        if budget.left == Some(0) {
            return None;
        }
        if budget.left == Some(1) && !self.finished {
            return self.finish(exhausted);
        }
        if let Some(assignment) = self.promote(false) {
            return Some(assignment);
        }
        if (draining || (exhausted && (self.pending > 0 || !self.finished)))
            && let Some(assignment) = self.promote(true)
        {
            return Some(assignment);
        }
        if exhausted {
            return if self.pending > 0 { self.advance() } else { None };
        }
        Some(self.begin(None))
    }

    /// A new configuration on the lowest rung of its bracket, or trained for `resource` at once.
    fn begin(&mut self, resource: Option<u64>) -> Assignment {
        let bracket = self.rule.bracket(self.begun);
        let rungs = self.bracket(bracket);
        let rung = resource.map_or(0, |_| rungs.len() - 1);
        rungs[rung].pending += 1;
        let resource = rungs[rung].resource;
        self.begun += 1;
        self.pending += 1;
        let words = self.rule.fidelity().words(resource);
        let explanation = Explanation::new("start", format!("a new configuration, to be trained for {words}"));
        self.assignment(Subject::New, bracket, rung, None, explanation)
    }

    /// The best configuration that has earned more training, from the highest rung; if `early`, the best that has not climbed.
    fn promote(&mut self, early: bool) -> Option<Assignment> {
        let (position, bracket, rung, place) = self.candidate(early)?;
        let of = self.brackets[&bracket][rung].judged();
        let fidelity = self.rule.fidelity();
        let resource = self.brackets[&bracket][rung].resource;
        let next = self.brackets[&bracket][rung + 1].resource;
        let text = format!(
            "place {} of {of} after {}{}, to be trained for {} in total",
            place + 1,
            fidelity.words(resource),
            if early { ", promoted early" } else { "" },
            fidelity.words(next)
        );
        let explanation = Explanation::new("promotion", text)
            .with("place", place + 1)
            .with("of", of)
            .with("rung", rung);
        Some(self.climb(position, bracket, rung + 1, explanation))
    }

    /// Position, bracket, rung and place of the configuration to promote.
    fn candidate(&mut self, early: bool) -> Option<(usize, u64, usize, usize)> {
        let mut best: Option<(u64, u64, usize, usize, usize)> = None;
        for (bracket, rungs) in &mut self.brackets {
            for rung in (0..rungs.len() - 1).rev() {
                if best.is_some_and(|(resource, ..)| resource >= rungs[rung].resource) {
                    break;
                }
                let here = &mut rungs[rung];
                let limit = if early { here.ranking.len() } else { here.limit };
                while here.climbed < limit && self.reached[here.ranking[here.climbed].1] > here.resource {
                    here.climbed += 1;
                }
                if here.climbed < limit {
                    best = Some((
                        here.resource,
                        *bracket,
                        rung,
                        here.climbed,
                        here.ranking[here.climbed].1,
                    ));
                    break;
                }
            }
        }
        best.map(|(_, bracket, rung, place, position)| (position, bracket, rung, place))
    }

    /// Something on its way, granted more before it has proved itself: better than an answer that would end the search.
    fn advance(&mut self) -> Option<Assignment> {
        let full = self.rule.fidelity().full();
        let position = (0..self.configurations.len()).find(|position| {
            let last = self.configurations[*position].stages.last();
            self.reached[*position] < full && last.is_some_and(|stage| stage.outcome == Outcome::Pending)
        })?;
        let bracket = self.configurations[position].first.bracket.unwrap_or(0);
        let reached = self.reached[position];
        let rung = self.brackets[&bracket]
            .iter()
            .position(|rung| rung.resource > reached)?;
        let explanation = Explanation::new(
            "filler",
            "the space has no new points; this one is granted more while others are evaluated",
        );
        Some(self.climb(position, bracket, rung, explanation))
    }

    /// The last point of the budget, when nothing has been trained in full: the best on the highest rung is.
    fn finish(&mut self, exhausted: bool) -> Option<Assignment> {
        let full = self.rule.fidelity().full();
        let standing = |position: usize| {
            let stages = &self.configurations[position].stages;
            let best = stages
                .iter()
                .rev()
                .find_map(|stage| Some((stage.resource, stage.outcome.loss()?)));
            let pending = stages.iter().any(|stage| stage.outcome == Outcome::Pending);
            (best, pending)
        };
        let has_failed = |position: usize| {
            let stages = &self.configurations[position].stages;
            stages.iter().any(|stage| stage.outcome == Outcome::Failed)
        };
        let open =
            (0..self.configurations.len()).filter(|position| self.reached[*position] < full && !has_failed(*position));
        let best = open
            .clone()
            .filter_map(|position| Some((position, standing(position).0?)));
        let best = best.min_by(|(_, a), (_, b)| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)));
        let position = best.map(|(position, _)| position).or_else(|| {
            let mut pending = open.filter(|position| standing(*position).1);
            if exhausted { pending.next() } else { None }
        });
        let Some(position) = position else {
            return (!exhausted).then(|| self.begin(Some(full)));
        };
        let bracket = self.configurations[position].first.bracket.unwrap_or(0);
        let top = self.brackets[&bracket].len() - 1;
        let explanation = Explanation::new("finish", "the last point of the search, so that one is trained in full");
        Some(self.climb(position, bracket, top, explanation))
    }

    fn climb(&mut self, position: usize, bracket: u64, rung: usize, explanation: Explanation) -> Assignment {
        let rungs = self.bracket(bracket);
        rungs[rung].pending += 1;
        self.reached[position] = self.brackets[&bracket][rung].resource;
        self.pending += 1;
        let configuration = &self.configurations[position];
        let evaluated = configuration
            .stages
            .iter()
            .rev()
            .find(|stage| stage.outcome.loss().is_some());
        let from = evaluated.and_then(|stage| stage.ordinal);
        let subject = Subject::Known(bare(configuration.first.point), configuration.first.configuration);
        self.assignment(subject, bracket, rung, from, explanation)
    }

    fn assignment(
        &self,
        subject: Subject,
        bracket: u64,
        rung: usize,
        from: Option<u64>,
        explanation: Explanation,
    ) -> Assignment {
        let mut tags = vec![("r", rung.into())];
        if self.rule.names_brackets() {
            tags.push(("b", bracket.into()));
        }
        Assignment {
            subject,
            resource: self.brackets[&bracket][rung].resource,
            from,
            tags,
            explanation,
        }
    }
}
