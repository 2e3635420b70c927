//! Adam and `AdamW`.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `m`, `v` | moving averages of the gradient and of its square |
//! | `t` | number of the step, from 1 |
//!
//! The averages are kept divided by `1-β` (`M = m/(1-β₁)`, `V = v/(1-β₂)`), so that an update is `M ← β₁M + g`,
//! `V ← β₂V + g²` and the step `a M/(√V + e)` with scalars `r = √((1-β₂)/(1-β₂ᵗ))`, `a = lr (1-β₁)/(1-β₁ᵗ)/r` and
//! `e = ε/r`: two passes over memory fewer than the textbook form, and the same numbers up to rounding.

use serde::Serialize;

use super::{Entry, Moment, Nodes, Rule, Update};
use crate::model::ModelError;
use crate::model::fields::Fields;

pub(super) const FIELDS: &[&str] = &["betas", "epsilon"];

pub(super) const ENTRY: Entry = Entry {
    name: "adam",
    fields: FIELDS,
    learning_rate: 0.001,
    weight_decay: 0.0,
    read: |fields| read(fields, false),
    #[cfg(test)]
    examples: &[
        r#"{"name": "adam", "learning_rate": 0.01, "betas": [0.9, 0.99], "epsilon": 1e-7}"#,
        r#"{"name": "adam", "learning_rate": 0.01, "weight_decay": 0.01}"#,
    ],
};

pub(super) const DECOUPLED: Entry = Entry {
    name: "adamw",
    weight_decay: 0.01,
    read: |fields| read(fields, true),
    #[cfg(test)]
    examples: &[r#"{"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}"#],
    ..ENTRY
};

fn read(fields: &Fields<'_>, decoupled: bool) -> Result<Rule, ModelError> {
    Ok(Rule::Adam(Adam {
        betas: fields.pair("betas", [0.9, 0.999])?,
        epsilon: fields.positive("epsilon", Some(1e-8))?,
        decoupled,
    }))
}

/// Adam (Kingma and Ba 2015), where the decay joins the gradient, or with decoupled decay (Loshchilov and Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Adam {
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Keeps the division finite.
    pub epsilon: f64,
    /// Whether the decay acts on the weights themselves: `adamw`.
    pub decoupled: bool,
}

impl Update for Adam {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        vec![("first", 0.0), ("second", 0.0)]
    }

    fn scalars(&self, at: Moment) -> Vec<(&'static str, f64)> {
        let ([b1, b2], t) = (self.betas, at.t as f64);
        let r = ((1.0 - b2) / (1.0 - libm::pow(b2, t))).sqrt();
        let a = at.learning_rate * (1.0 - b1) / (1.0 - libm::pow(b1, t)) / r;
        vec![
            ("step_size", a),
            ("epsilon", self.epsilon / r),
            ("beta1", b1),
            ("beta2", b2),
        ]
    }

    fn is_decay_decoupled(&self) -> bool {
        self.decoupled
    }

    fn shortcut(&self) -> Option<&'static str> {
        Some("AdamUpdate")
    }

    fn step(&self, nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, Vec<String>) {
        let (quotient, m, v) = quotient(nodes, &scalars[1..], g, slots);
        (nodes.mul(&quotient, scalars[0]), vec![m, v])
    }
}

/// `M/(√V + e)` and the next `M` and `V`; the scalars are `e`, `β₁`, `β₂`.
pub(super) fn quotient(nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, String, String) {
    let m = nodes.mul_add(&slots[0], scalars[1], g);
    let kept = nodes.mul(&slots[1], scalars[2]);
    let square = nodes.mul(g, g);
    let v = nodes.add(&kept, &square);
    let root = nodes.op("Sqrt", &[&v]);
    let root = nodes.add(&root, scalars[0]);
    (nodes.op("Div", &[&m, &root]), m, v)
}
