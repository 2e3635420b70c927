//! The second step by a model, which says who enters it.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | N | configurations of the first step |
//! | a, b | losses of one configuration after part of the epochs of the second step, and after all |
//!
//! Places in the first step say little about the last of them, and where they say nothing, hyperparameters still do. So the losses
//! of the second step are put under a Gaussian process over the hyperparameters with the place as one more dimension (its normal
//! score, so that neighbours among the best are as far apart as they deserve), and whoever is expected to improve most enters next.
//! The configurations of the calibration, of all ranks, are what it begins with.
//!
//! Whoever enters is trained for one in η of the epochs first. The straight line of b over a through the better three quarters of
//! those that have both says what the others would lose in the end, and how sure that is: whoever may still be the best goes on.
//!
//! This goes on as long as the search costs less than its share of training all N in full; `top` are trained in full in any case.
//! It is Bayesian optimisation with a cheap measurement of every point beforehand, in the manner of K. Swersky, J. Snoek,
//! R. P. Adams, *Freeze-thaw Bayesian optimization*, arXiv:1406.3896 (2014), with a line for the curves.

use std::cell::OnceCell;

use protocol::limits::RESERVED_PREFIX;
use protocol::{Loss, Outcome, Point};

use super::TwoStep;
use super::second_step::Standing;
use crate::history::History;
use crate::numerics::normal;
use crate::samplers::Preference;
use crate::schedulers::ledger::{Configuration, Stage};
use crate::schedulers::view::Line;
use crate::schedulers::{Situation, Unit};

/// Losses of the second step that a model needs.
const FEW: usize = 4;

/// What was learnt, for decisions that are made together: losses do not come in between them.
pub(super) type Learnt = OnceCell<Option<Preference>>;

/// Who is next, by place in the first step, and why.
pub(super) enum Move {
    /// Somebody enters.
    Enter(usize, String),
    /// Somebody is trained in full who was trained in part.
    Complete(usize, String),
}

/// The second step as it stands.
pub(super) struct Race<'a> {
    pub(super) two_step: &'a TwoStep,
    pub(super) situation: &'a Situation<'a>,
    pub(super) standing: &'a Standing,
    /// Positions of the configurations of the first step, best first.
    pub(super) ranking: &'a [(f64, usize)],
    /// Configurations of the first step.
    pub(super) first: usize,
    pub(super) learnt: &'a Learnt,
}

/// What losses after part of the epochs say about those after all.
struct Forecast {
    line: Line,
    /// Standard deviation of the losses from the line; infinite as long as it is not known.
    deviation: f64,
    /// The lowest loss after all epochs.
    lowest: f64,
}

