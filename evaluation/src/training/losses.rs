//! Loss functions: nodes for the value, and the gradient with respect to the prediction in closed form.
//!
//! | symbol | meaning |
//! | --- | --- |
//! | `z` | prediction, shape `[rows, outputs]` |
//! | `t` | target, shape `[rows, targets]`; for classes `[rows]`, integers |
//! | `d` | `z - t`, or `t - z` where that is said |
//! | `s` | weight of a row, 1 without sample weights |
//!
//! Each function has one term a number of the prediction (in cross-entropy, one a row); the loss is the mean of the
//! terms over the numbers, weighted by `s`: `Σ s term / Σ s`. Weights of classes join in as in PyTorch: they multiply the
//! terms, and for targets that are classes the sum that divides as well.

use super::loss::{LEAST_RATE, LEAST_VARIANCE, Loss};
use crate::graph::{Builder, ElementType, Elements, Tensor, attribute};

/// What a loss is computed from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// Prediction.
    pub(crate) z: &'a str,
    /// Target: classes (`[rows]`, integers) or numbers (`[rows, targets]`).
    pub(crate) target: &'a str,
    /// Whether the targets are classes of the integer kind.
    pub(crate) labels: bool,
    /// Weights of the rows, `[rows]`.
    pub(crate) weights: Option<&'a str>,
    /// Factors of the classes.
    pub(crate) classes: Option<&'a [f64]>,
    /// Rows of the batch.
    pub(crate) rows: usize,
    /// Numbers predicted a row.
    pub(crate) outputs: usize,
    /// Numbers to predict a row.
    pub(crate) targets: usize,
}

/// Terms of a loss and their derivatives, up to constant factors.
struct Terms {
    value: String,
    value_factor: f64,
    gradient: String,
    gradient_factor: f64,
}

/// Appends the loss of a batch; returns its value (a scalar) and its gradient with respect to `z`.
///
/// # Panics
/// When the loss is a graph of its own, which is differentiated like the model.
pub(crate) fn append(builder: &mut Builder, loss: &Loss, given: Given<'_>) -> (String, String) {
    let mut w = Writer { builder };
    let (z, target) = (given.z, given.target);
    let simple = |value, gradient| Terms {
        value,
        value_factor: 1.0,
        gradient,
        gradient_factor: 1.0,
    };
    let terms = match loss {
        Loss::CrossEntropy { label_smoothing, .. } => return w.cross_entropy(given, *label_smoothing),
        Loss::Mse => {
            let difference = w.op("Sub", &[z, target]);
            let square = w.op("Mul", &[&difference, &difference]);
            Terms {
                gradient_factor: 2.0,
                ..simple(square, difference)
            }
        }
        Loss::Mae => {
            let difference = w.op("Sub", &[z, target]);
            let size = w.op("Abs", &[&difference]);
            let sign = w.op("Sign", &[&difference]);
            simple(size, sign)
        }
        Loss::Huber { delta } => {
            // With c = clip(d, -delta, delta) the value is c (d - c/2) and its derivative c.
            let difference = w.op("Sub", &[z, target]);
            let (low, high) = (w.scalar(-delta), w.scalar(*delta));
            let clipped = w.op("Clip", &[&difference, &low, &high]);
            let half = w.scale(&clipped, 0.5);
            let rest = w.op("Sub", &[&difference, &half]);
            simple(w.op("Mul", &[&clipped, &rest]), clipped)
        }
        Loss::BinaryCrossEntropy { positive_weight } => {
            let (value, gradient) = w.binary_cross_entropy(z, target, *positive_weight);
            simple(value, gradient)
        }
        Loss::Poisson { log_input: true } => {
            let rate = w.op("Exp", &[z]);
            let product = w.op("Mul", &[z, target]);
            simple(w.op("Sub", &[&rate, &product]), w.op("Sub", &[&rate, target]))
        }
        Loss::Poisson { log_input: false } => {
            // z - t ln(z + ε), with the derivative 1 - t/(z + ε).
            let shifted = w.shift(z, LEAST_RATE);
            let log = w.op("Log", &[&shifted]);
            let product = w.op("Mul", &[target, &log]);
            let quotient = w.op("Div", &[target, &shifted]);
            let one = w.scalar(1.0);
            simple(w.op("Sub", &[z, &product]), w.op("Sub", &[&one, &quotient]))
        }
        Loss::Gaussian => w.gaussian(given),
        Loss::Quantile { quantiles } => w.quantile(given, quantiles),
        Loss::Graph { .. } => unreachable!("a loss given as a graph is differentiated like the model"),
    };
    let columns = if matches!(loss, Loss::Gaussian) {
        given.targets
    } else {
        given.outputs
    };
    w.mean(&terms, given.weights, given.rows, columns)
}

