//! Rows of data in the form that training takes.

use std::fmt::Debug;
use std::sync::Arc;

/// A set of rows: the training set or the validation set.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Shape of one row, without the row axis: `[64]` for 64 columns, `[1, 8, 8]` for a one-channel image.
    pub row_shape: Vec<usize>,
    /// What the model sees.
    pub inputs: Inputs,
    /// What the model shall predict, one entry per row.
    pub targets: Targets,
    /// How much each row counts in the loss and in every metric, at least 0; none is 1 each.
    pub weights: Option<Vec<f32>>,
}

/// The inputs of a set of rows; a row has as many numbers as its shape, in C order.
#[derive(Debug, Clone)]
pub enum Inputs {
    /// All rows, one after the other; they go to the device once and batches are gathered there.
    Resident(Vec<f32>),
    /// Batches are made while the device works on those before them: what does not fit into memory, or differs from one
    /// pass over the data to the next.
    Fed(Arc<dyn RowSource>),
}

/// Makes batches of inputs.
pub trait RowSource: Debug + Send + Sync {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Writes the inputs of `rows`, in that order, to `out`, which has room for exactly these. `pass` counts passes over
    /// the data from 0. Equal arguments give equal numbers, in whatever order calls are made.
    ///
    /// # Errors
    /// When rows cannot be read; the message names the file.
    fn fill(&self, rows: &[i64], pass: u64, out: &mut [f32]) -> Result<(), String>;

    /// Differs between sources that give different numbers.
    fn digest(&self) -> [u8; 32];
}

impl Inputs {
    /// All numbers where they are in memory.
    #[must_use]
    pub fn resident(&self) -> Option<&[f32]> {
        match self {
            Self::Resident(values) => Some(values),
            Self::Fed(_) => None,
        }
    }

    /// Whether batches are made while training.
    #[must_use]
    pub fn is_fed(&self) -> bool {
        matches!(self, Self::Fed(_))
    }
}

impl From<Vec<f32>> for Inputs {
    fn from(values: Vec<f32>) -> Self {
        Self::Resident(values)
    }
}

impl PartialEq for Inputs {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Resident(ours), Self::Resident(theirs)) => ours == theirs,
            (Self::Fed(ours), Self::Fed(theirs)) => ours.digest() == theirs.digest(),
            _ => false,
        }
    }
}

/// What a model learns to predict.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// One class per row.
    Classes {
        /// The class of each row, `0 ≤ label < classes`.
        labels: Vec<i64>,
        /// Number of classes in the whole data set, at least 2.
        classes: usize,
    },
    /// `width` real numbers per row.
    Values {
        /// Numbers per row, at least 1.
        width: usize,
        /// All targets, row after row.
        values: Vec<f32>,
    },
}

impl Samples {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.targets.rows()
    }

    /// How much a row counts.
    #[must_use]
    pub fn weight(&self, row: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]))
    }

    /// Numbers in one row of the inputs.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.row_shape.iter().product()
    }
}

impl Targets {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Values { width, values } => values.len() / (*width).max(1),
        }
    }

    /// Number of outputs that the model needs: classes, or numbers per row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classes { classes, .. } => *classes,
            Self::Values { width, .. } => *width,
        }
    }
}
