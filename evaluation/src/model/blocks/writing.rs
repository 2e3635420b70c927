//! What blocks are written with: the current tensor, weights and nodes.

use super::{Layout, Start, Writer};
use crate::graph::proto::AttributeProto;
use crate::graph::{Node, Tensor};
use crate::training::random::{Purpose, Stream};

impl Writer {
    /// The size of the last axis.
    pub(super) fn features(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Length and features of the current sequence.
    pub(super) fn sequence(&mut self) -> Result<[usize; 2], String> {
        let [length, features] = self.shape[..] else {
            return Err(format!(
                "needs sequences, rows of shape [length, features], found {:?}; use `reshape` or `permute` before it",
                self.shape
            ));
        };
        if self.layout == Layout::Image {
            return Err("needs sequences, found channels of a convolution; use `permute` with [1, 0] before it".into());
        }
        Ok([length, features])
    }

    pub(super) fn state(&self) -> (String, Vec<usize>, Layout) {
        (self.current.clone(), self.shape.clone(), self.layout)
    }

    pub(super) fn set(&mut self, state: (String, Vec<usize>, Layout)) {
        (self.current, self.shape, self.layout) = state;
    }

    /// The weights of a layer from `n` inputs to `m` outputs by the model's initialisation, and its bias, drawn from one
    /// stream.
    pub(super) fn matrix(&mut self, name: &str, shape: &[usize], (n, m): (usize, usize), bias: bool) -> Vec<String> {
        let size = shape.iter().map(|size| *size as f64).product::<f64>();
        self.weights += size + if bias { m as f64 } else { 0.0 };
        let index = self.drawn;
        self.drawn += 1;
        let mut names = vec![format!("{name}.weight")];
        if bias {
            names.push(format!("{name}.bias"));
        }
        if let Some(seed) = self.seed {
            let mut stream = Stream::new(seed, Purpose::Weights, index);
            let weights = self.initialization.weights(n, m, &mut stream);
            self.constant(names[0].clone(), Tensor::f32(shape.to_vec(), weights));
            if bias {
                let values = self.initialization.bias(n, m, &mut stream);
                self.constant(names[1].clone(), Tensor::f32([m], values));
            }
        }
        names
    }

    /// Another trainable tensor.
    pub(super) fn weight(&mut self, name: &str, shape: &[usize], start: Start) -> String {
        let size = shape.iter().map(|size| *size as f64).product::<f64>();
        self.weights += size;
        let index = self.drawn;
        self.drawn += u64::from(!matches!(start, Start::Filled(_)));
        if let Some(seed) = self.seed {
            let mut stream = Stream::new(seed, Purpose::Weights, index);
            let count = size as usize;
            let values = match start {
                Start::Filled(value) => vec![value; count],
                Start::Uniform(bound) => stream.uniform(bound, count),
                Start::Normal(deviation) => (0..count).map(|_| (deviation * stream.normal()) as f32).collect(),
            };
            self.constant(name.to_owned(), Tensor::f32(shape.to_vec(), values));
        }
        name.to_owned()
    }

    pub(super) fn constant(&mut self, name: String, tensor: Tensor) -> String {
        if self.seed.is_some() {
            self.graph.constants.insert(name.clone(), tensor);
        }
        name
    }

    /// A node on the current tensor and further inputs, whose output becomes the current tensor.
    pub(super) fn node(&mut self, name: &str, operator: &str, further: &[&str], attributes: Vec<AttributeProto>) {
        let current = self.current.clone();
        let inputs: Vec<&str> = std::iter::once(current.as_str())
            .chain(further.iter().copied())
            .collect();
        self.current = self.apply(name, operator, &inputs, attributes);
    }

    /// A node on any inputs; returns its output.
    pub(super) fn apply(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = format!("{name}.output");
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            operator: operator.to_owned(),
            inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
            outputs: vec![output.clone()],
            attributes,
        });
        output
    }
}
