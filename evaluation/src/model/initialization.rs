//! Initial weights.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `n` | inputs of a unit (fan-in) |
//! | `m` | outputs (fan-out) |

use super::Initialization;
use crate::training::random::Stream;

impl Initialization {
    /// Draws a weight matrix.
    pub(crate) fn weights(self, n: usize, m: usize, stream: &mut Stream) -> Vec<f32> {
        let (inputs, outputs) = (n.max(1) as f64, m.max(1) as f64);
        let uniform = |bound: f64, stream: &mut Stream| (bound * (2.0 * stream.unit() - 1.0)) as f32;
        (0..n * m)
            .map(|_| match self {
                Self::Default => uniform(1.0 / inputs.sqrt(), stream),
                Self::HeUniform => uniform((6.0 / inputs).sqrt(), stream),
                Self::HeNormal => ((2.0 / inputs).sqrt() * stream.normal()) as f32,
                Self::XavierUniform => uniform((6.0 / (inputs + outputs)).sqrt(), stream),
                Self::XavierNormal => ((2.0 / (inputs + outputs)).sqrt() * stream.normal()) as f32,
            })
            .collect()
    }

    /// Draws a bias: like the weights by default, else zero.
    pub(crate) fn bias(self, n: usize, m: usize, stream: &mut Stream) -> Vec<f32> {
        match self {
            Self::Default => {
                let bound = 1.0 / (n.max(1) as f64).sqrt();
                (0..m).map(|_| (bound * (2.0 * stream.unit() - 1.0)) as f32).collect()
            }
            _ => vec![0.0; m],
        }
    }
}
