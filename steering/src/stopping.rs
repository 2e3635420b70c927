//! Ending evaluations early, by what they and the others have reported so far.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | r | a rung: a number of epochs at which evaluations are compared |
//! | n | evaluations that have come to r, the one in question included |
//! | η | one in so many may go on |
//!
//! Two rules, both pure functions of the reports. They need a manager that hears of every epoch; without one, the same rules make a
//! table of cutoffs, frozen when a point is asked for, by which the evaluation stops itself.
//!
//! * [`Halving`]: at each rung whoever is not among the best n / η ends. It is the early-stopping form of asynchronous successive
//!   halving as in D. Salinas and others, *Syne Tune*, Conference on Automated Machine Learning (2022): an evaluation goes on if
//!   the share of strictly better ones, itself counted among the n, is at most 1 / η.
//! * [`Median`]: at each report whoever is worse, with the best loss so far, than the median of the running means of all that were
//!   trained to the end. D. Golovin and others, *Google Vizier*, KDD (2017), section 3.2.2.
//!
//! A report that is no number counts as worse than every number, so it can never pull a cutoff along: whoever has reported nothing
//! but such ends at the next comparison.

use std::fmt;

use protocol::report::Decision;

use crate::history::Mode;

/// What one evaluation has reported; small losses are good.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Epochs, rising from 1, with the loss of each; infinite where none was a number.
    reports: Vec<(u64, f64)>,
    /// Whether it was trained to its end.
    finished: bool,
}

impl Curve {
    /// The reports of an evaluation in any order; of several for one epoch the first number counts.
    #[must_use]
    pub fn new(reports: &[(u64, Option<f64>)], finished: bool, mode: Mode) -> Self {
        let sign = if mode == Mode::Max { -1.0 } else { 1.0 };
        let number = |loss: Option<f64>| {
            loss.filter(|loss| loss.is_finite())
                .map_or(f64::INFINITY, |loss| sign * loss)
        };
        let mut all: Vec<(u64, f64)> = reports.iter().map(|(epoch, loss)| (*epoch, number(*loss))).collect();
        all.sort_by_key(|(epoch, loss)| (*epoch, loss.is_infinite()));
        all.dedup_by_key(|(epoch, _)| *epoch);
        Self { reports: all, finished }
    }

    /// Epochs reported so far.
    #[must_use]
    pub fn epochs(&self) -> u64 {
        self.reports.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// The reports up to the first that is not before `epoch`; nothing if there is none yet.
    fn until(&self, epoch: u64) -> Option<&[(u64, f64)]> {
        let place = self.reports.iter().position(|(reported, _)| *reported >= epoch)?;
        Some(&self.reports[..=place])
    }

    /// The smallest loss up to an epoch that was reached.
    #[must_use]
    pub fn best(&self, epoch: u64) -> Option<f64> {
        let best = |best: f64, (_, loss): &(u64, f64)| best.min(*loss);
        Some(self.until(epoch)?.iter().fold(f64::INFINITY, best))
    }

    /// The mean loss up to an epoch that was reached.
    fn mean(&self, epoch: u64) -> Option<f64> {
        let reports = self.until(epoch)?;
        Some(reports.iter().map(|(_, loss)| loss).sum::<f64>() / reports.len() as f64)
    }
}

/// What is to become of an evaluation, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Go on, or end.
    pub decision: Decision,
    /// In words for people.
    pub reason: String,
}

/// A rule that ends evaluations.
pub trait Stopping: fmt::Debug {
    /// What becomes of an evaluation after its latest report, given the curves of all others; nothing where the rule has nothing to
    /// compare.
    fn judge(&self, own: &Curve, others: &[Curve]) -> Option<Judgement>;

    /// Epochs with the loss that must be reached by then, rising, as far as the curves tell.
    fn cutoffs(&self, others: &[Curve]) -> Vec<(u64, f64)>;

    /// Epochs at which curves are worth comparing, rising.
    fn rungs(&self) -> &[u64];
}

/// Successive halving that ends instead of promoting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halving {
    /// One in so many goes on, at least 2.
    pub eta: u64,
    /// Rising; the last one is full training, where nothing is left to decide.
    pub rungs: Vec<u64>,
}

impl Halving {
    fn decided(&self) -> &[u64] {
        &self.rungs[..self.rungs.len().saturating_sub(1)]
    }
}

