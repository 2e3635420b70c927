//! The normals of one dimension of a mixture, cut to its range.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | μ, σ | centre and scale | K |
//! | K | normals that differ: in a discrete dimension far fewer than components | |

use crate::numerics::masses::log_masses_inside;
use crate::numerics::normal::{self, LOG_SQRT_TWO_PI};
use crate::numerics::vectors::for_this_processor;

/// Width of a cell, in standard deviations, up to which its mass is computed from the density in its middle.
const NARROW: f64 = 0.05;

/// Centre and scale of a normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Normal {
    pub(super) mu: f64,
    pub(super) sigma: f64,
}

impl Normal {
    fn is(self, other: Self) -> bool {
        self.mu.to_bits() == other.mu.to_bits() && self.sigma.to_bits() == other.sigma.to_bits()
    }
}

/// Normals cut to the unit interval, each of them once.
#[derive(Debug)]
pub(super) struct Kernels {
    mu: Vec<f64>,
    sigma: Vec<f64>,
    /// log of σ times the mass inside the range.
    log_scale: Vec<f64>,
    /// log of the mass inside the range.
    log_mass: Vec<f64>,
    /// The normal of each component; nothing where each has its own.
    component: Option<Vec<u32>>,
}

impl Kernels {
    /// Those of `components` components, given as (component, normal) with equal normals side by side; whoever is not given has the
    /// `prior`.
    pub(super) fn new(components: usize, prior: Normal, given: impl Iterator<Item = (usize, Normal)>) -> Self {
        let mut table = vec![0; components];
        let mut distinct = vec![prior];
        for (component, normal) in given {
            if !normal.is(distinct[distinct.len() - 1]) {
                distinct.push(normal);
            }
            table[component] = u32::try_from(distinct.len() - 1).expect("fewer points than a document has room for");
        }
        if distinct.len() == components {
            // Each has its own: in their order none has to be looked up.
            let own: Vec<Normal> = table.iter().map(|kernel| distinct[*kernel as usize]).collect();
            return Self::each(&own, None);
        }
        Self::each(&distinct, Some(table))
    }

    fn each(normals: &[Normal], component: Option<Vec<u32>>) -> Self {
        let mut last = (1.0_f64, 0.0);
        let mut log_sigma = |sigma: f64| {
            if sigma.to_bits() != last.0.to_bits() {
                last = (sigma, libm::log(sigma));
            }
            last.1
        };
        let mu: Vec<f64> = normals.iter().map(|normal| normal.mu).collect();
        let sigma: Vec<f64> = normals.iter().map(|normal| normal.sigma).collect();
        let mut log_mass = vec![0.0; normals.len()];
        log_masses_inside(&mu, &sigma, &mut log_mass);
        let log_scale = (sigma.iter().zip(&log_mass))
            .map(|(sigma, log_mass)| log_sigma(*sigma) + log_mass)
            .collect();
        Self {
            mu,
            sigma,
            log_scale,
            log_mass,
            component,
        }
    }

    /// The normal of a component.
    pub(super) fn of(&self, component: usize) -> Normal {
        let kernel = match &self.component {
            Some(table) => table[component] as usize,
            None => component,
        };
        Normal {
            mu: self.mu[kernel],
            sigma: self.sigma[kernel],
        }
    }

    /// The log density of each normal at `t`.
    pub(super) fn log_densities(&self, t: f64) -> Vec<f64> {
        let mut logs = self.log_scale.clone();
        densities(&self.mu, &self.sigma, t, LOG_SQRT_TWO_PI, &mut logs);
        logs
    }

