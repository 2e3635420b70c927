//! Metrics over a whole validation set, in double precision on the host.

use super::plan::{Loss, Metric, Metrics};
use super::samples::Targets;

/// Sums up metrics batch by batch.
#[derive(Debug)]
pub(crate) struct Accumulator<'a> {
    loss: &'a Loss,
    targets: &'a Targets,
    outputs: usize,
    rows: usize,
    loss_sum: f64,
    correct: usize,
    squares: Vec<f64>,
    sizes: f64,
}

impl<'a> Accumulator<'a> {
    pub(crate) fn new(loss: &'a Loss, targets: &'a Targets, outputs: usize) -> Self {
        Self {
            loss,
            targets,
            outputs,
            rows: 0,
            loss_sum: 0.0,
            correct: 0,
            squares: vec![0.0; outputs],
            sizes: 0.0,
        }
    }

    /// Adds predictions for the rows that follow those added before.
    pub(crate) fn add(&mut self, predictions: &[f32]) {
        for prediction in predictions.chunks_exact(self.outputs) {
            let row = self.rows;
            self.rows += 1;
            match self.targets {
                Targets::Classes { labels, .. } if self.loss.needs_classes() => {
                    self.add_class(prediction, labels[row] as usize);
                }
                Targets::Classes { labels, .. } => self.add_values(prediction, |_| labels[row] as f64),
                Targets::Values { width, values } => {
                    self.add_values(prediction, |index| f64::from(values[row * width + index]));
                }
            }
        }
    }

    fn add_class(&mut self, z: &[f32], label: usize) {
        let Loss::CrossEntropy { label_smoothing } = *self.loss else {
            return;
        };
        let largest = z
            .iter()
            .fold(f64::NEG_INFINITY, |largest, z| largest.max(f64::from(*z)));
        let sum: f64 = z.iter().map(|z| libm::exp(f64::from(*z) - largest)).sum();
        let log_sum = largest + libm::log(sum);
        let log = |index: usize| f64::from(z[index]) - log_sum;
        let uniform = (0..z.len()).map(log).sum::<f64>() / z.len() as f64;
        self.loss_sum -= (1.0 - label_smoothing) * log(label) + label_smoothing * uniform;
        // The first of equals is the prediction; a NaN never is.
        let predicted = (0..z.len()).fold(0, |best, index| if z[index] > z[best] { index } else { best });
        self.correct += usize::from(predicted == label && !z[predicted].is_nan());
    }

    fn add_values(&mut self, z: &[f32], target: impl Fn(usize) -> f64) {
        for (index, z) in z.iter().enumerate() {
            let (z, t) = (f64::from(*z), target(index));
            let difference = z - t;
            let size = difference.abs();
            self.squares[index] += difference * difference;
            self.sizes += size;
            self.loss_sum += match *self.loss {
                Loss::Mse | Loss::CrossEntropy { .. } => difference * difference,
                Loss::Mae => size,
                Loss::Huber { delta } => {
                    if size <= delta {
                        0.5 * size * size
                    } else {
                        delta * (size - 0.5 * delta)
                    }
                }
                Loss::BinaryCrossEntropy => z.max(0.0) - z * t + libm::log1p(libm::exp(-z.abs())),
            };
            self.correct += usize::from((z > 0.0) == (t > 0.5) && !z.is_nan());
        }
    }

    /// The metrics that fit the loss.
    pub(crate) fn finish(self) -> Metrics {
        let rows = self.rows.max(1) as f64;
        let numbers = rows * self.outputs as f64;
        let shares = |terms: f64| {
            let accuracy = self.correct as f64 / terms;
            let wrong = (terms - self.correct as f64) / terms;
            [(Metric::Accuracy, accuracy), (Metric::Error, wrong)]
        };
        let mut metrics = Vec::new();
        match self.loss {
            Loss::CrossEntropy { .. } => {
                metrics.push((Metric::Loss, self.loss_sum / rows));
                metrics.extend(shares(rows));
            }
            Loss::BinaryCrossEntropy => {
                metrics.push((Metric::Loss, self.loss_sum / numbers));
                metrics.extend(shares(numbers));
            }
            _ => {
                let mse = self.squares.iter().sum::<f64>() / numbers;
                metrics.push((Metric::Loss, self.loss_sum / numbers));
                metrics.push((Metric::Mse, mse));
                metrics.push((Metric::Rmse, mse.sqrt()));
                metrics.push((Metric::Mae, self.sizes / numbers));
                metrics.push((Metric::R2, r2(&self.squares, self.targets)));
            }
        }
        Metrics(metrics)
    }
}

