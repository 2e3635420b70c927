//! A task: what the user submitted, frozen, and the directory that holds all of it.

mod create;
mod directory;
mod placeholders;
mod sandbox;
mod schedule;
mod settings;
mod training;

pub(crate) use create::{Sources, Task, TaskError, prepare};
pub(crate) use directory::TaskDirectory;
pub(crate) use placeholders::Placeholders;
pub(crate) use sandbox::{SandboxFile, copy as sandbox_copy};
pub(crate) use settings::{Settings, with_defaults};
pub(crate) use training::name_of as link_name;
