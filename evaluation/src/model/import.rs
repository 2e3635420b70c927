//! Takes a forward model apart: one input, one output, trainable weights, and nodes in the meaning of one operator
//! set.

use std::collections::{BTreeSet, HashMap};

use crate::engine::Engine;
use crate::graph::proto::{DimensionProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto};
use crate::graph::{ElementType, Elements, Graph, GraphError, Node, OPSET, Tensor, TensorType, attribute};
use crate::model::Initialization;
use crate::training::lowering;
use crate::training::random::{Purpose, Stream};

/// Oldest operator set that is understood.
const OLDEST_OPSET: i64 = 9;

/// A forward model ready to be built on.
#[derive(Debug, Clone)]
pub(crate) struct Imported {
    /// The file, to be saved with trained weights.
    pub(crate) model: ModelProto,
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
            graph.constants.insert(name, Tensor::from_proto(tensor)?);
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
        let Parts {
            graph,
            inputs,
            outputs,
            opset,
        } = Parts::new(&model)?;
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
                "it has {} inputs ({}), expected one",
                inputs.len(),
                inputs.join(", ")
            )));
        };
        let [output] = &outputs[..] else {
            return Err(form(format!(
                "it has {} outputs ({}), expected one",
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
        protected: &std::collections::HashSet<String>,
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

    /// The file with new values for some of its constants, in the form for inference, and with metadata.
    pub(crate) fn with_values(&self, values: &[(String, Tensor)], metadata: &[(String, String)]) -> ModelProto {
        let mut model = self.model.clone();
        let graph = model.graph.as_mut().expect("checked on import");
        for (name, value) in values {
            if let Some(tensor) = graph
                .initializer
                .iter_mut()
                .find(|tensor| tensor.name.as_ref() == Some(name))
            {
                *tensor = value.to_proto(name);
            }
        }
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

/// Turns a node into the meaning of [`OPSET`] and constants into constants.
fn import_node(file: &NodeProto, opset: i64, graph: &mut Graph) -> Result<(), ImportError> {
    let mut node = Node {
        name: file.name.clone().unwrap_or_default(),
        operator: file.op_type.clone().unwrap_or_default(),
        inputs: file.input.clone(),
        outputs: file.output.clone(),
        attributes: file.attribute.clone(),
    };
    if !matches!(file.domain.as_deref(), None | Some("" | "ai.onnx")) {
        return Err(form(format!(
            "node `{}`: operator `{}::{}` is not of the standard set; export the model without custom operators",
            node.label(),
            file.domain.as_deref().unwrap_or(""),
            node.operator
        )));
    }
    if node
        .attributes
        .iter()
        .any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
    {
        return Err(form(format!(
            "node `{}`: operator `{}` holds a graph of its own (a loop or a branch), which cannot be trained",
            node.label(),
            node.operator
        )));
    }
    if node.operator == "Constant" {
        graph.constants.insert(node.outputs[0].clone(), constant_value(&node)?);
        return Ok(());
    }
    if node.operator == "BatchNormalization" && node.inputs.len() != 5 {
        return Err(form(format!(
            "node `{}`: batch normalisation needs five inputs",
            node.label()
        )));
    }
    upgrade(&mut node, opset, graph);
    graph.nodes.push(node);
    Ok(())
}

fn constant_value(node: &Node) -> Result<Tensor, ImportError> {
    for attribute in &node.attributes {
        return Ok(match attribute.name.as_deref() {
            Some("value") => Tensor::from_proto(attribute.t.as_ref().ok_or_else(|| form("a constant has no value"))?)?,
            Some("value_float") => Tensor::f32([], vec![attribute.f.unwrap_or(0.0)]),
            Some("value_floats") => Tensor::f32([attribute.floats.len()], attribute.floats.clone()),
            Some("value_int") => Tensor::new([], Elements::I64(vec![attribute.i.unwrap_or(0)])),
            Some("value_ints") => Tensor::ints(attribute.ints.clone()),
            _ => continue,
        });
    }
    Err(form(format!(
        "node `{}`: a constant of a kind that is not supported",
        node.label()
    )))
}

/// Moves what older operator sets kept in attributes to where newer ones expect it.
fn upgrade(node: &mut Node, opset: i64, graph: &mut Graph) {
    // Attribute, position of the input that replaced it, and whether it holds integers.
    let moves: &[(&str, usize, bool)] = match node.operator.as_str() {
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
        | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" | "Squeeze" | "Unsqueeze" => &[("axes", 1, true)],
        "Pad" => &[("pads", 1, true), ("value", 2, false)],
        "Split" => &[("split", 1, true)],
        "Slice" => &[("starts", 1, true), ("ends", 2, true), ("axes", 3, true)],
        "Clip" => &[("min", 1, false), ("max", 2, false)],
        "Dropout" => &[("ratio", 1, false)],
        _ => &[],
    };
    for (name, position, integers) in moves {
        let Some(old) = node.attribute(name).cloned() else {
            continue;
        };
        let tensor = if *integers {
            Tensor::ints(old.ints)
        } else {
            Tensor::f32([], vec![old.f.unwrap_or(0.0)])
        };
        let constant = format!("{}/{name}", node.outputs[0]);
        graph.constants.insert(constant.clone(), tensor);
        node.attributes
            .retain(|attribute| attribute.name.as_deref() != Some(*name));
        if node.inputs.len() <= *position {
            node.inputs.resize(position + 1, String::new());
        }
        node.inputs[*position] = constant;
    }
    match node.operator.as_str() {
        "Split" if opset < 18 && node.inputs.len() < 2 && node.attribute("num_outputs").is_none() => {
            node.attributes
                .push(attribute::int("num_outputs", node.outputs.len() as i64));
        }
        "Softmax" | "LogSoftmax" if opset < 13 && node.attribute("axis").is_none() => {
            node.attributes.push(attribute::int("axis", 1));
        }
        _ => {}
    }
}
