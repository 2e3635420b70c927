//! Loss functions: nodes for the value, and the gradient with respect to the prediction in closed form.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `z` | prediction, shape `[rows, outputs]` |
//! | `t` | target of the same shape |
//! | `n` | number of terms in the mean |

use super::plan::Loss;
use crate::graph::{Builder, ElementType, Elements, Tensor, attribute};

/// Appends the loss of a batch; returns its value (a scalar) and its gradient with respect to `z`.
///
/// `target` holds classes (`[rows]`, integers) for cross-entropy and values like `z` otherwise.
pub(crate) fn append(
    builder: &mut Builder,
    loss: &Loss,
    z: &str,
    target: &str,
    rows: usize,
    outputs: usize,
) -> (String, String) {
    let mut w = Writer { builder };
    let n = (rows * outputs) as f64;
    match *loss {
        Loss::CrossEntropy { label_smoothing } => w.cross_entropy(z, target, rows, outputs, label_smoothing),
        Loss::Mse => {
            let difference = w.op("Sub", &[z, target]);
            let square = w.op("Mul", &[&difference, &difference]);
            let gradient = w.scale(&difference, 2.0 / n);
            (w.mean(&square), gradient)
        }
        Loss::Mae => {
            let difference = w.op("Sub", &[z, target]);
            let size = w.op("Abs", &[&difference]);
            let sign = w.op("Sign", &[&difference]);
            let gradient = w.scale(&sign, 1.0 / n);
            (w.mean(&size), gradient)
        }
        Loss::Huber { delta } => {
            // With c = clip(d, -delta, delta) the value is c (d - c/2) and its derivative c.
            let difference = w.op("Sub", &[z, target]);
            let (low, high) = (w.scalar(-delta), w.scalar(delta));
            let clipped = w.op("Clip", &[&difference, &low, &high]);
            let half = w.scale(&clipped, 0.5);
            let rest = w.op("Sub", &[&difference, &half]);
            let value = w.op("Mul", &[&clipped, &rest]);
            let gradient = w.scale(&clipped, 1.0 / n);
            (w.mean(&value), gradient)
        }
        Loss::BinaryCrossEntropy => {
            // max(z, 0) - z t + ln(1 + exp(-|z|)), which cannot overflow.
            let positive = w.op("Relu", &[z]);
            let product = w.op("Mul", &[z, target]);
            let size = w.op("Abs", &[z]);
            let negative = w.op("Neg", &[&size]);
            let power = w.op("Exp", &[&negative]);
            let one = w.scalar(1.0);
            let sum = w.op("Add", &[&power, &one]);
            let log = w.op("Log", &[&sum]);
            let value = w.op("Sub", &[&positive, &product]);
            let value = w.op("Add", &[&value, &log]);
            let probability = w.op("Sigmoid", &[z]);
            let difference = w.op("Sub", &[&probability, target]);
            let gradient = w.scale(&difference, 1.0 / n);
            (w.mean(&value), gradient)
        }
    }
}

struct Writer<'a> {
    builder: &'a mut Builder,
}

impl Writer<'_> {
    /// `-Σ q ln softmax(z) / rows`, gradient `(softmax(z) - q) / rows`, where `q` is 1 at the label and 0 elsewhere,
    /// moved towards the uniform distribution by the smoothing.
    fn cross_entropy(
        &mut self,
        z: &str,
        labels: &str,
        rows: usize,
        classes: usize,
        smoothing: f64,
    ) -> (String, String) {
        let depth = self
            .builder
            .constant(Tensor::new([], Elements::I64(vec![classes as i64])));
        let off = smoothing / classes as f64;
        let values = self
            .builder
            .constant(Tensor::f32([2], vec![off as f32, (1.0 - smoothing + off) as f32]));
        let wanted = self.op("OneHot", &[labels, &depth, &values]);
        let log = self.builder.node("LogSoftmax", &[z], vec![attribute::int("axis", -1)]);
        let product = self.op("Mul", &[&log, &wanted]);
        let sum = self
            .builder
            .node("ReduceSum", &[&product], vec![attribute::int("keepdims", 0)]);
        let value = self.scale(&sum, -1.0 / rows as f64);
        let probability = self.op("Exp", &[&log]);
        let difference = self.op("Sub", &[&probability, &wanted]);
        let gradient = self.scale(&difference, 1.0 / rows as f64);
        (value, gradient)
    }

    fn op(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.builder.node(operator, inputs, Vec::new())
    }

    fn scalar(&mut self, value: f64) -> String {
        self.builder.scalar(ElementType::F32, value)
    }

    fn scale(&mut self, a: &str, value: f64) -> String {
        let value = self.scalar(value);
        self.op("Mul", &[a, &value])
    }

    fn mean(&mut self, a: &str) -> String {
        self.builder
            .node("ReduceMean", &[a], vec![attribute::int("keepdims", 0)])
    }
}
