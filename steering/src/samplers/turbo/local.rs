//! The model of the neighbourhood, and the choice of a candidate by a draw from it.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | μ, s | mean and standard deviation of the process at a candidate |
//! | P | chance of success |

use super::super::gp::candidates::Candidate;
use super::super::gp::layout::Layout;
use super::super::gp::model::{Success, most_probable};
use super::super::gp::posterior::{Parameters, Posterior, Prediction, Scratch};
use super::region::Region;
use crate::history::History;
use crate::numerics::linear_algebra::{Cholesky, dot, row_start};
use crate::numerics::normal::quantile;
use crate::rng::{Key, Stream};
use crate::space::Coordinate;

/// Points that the process is conditioned on, at most.
const POINTS: usize = 400;
/// Share of them that are the best ones instead of the nearest.
const BEST: f64 = 0.25;
/// Candidates among which a joint draw is made: those with the lowest μ − 3 s.
const DRAWN: usize = 200;
/// Width of that bound, in standard deviations.
const HOPE: f64 = 3.0;
/// Least chance of success of a candidate that is drawn.
const SAFE: f64 = 0.5;

/// What is known near the centre of the trust region.
#[derive(Debug)]
pub(super) struct Local {
    /// Coordinates of the centre.
    pub(super) centre: Vec<Option<Coordinate>>,
    /// L.
    pub(super) length: f64,
    /// How much the losses depend on each dimension, relative to the one on which they depend most.
    pub(super) relevance: Vec<f64>,
    posterior: Posterior,
    success: Option<Success>,
    centre_mean: f64,
}

impl Local {
    /// Learns from the points nearest to the centre and the best ones.
    pub(super) fn new(layout: &Layout, history: &History, region: &Region, key: Key) -> Option<Self> {
        let observations = history.observations();
        let centre = observations[region.centre].coordinates.clone();
        let middle = layout.row(&centre);
        let mut evaluated: Vec<(f64, Vec<f64>)> = (observations.iter())
            .filter(|observation| observation.key().is_some())
            .filter_map(|observation| Some((observation.outcome.loss()?, layout.row(&observation.coordinates))))
            .collect();
        let total = evaluated.len() as u64;
        evaluated.sort_by(|a, b| a.0.total_cmp(&b.0));
        if evaluated.len() > POINTS {
            let best = (BEST * POINTS as f64) as usize;
            let mut others: Vec<(f64, (f64, Vec<f64>))> = (evaluated.drain(best..))
                .map(|one| (distance(layout, &one.1, &middle), one))
                .collect();
            others.sort_by(|a, b| a.0.total_cmp(&b.0));
            evaluated.extend(others.into_iter().take(POINTS - best).map(|(_, one)| one));
            evaluated.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let (losses, rows): (Vec<f64>, Vec<Vec<f64>>) = evaluated.into_iter().unzip();
        let mut generator = key.generator(total, Stream::Parameters);
        let (values, parameters) = most_probable(&rows, &losses, layout, &mut generator)?;
        let relevance = layout.by_dimension(&relevance(&parameters), centre.len());
        let posterior = Posterior::new(parameters, layout.distances, &rows, &values)?;
        let centre_mean = posterior.mean(&middle, &mut Scratch::default());
        Some(Self {
            centre,
            length: region.length,
            relevance,
            posterior,
            success: Success::new(layout, history),
            centre_mean,
        })
    }

    /// Predicted loss of the centre, on the scale of the model.
    pub(super) fn centre_mean(&self) -> f64 {
        self.centre_mean
    }

    pub(super) fn forecast(&self, row: &[f64]) -> Prediction {
        self.posterior.predict(row, &mut Scratch::default())
    }

    /// P; nothing while no point has failed.
    pub(super) fn chance(&self, row: &[f64]) -> Option<f64> {
        (self.success.as_ref()).map(|success| success.chance(row))
    }

    /// The position of the candidate that has the lowest loss in one draw from the process.
    pub(super) fn choose(&self, candidates: &[Candidate], key: Key, ordinal: u64) -> Option<usize> {
        let safe = self.safe(candidates, key, ordinal);
        let mut generator = key.generator(ordinal, Stream::Density);
        let mut scratch = Scratch::default();
        let mut hopes: Vec<(f64, usize)> = (safe.into_iter())
            .map(|position| {
                let found = self.posterior.predict(&candidates[position].row, &mut scratch);
                (found.mean - HOPE * found.variance.sqrt(), position)
            })
            .collect();
        hopes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        hopes.truncate(DRAWN);
        let rows: Vec<&[f64]> = (hopes.iter())
            .map(|(_, position)| candidates[*position].row.as_slice())
            .collect();
        let (means, covariances) = self.posterior.joint(&rows);
        let normals: Vec<f64> = (means.iter())
            .map(|_| quantile(generator.uniform().clamp(1e-12, 1.0 - 1e-12)))
            .collect();
        let factor = factor(&covariances, means.len());
        let draws = means.iter().enumerate().map(|(i, mean)| match &factor {
            Some(factor) => mean + dot(factor.row(i), &normals),
            None => *mean,
        });
        let best = draws.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(index, _)| hopes[index].1)
    }

    /// Positions of the candidates with P of at least a drawn chance, or of the safest ones if those are few.
    fn safe(&self, candidates: &[Candidate], key: Key, ordinal: u64) -> Vec<usize> {
        let wanted = SAFE + (1.0 - SAFE) * key.generator(ordinal, Stream::Tie).uniform();
        let Some(success) = &self.success else {
            return (0..candidates.len()).collect();
        };
        let mut chances: Vec<(f64, usize)> = (candidates.iter().enumerate())
            .map(|(position, candidate)| (success.chance(&candidate.row), position))
            .collect();
        chances.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let enough = chances.partition_point(|(chance, _)| *chance >= wanted);
        let kept = enough.max(candidates.len() / 20).max(1);
        chances.into_iter().take(kept).map(|(_, position)| position).collect()
    }
}

/// The factor of covariances of points so near to each other that rounding may leave the matrix indefinite.
fn factor(covariances: &[f64], n: usize) -> Option<Cholesky> {
    [1e-10, 1e-8, 1e-6, 1e-4].into_iter().find_map(|jitter| {
        let mut raised = covariances.to_vec();
        for i in 0..n {
            raised[row_start(i) + i] += jitter;
        }
        Cholesky::new(raised, n)
    })
}

/// The inverse length scales of the features, relative to the largest.
fn relevance(parameters: &Parameters) -> Vec<f64> {
    let shortest = parameters.lengths.iter().copied().fold(f64::INFINITY, f64::min);
    parameters.lengths.iter().map(|length| shortest / length).collect()
}

/// Squared distance over the numbers, plus one for every other feature that differs.
fn distance(layout: &Layout, a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).enumerate().map(|(feature, (a, b))| {
        if feature < layout.distances {
            (a - b) * (a - b)
        } else {
            f64::from(a.to_bits() != b.to_bits())
        }
    });
    squares.sum()
}