impl Stopping for Halving {
    fn judge(&self, own: &Curve, others: &[Curve]) -> Option<Judgement> {
        let epochs = own.epochs();
        let before = own.reports.iter().rev().nth(1).map_or(0, |(epoch, _)| *epoch);
        let passed = |rung: &&u64| **rung > before && **rung <= epochs;
        let rung = *self.decided().iter().rev().find(passed)?;
        let loss = own.best(rung)?;
        let at_rung: Vec<f64> = others.iter().filter_map(|other| other.best(rung)).collect();
        let better = at_rung.iter().filter(|other| **other < loss).count();
        let all = at_rung.len() + 1;
        let is_out = loss.is_infinite() || better as u64 * self.eta > all as u64;
        let decision = if is_out { Decision::Stop } else { Decision::Continue };
        let reason = if loss.is_infinite() {
            format!("no number was reported up to epoch {rung}")
        } else {
            format!(
                "place {} of {all} after epoch {rung}, one in {} goes on",
                better + 1,
                self.eta
            )
        };
        Some(Judgement { decision, reason })
    }

    fn cutoffs(&self, others: &[Curve]) -> Vec<(u64, f64)> {
        let cutoff = |rung: &u64| {
            let mut losses: Vec<f64> = others.iter().filter_map(|other| other.best(*rung)).collect();
            if (losses.len() as u64) < 2 * self.eta {
                return None;
            }
            losses.sort_by(f64::total_cmp);
            // One more comes in, and goes on with at most so many better ones.
            let most = (losses.len() + 1) / self.eta as usize;
            Some((*rung, losses[most])).filter(|(_, cutoff)| cutoff.is_finite())
        };
        self.decided().iter().filter_map(cutoff).collect()
    }

    fn rungs(&self) -> &[u64] {
        &self.rungs
    }
}

/// The median stopping rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Median {
    /// Evaluations that must have been trained to the end before any is stopped, at least 1.
    pub startup: usize,
    /// Epochs that everybody has, at least 1.
    pub grace: u64,
    /// Epochs of which a table has cutoffs, rising; the last one is full training.
    pub rungs: Vec<u64>,
}

impl Median {
    fn median(&self, epoch: u64, others: &[Curve]) -> Option<f64> {
        let finished = others.iter().filter(|other| other.finished);
        let mut means: Vec<f64> = finished.filter_map(|other| other.mean(epoch)).collect();
        if epoch < self.grace || means.len() < self.startup.max(1) {
            return None;
        }
        means.sort_by(f64::total_cmp);
        let (low, high) = (means[(means.len() - 1) / 2], means[means.len() / 2]);
        // Of two, one may be infinite; their mean would be too, which lets everybody go on.
        Some(f64::midpoint(low, high))
    }
}

impl Stopping for Median {
    fn judge(&self, own: &Curve, others: &[Curve]) -> Option<Judgement> {
        let epoch = own.epochs();
        let last = self.rungs.last().copied().unwrap_or(0);
        let (loss, median) = (own.best(epoch)?, self.median(epoch, others)?);
        let is_out = epoch < last && (loss > median || loss.is_infinite());
        let decision = if is_out { Decision::Stop } else { Decision::Continue };
        let reason =
            format!("the best loss up to epoch {epoch} is {loss}, the median of the means up to there {median}");
        Some(Judgement { decision, reason })
    }

    fn cutoffs(&self, others: &[Curve]) -> Vec<(u64, f64)> {
        let decided = &self.rungs[..self.rungs.len().saturating_sub(1)];
        let cutoff = |rung: &u64| Some((*rung, self.median(*rung, others)?)).filter(|(_, cutoff)| cutoff.is_finite());
        decided.iter().filter_map(cutoff).collect()
    }

