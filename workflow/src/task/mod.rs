//! A task: what the user submitted, frozen, and the directory that holds all of it.

mod container;
mod create;
mod directory;
mod placeholders;
mod placement;
mod sandbox;
mod schedule;
mod settings;
mod shares;
mod training;

pub(crate) use container::{Containers, Surroundings, Wrapped, container_name, container_runtimes, installed};
pub(crate) use create::{Sources, Task, TaskError, prepare};
pub(crate) use directory::{MANAGER_LOG, Request, TaskDirectory};
pub(crate) use placeholders::Placeholders;
pub(crate) use placement::{Jobs, Manner, Placement, time_limit};
pub(crate) use sandbox::{SandboxFile, collect as collect_sandbox, copy as sandbox_copy};
pub(crate) use settings::{Settings, with_defaults};
pub(crate) use shares::{Shares, gpus};
pub(crate) use training::{name_of as link_name, share_of};
