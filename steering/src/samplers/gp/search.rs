//! The point of highest worth.
//!
//! Many candidates are looked at once; the best of them climb. Numbers climb along the slope; every dimension with few values is
//! tried value by value, because the best value is often one that a rounded continuous optimum would miss. Both alternate until
//! nothing changes.

use super::candidates::{Candidate, Source};
use super::model::{MANY, Model, Purpose, Worth};
use crate::space::Coordinate;

/// Rounds of climbing and trying.
const ROUNDS: usize = 4;
/// Evaluations along the slope in one round.
const STEPS: usize = 16;

/// Beyond [`MANY`] points, where each step takes long, a step that adds less to the logarithm of the worth is the last.
const GAIN: f64 = 0.01;

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

    /// Improves the candidates until nothing helps, all at the same time: the processes predict many points for little more than
    /// one.
    pub(super) fn climb(&self, candidates: &mut [Candidate]) {
        let mut climbing: Vec<usize> = (0..candidates.len()).collect();
        for _ in 0..ROUNDS {
            let before: Vec<f64> = climbing.iter().map(|which| candidates[*which].score).collect();
            self.ascend(candidates, &climbing);
            let changed = self.sweep(candidates, &climbing);
            climbing = (climbing.iter().zip(before).zip(changed))
                .filter(|((which, before), changed)| *changed && candidates[**which].score >= before + 1e-6)
                .map(|((which, _), _)| *which)
                .collect();
            // Where a round takes long, whoever is behind after one is left where it stands.
            if self.model.rows.len() > MANY {
                climbing.sort_by(|a, b| candidates[*b].score.total_cmp(&candidates[*a].score));
                climbing.truncate(climbing.len().div_ceil(2));
            }
        }
    }

    /// Scores candidates.
    fn score(&self, candidates: &mut [Candidate]) {
        let rows: Vec<&[f64]> = candidates.iter().map(|candidate| candidate.row.as_slice()).collect();
        let worths = self.model.worths(&rows, self.purpose, false);
        for (candidate, worth) in candidates.iter_mut().zip(worths) {
            candidate.score = self.trusted(&candidate.row, worth.value);
        }
    }

    fn is_trusted(&self, row: &[f64]) -> bool {
        self.radius >= 0.5 || self.model.distance(row, self.source.layout.places()) <= self.radius
    }

    /// Along the slope, in the box of the numbers that have many values.
    fn ascend(&self, candidates: &mut [Candidate], climbing: &[usize]) {
        let mut ascents: Vec<Ascent> = (climbing.iter())
            .map(|which| Ascent::new(*which, &candidates[*which], self.source))
            .filter(|ascent| !ascent.axes.is_empty())
            .collect();
        let rows: Vec<&[f64]> = ascents.iter().map(|ascent| ascent.row.as_slice()).collect();
        let worths = self.model.worths(&rows, self.purpose, true);
        for (ascent, worth) in ascents.iter_mut().zip(worths) {
            ascent.worth = worth;
        }
        let enough = if self.model.rows.len() > MANY { GAIN } else { 0.0 };
        for _ in 0..STEPS {
            let (going, trials): (Vec<usize>, Vec<Vec<f64>>) = (ascents.iter().enumerate())
                .filter_map(|(which, ascent)| Some((which, ascent.trial()?)))
                .unzip();
            if going.is_empty() {
                break;
            }
            let rows: Vec<&[f64]> = trials.iter().map(Vec::as_slice).collect();
            let found = self.model.worths(&rows, self.purpose, true);
            for ((which, trial), found) in going.into_iter().zip(trials).zip(found) {
                let ascent = &mut ascents[which];
                if found.value > ascent.worth.value && self.is_trusted(&trial) {
                    ascent.arrived = found.value < ascent.worth.value + enough;
                    ascent.row = trial;
                    ascent.worth = found;
                    ascent.reach *= 1.6;
                } else {
                    ascent.reach *= 0.3;
                }
            }
        }
        let mut climbed: Vec<Candidate> = (ascents.iter())
            .map(|ascent| ascent.candidate(&candidates[ascent.which], self.source))
            .collect();
        self.score(&mut climbed);
        for (ascent, climbed) in ascents.iter().zip(climbed) {
            if climbed.score > candidates[ascent.which].score {
                candidates[ascent.which] = climbed;
            }
        }
    }

    /// Every dimension with few values, one after the other, at its best value; says which candidates changed.
    fn sweep(&self, candidates: &mut [Candidate], climbing: &[usize]) -> Vec<bool> {
        let mut changed = vec![false; climbing.len()];
        for position in 0..self.source.space.dimensions().len() {
            let (owners, mut others): (Vec<usize>, Vec<Candidate>) = (climbing.iter().enumerate())
                .flat_map(|(rank, which)| {
                    let others = self.alternatives(&candidates[*which], position);
                    others.into_iter().map(move |other| (rank, other))
                })
                .unzip();
            self.score(&mut others);
            for (rank, other) in owners.into_iter().zip(others) {
                let candidate = &mut candidates[climbing[rank]];
                if other.score > candidate.score {
                    *candidate = other;
                    changed[rank] = true;
                }
            }
        }
        changed
    }

    /// The candidate with every other value of a dimension that has few.
    fn alternatives(&self, candidate: &Candidate, position: usize) -> Vec<Candidate> {
        if candidate.coordinates[position].is_none_or(|present| present == Coordinate::Fixed) {
            return Vec::new();
        }
        let values = self.source.alternatives(position, candidate.genes[position]);
        let with = |value| {
            let mut genes = candidate.genes.clone();
            genes[position] = value;
            self.source.express(genes)
        };
        values.into_iter().map(with).collect()
    }
}

