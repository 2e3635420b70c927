//! Metrics over a whole validation set, in double precision on the host.
//!
//! Every metric is weighted by the rows' weights where there are any.

mod ranking;
#[cfg(test)]
mod tests;

use super::loss::{LEAST_RATE, LEAST_VARIANCE, Loss, Reading};
use super::metric::{Metric, Metrics};
use super::samples::{Samples, Targets};
use ranking::{area, quantile};

/// Sums up metrics batch by batch.
#[derive(Debug)]
pub(crate) struct Accumulator<'a> {
    loss: &'a Loss,
    samples: &'a Samples,
    /// Factors of the classes in cross-entropy.
    classes: Option<Vec<f64>>,
    outputs: usize,
    /// Metrics besides the usual ones.
    extra: Vec<Metric>,
    rows: usize,
    /// Sum of the terms, and what they are divided by.
    loss_sum: f64,
    loss_weight: f64,
    weight: f64,
    correct: f64,
    /// By metric of the kind [`Metric::Top`].
    tops: Vec<(usize, f64)>,
    squares: Vec<f64>,
    sizes: f64,
    /// Numbers that rank: scores of rows for areas, relative errors for quantiles.
    scores: Vec<f32>,
    relative: Vec<(f64, f64)>,
}

impl<'a> Accumulator<'a> {
    pub(crate) fn new(
        loss: &'a Loss,
        classes: Option<Vec<f64>>,
        samples: &'a Samples,
        outputs: usize,
        extra: &[Metric],
    ) -> Self {
        let tops = extra.iter().filter_map(|metric| match metric {
            Metric::Top(count) => Some((*count, 0.0)),
            _ => None,
        });
        Self {
            loss,
            samples,
            classes,
            outputs,
            tops: tops.collect(),
            extra: extra.to_vec(),
            rows: 0,
            loss_sum: 0.0,
            loss_weight: 0.0,
            weight: 0.0,
            correct: 0.0,
            squares: vec![0.0; samples.targets.outputs()],
            sizes: 0.0,
            scores: Vec::new(),
            relative: Vec::new(),
        }
    }

    /// Adds predictions for the rows that follow those added before; a loss that is a graph brings its values: one
    /// for the batch, or one a row.
    pub(crate) fn add(&mut self, predictions: &[f32], values: Option<&[f32]>) {
        let reading = self.loss.reading(&self.samples.targets);
        let keeps_scores = self.extra.contains(&Metric::Auc);
        for (index, prediction) in predictions.chunks_exact(self.outputs).enumerate() {
            let row = self.rows;
            let weight = self.samples.weight(row);
            self.rows += 1;
            self.weight += weight;
            if let Some(values) = values {
                let value = if values.len() == 1 { values[0] } else { values[index] };
                self.loss_sum += weight * f64::from(value);
                self.loss_weight += weight;
            }
            if self.is_readable() {
                match (reading, &self.samples.targets) {
                    (Reading::Classes, Targets::Classes { labels, .. }) => {
                        self.add_class(prediction, weight, labels[row] as usize, |class| {
                            f64::from(u8::from(class == labels[row] as usize))
                        });
                    }
                    (Reading::Classes, Targets::Values { width, values }) => {
                        let q = &values[row * width..][..*width];
                        self.add_class(prediction, weight, largest(q), |class| f64::from(q[class]));
                    }
                    (_, Targets::Classes { labels, .. }) => {
                        self.add_values(prediction, weight, |_| labels[row] as f64);
                    }
                    (_, Targets::Values { width, values }) => {
                        self.add_values(prediction, weight, |index| f64::from(values[row * width + index]));
                    }
                }
            }
            if keeps_scores {
                self.scores.extend_from_slice(prediction);
            }
        }
    }

    /// Whether the predictions mean what the metrics other than the loss take them for.
    fn is_readable(&self) -> bool {
        !matches!(self.loss, Loss::Graph { .. }) || self.outputs == self.samples.targets.outputs()
    }

