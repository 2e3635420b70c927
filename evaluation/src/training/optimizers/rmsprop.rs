//! `RMSprop` (Hinton): `v ← α v + (1-α) g²`, `m ← μ m + g/(√v + ε)`, step `lr m`.
//!
//! `V = v/(1-α)` is kept in place of `v`, and `m` for it, as in Adam.

use serde::Serialize;

use super::{Entry, Moment, Nodes, Rule, Update};

pub(super) const ENTRY: Entry = Entry {
    name: "rmsprop",
    fields: &["alpha", "epsilon", "momentum"],
    learning_rate: 0.01,
    weight_decay: 0.0,
    read: |fields| {
        Ok(Rule::RmsProp(RmsProp {
            epsilon: fields.positive("epsilon", Some(1e-8))?,
            alpha: fields.share("alpha", Some(0.99))?,
            momentum: fields.share("momentum", Some(0.0))?,
        }))
    },
    #[cfg(test)]
    examples: &[
        r#"{"name": "rmsprop", "learning_rate": 0.003, "alpha": 0.9}"#,
        r#"{"name": "rmsprop", "learning_rate": 0.003, "momentum": 0.5, "weight_decay": 0.001}"#,
    ],
};

/// `RMSprop`, with optional momentum; the decay joins the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RmsProp {
    /// Decay of the mean square, in `[0, 1)`.
    pub alpha: f64,
    /// Keeps the division finite.
    pub epsilon: f64,
    /// Share of the previous step that is kept, in `[0, 1)`.
    pub momentum: f64,
}

impl Update for RmsProp {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        let mut slots = vec![("square", 0.0)];
        if self.momentum > 0.0 {
            slots.push(("momentum", 0.0));
        }
        slots
    }

    fn scalars(&self, at: Moment) -> Vec<(&'static str, f64)> {
        let r = (1.0 - self.alpha).sqrt();
        let mut scalars = vec![
            ("step_size", at.learning_rate / r),
            ("epsilon", self.epsilon / r),
            ("alpha", self.alpha),
        ];
        if self.momentum > 0.0 {
            scalars.push(("momentum", self.momentum));
        }
        scalars
    }

    fn step(&self, nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, Vec<String>) {
        let kept = nodes.mul(&slots[0], scalars[2]);
        let square = nodes.mul(g, g);
        let v = nodes.add(&kept, &square);
        let root = nodes.op("Sqrt", &[&v]);
        let root = nodes.add(&root, scalars[1]);
        let quotient = nodes.op("Div", &[g, &root]);
        let Some(momentum) = scalars.get(3) else {
            return (nodes.mul(&quotient, scalars[0]), vec![v]);
        };
        let m = nodes.mul_add(&slots[1], momentum, &quotient);
        (nodes.mul(&m, scalars[0]), vec![v, m])
    }
}
