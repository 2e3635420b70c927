//! Scaling as part of a saved model: the file takes rows as the training files have them.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `x` | a row of the file, `f` where a number is missing | `file` |
//! | `s`, `a`, `d` | factor, shift and divisor, as `dataset::Scaling` has them | broadcast to `file` |
//! | `y` | what the model sees, `(s x - a) / d`, with axes turned | `model` |

use crate::graph::proto::{DimensionProto, ModelProto, NodeProto};
use crate::graph::{ElementType, Elements, Node, Tensor, TensorType, attribute, node_to_proto, value_info};

/// How the rows of files become what a model sees.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawInputs {
    /// Shape of a row in the file.
    pub shape: Vec<usize>,
    /// Factor of every number.
    pub scale: f64,
    /// Subtracted from each number of a row, after the factor.
    pub shift: Vec<f64>,
    /// Divides each number of a row, after the subtraction.
    pub divisor: Vec<f64>,
    /// What stands for missing numbers of a row, where any may be missing.
    pub fill: Option<Vec<f64>>,
    /// The axes of a row in the order in which the model has them, where they are turned.
    pub axes: Option<Vec<usize>>,
}

#[expect(clippy::float_cmp, reason = "what does exactly nothing is left out")]
impl RawInputs {
    fn is_identity(&self) -> bool {
        let is_scaled = self.scale != 1.0
            || self.shift.iter().any(|shift| *shift != 0.0)
            || self.divisor.iter().any(|divisor| *divisor != 1.0);
        !is_scaled && self.fill.is_none() && self.axes.is_none()
    }

    /// Puts the scaling in front of the input of a model, in double precision as while training.
    pub(crate) fn prepend(&self, model: &mut ModelProto, input: &str) {
        let Some(graph) = model.graph.as_mut().filter(|_| !self.is_identity()) else {
            return;
        };
        let Some(info) = graph.input.iter_mut().find(|info| info.name.as_deref() == Some(input)) else {
            return;
        };
        let batch = info
            .r#type
            .as_ref()
            .and_then(|kind| kind.tensor_type.as_ref())
            .and_then(|kind| kind.shape.as_ref());
        let dims = batch.map(|shape| shape.dim.clone()).unwrap_or_default();
        let seen = dims
            .get(1..)
            .unwrap_or(&[])
            .iter()
            .map(|dim| dim.dim_value.unwrap_or(-1));
        let seen: Vec<i64> = seen.collect();
        let mut shape = vec![1];
        shape.extend_from_slice(&self.shape);
        *info = value_info(input, Some(&TensorType::new(ElementType::F32, shape)));
        let kind = info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut());
        if let Some(dim) = kind
            .and_then(|kind| kind.shape.as_mut())
            .and_then(|shape| shape.dim.first_mut())
        {
            *dim = dims.into_iter().next().unwrap_or(DimensionProto {
                dim_param: Some("batch".into()),
                ..DimensionProto::default()
            });
        }

        let mut front = Front {
            prefix: format!("{input}/raw"),
            current: input.to_owned(),
            nodes: Vec::new(),
            constants: Vec::new(),
        };
        front.apply("Cast", None, vec![attribute::int("to", ElementType::F64.code().into())]);
        if let Some(fill) = &self.fill {
            front.fill(self.constant(fill));
        }
        let one = |value: f64| Tensor::new([], Elements::F64(vec![value]));
        if self.scale != 1.0 {
            front.apply("Mul", Some(one(self.scale)), Vec::new());
        }
        if self.shift.iter().any(|shift| *shift != 0.0) {
            front.apply("Sub", Some(self.constant(&self.shift)), Vec::new());
        }
        if self.divisor.iter().any(|divisor| *divisor != 1.0) {
            front.apply("Div", Some(self.constant(&self.divisor)), Vec::new());
        }
        front.apply("Cast", None, vec![attribute::int("to", ElementType::F32.code().into())]);
        let mut turned = self.shape.clone();
        if let Some(axes) = &self.axes {
            let order: Vec<i64> = std::iter::once(0)
                .chain(axes.iter().map(|axis| *axis as i64 + 1))
                .collect();
            front.apply("Transpose", None, vec![attribute::ints("perm", &order)]);
            turned = axes.iter().map(|axis| self.shape[*axis]).collect();
        }
        let turned: Vec<i64> = turned.iter().map(|size| *size as i64).collect();
        if !seen.is_empty() && turned != seen && seen.iter().filter(|size| **size < 0).count() == 0 {
            let shape = [&[-1], &seen[..]].concat();
            front.apply("Reshape", Some(Tensor::ints(shape)), Vec::new());
        }

