//! What people and programs get to see.

mod escape;

pub(crate) use escape::escape;
