//! Black-box tests of the program `evaluation`.
//!
//! They train through ONNX Runtime, found as users' runs find it: the first run on a fresh machine may fetch it with pip.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bad_input;
mod commands;
mod engines;
mod fetching;
mod formats;
mod manager;
mod outputs;
mod resuming;
mod streaming;
mod support;
