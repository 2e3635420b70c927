//! Tasks of PanDA: the parameters that its server takes, from the options of a task.

mod command;
mod parameters;

pub(crate) use parameters::{Inputs, archive_name, task_parameters};
