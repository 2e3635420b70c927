//! Reverse-mode differentiation: gradients of a graph as further nodes of the graph.
//!
//! Each operator has one *rule*: a function that is given a node and the gradients of its outputs, appends ordinary
//! ONNX nodes to the graph, and returns one optional gradient per input. [`differentiate`] walks the nodes backwards,
//! adds up what several users of a tensor contribute, and skips whatever no wanted tensor depends on.
//!
//! To add an operator: write its rule and at least one test case into a file here, or into a new file, and list it in
//! the file's `RULES`; a new file also takes one line in `FAMILIES`. The tests check every registered rule by central
//! differences and fail for a rule without a case.

mod activation;
mod arithmetic;
#[cfg(test)]
mod conformance;
mod context;
mod convolution;
mod matmul;
mod normalization;
mod pooling;
mod reduction;
mod shape;
mod softmax;

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

pub(crate) use context::Context;

use crate::graph::Builder;

/// One gradient per input of a node; none for inputs without gradient.
pub(crate) type Gradients = Vec<Option<String>>;

/// Appends the nodes that compute a node's gradients; fails with the reason in words.
pub(crate) type Rule = fn(&mut Context<'_>) -> Result<Gradients, String>;

/// The rules of one file, and their test cases.
struct Family {
    rules: &'static [(&'static str, Rule)],
    #[cfg(test)]
    cases: fn() -> Vec<conformance::Case>,
}

