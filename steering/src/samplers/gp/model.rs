//! What is learnt from a history: a small ensemble of Gaussian processes for the loss, and one for success.

mod cost;
mod data;
mod forecast;
mod success;

use protocol::Outcome;

use self::cost::Cost;
use self::data::{Trained, evaluated, subset};
pub(in crate::samplers) use self::success::Success;
use super::Options;
use super::acquisition::{Reading, log_improvement};
use super::fit::{Fit, Prior};
use super::layout::Layout;
use super::outputs::{self, Scaled};
use super::posterior::{Outlook, Parameters, Posterior, Prediction, Scratch, mix};
use super::transfer::{self, Own};
use crate::history::History;
use crate::numerics::log_sum_exp;
use crate::numerics::normal::{LOG_SQRT_TWO_PI, distribution};
use crate::numerics::side_by_side::side_by_side;
use crate::rng::{Generator, Key, Stream};
use crate::space::Coordinate;

/// What is believed about the parameters before there are data: a length scale of the root of the dimension in a cube of unit
/// length, noise of an eighth of the standard deviation of the losses, both within a factor of e or so.
pub(super) const PRIOR: Prior = Prior {
    length: (0.0, 1.0),
    signal: (0.0, 1.0),
    noise: (-4.0, 1.0),
    floor: 1e-5,
    mean_variance: 1.0,
};
/// Steps of the fit from each start.
const CLIMB: u64 = 25;
/// Steps of the fit after the scale of the losses is chosen.
const REFINE: u64 = 10;
/// Steps between two draws of the parameters.
const THIN: usize = 4;
/// Points on which parameters are fitted, at most.
const FITTED: usize = 300;
/// Differences of features that a fit keeps, at most: of hundreds of dimensions it looks at fewer points.
const DIFFERENCES: f64 = 2.5e6;
/// Points from which on the data leave little doubt about the parameters.
pub(super) const MANY: usize = 150;
/// Points from which on a fit takes long enough to share it among processors.
const FEW: usize = 40;
/// Points still being evaluated that are taken into account, at most.
const PENDING: usize = 128;

/// Everything that is learnt from a history.
#[derive(Debug, Clone)]
pub(super) struct Model {
    members: Vec<Member>,
    success: Option<Success>,
    cost: Option<Cost>,
    /// Rows of the evaluated points that the processes are conditioned on.
    pub(super) rows: Vec<Vec<f64>>,
    /// Coordinates of the best evaluated points, by predicted loss, the best first.
    pub(super) best: Vec<Vec<Option<Coordinate>>>,
    /// The best point of every other search that was learnt from.
    pub(super) elsewhere: Vec<Vec<Option<Coordinate>>>,
}

#[derive(Debug, Clone)]
struct Member {
    /// What is added to the logarithm of its worths.
    shift: f64,
    posterior: Posterior,
    /// Lowest predicted loss among the evaluated points.
    incumbent: f64,
    reading: Reading,
}

/// What a point is wanted for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Purpose {
    /// To find a lower loss.
    Improve,
    /// To learn most where a low loss is still possible.
    Explore,
}

/// The logarithm of how much a point is worth to know, and its derivatives where they were asked for.
#[derive(Debug, Default)]
pub(super) struct Worth {
    pub(super) value: f64,
    pub(super) slopes: Vec<f64>,
}

