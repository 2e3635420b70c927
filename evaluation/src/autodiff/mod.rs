//! Reverse-mode differentiation: gradients of a graph as further nodes of the graph.
//!
//! Each operator has one *rule*: a function that is given a node and the gradients of its outputs, appends ordinary
//! ONNX nodes to the graph, and returns one optional gradient per input. [`differentiate`] walks the nodes backwards,
//! adds up what several users of a tensor contribute, and skips whatever no wanted tensor depends on.
//!
//! To add an operator: write its rule and at least one test case into a file here, or into a new file, and list it in
//! the file's `RULES`; a new file also takes one line in `FAMILIES`. The tests check every registered rule by central
//! differences and fail for a rule without a case.
//!
//! Operators whose outputs are not enough for their gradients, such as recurrent layers, have an *expansion* in place
//! of a rule: it writes a node in simpler operators, which have rules, before gradients are appended. Expansions stand
//! in `EXPANSIONS` of their file.

mod activation;
mod arithmetic;
mod attention;
#[cfg(test)]
mod conformance;
mod context;
mod convolution;
mod einsum;
mod elementary;
mod indexing;
mod loss;
mod matmul;
mod normalization;
mod padding;
mod pooling;
mod recurrent;
mod reduction;
mod resize;
mod shape;
mod softmax;
#[cfg(test)]
mod torch_tests;
mod totals;

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

pub(crate) use context::Context;
use totals::total;

use crate::graph::{Builder, Graph, Node, TensorType};

/// One gradient per input of a node; none for inputs without gradient.
pub(crate) type Gradients = Vec<Option<String>>;

/// Appends the nodes that compute a node's gradients; fails with the reason in words.
pub(crate) type Rule = fn(&mut Context<'_>) -> Result<Gradients, String>;

/// Appends simpler nodes in the place of a node and returns what they call its outputs; fails with the reason in
/// words.
pub(crate) type Expansion = fn(&mut Context<'_>) -> Result<Vec<String>, String>;

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

        #[cfg(all(test, feature = "rten"))]
        mod the_embedded_engine_computes_the_same {
            $(#[test]
            fn $module() {
                super::conformance::check_embedded(&super::$module::cases());
            })*
        }
    };
}

families![
    activation,
    arithmetic,
    attention,
    convolution,
    einsum,
    elementary,
    indexing,
    loss,
    matmul,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resize,
    shape,
    softmax,
];

/// Shortcuts with a rule of their own, which takes the place of the rules of the nodes that they stand for. The node
/// that makes the first output must be the last of them.
const COMPOSED: &[(&str, Rule)] = &[
    ("BatchNorm", normalization::batch_statistics),
    ("LstmCell", recurrent::lstm_cell),
];

/// Operators that are written in simpler ones before they are differentiated.
const EXPANSIONS: &[&[(&str, Expansion)]] = &[
    attention::EXPANSIONS,
    einsum::EXPANSIONS,
    loss::EXPANSIONS,
    normalization::EXPANSIONS,
    recurrent::EXPANSIONS,
];

static EXPANDED: LazyLock<HashMap<&'static str, Expansion>> =
    LazyLock::new(|| register(EXPANSIONS.iter().copied().flatten()));

static REGISTRY: LazyLock<HashMap<&'static str, Rule>> =
    LazyLock::new(|| register(FAMILIES.iter().flat_map(|family| family.rules)));

fn register<'a, T: Copy + 'a>(rules: impl Iterator<Item = &'a (&'static str, T)>) -> HashMap<&'static str, T> {
    let mut registry = HashMap::new();
    for (operator, rule) in rules {
        assert!(
            registry.insert(*operator, *rule).is_none(),
            "operator `{operator}` is registered once"
        );
    }
    registry
}

/// Names of the operators that can be differentiated, sorted.
#[must_use]
pub fn operators() -> Vec<&'static str> {
    let mut names: Vec<_> = REGISTRY.keys().chain(EXPANDED.keys()).copied().collect();
    names.sort_unstable();
    names
}

/// Why a graph cannot be differentiated.
#[derive(Debug, thiserror::Error)]
pub enum AutodiffError {
    /// No rule for an operator.
    #[error(
        "node `{node}`: operator `{operator}` has no gradient; write it in the model by the {} operators that have one, \
         which the README of `evaluation` lists, or freeze every weight before it",
        operators().len()
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
    while expand(builder, seeds, wanted)? {}
    let nodes = builder.graph().nodes.clone();
    let shortcuts = builder.graph().shortcuts.clone();
    let (depends, path) = path(builder, &nodes, seeds, wanted)?;

