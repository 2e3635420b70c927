//! One decision of two-step search: what the next points are for.

use std::collections::BTreeSet;

use protocol::Outcome;
use serde_json::Value;

use super::first_step::FirstStep;
use super::modelled::{Move, Race};
use super::second_step::{Standing, within};
use super::{Memory, TwoStep};
use crate::explain::Explanation;
use crate::schedulers::ledger::{Configuration, Stage};
use crate::schedulers::{Assignment, Budget, Situation, Subject, Unit, bare};
use crate::two_step::spread;

/// Where the search stands.
pub(super) struct Course<'a> {
    two_step: &'a TwoStep,
    situation: &'a Situation<'a>,
    memory: &'a Memory,
    budget: Budget,
    step: FirstStep,
    standing: Standing,
    /// Configurations of the first step, wanted and begun.
    first: usize,
    begun: usize,
    /// What the scheduler of the first step wants next.
    of_first: Option<Assignment>,
    /// How many go on, and whether that is final.
    going_on: usize,
    is_decided: bool,
    certainty: Option<String>,
    /// Whether this is the last point, and nothing was trained in full.
    last: bool,
    is_single: bool,
}

impl<'a> Course<'a> {
    /// `first` is how many configurations the first step has.
    pub(super) fn new(
        two_step: &'a TwoStep,
        situation: &'a Situation<'a>,
        first: usize,
        budget: Budget,
        memory: &'a Memory,
    ) -> Self {
        let configurations = situation.configurations;
        let own = |configuration: &&Configuration<'_>| configuration.first.configuration.is_some();
        let begun = configurations.iter().filter(own).count();
        let standing = Standing::of(two_step, configurations);
        let mut step = FirstStep::of(two_step, configurations);
        let of_first = two_step.next_of_first(situation);
        let climbs = of_first
            .as_ref()
            .is_some_and(|next| !matches!(next.subject, Subject::New));
        let is_quiet = begun >= first && !step.waiting && step.outstanding.is_empty() && !climbs;
        // A model needs no number of those who go on, unless it is to climb a ladder first.
        let is_asked = !two_step.is_modelled() || two_step.rungs.len() > 1;
        let certainty = if is_quiet && is_asked {
            two_step.certainty(&step.ranking, &standing.losses, memory)
        } else {
            None
        };
        let places = spread(step.ranking.len(), two_step.calibration);
        let is_calibrated = is_quiet && places.iter().all(|place| standing.judged[step.ranking[*place].1]);
        let next_rung = two_step.rungs.get(step.rung + 1).copied();
        let is_enough = certainty.as_ref().map(|found| found.is_enough);
        let mut is_decided = is_calibrated;
        if let (Some(next), Some(false), true) = (next_rung, is_enough, is_calibrated) {
            let outstanding = step.survivors(two_step, configurations, next);
            let needed = outstanding.len() + two_step.second(outstanding.len());
            if budget.left.is_none_or(|left| left >= needed) {
                step.rung += 1;
                step.outstanding = outstanding;
                is_decided = false;
            }
        }
        let (top, most) = (two_step.top.of(step.ranking.len()), two_step.most(step.ranking.len()));
        let going_on = match (&certainty, &two_step.race) {
            // Until the calibration is known only those go on that do so in any case.
            (_, Some(_)) if is_quiet && !is_calibrated => top,
            (Some(found), _) => found.going_on,
            (None, Some(_)) => most,
            (None, None) => top,
        };
        let is_single = two_step.fidelity.least() == two_step.fidelity.full();
        let finished = standing.losses.iter().any(Option::is_some);
        Self {
            last: budget.left == Some(1) && !finished && !is_single,
            is_single,
            two_step,
            situation,
            memory,
            budget,
            certainty: certainty.map(|found| found.text),
            step,
            standing,
            first,
            begun,
            of_first,
            going_on,
            is_decided,
        }
    }

    /// What the next point is for; nothing if the search is over.
    pub(super) fn next(mut self) -> Option<Assignment> {
        if self.budget.left == Some(0) {
            return None;
        }
        (self.of_first_step())
            .or_else(|| self.compared_again())
            .or_else(|| self.calibrated())
            .or_else(|| self.of_second_step())
            .or_else(|| self.filling())
    }

    fn may_begin(&self) -> bool {
        self.budget.new != Some(0)
    }

    /// A new configuration, or one that the scheduler of the first step lets go on there.
    fn of_first_step(&mut self) -> Option<Assignment> {
        if self.last && !self.step.ranking.is_empty() {
            return None;
        }
        let is_wanted = self.begun < self.first || (self.is_single && self.budget.left.is_some());
        let may_begin = is_wanted && self.may_begin();
        match self.of_first.take().filter(|_| !self.last) {
            None => may_begin.then(|| self.begin()),
            Some(next) if matches!(next.subject, Subject::New) && !may_begin => None,
            Some(next) => Some(self.dressed(1, self.two_step.fidelity.least(), next)),
        }
    }

