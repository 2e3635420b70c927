//! Losses given as ONNX graphs of their own.

use std::path::{Path, PathBuf};

use super::TrainingError;
use crate::graph::{Builder, ElementType, Graph, Node, Tensor, TensorType, read_model};
use crate::model::import;

/// A loss as nodes that are put behind the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LossGraph {
    path: PathBuf,
    nodes: Vec<Node>,
    constants: Vec<(String, Tensor)>,
    value: String,
}

/// Prefix of all names of a loss graph.
const PREFIX: &str = "loss/";

/// What the file calls its inputs.
const INPUTS: [&str; 2] = ["prediction", "target"];

impl LossGraph {
    /// Name of the tensor that the targets of a batch must have.
    pub(crate) const TARGET: &str = "loss/target";

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, TrainingError> {
        let model = read_model(path).map_err(import::ImportError::from)?;
        let parts = import::Parts::new(&model)?;
        let wrong = |message: String| TrainingError::Mismatch(format!("loss graph `{}`: {message}", path.display()));
        if let Some(name) = parts.inputs.iter().find(|name| !INPUTS.contains(&name.as_str())) {
            return Err(wrong(format!(
                "it has an input `{name}`; its inputs must be `prediction` and `target`"
            )));
        }
        let [value] = &parts.outputs[..] else {
            return Err(wrong(format!(
                "it has {} outputs, expected one: a number, or one number a row",
                parts.outputs.len()
            )));
        };
        let rename = |name: &String| {
            if name.is_empty() {
                String::new()
            } else {
                format!("{PREFIX}{name}")
            }
        };
        let mut graph = parts.graph;
        for node in &mut graph.nodes {
            for name in node.inputs.iter_mut().chain(&mut node.outputs) {
                *name = rename(name);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            value: rename(value),
            nodes: graph.nodes,
            constants: graph
                .constants
                .into_iter()
                .map(|(name, tensor)| (rename(&name), tensor))
                .collect(),
        })
    }

    /// Name of the loss.
    pub(crate) fn value(&self) -> &str {
        &self.value
    }

    /// Puts the loss behind a graph whose targets are named already.
    pub(crate) fn add_to(&self, graph: &mut Graph, prediction: &str) {
        let renamed = format!("{PREFIX}{}", INPUTS[0]);
        for node in &self.nodes {
            let mut node = node.clone();
            for name in &mut node.inputs {
                if *name == renamed {
                    prediction.clone_into(name);
                }
            }
            graph.nodes.push(node);
        }
        graph.constants.extend(self.constants.iter().cloned());
        graph.outputs.push(self.value.clone());
    }

    /// Type of the loss.
    ///
    /// # Errors
    /// When it is neither one number nor one a row.
    pub(crate) fn value_type(&self, builder: &Builder, batch: usize) -> Result<TensorType, TrainingError> {
        let kind = builder.type_of(&self.value).cloned();
        let found = match kind {
            Some(kind) if kind.element == ElementType::F32 && (kind.len() == 1 || kind.len() == batch) => {
                return Ok(kind);
            }
            Some(kind) => format!("{:?} of shape {:?}", kind.element, kind.shape),
            None => "a shape that is not known before running".to_owned(),
        };
        Err(TrainingError::Mismatch(format!(
            "loss graph `{}`: its output must be one number of type float32, or one a row ({batch}), found {found}",
            self.path.display()
        )))
    }
}