/// The mean of a loss graph's output, a scalar, and the gradient of the mean with respect to that output.
pub(crate) fn mean_of_graph(
    builder: &mut Builder,
    value: &str,
    weights: Option<&str>,
    shape: &[usize],
) -> (String, String) {
    let mut w = Writer { builder };
    let rows = shape.iter().product::<usize>();
    if shape.is_empty() {
        return (value.to_owned(), w.scalar(1.0));
    }
    let value = w.reshape(value, &[rows as i64, 1]);
    let one = w.builder.constant(Tensor::f32([rows, 1], vec![1.0; rows]));
    let terms = Terms {
        value,
        value_factor: 1.0,
        gradient: one,
        gradient_factor: 1.0,
    };
    let (value, gradient) = w.mean(&terms, weights, rows, 1);
    let shape: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
    let gradient = w.reshape(&gradient, &shape);
    (value, gradient)
}

struct Writer<'a> {
    builder: &'a mut Builder,
}

impl Writer<'_> {
    /// The mean of terms `[rows, columns]` and its gradient.
    fn mean(&mut self, terms: &Terms, weights: Option<&str>, rows: usize, columns: usize) -> (String, String) {
        let Some(weights) = weights else {
            let mean = self
                .builder
                .node("ReduceMean", &[&terms.value], vec![attribute::int("keepdims", 0)]);
            let value = if (terms.value_factor - 1.0).abs() > 0.0 {
                self.scale(&mean, terms.value_factor)
            } else {
                mean
            };
            let gradient = self.scale(&terms.gradient, terms.gradient_factor / (rows * columns) as f64);
            return (value, gradient);
        };
        let shares = self.shares(weights, rows, columns);
        let weighted = self.op("Mul", &[&terms.value, &shares]);
        let sum = self.sum(&weighted);
        let value = self.scale(&sum, terms.value_factor);
        let shares = self.scale(&shares, terms.gradient_factor);
        (value, self.op("Mul", &[&terms.gradient, &shares]))
    }

    /// `s / (Σ s × columns)` as `[rows, 1]`; zero when all weights are.
    fn shares(&mut self, weights: &str, rows: usize, columns: usize) -> String {
        let column = self.reshape(weights, &[rows as i64, 1]);
        let total = self.sum(weights);
        let total = self.scale(&total, columns as f64);
        let total = self.at_least(&total, f64::from(f32::MIN_POSITIVE));
        self.op("Div", &[&column, &total])
    }

    /// `Σ_c a_c (-ln softmax(z)_c)` a row, with `a = class weight × q`, where `q` is 1 at the label and 0 elsewhere (or
    /// the row's probabilities), moved towards the uniform distribution by the smoothing. The derivative of a term is
    /// `softmax(z) Σ_c a_c - a`.
    fn cross_entropy(&mut self, given: Given<'_>, smoothing: f64) -> (String, String) {
        let (rows, classes) = (given.rows, given.outputs);
        let off = smoothing / classes as f64;
        let wanted = if given.labels {
            let depth = self
                .builder
                .constant(Tensor::new([], Elements::I64(vec![classes as i64])));
            let values = self
                .builder
                .constant(Tensor::f32([2], vec![off as f32, (1.0 - smoothing + off) as f32]));
            self.op("OneHot", &[given.target, &depth, &values])
        } else if smoothing > 0.0 {
            let kept = self.scale(given.target, 1.0 - smoothing);
            self.shift(&kept, off)
        } else {
            given.target.to_owned()
        };
        let log = self
            .builder
            .node("LogSoftmax", &[given.z], vec![attribute::int("axis", -1)]);
        let probability = self.op("Exp", &[&log]);
        // Without factors of classes, the a of a row with a label sum up to 1.
        let (a, total, class_of_row) = match given.classes {
            Some(factors) => {
                let factors = factors.iter().map(|factor| *factor as f32).collect();
                let factors = self.builder.constant(Tensor::f32([classes], factors));
                let a = self.op("Mul", &[&wanted, &factors]);
                let total = self.sum_rows(&a);
                let of_row = given.labels.then(|| {
                    self.builder
                        .node("Gather", &[&factors, given.target], vec![attribute::int("axis", 0)])
                });
                (a, Some(total), of_row)
            }
            None if given.labels => (wanted, None, None),
            None => {
                let total = self.sum_rows(&wanted);
                (wanted, Some(total), None)
            }
        };
        let expected = match &total {
            Some(total) => self.op("Mul", &[&probability, total]),
            None => probability,
        };
        let difference = self.op("Sub", &[&expected, &a]);
        let product = self.op("Mul", &[&log, &a]);
        let divisor = match (&class_of_row, given.weights) {
            (None, None) => {
                let sum = self.sum(&product);
                let value = self.scale(&sum, -1.0 / rows as f64);
                return (value, self.scale(&difference, 1.0 / rows as f64));
            }
            (Some(of_row), None) => self.sum(of_row),
            (None, Some(weights)) => self.sum(weights),
            (Some(of_row), Some(weights)) => {
                let both = self.op("Mul", &[of_row, weights]);
                self.sum(&both)
            }
        };
        let divisor = self.at_least(&divisor, f64::from(f32::MIN_POSITIVE));
        let shares = match given.weights {
            Some(weights) => {
                let column = self.reshape(weights, &[rows as i64, 1]);
                self.op("Div", &[&column, &divisor])
            }
            None => self.op("Reciprocal", &[&divisor]),
        };
        let weighted = self.op("Mul", &[&product, &shares]);
        let sum = self.sum(&weighted);
        let value = self.op("Neg", &[&sum]);
        (value, self.op("Mul", &[&difference, &shares]))
    }

    /// `max(z, 0) - z t + ln(1 + exp(-|z|))`, which cannot overflow. With a factor `p` of the positive class it is
    /// `(1 - t) z + (1 + (p - 1) t)(ln(1 + exp(-|z|)) + max(-z, 0))`, with the derivative
    /// `1 - t - (1 + (p - 1) t) σ(-z)`.
    fn binary_cross_entropy(&mut self, z: &str, target: &str, positive: f64) -> (String, String) {
        let size = self.op("Abs", &[z]);
        let negative = self.op("Neg", &[&size]);
        let power = self.op("Exp", &[&negative]);
        let sum = self.shift(&power, 1.0);
        let log = self.op("Log", &[&sum]);
        if (positive - 1.0).abs() > 0.0 {
            let one = self.scalar(1.0);
            let factor = self.scale(target, positive - 1.0);
            let factor = self.shift(&factor, 1.0);
            let rest = self.op("Sub", &[&one, target]);
            let opposite = self.op("Neg", &[z]);
            let below = self.op("Relu", &[&opposite]);
            let softplus = self.op("Add", &[&log, &below]);
            let positive = self.op("Mul", &[&factor, &softplus]);
            let linear = self.op("Mul", &[&rest, z]);
            let value = self.op("Add", &[&linear, &positive]);
            let probability = self.op("Sigmoid", &[&opposite]);
            let part = self.op("Mul", &[&factor, &probability]);
            return (value, self.op("Sub", &[&rest, &part]));
        }
        let positive = self.op("Relu", &[z]);
        let product = self.op("Mul", &[z, target]);
        let value = self.op("Sub", &[&positive, &product]);
        let value = self.op("Add", &[&value, &log]);
        let probability = self.op("Sigmoid", &[z]);
        (value, self.op("Sub", &[&probability, target]))
    }

    /// `(l + d² exp(-l))/2` for a mean and a logarithm `l` of a variance, both predicted; the derivatives are
    /// `d exp(-l)` and `(1 - d² exp(-l))/2`. Below the least variance `l` is cut off in the term, and its derivative
    /// goes on as if it were not, as in PyTorch.
    fn gaussian(&mut self, given: Given<'_>) -> Terms {
        let half = given.targets as i64;
        let sizes = self.builder.ints(&[half, half]);
        let parts = self
            .builder
            .node_with_outputs("Split", &[given.z, &sizes], 2, vec![attribute::int("axis", 1)]);
        let log = self.at_least(&parts[1], libm::log(LEAST_VARIANCE));
        let negative = self.op("Neg", &[&log]);
        let precision = self.op("Exp", &[&negative]);
        let difference = self.op("Sub", &[&parts[0], given.target]);
        let of_mean = self.op("Mul", &[&difference, &precision]);
        let square = self.op("Mul", &[&difference, &of_mean]);
        let value = self.op("Add", &[&log, &square]);
        let one = self.scalar(1.0);
        let rest = self.op("Sub", &[&one, &square]);
        let of_log = self.scale(&rest, 0.5);
        let gradient = self
            .builder
            .node("Concat", &[&of_mean, &of_log], vec![attribute::int("axis", 1)]);
        Terms {
            value,
            value_factor: 0.5,
            gradient,
            gradient_factor: 1.0,
        }
    }

    /// `max(q d, (q - 1) d)` with `d = t - z`, which is `(q - 1/2) d + |d|/2`; the derivative is
    /// `1/2 - q - sign(d)/2`.
    fn quantile(&mut self, given: Given<'_>, quantiles: &[f64]) -> Terms {
        let (rows, count) = (given.rows as i64, quantiles.len());
        let shifts = quantiles.iter().map(|quantile| (quantile - 0.5) as f32).collect();
        let shifts = self.builder.constant(Tensor::f32([1, 1, count], shifts));
        let z = self.reshape(given.z, &[rows, given.targets as i64, count as i64]);
        let target = self.reshape(given.target, &[rows, given.targets as i64, 1]);
        let difference = self.op("Sub", &[&target, &z]);
        let size = self.op("Abs", &[&difference]);
        let half = self.scale(&size, 0.5);
        let tilted = self.op("Mul", &[&difference, &shifts]);
        let value = self.op("Add", &[&tilted, &half]);
        let sign = self.op("Sign", &[&difference]);
        let half = self.scale(&sign, 0.5);
        let opposite = self.op("Add", &[&half, &shifts]);
        let flat = [rows, given.outputs as i64];
        Terms {
            value: self.reshape(&value, &flat),
            value_factor: 1.0,
            gradient: self.reshape(&opposite, &flat),
            gradient_factor: -1.0,
        }
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

    fn shift(&mut self, a: &str, value: f64) -> String {
        let value = self.scalar(value);
        self.op("Add", &[a, &value])
    }

    fn at_least(&mut self, a: &str, value: f64) -> String {
        let value = self.scalar(value);
        self.op("Max", &[a, &value])
    }

    fn reshape(&mut self, a: &str, shape: &[i64]) -> String {
        let shape = self.builder.ints(shape);
        self.op("Reshape", &[a, &shape])
    }

    fn sum(&mut self, a: &str) -> String {
        self.builder
            .node("ReduceSum", &[a], vec![attribute::int("keepdims", 0)])
    }

    /// Sums along the last axis, which stays with size 1.
    fn sum_rows(&mut self, a: &str) -> String {
        let axis = self.builder.ints(&[-1]);
        self.builder
            .node("ReduceSum", &[a, &axis], vec![attribute::int("keepdims", 1)])
    }
}
