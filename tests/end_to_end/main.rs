//! The three programs together, as a user runs them.

mod examples;
mod kill;
mod programs;