    let mut contributions: HashMap<String, Vec<String>> = HashMap::new();
    let mut superseded = Vec::new();
    for (tensor, gradient) in seeds {
        contributions.entry(tensor.clone()).or_default().push(gradient.clone());
    }
    for node in path.into_iter().map(|index| &nodes[index]) {
        let composed = composed(&shortcuts, node).filter(|_| contributions.contains_key(&node.outputs[0]));
        let (node, rule) = composed.unwrap_or_else(|| (node, REGISTRY[node.operator.as_str()]));
        let gradients: Gradients = node
            .outputs
            .iter()
            .map(|name| {
                contributions
                    .remove(name)
                    .map(|parts| total(builder, name, &parts, &mut superseded))
            })
            .collect();
        if gradients.iter().all(Option::is_none) {
            continue;
        }
        let needed: Vec<bool> = node.inputs.iter().map(|name| depends.contains(name.as_str())).collect();
        let results = rule(&mut Context::new(builder, node, &gradients, &needed))
            .map_err(|message| unsupported(node, message))?;
        for ((input, gradient), needed) in node.inputs.iter().zip(results).zip(needed) {
            if let (Some(gradient), true) = (gradient, needed) {
                contributions.entry(input.clone()).or_default().push(gradient);
            }
        }
    }
    let gradients: Vec<Option<String>> = wanted
        .iter()
        .map(|name| {
            contributions
                .remove(name)
                .map(|parts| total(builder, name, &parts, &mut superseded))
        })
        .collect();
    superseded.retain(|name| !gradients.iter().flatten().any(|gradient| gradient == name));
    builder.remove_unused(&superseded);
    Ok(gradients)
}

/// The shortcut whose first output a node makes, with its rule, if it has one.
fn composed<'a>(shortcuts: &'a [Node], node: &Node) -> Option<(&'a Node, Rule)> {
    let shortcut = shortcuts.iter().find(|shortcut| shortcut.output(0) == node.output(0))?;
    let rule = COMPOSED.iter().find(|(operator, _)| *operator == shortcut.operator);
    rule.map(|(_, rule)| (shortcut, *rule))
}