impl Model {
    /// Learns from the points of `history` that are part of the space; nothing if there are fewer than two losses, or the fit
    /// fails.
    pub(super) fn new(layout: &Layout, history: &History, options: &Options, key: Key) -> Option<Self> {
        let evaluated = evaluated(history);
        let chosen = subset(&evaluated, layout, options.exact);
        let rows: Vec<Vec<f64>> = chosen.iter().map(|point| layout.row(point.coordinates)).collect();
        let losses: Vec<f64> = chosen.iter().map(|point| point.loss).collect();
        if losses.len() < 2 {
            return None;
        }
        let Trained {
            rows: measured,
            losses,
            best: lowest,
        } = Trained::new(layout, history, &chosen, rows.clone(), losses);
        let mut generator = key.generator(evaluated.len() as u64, Stream::Parameters);
        let (scaled, mut parameters) = fit(&measured, &losses, layout, options.draws, &mut generator)?;
        let own = Own {
            rows: &measured,
            scaled: &scaled,
            parameters: &parameters[0],
        };
        let joint = transfer::join(layout, history.related(), &own, options.draws, &mut generator);
        let (mut data, mut values, mut elsewhere) = (measured.clone(), scaled.values, Vec::new());
        if let Some(joint) = joint {
            (data, values, parameters, elsewhere) = (joint.rows, joint.values, joint.parameters, joint.elsewhere);
        }
        let learn = |parameters: &Parameters| {
            let posterior = Posterior::new(parameters.clone(), layout.distances, &data, &values)?;
            let mut scratch = Scratch::default();
            let means: Vec<f64> = rows.iter().map(|row| posterior.mean(row, &mut scratch)).collect();
            let member = Member {
                shift: 0.0,
                incumbent: means.iter().copied().fold(f64::INFINITY, f64::min),
                reading: Reading {
                    lowest: values[lowest],
                    predicted: means[lowest],
                    noise: posterior.noise(),
                },
                posterior,
            };
            Some((member, means))
        };
        let learnt = side_by_side(parameters.len(), data.len() > MANY, |set| learn(&parameters[set]));
        let (members, means): (Vec<Member>, Vec<Vec<f64>>) = learnt.into_iter().flatten().unzip();
        let means = means.first()?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| means[*a].total_cmp(&means[*b]).then(a.cmp(b)));
        let best = order
            .into_iter()
            .take(10)
            .map(|position| chosen[position].coordinates.to_vec())
            .collect();
        Some(Self {
            members,
            success: Success::new(layout, history),
            cost: Cost::new(layout, history),
            rows: data,
            best,
            elsewhere,
        })
    }

    /// The model that takes the points into account that are still being evaluated; nothing if there are none.
    #[must_use]
    pub(super) fn with_pending(&self, layout: &Layout, history: &History) -> Option<Self> {
        let observations = history.observations().iter();
        let pending = observations.filter(|observation| observation.outcome == Outcome::Pending);
        let known = pending.filter(|observation| observation.key().is_some()).take(PENDING);
        let rows: Vec<Vec<f64>> = known.map(|observation| layout.row(&observation.coordinates)).collect();
        if rows.is_empty() {
            return None;
        }
        let mut model = self.clone();
        for row in &rows {
            for member in &mut model.members {
                member.believe(row);
            }
            if let Some(success) = &mut model.success {
                success.expect(row);
            }
        }
        Some(model)
    }

    /// The worths of many points, and if wanted their derivatives by the features that are compared by distance.
    pub(super) fn worths(&self, rows: &[&[f64]], purpose: Purpose, with_slopes: bool) -> Vec<Worth> {
        let outlooks = self.outlooks(rows, with_slopes);
        let outlooks = |point: usize| outlooks.iter().map(move |outlooks| &outlooks[point]);
        (rows.iter().enumerate())
            .map(|(point, row)| self.worth(row, outlooks(point), purpose, with_slopes))
            .collect()
    }

    /// The worths of many points. Puts those of the members on one scale first: the best of `rows` is worth the same to all of
    /// them, lest the one with the highest hopes decide alone.
    pub(super) fn balanced(&mut self, rows: &[&[f64]], purpose: Purpose) -> Vec<f64> {
        let outlooks = self.outlooks(rows, false);
        for (member, own) in self.members.iter_mut().zip(&outlooks) {
            let highest = own
                .iter()
                .map(|outlook| purpose.worth(outlook.prediction, member).0)
                .fold(f64::NEG_INFINITY, f64::max);
            member.shift = if highest.is_finite() { -highest } else { 0.0 };
        }
        let outlooks = |point: usize| outlooks.iter().map(move |outlooks| &outlooks[point]);
        (rows.iter().enumerate())
            .map(|(point, row)| self.worth(row, outlooks(point), purpose, false).value)
            .collect()
    }

    /// What each member thinks of each point.
    fn outlooks(&self, rows: &[&[f64]], with_slopes: bool) -> Vec<Vec<Outlook>> {
        side_by_side(self.members.len(), self.rows.len() > MANY, |member| {
            self.members[member].posterior.outlooks(rows, with_slopes)
        })
    }

    /// The worth of a point of which the members think so.
    fn worth<'a>(
        &self,
        row: &[f64],
        outlooks: impl Iterator<Item = &'a Outlook>,
        purpose: Purpose,
        with_slopes: bool,
    ) -> Worth {
        let mut terms = Vec::with_capacity(self.members.len());
        let mut parts = Vec::with_capacity(self.members.len());
        for (member, outlook) in self.members.iter().zip(outlooks) {
            let (value, by_mean, by_deviation) = purpose.worth(outlook.prediction, member);
            let by_variance = by_deviation * 0.5 / outlook.prediction.variance.sqrt();
            terms.push(member.shift + value);
            parts.push((outlook, by_mean, by_variance));
        }
        let mut value = log_sum_exp(&terms);
        let mut slopes = Vec::new();
        if with_slopes {
            slopes.resize(parts.first().map_or(0, |(outlook, ..)| outlook.by_mean.len()), 0.0);
            for (term, (outlook, by_mean, by_variance)) in terms.iter().zip(parts) {
                let share = libm::exp(term - value);
                mix(&mut slopes, share * by_mean, &outlook.by_mean);
                mix(&mut slopes, share * by_variance, &outlook.by_variance);
            }
        }
        let mut wanted = with_slopes.then_some(&mut slopes);
        if let Some(cost) = &self.cost {
            value -= cost.weight(row, wanted.as_deref_mut());
        }
        if let Some(success) = &self.success {
            value += success.worth(row, wanted);
        }
        let value = if value.is_nan() { f64::NEG_INFINITY } else { value };
        Worth { value, slopes }
    }

    /// Multiplications that one prediction costs.
    pub(super) fn cost(&self) -> f64 {
        let n = self.rows.len() as f64;
        self.members.len() as f64 * 0.5 * n * n
    }

    /// The largest distance, in any one numeric feature, from `row` to the nearest evaluated point.
    pub(super) fn distance(&self, row: &[f64], distances: usize) -> f64 {
        let nearest = self.rows.iter().map(|other| {
            row[..distances]
                .iter()
                .zip(other)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max)
        });
        nearest.fold(f64::INFINITY, f64::min)
    }
}

