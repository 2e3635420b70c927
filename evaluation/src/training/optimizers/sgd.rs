//! Stochastic gradient descent: `m ← μ m + g`, step `lr m`, or `lr (g + μ m)` in Nesterov's form (Sutskever et al. 2013
//! as PyTorch writes it).

use serde::Serialize;

use super::{Entry, Moment, Nodes, Rule, Update};

pub(super) const ENTRY: Entry = Entry {
    name: "sgd",
    fields: &["momentum", "nesterov"],
    learning_rate: 0.01,
    weight_decay: 0.0,
    read: |fields| {
        let (momentum, nesterov) = (fields.share("momentum", Some(0.0))?, fields.flag("nesterov", false)?);
        if nesterov && momentum <= 0.0 {
            return Err(fields.error("nesterov", "needs a `momentum` above 0"));
        }
        Ok(Rule::Sgd(Sgd { momentum, nesterov }))
    },
    #[cfg(test)]
    examples: &[
        r#"{"name": "sgd", "learning_rate": 0.1}"#,
        r#"{"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.001}"#,
        r#"{"name": "sgd", "learning_rate": 0.05, "momentum": 0.8, "nesterov": true}"#,
    ],
};

/// Stochastic gradient descent; the decay joins the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sgd {
    /// Share of the previous step that is kept, in `[0, 1)`.
    pub momentum: f64,
    /// Look-ahead form of momentum.
    pub nesterov: bool,
}

impl Update for Sgd {
    fn slots(&self) -> Vec<(&'static str, f32)> {
        if self.momentum > 0.0 {
            vec![("momentum", 0.0)]
        } else {
            Vec::new()
        }
    }

    fn scalars(&self, at: Moment) -> Vec<(&'static str, f64)> {
        let mut scalars = vec![("learning_rate", at.learning_rate)];
        if self.momentum > 0.0 {
            scalars.push(("momentum", self.momentum));
        }
        scalars
    }

    fn shortcut(&self) -> Option<&'static str> {
        (self.momentum > 0.0 && !self.nesterov).then_some("MomentumUpdate")
    }

    fn step(&self, nodes: &mut Nodes<'_>, scalars: &[&str], g: &str, slots: &[String]) -> (String, Vec<String>) {
        let [rate, ref momentum @ ..] = *scalars else {
            unreachable!("the learning rate is the first scalar")
        };
        let [momentum] = momentum else {
            return (nodes.mul(g, rate), Vec::new());
        };
        let m = nodes.mul_add(&slots[0], momentum, g);
        let direction = if self.nesterov {
            let ahead = nodes.mul(&m, momentum);
            nodes.add(g, &ahead)
        } else {
            m.clone()
        };
        (nodes.mul(&direction, rate), vec![m])
    }
}
