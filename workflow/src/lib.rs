//! The workflow manager: it runs steering and evaluations, keeps the journal, and reports.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cli`] | the command line of `hpo`; the only public entry |
//! | `coordinator` | the loop that connects steering, the journal and a backend; the scheduling rule as pure functions |
//! | `state` | the state of a task as a function of its journal |
//! | `journal` | the append-only truth and its single writer |
//! | `backend` | where attempts run: as local processes, as jobs of Slurm |
//! | `runner` | the process that carries out one attempt and outlives the manager |
//! | `checkpoint` | what a retry finds of the attempt before |
//! | `task` | the task directory, options, placeholders, sandbox, containers, training files |
//! | `import` | what other tools have left, read as a search with its points |
//! | `panda` | the parameters of a task of PanDA |
//! | `report` | tables, JSON and progress |
//! | `host` | who is who among processes |
//! | `files` | files that must be whole or absent, and files written by strangers |
//!
//! `cli` knows `coordinator`, which knows the rest; `state` and `journal` know none of the others. The programs `steering`
//! and `evaluation` are commands like any other; of the library `steering`, the check of search spaces is used, and
//! the pure rules by which running evaluations are judged.

mod backend;
mod checkpoint;
pub mod cli;
mod coordinator;
#[cfg(test)]
mod draws;
mod files;
#[cfg(test)]
mod fuzzing;
mod host;
mod import;
mod journal;
mod panda;
mod report;
mod runner;
mod state;
mod task;
