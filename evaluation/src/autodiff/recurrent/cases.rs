//! What the rules of recurrent layers are checked on.

use crate::autodiff::conformance::Case;
use crate::graph::{Elements, Tensor, attribute};

pub(in crate::autodiff) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (operator, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let layer = |directions: usize, direction: &str| {
            Case::new(operator)
                .input([2, 2, 2], -1.0..1.0)
                .input([directions, gates * 2, 2], -1.0..1.0)
                .input([directions, gates * 2, 2], -1.0..1.0)
                .attribute(attribute::int("hidden_size", 2))
                .attribute(attribute::string("direction", direction))
        };
        let outputs = if operator == "LSTM" { 3 } else { 2 };
        let state = |case: Case, directions: usize| {
            let case = case.input([directions, 2, 2], -1.0..1.0);
            if operator == "LSTM" {
                case.input([directions, 2, 2], -1.0..1.0)
            } else {
                case
            }
        };
        let lengths = Tensor::new([2], Elements::I32(vec![2, 1]));
        cases.push(layer(1, "forward").outputs(1));
        cases.push(layer(1, "reverse").input([1, gates * 4], -1.0..1.0).outputs(outputs));
        for (directions, direction) in [(1, "forward"), (2, "bidirectional")] {
            let biased = layer(directions, direction).input([directions, gates * 4], -1.0..1.0);
            cases.push(state(biased.clone().absent(), directions).outputs(outputs));
            cases.push(state(biased.constant(lengths.clone()), directions).outputs(outputs));
        }
    }
    let gru = || {
        Case::new("GRU")
            .input([3, 2, 2], -1.0..1.0)
            .input([1, 6, 2], -1.0..1.0)
            .input([1, 6, 2], -1.0..1.0)
            .attribute(attribute::int("hidden_size", 2))
            .attribute(attribute::int("linear_before_reset", 1))
    };
    cases.push(gru().outputs(2));
    cases.push(
        gru()
            .input([1, 12], -1.0..1.0)
            .absent()
            .input([1, 2, 2], -1.0..1.0)
            .outputs(2),
    );
    cases.push(
        Case::new("LSTM")
            .input([2, 2, 2], -1.0..1.0)
            .input([1, 8, 2], -1.0..1.0)
            .input([1, 8, 2], -1.0..1.0)
            .input([1, 16], -1.0..1.0)
            .absent()
            .input([1, 2, 2], -1.0..1.0)
            .input([1, 2, 2], -1.0..1.0)
            .input([1, 6], -1.0..1.0)
            .attribute(attribute::int("hidden_size", 2))
            .outputs(3),
    );
    cases.push(
        Case::new("RNN")
            .input([3, 2, 2], 0.1..1.0)
            .input([1, 2, 2], 0.1..1.0)
            .input([1, 2, 2], 0.1..1.0)
            .attribute(attribute::int("hidden_size", 2))
            .attribute(attribute::strings("activations", &["Relu"]))
            .outputs(2),
    );
    cases
}
