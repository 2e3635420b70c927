//! What people and programs get to see.

mod escape;
mod front;
mod progress;
mod results;
mod table;

pub(crate) use escape::{escape, escape_lines};
pub(crate) use front::{fronts, objectives};
pub(crate) use progress::{Lines, Live};
pub(crate) use results::{point_json, results, show};
pub(crate) use table::{number, seconds, table, width};
