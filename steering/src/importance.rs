//! Which dimensions matter: shares of the variance of the loss over the search space.
//!
//! F. Hutter, H. Hoos, K. Leyton-Brown, *An efficient approach for assessing hyperparameter importance*, ICML 32 (2014): a random
//! forest fitted to the history stands for the loss, and the functional analysis of variance of the forest is computed from its
//! leaves. Deviations: categories are split as sets and not one by one; all trees are averaged before the variance is taken, so that
//! the noise of single trees is not taken for interaction; and the uncertainty of a share is its standard deviation over groups of
//! trees, each group grown on a bootstrap sample of the history of its own, which answers how far other points of the same kind
//! would have changed it.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | f | the forest's prediction of the loss |
//! | V | variance of f over the search space, under the prior |
//! | Vⱼ | variance of the mean of f as a function of dimension j alone |
//! | Vⱼₖ | variance of the mean of f as a function of dimensions j and k |
//! | Sⱼ, Sⱼₖ | shares Vⱼ/V and (Vⱼₖ − Vⱼ − Vₖ)/V |
//!
//! An inactive dimension counts as having its middle value.

mod forest;
mod marginal;

use protocol::PointValue;
use protocol::search_space::SpaceDocument;
use protocol::steering::SteeringInput;
use protocol::{Outcome, SegmentId};

use crate::ask::{AskError, Request, Turn, turns};
use crate::history::Mode;
use crate::numerics::sobol::{self, Sobol};
use crate::rng::{Key, Stream};
use crate::space::{Coordinate, Domain, pick};
use forest::{Axis, Sample, Tree};
use marginal::Marginals;

/// Evaluated points below which nothing is said.
pub const LEAST_POINTS: usize = 10;
/// Bootstrap samples.
const GROUPS: usize = 16;
/// Trees of each sample.
const TREES: usize = 8;
/// Largest bootstrap sample.
const LARGEST: usize = 2_000;
/// Points at which the variance of f is measured.
const PROBES: u32 = 2_048;
/// The dimensions with the largest shares, of which pairs are looked at.
const PAIRED: usize = 8;

/// What is to be found out, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which losses are good.
    pub mode: Mode,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Losses above this quantile are lowered to it; 1 for none. A few diverged points otherwise decide alone.
    pub cap: f64,
}

/// What was found for one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Importance {
    /// The segment, if there are any.
    pub segment: Option<SegmentId>,
    /// Evaluated points.
    pub evaluated: usize,
    /// Share of the variance of the losses that the forest predicts for points that it was not grown on. Below about 0.3 the shares
    /// mean little.
    pub predicted: f64,
    /// Of single dimensions, largest first.
    pub shares: Vec<Share>,
    /// Of pairs beyond the shares of both, largest first.
    pub pairs: Vec<PairShare>,
}

/// The share of one dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The dimension.
    pub dimension: String,
    /// Sⱼ, in [0, 1].
    pub share: f64,
    /// Its standard deviation.
    pub deviation: f64,
    /// The value at which the mean loss is best (losses of `Max` are negated when read), all other dimensions averaged.
    pub best: PointValue,
}

