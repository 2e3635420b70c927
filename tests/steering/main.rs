//! Black-box tests of the program `steering`, and the conformance suite that every sampler passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bad_input;
mod command_line;
mod conformance;
mod explain_and_verify;
mod golden;
mod messages;
mod objectives;
mod schedulers;
mod search_spaces;
mod support;
mod transfer;
