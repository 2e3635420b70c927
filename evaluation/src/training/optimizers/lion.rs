//! Lion (Chen et al. 2023, algorithm 2): step `lr sign(β₁ m + (1-β₁) g)`, then `m ← β₂ m + (1-β₂) g`.

use serde::Serialize;

use super::{Entry, Moment, Nodes, Rule, Update};

pub(super) const ENTRY: Entry = Entry {
    name: "lion",
    fields: &["betas"],
    learning_rate: 0.0001,
    weight_decay: 0.0,
    read: |fields| {
        Ok(Rule::Lion(Lion {
            betas: fields.pair("betas", [0.9, 0.99])?,
        }))
    },
    #[cfg(test)]
    examples: &[r#"{"name": "lion", "learning_rate": 0.003, "weight_decay": 0.1}"#],
};

/// Lion; the decay acts on the weights themselves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lion {
    /// Share of the average in the step, and its own decay.
    pub betas: [f64; 2],
}

impl Update for Lion {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("momentum", 0.0)]
    }

    fn scalars(&self, at: Moment) -> Vec<(&'static str, f64)> {
        let [b1, b2] = self.betas;
        vec![
            ("learning_rate", at.learning_rate),
            ("beta1", b1),
            ("rest1", 1.0 - b1),
            ("beta2", b2),
            ("rest2", 1.0 - b2),
        ]
    }

    fn is_decay_decoupled(&self) -> bool {
        true
    }

    fn step(&self, nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, Vec<String>) {
        let mut mixed = |kept: usize| {
            let part = nodes.mul(g, scalars[kept + 1]);
            nodes.mul_add(&slots[0], scalars[kept], &part)
        };
        let (direction, m) = (mixed(1), mixed(3));
        let sign = nodes.op("Sign", &[&direction]);
        (nodes.mul(&sign, scalars[0]), vec![m])
    }
}
