//! The point of highest worth.
//!
//! Many candidates are looked at once; the best of them climb. Numbers climb along the slope; every dimension with few values is
//! tried value by value, because the best value is often one that a rounded continuous optimum would miss. Both alternate until
//! nothing changes.

use super::candidates::{Candidate, Source};
use super::model::{Model, Purpose, Workspace};
use crate::space::Coordinate;

/// Rounds of climbing and trying.
const ROUNDS: usize = 4;
/// Evaluations along the slope in one round.
const STEPS: usize = 16;

/// What is maximised.
#[derive(Debug)]
pub(super) struct Goal<'a> {
    pub(super) model: &'a Model,
    pub(super) purpose: Purpose,
    /// Candidates further from every evaluated point than this are not trusted.
    pub(super) radius: f64,
    pub(super) source: &'a Source<'a>,
}

impl Goal<'_> {
    /// The worth of a point, less where it is too far from all others to be believed.
    pub(super) fn trusted(&self, row: &[f64], worth: f64) -> f64 {
        if self.is_trusted(row) { worth } else { worth - 50.0 }
    }

    /// Improves a candidate until nothing helps.
    pub(super) fn climb(&self, mut candidate: Candidate, workspace: &mut Workspace) -> Candidate {
        for _ in 0..ROUNDS {
            let before = candidate.score;
            candidate = self.ascend(candidate, workspace);
            let (swept, changed) = self.sweep(candidate, workspace);
            candidate = swept;
            if !changed || candidate.score < before + 1e-6 {
                break;
            }
        }
        candidate
    }

    fn worth(&self, row: &[f64], workspace: &mut Workspace) -> f64 {
        self.trusted(row, self.model.worth(row, self.purpose, workspace, None))
    }

    fn is_trusted(&self, row: &[f64]) -> bool {
        self.radius >= 0.5 || self.model.distance(row, self.source.layout.places()) <= self.radius
    }

    /// Along the slope, in the box of the numbers that have many values.
    fn ascend(&self, candidate: Candidate, workspace: &mut Workspace) -> Candidate {
        let axes: Vec<(usize, usize, (f64, f64))> = (self.source.layout.numbers())
            .filter(|(position, _)| candidate.coordinates[*position].is_some())
            .filter_map(|(position, feature)| Some((position, feature, Source::range(self.source.smooth(position)?))))
            .collect();
        if axes.is_empty() {
            return candidate;
        }
        let mut row = candidate.row.clone();
        let mut slopes = Vec::new();
        let mut worth = self.model.worth(&row, self.purpose, workspace, Some(&mut slopes));
        let mut reach = 0.05;
        let mut trial_slopes = Vec::new();
        for _ in 0..STEPS {
            // Coordinates at their bound that want to leave the box stay.
            let wanted: Vec<f64> = (axes.iter())
                .map(|(_, feature, (low, high))| {
                    let slope = slopes[*feature];
                    let stuck = (slope > 0.0 && row[*feature] >= *high) || (slope < 0.0 && row[*feature] <= *low);
                    if stuck { 0.0 } else { slope }
                })
                .collect();
            let length = wanted.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
            if length < 1e-4 || reach < 1e-4 {
                break;
            }
            let mut trial = row.clone();
            for ((_, feature, (low, high)), slope) in axes.iter().zip(&wanted) {
                trial[*feature] = (row[*feature] + reach * slope / length).clamp(*low, *high);
            }
            let found = self
                .model
                .worth(&trial, self.purpose, workspace, Some(&mut trial_slopes));
            if found > worth && self.is_trusted(&trial) {
                row = trial;
                worth = found;
                std::mem::swap(&mut slopes, &mut trial_slopes);
                reach *= 1.6;
            } else {
                reach *= 0.3;
            }
        }
        let mut genes = candidate.genes.clone();
        for (position, feature, _) in &axes {
            if let Some(numeric) = self.source.smooth(*position) {
                genes[*position] = numeric.at(row[*feature]);
            }
        }
        let mut climbed = self.source.express(genes);
        climbed.score = self.worth(&climbed.row, workspace);
        if climbed.score > candidate.score {
            climbed
        } else {
            candidate
        }
    }

    /// Every dimension with few values, one after the other, at its best value.
    fn sweep(&self, mut candidate: Candidate, workspace: &mut Workspace) -> (Candidate, bool) {
        let mut changed = false;
        for position in 0..candidate.genes.len() {
            if candidate.coordinates[position].is_none_or(|present| present == Coordinate::Fixed) {
                continue;
            }
            for value in self.source.alternatives(position, candidate.genes[position]) {
                let mut genes = candidate.genes.clone();
                genes[position] = value;
                let mut other = self.source.express(genes);
                other.score = self.worth(&other.row, workspace);
                if other.score > candidate.score {
                    candidate = other;
                    changed = true;
                }
            }
        }
        (candidate, changed)
    }
}
