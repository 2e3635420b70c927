//! The program `hpo`.
fn main() {}
