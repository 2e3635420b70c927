//! Numbers by which a model is judged.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A number computed over the whole validation set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "Cow<'static, str>")]
pub enum Metric {
    /// The training loss function, without regularisation.
    Loss,
    /// Share of rows whose class is predicted.
    Accuracy,
    /// One minus the accuracy.
    Error,
    /// Share of rows whose class is among this many that are predicted as most probable, at least 1.
    Top(usize),
    /// Area under the ROC curve; mean over the classes, each against all others, or over the targets.
    Auc,
    /// Mean squared error.
    Mse,
    /// Square root of the mean squared error.
    Rmse,
    /// Mean absolute error.
    Mae,
    /// Coefficient of determination, mean over the targets.
    R2,
    /// The relative error `|z - t| / |t|` that so many percent of the numbers do not exceed, 1 to 100; targets that
    /// are zero are left out.
    RelativeError(u8),
}

impl Metric {
    /// Metrics without a number in the name.
    const PLAIN: [Self; 8] = [
        Self::Loss,
        Self::Accuracy,
        Self::Error,
        Self::Auc,
        Self::Mse,
        Self::Rmse,
        Self::Mae,
        Self::R2,
    ];

    /// What names look like, for messages.
    pub const NAMES: &'static [&'static str] = &[
        "loss",
        "accuracy",
        "error",
        "top_5",
        "auc",
        "mse",
        "rmse",
        "mae",
        "r2",
        "relative_error_95",
    ];

    /// The name in model files and reports.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Loss => "loss",
            Self::Accuracy => "accuracy",
            Self::Error => "error",
            Self::Auc => "auc",
            Self::Mse => "mse",
            Self::Rmse => "rmse",
            Self::Mae => "mae",
            Self::R2 => "r2",
            Self::Top(count) => return Cow::Owned(format!("top_{count}")),
            Self::RelativeError(percent) => return Cow::Owned(format!("relative_error_{percent}")),
        })
    }

    /// The name of its series of values, beside those of the training.
    #[must_use]
    pub fn series(self) -> Cow<'static, str> {
        match self {
            Self::Loss => Cow::Borrowed("validation_loss"),
            _ => self.name(),
        }
    }

    /// The metric of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let number = |prefix: &str| name.strip_prefix(prefix)?.parse::<usize>().ok();
        if let Some(count) = number("top_") {
            return (count >= 1).then_some(Self::Top(count));
        }
        if let Some(percent) = number("relative_error_") {
            return u8::try_from(percent)
                .ok()
                .filter(|percent| (1..=100).contains(percent))
                .map(Self::RelativeError);
        }
        Self::PLAIN.into_iter().find(|metric| metric.name() == name)
    }

    /// The direction that people mean when they name this metric.
    #[must_use]
    pub fn is_better_when_greater(self) -> bool {
        matches!(self, Self::Accuracy | Self::Top(_) | Self::Auc | Self::R2)
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).ok_or_else(|| format!("there is no metric `{name}`"))
    }
}

impl From<Metric> for Cow<'static, str> {
    fn from(metric: Metric) -> Self {
        metric.name()
    }
}

/// The metrics of one validation pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics(pub Vec<(Metric, f64)>);

impl Metrics {
    /// The value of one metric.
    ///
    /// # Panics
    /// When the metric was not computed; plans are checked for that before training.
    #[must_use]
    pub fn get(&self, metric: Metric) -> f64 {
        self.0
            .iter()
            .find(|(name, _)| *name == metric)
            .map(|(_, value)| *value)
            .expect("the plan's objective was checked against the targets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_the_metric_that_has_it() {
        for name in Metric::NAMES {
            assert_eq!(Metric::parse(name).unwrap().name(), *name);
        }
        for name in ["top_0", "top_", "relative_error_0", "relative_error_101", "Loss", ""] {
            assert_eq!(Metric::parse(name), None, "{name}");
        }
    }
}
