//! Writes the forward model of a list of blocks.

use super::{Activation, Block, Initialization};
use crate::graph::proto::{AttributeProto, DimensionProto, ModelProto};
use crate::graph::{ElementType, Graph, Node, OPSET, Tensor, TensorType, attribute, value_info};
use crate::training::random::{Purpose, Stream};

/// The forward model for rows of a shape, with initial weights; the batch dimension is symbolic.
pub(crate) fn build(
    blocks: &[Block],
    initialization: Initialization,
    row_shape: &[usize],
    outputs: usize,
    seed: u64,
) -> ModelProto {
    let mut writer = Writer {
        graph: Graph {
            opset: OPSET,
            ..Graph::default()
        },
        current: "input".into(),
        width: row_shape.iter().product(),
        initialization,
        seed,
        drawn: 0,
    };
    if row_shape.len() != 1 {
        writer.node("flatten", "Flatten", &[], vec![attribute::int("axis", 1)]);
    }
    for (index, block) in blocks.iter().enumerate() {
        writer.block(block, index);
    }
    writer.dense("output", outputs, true);
    let last = writer
        .graph
        .nodes
        .last_mut()
        .expect("the output layer was just written");
    last.outputs = vec!["prediction".into()];

    let mut shape = vec![1];
    shape.extend_from_slice(row_shape);
    writer
        .graph
        .inputs
        .push(("input".into(), TensorType::new(ElementType::F32, shape)));
    writer.graph.outputs.push("prediction".into());
    let mut model = writer.graph.to_model();
    let graph = model.graph.as_mut().expect("`to_model` makes a graph");
    graph.name = Some("model".into());
    graph.output = vec![value_info(
        "prediction",
        Some(&TensorType::new(ElementType::F32, [1, outputs])),
    )];
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        let shape = info
            .r#type
            .as_mut()
            .and_then(|kind| kind.tensor_type.as_mut())
            .and_then(|t| t.shape.as_mut());
        shape.expect("`value_info` wrote a shape").dim[0] = DimensionProto {
            dim_param: Some("batch".into()),
            ..DimensionProto::default()
        };
    }
    model
}

/// Trainable numbers and running statistics of such a model, without building it.
pub(crate) fn count(blocks: &[Block], row_shape: &[usize], outputs: usize) -> f64 {
    let mut width = row_shape.iter().product::<usize>() as f64;
    let mut total = 0.0;
    for block in blocks {
        match block {
            Block::Dense { units, .. } => {
                total += (width + 1.0) * *units as f64;
                width = *units as f64;
            }
            Block::BatchNorm { .. } => total += 4.0 * width,
            Block::LayerNorm { .. } => total += 2.0 * width,
            Block::Dropout { .. } | Block::Activation(_) | Block::Flatten => {}
        }
    }
    total + (width + 1.0) * outputs as f64
}

struct Writer {
    graph: Graph,
    current: String,
    width: usize,
    initialization: Initialization,
    seed: u64,
    drawn: u64,
}

impl Writer {
    fn block(&mut self, block: &Block, index: usize) {
        match block {
            Block::Dense {
                units,
                bias,
                activation,
            } => {
                self.dense(&format!("dense_{index}"), *units, *bias);
                self.activation(&format!("dense_{index}"), *activation);
            }
            Block::Dropout { rate } => {
                let ratio = self.constant(format!("dropout_{index}.ratio"), Tensor::f32([], vec![*rate as f32]));
                self.node(&format!("dropout_{index}"), "Dropout", &[&ratio], Vec::new());
            }
            Block::BatchNorm { momentum, epsilon } => {
                let name = format!("batch_norm_{index}");
                let inputs: Vec<String> = [("scale", 1.0), ("bias", 0.0), ("mean", 0.0), ("variance", 1.0)]
                    .into_iter()
                    .map(|(part, value)| {
                        self.constant(
                            format!("{name}.{part}"),
                            Tensor::f32([self.width], vec![value; self.width]),
                        )
                    })
                    .collect();
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                // The file format's momentum is the share of the old value.
                let attributes = vec![
                    attribute::float("momentum", (1.0 - momentum) as f32),
                    attribute::float("epsilon", *epsilon as f32),
                ];
                self.node(&name, "BatchNormalization", &inputs, attributes);
            }
            Block::LayerNorm { epsilon } => {
                let name = format!("layer_norm_{index}");
                let scale = self.constant(
                    format!("{name}.scale"),
                    Tensor::f32([self.width], vec![1.0; self.width]),
                );
                let bias = self.constant(format!("{name}.bias"), Tensor::f32([self.width], vec![0.0; self.width]));
                let attributes = vec![attribute::float("epsilon", *epsilon as f32)];
                self.node(&name, "LayerNormalization", &[&scale, &bias], attributes);
            }
            Block::Activation(activation) => self.activation(&format!("activation_{index}"), *activation),
            Block::Flatten => {}
        }
    }

    fn dense(&mut self, name: &str, units: usize, bias: bool) {
        let mut stream = Stream::new(self.seed, Purpose::Weights, self.drawn);
        self.drawn += 1;
        let values = self.initialization.weights(self.width, units, &mut stream);
        let weight = self.constant(format!("{name}.weight"), Tensor::f32([units, self.width], values));
        let transposed = vec![attribute::int("transB", 1)];
        if bias {
            let values = self.initialization.bias(self.width, units, &mut stream);
            let bias = self.constant(format!("{name}.bias"), Tensor::f32([units], values));
            self.node(name, "Gemm", &[&weight, &bias], transposed);
        } else {
            self.node(name, "Gemm", &[&weight], transposed);
        }
        self.width = units;
    }

    fn activation(&mut self, name: &str, activation: Activation) {
        let operator = match activation {
            Activation::Linear => return,
            Activation::Relu => "Relu",
            Activation::LeakyRelu => "LeakyRelu",
            Activation::Elu => "Elu",
            Activation::Selu => "Selu",
            Activation::Gelu | Activation::GeluTanh => "Gelu",
            Activation::Silu | Activation::Sigmoid => "Sigmoid",
            Activation::Tanh => "Tanh",
            Activation::Softplus => "Softplus",
            Activation::HardSigmoid => "HardSigmoid",
            Activation::HardSwish => "HardSwish",
        };
        let attributes = match activation {
            Activation::GeluTanh => vec![attribute::string("approximate", "tanh")],
            // PyTorch's hard sigmoid has the slope 1/6, the file format's default is 1/5.
            Activation::HardSigmoid => vec![attribute::float("alpha", 1.0 / 6.0)],
            _ => Vec::new(),
        };
        let before = self.current.clone();
        self.node(&format!("{name}.activation"), operator, &[], attributes);
        if activation == Activation::Silu {
            self.node(&format!("{name}.product"), "Mul", &[&before], Vec::new());
        }
    }

    fn constant(&mut self, name: String, tensor: Tensor) -> String {
        self.graph.constants.insert(name.clone(), tensor);
        name
    }

    /// A node on the current tensor and further inputs, whose output becomes the current tensor.
    fn node(&mut self, name: &str, operator: &str, further: &[&str], attributes: Vec<AttributeProto>) {
        let mut inputs = vec![std::mem::replace(&mut self.current, format!("{name}.output"))];
        inputs.extend(further.iter().map(|name| (*name).to_owned()));
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            operator: operator.to_owned(),
            inputs,
            outputs: vec![self.current.clone()],
            attributes,
        });
    }
}
