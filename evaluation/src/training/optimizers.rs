//! Update rules as nodes.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `w`, `g` | a parameter and its gradient |
//! | `m`, `v` | slots: moving averages of gradients and of their squares |
//! | `t` | steps done, from 1 |
//!
//! Everything that changes between steps, or between the points of a search, is a scalar input of the graph.
//!
//! Adam keeps its averages divided by `1-β` (`M = m/(1-β₁)`, `V = v/(1-β₂)`), so that an update is `M ← β₁M + g`,
//! `V ← β₂V + g²` and `w ← w - a M/(√V + e)` with scalars `r = √((1-β₂)/(1-β₂ᵗ))`, `a = lr (1-β₁)/(1-β₁ᵗ)/r` and
//! `e = ε/r`: two passes over memory fewer than the textbook form, and the same numbers up to rounding. `RMSprop` keeps
//! `V = v/(1-α)` likewise.

use super::plan::{Optimizer, Rule};
use crate::graph::{Builder, ElementType, TensorType};

/// Names of the scalar inputs, in the order of [`scalars`].
pub(crate) fn scalar_names(optimizer: &Optimizer) -> Vec<&'static str> {
    let mut names = match optimizer.rule {
        Rule::Sgd { momentum, .. } => {
            if momentum > 0.0 {
                vec!["learning_rate", "momentum"]
            } else {
                vec!["learning_rate"]
            }
        }
        Rule::Adam { .. } | Rule::AdamW { .. } => vec!["step_size", "epsilon", "beta1", "beta2"],
        Rule::RmsProp { momentum, .. } => {
            if momentum > 0.0 {
                vec!["step_size", "epsilon", "alpha", "momentum"]
            } else {
                vec!["step_size", "epsilon", "alpha"]
            }
        }
    };
    if optimizer.weight_decay > 0.0 {
        names.push(if matches!(optimizer.rule, Rule::AdamW { .. }) {
            "kept"
        } else {
            "weight_decay"
        });
    }
    names
}

/// Values of the scalar inputs at a step.
pub(crate) fn scalars(optimizer: &Optimizer, learning_rate: f64, t: u64) -> Vec<f32> {
    let mut values = match optimizer.rule {
        Rule::Sgd { momentum, .. } => {
            if momentum > 0.0 {
                vec![learning_rate, momentum]
            } else {
                vec![learning_rate]
            }
        }
        Rule::Adam {
            betas: [b1, b2],
            epsilon,
        }
        | Rule::AdamW {
            betas: [b1, b2],
            epsilon,
        } => {
            let t = t as f64;
            let r = ((1.0 - b2) / (1.0 - libm::pow(b2, t))).sqrt();
            let a = learning_rate * (1.0 - b1) / (1.0 - libm::pow(b1, t)) / r;
            vec![a, epsilon / r, b1, b2]
        }
        Rule::RmsProp {
            alpha,
            epsilon,
            momentum,
        } => {
            let r = (1.0 - alpha).sqrt();
            let mut values = vec![learning_rate / r, epsilon / r, alpha];
            if momentum > 0.0 {
                values.push(momentum);
            }
            values
        }
    };
    if optimizer.weight_decay > 0.0 {
        values.push(if matches!(optimizer.rule, Rule::AdamW { .. }) {
            1.0 - learning_rate * optimizer.weight_decay
        } else {
            optimizer.weight_decay
        });
    }
    values.into_iter().map(|value| value as f32).collect()
}

/// Names of the slots that each parameter needs; all begin at zero.
pub(crate) fn slots(optimizer: &Optimizer) -> &'static [&'static str] {
    match optimizer.rule {
        Rule::Sgd { momentum, .. } => {
            if momentum > 0.0 {
                &["momentum"]
            } else {
                &[]
            }
        }
        Rule::Adam { .. } | Rule::AdamW { .. } => &["first", "second"],
        Rule::RmsProp { momentum, .. } => {
            if momentum > 0.0 {
                &["square", "momentum"]
            } else {
                &["square"]
            }
        }
    }
}

/// Adds the scalar inputs.
pub(crate) fn add_scalars(builder: &mut Builder, optimizer: &Optimizer) -> Vec<String> {
    scalar_names(optimizer)
        .into_iter()
        .map(|name| builder.input(&format!("feed/{name}"), TensorType::new(ElementType::F32, [])))
        .collect()
}

/// Appends the update of one parameter; returns its next value and those of its slots.
#[expect(clippy::many_single_char_names, reason = "the names are those of the module's table")]
pub(crate) fn append(
    builder: &mut Builder,
    optimizer: &Optimizer,
    scalars: &[String],
    w: &str,
    g: &str,
    slots: &[String],
) -> (String, Vec<String>) {
    let mut op = |operator: &str, inputs: &[&str]| builder.node(operator, inputs, Vec::new());
    let decays = optimizer.weight_decay > 0.0;
    let decay = scalars.last().map_or("", String::as_str);
    let decoupled = matches!(optimizer.rule, Rule::AdamW { .. });
    let g = if decays && !decoupled {
        let part = op("Mul", &[w, decay]);
        op("Add", &[g, &part])
    } else {
        g.to_owned()
    };
    match optimizer.rule {
        Rule::Sgd { momentum, nesterov } => {
            let rate = &scalars[0];
            if momentum <= 0.0 {
                let step = op("Mul", &[&g, rate]);
                return (op("Sub", &[w, &step]), Vec::new());
            }
            let kept = op("Mul", &[&slots[0], &scalars[1]]);
            let m = op("Add", &[&kept, &g]);
            let direction = if nesterov {
                let ahead = op("Mul", &[&m, &scalars[1]]);
                op("Add", &[&g, &ahead])
            } else {
                m.clone()
            };
            let step = op("Mul", &[&direction, rate]);
            (op("Sub", &[w, &step]), vec![m])
        }
        Rule::Adam { .. } | Rule::AdamW { .. } => {
            let [a, e, b1, b2] = [0, 1, 2, 3].map(|index| scalars[index].as_str());
            let kept = op("Mul", &[&slots[0], b1]);
            let m = op("Add", &[&kept, &g]);
            let kept = op("Mul", &[&slots[1], b2]);
            let square = op("Mul", &[&g, &g]);
            let v = op("Add", &[&kept, &square]);
            let root = op("Sqrt", &[&v]);
            let root = op("Add", &[&root, e]);
            let quotient = op("Div", &[&m, &root]);
            let step = op("Mul", &[&quotient, a]);
            let w = if decays && decoupled {
                op("Mul", &[w, decay])
            } else {
                w.to_owned()
            };
            (op("Sub", &[&w, &step]), vec![m, v])
        }
        Rule::RmsProp { momentum, .. } => {
            let [a, e, alpha] = [0, 1, 2].map(|index| scalars[index].as_str());
            let kept = op("Mul", &[&slots[0], alpha]);
            let square = op("Mul", &[&g, &g]);
            let v = op("Add", &[&kept, &square]);
            let root = op("Sqrt", &[&v]);
            let root = op("Add", &[&root, e]);
            let quotient = op("Div", &[&g, &root]);
            if momentum <= 0.0 {
                let step = op("Mul", &[&quotient, a]);
                return (op("Sub", &[w, &step]), vec![v]);
            }
            let kept = op("Mul", &[&slots[1], &scalars[3]]);
            let m = op("Add", &[&kept, &quotient]);
            let step = op("Mul", &[&m, a]);
            (op("Sub", &[w, &step]), vec![v, m])
        }
    }
}