/// The tensors whose gradient is of use, and the nodes on the way to the wanted ones, from the last to the first.
fn path<'a>(
    builder: &Builder,
    nodes: &'a [Node],
    seeds: &'a [(String, String)],
    wanted: &'a [String],
) -> Result<(HashSet<&'a str>, Vec<usize>), AutodiffError> {
    // Tensors that depend on a wanted one …
    let mut depends: HashSet<&str> = wanted.iter().map(String::as_str).collect();
    for node in nodes {
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
    for (index, node) in nodes.iter().enumerate().rev() {
        let is_on_path = node
            .outputs
            .iter()
            .any(|name| reached.contains(name.as_str()) && depends.contains(name.as_str()));
        if is_on_path {
            let operator = node.operator.as_str();
            if !REGISTRY.contains_key(operator) && !EXPANDED.contains_key(operator) {
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
            path.push(index);
        }
    }
    Ok((depends, path))
}

fn unsupported(node: &Node, message: String) -> AutodiffError {
    AutodiffError::Unsupported {
        node: node.label().to_owned(),
        operator: node.operator.clone(),
        message,
    }
}

/// Writes the nodes on the way that have an expansion in simpler operators; says whether there were any.
fn expand(builder: &mut Builder, seeds: &[(String, String)], wanted: &[String]) -> Result<bool, AutodiffError> {
    let nodes = builder.graph().nodes.clone();
    let (_, path) = path(builder, &nodes, seeds, wanted)?;
    let complex: HashSet<usize> = path
        .into_iter()
        .filter(|index| EXPANDED.contains_key(nodes[*index].operator.as_str()))
        .collect();
    if complex.is_empty() {
        return Ok(false);
    }
    builder.take_nodes();
    for (index, node) in nodes.into_iter().enumerate() {
        if !complex.contains(&index) {
            builder.push_node(node);
            continue;
        }
        let expansion = EXPANDED[node.operator.as_str()];
        let outputs =
            expansion(&mut Context::new(builder, &node, &[], &[])).map_err(|message| unsupported(&node, message))?;
        for (name, tensor) in node.outputs.iter().zip(outputs) {
            if !name.is_empty() {
                builder.alias(&tensor, name);
            }
        }
    }
    Ok(true)
}

/// The types of the outputs of a graph's only node, if that has an expansion which gives them.
pub(crate) fn types_of_expansion(graph: &Graph) -> Option<Vec<Option<TensorType>>> {
    let mut builder = Builder::extending(graph.clone(), HashMap::new());
    let node = builder.take_nodes().pop()?;
    let expansion = EXPANDED.get(node.operator.as_str())?;
    let outputs = expansion(&mut Context::new(&mut builder, &node, &[], &[])).ok()?;
    let types = outputs.iter().map(|name| builder.type_of(name).cloned());
    Some(types.collect())
}

/// Writes the nodes that `chosen` names and that have an expansion in simpler operators, given the types of all
/// tensors. A node whose form the expansion does not cover stays as it is.
#[cfg(feature = "rten")]
pub(crate) fn write_out(graph: &Graph, types: &HashMap<String, TensorType>, chosen: &dyn Fn(&Node) -> bool) -> Graph {
    let is_complex = |node: &Node| EXPANDED.contains_key(node.operator.as_str()) && chosen(node);
    if !graph.nodes.iter().any(is_complex) {
        return graph.clone();
    }
    let mut builder = Builder::extending(graph.clone(), types.clone());
    for node in builder.take_nodes() {
        if !is_complex(&node) {
            builder.push_node(node);
            continue;
        }
        let mut attempt = builder.clone();
        match EXPANDED[node.operator.as_str()](&mut Context::new(&mut attempt, &node, &[], &[])) {
            Ok(outputs) => {
                for (name, tensor) in node.outputs.iter().zip(outputs) {
                    if !name.is_empty() {
                        attempt.alias(&tensor, name);
                    }
                }
                builder = attempt;
            }
            Err(_) => builder.push_node(node),
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::reference::Reference;
    use crate::graph::{ElementType, Tensor, TensorType};

    #[test]
    fn an_unknown_operator_is_named_before_anything_is_appended() {
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [2]));
        let y = builder.node("Det", &[&x], Vec::new());
        let z = builder.node("Relu", &[&y], Vec::new());
        let error = differentiate(&mut builder, &[(z.clone(), z)], &[x]).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("node `det.0`: operator `Det` has no gradient; write it"),
            "{message}"
        );
        assert_eq!(builder.graph().nodes.len(), 2);
    }

    #[test]
    fn an_unknown_operator_off_the_path_of_gradients_does_not_matter() {
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [2]));
        let w = builder.input("w", TensorType::new(ElementType::F32, [2]));
        let y = builder.node("Det", &[&x], Vec::new());
        let z = builder.node("Mul", &[&y, &w], Vec::new());
        for name in [&y, &z] {
            builder.declare(name, TensorType::new(ElementType::F32, [2]));
        }
        let gradients = differentiate(&mut builder, &[(z, x)], &[w, "unused".into()]).unwrap();
        assert!(gradients[0].is_some() && gradients[1].is_none());
    }

    /// Slices and picked rows that make up a whole tensor give its gradient by concatenation.
    #[test]
    fn gradients_of_all_slices_are_joined() {
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [3, 2]));
        let (starts, ends) = (builder.ints(&[1]), builder.ints(&[3]));
        let slice = builder.node("Slice", &[&x, &starts, &ends], Vec::new());
        let first = builder.ints(&[0]);
        let row = builder.node("Gather", &[&x, &first], Vec::new());
        builder.input("a", TensorType::new(ElementType::F32, [2, 2]));
        builder.input("b", TensorType::new(ElementType::F32, [1, 2]));
        let seeds = [(slice, "a".to_owned()), (row, "b".to_owned())];
        let gradient = differentiate(&mut builder, &seeds, &[x]).unwrap().remove(0).unwrap();
        builder.output("gradient", &gradient);
        let mut graph = builder.finish();
        graph.prune();
        assert!(
            graph
                .nodes
                .iter()
                .all(|node| !matches!(node.operator.as_str(), "Pad" | "Add"))
        );
        let values = |count: usize, first: f32| (0..count).map(|at| first + at as f32).collect::<Vec<f32>>();
        let found = Reference
            .run(
                &graph,
                vec![
                    ("x".into(), Tensor::f32([3, 2], values(6, 0.0))),
                    ("a".into(), Tensor::f32([2, 2], values(4, 10.0))),
                    ("b".into(), Tensor::f32([1, 2], values(2, 1.0))),
                ],
            )
            .unwrap();
        assert_eq!(found[0].as_f32().unwrap(), [1.0, 2.0, 10.0, 11.0, 12.0, 13.0]);
    }

    #[test]
    fn the_readme_lists_every_operator() {
        let readme = include_str!("../../README.md");
        let missing: Vec<&str> = operators()
            .into_iter()
            .filter(|operator| !readme.contains(&format!("`{operator}`")))
            .collect();
        assert!(missing.is_empty(), "not in the README: {missing:?}");
    }

    #[test]
    #[should_panic(expected = "operator `Relu` is registered once")]
    fn registering_an_operator_twice_panics() {
        let rule: Rule = |_| Ok(Vec::new());
        register([("Relu", rule), ("Relu", rule)].iter());
    }
}