    /// The assignment of a scheduler over the epochs of a step, as one of the whole search.
    fn dressed(&self, step: usize, resource: u64, inner: Assignment) -> Assignment {
        let (resource, tags) = self.two_step.grant(step, resource, Some(inner.resource));
        Assignment {
            resource,
            tags: tags.into_iter().chain(inner.tags).collect(),
            ..inner
        }
    }

    /// Whoever is to be compared on the next rung of the ladder.
    fn compared_again(&mut self) -> Option<Assignment> {
        let position = self.step.outstanding.pop_front().filter(|_| !self.last)?;
        Some(self.compare_again(
            &self.situation.configurations[position],
            self.two_step.rungs[self.step.rung],
        ))
    }

    /// One of all ranks, to be trained in full.
    fn calibrated(&mut self) -> Option<Assignment> {
        if self.step.waiting {
            return None;
        }
        let standing = &self.standing;
        // A first step that grew has other ranks; those that a model has learnt from need not be theirs.
        let granted = standing.granted.iter().filter(|granted| **granted).count();
        if self.two_step.is_modelled() && granted >= self.two_step.calibration {
            return None;
        }
        let is_next =
            |position: usize| !standing.granted[position] && !standing.judged[position] && !standing.pending[position];
        let places = spread(self.step.ranking.len(), self.two_step.calibration);
        let place = places.into_iter().find(|place| is_next(self.step.ranking[*place].1))?;
        // A model has to learn what part of the epochs says about all.
        let is_first = self.two_step.is_modelled() && !standing.entered[self.step.ranking[place].1];
        let part = is_first.then(|| self.two_step.middle()).flatten();
        Some(self.go_on(place, part, None))
    }

    /// By a model, if that is who decides.
    fn modelled(&self) -> Option<Assignment> {
        let race = Race {
            two_step: self.two_step,
            situation: self.situation,
            standing: &self.standing,
            ranking: &self.step.ranking,
            first: self.begun,
            learnt: &self.memory.learnt,
        };
        match race.next()? {
            Move::Enter(place, why) => Some(self.go_on(place, self.two_step.middle(), Some(why))),
            Move::Complete(place, why) => Some(self.go_on(place, None, Some(why))),
        }
    }

    fn of_second_step(&mut self) -> Option<Assignment> {
        if self.two_step.is_modelled() {
            return self.modelled();
        }
        let race = self.two_step.race.as_ref();
        let next = match race {
            None => None,
            Some(_) => Some(self.ask_second(None)?),
        };
        match next {
            Some(next) if !matches!(next.subject, Subject::New) => {
                Some(self.dressed(2, self.two_step.fidelity.full(), next))
            }
            next => match self.entrant() {
                Some(place) => Some(self.go_on(place, next.map(|next| next.resource), None)),
                // Nobody is left to enter: some climb before their turn.
                None if next.is_some() && self.standing.is_racing => {
                    let next = self.ask_second(Some(0))?;
                    Some(self.dressed(2, self.two_step.fidelity.full(), next))
                }
                None => None,
            },
        }
    }

    /// The next that enters the second step.
    fn entrant(&self) -> Option<usize> {
        let ranking = &self.step.ranking;
        let is_outside = |place: &usize| !self.standing.entered[ranking[*place].1];
        // While others are compared, and for the rest of a budget, there are those next in line.
        let spare = self.budget.left.is_some() || self.standing.is_racing;
        let places = if spare {
            ranking.len()
        } else {
            self.going_on.min(ranking.len())
        };
        (0..places).find(is_outside)
    }

    /// What the scheduler of the second step wants next.
    fn ask_second(&self, new: Option<usize>) -> Option<Assignment> {
        let two_step = self.two_step;
        let mut part = within(self.situation.configurations, false, |stage| {
            two_step.is_second(stage.resource).then(|| two_step.in_race(stage))
        });
        if two_step.second.is_open() {
            // Nobody waits for those who failed, and they climb no more, wherever it was.
            part.retain(|configuration| !self.has_failed(configuration.first.configuration));
        }
        let situation = Situation {
            configurations: &part,
            ..*self.situation
        };
        let ranking = &self.step.ranking;
        let calibration: BTreeSet<usize> = spread(ranking.len(), two_step.calibration).into_iter().collect();
        let entering = || {
            let places = 0..self.going_on.min(ranking.len());
            places.filter(|place| !calibration.contains(place)).count()
        };
        let budget = Budget {
            left: self.budget.left,
            new,
        };
        let race = (two_step.top.of(ranking.len()), self.is_decided.then(entering));
        let next = two_step.second.assign(&situation, budget, race)?;
        let is_dead = matches!(&next.subject, Subject::Known(_, configuration) if self.has_failed(*configuration));
        (!is_dead).then_some(next)
    }