/// The share of two dimensions together.
#[derive(Debug, Clone, PartialEq)]
pub struct PairShare {
    /// The dimensions.
    pub dimensions: [String; 2],
    /// Sⱼₖ, in [0, 1].
    pub share: f64,
    /// Its standard deviation.
    pub deviation: f64,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum ImportanceError {
    /// Space or history is faulty.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// There is too little to learn from.
    #[error("{}at least {LEAST_POINTS} evaluated points are needed to tell what matters, found {found}", segment.map_or_else(String::new, |id| format!("segment {id}: ")))]
    TooFew {
        /// The segment, if there are any.
        segment: Option<SegmentId>,
        /// Evaluated points.
        found: usize,
    },
}

/// The shares for every segment of a history.
///
/// # Errors
/// [`ImportanceError`].
pub fn importance(
    document: &SpaceDocument,
    input: &SteeringInput,
    options: &Options,
) -> Result<Vec<Importance>, ImportanceError> {
    let request = Request {
        mode: options.mode,
        ..Request::new(0, options.seed)
    };
    turns(document, input, &request, "importance")?
        .into_iter()
        .map(|turn| of_segment(&turn, options))
        .collect()
}

fn of_segment(turn: &Turn, options: &Options) -> Result<Importance, ImportanceError> {
    let varying: Vec<usize> = (0..turn.space.dimensions().len())
        .filter(|position| !matches!(turn.space.dimensions()[*position].domain, Domain::Fixed(_)))
        .collect();
    let axes: Vec<Axis> = varying
        .iter()
        .map(|position| match &turn.space.dimensions()[*position].domain {
            Domain::Categorical { weights, .. } => Axis::Categorical(weights.clone()),
            _ => Axis::Numeric,
        })
        .collect();
    let mut sample = Sample {
        x: Vec::new(),
        y: Vec::new(),
    };
    for observation in turn.history.observations() {
        if let Outcome::Done { loss } = observation.outcome {
            let feature = |position: &usize| match observation.coordinates[*position] {
                Some(Coordinate::Category(category)) => category as f64,
                Some(coordinate) => coordinate.t().unwrap_or(0.5),
                None => match &turn.space.dimensions()[*position].domain {
                    Domain::Categorical { weights, .. } => pick(weights, 0.5) as f64,
                    _ => 0.5,
                },
            };
            sample.x.push(varying.iter().map(feature).collect());
            sample.y.push(loss.get());
        }
    }
    let evaluated = sample.y.len();
    if evaluated < LEAST_POINTS {
        return Err(ImportanceError::TooFew {
            segment: turn.segment,
            found: evaluated,
        });
    }
    cap(&mut sample.y, options.cap);
    let spread = variance(&sample.y);
    let forest = Forest::grow(&sample, &axes, turn.key);
    let predicted = if spread > 0.0 {
        1.0 - forest.outside_error(&sample) / spread
    } else {
        0.0
    };
    let all = forest.shares(&axes, turn.key, 0..GROUPS);
    let groups: Vec<Shares> = (0..GROUPS)
        .map(|group| forest.shares(&axes, turn.key, group..group + 1))
        .collect();
    let name = |axis: usize| turn.space.dimensions()[varying[axis]].name.clone();
    let mut order: Vec<usize> = (0..axes.len()).collect();
    order.sort_by(|a, b| all.single[*b].total_cmp(&all.single[*a]).then(a.cmp(b)));
    let best = |axis: usize| {
        let dimension = &turn.space.dimensions()[varying[axis]];
        let cell = all.marginals.best(axis);
        match &dimension.domain {
            Domain::Categorical { categories, .. } => categories[cell].clone(),
            Domain::Numeric(numeric) => numeric.json(numeric.at(all.marginals.centre(axis, cell))),
            Domain::Fixed(value) => value.clone(),
        }
    };
    let shares = order
        .iter()
        .map(|axis| Share {
            dimension: name(*axis),
            share: all.single[*axis],
            deviation: deviation(groups.iter().map(|group| group.single[*axis])),
            best: best(*axis),
        })
        .collect();
    let mut leaders = order;
    leaders.truncate(PAIRED);
    leaders.sort_unstable();
    let all_pairs = forest.pair_shares(&axes, &all, &leaders, 0..GROUPS);
    let group_pairs: Vec<Vec<f64>> = (0..GROUPS)
        .map(|group| forest.pair_shares(&axes, &groups[group], &leaders, group..group + 1))
        .collect();
    let mut pairs: Vec<PairShare> = pairs_of(&leaders)
        .enumerate()
        .map(|(number, (first, second))| PairShare {
            dimensions: [name(first), name(second)],
            share: all_pairs[number],
            deviation: deviation(group_pairs.iter().map(|group| group[number])),
        })
        .collect();
    pairs.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(Importance {
        segment: turn.segment,
        evaluated,
        predicted,
        shares,
        pairs,
    })
}

/// The trees, group after group, with the rows that each group has not seen.
struct Forest {
    trees: Vec<Vec<Tree>>,
    unseen: Vec<Vec<usize>>,
}

/// Shares of single dimensions, with what pairs need too.
struct Shares {
    single: Vec<f64>,
    total: f64,
    marginals: Marginals,
}

impl Forest {
    fn grow(sample: &Sample, axes: &[Axis], key: Key) -> Self {
        let rows = sample.y.len();
        let mut forest = Self {
            trees: Vec::new(),
            unseen: Vec::new(),
        };
        for group in 0..GROUPS {
            let mut generator = key.generator(group as u64, Stream::Startup);
            let drawn: Vec<usize> = (0..rows.min(LARGEST)).map(|_| generator.below(rows)).collect();
            let mut seen = vec![false; rows];
            for row in &drawn {
                seen[*row] = true;
            }
            forest.unseen.push((0..rows).filter(|row| !seen[*row]).collect());
            forest.trees.push(
                (0..TREES)
                    .map(|_| Tree::grow(sample, drawn.clone(), axes, &mut generator))
                    .collect(),
            );
        }
        forest
    }