impl Member {
    /// Takes a point that is still being evaluated for one with the predicted loss, on which the next is to improve as well.
    fn believe(&mut self, row: &[f64]) {
        let mean = self.posterior.believe(row);
        self.incumbent = self.incumbent.min(mean);
        self.reading.lowest = self.reading.lowest.min(mean);
        self.reading.predicted = self.reading.predicted.min(mean);
    }
}

impl Purpose {
    /// Worth with its derivatives by mean and deviation.
    fn worth(self, prediction: Prediction, member: &Member) -> (f64, f64, f64) {
        let (mean, deviation, incumbent) = (prediction.mean, prediction.variance.sqrt(), member.incumbent);
        match self {
            Self::Improve => {
                let improvement = log_improvement(mean, deviation, &member.reading);
                (improvement.value, improvement.by_mean, improvement.by_deviation)
            }
            // The standard deviation, times the chance that the point is better than the incumbent by half of it.
            Self::Explore => {
                let z = (incumbent - mean) / deviation + 1.0;
                let mass = distribution(z).max(1e-300);
                let share = libm::exp(-0.5 * z * z - LOG_SQRT_TWO_PI) / mass;
                (
                    libm::log(deviation) + libm::log(mass),
                    -share / deviation,
                    1.0 / deviation - share * (incumbent - mean) / (deviation * deviation),
                )
            }
        }
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
    losses: &[f64],
    layout: &Layout,
    draws: usize,
    generator: &mut Generator,
) -> Option<(Scaled, Vec<Parameters>)> {
    let positions = fitted(rows.len(), layout.features);
    let some_rows: Vec<Vec<f64>> = positions.iter().map(|position| rows[*position].clone()).collect();
    let pick = |values: &[f64]| -> Vec<f64> { positions.iter().map(|position| values[*position]).collect() };
    let fit = Fit::new(&some_rows, layout.distances, layout.features, PRIOR);
    let mut candidates = outputs::all(losses);
    let first = pick(&candidates.first()?.values);
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
    let scores: Vec<f64> = (candidates.iter())
        .map(|scaled| {
            let part = scaled.at(&positions);
            part.score(&Fit::left_out(&inverse, &part.values))
        })
        .collect();
    let best = (1..scores.len()).fold(0, |best, index| if scores[index] > scores[best] { index } else { best });
    let chosen: Scaled = candidates.swap_remove(best);
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
    let (scaled, parameters) = fit(rows, losses, layout, 0, generator)?;
    Some((scaled.values, parameters.into_iter().next()?))
}
