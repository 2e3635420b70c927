//! Takes a forward model apart: one input, one output, trainable weights, and nodes in the meaning of one operator
//! set.

mod fixing;
mod nodes;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nodes::import_node;

use crate::graph::proto::{DimensionProto, ModelProto, TensorProto, TensorShapeProto, ValueInfoProto};
use crate::graph::{ElementType, Graph, GraphError, OPSET, Tensor};
use crate::model::Initialization;
use crate::training::lowering;
use crate::training::random::{Purpose, Stream};

/// Oldest operator set that is understood.
const OLDEST_OPSET: i64 = 9;

/// A forward model ready to be built on.
#[derive(Debug, Clone)]
pub(crate) struct Imported {
    /// The file, to be saved with trained weights; tensors of models that we built may be without their numbers.
    model: ModelProto,
    /// Its nodes and constants; the input has the shape that the file declares, with 0 for open dimensions.
    pub(crate) graph: Graph,
    /// Name of the input.
    pub(crate) input: String,
    /// Dimensions that the file declares, if any; none for open ones.
    pub(crate) declared: Option<Vec<Option<usize>>>,
    /// Name of the output.
    pub(crate) output: String,
    /// Constants that may be trained: floating-point tensors of the file with at least one axis.
    pub(crate) candidates: BTreeSet<String>,
    /// Operator set of the file.
    opset: i64,
}

/// Why a forward model cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is malformed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The model is not of the form that can be trained.
    #[error("model: {0}")]
    Form(String),
}

fn form(message: impl Into<String>) -> ImportError {
    ImportError::Form(message.into())
}

/// What any file is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Nodes and constants.
    pub(crate) graph: Graph,
    /// Names of the inputs that have no constant.
    pub(crate) inputs: Vec<String>,
    /// Names of the outputs.
    pub(crate) outputs: Vec<String>,
    /// Operator set of the file.
    opset: i64,
}

impl Parts {
    /// Takes a file apart.
    pub(crate) fn new(model: &ModelProto) -> Result<Self, ImportError> {
        Self::with(model, BTreeMap::new())
    }

    /// The same with some of its tensors, whose numbers need not stand in the file.
    fn with(model: &ModelProto, mut tensors: BTreeMap<String, Tensor>) -> Result<Self, ImportError> {
        let opset = model
            .opset_import
            .iter()
            .filter(|set| matches!(set.domain.as_deref(), None | Some("" | "ai.onnx")))
            .filter_map(|set| set.version)
            .max()
            .ok_or_else(|| form("it does not name its operator set"))?;
        if opset < OLDEST_OPSET {
            return Err(form(format!(
                "its operator set is {opset}, expected at least {OLDEST_OPSET}; export it anew with a newer one"
            )));
        }
        let file = model.graph.as_ref().ok_or_else(|| form("it holds no graph"))?;
        let mut graph = Graph {
            opset: opset.max(OPSET),
            ..Graph::default()
        };
        for tensor in &file.initializer {
            let name = tensor.name.clone().unwrap_or_default();
            let value = match tensors.remove(&name) {
                Some(value) => value,
                None => Tensor::from_proto(tensor)?,
            };
            graph.constants.insert(name, value);
        }
        if !file.sparse_initializer.is_empty() {
            return Err(form("it holds sparse tensors; make them dense"));
        }
        let inputs = file
            .input
            .iter()
            .filter_map(|info| info.name.clone())
            .filter(|name| !graph.constants.contains_key(name))
            .collect();
        for node in &file.node {
            import_node(node, opset, &mut graph)?;
        }
        Ok(Self {
            graph,
            inputs,
            outputs: file.output.iter().filter_map(|info| info.name.clone()).collect(),
            opset,
        })
    }
}

impl Imported {
    /// Takes a model apart; constants whose names begin with one of `frozen` are not trained.
    pub(crate) fn new(model: ModelProto, frozen: &[String]) -> Result<Self, ImportError> {
        let parts = Parts::new(&model)?;
        Self::of_parts(model, parts, frozen)
    }

    /// Takes a model apart that was just built, whose file has some tensors without their numbers.
    pub(crate) fn built(model: ModelProto, tensors: BTreeMap<String, Tensor>) -> Result<Self, ImportError> {
        let parts = Parts::with(&model, tensors)?;
        Self::of_parts(model, parts, &[])
    }