    fn predict(&self, groups: std::ops::Range<usize>, x: &[f64]) -> f64 {
        let count = (groups.len() * TREES) as f64;
        self.trees[groups]
            .iter()
            .flatten()
            .map(|tree| tree.predict(x))
            .sum::<f64>()
            / count
    }

    /// Mean square error for points that a group was not grown on, averaged over such groups.
    fn outside_error(&self, sample: &Sample) -> f64 {
        let mut sums = vec![(0.0, 0_u32); sample.y.len()];
        for (group, unseen) in self.unseen.iter().enumerate() {
            for &row in unseen {
                sums[row].0 += self.predict(group..group + 1, &sample.x[row]);
                sums[row].1 += 1;
            }
        }
        let errors: Vec<f64> = sums
            .iter()
            .zip(&sample.y)
            .filter(|((_, count), _)| *count > 0)
            .map(|((sum, count), y)| (sum / f64::from(*count) - y) * (sum / f64::from(*count) - y))
            .collect();
        errors.iter().sum::<f64>() / errors.len().max(1) as f64
    }

    fn shares(&self, axes: &[Axis], key: Key, groups: std::ops::Range<usize>) -> Shares {
        let sobol = Sobol::new(axes.len().min(sobol::DIMENSIONS));
        let probe = |index: u32| -> Vec<f64> {
            let mut generator = key.generator(u64::from(index), Stream::Density);
            axes.iter()
                .enumerate()
                .map(|(axis, kind)| {
                    let u = if axis < sobol.dimensions() {
                        sobol.scrambled(key, index, axis)
                    } else {
                        generator.uniform()
                    };
                    match kind {
                        Axis::Numeric => u,
                        Axis::Categorical(weights) => pick(weights, u) as f64,
                    }
                })
                .collect()
        };
        let values: Vec<f64> = (0..PROBES)
            .map(|index| self.predict(groups.clone(), &probe(index)))
            .collect();
        let total = variance(&values);
        let marginals = Marginals::new(self.trees[groups].iter().flatten(), axes);
        let single = (0..axes.len())
            .map(|axis| share(marginals.variance(axis), total))
            .collect();
        Shares {
            single,
            total,
            marginals,
        }
    }

    /// In the order of [`pairs_of`].
    fn pair_shares(
        &self,
        axes: &[Axis],
        shares: &Shares,
        leaders: &[usize],
        groups: std::ops::Range<usize>,
    ) -> Vec<f64> {
        let trees: Vec<&Tree> = self.trees[groups].iter().flatten().collect();
        pairs_of(leaders)
            .map(|(first, second)| share(marginal::interaction(&trees, axes, first, second), shares.total))
            .collect()
    }
}

fn pairs_of(leaders: &[usize]) -> impl Iterator<Item = (usize, usize)> + '_ {
    leaders
        .iter()
        .enumerate()
        .flat_map(|(at, first)| leaders[at + 1..].iter().map(|second| (*first, *second)))
}