    fn add_class(&mut self, z: &[f32], weight: f64, label: usize, q: impl Fn(usize) -> f64) {
        if let Loss::CrossEntropy { label_smoothing, .. } = self.loss {
            let most = z.iter().fold(f64::NEG_INFINITY, |most, z| most.max(f64::from(*z)));
            let sum: f64 = z.iter().map(|z| libm::exp(f64::from(*z) - most)).sum();
            let log_sum = most + libm::log(sum);
            let factor = |class: usize| self.classes.as_ref().map_or(1.0, |factors| factors[class]);
            let uniform = label_smoothing / z.len() as f64;
            let terms = (0..z.len()).map(|class| {
                let wanted = (1.0 - label_smoothing) * q(class) + uniform;
                factor(class) * wanted * (log_sum - f64::from(z[class]))
            });
            self.loss_sum += weight * terms.sum::<f64>();
            let is_label = matches!(self.samples.targets, Targets::Classes { .. });
            self.loss_weight += weight * if is_label { factor(label) } else { 1.0 };
        }
        // The first of equals is the prediction; a NaN never is.
        let predicted = largest(z);
        if predicted == label && !z[predicted].is_nan() {
            self.correct += weight;
        }
        for (count, sum) in &mut self.tops {
            let ahead = (0..z.len()).filter(|class| z[*class] > z[label] || (z[*class] >= z[label] && *class < label));
            if !z[label].is_nan() && ahead.count() < *count {
                *sum += weight;
            }
        }
    }

    fn add_values(&mut self, z: &[f32], weight: f64, target: impl Fn(usize) -> f64) {
        let targets = match self.loss {
            Loss::BinaryCrossEntropy { .. } => self.outputs,
            _ => self.samples.targets.outputs(),
        };
        let wants_relative = self
            .extra
            .iter()
            .any(|metric| matches!(metric, Metric::RelativeError(_)));
        for index in 0..targets {
            let t = target(index);
            let z_point = self.loss.point(z, index, targets);
            let difference = z_point - t;
            if let Some(square) = self.squares.get_mut(index) {
                *square += weight * difference * difference;
            }
            self.sizes += weight * difference.abs();
            if wants_relative && t != 0.0 {
                self.relative.push(((difference / t).abs(), weight));
            }
            if (z_point > 0.0) == (t > 0.5) && !z_point.is_nan() {
                self.correct += weight;
            }
            self.loss_sum += weight * term(self.loss, z, index, targets, t);
        }
        if !matches!(self.loss, Loss::Graph { .. }) {
            self.loss_weight += weight * targets as f64;
        }
    }

    /// The metrics that fit the loss. A metric that the data do not define, such as the area with one class only, is
    /// left out.
    pub(crate) fn finish(self) -> Metrics {
        let loss = self.loss_sum / self.loss_weight.max(f64::MIN_POSITIVE);
        let mut metrics = vec![(Metric::Loss, loss)];
        if !self.is_readable() {
            return Metrics(metrics);
        }
        let reading = self.loss.reading(&self.samples.targets);
        let width = match reading {
            Reading::Classes => 1,
            Reading::Binary => self.outputs,
            Reading::Values => self.samples.targets.outputs(),
        };
        let numbers = (self.weight * width as f64).max(f64::MIN_POSITIVE);
        if reading == Reading::Values {
            let mse = self.squares.iter().sum::<f64>() / numbers;
            metrics.push((Metric::Mse, mse));
            metrics.push((Metric::Rmse, mse.sqrt()));
            metrics.push((Metric::Mae, self.sizes / numbers));
            metrics.push((Metric::R2, r2(&self.squares, self.samples)));
        } else {
            metrics.push((Metric::Accuracy, self.correct / numbers));
            metrics.push((Metric::Error, (numbers - self.correct) / numbers));
        }
        for (count, sum) in &self.tops {
            metrics.push((Metric::Top(*count), sum / numbers));
        }
        for metric in &self.extra {
            let value = match metric {
                Metric::Auc => self.auc(reading),
                Metric::RelativeError(percent) => quantile(&self.relative, f64::from(*percent) / 100.0),
                _ => None,
            };
            metrics.extend(value.map(|value| (*metric, value)));
        }
        Metrics(metrics)
    }