        for name in graph
            .node
            .iter_mut()
            .flat_map(|node| &mut node.input)
            .filter(|name| *name == input)
        {
            name.clone_from(&front.current);
        }
        front.nodes.append(&mut graph.node);
        graph.node = front.nodes;
        let constants = front.constants.iter().map(|(name, tensor)| tensor.to_proto(name));
        graph.initializer.extend(constants);
    }

    /// Numbers of a row, with one in the place of all along axes where they are equal.
    fn constant(&self, values: &[f64]) -> Tensor {
        let mut shape = self.shape.clone();
        let mut values = values.to_vec();
        for axis in 0..shape.len() {
            let inner: usize = shape[axis + 1..].iter().product();
            let slab = inner * shape[axis];
            let is_constant = values.chunks_exact(slab.max(1)).all(|slab| {
                slab.iter()
                    .zip(slab.iter().skip(inner))
                    .all(|(first, next)| first == next)
            });
            if is_constant {
                values = values
                    .chunks_exact(slab.max(1))
                    .flat_map(|slab| slab[..inner].to_vec())
                    .collect();
                shape[axis] = 1;
            }
        }
        shape.insert(0, 1);
        Tensor::new(shape, Elements::F64(values))
    }
}

/// The nodes in front of a model.
struct Front {
    prefix: String,
    current: String,
    nodes: Vec<NodeProto>,
    constants: Vec<(String, Tensor)>,
}

impl Front {
    fn name(&self) -> String {
        format!("{}.{}", self.prefix, self.nodes.len() + self.constants.len())
    }

    fn constant(&mut self, value: Tensor) -> String {
        let name = self.name();
        self.constants.push((name.clone(), value));
        name
    }

    fn push(&mut self, operator: &str, inputs: Vec<String>, attributes: Vec<crate::graph::proto::AttributeProto>) {
        let output = self.name();
        self.nodes.push(node_to_proto(&Node {
            name: output.clone(),
            operator: operator.to_owned(),
            inputs,
            outputs: vec![output.clone()],
            attributes,
        }));
        self.current = output;
    }

    /// An operator on the current tensor and a constant.
    fn apply(&mut self, operator: &str, second: Option<Tensor>, attributes: Vec<crate::graph::proto::AttributeProto>) {
        let mut inputs = vec![self.current.clone()];
        inputs.extend(second.map(|value| self.constant(value)));
        self.push(operator, inputs, attributes);
    }

    fn fill(&mut self, fill: Tensor) {
        let fill = self.constant(fill);
        let found = self.current.clone();
        self.push("IsNaN", vec![found.clone()], Vec::new());
        let inputs = vec![self.current.clone(), fill, found];
        self.push("Where", inputs, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing;
    use crate::graph::{Builder, encode_model, read_model};
    use crate::model::import::Imported;

    /// What a model that gives back its input of `model` numbers makes of raw rows.
    fn seen(raw: &RawInputs, model: &[usize], rows: Vec<f32>) -> Vec<f32> {
        let mut builder = Builder::new();
        let shape = [&[1], model].concat();
        let x = builder.input("x", TensorType::new(ElementType::F32, shape));
        let y = builder.node("Neg", &[&x], Vec::new());
        let y = builder.node("Neg", &[&y], Vec::new());
        builder.output("y", &y);
        let mut file = builder.finish().to_model();
        raw.prepend(&mut file, "x");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, encode_model(&file)).unwrap();
        let mut imported = Imported::new(read_model(&path).unwrap(), &[]).unwrap();
        let width: usize = raw.shape.iter().product();
        let shape = [&[rows.len() / width], &raw.shape[..]].concat();
        imported.graph.outputs = vec![imported.output.clone()];
        imported.graph.inputs = vec![("x".into(), TensorType::new(ElementType::F32, shape.clone()))];
        let results = testing::engine().run(&imported.graph, vec![("x".into(), Tensor::f32(shape, rows))]);
        results.unwrap()[0].as_f32().unwrap().to_vec()
    }

    #[test]
    fn missing_numbers_are_filled_and_columns_scaled() {
        let raw = RawInputs {
            shape: vec![3],
            scale: 2.0,
            shift: vec![1e9, 0.0, 4.0],
            divisor: vec![1.0, 4.0, 2.0],
            fill: Some(vec![0.0, 6.0, 0.0]),
            axes: None,
        };
        let rows = vec![500_000_000.0, f32::NAN, 2.0, 500_000_032.0, 2.0, 3.0];
        assert_eq!(seen(&raw, &[3], rows), [0.0, 3.0, 0.0, 64.0, 1.0, 1.0]);
    }

    #[test]
    fn channels_are_scaled_and_turned_and_rows_take_the_shape_of_the_model() {
        let raw = RawInputs {
            shape: vec![2, 1, 2],
            scale: 1.0,
            shift: vec![1.0, 0.0, 1.0, 0.0],
            divisor: vec![1.0, 2.0, 1.0, 2.0],
            fill: None,
            axes: Some(vec![2, 0, 1]),
        };
        assert_eq!(raw.constant(&raw.shift).shape, [1, 1, 1, 2]);
        assert_eq!(seen(&raw, &[2, 2, 1], vec![1.0, 2.0, 3.0, 4.0]), [0.0, 2.0, 1.0, 2.0]);
        assert_eq!(seen(&raw, &[4], vec![1.0, 2.0, 3.0, 4.0]), [0.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn rows_that_are_taken_as_they_are_need_no_nodes() {
        let raw = RawInputs {
            shape: vec![2],
            scale: 1.0,
            ..RawInputs::default()
        };
        let mut model = ModelProto::default();
        raw.prepend(&mut model, "x");
        assert_eq!(model, ModelProto::default());
    }
}
