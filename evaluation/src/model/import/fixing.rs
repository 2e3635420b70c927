//! A model for one batch size: its types, and all arithmetic done whose result is known before training.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{ImportError, Imported, form};
use crate::engine::Engine;
use crate::graph::{Elements, Graph, Node, Tensor, TensorType};
use crate::training::lowering;

impl Imported {
    /// The graph for a fixed batch, its types, and the constant arithmetic done.
    ///
    /// The nodes of the input come from `front`, which makes a tensor of the input's name.
    pub(crate) fn fix(
        &self,
        engine: &dyn Engine,
        graph: Graph,
    ) -> Result<(Graph, HashMap<String, TensorType>), ImportError> {
        let mut graph = graph;
        graph.prune();
        let protected = lowering::running_statistics(&self.graph);
        // Each pass folds what the shapes found by the pass before made constant.
        for _ in 0..64 {
            let types = engine.types(&graph).map_err(|error| form(error.to_string()))?;
            if !self.fold(engine, &mut graph, &types, &protected)? {
                self.check_resolved(&graph, &types)?;
                self.check_old_softmax(&graph, &types)?;
                return Ok((graph, types));
            }
            graph.prune();
        }
        Err(form("its shape arithmetic does not come to an end"))
    }

    /// Replaces nodes whose value is known by constants; says whether there were any.
    fn fold(
        &self,
        engine: &dyn Engine,
        graph: &mut Graph,
        types: &HashMap<String, TensorType>,
        protected: &HashSet<String>,
    ) -> Result<bool, ImportError> {
        let inputs: HashMap<&str, &TensorType> =
            graph.inputs.iter().map(|(name, kind)| (name.as_str(), kind)).collect();
        let shape_of = |name: &str| {
            let kind = inputs.get(name).copied().or_else(|| types.get(name));
            kind.map(|kind| kind.shape.clone())
                .or_else(|| graph.constants.get(name).map(|t| t.shape.clone()))
        };
        let mut values: Vec<(String, Tensor)> = Vec::new();
        let mut known: BTreeSet<&str> = graph
            .constants
            .keys()
            .filter(|name| !self.candidates.contains(*name) && !protected.contains(*name))
            .map(String::as_str)
            .collect();
        let mut part = Graph {
            opset: graph.opset,
            ..Graph::default()
        };
        for node in &graph.nodes {
            let shape = node.input(0).and_then(shape_of);
            match (node.operator.as_str(), shape) {
                ("Shape", Some(shape)) => {
                    let rank = shape.len() as i64;
                    let at = |value: i64| (if value < 0 { value + rank } else { value }).clamp(0, rank) as usize;
                    let (start, end) = (at(node.int("start").unwrap_or(0)), at(node.int("end").unwrap_or(rank)));
                    let dims = shape
                        .get(start..end)
                        .unwrap_or(&[])
                        .iter()
                        .map(|dim| *dim as i64)
                        .collect();
                    values.push((node.outputs[0].clone(), Tensor::ints(dims)));
                }
                ("Size", Some(shape)) => {
                    let size = shape.iter().product::<usize>() as i64;
                    values.push((node.outputs[0].clone(), Tensor::new([], Elements::I64(vec![size]))));
                }
                (operator, _)
                    if !lowering::is_random(operator)
                        && node
                            .inputs
                            .iter()
                            .all(|name| name.is_empty() || known.contains(name.as_str())) =>
                {
                    known.extend(node.outputs.iter().map(String::as_str));
                    part.nodes.push(node.clone());
                }
                _ => {}
            }
        }
        if !part.nodes.is_empty() {
            part.outputs = part
                .nodes
                .iter()
                .flat_map(|node| node.outputs.iter().filter(|name| !name.is_empty()).cloned())
                .collect();
            part.constants = graph
                .constants
                .iter()
                .filter(|(name, _)| part.nodes.iter().any(|node| node.inputs.contains(name)))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let results = engine.run(&part, Vec::new()).map_err(|error| form(error.to_string()))?;
            values.extend(part.outputs.iter().cloned().zip(results));
        }
        let any = !values.is_empty();
        let folded: BTreeSet<&String> = values.iter().map(|(name, _)| name).collect();
        graph
            .nodes
            .retain(|node| !node.outputs.iter().any(|name| folded.contains(name)));
        graph.constants.extend(values);
        Ok(any)
    }

    /// Checks that the shape of the model's output is known, and names the node that hides it.
    fn check_resolved(&self, graph: &Graph, types: &HashMap<String, TensorType>) -> Result<(), ImportError> {
        let is_given = |name: &String| {
            name.is_empty() || graph.constants.contains_key(name) || graph.inputs.iter().any(|(input, _)| input == name)
        };
        let is_known = |name: &String| is_given(name) || types.contains_key(name);
        if !graph.outputs.contains(&self.output) || is_known(&self.output) {
            return Ok(());
        }
        let hides = |node: &&Node| node.inputs.iter().all(is_known) && !node.outputs.first().is_none_or(is_known);
        let Some(node) = graph.nodes.iter().find(hides) else {
            return Ok(());
        };
        let shapes: Vec<String> = node
            .inputs
            .iter()
            .filter_map(|name| Some(format!("`{name}` {:?}", types.get(name)?.shape)))
            .collect();
        let from = if shapes.is_empty() {
            String::new()
        } else {
            format!(" from {}", shapes.join(", "))
        };
        Err(form(format!(
            "node `{}`: how long the axes are of what `{}` makes{from} depends on the values of the input `{}`, not on its \
             shape alone, so training cannot be prepared; write it with operators of fixed size, such as `Where` with a \
             mask in the place of `NonZero`, and export the model anew",
            node.label(),
            node.operator,
            self.input
        )))
    }

    /// Before operator set 13 softmax worked on all axes from `axis` on at once.
    fn check_old_softmax(&self, graph: &Graph, types: &HashMap<String, TensorType>) -> Result<(), ImportError> {
        if self.opset >= 13 {
            return Ok(());
        }
        for node in graph
            .nodes
            .iter()
            .filter(|node| matches!(node.operator.as_str(), "Softmax" | "LogSoftmax"))
        {
            let rank = types.get(&node.outputs[0]).map_or(2, |kind| kind.shape.len()) as i64;
            let axis = node.int("axis").unwrap_or(1);
            if axis != -1 && axis != rank - 1 {
                return Err(form(format!(
                    "node `{}`: softmax over several axes at once; export the model with operator set 13 or newer",
                    node.label()
                )));
            }
        }
        Ok(())
    }
}