/// A candidate on its way along the slope.
struct Ascent {
    /// Its place among the candidates.
    which: usize,
    /// Position, feature and range of each number that has many values.
    axes: Vec<(usize, usize, (f64, f64))>,
    row: Vec<f64>,
    worth: Worth,
    /// Length of the next step.
    reach: f64,
    /// Whether the last step changed next to nothing.
    arrived: bool,
}

impl Ascent {
    fn new(which: usize, candidate: &Candidate, source: &Source<'_>) -> Self {
        let axes = (source.layout.numbers())
            .filter(|(position, _)| candidate.coordinates[*position].is_some())
            .filter_map(|(position, feature)| Some((position, feature, Source::range(source.smooth(position)?))))
            .collect();
        Self {
            which,
            axes,
            row: candidate.row.clone(),
            worth: Worth::default(),
            reach: 0.05,
            arrived: false,
        }
    }

    /// The row one step along the slope; nothing at the end of the way, where there is no slope or steps have become too short.
    fn trial(&self) -> Option<Vec<f64>> {
        // Coordinates at their bound that want to leave the box stay.
        let wanted: Vec<f64> = (self.axes.iter())
            .map(|(_, feature, (low, high))| {
                let (slope, x) = (self.worth.slopes[*feature], self.row[*feature]);
                let stuck = (slope > 0.0 && x >= *high) || (slope < 0.0 && x <= *low);
                if stuck { 0.0 } else { slope }
            })
            .collect();
        let length = wanted.iter().map(|slope| slope * slope).sum::<f64>().sqrt();
        if self.arrived || length < 1e-4 || self.reach < 1e-4 {
            return None;
        }
        let mut trial = self.row.clone();
        for ((_, feature, (low, high)), slope) in self.axes.iter().zip(&wanted) {
            trial[*feature] = (self.row[*feature] + self.reach * slope / length).clamp(*low, *high);
        }
        Some(trial)
    }

    /// `before`, with the numbers of where it has come to.
    fn candidate(&self, before: &Candidate, source: &Source<'_>) -> Candidate {
        let mut genes = before.genes.clone();
        for (position, feature, _) in &self.axes {
            if let Some(numeric) = source.smooth(*position) {
                genes[*position] = numeric.at(self.row[*feature]);
            }
        }
        source.express(genes)
    }
}
