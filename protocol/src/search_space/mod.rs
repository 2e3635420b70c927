//! Search spaces: the named axes of a search and what may stand on them.
//!
//! Three formats are read, and told apart by their shape:
//!
//! * ours, a superset of hpogrid's: `{name: {"method": M, "dimension": {…}, "if": {parent: [values]}}}`;
//! * iDDS's predefined `nevergrad`: `{name: {"type": T, "params": {…}, "bounds": [low, high]}}` ([`predefined`]);
//! * iDDS's predefined `bayesian`: `{name: [low, high]}`.
//!
//! | method | keys of `dimension` (optional ones in brackets) | values |
//! | --- | --- | --- |
//! | `categorical` | `categories`, \[`grid_search`\] | one of the list; a repeated category has that weight |
//! | `uniform` | `low`, `high`, \[`levels`\] | real in \[low, high\] |
//! | `uniformint` | `low`, `high`, \[`levels`\] | integer, both ends included |
//! | `quniform` | `low`, `high`, `q`, \[`levels`\] | multiple of `q` |
//! | `loguniform`, `loguniformint`, `qloguniform` | as above, \[`base`\] | as above, uniform in the logarithm; `low` > 0 |
//! | `normal`, `qnormal` | `mu`, `sigma`, (`q`) | normal; standard deviation `sigma` > 0 |
//! | `lognormal`, `qlognormal` | `mu`, `sigma`, (`q`), \[`base`\] | the exponential of a normal |
//! | `fixed` | `value` | that value |
//!
//! `low` and `high` are the bounds themselves, never exponents; `base` is accepted and has no effect on a bounded dimension.
//! `levels` are the values that a grid takes: a list, or a number of equal steps. `if` makes a dimension conditional: it is
//! active, and part of a point, only when every named parent is active and has one of the listed values.

mod parse;
pub mod predefined;

use std::path::Path;

use serde_json::Value;

use crate::error::{DocumentError, Problem};
use crate::json::{self, Dialect};
use crate::limits;
use crate::point::SegmentId;

/// What may stand on one axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// One of a list; equal entries add up to a weight.
    Categorical {
        /// At least one value, JSON types kept.
        categories: Vec<Value>,
        /// hpogrid's wish to have this axis gridded.
        grid_search: bool,
    },
    /// A bounded number.
    Range(Range),
    /// A number with a normal prior, or the exponential of one.
    Normal {
        /// Mean (of the logarithm when `log`).
        mu: f64,
        /// Standard deviation (of the logarithm when `log`), positive.
        sigma: f64,
        /// Values are rounded to multiples of this positive step.
        step: Option<f64>,
        /// Whether the value is the exponential.
        log: bool,
        /// Base of that exponential, e unless given.
        base: f64,
    },
    /// A constant.
    Fixed {
        /// The value.
        value: Value,
    },
}

/// A bounded number, `low <= high`.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Smallest value.
    pub low: f64,
    /// Largest value.
    pub high: f64,
    /// What values there are in between.
    pub kind: RangeKind,
    /// Whether values are uniform in the logarithm; then `low` > 0.
    pub log: bool,
    /// The values that a grid takes.
    pub levels: Option<Levels>,
}

/// The values of a [`Range`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RangeKind {
    /// Every real number.
    Real,
    /// Integers, both bounds included, magnitude at most 2^53.
    Integer,
    /// Multiples of a positive step, clamped to the bounds.
    Step(f64),
}

/// The values that a grid takes on a range.
#[derive(Debug, Clone, PartialEq)]
pub enum Levels {
    /// So many, in equal steps of the (logarithmic) axis, at least 1.
    Count(u32),
    /// These, within the bounds.
    Values(Vec<f64>),
}

/// A dimension is active only when `parent` is active and has one of `values`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Name of another dimension.
    pub parent: String,
    /// At least one value.
    pub values: Vec<Value>,
}

/// One named axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Dimension {
    /// The hyperparameter.
    pub name: String,
    /// What may stand on the axis.
    pub domain: Domain,
    /// All must hold for the dimension to be active; no cycles.
    pub conditions: Vec<Condition>,
}

/// The search space of one segment: dimensions in the order of the file, names distinct, parents anywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    /// At least one dimension.
    pub dimensions: Vec<Dimension>,
}

/// A search space document: one space, or one a segment.
#[derive(Debug, Clone, PartialEq)]
pub enum SpaceDocument {
    /// One space.
    Single(SearchSpace),
    /// `[{"model_id": 0, "search_space": {…}}, …]`, ids distinct.
    Segmented(Vec<(SegmentId, SearchSpace)>),
}

impl SearchSpace {
    /// Checks a space in any of the three formats.
    ///
    /// # Errors
    /// All faults at once, with pointers.
    pub fn from_value(value: &Value) -> Result<Self, Vec<Problem>> {
        parse::space(value)
    }

    /// The dimension called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Dimension> {
        self.dimensions.iter().find(|dimension| dimension.name == name)
    }
}

/// The JSON Schema (draft 2020-12) of search spaces, for editors. What it refuses is refused by [`SpaceDocument::from_value`]; that
/// bounds are in order and that conditions name what exists is beyond it.
pub const SCHEMA: &str = include_str!("schema.json");

impl SpaceDocument {
    /// Checks a document.
    ///
    /// # Errors
    /// All faults at once, with pointers.
    pub fn from_value(value: &Value) -> Result<Self, Vec<Problem>> {
        match value {
            Value::Array(_) => parse::segmented(value).map(Self::Segmented),
            _ => parse::space(value).map(Self::Single),
        }
    }

    /// Reads a search space file. Comments and trailing commas are accepted.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        const WHAT: &str = "search space";
        let value = json::read(WHAT, path, limits::DOCUMENT_BYTES, Dialect::Commented)?;
        Self::from_value(&value).map_err(|problems| DocumentError::invalid(WHAT, path, problems))
    }

    /// The space of a segment, or the single space.
    #[must_use]
    pub fn space(&self, segment: Option<SegmentId>) -> Option<&SearchSpace> {
        match (self, segment) {
            (Self::Single(space), _) => Some(space),
            (Self::Segmented(spaces), Some(id)) => {
                spaces.iter().find(|(other, _)| *other == id).map(|(_, space)| space)
            }
            (Self::Segmented(_), None) => None,
        }
    }

    /// The ids of the segments, in the order of the document; empty for a single space.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentId> {
        match self {
            Self::Single(_) => Vec::new(),
            Self::Segmented(spaces) => spaces.iter().map(|(id, _)| *id).collect(),
        }
    }
}
