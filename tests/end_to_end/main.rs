//! The three programs together, as a user runs them.
#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod examples;
mod kill;
mod programs;
mod schedulers;
