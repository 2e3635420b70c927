//! ONNX files and the graph they hold.
//!
//! [`proto`] has the messages of the file format; [`Graph`] is the form that the program works on: nodes in
//! topological order, constants by name, every shape a number.

mod builder;
mod file;
mod inference;
mod interpolation;
pub mod proto;
mod tensor;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use builder::Builder;
pub use file::{encode_model, read_model};
pub(crate) use interpolation::Interpolation;
use proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
};
pub use tensor::{ElementType, Elements, Tensor};
pub(crate) use window::Window;

/// Oldest operator set whose meaning our graphs have; newer ones are kept.
pub const OPSET: i64 = 20;

/// Element type and shape of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub element: ElementType,
    /// Shape.
    pub shape: Vec<usize>,
}

impl TensorType {
    /// A type.
    #[must_use]
    pub fn new(element: ElementType, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            element,
            shape: shape.into(),
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One operation of the standard operator set.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name; may be empty.
    pub name: String,
    /// Operator.
    pub operator: String,
    /// Names of inputs; an empty one is absent.
    pub inputs: Vec<String>,
    /// Names of outputs; an empty one is not wanted.
    pub outputs: Vec<String>,
    /// Attributes.
    pub attributes: Vec<AttributeProto>,
}

impl Node {
    /// An input's name, unless it is absent.
    #[must_use]
    pub fn input(&self, index: usize) -> Option<&str> {
        self.inputs
            .get(index)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// An output's name, unless it is not wanted.
    #[must_use]
    pub fn output(&self, index: usize) -> Option<&str> {
        self.outputs
            .get(index)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// An attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// An integer attribute.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).and_then(|attribute| attribute.i)
    }

    /// A real attribute.
    #[must_use]
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).and_then(|attribute| attribute.f)
    }

    /// A list of integers.
    #[must_use]
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    /// A text attribute.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<&str> {
        self.attribute(name)
            .and_then(|attribute| attribute.s.as_deref())
            .and_then(|text| std::str::from_utf8(text).ok())
    }

    /// How messages call the node.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.name.is_empty() {
            self.output(0).unwrap_or("")
        } else {
            &self.name
        }
    }
}

/// Nodes in topological order and what flows in and out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Inputs with their types.
    pub inputs: Vec<(String, TensorType)>,
    /// Outputs.
    pub outputs: Vec<String>,
    /// Constants.
    pub constants: BTreeMap<String, Tensor>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Operators of our own that make tensors which nodes make too. An engine that has the operator may put it in the
    /// place of those nodes; the others leave it.
    pub shortcuts: Vec<Node>,
    /// Version of the standard operator set.
    pub opset: i64,
}

impl Graph {
    /// The file form. Outputs are declared without types; every engine infers them.
    #[must_use]
    pub fn to_model(&self) -> ModelProto {
        self.to_model_with(|name, tensor| tensor.to_proto(name))
    }

    /// The same with constants in the form that `constant` gives them.
    pub(crate) fn to_model_with(&self, constant: impl Fn(&str, &Tensor) -> TensorProto) -> ModelProto {
        let used =
            |name: &String| self.nodes.iter().any(|node| node.inputs.contains(name)) || self.outputs.contains(name);
        let graph = GraphProto {
            name: Some("graph".into()),
            node: self.nodes.iter().map(node_to_proto).collect(),
            initializer: self
                .constants
                .iter()
                .filter(|(name, _)| used(name))
                .map(|(name, tensor)| constant(name, tensor))
                .collect(),
            input: self
                .inputs
                .iter()
                .map(|(name, kind)| value_info(name, Some(kind)))
                .collect(),
            output: self.outputs.iter().map(|name| value_info(name, None)).collect(),
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: Some(9),
            producer_name: Some("hpo evaluation".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            opset_import: vec![OperatorSetIdProto {
                domain: None,
                version: Some(self.opset.max(OPSET)),
            }],
            graph: Some(graph),
            ..ModelProto::default()
        }
    }

    /// Gives a constant another name.
    pub fn rename(&mut self, old: &str, new: &str) {
        if let Some(tensor) = self.constants.remove(old) {
            self.constants.insert(new.to_owned(), tensor);
        }
        for name in self
            .nodes
            .iter_mut()
            .chain(&mut self.shortcuts)
            .flat_map(|node| &mut node.inputs)
        {
            if name == old {
                new.clone_into(name);
            }
        }
    }

    /// Removes nodes that no output needs.
    pub fn prune(&mut self) {
        let mut needed: std::collections::HashSet<String> = self.outputs.iter().cloned().collect();
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.outputs.iter().any(|output| needed.contains(output)) {
                needed.extend(node.inputs.iter().filter(|name| !name.is_empty()).cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.constants.retain(|name, _| needed.contains(name));
    }
}

/// The file form of a name and a type.
#[must_use]
pub fn value_info(name: &str, kind: Option<&TensorType>) -> ValueInfoProto {
    let tensor_type = kind.map(|kind| TensorTypeProto {
        elem_type: Some(kind.element.code()),
        shape: Some(TensorShapeProto {
            dim: kind
                .shape
                .iter()
                .map(|dim| DimensionProto {
                    dim_value: Some(*dim as i64),
                    ..DimensionProto::default()
                })
                .collect(),
        }),
    });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: tensor_type.map(|tensor_type| TypeProto {
            tensor_type: Some(tensor_type),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// The file form of a node.
#[must_use]
pub fn node_to_proto(node: &Node) -> NodeProto {
    NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: (!node.name.is_empty()).then(|| node.name.clone()),
        op_type: Some(node.operator.clone()),
        attribute: node.attributes.clone(),
        ..NodeProto::default()
    }
}

/// Attributes by kind of value.
pub mod attribute {
    use super::{AttributeProto, Tensor, attribute_type};

    /// An integer.
    #[must_use]
    pub fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto {
            i: Some(value),
            ..of(name, attribute_type::INT)
        }
    }

    /// A real number.
    #[must_use]
    pub fn float(name: &str, value: f32) -> AttributeProto {
        AttributeProto {
            f: Some(value),
            ..of(name, attribute_type::FLOAT)
        }
    }

    /// A text.
    #[must_use]
    pub fn string(name: &str, value: &str) -> AttributeProto {
        AttributeProto {
            s: Some(value.as_bytes().to_vec()),
            ..of(name, attribute_type::STRING)
        }
    }

    /// Integers.
    #[must_use]
    pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
        AttributeProto {
            ints: values.to_vec(),
            ..of(name, attribute_type::INTS)
        }
    }

    /// Texts.
    #[must_use]
    pub fn strings(name: &str, values: &[&str]) -> AttributeProto {
        AttributeProto {
            strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
            ..of(name, attribute_type::STRINGS)
        }
    }

    /// A tensor.
    #[must_use]
    pub fn tensor(name: &str, value: &Tensor) -> AttributeProto {
        AttributeProto {
            t: Some(value.to_proto("")),
            ..of(name, attribute_type::TENSOR)
        }
    }

    fn of(name: &str, kind: i32) -> AttributeProto {
        AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(kind),
            ..AttributeProto::default()
        }
    }
}

/// Why an ONNX file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not an ONNX file.
    #[error("`{}` is no ONNX model: {message}", path.display())]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A tensor is malformed.
    #[error("tensor `{name}`: {message}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
}