impl Race<'_> {
    /// The next move; nothing if the search is over.
    pub(super) fn next(&self) -> Option<Move> {
        let forecast = self.forecast();
        let spent: f64 = self
            .situation
            .configurations
            .iter()
            .map(|one| self.two_step.spent(one))
            .sum();
        let allowed = self.two_step.cost * self.first as f64 + 1e-9;
        let [enter, complete] = self.prices();
        let in_full = self.standing.granted.iter().filter(|granted| **granted).count();
        let missing = self.two_step.certain(self.ranking.len()).saturating_sub(in_full);
        let best = self.completable(&forecast);
        if let Some((place, expected)) = best
            && expected - forecast.deviation < forecast.lowest
            && (spent + complete <= allowed || missing > 0)
        {
            return Some(Move::Complete(place, forecast.words(expected)));
        }
        if spent + enter + missing as f64 * complete <= allowed
            && let Some(entrant) = self.entrant(&forecast)
        {
            return Some(entrant);
        }
        if missing == 0 {
            return None;
        }
        match best {
            Some((place, expected)) => Some(Move::Complete(place, forecast.words(expected))),
            None => self.entrant(&forecast),
        }
    }

    /// What it costs, in full trainings, to enter and to be completed.
    fn prices(&self) -> [f64; 2] {
        let full = self.two_step.full_epochs();
        let part = (self.two_step.middle()).map_or(1.0, |middle| middle as f64 / full);
        let before = match self.two_step.fidelity.unit() {
            Unit::Epochs => self.two_step.rungs[0] as f64 / full,
            Unit::Fraction => 0.0,
        };
        [part - before, 1.0 - part]
    }

    /// Pairs of losses after part of the epochs and after all, and what follows from them.
    fn forecast(&self) -> Forecast {
        let configurations = self.situation.configurations;
        let mut pairs: Vec<(f64, f64)> = (self.ranking.iter())
            .filter_map(|(_, position)| {
                Some((
                    self.in_part(&configurations[*position])?,
                    self.standing.losses[*position]?,
                ))
            })
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        pairs.truncate((3 * pairs.len()).div_ceil(4));
        let line = Line::through(&pairs);
        let squares: f64 = pairs.iter().map(|(a, b)| (b - line.at(*a)) * (b - line.at(*a))).sum();
        let losses = self.standing.losses.iter().copied().flatten();
        Forecast {
            deviation: if pairs.len() < 2 {
                f64::INFINITY
            } else {
                (squares / (pairs.len() - 1) as f64).sqrt()
            },
            line,
            lowest: losses.fold(f64::INFINITY, f64::min),
        }
    }

    /// The loss after part of the epochs of the second step.
    fn in_part(&self, configuration: &Configuration<'_>) -> Option<f64> {
        let is_part = |stage: &&Stage| self.two_step.is_second(stage.resource) && !self.two_step.is_full(stage);
        configuration
            .stages
            .iter()
            .filter(is_part)
            .find_map(|stage| stage.outcome.loss())
    }

    /// Place and expected loss of whoever is best among those that were trained in part and have not been granted more.
    fn completable(&self, forecast: &Forecast) -> Option<(usize, f64)> {
        let waiting = self.ranking.iter().enumerate().filter_map(|(place, (_, position))| {
            if self.standing.granted[*position] || self.standing.judged[*position] {
                return None;
            }
            let loss = self.in_part(&self.situation.configurations[*position])?;
            Some((place, forecast.line.at(loss)))
        });
        waiting.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))
    }

    /// Whoever is expected to improve most, or the first in line as long as there is too little to learn from.
    fn entrant(&self, forecast: &Forecast) -> Option<Move> {
        let is_outside = |place: &usize| !self.standing.entered[self.ranking[*place].1];
        let outside: Vec<usize> = (0..self.ranking.len()).filter(is_outside).collect();
        let by_place = || {
            outside
                .first()
                .map(|place| Move::Enter(*place, "the first in line".to_owned()))
        };
        let known = self.standing.losses.iter().flatten().count();
        if known < FEW || outside.is_empty() {
            return by_place();
        }
        let name = format!("{RESERVED_PREFIX}place");
        let space = self.situation.space.with_unit(&name);
        let configurations = self.situation.configurations;
        let placed = |place: usize| {
            let mut point = configurations[self.ranking[place].1].first.point.clone();
            point.insert(&name, normal_score(place, self.ranking.len()));
            point
        };
        let inside: Vec<(Point, Outcome, bool)> = (0..self.ranking.len())
            .filter(|place| !is_outside(place))
            .map(|place| {
                let (outcome, blamed) = self.outcome(self.ranking[place].1, forecast);
                (placed(place), outcome, blamed)
            })
            .collect();
        let entries = inside.iter().map(|(point, outcome, blamed)| (point, *outcome, *blamed));
        let history = History::numbered(&space, entries);
        let learnt = self
            .learnt
            .get_or_init(|| Preference::new(&space, &history, self.situation.key));
        let Some(preference) = learnt else { return by_place() };
        // The place is the last dimension.
        let unit = space.dimensions().last()?;
        let coordinates = |index: usize| {
            let place = outside[index];
            let point = configurations[self.ranking[place].1].first.point;
            let mut coordinates = self.situation.space.encode(point);
            coordinates.push(unit.encode(&normal_score(place, self.ranking.len()).into()));
            coordinates
        };
        let chosen = preference.best_of(outside.len(), coordinates, &history)?;
        let text = format!("expected to improve most, by a model of {} trainings", inside.len());
        Some(Move::Enter(outside[chosen], text))
    }

    /// What became of a configuration in the second step, as far as can be told.
    fn outcome(&self, position: usize, forecast: &Forecast) -> (Outcome, bool) {
        let configuration = &self.situation.configurations[position];
        let second = || {
            configuration
                .stages
                .iter()
                .filter(|stage| self.two_step.is_second(stage.resource))
        };
        let mut failures = second().filter(|stage| stage.outcome == Outcome::Failed).peekable();
        if failures.peek().is_some() {
            return (Outcome::Failed, failures.any(|stage| stage.blamed));
        }
        let known = self.standing.losses[position];
        let expected = known.or_else(|| Some(forecast.line.at(self.in_part(configuration)?)));
        match expected.and_then(Loss::new) {
            Some(loss) => (Outcome::Done { loss }, true),
            None => (Outcome::Pending, false),
        }
    }
}

