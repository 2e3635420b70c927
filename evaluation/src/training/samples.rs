//! Rows of data in the form that training takes: everything in memory, inputs as `f32`.

/// A set of rows: the training set or the validation set.
///
/// The inputs lie row after row, each row in C order of `row_shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// Shape of one row, without the row axis: `[64]` for 64 columns, `[1, 8, 8]` for a one-channel image.
    pub row_shape: Vec<usize>,
    /// All inputs, `rows() × product(row_shape)` numbers.
    pub inputs: Vec<f32>,
    /// What the model shall predict, one entry per row.
    pub targets: Targets,
    /// How much each row counts in the loss and in every metric, at least 0; none is 1 each.
    pub weights: Option<Vec<f32>>,
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
