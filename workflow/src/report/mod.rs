//! What people and programs get to see.

mod escape;
mod front;
mod lineage;
mod progress;
mod results;
mod table;
mod two_step;

pub(crate) use escape::{escape, escape_lines};
pub(crate) use front::{fronts, objectives};
pub(crate) use lineage::Lineage;
pub(crate) use progress::{Lines, Live, last_report, sentence};
pub(crate) use results::{point_json, show, write_results};
pub(crate) use table::{number, seconds, table, width};
pub(crate) use two_step::{two_step_json, two_step_text};
