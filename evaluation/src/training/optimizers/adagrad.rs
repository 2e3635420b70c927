//! Adagrad (Duchi, Hazan and Singer 2011): `s ← s + g²`, step `lr/(1 + (t-1) η) g/(√s + ε)`.

use serde::Serialize;

use super::{Entry, Moment, Nodes, Rule, Update};

pub(super) const ENTRY: Entry = Entry {
    name: "adagrad",
    fields: &["learning_rate_decay", "initial_accumulator", "epsilon"],
    learning_rate: 0.01,
    weight_decay: 0.0,
    read: |fields| {
        Ok(Rule::Adagrad(Adagrad {
            learning_rate_decay: fields.non_negative("learning_rate_decay", 0.0)?,
            initial_accumulator: fields.non_negative("initial_accumulator", 0.0)?,
            epsilon: fields.positive("epsilon", Some(1e-10))?,
        }))
    },
    #[cfg(test)]
    examples: &[
        r#"{"name": "adagrad", "learning_rate": 0.05}"#,
        r#"{"name": "adagrad", "learning_rate": 0.05, "learning_rate_decay": 0.1, "initial_accumulator": 0.1,
            "weight_decay": 0.001}"#,
    ],
};

/// Adagrad; the decay joins the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Adagrad {
    /// `η`: the learning rate is divided by one plus this times the steps done.
    pub learning_rate_decay: f64,
    /// Where the sums of squares begin.
    pub initial_accumulator: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
}

impl Update for Adagrad {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("sum", self.initial_accumulator as f32)]
    }

    fn scalars(&self, at: Moment) -> Vec<(&'static str, f64)> {
        let rate = at.learning_rate / (1.0 + at.t.saturating_sub(1) as f64 * self.learning_rate_decay);
        vec![("learning_rate", rate), ("epsilon", self.epsilon)]
    }

    fn step(&self, nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, Vec<String>) {
        let square = nodes.mul(g, g);
        let sum = nodes.add(&slots[0], &square);
        let root = nodes.op("Sqrt", &[&sum]);
        let root = nodes.add(&root, scalars[1]);
        let quotient = nodes.op("Div", &[g, &root]);
        (nodes.mul(&quotient, scalars[0]), vec![sum])
    }
}