/// The metrics that exist for a loss.
pub(crate) fn available(loss: &Loss) -> &'static [Metric] {
    match loss {
        Loss::CrossEntropy { .. } | Loss::BinaryCrossEntropy => &[Metric::Loss, Metric::Accuracy, Metric::Error],
        _ => &[Metric::Loss, Metric::Mse, Metric::Rmse, Metric::Mae, Metric::R2],
    }
}

/// Mean over the targets of `1 - Σ(z-t)²/Σ(t-mean)²`; a target that never changes counts 1 when it is met exactly
/// and 0 otherwise, so that the number is always finite.
fn r2(squares: &[f64], targets: &Targets) -> f64 {
    let Targets::Values { width, values } = targets else {
        return 0.0;
    };
    let rows = (values.len() / width).max(1) as f64;
    let of_target = |(index, residual): (usize, &f64)| {
        let column = || values.iter().skip(index).step_by(*width).map(|value| f64::from(*value));
        let mean = column().sum::<f64>() / rows;
        let total: f64 = column().map(|value| (value - mean) * (value - mean)).sum();
        if total > 0.0 {
            1.0 - residual / total
        } else {
            f64::from(u8::from(*residual == 0.0))
        }
    };
    squares.iter().enumerate().map(of_target).sum::<f64>() / squares.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, metric: Metric) -> f64 {
        metrics.get(metric)
    }

    #[test]
    fn classification_metrics_are_exact() {
        let targets = Targets::Classes {
            labels: vec![0, 1, 1],
            classes: 2,
        };
        let loss = Loss::CrossEntropy { label_smoothing: 0.0 };
        let mut sums = Accumulator::new(&loss, &targets, 2);
        sums.add(&[0.0, 0.0, 0.0, 1.0]);
        sums.add(&[2.0, 1.0]);
        let metrics = sums.finish();
        let softplus = |x: f64| (1.0 + x.exp()).ln();
        let expected = (2.0_f64.ln() + softplus(-1.0) + softplus(1.0)) / 3.0;
        assert!((value(&metrics, Metric::Loss) - expected).abs() < 1e-15);
        assert!((value(&metrics, Metric::Error) - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn regression_metrics_are_exact() {
        let targets = Targets::Values {
            width: 1,
            values: vec![1.0, 2.0, 3.0],
        };
        let mut sums = Accumulator::new(&Loss::Huber { delta: 1.0 }, &targets, 1);
        sums.add(&[1.5, 2.0, 5.0]);
        let metrics = sums.finish();
        assert!((value(&metrics, Metric::Loss) - (0.125 + 1.5) / 3.0).abs() < 1e-15);
        assert!((value(&metrics, Metric::Mse) - 4.25 / 3.0).abs() < 1e-15);
        assert!((value(&metrics, Metric::Mae) - 2.5 / 3.0).abs() < 1e-15);
        assert!((value(&metrics, Metric::R2) - (1.0 - 4.25 / 2.0)).abs() < 1e-15);
    }

    #[test]
    fn a_constant_target_has_a_finite_r2() {
        let targets = Targets::Values {
            width: 1,
            values: vec![2.0, 2.0],
        };
        for (prediction, expected) in [(2.0, 1.0), (2.5, 0.0)] {
            let mut sums = Accumulator::new(&Loss::Mse, &targets, 1);
            sums.add(&[prediction, 2.0]);
            assert!((value(&sums.finish(), Metric::R2) - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn binary_metrics_count_the_sign_of_the_logit() {
        let targets = Targets::Classes {
            labels: vec![1, 0],
            classes: 2,
        };
        let mut sums = Accumulator::new(&Loss::BinaryCrossEntropy, &targets, 1);
        sums.add(&[3.0, 0.5]);
        assert!((value(&sums.finish(), Metric::Accuracy) - 0.5).abs() < 1e-15);
    }
}
