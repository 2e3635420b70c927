//! Columns as they come from files, before anything is chosen, split or scaled.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::DatasetError;

/// The values of one column, row after row, in the narrowest type that keeps them exactly.
///
/// A missing number is a NaN, a missing text is empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// Unsigned integers of 8 bits, such as images have, and booleans.
    Bytes(Vec<u8>),
    /// Half and single precision, other integers of at most 16 bits.
    Singles(Vec<f32>),
    /// Double precision and integers beyond 63 bits.
    Doubles(Vec<f64>),
    /// Integers of 32 and 64 bits.
    Integers(Vec<i64>),
    /// Strings.
    Texts(Vec<String>),
}

impl Values {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Singles(values) => values.len(),
            Self::Doubles(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    /// The number at `index`; a NaN for a text.
    pub(crate) fn number(&self, index: usize) -> f64 {
        match self {
            Self::Bytes(values) => f64::from(values[index]),
            Self::Singles(values) => f64::from(values[index]),
            Self::Doubles(values) => values[index],
            Self::Integers(values) => values[index] as f64,
            Self::Texts(_) => f64::NAN,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes",
            Self::Singles(_) | Self::Doubles(_) => "numbers",
            Self::Integers(_) => "integers",
            Self::Texts(_) => "text",
        }
    }

    /// Appends, widening where the two types differ; `None` when one is text and the other is not.
    #[must_use]
    pub(crate) fn concatenated(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Bytes(mut a), Self::Bytes(b)) => {
                a.extend(b);
                Self::Bytes(a)
            }
            (Self::Singles(mut a), Self::Singles(b)) => {
                a.extend(b);
                Self::Singles(a)
            }
            (Self::Integers(mut a), Self::Integers(b)) => {
                a.extend(b);
                Self::Integers(a)
            }
            (Self::Texts(mut a), Self::Texts(b)) => {
                a.extend(b);
                Self::Texts(a)
            }
            (Self::Texts(_), _) | (_, Self::Texts(_)) => return None,
            (a, b) => {
                let mut all = a.into_doubles();
                all.extend(b.into_doubles());
                Self::Doubles(all)
            }
        })
    }

    fn into_doubles(self) -> Vec<f64> {
        match self {
            Self::Bytes(values) => values.into_iter().map(f64::from).collect(),
            Self::Singles(values) => values.into_iter().map(f64::from).collect(),
            Self::Doubles(values) => values,
            Self::Integers(values) => values.into_iter().map(|value| value as f64).collect(),
            Self::Texts(_) => unreachable!("texts are never widened to numbers"),
        }
    }

    /// A copy of the values in `range`.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Bytes(values) => Self::Bytes(values[range].to_vec()),
            Self::Singles(values) => Self::Singles(values[range].to_vec()),
            Self::Doubles(values) => Self::Doubles(values[range].to_vec()),
            Self::Integers(values) => Self::Integers(values[range].to_vec()),
            Self::Texts(values) => Self::Texts(values[range].to_vec()),
        }
    }

    /// Keeps the first `count` values.
    pub(crate) fn truncate(&mut self, count: usize) {
        match self {
            Self::Bytes(values) => values.truncate(count),
            Self::Singles(values) => values.truncate(count),
            Self::Doubles(values) => values.truncate(count),
            Self::Integers(values) => values.truncate(count),
            Self::Texts(values) => values.truncate(count),
        }
    }
}

/// A named column; every row has the same shape, empty for a plain value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) row_shape: Vec<usize>,
    pub(crate) values: Values,
}

impl Column {
    /// Values per row.
    pub(crate) fn width(&self) -> usize {
        self.row_shape.iter().product()
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len().checked_div(self.width()).unwrap_or(0)
    }

    /// A copy of the rows in `range`.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let width = self.width();
        Self {
            name: self.name.clone(),
            row_shape: self.row_shape.clone(),
            values: self.values.slice(range.start * width..range.end * width),
        }
    }

    /// Values that are missing or not finite.
    pub(crate) fn missing(&self) -> usize {
        match &self.values {
            Values::Texts(texts) => texts.iter().filter(|text| text.is_empty()).count(),
            values => (0..values.len())
                .filter(|index| !values.number(*index).is_finite())
                .count(),
        }
    }

    /// `numbers of shape 8 x 8`, for messages and summaries.
    pub(crate) fn describe(&self) -> String {
        if self.row_shape.is_empty() {
            self.values.kind().to_owned()
        } else {
            format!("{} of shape {}", self.values.kind(), shape_text(&self.row_shape))
        }
    }
}

/// `8 x 8`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// A file and how many rows came from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) rows: usize,
}

/// Columns of equal length, concatenated from one or more files.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) sources: Vec<Source>,
    pub(crate) columns: Vec<Column>,
}

impl Table {
    pub(crate) fn rows(&self) -> usize {
        self.sources.iter().map(|source| source.rows).sum()
    }

    /// The file of a row, and the row in that file counted from 1.
    pub(crate) fn place(&self, row: usize) -> (&Path, usize) {
        let mut before = 0;
        for source in &self.sources {
            if row < before + source.rows {
                return (&source.path, row - before + 1);
            }
            before += source.rows;
        }
        panic!("row {row} of a table with {} rows", self.rows());
    }

    /// Index of the file that each row came from.
    pub(crate) fn file_of_rows(&self) -> Vec<usize> {
        self.sources
            .iter()
            .enumerate()
            .flat_map(|(index, source)| std::iter::repeat_n(index, source.rows))
            .collect()
    }

    /// Appends the rows of `other`, whose columns must be the same in the same order.
    pub(crate) fn append(&mut self, other: Self) -> Result<(), DatasetError> {
        let first = self.sources[0].path.clone();
        let path = other.sources[0].path.clone();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (ours, theirs) in std::mem::take(&mut self.columns).into_iter().zip(other.columns) {
            let (expected, found) = (ours.describe(), theirs.describe());
            let same_shape = ours.row_shape == theirs.row_shape;
            let values = if same_shape {
                ours.values.concatenated(theirs.values)
            } else {
                None
            };
            let Some(values) = values else {
                return Err(DatasetError::Schema {
                    path,
                    column: ours.name,
                    found,
                    first,
                    expected,
                });
            };
            columns.push(Column {
                values,
                name: ours.name,
                row_shape: ours.row_shape,
            });
        }
        self.columns = columns;
        self.sources.extend(other.sources);
        Ok(())
    }

    /// Makes one source of the last two where both are the same file.
    pub(crate) fn merge_last_sources(&mut self) {
        if let [.., before, last] = &mut self.sources[..]
            && before.path == last.path
        {
            before.rows += last.rows;
            self.sources.pop();
        }
    }

    /// Keeps the first `count` rows.
    pub(crate) fn truncate(&mut self, count: usize) {
        for column in &mut self.columns {
            let width = column.width();
            column.values.truncate(count * width);
        }
        let mut left = count;
        for source in &mut self.sources {
            source.rows = source.rows.min(left);
            left -= source.rows;
        }
        self.sources.retain(|source| source.rows > 0);
    }
}
