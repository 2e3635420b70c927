//! Writes the forward model of a list of blocks.
//!
//! The writer keeps the name and the shape of the current tensor; each block appends nodes that read it and make the
//! next one. A first pass without weights counts them and finds what does not fit.

mod attention;
mod convolution;
mod embedding;
mod normalization;
mod recurrent;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::BTreeMap;

use super::{Activation, Block, Initialization, Join, Reduction};
use crate::graph::proto::{DimensionProto, ModelProto};
use crate::graph::{ElementType, Graph, OPSET, Tensor, TensorType, attribute, value_info};

/// An ONNX file holds at most 2 GiB, so half a billion weights.
const MOST_WEIGHTS: f64 = 5e8;

/// A model, and its larger tensors, which it has without their numbers.
pub(crate) type Built = (ModelProto, BTreeMap<String, Tensor>);

/// The forward model for rows of a shape, with initial weights; the batch dimension is symbolic. With a `head` the
/// prediction comes from a dense layer to `outputs` numbers, otherwise from the last block.
///
/// # Errors
/// When a block does not fit what the blocks before it make, or there are too many weights, in words.
pub(crate) fn build(
    blocks: &[Block],
    head: bool,
    initialization: Initialization,
    row_shape: &[usize],
    outputs: usize,
    seed: u64,
) -> Result<Built, String> {
    let mut draft = Writer::new(row_shape, initialization, None);
    draft.all(blocks, head, outputs)?;
    if draft.weights > MOST_WEIGHTS {
        return Err(format!(
            "it would have {:.1e} weights, more than {MOST_WEIGHTS:.0e}; make its layers smaller",
            draft.weights
        ));
    }
    let mut writer = Writer::new(row_shape, initialization, Some(seed));
    writer.all(blocks, head, outputs)?;
    Ok(writer.finish(row_shape))
}

/// What two axes of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Positions, features.
    Sequence,
    /// Channels, then space.
    Image,
}

/// How a weight begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// The same number everywhere.
    Filled(f32),
    /// Uniform in plus and minus this.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
}

struct Writer {
    graph: Graph,
    current: String,
    /// Shape of a row of the current tensor.
    shape: Vec<usize>,
    layout: Layout,
    initialization: Initialization,
    /// None while weights are only counted.
    seed: Option<u64>,
    drawn: u64,
    weights: f64,
}

type Written = Result<(), String>;

impl Writer {
    fn new(row_shape: &[usize], initialization: Initialization, seed: Option<u64>) -> Self {
        Self {
            graph: Graph {
                opset: OPSET,
                ..Graph::default()
            },
            current: "input".into(),
            shape: row_shape.to_vec(),
            layout: Layout::Sequence,
            initialization,
            seed,
            drawn: 0,
            weights: 0.0,
        }
    }

    fn all(&mut self, blocks: &[Block], head: bool, outputs: usize) -> Written {
        self.list(blocks, "")?;
        if head {
            self.dense("output", outputs, true, false);
        } else if self.shape.iter().product::<usize>() != outputs {
            return Err(format!(
                "the last block makes rows of shape {:?}, the data needs {outputs} numbers; add a block, or leave out \
                 `\"head\": false`",
                self.shape
            ));
        }
        Ok(())
    }

    fn finish(mut self, row_shape: &[usize]) -> Built {
        // The last node's output gets the name that users see; without any node the input passes through.
        if self.graph.nodes.is_empty() {
            self.node("output", "Identity", &[], Vec::new());
        }
        let current = self.current;
        for node in &mut self.graph.nodes {
            for name in node.inputs.iter_mut().chain(&mut node.outputs) {
                if *name == current {
                    "prediction".clone_into(name);
                }
            }
        }
        let with_batch = |row: &[usize]| [&[1], row].concat();
        let input = TensorType::new(ElementType::F32, with_batch(row_shape));
        let output = TensorType::new(ElementType::F32, with_batch(&self.shape));
        self.graph.inputs.push(("input".into(), input));
        self.graph.outputs.push("prediction".into());
        let is_large = |tensor: &Tensor| tensor.as_f32().is_some_and(|values| values.len() > 1024);
        let mut model = self.graph.to_model_with(|name, tensor| {
            if is_large(tensor) {
                tensor.to_hollow_proto(name)
            } else {
                tensor.to_proto(name)
            }
        });
        let graph = model.graph.as_mut().expect("`to_model` makes a graph");
        graph.name = Some("model".into());
        graph.output = vec![value_info("prediction", Some(&output))];
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
        let mut large = self.graph.constants;
        large.retain(|_, tensor| is_large(tensor));
        (model, large)
    }

