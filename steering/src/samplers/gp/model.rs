//! What is learnt from a history: a small ensemble of Gaussian processes for each loss, and one for success.

mod cost;
mod data;
mod forecast;
mod lesson;
mod member;
mod success;

use protocol::Outcome;

use self::cost::Cost;
use self::data::{evaluated, subset};
pub(in crate::samplers) use self::lesson::most_probable;
use self::lesson::{FITTED, Lesson};
use self::member::{Aim, Member};
pub(in crate::samplers) use self::success::Success;
use super::Options;
use super::acquisition::Reading;
use super::fit::{Fit, Prior};
use super::hypervolume::Region;
use super::layout::Layout;
use super::outputs;
use super::posterior::{Outlook, Posterior, Scratch, mix};
use crate::history::History;
use crate::numerics::log_sum_exp;
use crate::numerics::side_by_side::side_by_side;
use crate::objectives::{front, of_objective, ranked};
use crate::rng::{Key, Stream};
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
/// Points from which on the data leave little doubt about the parameters.
pub(super) const MANY: usize = 150;
/// Best points near which candidates are looked for.
const NEAR: usize = 5;
/// Best points that are kept.
const BEST: usize = 10;
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
    /// Coordinates of the best evaluated points, by predicted loss, the best first; with several objectives of those on the front.
    best: Vec<Vec<Option<Coordinate>>>,
    /// The best point of every other search that was learnt from.
    pub(super) elsewhere: Vec<Vec<Option<Coordinate>>>,
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
        let ranked = ranked(history);
        let evaluated = evaluated(&ranked);
        let chosen = subset(&evaluated, layout, options.exact);
        let rows: Vec<Vec<f64>> = chosen.iter().map(|point| layout.row(point.coordinates)).collect();
        if rows.len() < 2 {
            return None;
        }
        let mut generator = key.generator(evaluated.len() as u64, Stream::Parameters);
        let several = history.objectives();
        // Volume is measured on the scale of the losses themselves.
        let scales = if several > 1 { outputs::linear } else { outputs::all };
        let lessons: Vec<Lesson> = (0..several)
            .map(|objective| {
                let losses = of_objective(history, objective);
                Lesson::new(layout, &losses, &chosen, &rows, options.draws, scales, &mut generator)
            })
            .collect::<Option<_>>()?;
        let order = best(&lessons)?;
        let best = order.into_iter().map(|position| chosen[position].coordinates.to_vec());
        Some(Self {
            success: Success::new(layout, history),
            cost: Cost::new(layout, history),
            best: best.collect(),
            rows: lessons[0].rows.clone(),
            elsewhere: lessons.iter().flat_map(|lesson| lesson.elsewhere.clone()).collect(),
            members: members(lessons),
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
        (rows.iter().enumerate())
            .map(|(point, row)| self.worth(row, &outlooks, point, purpose, with_slopes))
            .collect()
    }

    /// The worths of many points. Puts those of the members on one scale first: the best of `rows` is worth the same to all of
    /// them, lest the one with the highest hopes decide alone.
    pub(super) fn balanced(&mut self, rows: &[&[f64]], purpose: Purpose) -> Vec<f64> {
        let outlooks = self.outlooks(rows, false);
        let objectives = self.objectives();
        for (member, own) in self.members.iter_mut().zip(outlooks.chunks(objectives)) {
            let highest = (0..rows.len())
                .map(|point| member.opinion(own, point, purpose).worth)
                .fold(f64::NEG_INFINITY, f64::max);
            member.shift = if highest.is_finite() { -highest } else { 0.0 };
        }
        (rows.iter().enumerate())
            .map(|(point, row)| self.worth(row, &outlooks, point, purpose, false).value)
            .collect()
    }

    /// What each process of each member thinks of each point.
    fn outlooks(&self, rows: &[&[f64]], with_slopes: bool) -> Vec<Vec<Outlook>> {
        let posteriors: Vec<&Posterior> = self.members.iter().flat_map(|member| &member.posteriors).collect();
        side_by_side(posteriors.len(), self.rows.len() > MANY, |which| {
            posteriors[which].outlooks(rows, with_slopes)
        })
    }

    /// Processes of each member.
    fn objectives(&self) -> usize {
        self.members.first().map_or(1, |member| member.posteriors.len())
    }

    /// The worth of a point of which the processes of the members think so.
    fn worth(
        &self,
        row: &[f64],
        outlooks: &[Vec<Outlook>],
        point: usize,
        purpose: Purpose,
        with_slopes: bool,
    ) -> Worth {
        let objectives = self.objectives();
        let mut terms = Vec::with_capacity(self.members.len());
        let mut opinions = Vec::with_capacity(self.members.len());
        for (member, own) in self.members.iter().zip(outlooks.chunks(objectives)) {
            let opinion = member.opinion(own, point, purpose);
            terms.push(member.shift + opinion.worth);
            opinions.push(opinion);
        }
        let mut value = log_sum_exp(&terms);
        let mut slopes = Vec::new();
        if with_slopes {
            slopes.resize(
                outlooks.first().map_or(0, |outlooks| outlooks[point].by_mean.len()),
                0.0,
            );
            for ((term, opinion), own) in terms.iter().zip(&opinions).zip(outlooks.chunks(objectives)) {
                let share = libm::exp(term - value);
                for (objective, outlooks) in own.iter().enumerate() {
                    let outlook = &outlooks[point];
                    let by_variance = opinion.by_deviation[objective] * 0.5 / outlook.prediction.variance.sqrt();
                    mix(&mut slopes, share * opinion.by_mean[objective], &outlook.by_mean);
                    mix(&mut slopes, share * by_variance, &outlook.by_variance);
                }
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

    /// The best points near which the point of this ordinal is looked for: with several objectives, others of the front each time.
    pub(super) fn best_for(&self, ordinal: u64) -> Vec<&[Option<Coordinate>]> {
        let count = self.best.len().min(NEAR);
        if self.objectives() < 2 {
            return self.best[..count].iter().map(Vec::as_slice).collect();
        }
        let begin = (ordinal % self.best.len() as u64) as usize;
        (0..count)
            .map(|rank| self.best[(begin + rank * self.best.len() / count) % self.best.len()].as_slice())
            .collect()
    }

    /// Multiplications that one prediction costs.
    pub(super) fn cost(&self) -> f64 {
        let n = self.rows.len() as f64;
        (self.members.len() * self.objectives()) as f64 * 0.5 * n * n
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

/// One member for each set of parameters.
fn members(lessons: Vec<Lesson>) -> Vec<Member> {
    let count = lessons.iter().map(|lesson| lesson.learnt.len()).min().unwrap_or(0);
    let lowest = (lessons.len() == 1).then(|| lessons[0].lowest);
    let mut learnt: Vec<_> = lessons.into_iter().map(|lesson| lesson.learnt.into_iter()).collect();
    (0..count)
        .map(|_| {
            let (posteriors, means): (Vec<Posterior>, Vec<Vec<f64>>) =
                learnt.iter_mut().filter_map(Iterator::next).unzip();
            let aim = match lowest {
                Some((point, lowest)) => Aim::Lowest {
                    incumbent: means[0].iter().copied().fold(f64::INFINITY, f64::min),
                    reading: Reading {
                        lowest,
                        predicted: means[0][point],
                        noise: posteriors[0].noise(),
                    },
                },
                None => Aim::Front(Region::new(transposed(&means))),
            };
            Member {
                shift: 0.0,
                posteriors,
                aim,
            }
        })
        .collect()
}

/// Positions of the best points, as the most probable processes predict them; nothing if there are no processes.
fn best(lessons: &[Lesson]) -> Option<Vec<usize>> {
    let means = (lessons.iter())
        .map(|lesson| Some(lesson.learnt.first()?.1.as_slice()))
        .collect::<Option<Vec<&[f64]>>>()?;
    Some(match means.as_slice() {
        [means] => {
            let mut order: Vec<usize> = (0..means.len()).collect();
            order.sort_by(|a, b| means[*a].total_cmp(&means[*b]).then(a.cmp(b)));
            order.truncate(BEST);
            order
        }
        several => {
            let points = transposed(several);
            front(&points.iter().map(Vec::as_slice).collect::<Vec<_>>())
        }
    })
}

/// For each point what all lists say of it.
fn transposed(lists: &[impl AsRef<[f64]>]) -> Vec<Vec<f64>> {
    let points = 0..lists.first().map_or(0, |list| list.as_ref().len());
    points
        .map(|point| lists.iter().map(|list| list.as_ref()[point]).collect())
        .collect()
}
