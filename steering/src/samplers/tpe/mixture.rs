//! The density of a set of points over one group of dimensions: a mixture with one component per point and one for the prior.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | m | points of the set in which the group is active | |
//! | μ, σ | centre and scale of the normal of a component in one numeric dimension | m + 1 |
//! | w | weights of the components, adding up to 1 | m + 1 |
//! | d | dimensions of the group that vary | |
//! | K | number of categories | |
//!
//! A component is a product over the dimensions: truncated normals in the model coordinate t, for discrete dimensions their mass
//! in a cell, and for categories a distribution with most of its mass on the category of the point.

use std::collections::HashMap;
use std::str::FromStr;

use crate::history::History;
use crate::numerics::side_by_side::in_runs;
use crate::numerics::{log_sum_exp, normal};
use crate::rng::Generator;
use crate::space::{Coordinate, Domain, Group, Numeric, Space};

use super::kernels::{Kernels, Normal};

/// Points from which on a dimension of theirs is worth a thread.
const MANY: usize = 2_000;

/// The parameters of the density.
#[derive(Debug)]
pub(super) struct Shape {
    /// Weight of the prior component; a point has about 1.
    pub(super) prior: f64,
    pub(super) widths: Widths,
}

/// What decides the scale σ of a normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Widths {
    /// 0.2 m^(−1/(d+4)) of the range: D. W. Scott, *Multivariate density estimation* (1992), with the scale of the range in place
    /// of that of the sample.
    Scott,
    /// The larger distance to a neighbouring point, as in Bergstra et al.
    Neighbours,
}

impl FromStr for Widths {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "scott" => Ok(Self::Scott),
            "neighbours" => Ok(Self::Neighbours),
            _ => Err(()),
        }
    }
}

/// A mixture over the dimensions of a group.
#[derive(Debug)]
pub(super) struct Mixture<'a> {
    weights: Vec<f64>,
    columns: Vec<Column<'a>>,
}

/// One dimension of all components; the last component is the prior.
#[derive(Debug)]
enum Column<'a> {
    Fixed,
    Categorical {
        probabilities: Vec<Vec<f64>>,
        component: Vec<usize>,
    },
    Numeric {
        numeric: &'a Numeric,
        kernels: Kernels,
    },
}

impl<'a> Mixture<'a> {
    /// The density of `points`, given as (position in the history, weight).
    pub(super) fn new(
        space: &'a Space,
        group: &Group,
        history: &History,
        points: &[(usize, f64)],
        shape: &Shape,
    ) -> Self {
        let observations = history.observations();
        let active: Vec<(usize, f64)> = points
            .iter()
            .filter(|(point, _)| {
                group
                    .members
                    .iter()
                    .any(|member| observations[*point].coordinates[*member].is_some())
            })
            .copied()
            .collect();
        let mut weights: Vec<f64> = active.iter().map(|(_, weight)| *weight).chain([shape.prior]).collect();
        let total: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= total;
        }
        let free = group
            .members
            .iter()
            .filter(|member| !matches!(space.dimensions()[**member].domain, Domain::Fixed(_)))
            .count();
        let column = |place: usize| {
            let member = group.members[place];
            let values = active.iter().map(|(point, _)| observations[*point].coordinates[member]);
            match &space.dimensions()[member].domain {
                Domain::Fixed(_) => Column::Fixed,
                Domain::Categorical { weights, .. } => categorical(values, weights, shape),
                Domain::Numeric(numeric) => {
                    let values: Vec<Option<f64>> = values.map(|value| value.and_then(Coordinate::t)).collect();
                    Column::Numeric {
                        numeric,
                        kernels: kernels(&values, free, shape),
                    }
                }
            }
        };
        let least = if active.len() < MANY { group.members.len() } else { 1 };
        let columns = in_runs(group.members.len(), least, column);
        Self { weights, columns }
    }

    /// One value per dimension of the group, drawn from the mixture.
    pub(super) fn draw(&self, generator: &mut Generator) -> Vec<Coordinate> {
        let component = crate::space::pick(&self.weights, generator.uniform());
        self.columns
            .iter()
            .map(|column| match column {
                Column::Fixed => Coordinate::Fixed,
                Column::Categorical {
                    probabilities,
                    component: table,
                } => Coordinate::Category(crate::space::pick(
                    &probabilities[table[component]],
                    generator.uniform(),
                )),
                Column::Numeric { numeric, kernels } => {
                    let Normal { mu, sigma } = kernels.of(component);
                    numeric.at(normal::truncated_quantile(generator.uniform(), mu, sigma, 0.0, 1.0))
                }
            })
            .collect()
    }

    /// The logarithm of the density (of the probability, in discrete dimensions) of each candidate.
    pub(super) fn log_densities(&self, candidates: &[Vec<Coordinate>]) -> Vec<f64> {
        let log_weights = self.log_weights();
        let mut terms = Vec::with_capacity(log_weights.len());
        let mut cells = vec![HashMap::new(); self.columns.len()];
        candidates
            .iter()
            .map(|candidate| {
                terms.clone_from(&log_weights);
                for ((column, coordinate), cells) in self.columns.iter().zip(candidate).zip(&mut cells) {
                    column.add_log_density(*coordinate, cells, &mut terms);
                }
                log_sum_exp(&terms)
            })
            .collect()
    }

    /// The logarithms of the weights, most of which are like the one before.
    fn log_weights(&self) -> Vec<f64> {
        let mut last = (1.0_f64, 0.0);
        let log = |weight: &f64| {
            if weight.to_bits() != last.0.to_bits() {
                last = (*weight, libm::log(*weight));
            }
            last.1
        };
        self.weights.iter().map(log).collect()
    }
}