    /// A list of blocks; names of nodes and weights begin with `prefix`.
    fn list(&mut self, blocks: &[Block], prefix: &str) -> Written {
        for (index, block) in blocks.iter().enumerate() {
            let name = format!("{prefix}{}_{index}", block.name());
            self.block(block, &name).map_err(|message| {
                // A message from inside a group has its place already.
                if message.starts_with("block ") {
                    message
                } else {
                    format!("block `{name}`: {message}")
                }
            })?;
            if self.shape.contains(&0) {
                return Err(format!(
                    "block `{name}`: makes rows of shape {:?}, which are empty; use smaller windows or fewer strides",
                    self.shape
                ));
            }
        }
        Ok(())
    }

    fn block(&mut self, block: &Block, name: &str) -> Written {
        match block {
            Block::Dense {
                units,
                bias,
                activation,
                per_position,
            } => {
                self.dense(name, *units, *bias, *per_position);
                self.activation(name, *activation);
            }
            Block::Conv(conv) => return self.convolution(name, conv),
            Block::Pool {
                kind,
                size,
                stride,
                padding,
            } => return self.pool(name, *kind, size, stride, padding),
            Block::Dropout { rate } => self.dropout(name, *rate),
            Block::BatchNorm { momentum, epsilon } => return self.batch_norm(name, *momentum, *epsilon),
            Block::LayerNorm { epsilon } => self.layer_norm(name, *epsilon),
            Block::GroupNorm { groups, epsilon } => return self.group_norm(name, *groups, *epsilon),
            Block::GlobalPool { kind } => return self.global_pool(name, *kind),
            Block::Position { at } => return self.position(name, *at),
            Block::Residual { blocks, activation } => {
                self.residual(name, blocks)?;
                self.activation(name, *activation);
            }
            Block::Parallel { branches, join } => return self.parallel(name, branches, *join),
            Block::Recurrent {
                cell,
                units,
                bidirectional,
                sequence,
            } => return self.recurrent(name, *cell, *units, *bidirectional, *sequence),
            Block::Attention { heads, dropout, causal } => return self.attention(name, *heads, *dropout, *causal),
            Block::Transformer { .. } => return self.transformer(name, block),
            Block::Embedding { vocabulary, width } => return self.embedding(name, *vocabulary, *width),
            Block::FeatureTokens {
                width,
                categorical,
                class_token,
            } => return self.feature_tokens(name, *width, categorical, *class_token),
            Block::Positions { learned } => return self.positions(name, *learned),
            Block::Activation(activation) => self.activation(name, *activation),
            Block::Flatten => self.flatten(name),
            Block::Reshape { shape } => return self.reshape(name, shape),
            Block::Permute { order } => return self.permute(name, order),
        }
        Ok(())
    }

    fn dense(&mut self, name: &str, units: usize, bias: bool, per_position: bool) {
        if !per_position {
            self.flatten(name);
        }
        let (rank, n) = (self.shape.len(), self.features());
        if rank == 1 {
            let further = self.matrix(name, &[units, n], (n, units), bias);
            let further: Vec<&str> = further.iter().map(String::as_str).collect();
            self.node(name, "Gemm", &further, vec![attribute::int("transB", 1)]);
        } else {
            self.project(name, units, bias);
        }
        self.shape[rank - 1] = units;
    }

    /// A product with a matrix on the last axis.
    fn project(&mut self, name: &str, units: usize, bias: bool) {
        let n = self.features();
        let further = self.matrix(name, &[n, units], (n, units), bias);
        self.node(name, "MatMul", &[&further[0]], Vec::new());
        if let Some(bias) = further.get(1) {
            self.node(&format!("{name}.add"), "Add", &[bias], Vec::new());
        }
    }

    fn dropout(&mut self, name: &str, rate: f64) {
        if rate > 0.0 {
            let ratio = self.constant(format!("{name}.ratio"), Tensor::f32([], vec![rate as f32]));
            self.node(name, "Dropout", &[&ratio], Vec::new());
        }
    }

    fn flatten(&mut self, name: &str) {
        if self.shape.len() != 1 {
            self.node(
                &format!("{name}.flatten"),
                "Flatten",
                &[],
                vec![attribute::int("axis", 1)],
            );
            self.shape = vec![self.shape.iter().product()];
        }
    }

    fn reshape(&mut self, name: &str, shape: &[usize]) -> Written {
        if shape.iter().product::<usize>() != self.shape.iter().product::<usize>() {
            return Err(format!("rows of shape {:?} cannot get the shape {shape:?}", self.shape));
        }
        self.reshaped(name, shape);
        Ok(())
    }

    fn reshaped(&mut self, name: &str, shape: &[usize]) {
        // A zero keeps the size of the batch.
        let sizes: Vec<i64> = std::iter::once(0)
            .chain(shape.iter().map(|size| *size as i64))
            .collect();
        let sizes = self.constant(format!("{name}.shape"), Tensor::ints(sizes));
        self.node(name, "Reshape", &[&sizes], Vec::new());
        self.shape = shape.to_vec();
    }

