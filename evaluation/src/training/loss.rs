//! Which function a training descends.

use std::path::PathBuf;

use serde::Serialize;

use super::samples::Targets;

/// The function of prediction and target whose (weighted) mean over the batch is minimised.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `-Σ q log softmax(z)`, where `q` is 1 at the label, or the row's probabilities; the model's outputs `z` are
    /// logits.
    CrossEntropy {
        /// Mass moved from `q` to the uniform distribution, in `[0, 1)`.
        label_smoothing: f64,
        /// Factors of the terms of the classes.
        class_weights: Option<ClassWeights>,
    },
    /// Binary cross-entropy on logits, mean over the targets.
    BinaryCrossEntropy {
        /// Factor of the term of the positive class, above 0.
        positive_weight: f64,
    },
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    Mae,
    /// Quadratic up to `delta`, linear beyond.
    Huber {
        /// Where the parabola becomes a line, above 0.
        delta: f64,
    },
    /// Negative log-likelihood of counts, without the term that depends on the target alone.
    #[serde(rename = "poisson_nll")]
    Poisson {
        /// Whether the model predicts the logarithm of the rate.
        log_input: bool,
    },
    /// Negative log-likelihood of a normal distribution, without its constant: the model predicts all means, then the
    /// logarithms of all variances.
    #[serde(rename = "gaussian_nll")]
    Gaussian,
    /// Pinball loss: the model predicts these quantiles of the first target, then those of the next.
    Quantile {
        /// In `(0, 1)`, ascending.
        quantiles: Vec<f64>,
    },
    /// A graph with the inputs `prediction` and `target` and one output: a number, or one a row.
    Graph {
        /// The ONNX file.
        path: PathBuf,
    },
}

/// Factors of the terms of the classes in cross-entropy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// One number a class, at least 0.
    Given(Vec<f64>),
    /// Inversely proportional to the frequency of the class in the training set, 1 on average over its rows.
    Balanced,
}

/// How predictions are read by metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// One logit a class, the largest wins.
    Classes,
    /// One logit a target, positive or not.
    Binary,
    /// Real values.
    Values,
}

/// Variances below this count as this, so that a perfect fit has a finite likelihood (PyTorch's constant).
pub(crate) const LEAST_VARIANCE: f64 = 1e-6;

/// Keeps the logarithm of a predicted rate finite (PyTorch's constant).
pub(crate) const LEAST_RATE: f64 = 1e-8;

impl Loss {
    /// The name in model files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::BinaryCrossEntropy { .. } => "binary_cross_entropy",
            Self::Mse => "mse",
            Self::Mae => "mae",
            Self::Huber { .. } => "huber",
            Self::Poisson { .. } => "poisson_nll",
            Self::Gaussian => "gaussian_nll",
            Self::Quantile { .. } => "quantile",
            Self::Graph { .. } => "graph",
        }
    }

    /// Numbers that the model must predict for targets.
    ///
    /// # Errors
    /// When the targets are not of the kind that the loss needs, in words.
    pub(crate) fn outputs(&self, targets: &Targets) -> Result<usize, String> {
        match (self, targets) {
            (Self::CrossEntropy { .. }, Targets::Values { width: 1, .. }) => {
                Err("`cross_entropy` needs classes as targets, the data has values".into())
            }
            (Self::CrossEntropy { .. } | Self::Graph { .. }, targets) => Ok(targets.outputs()),
            (Self::BinaryCrossEntropy { .. }, Targets::Classes { classes: 2, .. }) => Ok(1),
            (Self::BinaryCrossEntropy { .. }, Targets::Classes { classes, .. }) => Err(format!(
                "`binary_cross_entropy` needs two classes or values in [0, 1], the data has {classes} classes; use \
                 `cross_entropy`"
            )),
            (_, Targets::Classes { .. }) => Err(format!(
                "`{}` needs values as targets, the data has classes",
                self.name()
            )),
            (Self::Gaussian, Targets::Values { width, .. }) => Ok(2 * width),
            (Self::Quantile { quantiles }, Targets::Values { width, .. }) => Ok(quantiles.len() * width),
            (_, Targets::Values { width, .. }) => Ok(*width),
        }
    }

    /// How metrics read the predictions.
    pub(crate) fn reading(&self, targets: &Targets) -> Reading {
        match (self, targets) {
            (Self::CrossEntropy { .. }, _) | (Self::Graph { .. }, Targets::Classes { .. }) => Reading::Classes,
            (Self::BinaryCrossEntropy { .. }, _) => Reading::Binary,
            _ => Reading::Values,
        }
    }

    /// The prediction of one target as a value, from all outputs of a row; `width` is the number of targets.
    pub(crate) fn point(&self, z: &[f32], target: usize, width: usize) -> f64 {
        match self {
            Self::Poisson { log_input: true } => libm::exp(f64::from(z[target])),
            Self::Quantile { quantiles } => {
                // The quantile nearest to the median; the lower of two.
                let middle = (0..quantiles.len()).fold(0, |best, at| {
                    if (quantiles[at] - 0.5).abs() < (quantiles[best] - 0.5).abs() {
                        at
                    } else {
                        best
                    }
                });
                f64::from(z[target * (z.len() / width.max(1)) + middle])
            }
            _ => f64::from(z[target]),
        }
    }
}

impl ClassWeights {
    /// One factor a class.
    ///
    /// # Errors
    /// When there is not one number for each class, or a class to be balanced has no rows, in words.
    pub(crate) fn resolve(&self, targets: &Targets) -> Result<Vec<f64>, String> {
        let classes = targets.outputs();
        match self {
            Self::Given(weights) if weights.len() == classes => Ok(weights.clone()),
            Self::Given(weights) => Err(format!(
                "`class_weights` has {} numbers, the data has {classes} classes",
                weights.len()
            )),
            Self::Balanced => {
                let Targets::Classes { labels, .. } = targets else {
                    return Err(
                        "`class_weights` can be `balanced` for classes only, the targets are probabilities".into(),
                    );
                };
                let mut counts = vec![0_usize; classes];
                for label in labels {
                    counts[*label as usize] += 1;
                }
                // A class without rows has no term that its weight could multiply.
                Ok(counts
                    .iter()
                    .map(|count| labels.len() as f64 / (classes as f64 * (*count).max(1) as f64))
                    .collect())
            }
        }
    }
}
