//! Rectified Adam (Liu et al. 2020, algorithm 2).
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `ρ∞` | `2/(1-β₂) - 1`, the longest approximated simple moving average |
//! | `ρₜ` | `ρ∞ - 2tβ₂ᵗ/(1-β₂ᵗ)`, its length at step `t` |
//!
//! While `ρₜ ≤ 5` the variance of the adaptive rate is not tractable and the step is `lr m/(1-β₁ᵗ)`; after that it is
//! Adam's times `√((ρₜ-4)(ρₜ-2)ρ∞/((ρ∞-4)(ρ∞-2)ρₜ))`. Both forms are in the graph as `a M/(√V + e) + c M`, with one
//! of `a` and `c` zero. The averages are kept as Adam keeps them.

use serde::Serialize;

use super::{Adam, Entry, Moment, Nodes, Rule, Update, adam};

pub(super) const ENTRY: Entry = Entry {
    name: "radam",
    fields: adam::FIELDS,
    learning_rate: 0.001,
    weight_decay: 0.0,
    read: |fields| {
        Ok(Rule::RAdam(RAdam {
            betas: fields.pair("betas", [0.9, 0.999])?,
            epsilon: fields.positive("epsilon", Some(1e-8))?,
        }))
    },
    #[cfg(test)]
    examples: &[r#"{"name": "radam", "learning_rate": 0.01, "betas": [0.9, 0.99], "weight_decay": 0.001}"#],
};

/// Rectified Adam; the decay joins the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RAdam {
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Keeps the division finite.
    pub epsilon: f64,
}

/// The adaptive rate is used when the moving average is longer than this.
const SHORTEST_AVERAGE: f64 = 5.0;

impl Update for RAdam {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("first", 0.0), ("second", 0.0)]
    }

    fn scalars(&self, at: Moment) -> Vec<(&'static str, f64)> {
        let adam = Adam {
            betas: self.betas,
            epsilon: self.epsilon,
            decoupled: false,
        };
        let mut scalars = adam.scalars(at);
        let ([b1, b2], t) = (self.betas, at.t as f64);
        let longest = 2.0 / (1.0 - b2) - 1.0;
        let power = libm::pow(b2, t);
        let length = longest - 2.0 * t * power / (1.0 - power);
        let plain = if length > SHORTEST_AVERAGE {
            let rectification =
                (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length);
            scalars[0].1 *= rectification.sqrt();
            0.0
        } else {
            scalars[0].1 = 0.0;
            at.learning_rate * (1.0 - b1) / (1.0 - libm::pow(b1, t))
        };
        scalars.push(("plain_step_size", plain));
        scalars
    }

    fn step(&self, nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, Vec<String>) {
        let (quotient, m, v) = adam::quotient(nodes, &scalars[1..4], g, slots);
        let plain = nodes.mul(&m, scalars[4]);
        (nodes.mul_add(&quotient, scalars[0], &plain), vec![m, v])
    }
}