macro_rules! families {
    ($($module:ident),* $(,)?) => {
        /// Every file of rules.
        const FAMILIES: &[Family] = &[$(Family { rules: $module::RULES, #[cfg(test)] cases: $module::cases }),*];

        #[cfg(test)]
        mod rules_agree_with_central_differences {
            $(#[test]
            fn $module() {
                super::conformance::check_all(&super::$module::cases());
            })*
        }
    };
}

families![
    activation,
    arithmetic,
    convolution,
    matmul,
    normalization,
    pooling,
    reduction,
    shape,
    softmax,
];

static REGISTRY: LazyLock<HashMap<&'static str, Rule>> =
    LazyLock::new(|| register(FAMILIES.iter().flat_map(|family| family.rules)));

fn register<'a>(rules: impl Iterator<Item = &'a (&'static str, Rule)>) -> HashMap<&'static str, Rule> {
    let mut registry = HashMap::new();
    for (operator, rule) in rules {
        assert!(
            registry.insert(*operator, *rule).is_none(),
            "operator `{operator}` is registered once"
        );
    }
    registry
}

/// Names of the operators that have a rule, sorted.
#[must_use]
pub fn operators() -> Vec<&'static str> {
    let mut names: Vec<_> = REGISTRY.keys().copied().collect();
    names.sort_unstable();
    names
}

/// Why a graph cannot be differentiated.
#[derive(Debug, thiserror::Error)]
pub enum AutodiffError {
    /// No rule for an operator.
    #[error(
        "node `{node}`: operator `{operator}` has no gradient; replace it in the model by supported operators ({})",
        operators().join(", ")
    )]
    UnknownOperator {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// A rule does not cover how a node uses its operator.
    #[error("node `{node}`: operator `{operator}` cannot be differentiated: {message}")]
    Unsupported {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
        /// What is not covered, and what to do.
        message: String,
    },
}

/// Appends the gradients of everything in `wanted` to the graph and returns their names in order.
///
/// `seeds` are tensors and the gradient of the final scalar with respect to each. The types of all tensors in between
/// must be known to the builder. A wanted tensor on which no seed depends has no gradient.
///
/// # Errors
/// When an operator on the way has no rule, before anything is appended, or when a rule does not cover a node.
pub fn differentiate(
    builder: &mut Builder,
    seeds: &[(String, String)],
    wanted: &[String],
) -> Result<Vec<Option<String>>, AutodiffError> {
    let nodes = builder.graph().nodes.clone();

    // Tensors whose gradient is of use: those that depend on a wanted one …
    let mut depends: HashSet<&str> = wanted.iter().map(String::as_str).collect();
    for node in &nodes {
        if node.inputs.iter().any(|input| depends.contains(input.as_str())) {
            depends.extend(
                node.outputs.iter().map(String::as_str).filter(|name| {
                    !name.is_empty() && builder.type_of(name).is_none_or(|kind| kind.element.is_float())
                }),
            );
        }
    }
    // … and on which a seed depends.
    let mut reached: HashSet<&str> = seeds.iter().map(|(tensor, _)| tensor.as_str()).collect();
    let mut path = Vec::new();
    for node in nodes.iter().rev() {
        let is_on_path = node
            .outputs
            .iter()
            .any(|name| reached.contains(name.as_str()) && depends.contains(name.as_str()));
        if is_on_path {
            if !REGISTRY.contains_key(node.operator.as_str()) {
                return Err(AutodiffError::UnknownOperator {
                    node: node.label().to_owned(),
                    operator: node.operator.clone(),
                });
            }
            reached.extend(
                node.inputs
                    .iter()
                    .map(String::as_str)
                    .filter(|name| depends.contains(name)),
            );
            path.push(node);
        }
    }

    let mut contributions: HashMap<String, Vec<String>> = HashMap::new();
    for (tensor, gradient) in seeds {
        contributions.entry(tensor.clone()).or_default().push(gradient.clone());
    }
    for node in path {
        let gradients: Gradients = node
            .outputs
            .iter()
            .map(|name| contributions.remove(name).map(|parts| total(builder, &parts)))
            .collect();
        if gradients.iter().all(Option::is_none) {
            continue;
        }
        let needed: Vec<bool> = node.inputs.iter().map(|name| depends.contains(name.as_str())).collect();
        let rule = REGISTRY[node.operator.as_str()];
        let unsupported = |message| AutodiffError::Unsupported {
            node: node.label().to_owned(),
            operator: node.operator.clone(),
            message,
        };
        let results = rule(&mut Context::new(builder, node, &gradients, &needed)).map_err(unsupported)?;
        for ((input, gradient), needed) in node.inputs.iter().zip(results).zip(needed) {
            if let (Some(gradient), true) = (gradient, needed) {
                contributions.entry(input.clone()).or_default().push(gradient);
            }
        }
    }
    Ok(wanted
        .iter()
        .map(|name| contributions.remove(name).map(|parts| total(builder, &parts)))
        .collect())
}

fn total(builder: &mut Builder, parts: &[String]) -> String {
    let names: Vec<&str> = parts.iter().map(String::as_str).collect();
    match names[..] {
        [one] => one.to_owned(),
        [first, second] => builder.node("Add", &[first, second], Vec::new()),
        _ => builder.node("Sum", &names, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{ElementType, TensorType};

    #[test]
    fn an_unknown_operator_is_named_before_anything_is_appended() {
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [2]));
        let y = builder.node("Tan", &[&x], Vec::new());
        let z = builder.node("Relu", &[&y], Vec::new());
        let error = differentiate(&mut builder, &[(z.clone(), z)], &[x]).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("node `tan.0`: operator `Tan` has no gradient; replace it"),
            "{message}"
        );
        assert_eq!(builder.graph().nodes.len(), 2);
    }

    #[test]
    fn an_unknown_operator_off_the_path_of_gradients_does_not_matter() {
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [2]));
        let w = builder.input("w", TensorType::new(ElementType::F32, [2]));
        let y = builder.node("Tan", &[&x], Vec::new());
        let z = builder.node("Mul", &[&y, &w], Vec::new());
        for name in [&y, &z] {
            builder.declare(name, TensorType::new(ElementType::F32, [2]));
        }
        let gradients = differentiate(&mut builder, &[(z, x)], &[w, "unused".into()]).unwrap();
        assert!(gradients[0].is_some() && gradients[1].is_none());
    }

    #[test]
    #[should_panic(expected = "operator `Relu` is registered once")]
    fn registering_an_operator_twice_panics() {
        let rule: Rule = |_| Ok(Vec::new());
        register([("Relu", rule), ("Relu", rule)].iter());
    }
}