fn share(part: f64, total: f64) -> f64 {
    if total > 0.0 {
        (part / total).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / values.len() as f64
}

fn deviation(values: impl Iterator<Item = f64>) -> f64 {
    libm::sqrt(variance(&values.collect::<Vec<_>>()))
}

/// Lowers what is above the quantile `q` to it.
fn cap(y: &mut [f64], q: f64) {
    let mut sorted = y.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let most = sorted[(libm::ceil(q * last as f64) as usize).min(last)];
    for y in y {
        *y = y.min(most);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const WIDE: f64 = std::f64::consts::PI;

    /// Points of a Sobol sequence in `d` dimensions from 0 to 1, with their losses.
    fn found(d: usize, count: u32, loss: impl Fn(&[f64]) -> f64) -> Importance {
        let sobol = Sobol::new(d);
        let key = Key::new(1, "", None, "test");
        let mut space = json!({});
        for axis in 0..d {
            space[format!("x{axis}")] = json!({"method": "uniform", "dimension": {"low": 0.0, "high": 1.0}});
        }
        let points: Vec<Value> = (0..count)
            .map(|index| {
                let x: Vec<f64> = (0..d).map(|axis| sobol.scrambled(key, index, axis)).collect();
                let point: serde_json::Map<String, Value> = x
                    .iter()
                    .enumerate()
                    .map(|(axis, x)| (format!("x{axis}"), (*x).into()))
                    .collect();
                json!([point, loss(&x)])
            })
            .collect();
        let input = SteeringInput::from_value(json!({"points": points}), None).unwrap();
        let document = SpaceDocument::from_value(&space).unwrap();
        let options = Options {
            mode: Mode::Min,
            seed: 1,
            cap: 1.0,
        };
        importance(&document, &input, &options).unwrap().remove(0)
    }

    fn share_of(importance: &Importance, name: &str) -> f64 {
        importance
            .shares
            .iter()
            .find(|share| share.dimension == name)
            .unwrap()
            .share
    }

    #[test]
    fn a_weighted_sum_has_the_shares_of_its_squared_weights() {
        // 9 : 4 : 1 : 0 of 14.
        let found = found(4, 400, |x| 3.0 * x[0] + 2.0 * x[1] - x[2]);
        for (name, expected) in [("x0", 9.0 / 14.0), ("x1", 4.0 / 14.0), ("x2", 1.0 / 14.0), ("x3", 0.0)] {
            assert!((share_of(&found, name) - expected).abs() < 0.04, "{name}: {found:#?}");
        }
        assert!(
            found.predicted > 0.9 && found.pairs.iter().all(|pair| pair.share < 0.02),
            "{found:#?}"
        );
        assert!(found.shares[0].best.as_f64().unwrap() < 0.1);
        assert!(found.shares.iter().all(|share| share.deviation < 0.05), "{found:#?}");
    }

    #[test]
    fn the_function_of_ishigami_has_its_published_shares() {
        // T. Ishigami, T. Homma (1990) with a = 7, b = 0.1: S₁ = 0.314, S₂ = 0.442, S₃ = 0, S₁₃ = 0.244.
        let found = found(3, 1_500, |x| {
            let z: Vec<f64> = x.iter().map(|x| WIDE * (2.0 * x - 1.0)).collect();
            let sine = libm::sin(z[1]);
            libm::sin(z[0]) + 7.0 * sine * sine + 0.1 * libm::pow(z[2], 4.0) * libm::sin(z[0])
        });
        for (name, expected) in [("x0", 0.314), ("x1", 0.442), ("x2", 0.0)] {
            assert!((share_of(&found, name) - expected).abs() < 0.06, "{name}: {found:#?}");
        }
        let pair = &found.pairs[0];
        assert_eq!(pair.dimensions, ["x0".to_owned(), "x2".to_owned()]);
        assert!((pair.share - 0.244).abs() < 0.07, "{found:#?}");
    }

    #[test]
    fn pure_interaction_belongs_to_the_pair() {
        let found = found(3, 600, |x| (x[0] - 0.5) * (x[1] - 0.5));
        assert!(
            share_of(&found, "x0") < 0.1 && share_of(&found, "x1") < 0.1,
            "{found:#?}"
        );
        assert!(found.pairs[0].share > 0.75, "{found:#?}");
    }

    #[test]
    fn equal_losses_have_no_shares_and_noise_is_not_predicted() {
        let flat = found(2, 50, |_| 0.5);
        assert!(flat.shares.iter().all(|share| share.share <= 0.0) && flat.predicted <= 0.0);
        let noise = found(2, 200, |x| (libm::sin(1e6 * x[0]) * 1e4) % 1.0);
        assert!(noise.predicted < 0.3, "{noise:#?}");
    }

    #[test]
    fn capping_lowers_only_what_is_above_the_quantile() {
        let mut y = vec![3.0, 1.0, 100.0, 2.0, 4.0];
        cap(&mut y, 0.75);
        assert_eq!(y, [3.0, 1.0, 4.0, 2.0, 4.0]);
        cap(&mut y, 1.0);
        assert_eq!(y, [3.0, 1.0, 4.0, 2.0, 4.0]);
    }
}