    /// Mean over the classes, each against all others by its probability, or over the targets.
    fn auc(&self, reading: Reading) -> Option<f64> {
        let columns = self.outputs;
        let probability = |row: usize, column: usize| {
            let z = &self.scores[row * columns..][..columns];
            match (reading, columns) {
                (Reading::Classes, 2) => f64::from(z[column]) - f64::from(z[1 - column]),
                (Reading::Classes, _) => {
                    let sum: f64 = z
                        .iter()
                        .map(|other| libm::exp(f64::from(*other) - f64::from(z[column])))
                        .sum();
                    1.0 / sum
                }
                _ => f64::from(z[column]),
            }
        };
        let is_positive = |row: usize, column: usize| match &self.samples.targets {
            Targets::Classes { labels, .. } if reading == Reading::Classes => labels[row] as usize == column,
            Targets::Classes { labels, .. } => labels[row] > 0,
            Targets::Values { width, values } if reading == Reading::Classes => {
                largest(&values[row * width..][..*width]) == column
            }
            Targets::Values { width, values } => values[row * width + column] > 0.5,
        };
        // Of two classes one says it all.
        let first = usize::from(reading == Reading::Classes && columns == 2);
        let areas: Vec<f64> = (first..columns)
            .filter_map(|column| {
                let rows = (0..self.rows).map(|row| {
                    let score = probability(row, column);
                    (score, is_positive(row, column), self.samples.weight(row))
                });
                area(rows.collect())
            })
            .collect();
        (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
    }
}

/// The metrics that exist for a loss and targets, and whether one of them is among them.
pub(crate) fn is_available(metric: Metric, loss: &Loss, targets: &Targets) -> bool {
    match loss.reading(targets) {
        Reading::Classes => match metric {
            Metric::Top(count) => count <= targets.outputs(),
            _ => matches!(metric, Metric::Loss | Metric::Accuracy | Metric::Error | Metric::Auc),
        },
        Reading::Binary => matches!(metric, Metric::Loss | Metric::Accuracy | Metric::Error | Metric::Auc),
        Reading::Values => matches!(
            metric,
            Metric::Loss | Metric::Mse | Metric::Rmse | Metric::Mae | Metric::R2 | Metric::RelativeError(_)
        ),
    }
}

/// One term of a loss on values; the definitions are those of `losses`.
fn term(loss: &Loss, z: &[f32], index: usize, targets: usize, t: f64) -> f64 {
    let z_own = f64::from(z[index]);
    let difference = z_own - t;
    let size = difference.abs();
    match loss {
        Loss::Mse => difference * difference,
        Loss::Mae => size,
        Loss::Huber { delta } => {
            if size <= *delta {
                0.5 * size * size
            } else {
                delta * (size - 0.5 * delta)
            }
        }
        Loss::BinaryCrossEntropy { positive_weight } => {
            let softplus = libm::log1p(libm::exp(-z_own.abs())) + (-z_own).max(0.0);
            (1.0 - t) * z_own + (1.0 + (positive_weight - 1.0) * t) * softplus
        }
        Loss::Poisson { log_input: true } => libm::exp(z_own) - t * z_own,
        Loss::Poisson { log_input: false } => z_own - t * libm::log(z_own + LEAST_RATE),
        Loss::Gaussian => {
            let log = f64::from(z[targets + index]).max(libm::log(LEAST_VARIANCE));
            0.5 * (log + difference * difference * libm::exp(-log))
        }
        Loss::Quantile { quantiles } => {
            let terms = quantiles
                .iter()
                .zip(&z[index * quantiles.len()..])
                .map(|(quantile, z)| {
                    let above = t - f64::from(*z);
                    (quantile * above).max((quantile - 1.0) * above)
                });
            terms.sum::<f64>() / quantiles.len() as f64
        }
        // Their values come with the predictions.
        Loss::CrossEntropy { .. } | Loss::Graph { .. } => 0.0,
    }
}

/// The position of the largest number, the first of equals.
pub(crate) fn largest(z: &[f32]) -> usize {
    (0..z.len()).fold(0, |best, index| if z[index] > z[best] { index } else { best })
}

/// Mean over the targets of `1 - Σ s (z-t)²/Σ s (t-mean)²`; a target that never changes counts 1 when it is met exactly
/// and 0 otherwise, so that the number is always finite.
fn r2(squares: &[f64], samples: &Samples) -> f64 {
    let Targets::Values { width, values } = &samples.targets else {
        return 0.0;
    };
    let of_target = |(index, residual): (usize, &f64)| {
        let column = || {
            let numbers = values.iter().skip(index).step_by(*width);
            numbers
                .enumerate()
                .map(|(row, value)| (samples.weight(row), f64::from(*value)))
        };
        let weight: f64 = column().map(|(weight, _)| weight).sum();
        let mean = column().map(|(weight, value)| weight * value).sum::<f64>() / weight.max(f64::MIN_POSITIVE);
        let total: f64 = column()
            .map(|(weight, value)| weight * (value - mean) * (value - mean))
            .sum();
        if total > 0.0 {
            1.0 - residual / total
        } else {
            f64::from(u8::from(*residual == 0.0))
        }
    };
    squares.iter().enumerate().map(of_target).sum::<f64>() / squares.len().max(1) as f64
}
