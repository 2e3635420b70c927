//! `hpo` as a user runs it, with shell scripts as steering and evaluation.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod checkpoints;
mod commands;
mod control;
mod faults;
mod hostile;
mod import;
mod kill;
mod knowledge;
mod limits;
mod payloads;
mod processes;
mod repair;
mod search;
mod segments;
mod slurm;
mod task;
