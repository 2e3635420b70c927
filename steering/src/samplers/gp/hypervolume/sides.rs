//! The sides of cells, as a normal distribution sees them.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | z | a place, in standard deviations from the mean |
//! | h(z) | φ(z) + z Φ(z) |

use crate::numerics::normal::{LOG_SQRT_TWO_PI, distribution};
use crate::samplers::gp::acquisition::mass_by_density;

/// z with what a normal distribution has there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    z: f64,
    /// ln φ(z).
    log_density: f64,
    /// φ(z), Φ(z) and h(z).
    values: [f64; 3],
    /// The same as multiples of φ(z), where z is small.
    ratios: [f64; 3],
}

/// Below this z only ratios are sure not to underflow.
const TAIL: f64 = -1.0;

impl Edge {
    pub(super) fn new(z: f64) -> Self {
        if z == f64::NEG_INFINITY {
            return Self {
                z,
                log_density: z,
                values: [0.0; 3],
                ratios: [1.0, 0.0, 0.0],
            };
        }
        let log_density = -0.5 * z * z - LOG_SQRT_TWO_PI;
        let density = libm::exp(log_density);
        if z > TAIL {
            let mass = distribution(z);
            Self {
                z,
                log_density,
                values: [density, mass, density + z * mass],
                ratios: [1.0, 0.0, 0.0],
            }
        } else {
            let (mass, slope) = mass_by_density(z);
            Self {
                z,
                log_density,
                values: [density, density * mass, density * slope],
                ratios: [1.0, mass, slope],
            }
        }
    }
}

/// One side of a cell in standard deviations: h(b) − h(a) as its logarithm, and Φ(b) − Φ(a) and φ(b) − φ(a) as shares of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Side {
    pub(super) log: f64,
    pub(super) mass: f64,
    pub(super) density: f64,
}

impl Side {
    pub(super) fn new(a: &Edge, b: &Edge) -> Self {
        let (unit, base, share) = if b.z > TAIL {
            (0.0, (a.values, b.values), 1.0)
        } else {
            (
                b.log_density,
                (a.ratios, b.ratios),
                libm::exp(a.log_density - b.log_density),
            )
        };
        let [density, mass, height] = std::array::from_fn(|which| base.1[which] - share * base.0[which]);
        if height > 0.0 {
            Self {
                log: unit + libm::log(height),
                mass: mass / height,
                density: density / height,
            }
        } else {
            Self {
                log: f64::NEG_INFINITY,
                mass: 0.0,
                density: 0.0,
            }
        }
    }
}