    fn rungs(&self) -> &[u64] {
        &self.rungs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(losses: &[f64], finished: bool) -> Curve {
        let reports: Vec<(u64, Option<f64>)> = (1..).zip(losses.iter().map(|loss| Some(*loss))).collect();
        Curve::new(&reports, finished, Mode::Min)
    }

    fn halving() -> Halving {
        Halving {
            eta: 3,
            rungs: vec![1, 3, 9],
        }
    }

    /// The decisions about evaluations that report these losses after the first epoch, one after the other.
    fn in_turn(losses: &[f64]) -> String {
        let mut others = Vec::new();
        let decide = |loss: &f64| {
            let own = curve(&[*loss], false);
            let judgement = halving().judge(&own, &others).unwrap();
            others.push(own);
            match judgement.decision {
                Decision::Stop => 'S',
                Decision::Continue => 'C',
                Decision::Pause => 'P',
            }
        };
        losses.iter().map(decide).collect()
    }

    #[test]
    fn the_decisions_of_halving_are_those_of_syne_tune() {
        let losses = [0.5, 0.4, 0.6, 0.3, 0.7, 0.35, 0.2, 0.45, 0.55, 0.3, 0.25, 0.1];
        assert_eq!(in_turn(&losses), "CCSCSCCSSCCC");
    }

    #[test]
    fn what_is_no_number_ends_and_spoils_nothing() {
        let mut losses = [0.5, 0.4, 0.6, f64::NAN, 0.7, 0.35, 0.2, 0.45, 0.55, 0.3, 0.25, 0.1];
        assert_eq!(in_turn(&losses), "CCSSSCCSSCCC");
        losses[0] = f64::NAN;
        assert_eq!(
            &in_turn(&losses)[..3],
            "SCC",
            "alone it ends too, and counts as one that was worse"
        );
    }

    #[test]
    fn a_rung_counts_when_it_is_passed_and_only_once() {
        let other = curve(&[0.1, 0.1, 0.1, 0.1], false);
        let others = [other.clone(), other];
        let judge = |losses: &[f64]| halving().judge(&curve(losses, false), &others);
        assert!(judge(&[0.5, 0.4]).is_none());
        assert_eq!(
            judge(&[0.5, 0.4, 0.3]).unwrap().reason,
            "place 3 of 3 after epoch 3, one in 3 goes on"
        );
        assert_eq!(
            judge(&[0.5, 0.1, 0.3]).unwrap().decision,
            Decision::Continue,
            "the best so far counts"
        );
        let sparse = Curve::new(&[(2, Some(0.5)), (5, Some(0.4))], false, Mode::Min);
        assert_eq!(halving().judge(&sparse, &others).unwrap().decision, Decision::Stop);
        let nine = curve(&[0.5; 9], false);
        assert!(
            halving().judge(&nine, &others).is_none(),
            "at full training nothing is left to decide"
        );
    }

    #[test]
    fn the_median_rule_waits_for_enough_and_then_compares_with_running_means() {
        let rule = Median {
            startup: 3,
            grace: 2,
            rungs: vec![1, 3, 9],
        };
        let finished: Vec<Curve> = [0.9, 0.5, 0.1]
            .iter()
            .map(|end| curve(&[1.0, *end, *end], true))
            .collect();
        let judge =
            |losses: &[f64], others: &[Curve]| rule.judge(&curve(losses, false), others).map(|found| found.decision);
        assert_eq!(judge(&[2.0], &finished), None, "grace");
        assert_eq!(judge(&[2.0, 0.8], &finished[1..]), None, "two are not enough");
        // The median of 0.95, 0.75 and 0.55.
        assert_eq!(judge(&[2.0, 0.76], &finished), Some(Decision::Stop));
        assert_eq!(judge(&[2.0, 0.75], &finished), Some(Decision::Continue));
        let mut stopped = finished.clone();
        stopped.extend((0..5).map(|_| curve(&[9.0, 9.0], false)));
        assert_eq!(
            judge(&[2.0, 0.76], &stopped),
            Some(Decision::Stop),
            "who was stopped does not count"
        );
        let broken: Vec<Curve> = (0..3).map(|_| curve(&[f64::NAN, 0.1], true)).collect();
        assert_eq!(judge(&[2.0, 0.8], &broken), Some(Decision::Continue));
        assert_eq!(judge(&[f64::NAN, f64::NAN], &finished), Some(Decision::Stop));
    }

    #[test]
    fn tables_have_the_cutoffs_that_the_rules_would_apply() {
        let others: Vec<Curve> = (0..6).map(|place| curve(&[f64::from(place)], false)).collect();
        assert_eq!(halving().cutoffs(&others), [(1, 2.0)]);
        assert_eq!(halving().cutoffs(&others[..5]), []);
        let at = |loss: f64| halving().judge(&curve(&[loss], false), &others).unwrap().decision;
        assert_eq!((at(2.0), at(2.5)), (Decision::Continue, Decision::Stop));
    }

    #[test]
    fn large_losses_are_good_where_that_is_asked_for() {
        let curve = Curve::new(&[(1, Some(0.3)), (2, None), (2, Some(0.5))], false, Mode::Max);
        assert_eq!((curve.epochs(), curve.best(2)), (2, Some(-0.5)));
    }
}