    /// Whether a training of a configuration has failed through its own fault, in either step.
    fn has_failed(&self, configuration: Option<u64>) -> bool {
        let is_it = |known: &&Configuration<'_>| known.first.configuration == configuration;
        let mut known = self.situation.configurations.iter().filter(is_it);
        let is_failure = |stage: &Stage| stage.outcome == Outcome::Failed && stage.blamed;
        configuration.is_some() && known.any(|known| known.stages.iter().any(is_failure))
    }

    /// One more for the first step: nobody is known to be good, and an answer that would end the search is worse.
    fn filling(&mut self) -> Option<Assignment> {
        let finished = self.standing.losses.iter().any(Option::is_some);
        // A model ends the search when it has cost what it may; what is left of a budget makes the first step larger.
        let is_racing = self.standing.is_racing && !self.two_step.is_modelled();
        let is_open = self.step.waiting || !finished || is_racing || self.budget.left.is_some();
        (is_open && self.may_begin()).then(|| self.begin())
    }

    fn begin(&self) -> Assignment {
        let two_step = self.two_step;
        let fidelity = &two_step.fidelity;
        let (step, resource) = if self.last {
            (2, fidelity.full())
        } else {
            (1, fidelity.least())
        };
        if let Some(next) = two_step.new_of_first(self.situation).filter(|_| !self.last) {
            return self.dressed(step, resource, next);
        }
        let (resource, tags) = two_step.grant(step, resource, None);
        let text = format!(
            "a new configuration of step {step}, to be trained with {}",
            fidelity.words(resource)
        );
        Assignment {
            subject: Subject::New,
            resource,
            from: None,
            tags,
            explanation: Explanation::new("start", text),
        }
    }

    /// A known configuration, on more data or for longer than before, but not in full.
    fn compare_again(&self, configuration: &Configuration<'_>, resource: u64) -> Assignment {
        let fidelity = &self.two_step.fidelity;
        let text = format!(
            "ranks agree too little; compared again with {}",
            fidelity.words(resource)
        );
        let grant = self.two_step.grant(1, resource, None);
        self.known(configuration, grant, Explanation::new("ladder", text))
    }

    /// Whoever has this place in the first step enters the second, for so many of its epochs or in full.
    fn go_on(&self, place: usize, epochs: Option<u64>, why: Option<String>) -> Assignment {
        let two_step = self.two_step;
        let (of, position) = (self.step.ranking.len(), self.step.ranking[place].1);
        let configuration = &self.situation.configurations[position];
        let grant = two_step.grant(2, two_step.fidelity.full(), epochs);
        let certainty = self
            .certainty
            .as_ref()
            .map(|text| format!("; {text}"))
            .unwrap_or_default();
        let why = why.map(|why| format!("{why}; ")).unwrap_or_default();
        let text = format!("{why}place {} of {of} in the first step{certainty}", place + 1);
        let explanation = Explanation::new("second step", text)
            .with("place", place + 1)
            .with("of", of);
        self.known(configuration, grant, explanation)
    }

    /// A known configuration, granted this.
    fn known(
        &self,
        configuration: &Configuration<'_>,
        (resource, mut tags): (u64, Vec<(&'static str, Value)>),
        explanation: Explanation,
    ) -> Assignment {
        let mut evaluated = configuration
            .stages
            .iter()
            .rev()
            .filter(|stage| stage.outcome.loss().is_some());
        let latest = evaluated.find(|stage| stage.ordinal.is_some());
        let is_share = self.two_step.fidelity.unit() == Unit::Fraction;
        let has_less = |stage: &&Stage| is_share && stage.resource < resource;
        let is_used = |stage: &&Stage| !has_less(stage) || self.two_step.weights;
        let from = latest.filter(is_used);
        if from.as_ref().is_some_and(has_less) {
            tags.push(("weights", 1.into()));
        }
        Assignment {
            subject: Subject::Known(bare(configuration.first.point), configuration.first.configuration),
            resource,
            from: from.and_then(|stage| stage.ordinal),
            tags,
            explanation,
        }
    }
}

impl TwoStep {
    /// What the scheduler of the first step wants next.
    fn next_of_first(&self, situation: &Situation<'_>) -> Option<Assignment> {
        self.ask_first(situation, 1).pop()
    }

    /// What it would begin next if it had nothing else to do.
    fn new_of_first(&self, situation: &Situation<'_>) -> Option<Assignment> {
        // Each configuration can only climb so often before something new is begun.
        let most = 1 + situation.configurations.len() * u64::BITS as usize;
        let mut wanted = self.ask_first(situation, most).into_iter();
        wanted.find(|next| matches!(next.subject, Subject::New))
    }

    fn ask_first(&self, situation: &Situation<'_>, count: usize) -> Vec<Assignment> {
        let Some(scheduler) = &self.first else {
            return Vec::new();
        };
        let least = self.fidelity.least();
        let epochs = |stage: &Stage| (stage.resource == least).then(|| stage.epochs.unwrap_or(self.epochs[0]));
        let part = within(situation.configurations, true, epochs);
        let situation = Situation {
            configurations: &part,
            ..*situation
        };
        scheduler.assign(&situation, count, Budget { left: None, new: None })
    }
}