    fn permute(&mut self, name: &str, order: &[usize]) -> Written {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.shape.len()) {
            return Err(format!(
                "`order` must name each axis of rows of shape {:?} once, from 0, found {order:?}",
                self.shape
            ));
        }
        let permutation: Vec<i64> = std::iter::once(0)
            .chain(order.iter().map(|axis| *axis as i64 + 1))
            .collect();
        self.node(name, "Transpose", &[], vec![attribute::ints("perm", &permutation)]);
        self.shape = order.iter().map(|axis| self.shape[*axis]).collect();
        Ok(())
    }

    fn global_pool(&mut self, name: &str, kind: Reduction) -> Written {
        let rank = self.shape.len();
        let (axes, kept) = match (rank, self.layout) {
            (0 | 1, _) => {
                return Err(format!(
                    "needs an image or a sequence, found rows of shape {:?}",
                    self.shape
                ));
            }
            (2, Layout::Sequence) => (vec![1], self.shape[1]),
            _ => ((2..=rank as i64).collect(), self.shape[0]),
        };
        let operator = match kind {
            Reduction::Max => "ReduceMax",
            Reduction::Mean => "ReduceMean",
        };
        let axes = self.constant(format!("{name}.axes"), Tensor::ints(axes));
        self.node(name, operator, &[&axes], vec![attribute::int("keepdims", 0)]);
        self.shape = vec![kept];
        Ok(())
    }

    fn position(&mut self, name: &str, at: i64) -> Written {
        let [length, features] = self.sequence()?;
        let index = if at < 0 { at + length as i64 } else { at };
        if index < 0 || index >= length as i64 {
            return Err(format!("position {at} is outside of a sequence of {length}"));
        }
        let index = self.constant(
            format!("{name}.index"),
            Tensor::new([], crate::graph::Elements::I64(vec![index])),
        );
        self.node(name, "Gather", &[&index], vec![attribute::int("axis", 1)]);
        self.shape = vec![features];
        Ok(())
    }

    fn residual(&mut self, name: &str, blocks: &[Block]) -> Written {
        let before = self.state();
        self.list(blocks, &format!("{name}."))?;
        let result = self.state();
        self.set(before);
        if self.shape != result.1 {
            self.shortcut(&format!("{name}.shortcut"), &result.1)?;
        }
        let shortcut = self.current.clone();
        self.set(result);
        self.node(&format!("{name}.sum"), "Add", &[&shortcut], Vec::new());
        Ok(())
    }

    /// Brings the current tensor to another shape: images by a convolution of size 1 with strides, else by a matrix.
    fn shortcut(&mut self, name: &str, wanted: &[usize]) -> Written {
        let found = self.shape.clone();
        let wrong = || {
            format!(
                "its blocks turn rows of shape {found:?} into {wanted:?}, which no shortcut can follow; keep the axes"
            )
        };
        if found.len() != wanted.len() {
            return Err(wrong());
        }
        let is_image = found.len() > 2 || (found.len() == 2 && self.layout == Layout::Image);
        if !is_image {
            if found[..found.len() - 1] != wanted[..wanted.len() - 1] {
                return Err(wrong());
            }
            self.project(name, wanted[wanted.len() - 1], false);
            self.shape = wanted.to_vec();
            return Ok(());
        }
        let strides: Vec<usize> = found[1..]
            .iter()
            .zip(&wanted[1..])
            .map(|(found, wanted)| found.div_ceil(*wanted))
            .collect();
        self.pointwise(name, wanted[0], &strides);
        if self.shape == wanted { Ok(()) } else { Err(wrong()) }
    }

    fn parallel(&mut self, name: &str, branches: &[Vec<Block>], join: Join) -> Written {
        let before = self.state();
        let mut results = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            self.set(before.clone());
            self.list(branch, &format!("{name}.{index}."))?;
            results.push(self.state());
        }
        let (first, rest) = results.split_first().ok_or("needs at least one branch")?;
        let (rank, layout) = (first.1.len(), first.2);
        let axis = if rank > 2 || (rank == 2 && layout == Layout::Image) {
            0
        } else {
            rank - 1
        };
        let fits = |shape: &[usize]| {
            shape.len() == rank && (0..rank).all(|at| shape[at] == first.1[at] || (join == Join::Concat && at == axis))
        };
        if let Some(other) = rest.iter().find(|other| !fits(&other.1)) {
            return Err(format!(
                "its branches make rows of shapes {:?} and {:?}",
                first.1, other.1
            ));
        }
        let mut shape = first.1.clone();
        let names: Vec<&str> = rest.iter().map(|(name, ..)| name.as_str()).collect();
        self.set(first.clone());
        match join {
            _ if rest.is_empty() => {}
            Join::Add => self.node(&format!("{name}.sum"), "Sum", &names, Vec::new()),
            Join::Concat => {
                shape[axis] = results.iter().map(|(_, shape, _)| shape[axis]).sum();
                let attributes = vec![attribute::int("axis", axis as i64 + 1)];
                self.node(&format!("{name}.concat"), "Concat", &names, attributes);
            }
        }
        self.shape = shape;
        Ok(())
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
}
