//! How much memory a graph takes at least, before it is run: what fails in `rten` for lack of memory ends the program.

use std::collections::{HashMap, HashSet};

use crate::graph::{ElementType, Graph, TensorType};

/// Operators whose result may be their first input under another shape.
const VIEWS: [&str; 7] = [
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Bytes of all results that are needed at the same time, where they are the most. Counted are those that exist after
/// a node, of known shape, so that a node may write over what it reads.
pub(super) fn least(graph: &Graph, types: &HashMap<String, TensorType>) -> u64 {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        last.extend(node.inputs.iter().map(|name| (name.as_str(), index)));
    }
    let kept: HashSet<&str> = graph.outputs.iter().map(String::as_str).collect();
    let size = |name: &str| {
        let kind = types.get(name)?;
        // What this engine holds: 64-bit integers as 32 bits.
        let width = if kind.element == ElementType::F64 { 8 } else { 4 };
        let numbers = kind.shape.iter().map(|size| *size as u64);
        Some(numbers.fold(width, u64::saturating_mul))
    };
    let mut held: HashMap<&str, u64> = HashMap::new();
    let (mut now, mut most) = (0_u64, 0);
    for (index, node) in graph.nodes.iter().enumerate() {
        if !VIEWS.contains(&node.operator.as_str()) {
            for output in &node.outputs {
                let is_used = last.contains_key(output.as_str()) || kept.contains(output.as_str());
                if let Some(bytes) = size(output).filter(|_| is_used) {
                    held.insert(output, bytes);
                    now = now.saturating_add(bytes);
                }
            }
        }
        for input in &node.inputs {
            if last.get(input.as_str()) == Some(&index)
                && !kept.contains(input.as_str())
                && let Some(bytes) = held.remove(input.as_str())
            {
                now = now.saturating_sub(bytes);
            }
        }
        most = most.max(now);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::types;
    use crate::graph::Builder;

    #[test]
    fn what_exists_at_the_same_time_is_counted() {
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, [10]));
        let a = builder.node("Exp", &[&x], Vec::new());
        let b = builder.node("Exp", &[&a], Vec::new());
        let both = builder.node("Concat", &[&a, &b], vec![crate::graph::attribute::int("axis", 0)]);
        let same = builder.node("Identity", &[&both], Vec::new());
        let end = builder.node("Exp", &[&same], Vec::new());
        builder.output("y", &end);
        let graph = builder.finish();
        // After the second node `a` and `b`; the inputs of a node may be gone after it.
        assert_eq!(least(&graph, &types::of_graph(&graph)), 4 * 20);
    }
}
