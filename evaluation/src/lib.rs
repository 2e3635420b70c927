//! Table of contents.

pub mod dataset;
