//! Recurrent layers.

use super::{Start, Writer, Written};
use crate::graph::attribute;
use crate::model::Cell;

impl Writer {
    /// One node over the whole sequence, with all weights uniform in plus and minus the inverse root of `units`, as in
    /// PyTorch.
    pub(super) fn recurrent(
        &mut self,
        name: &str,
        cell: Cell,
        units: usize,
        bidirectional: bool,
        sequence: bool,
    ) -> Written {
        let [length, features] = self.sequence()?;
        let directions = if bidirectional { 2 } else { 1 };
        let (operator, gates) = match cell {
            Cell::Lstm => ("LSTM", 4),
            Cell::Gru => ("GRU", 3),
            Cell::Rnn => ("RNN", 1),
        };
        let start = Start::Uniform(1.0 / (units as f64).sqrt());
        let weight = self.weight(&format!("{name}.weight"), &[directions, gates * units, features], start);
        let state = self.weight(
            &format!("{name}.recurrence"),
            &[directions, gates * units, units],
            start,
        );
        let bias = self.weight(&format!("{name}.bias"), &[directions, 2 * gates * units], start);
        let mut attributes = vec![attribute::int("hidden_size", units as i64)];
        if bidirectional {
            attributes.push(attribute::string("direction", "bidirectional"));
        }
        if cell == Cell::Gru {
            attributes.push(attribute::int("linear_before_reset", 1));
        }
        let time_first = vec![attribute::ints("perm", &[1, 0, 2])];
        self.node(&format!("{name}.time_first"), "Transpose", &[], time_first);
        self.node(name, operator, &[&weight, &state, &bias], attributes);
        if sequence {
            // From time, direction, row, unit.
            let rows_first = vec![attribute::ints("perm", &[2, 0, 1, 3])];
            self.node(&format!("{name}.rows_first"), "Transpose", &[], rows_first);
            self.reshaped(&format!("{name}.join"), &[length, directions * units]);
            return Ok(());
        }
        // The last state of each direction: the second output.
        let last = format!("{name}.state");
        let node = self.graph.nodes.last_mut().expect("the node was just written");
        node.outputs = vec![String::new(), last.clone()];
        self.current = last;
        let rows_first = vec![attribute::ints("perm", &[1, 0, 2])];
        self.node(&format!("{name}.rows_first"), "Transpose", &[], rows_first);
        self.reshaped(&format!("{name}.join"), &[directions * units]);
        Ok(())
    }
}