impl Column<'_> {
    /// Adds the log density of each component at `coordinate` to `terms`; those of a value of a discrete dimension are kept in
    /// `cells`, by its number, for candidates often share it.
    fn add_log_density(&self, coordinate: Coordinate, cells: &mut HashMap<i64, Vec<f64>>, terms: &mut [f64]) {
        match (self, coordinate) {
            (
                Self::Categorical {
                    probabilities,
                    component,
                },
                Coordinate::Category(category),
            ) => {
                let logs: Vec<f64> = probabilities.iter().map(|row| libm::log(row[category])).collect();
                for (term, row) in terms.iter_mut().zip(component) {
                    *term += logs[*row];
                }
            }
            (Self::Numeric { numeric, kernels }, Coordinate::Step { index, .. }) => {
                let logs = cells.entry(index).or_insert_with(|| {
                    let (low, high) = numeric.cell(index);
                    kernels.log_masses(low, high)
                });
                kernels.add(logs, terms);
            }
            (Self::Numeric { kernels, .. }, Coordinate::Real { t, .. }) => {
                kernels.add(&kernels.log_densities(t), terms);
            }
            _ => {}
        }
    }
}

/// A row per category and one for the prior; a component points to its row.
fn categorical<'a>(values: impl Iterator<Item = Option<Coordinate>>, prior: &[f64], shape: &Shape) -> Column<'a> {
    let count = prior.len();
    let component: Vec<usize> = values
        .map(|value| {
            if let Some(Coordinate::Category(category)) = value {
                category
            } else {
                count
            }
        })
        .chain([count])
        .collect();
    // A point counts once for its category, the prior K · smoothing times for all; the more points, the sharper.
    let smoothing = shape.prior / component.len() as f64;
    let share = smoothing * count as f64 / (1.0 + smoothing * count as f64);
    let row = |own| {
        let hit = |category| if category == own { 1.0 - share } else { 0.0 };
        prior
            .iter()
            .enumerate()
            .map(|(category, weight)| hit(category) + share * weight)
            .collect()
    };
    let mut probabilities: Vec<Vec<f64>> = (0..count).map(row).collect();
    probabilities.push(prior.to_vec());
    Column::Categorical {
        probabilities,
        component,
    }
}

/// One kernel per value and one for the prior. A point without a value for this dimension says nothing: it gets the prior's.
fn kernels(values: &[Option<f64>], free: usize, shape: &Shape) -> Kernels {
    let mut sorted: Vec<(f64, usize)> = values
        .iter()
        .enumerate()
        .filter_map(|(point, value)| Some(((*value)?, point)))
        .collect();
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let m = sorted.len();
    let floor = 1.0 / (m + 2).min(100) as f64;
    let scott = 0.2 * libm::pow(m.max(1) as f64, -1.0 / (free + 4) as f64);
    let kernel = |(rank, &(t, point)): (usize, &(f64, usize))| {
        let width = match shape.widths {
            Widths::Scott => scott,
            Widths::Neighbours if m == 1 => t.max(1.0 - t),
            Widths::Neighbours => {
                // The ends of the range are no neighbours.
                let left = if rank > 0 { t - sorted[rank - 1].0 } else { 0.0 };
                let right = if rank + 1 < m { sorted[rank + 1].0 - t } else { 0.0 };
                left.max(right)
            }
        };
        let sigma = width.clamp(floor, 1.0);
        (point, Normal { mu: t, sigma })
    };
    let prior = Normal { mu: 0.5, sigma: 1.0 };
    Kernels::new(values.len() + 1, prior, sorted.iter().enumerate().map(kernel))
}

#[cfg(test)]
mod tests {
    use protocol::search_space::SearchSpace;
    use protocol::steering::SteeringInput;
    use serde_json::{Value, json};

    use super::*;
    use crate::history::Mode;
    use crate::rng::{Key, Stream};

    fn space(dimension: &Value) -> Space {
        Space::new(&SearchSpace::from_value(&json!({ "x": dimension })).unwrap()).unwrap()
    }

    fn history(space: &Space, values: &[Value]) -> History {
        let points: Vec<Value> = values.iter().map(|value| json!([{"x": value}, 0.5])).collect();
        let input = SteeringInput::from_value(json!({ "points": points }), None).unwrap();
        History::new(space, &input.points, Mode::Min)
    }

