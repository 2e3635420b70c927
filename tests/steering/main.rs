//! Black-box tests of the program `steering`, and the conformance suite that every sampler passes.

mod command_line;
mod conformance;
mod golden;
mod messages;
mod search_spaces;
mod support;