impl Forecast {
    fn words(&self, expected: f64) -> String {
        format!(
            "the best of those trained in part: {expected:.6} is expected of it in full, give or take {:.2e}, and {:.6} is the lowest loss",
            self.deviation, self.lowest
        )
    }
}

/// The place of `of`, from 0, as the quantile of a normal, put into [0, 1].
fn normal_score(place: usize, of: usize) -> f64 {
    let at = |place: f64| normal::quantile((place + 0.5) / of as f64);
    let last = at(of as f64 - 1.0);
    if last > 0.0 {
        (0.5 + 0.5 * at(place as f64) / last).clamp(0.0, 1.0)
    } else {
        0.5
    }
}

impl TwoStep {
    /// Epochs after which those are compared that a model lets enter the second step, if that is not full training.
    pub(super) fn middle(&self) -> Option<u64> {
        self.race.as_ref().filter(|rungs| rungs.len() > 1).map(|rungs| rungs[0])
    }

    /// Epochs of full training in the second step, 1 where only the evaluation knows.
    pub(super) fn full_epochs(&self) -> f64 {
        match self.fidelity.unit() {
            Unit::Epochs => self.fidelity.full() as f64,
            Unit::Fraction => self.epochs[1].max(1) as f64,
        }
    }

    /// Epochs of a whole training in a step over shares of the data; where only the evaluation knows, as many as in the second.
    pub(super) fn whole_epochs(&self, is_second: bool) -> f64 {
        match self.epochs[usize::from(is_second)] {
            0 => self.full_epochs(),
            epochs => epochs as f64,
        }
    }

    /// What was spent on a configuration, in full trainings.
    fn spent(&self, configuration: &Configuration<'_>) -> f64 {
        let full = self.full_epochs();
        match self.fidelity.unit() {
            // Longer training goes on from shorter.
            Unit::Epochs => configuration
                .stages
                .last()
                .map_or(0.0, |stage| stage.resource as f64 / full),
            Unit::Fraction => {
                let shares = configuration.stages.chunk_by(|a, b| a.resource == b.resource);
                let of_share = |stages: &[Stage]| {
                    let last = stages.last()?;
                    let whole = self.whole_epochs(self.is_second(last.resource));
                    let epochs = last.epochs.map_or(whole, |epochs| epochs as f64);
                    Some(last.resource as f64 / self.fidelity.full() as f64 * epochs / full)
                };
                shares.filter_map(of_share).sum()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_normal_scores() {
        let found = [0, 1, 2].map(|place| normal_score(place, 3));
        assert!(
            found
                .iter()
                .zip([0.0, 0.5, 1.0])
                .all(|(found, wanted)| (found - wanted).abs() < 1e-12),
            "{found:?}"
        );
        assert!((normal_score(0, 1) - 0.5).abs() < 1e-15);
        let gap = |place| normal_score(place + 1, 500) - normal_score(place, 500);
        assert!(gap(0) > 10.0 * gap(250));
    }
}
