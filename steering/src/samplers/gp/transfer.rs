//! What other searches teach about this one.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | z | transformed losses, standardised for each search by itself |
//! | c | which search a point belongs to: a category, 0 for this search |
//!
//! K. Swersky, J. Snoek, R. P. Adams, *Multi-task Bayesian optimization*, Advances in Neural Information Processing Systems 26
//! (2013), section 3: one process for all searches, whose kernel says how much they have in common. Deviations: the search is one
//! more categorical feature c of the kernel, so one length scale, fitted with the others, stands for the matrix of covariances;
//! of searches with many points a few are taken; and searches are asked first whether they order the points as this one does,
//! after the ranking loss of M. Feurer, B. Letham, E. Bakshy, *Scalable meta-learning for Bayesian optimization* (2018), equation 3.
//!
//! Safety is a comparison, not a hope: when the losses of this search, each predicted from all others, are predicted better without
//! the other searches, these are left out, and the model is the one that would have been made without them.

use super::fit::Fit;
use super::layout::Layout;
use super::model::PRIOR;
use super::outputs::{self, Scaled, Transform};
use super::posterior::{Parameters, Posterior, Scratch};
use crate::history::Related;
use crate::numerics::normal::LOG_SQRT_TWO_PI;
use crate::rng::Generator;
use crate::space::Coordinate;

/// Points of one other search that are looked at.
const LOOKED_AT: usize = 60;
/// Other searches that are learnt from, at most.
const SEARCHES: usize = 16;
/// Their points in the model, at most.
const POINTS: usize = 96;
/// Points of its own from which on a search needs no others.
const ENOUGH: usize = 200;
/// Fewest points of a search that is learnt from.
const FEWEST: usize = 2;
/// Steps of the fit.
const CLIMB: u64 = 20;
/// Steps between two draws of the parameters.
const THIN: usize = 4;
/// Where the fit starts: ln of the length scale between searches.
const APART: f64 = 0.7;

/// This search alone.
#[derive(Debug)]
pub(super) struct Own<'a> {
    pub(super) rows: &'a [Vec<f64>],
    pub(super) scaled: &'a Scaled,
    /// The most probable parameters.
    pub(super) parameters: &'a Parameters,
}

/// This search, whose points come first, together with others.
#[derive(Debug)]
pub(super) struct Joint {
    pub(super) rows: Vec<Vec<f64>>,
    pub(super) values: Vec<f64>,
    /// The most probable ones first, then draws.
    pub(super) parameters: Vec<Parameters>,
    /// The best point of every search that was learnt from.
    pub(super) elsewhere: Vec<Vec<Option<Coordinate>>>,
}

/// One other search.
#[derive(Debug)]
struct Source<'a> {
    /// Rows, best first.
    rows: Vec<Vec<f64>>,
    values: Vec<f64>,
    best: &'a [Option<Coordinate>],
}

impl<'a> Source<'a> {
    fn new(layout: &Layout, related: &'a Related, transform: Transform, code: usize) -> Option<Self> {
        let all = related.points();
        if all.len() < FEWEST {
            return None;
        }
        let chosen = spread(all.len(), LOOKED_AT);
        let losses: Vec<f64> = all.iter().map(|(_, loss)| *loss).collect();
        let scaled = outputs::apply(transform, &losses).or_else(|| outputs::apply(Transform::Linear, &losses))?;
        let rows = chosen.iter().map(|position| {
            let mut row = layout.row(&all[*position].0);
            row[layout.features] = code as f64;
            row
        });
        Some(Self {
            rows: rows.collect(),
            values: scaled.at(&chosen).values,
            best: &all[0].0,
        })
    }

    /// The process that the search would have under parameters that are believed in without data.
    fn guess(&self, layout: &Layout) -> Option<Posterior> {
        let fit = Fit::new(&[], layout.distances, layout.features, PRIOR);
        Posterior::new(
            fit.parameters(&fit.prior_median()),
            layout.distances,
            &self.rows,
            &self.values,
        )
    }
}

