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
        let count = n * m;
        let normal = |deviation: f64, stream: &mut Stream| {
            let values = (0..count).map(|_| (deviation * stream.normal()) as f32);
            values.collect()
        };
        match self {
            Self::Default => stream.uniform(1.0 / inputs.sqrt(), count),
            Self::HeUniform => stream.uniform((6.0 / inputs).sqrt(), count),
            Self::HeNormal => normal((2.0 / inputs).sqrt(), stream),
            Self::XavierUniform => stream.uniform((6.0 / (inputs + outputs)).sqrt(), count),
            Self::XavierNormal => normal((2.0 / (inputs + outputs)).sqrt(), stream),
        }
    }

    /// Draws a bias: like the weights by default, else zero.
    pub(crate) fn bias(self, n: usize, m: usize, stream: &mut Stream) -> Vec<f32> {
        match self {
            Self::Default => stream.uniform(1.0 / (n.max(1) as f64).sqrt(), m),
            _ => vec![0.0; m],
        }
    }
}
