//! What a sampler sees of a search under a scheduler: one observation for each configuration, all as if trained equally long.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | a, b | losses of one configuration at a rung and at the next |
//! | n | configurations that have both |
//!
//! Losses of short training say something about long training, and only few configurations are trained long. So each loss is
//! carried upwards from the rung where its configuration stands to the highest rung that anybody has reached, by one straight line
//! from each rung to the next: least squares through the pairs (a, b), its slope drawn towards 1 as long as there are few.
//! Whoever climbed was chosen by a; that biases the mean of b, but not its regression on a. Every sampler can work with the
//! result, and sees both: who is ahead on a rung, and how much rungs differ.
//!
//! The losses that were found on each rung go along as [`Glimpses`], for samplers that make more of them. `gp` takes the rung for
//! one more dimension (A. Klein, L. Tiao, T. Lienart, C. Archambeau, M. Seeger, *Model-based asynchronous hyperparameter and neural
//! architecture search*, arXiv:2003.10865 (2020), section 4), of the carried losses, so that its kernel has to explain only what the
//! lines do not. `tpe` looks at the highest rung that has enough losses and forgets all others (S. Falkner, A. Klein, F. Hutter,
//! *BOHB*, ICML (2018), section 3.3). Each has what measured best for it: `benches/multifidelity`.

use std::collections::BTreeSet;

use protocol::{Loss, Outcome};

use super::ledger::Configuration;
use crate::history::{Glimpse, Glimpses, History};
use crate::space::Space;

/// Pairs that weigh as much as the belief that losses differ from rung to rung by a constant.
const BELIEF: f64 = 4.0;
/// Steepest slope; the flattest is 0, so that no line turns an order around.
const STEEPEST: f64 = 3.0;

/// What was granted: the share or the epochs, and the epochs beside a share. Rungs are in this order.
type Grant = (u64, Option<u64>);

/// The configurations as a history, numbered from 0 in their order.
pub(super) fn history(space: &Space, configurations: &[Configuration<'_>]) -> History {
    let (losses, glimpses) = losses(configurations);
    let entries = configurations.iter().zip(losses).map(|(configuration, loss)| {
        let (outcome, blamed) = match loss.and_then(Loss::new) {
            Some(loss) => (Outcome::Done { loss }, true),
            None => unjudged(configuration),
        };
        (configuration.first.point, outcome, blamed)
    });
    History::numbered(space, entries).with_glimpses(glimpses)
}

/// The outcome of a configuration without a loss.
fn unjudged(configuration: &Configuration<'_>) -> (Outcome, bool) {
    let failed = has_failed(configuration);
    if !failed
        && configuration
            .stages
            .iter()
            .any(|stage| stage.outcome == Outcome::Pending)
    {
        return (Outcome::Pending, false);
    }
    (Outcome::Failed, failed)
}

/// A configuration that came to grief later is no better than one that did at once.
fn has_failed(configuration: &Configuration<'_>) -> bool {
    let failed = |stage: &super::ledger::Stage| stage.outcome == Outcome::Failed && stage.blamed;
    configuration.stages.iter().any(failed)
}

/// The loss of each configuration on the highest rung, found or expected; and the same from every rung that it has stood on.
fn losses(configurations: &[Configuration<'_>]) -> (Vec<Option<f64>>, Glimpses) {
    let curves: Vec<Vec<(Grant, f64)>> = configurations
        .iter()
        .map(|configuration| {
            if has_failed(configuration) {
                return Vec::new();
            }
            let stages = configuration.stages.iter();
            stages
                .filter_map(|stage| Some(((stage.resource, stage.epochs), stage.outcome.loss()?)))
                .collect()
        })
        .collect();
    let rungs: BTreeSet<Grant> = curves.iter().flatten().map(|(grant, _)| *grant).collect();
    let rungs: Vec<Grant> = rungs.into_iter().collect();
    let lines: Vec<Line> = rungs
        .windows(2)
        .map(|pair| Line::through(&pairs(&curves, pair[0], pair[1])))
        .collect();
    if lines.is_empty() {
        let last = |curve: &Vec<(Grant, f64)>| curve.last().map(|(_, loss)| *loss);
        return (curves.iter().map(last).collect(), Glimpses::default());
    }
    let mut glimpses = Vec::new();
    let losses = curves.iter().enumerate().map(|(position, curve)| {
        let mut last = None;
        for (reached, found) in curve {
            let stands = rungs.binary_search(reached).ok()?;
            let expected = lines[stands..].iter().fold(*found, |loss, line| line.at(loss));
            glimpses.push(Glimpse {
                position,
                height: stands as f64 / lines.len() as f64,
                found: *found,
                expected,
            });
            last = Some(expected);
        }
        last
    });
    (losses.collect(), Glimpses::new(glimpses))
}

/// The losses of all that were evaluated at both of two rungs.
fn pairs<G: Ord + Copy>(curves: &[Vec<(G, f64)>], low: G, high: G) -> Vec<(f64, f64)> {
    let at = |curve: &[(G, f64)], rung: G| {
        let place = curve.binary_search_by_key(&rung, |(grant, _)| *grant).ok()?;
        Some(curve[place].1)
    };
    curves
        .iter()
        .filter_map(|curve| Some((at(curve, low)?, at(curve, high)?)))
        .collect()
}

/// The line b = centre.1 + slope · (a − centre.0).
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    slope: f64,
    centre: (f64, f64),
}

impl Line {
    pub(super) fn through(pairs: &[(f64, f64)]) -> Self {
        let n = pairs.len() as f64;
        if pairs.is_empty() {
            return Self {
                slope: 1.0,
                centre: (0.0, 0.0),
            };
        }
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
        let centre = (mean(|pair| pair.0), mean(|pair| pair.1));
        let (mut square, mut product) = (0.0, 0.0);
        for (a, b) in pairs {
            square += (a - centre.0) * (a - centre.0);
            product += (a - centre.0) * (b - centre.1);
        }
        let fitted = if square > 0.0 { product / square } else { 1.0 };
        let slope = (n * fitted.clamp(0.0, STEEPEST) + BELIEF) / (n + BELIEF);
        Self { slope, centre }
    }

    pub(super) fn at(&self, a: f64) -> f64 {
        self.centre.1 + self.slope * (a - self.centre.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn a_line_is_least_squares_drawn_towards_a_shift() {
        assert_eq!(Line::through(&[]).at(0.7).to_bits(), 0.7_f64.to_bits());
        is_near(Line::through(&[(0.5, 0.2)]).at(0.9), 0.6);
        let four = Line::through(&[(0.0, 0.0), (1.0, 0.5), (2.0, 1.0), (3.0, 1.5)]);
        is_near(four.slope, 0.75);
        is_near(four.at(1.5), 0.75);
        let falling = Line::through(&[(0.0, 1.0), (1.0, 0.0), (0.0, 1.0), (1.0, 0.0)]);
        is_near(falling.slope, 0.5);
    }

    #[test]
    fn pairs_are_those_at_both_rungs() {
        let curves = [
            vec![(1, 0.5), (3, 0.4)],
            vec![(1, 0.6)],
            vec![(1, 0.7), (9, 0.1)],
            vec![(3, 0.2)],
        ];
        assert_eq!(pairs(&curves, 1, 3), [(0.5, 0.4)]);
    }
}