/// The model of this search and of those of `related` that help it; nothing if it is better off alone.
pub(super) fn join(
    layout: &Layout,
    related: &[Related],
    own: &Own<'_>,
    draws: usize,
    generator: &mut Generator,
) -> Option<Joint> {
    let n = own.rows.len();
    if n > ENOUGH {
        return None;
    }
    let alone = Posterior::new(own.parameters.clone(), layout.distances, own.rows, &own.scaled.values)?;
    let mut sources: Vec<(f64, Source<'_>)> = Vec::new();
    for (index, related) in related.iter().enumerate() {
        let Some(source) = Source::new(layout, related, own.scaled.transform, index + 1) else {
            continue;
        };
        let Some(guess) = source.guess(layout) else { continue };
        let there = agreement(&guess, own.rows, &own.scaled.values);
        let here = agreement(&alone, &source.rows, &source.values);
        sources.push((there + here, source));
    }
    sources.sort_by(|a, b| b.0.total_cmp(&a.0));
    sources.retain(|(agreement, _)| *agreement > 1.0);
    sources.truncate(SEARCHES);
    let share = POINTS / sources.len().max(1);
    let (mut rows, mut values) = (own.rows.to_vec(), own.scaled.values.clone());
    for (_, source) in &sources {
        for position in spread(source.rows.len(), share) {
            rows.push(source.rows[position].clone());
            values.push(source.values[position]);
        }
    }
    if rows.len() == n {
        return None;
    }
    let fit = Fit::new(&rows, layout.distances, layout.features + 1, PRIOR);
    let mut start = fit.prior_median();
    for (start, length) in start.iter_mut().zip(&own.parameters.lengths) {
        *start = libm::log(*length);
    }
    start[layout.features] = APART;
    let mut theta = fit.climb(&values, &start, CLIMB).theta;
    let together = Fit::left_out(&fit.inverse(&theta)?, &values);
    let before = {
        let fit = Fit::new(own.rows, layout.distances, layout.features, PRIOR);
        let theta = fit.theta(own.parameters);
        Fit::left_out(&fit.inverse(&theta)?, &own.scaled.values)
    };
    if log_density(&together[..n]) < log_density(&before) {
        return None;
    }
    let mut parameters = vec![fit.parameters(&theta)];
    for _ in 0..draws {
        theta = fit.draw(&values, theta, THIN, generator);
        parameters.push(fit.parameters(&theta));
    }
    Some(Joint {
        rows,
        values,
        parameters,
        elsewhere: sources.iter().map(|(_, source)| source.best.to_vec()).collect(),
    })
}

/// The best of the points of other searches that lie apart from those in `known`, by the mean prediction of all these searches.
pub(super) fn promising<'a>(
    layout: &Layout,
    related: &'a [Related],
    is_new: impl Fn(&[Option<Coordinate>]) -> bool,
) -> Option<&'a [Option<Coordinate>]> {
    let sources: Vec<Source<'_>> = (related.iter())
        .filter(|related| related.len() >= RICH)
        .filter_map(|related| Source::new(layout, related, Transform::HalfRank, 0))
        .collect();
    let guesses: Vec<Posterior> = sources.iter().filter_map(|source| source.guess(layout)).collect();
    let mut best: Option<(f64, &[Option<Coordinate>])> = None;
    for related in related.iter().filter(|related| related.len() >= RICH) {
        for (coordinates, _) in related.points().iter().take(PROMISING) {
            if !is_new(coordinates) {
                continue;
            }
            let row = layout.row(coordinates);
            let mut scratch = Scratch::default();
            let sum: f64 = guesses.iter().map(|guess| guess.mean(&row, &mut scratch)).sum();
            if best.is_none_or(|(lowest, _)| sum < lowest) {
                best = Some((sum, coordinates));
            }
        }
    }
    best.map(|(_, coordinates)| coordinates)
}

/// Fewest points of a search whose best point is worth an evaluation before anything is known.
pub(super) const RICH: usize = 8;
/// Best points of each search that are looked at.
const PROMISING: usize = 5;

/// Positions of at most `count` of `all` points that are in order: the better half of them the best, the others evenly.
fn spread(all: usize, count: usize) -> Vec<usize> {
    if all <= count {
        return (0..all).collect();
    }
    let best = count / 2;
    let others = count - best;
    (0..best)
        .chain((0..others).map(|index| best + index * (all - best) / others))
        .collect()
}

/// Share of the pairs of rows that the process puts in the order of their values; a half for none.
fn agreement(posterior: &Posterior, rows: &[Vec<f64>], values: &[f64]) -> f64 {
    let mut scratch = Scratch::default();
    let rows: Vec<(f64, f64)> = (rows.iter().zip(values).take(LOOKED_AT))
        .map(|(row, value)| (posterior.mean(row, &mut scratch), *value))
        .collect();
    let (mut same, mut pairs) = (0.0, 0.0);
    for (i, (mean, value)) in rows.iter().enumerate() {
        for (other_mean, other_value) in &rows[..i] {
            let product = (mean - other_mean) * (value - other_value);
            same += if product > 0.0 {
                1.0
            } else if product < 0.0 {
                0.0
            } else {
                0.5
            };
            pairs += 1.0;
        }
    }
    if pairs > 0.0 { same / pairs } else { 0.5 }
}

/// Logarithm of the density of values of which error and variance of the prediction are known.
fn log_density(left_out: &[(f64, f64)]) -> f64 {
    (left_out.iter())
        .map(|(error, variance)| -0.5 * error * error / variance - 0.5 * libm::log(*variance) - LOG_SQRT_TWO_PI)
        .sum()
}