    fn of_parts(model: ModelProto, parts: Parts, frozen: &[String]) -> Result<Self, ImportError> {
        let Parts {
            graph,
            inputs,
            outputs,
            opset,
        } = parts;
        let file = model.graph.as_ref().ok_or_else(|| form("it holds no graph"))?;
        let mut candidates: BTreeSet<String> = file
            .initializer
            .iter()
            .filter_map(|tensor| tensor.name.clone())
            .filter(|name| !frozen.iter().any(|prefix| name.starts_with(prefix.as_str())))
            .filter(|name| {
                let value = &graph.constants[name];
                value.elements.element_type() == ElementType::F32 && !value.shape.is_empty()
            })
            .collect();
        let [input] = &inputs[..] else {
            return Err(form(format!(
                "it has {} inputs ({}), expected one; have the model take its inputs apart from one tensor",
                inputs.len(),
                inputs.join(", ")
            )));
        };
        let [output] = &outputs[..] else {
            return Err(form(format!(
                "it has {} outputs ({}), expected one; export it with the prediction alone",
                outputs.len(),
                outputs.join(", ")
            )));
        };
        let declared = file.input.iter().find(|info| info.name.as_ref() == Some(input));
        let declared = declared_shape(declared.expect("the names are those of the inputs"))?;
        for name in lowering::running_statistics(&graph) {
            candidates.remove(&name);
        }
        let (input, output) = (input.clone(), output.clone());
        Ok(Self {
            model,
            graph,
            input,
            declared,
            output,
            candidates,
            opset,
        })
    }

    /// Draws the matrices among the weights anew; vectors (biases, scales) stay as in the file.
    pub(crate) fn reinitialize(&mut self, initialization: Initialization, seed: u64) {
        let graph = self.model.graph.as_mut().expect("checked on import");
        for (index, tensor) in graph.initializer.iter_mut().enumerate() {
            let name = tensor.name.clone().unwrap_or_default();
            let Some(value) = self.graph.constants.get_mut(&name) else {
                continue;
            };
            if !self.candidates.contains(&name) || value.shape.len() < 2 {
                continue;
            }
            // Of a matrix on the right side of a product the rows are the inputs; else they are the outputs, as in
            // convolutions, whose further axes count as inputs.
            let is_right_side = self.graph.nodes.iter().any(|node| {
                node.input(1) == Some(&name)
                    && (node.operator == "MatMul" || (node.operator == "Gemm" && node.int("transB").unwrap_or(0) == 0))
            });
            let (first, rest) = (value.shape[0], value.shape[1..].iter().product());
            let (n, m) = if is_right_side { (first, rest) } else { (rest, first) };
            let mut stream = Stream::new(seed, Purpose::Weights, index as u64);
            *value = Tensor::f32(value.shape.clone(), initialization.weights(n, m, &mut stream));
            *tensor = value.to_proto(&name);
        }
    }

