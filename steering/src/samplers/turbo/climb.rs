//! The point of highest expected improvement, times the chance of success, inside the trust region.
//!
//! The candidates that promise most climb: numbers along the slope, inside the box; categories and numbers of few values one after
//! the other, to their best value. Both alternate until nothing changes.

use super::super::gp::acquisition::log_improvement;
use super::super::gp::candidates::{Candidate, Source};
use super::super::gp::posterior::{Posterior, Scratch};
use super::local::Local;
use super::region::side;
use crate::space::Coordinate;

/// Candidates that climb.
const CLIMBERS: usize = 4;
/// Rounds of climbing and trying.
const ROUNDS: usize = 3;
/// Evaluations along the slope in one round.
const STEPS: usize = 30;

/// What is maximised.
#[derive(Debug)]
pub(super) struct Goal<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) local: &'a Local,
    /// The process of `local`, with the points that are on their way.
    pub(super) posterior: &'a Posterior,
}

impl Goal<'_> {
    /// The candidates that have climbed, best first, before all others in the order of their promise.
    pub(super) fn climbed(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        let mut scratch = Scratch::default();
        for candidate in &mut candidates {
            candidate.score = self.score(&candidate.row, &mut scratch);
        }
        let descending = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score);
        candidates.sort_by(descending);
        let mut climbed: Vec<Candidate> = (candidates.iter().take(CLIMBERS))
            .map(|start| self.climb(start.clone(), &mut scratch))
            .collect();
        climbed.sort_by(descending);
        climbed.append(&mut candidates);
        climbed
    }

    fn score(&self, row: &[f64], scratch: &mut Scratch) -> f64 {
        let found = self.posterior.predict(row, scratch);
        let chance = self
            .local
            .chance(row, scratch)
            .map_or(0.0, |chance| libm::log(chance.max(1e-300)));
        chance + log_improvement(found.mean, found.variance.sqrt(), self.local.incumbent).value
    }

    fn climb(&self, mut candidate: Candidate, scratch: &mut Scratch) -> Candidate {
        for _ in 0..ROUNDS {
            let before = candidate.score;
            candidate = self.ascend(candidate, scratch);
            let changed = self.sweep(&mut candidate, scratch);
            if !changed || candidate.score < before + 1e-6 {
                break;
            }
        }
        candidate
    }

    /// Along the slope of the numbers that have many values.
    fn ascend(&self, candidate: Candidate, scratch: &mut Scratch) -> Candidate {
        let half = 0.5 * self.local.length;
        let axes: Vec<(usize, usize, f64, f64)> = (self.source.layout.numbers())
            .filter(|(position, _)| candidate.coordinates[*position].is_some())
            .filter_map(|(position, feature)| {
                let (low, high) = Source::range(self.source.smooth(position)?);
                let centre = self.local.centre[position].and_then(Coordinate::t)?;
                Some((position, feature, (centre - half).max(low), (centre + half).min(high)))
            })
            .collect();
        if axes.is_empty() {
            return candidate;
        }
        let mut row = candidate.row.clone();
        let (mut worth, mut slopes) = self.slopes(&row, scratch);
        let mut reach = 0.25 * half * (axes.len() as f64).sqrt();
        let shortest = 1e-3 * reach;
        for _ in 0..STEPS {
            let wanted: Vec<f64> = (axes.iter())
                .map(|(_, feature, low, high)| {
                    let slope = slopes[*feature];
                    let stuck = (slope > 0.0 && row[*feature] >= *high) || (slope < 0.0 && row[*feature] <= *low);
                    if stuck { 0.0 } else { slope }
                })
                .collect();
            let length = wanted.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
            if length < 1e-6 || reach < shortest {
                break;
            }
            let mut trial = row.clone();
            for ((_, feature, low, high), slope) in axes.iter().zip(&wanted) {
                trial[*feature] = (row[*feature] + reach * slope / length).clamp(*low, *high);
            }
            let (found, trial_slopes) = self.slopes(&trial, scratch);
            if found > worth {
                (row, worth, slopes) = (trial, found, trial_slopes);
                reach *= 1.6;
            } else {
                reach *= 0.3;
            }
        }
        let mut genes = candidate.genes.clone();
        for (position, feature, _, _) in &axes {
            if let Some(numeric) = self.source.smooth(*position) {
                genes[*position] = numeric.at(row[*feature]);
            }
        }
        let mut climbed = self.source.express(genes);
        climbed.score = self.score(&climbed.row, scratch);
        if climbed.score > candidate.score {
            climbed
        } else {
            candidate
        }
    }

    fn slopes(&self, row: &[f64], scratch: &mut Scratch) -> (f64, Vec<f64>) {
        let (mut by_mean, mut by_variance) = (Vec::new(), Vec::new());
        let found = self
            .posterior
            .predict_with_slopes(row, scratch, &mut by_mean, &mut by_variance);
        let deviation = found.variance.sqrt();
        let improvement = log_improvement(found.mean, deviation, self.local.incumbent);
        let slopes = by_mean.iter().zip(&by_variance);
        let slopes = slopes
            .map(|(mean, variance)| improvement.by_mean * mean + improvement.by_deviation * 0.5 / deviation * variance);
        (improvement.value, slopes.collect())
    }

    /// Every dimension of few values at its best value within the region; whether any has changed.
    fn sweep(&self, candidate: &mut Candidate, scratch: &mut Scratch) -> bool {
        let mut changed = false;
        for position in 0..candidate.genes.len() {
            if candidate.coordinates[position].is_none_or(|present| present == Coordinate::Fixed) {
                continue;
            }
            for value in self.source.alternatives(position, candidate.genes[position]) {
                let mut genes = candidate.genes.clone();
                genes[position] = value;
                let mut other = self.source.express(genes);
                if side(self.source.space, &other.coordinates, &self.local.centre) > self.local.length {
                    continue;
                }
                other.score = self.score(&other.row, scratch);
                if other.score > candidate.score {
                    *candidate = other;
                    changed = true;
                }
            }
        }
        changed
    }
}
