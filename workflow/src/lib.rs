//! The workflow manager: it runs steering and evaluations, keeps the journal, and reports.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cli`] | the command line of `hpo`; the only public entry |
//! | `coordinator` | the loop that connects steering, the journal and a backend; the scheduling rule as pure functions |
//! | `state` | the state of a task as a function of its journal |
//! | `journal` | the append-only truth and its single writer |
//! | `backend` | where attempts run; local processes |
//! | `runner` | the process that carries out one attempt and outlives the manager |
//! | `checkpoint` | what a retry finds of the attempt before |
//! | `task` | the task directory, options, placeholders, sandbox, training files |
//! | `report` | tables, JSON and progress |
//!
//! Arrows point downwards in this list, and never to the programs `steering` and `evaluation`, which are commands like
//! any other.

mod files;
mod host;
mod journal;
mod state;

mod backend;
mod checkpoint;
pub mod cli;
mod coordinator;
mod report;
mod runner;
mod task;