    /// The shape of one row that the model takes, for data with rows of shape `row`: the data's own, or the declared
    /// one when it has as many numbers.
    pub(crate) fn row_shape(&self, row: &[usize]) -> Result<Vec<usize>, ImportError> {
        let Some(declared) = &self.declared else {
            return Ok(row.to_vec());
        };
        let declared = declared.get(1..).unwrap_or(&[]);
        let fits = declared.len() == row.len()
            && declared
                .iter()
                .zip(row)
                .all(|(declared, dim)| declared.is_none_or(|declared| declared == *dim));
        if fits {
            return Ok(row.to_vec());
        }
        let fixed: Option<Vec<usize>> = declared.iter().copied().collect();
        if let Some(fixed) = fixed
            && !fixed.is_empty()
            && fixed.iter().product::<usize>() == row.iter().product::<usize>()
        {
            return Ok(fixed);
        }
        let shape: Vec<String> = declared
            .iter()
            .map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string()))
            .collect();
        let wrong = declared
            .iter()
            .zip(row)
            .position(|(declared, dim)| declared.is_some_and(|declared| declared != *dim));
        let place = match (wrong, declared.len() == row.len()) {
            (Some(at), true) => format!(
                ": axis {} must be {}, found {}; set `data.shape`, or export the model with this axis dynamic",
                at + 1,
                shape[at],
                row[at]
            ),
            _ => format!(
                ": {} axes after the batch are expected, found {}; set `data.shape` to a shape of as many numbers",
                declared.len(),
                row.len()
            ),
        };
        Err(form(format!(
            "its input `{}` takes rows of shape [{}], the data has rows of shape {row:?}{place}",
            self.input,
            shape.join(", ")
        )))
    }

    /// Cuts off a final `Softmax`, `LogSoftmax` or `Sigmoid`, which is part of the loss here; says whether there was
    /// one.
    pub(crate) fn strip_final(&mut self, operators: &[&str]) -> bool {
        let Some(node) = self.graph.nodes.iter().find(|node| node.outputs.contains(&self.output)) else {
            return false;
        };
        if !operators.contains(&node.operator.as_str()) {
            return false;
        }
        self.output = node.inputs[0].clone();
        true
    }

    /// The file, with all its numbers.
    pub(crate) fn file(&self) -> ModelProto {
        self.file_with(&HashMap::new())
    }

    fn file_with(&self, values: &HashMap<&str, &Tensor>) -> ModelProto {
        let mut model = self.model.clone();
        for tensor in &mut model.graph.as_mut().expect("checked on import").initializer {
            let name = tensor.name.clone().unwrap_or_default();
            let own = self.graph.constants.get(&name).filter(|own| is_hollow(tensor, own));
            if let Some(value) = values.get(&*name).copied().or(own) {
                *tensor = value.to_proto(&name);
            }
        }
        model
    }

    /// The file with new values for some of its constants, in the form for inference, and with metadata.
    pub(crate) fn with_values(&self, values: &[(String, Tensor)], metadata: &[(String, String)]) -> ModelProto {
        let mut model = self.file_with(&values.iter().map(|(name, value)| (&**name, value)).collect());
        let graph = model.graph.as_mut().expect("checked on import");
        for node in &mut graph.node {
            match node.op_type.as_deref() {
                Some("BatchNormalization") => {
                    node.output.truncate(1);
                    node.attribute
                        .retain(|attribute| attribute.name.as_deref() != Some("training_mode"));
                }
                Some("Dropout") => {
                    node.input.truncate(2);
                    node.output.truncate(1);
                }
                _ => {}
            }
        }
        // Types inside the graph may be of another form or batch size; engines infer them anew.
        graph.value_info.clear();
        for info in graph.input.iter_mut().chain(&mut graph.output) {
            let kind = info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut());
            if let Some(dim) = kind
                .and_then(|kind| kind.shape.as_mut())
                .and_then(|shape| shape.dim.first_mut())
                && dim.dim_param.is_none()
            {
                *dim = DimensionProto {
                    dim_param: Some("batch".into()),
                    ..DimensionProto::default()
                };
            }
        }
        for (key, value) in metadata {
            model.metadata_props.retain(|entry| entry.key.as_ref() != Some(key));
            model.metadata_props.push(crate::graph::proto::StringStringEntryProto {
                key: Some(key.clone()),
                value: Some(value.clone()),
            });
        }
        model
    }
}

/// Whether the file has a tensor without its numbers.
fn is_hollow(tensor: &TensorProto, value: &Tensor) -> bool {
    value.as_f32().is_some_and(|numbers| !numbers.is_empty())
        && tensor.raw_data.as_ref().is_none_or(Vec::is_empty)
        && tensor.float_data.is_empty()
}

fn declared_shape(info: &ValueInfoProto) -> Result<Option<Vec<Option<usize>>>, ImportError> {
    let name = info.name.as_deref().unwrap_or("");
    let kind = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let kind = kind.ok_or_else(|| form(format!("its input `{name}` is no tensor")))?;
    if kind.elem_type != Some(ElementType::F32.code()) {
        return Err(form(format!("its input `{name}` is not of type float32")));
    }
    let dims = |shape: &TensorShapeProto| {
        shape
            .dim
            .iter()
            .map(|dim| dim.dim_value.and_then(|value| usize::try_from(value).ok()))
            .collect()
    };
    Ok(kind.shape.as_ref().map(dims))
}
