//! The density of a set of points over one group of dimensions: a mixture with one component per point and one for the prior.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | m | points of the set in which the group is active | |
//! | μ, σ | centre and scale of the normal of a component in one numeric dimension | m + 1 |
//! | w | weights of the components, adding up to 1 | m + 1 |
//! | K | number of categories | |
//!
//! A component is a product over the dimensions: truncated normals in the model coordinate t, for discrete dimensions their mass
//! in a cell, and for categories a distribution with most of its mass on the category of the point.

use crate::history::History;
use crate::numerics::log_sum_exp;
use crate::numerics::normal::{self, LOG_SQRT_TWO_PI};
use crate::rng::Generator;
use crate::space::{Coordinate, Domain, Group, Numeric, Space};

/// The parameters of the density.
#[derive(Debug)]
pub(super) struct Shape {
    /// Weight of the prior component; a point has about 1.
    pub(super) prior: f64,
    pub(super) bandwidth: f64,
    pub(super) floor: f64,
    pub(super) spread: f64,
    pub(super) category: f64,
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
        kernels: Vec<Kernel>,
    },
}

/// A normal cut to the range of its dimension.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    mu: f64,
    sigma: f64,
    /// log of its mass inside the range.
    log_mass: f64,
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
        weights.iter_mut().for_each(|weight| *weight /= total);
        let free = group
            .members
            .iter()
            .filter(|member| !matches!(space.dimensions()[**member].domain, Domain::Fixed(_)))
            .count();
        let columns = group
            .members
            .iter()
            .map(|&member| {
                let values = active.iter().map(|(point, _)| observations[*point].coordinates[member]);
                match &space.dimensions()[member].domain {
                    Domain::Fixed(_) => Column::Fixed,
                    Domain::Categorical { weights, .. } => categorical(values, weights, shape),
                    Domain::Numeric(numeric) => {
                        let values: Vec<Option<f64>> = values.map(|value| value.and_then(Coordinate::t)).collect();
                        Column::Numeric {
                            numeric,
                            kernels: kernels(numeric, &values, free, shape),
                        }
                    }
                }
            })
            .collect();
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
                    let Kernel { mu, sigma, .. } = kernels[component];
                    let (low, high) = numeric.range();
                    numeric.at(normal::truncated_quantile(generator.uniform(), mu, sigma, low, high))
                }
            })
            .collect()
    }

    /// The logarithm of the density (of the probability, in discrete dimensions) of each candidate.
    pub(super) fn log_densities(&self, candidates: &[Vec<Coordinate>]) -> Vec<f64> {
        let log_weights: Vec<f64> = self.weights.iter().map(|weight| libm::log(*weight)).collect();
        candidates
            .iter()
            .map(|candidate| {
                let mut terms = log_weights.clone();
                for (column, coordinate) in self.columns.iter().zip(candidate) {
                    column.add_log_density(*coordinate, &mut terms);
                }
                log_sum_exp(&terms)
            })
            .collect()
    }
}

impl Column<'_> {
    /// Adds the log density of each component at `coordinate` to `terms`.
    fn add_log_density(&self, coordinate: Coordinate, terms: &mut [f64]) {
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
                let (low, high) = numeric.cell(index);
                for (term, kernel) in terms.iter_mut().zip(kernels) {
                    *term += normal::log_mass((low - kernel.mu) / kernel.sigma, (high - kernel.mu) / kernel.sigma)
                        - kernel.log_mass;
                }
            }
            (Self::Numeric { kernels, .. }, Coordinate::Real { t, .. }) => {
                for (term, kernel) in terms.iter_mut().zip(kernels) {
                    let z = (t - kernel.mu) / kernel.sigma;
                    *term += -0.5 * z * z - LOG_SQRT_TWO_PI - libm::log(kernel.sigma) - kernel.log_mass;
                }
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
    let smoothing = shape.prior / component.len() as f64;
    let mut probabilities: Vec<Vec<f64>> = (0..count)
        .map(|own| {
            let hit = |category| if category == own { 1.0 } else { 0.0 };
            let b = if shape.category > 0.0 {
                // share of the prior
                shape.category
            } else {
                smoothing * count as f64 / (1.0 + smoothing * count as f64)
            };
            prior
                .iter()
                .enumerate()
                .map(|(category, weight)| (1.0 - b) * hit(category) + b * weight)
                .collect()
        })
        .collect();
    probabilities.push(prior.to_vec());
    Column::Categorical {
        probabilities,
        component,
    }
}

/// One kernel per value and one for the prior. A point without a value for this dimension says nothing: it gets the prior's.
fn kernels(numeric: &Numeric, values: &[Option<f64>], free: usize, shape: &Shape) -> Vec<Kernel> {
    let (low, high) = numeric.range();
    let kernel = |mu: f64, sigma: f64| Kernel {
        mu,
        sigma,
        log_mass: normal::log_mass((low - mu) / sigma, (high - mu) / sigma),
    };
    let (mu, sigma) = numeric.prior_normal();
    let prior = kernel(mu, sigma);
    let mut kernels = vec![prior; values.len() + 1];
    let mut sorted: Vec<(f64, usize)> = values
        .iter()
        .enumerate()
        .filter_map(|(point, value)| Some(((*value)?, point)))
        .collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let m = sorted.len();
    let floor = if shape.floor > 0.0 {
        shape.floor.max(1.0 / (m + 2) as f64)
    } else {
        1.0 / (m + 2).min(100) as f64
    };
    let scott = 0.2 * libm::pow(m.max(1) as f64, -1.0 / (free + 4) as f64);
    for (rank, &(t, point)) in sorted.iter().enumerate() {
        let left = if rank > 0 {
            t - sorted[rank - 1].0
        } else if m == 1 {
            t
        } else {
            0.0
        };
        let right = if rank + 1 < m {
            sorted[rank + 1].0 - t
        } else if m == 1 {
            1.0 - t
        } else {
            0.0
        };
        let gap = if shape.bandwidth > 0.5 { scott } else { left.max(right) };
        kernels[point] = kernel(t, (gap * shape.spread).clamp(floor, 1.0));
    }
    kernels
}
