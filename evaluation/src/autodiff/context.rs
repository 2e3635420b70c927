//! What a gradient rule is given, with shorthand for the nodes that rules append.

use crate::graph::proto::AttributeProto;
use crate::graph::{Builder, ElementType, Node, TensorType, attribute};

/// A node whose gradients are wanted, and the graph to append to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) builder: &'a mut Builder,
    pub(crate) node: &'a Node,
    gradients: &'a [Option<String>],
    needed: &'a [bool],
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        builder: &'a mut Builder,
        node: &'a Node,
        gradients: &'a [Option<String>],
        needed: &'a [bool],
    ) -> Self {
        Self {
            builder,
            node,
            gradients,
            needed,
        }
    }

    /// Gradient of the first output.
    pub(crate) fn dy(&self) -> Result<String, String> {
        self.gradient(0)
            .ok_or_else(|| "only its first output may be used".to_owned())
    }

    /// Gradient of an output, if anything depends on it.
    pub(crate) fn gradient(&self, output: usize) -> Option<String> {
        self.gradients.get(output).cloned().flatten()
    }

    /// Whether the gradient of an input is of use.
    pub(crate) fn needs(&self, input: usize) -> bool {
        self.needed.get(input).copied().unwrap_or(false)
    }

    /// Name of an input that must be there.
    pub(crate) fn x(&self, input: usize) -> Result<String, String> {
        self.node
            .input(input)
            .map(str::to_owned)
            .ok_or_else(|| format!("input {input} is missing"))
    }

    /// Name of the first output.
    pub(crate) fn y(&self) -> Result<String, String> {
        self.node
            .output(0)
            .map(str::to_owned)
            .ok_or_else(|| "its first output is missing".to_owned())
    }

    /// Type of a tensor of the forward graph.
    pub(crate) fn type_of(&self, name: &str) -> Result<TensorType, String> {
        self.builder
            .type_of(name)
            .cloned()
            .ok_or_else(|| format!("the shape of `{name}` is not known before running"))
    }

    /// Shape of a tensor of the forward graph.
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<usize>, String> {
        self.type_of(name).map(|kind| kind.shape)
    }

    /// Floating-point type of the first input.
    pub(crate) fn element(&self) -> Result<ElementType, String> {
        self.type_of(&self.x(0)?).map(|kind| kind.element)
    }

    /// Integers of an input that must be constant.
    pub(crate) fn constant_ints(&self, input: usize) -> Result<Option<Vec<i64>>, String> {
        let Some(name) = self.node.input(input) else {
            return Ok(None);
        };
        let tensor = self
            .builder
            .constant_value(name)
            .ok_or_else(|| format!("`{name}` must be constant"))?;
        tensor
            .to_i64()
            .map(Some)
            .ok_or_else(|| format!("`{name}` must hold integers"))
    }

    pub(crate) fn op(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.builder.node(operator, inputs, Vec::new())
    }

    pub(crate) fn op_with(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.builder.node(operator, inputs, attributes)
    }

    /// Notes an operator of our own for what was appended, if it is in single precision.
    pub(crate) fn shortcut(&mut self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Result<(), String> {
        if self.element()? == ElementType::F32 {
            self.builder.shortcut(operator, inputs, outputs, Vec::new());
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, a: &str, b: &str) -> String {
        self.op("Add", &[a, b])
    }

    pub(crate) fn sub(&mut self, a: &str, b: &str) -> String {
        self.op("Sub", &[a, b])
    }

    pub(crate) fn mul(&mut self, a: &str, b: &str) -> String {
        self.op("Mul", &[a, b])
    }

    pub(crate) fn div(&mut self, a: &str, b: &str) -> String {
        self.op("Div", &[a, b])
    }

    /// A scalar of the first input's type.
    pub(crate) fn scalar(&mut self, value: f64) -> Result<String, String> {
        let element = self.element()?;
        Ok(self.builder.scalar(element, value))
    }

    /// `a + value`
    pub(crate) fn add_scalar(&mut self, a: &str, value: f64) -> Result<String, String> {
        let value = self.scalar(value)?;
        Ok(self.add(a, &value))
    }

    /// `a × value`
    pub(crate) fn scale(&mut self, a: &str, value: f64) -> Result<String, String> {
        let value = self.scalar(value)?;
        Ok(self.mul(a, &value))
    }

    /// 1 where the comparison `a operator value` holds, else 0, as numbers.
    pub(crate) fn indicator(&mut self, operator: &str, a: &str, value: f64) -> Result<String, String> {
        let value = self.scalar(value)?;
        let truth = self.op(operator, &[a, &value]);
        self.number(&truth)
    }

    /// Truth values as numbers.
    pub(crate) fn number(&mut self, truth: &str) -> Result<String, String> {
        let element = self.element()?;
        Ok(self.cast(truth, element))
    }

    pub(crate) fn cast(&mut self, a: &str, element: ElementType) -> String {
        self.op_with("Cast", &[a], vec![attribute::int("to", i64::from(element.code()))])
    }

    pub(crate) fn reshape(&mut self, a: &str, shape: &[usize]) -> String {
        let shape: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
        let shape = self.builder.ints(&shape);
        self.op("Reshape", &[a, &shape])
    }

    pub(crate) fn expand(&mut self, a: &str, shape: &[usize]) -> String {
        let shape: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
        let shape = self.builder.ints(&shape);
        self.op("Expand", &[a, &shape])
    }

    /// Zeros of a shape.
    pub(crate) fn zeros(&mut self, shape: &[usize]) -> Result<String, String> {
        let zero = self.scalar(0.0)?;
        Ok(self.expand(&zero, shape))
    }

    /// Sum or mean over axes that stay as dimensions of size 1.
    pub(crate) fn reduce(&mut self, operator: &str, a: &str, axes: &[i64]) -> String {
        let axes = self.builder.ints(axes);
        self.op_with(operator, &[a, &axes], vec![attribute::int("keepdims", 1)])
    }

    /// Undoes broadcasting: sums a gradient of shape `from` to the shape `to` of the tensor that was broadcast.
    pub(crate) fn reduce_to(&mut self, a: &str, from: &[usize], to: &[usize]) -> String {
        if from == to {
            return a.to_owned();
        }
        let added = from.len() - to.len();
        let mut axes: Vec<i64> = (0..added as i64).collect();
        if from[added..] == *to {
            let axes = self.builder.ints(&axes);
            return self.op_with("ReduceSum", &[a, &axes], vec![attribute::int("keepdims", 0)]);
        }
        axes.extend(
            (added..from.len())
                .filter(|axis| to[axis - added] == 1 && from[*axis] != 1)
                .map(|axis| axis as i64),
        );
        let sum = if axes.is_empty() {
            a.to_owned()
        } else {
            self.reduce("ReduceSum", a, &axes)
        };
        if added == 0 { sum } else { self.reshape(&sum, to) }
    }
}

/// An axis counted from the front.
pub(crate) fn axis_index(axis: i64, rank: usize) -> usize {
    if axis < 0 {
        (axis + rank as i64) as usize
    } else {
        axis as usize
    }
}
