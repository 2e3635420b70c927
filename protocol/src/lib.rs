//! The files that cross a border between `steering`, `evaluation`, the workflow manager and the programs of others.
//!
//! Each module is one file format: its types, its limits, its errors, and nothing else. A type here is a promise: before one
//! changes, old and new readers, writers and data are checked against each other.
//!
//! | module | file | written by | read by |
//! | --- | --- | --- | --- |
//! | [`search_space`] | `search_space.json`, `opt_space` | users | `steering`, `hpo` |
//! | [`steering`] | `%IN`, `%OUT` | `hpo` or iDDS; `steering` | `steering`; `hpo` or iDDS |
//! | [`earlier`] | `results.json`, histories of earlier tasks | `hpo` | `steering`, `hpo` |
//! | [`point`] | `input.json` | `hpo` or the PanDA job wrapper | `evaluation` |
//! | [`training_data`] | `input_ds.json` | the same | `evaluation` |
//! | [`loss_document`] | `output.json` | `evaluation` or any payload | `hpo` or the wrapper |
//! | [`task_options`] | `task.json`, phpo configurations | users | `hpo` |
//! | [`segments`] | segment specification | users | `hpo` |
//! | [`report`] | live reports and decisions | `evaluation`; `hpo` | `hpo`; `evaluation` |
//!
//! All of them are read through [`json`], which is strict (duplicate keys, depth, size, UTF-8) and lenient only where real
//! writers are known to be sloppy: the tokens `NaN` and `Infinity` in losses, and comments and trailing commas in task files.

pub mod earlier;
pub mod environment;
pub mod error;
pub mod exit;
pub mod json;
pub mod limits;
pub mod loss_document;
pub mod point;
pub mod report;
pub mod search_space;
pub mod segments;
pub mod steering;
pub mod task_options;
pub mod training_data;
pub mod units;

pub use error::{DocumentError, Problem};
pub use point::{EvaluationInput, Loss, Outcome, Point, PointValue, SegmentId};