    fn mixture<'a>(space: &'a Space, history: &History, widths: Widths) -> Mixture<'a> {
        let points: Vec<(usize, f64)> = (0..history.len()).map(|point| (point, 1.0)).collect();
        Mixture::new(
            space,
            &space.groups()[0],
            history,
            &points,
            &Shape { prior: 1.0, widths },
        )
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn widths_and_densities_of_the_neighbour_rule_are_those_computed_elsewhere() {
        let space = space(&json!({"method": "uniform", "dimension": {"low": 0, "high": 1}}));
        let history = history(&space, &[json!(0.2), json!(0.3), json!(0.7)]);
        let mixture = mixture(&space, &history, Widths::Neighbours);
        let Column::Numeric { kernels, numeric } = &mixture.columns[0] else {
            panic!("numeric")
        };
        for (component, sigma) in [0.2, 0.4, 0.4, 1.0].into_iter().enumerate() {
            close(kernels.of(component).sigma, sigma);
        }
        let candidates: Vec<Vec<Coordinate>> = [0.0, 0.25, 0.5, 0.9].iter().map(|t| vec![numeric.at(*t)]).collect();
        let expected = [
            -0.083_861_975_207_778_12,
            0.296_317_516_714_432_4,
            0.051_660_842_711_388_86,
            -0.427_434_613_168_126_9,
        ];
        for (found, expected) in mixture.log_densities(&candidates).into_iter().zip(expected) {
            close(found, expected);
        }
    }

    #[test]
    fn a_single_point_reaches_to_the_farther_end() {
        let space = space(&json!({"method": "uniform", "dimension": {"low": 0, "high": 1}}));
        let mixture = mixture(&space, &history(&space, &[json!(0.2)]), Widths::Neighbours);
        let Column::Numeric { kernels, .. } = &mixture.columns[0] else {
            panic!("numeric")
        };
        close(kernels.of(0).sigma, 0.8);
    }

    #[test]
    fn categories_are_smoothed_by_the_prior() {
        let space = space(&json!({"method": "categorical", "dimension": {"categories": ["a", "b", "c"]}}));
        let mixture = mixture(
            &space,
            &history(&space, &[json!("a"), json!("a"), json!("c")]),
            Widths::Scott,
        );
        let candidates: Vec<Vec<Coordinate>> = (0..3).map(|category| vec![Coordinate::Category(category)]).collect();
        for (found, expected) in
            mixture
                .log_densities(&candidates)
                .into_iter()
                .zip([0.476_190_476_2, 0.190_476_190_5, 0.333_333_333_3])
        {
            close(libm::exp(found), expected);
        }
    }

    #[test]
    fn densities_add_up_to_one_and_draws_follow_them() {
        for dimension in [
            json!({"method": "uniformint", "dimension": {"low": 1, "high": 9}}),
            json!({"method": "qloguniform", "dimension": {"low": 16, "high": 128, "q": 16}}),
            json!({"method": "categorical", "dimension": {"categories": [16, 32, 48, 48]}}),
        ] {
            let space = space(&dimension);
            let known = if dimension["method"] == "uniformint" {
                [json!(2), json!(8)]
            } else {
                [json!(16), json!(48)]
            };
            let mixture = mixture(&space, &history(&space, &known), Widths::Scott);
            let size = space.size().unwrap() as usize;
            let all: Vec<Vec<Coordinate>> = (0..size)
                .map(|index| {
                    vec![
                        space.dimensions()[0]
                            .encode(&space.dimensions()[0].nth(index as u64))
                            .unwrap(),
                    ]
                })
                .collect();
            let densities: Vec<f64> = mixture.log_densities(&all).into_iter().map(libm::exp).collect();
            close(densities.iter().sum(), 1.0);
            let mut generator = Key::new(1, "", None, "").generator(0, Stream::Density);
            let mut counts = vec![0.0; size];
            for _ in 0..20_000 {
                let drawn = mixture.draw(&mut generator);
                counts[all.iter().position(|point| point[0].bits() == drawn[0].bits()).unwrap()] += 1.0 / 20_000.0;
            }
            for (count, density) in counts.iter().zip(&densities) {
                assert!((count - density).abs() < 0.015, "{dimension}: {counts:?} {densities:?}");
            }
        }
    }

    #[test]
    fn a_point_without_a_value_counts_as_the_prior() {
        let space = Space::new(
            &SearchSpace::from_value(&json!({
                "x": {"method": "uniform", "dimension": {"low": 0, "high": 1}},
                "y": {"method": "uniform", "dimension": {"low": 0, "high": 1}}
            }))
            .unwrap(),
        )
        .unwrap();
        let input = SteeringInput::from_value(json!({"points": [[{"y": 0.1}, 1], [{"z": 3}, 1]]}), None).unwrap();
        let history = History::new(&space, &input.points, Mode::Min);
        let mixture = mixture(&space, &history, Widths::Scott);
        assert_eq!(
            mixture.weights.len(),
            2,
            "a point that says nothing about the group is no component"
        );
        let Column::Numeric { kernels, .. } = &mixture.columns[0] else {
            panic!("numeric")
        };
        close(kernels.of(0).sigma, 1.0);
        close(kernels.of(0).mu, 0.5);
    }
}
