//! What is learnt about one loss.

use super::super::fit::Fit;
use super::super::layout::Layout;
use super::super::outputs::{self, Scaled};
use super::super::posterior::{Parameters, Posterior, Scratch};
use super::super::transfer::{self, Own};
use super::data::{Evaluated, Trained};
use super::{MANY, PRIOR};
use crate::history::History;
use crate::numerics::side_by_side::side_by_side;
use crate::rng::Generator;
use crate::space::Coordinate;

/// Steps of the fit from each start.
const CLIMB: u64 = 25;
/// Steps of the fit after the scale of the losses is chosen.
const REFINE: u64 = 10;
/// Steps between two draws of the parameters.
const THIN: usize = 4;
/// Points on which parameters are fitted, at most.
pub(super) const FITTED: usize = 300;
/// Differences of features that a fit keeps, at most: of hundreds of dimensions it looks at fewer points.
const DIFFERENCES: f64 = 2.5e6;
/// Points from which on a fit takes long enough to share it among processors.
const FEW: usize = 40;

/// The processes of one loss, one for each set of parameters.
#[derive(Debug)]
pub(super) struct Lesson {
    /// With the means of each at the evaluated points.
    pub(super) learnt: Vec<(Posterior, Vec<f64>)>,
    /// The point of the lowest measured loss, and that loss on the scale of the processes.
    pub(super) lowest: (usize, f64),
    /// The rows that the processes are conditioned on.
    pub(super) rows: Vec<Vec<f64>>,
    /// The best point of every other search that was learnt from.
    pub(super) elsewhere: Vec<Vec<Option<Coordinate>>>,
}

impl Lesson {
    /// Learns the losses that `history` gives to the points `chosen`, whose features are `rows`, on the one of the
    /// `scales` on which they are predicted best; nothing if the fit fails.
    pub(super) fn new(
        layout: &Layout,
        history: &History,
        chosen: &[Evaluated<'_>],
        rows: &[Vec<f64>],
        draws: usize,
        scales: fn(&[f64]) -> Vec<Scaled>,
        generator: &mut Generator,
    ) -> Option<Self> {
        let losses = (chosen.iter())
            .map(|point| point.loss_in(history))
            .collect::<Option<Vec<f64>>>()?;
        let Trained {
            rows: measured,
            losses,
            best,
        } = Trained::new(layout, history, chosen, rows.to_vec(), losses);
        let (scaled, mut parameters) = fit(&measured, scales(&losses), layout, draws, generator)?;
        let own = Own {
            rows: &measured,
            scaled: &scaled,
            parameters: &parameters[0],
        };
        let joint = transfer::join(layout, history.related(), &own, draws, generator);
        let (mut data, mut values, mut elsewhere) = (measured.clone(), scaled.values, Vec::new());
        if let Some(joint) = joint {
            (data, values, parameters, elsewhere) = (joint.rows, joint.values, joint.parameters, joint.elsewhere);
        }
        let learn = |parameters: &Parameters| {
            let posterior = Posterior::new(parameters.clone(), layout.distances, &data, &values)?;
            let mut scratch = Scratch::default();
            let means: Vec<f64> = rows.iter().map(|row| posterior.mean(row, &mut scratch)).collect();
            Some((posterior, means))
        };
        let learnt = side_by_side(parameters.len(), data.len() > MANY, |set| learn(&parameters[set]));
        Some(Self {
            learnt: learnt.into_iter().flatten().collect(),
            lowest: (best, values[best]),
            rows: data,
            elsewhere,
        })
    }
}

/// Positions on which parameters are fitted: all, or the best, a third of those that are affordable, and the others evenly by rank.
fn fitted(n: usize, features: usize) -> Vec<usize> {
    let most = FITTED.min((2.0 * DIFFERENCES / features.max(1) as f64).sqrt() as usize);
    if n <= most {
        return (0..n).collect();
    }
    let best = most / 3;
    let others = most - best;
    (0..best)
        .chain((0..others).map(|index| best + index * (n - best) / others))
        .collect()
}

/// The losses on the scale on which the model predicts best, and the parameters: the most probable ones first, then draws from
/// their distribution. Of few data many parameters can be true; a search that believes the most probable ones alone is too sure.
fn fit(
    rows: &[Vec<f64>],
    mut scales: Vec<Scaled>,
    layout: &Layout,
    draws: usize,
    generator: &mut Generator,
) -> Option<(Scaled, Vec<Parameters>)> {
    let positions = fitted(rows.len(), layout.features);
    let some_rows: Vec<Vec<f64>> = positions.iter().map(|position| rows[*position].clone()).collect();
    let pick = |values: &[f64]| -> Vec<f64> { positions.iter().map(|position| values[*position]).collect() };
    let fit = Fit::new(&some_rows, layout.distances, layout.features, PRIOR);
    let first = pick(&scales.first()?.values);
    // The way to the optimum is found on few points.
    let part = positions.len().div_ceil(MANY).max(1);
    let shared = if part == 1 {
        from_both_starts(&fit, &first)
    } else {
        let few_rows: Vec<Vec<f64>> = some_rows.iter().step_by(part).cloned().collect();
        let few: Vec<f64> = first.iter().step_by(part).copied().collect();
        let rough = Fit::new(&few_rows, layout.distances, layout.features, PRIOR);
        from_both_starts(&rough, &few)
    };
    let inverse = fit.inverse(&shared)?;
    let scores: Vec<f64> = (scales.iter())
        .map(|scaled| {
            let part = scaled.at(&positions);
            part.score(&Fit::left_out(&inverse, &part.values))
        })
        .collect();
    let best = (1..scores.len()).fold(0, |best, index| if scores[index] > scores[best] { index } else { best });
    let chosen: Scaled = scales.swap_remove(best);
    let values = pick(&chosen.values);
    let mut theta = fit.climb(&values, &shared, REFINE).theta;
    let mut parameters = vec![fit.parameters(&theta)];
    let draws = if positions.len() > MANY { draws.min(1) } else { draws };
    for _ in 0..draws {
        theta = fit.draw(&values, theta, THIN, generator);
        parameters.push(fit.parameters(&theta));
    }
    Some((chosen, parameters))
}

/// The better of two optima.
fn from_both_starts(fit: &Fit, values: &[f64]) -> Vec<f64> {
    let starts = [fit.prior_median(), fit.data_driven(values)];
    let optima = side_by_side(starts.len(), values.len() > FEW, |start| {
        fit.climb(values, &starts[start], CLIMB)
    });
    let best = optima.into_iter().reduce(|best, other| {
        if other.log_density > best.log_density {
            other
        } else {
            best
        }
    });
    best.map_or_else(|| fit.prior_median(), |best| best.theta)
}

/// The losses on their scale and the most probable parameters, for samplers with a single process.
pub(in crate::samplers) fn most_probable(
    rows: &[Vec<f64>],
    losses: &[f64],
    layout: &Layout,
    generator: &mut Generator,
) -> Option<(Vec<f64>, Parameters)> {
    let (scaled, parameters) = fit(rows, outputs::all(losses), layout, 0, generator)?;
    Some((scaled.values, parameters.into_iter().next()?))
}