    /// The log of the mass of each normal between `low` and `high`.
    pub(super) fn log_masses(&self, low: f64, high: f64) -> Vec<f64> {
        // The density in the middle times the width, with the second-order term of the Taylor series: exact to 10⁻⁶ within five
        // standard deviations, and many times cheaper than two error functions.
        let mut logs = self.log_scale.clone();
        let (middle, width) = (0.5 * (low + high), high - low);
        densities(
            &self.mu,
            &self.sigma,
            middle,
            LOG_SQRT_TWO_PI - libm::log(width),
            &mut logs,
        );
        for (((log, mu), sigma), log_mass) in logs.iter_mut().zip(&self.mu).zip(&self.sigma).zip(&self.log_mass) {
            let width = width / sigma;
            if width > NARROW {
                *log = normal::log_mass((low - mu) / sigma, (high - mu) / sigma) - log_mass;
            } else {
                let z = (middle - mu) / sigma;
                *log += width * width * (z * z - 1.0) / 24.0;
            }
        }
        logs
    }

    /// Adds `logs`, one a normal, to `terms`, one a component.
    pub(super) fn add(&self, logs: &[f64], terms: &mut [f64]) {
        match &self.component {
            Some(table) => {
                for (term, kernel) in terms.iter_mut().zip(table) {
                    *term += logs[*kernel as usize];
                }
            }
            None => {
                for (term, log) in terms.iter_mut().zip(logs) {
                    *term += log;
                }
            }
        }
    }
}

for_this_processor! {
    /// logᵢ ← −½ zᵢ² − logᵢ − `less`, where zᵢ is the distance of `t` from the centre, in standard deviations.
    fn densities<'a>(mu: &'a [f64], sigma: &'a [f64], t: f64, less: f64, logs: &'a mut [f64]) -> () = log_densities
}

#[expect(clippy::inline_always, reason = "it must be compiled for the vectors of its caller")]
#[inline(always)]
fn log_densities(mu: &[f64], sigma: &[f64], t: f64, less: f64, logs: &mut [f64]) {
    for ((log, mu), sigma) in logs.iter_mut().zip(mu).zip(sigma) {
        let z = (t - mu) / sigma;
        *log = -0.5 * z * z - *log - less;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_cells_have_the_mass_of_the_exact_formula() {
        for (mu, sigma) in [(0.5, 1.0), (0.1, 0.05), (0.93, 0.01)] {
            let kernels = Kernels::new(1, Normal { mu, sigma }, std::iter::empty());
            for step in 0..200 {
                let low = f64::from(step) / 200.0;
                if (low - mu).abs() > 35.0 * sigma {
                    continue;
                }
                let high = low + 0.049 * sigma;
                let exact = normal::log_mass((low - mu) / sigma, (high - mu) / sigma) - kernels.log_mass[0];
                let found = kernels.log_masses(low, high)[0];
                assert!(
                    (found - exact).abs() < 1e-5 * exact.abs().max(1.0),
                    "{mu} {sigma} {low}: {found} is not {exact}"
                );
            }
        }
    }

    #[test]
    fn components_that_are_alike_share_a_normal() {
        let normal = |mu| Normal { mu, sigma: 0.1 };
        let given = [(0, normal(0.2)), (2, normal(0.2)), (1, normal(0.7))];
        let kernels = Kernels::new(4, normal(0.5), given.into_iter());
        assert_eq!(kernels.mu.len(), 3);
        let found = [0, 1, 2, 3].map(|component| kernels.of(component));
        assert_eq!(found, [0.2, 0.7, 0.2, 0.5].map(normal));
        let mut terms = [0.0; 4];
        kernels.add(&[1.0, 2.0, 3.0], &mut terms);
        assert_eq!(terms.map(f64::to_bits), [2.0, 3.0, 2.0, 1.0_f64].map(f64::to_bits));
    }

    #[test]
    fn components_that_differ_keep_their_order() {
        let normal = |mu| Normal { mu, sigma: 0.1 };
        let given = [(1, normal(0.2)), (0, normal(0.7))];
        let kernels = Kernels::new(3, normal(0.5), given.into_iter());
        assert_eq!(kernels.mu, [0.7, 0.2, 0.5]);
        let found = [0, 1, 2].map(|component| kernels.of(component));
        assert_eq!(found, [0.7, 0.2, 0.5].map(normal));
    }
}
