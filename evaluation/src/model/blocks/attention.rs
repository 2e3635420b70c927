//! Attention, written out in products that can be differentiated.

use super::{Writer, Written};
use crate::graph::{Tensor, attribute};
use crate::model::Block;

impl Writer {
    /// `softmax(Q Kᵀ/√d) V` for each head, with `Q`, `K` and `V` from one product with the input.
    pub(super) fn attention(&mut self, name: &str, heads: usize, dropout: f64, causal: bool) -> Written {
        let [length, features] = self.sequence()?;
        if !features.is_multiple_of(heads) {
            return Err(format!("`heads` ({heads}) must divide the features ({features})"));
        }
        let size = features / heads;
        self.project(&format!("{name}.input"), 3 * features, true);
        // All three turn by head at once: taken apart afterwards, their parts lie together in memory.
        let shape = vec![0, length as i64, 3, heads as i64, size as i64];
        let shape = self.constant(format!("{name}.heads"), Tensor::ints(shape));
        let combined = self.current.clone();
        let apart = self.apply(&format!("{name}.apart"), "Reshape", &[&combined, &shape], Vec::new());
        let order = vec![attribute::ints("perm", &[2, 0, 3, 1, 4])];
        let by_head = self.apply(&format!("{name}.by_head"), "Transpose", &[&apart], order);
        let thirds = self.constant(format!("{name}.thirds"), Tensor::ints(vec![1; 3]));
        let parts = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        self.apply(
            &format!("{name}.split"),
            "Split",
            &[&by_head, &thirds],
            vec![attribute::int("axis", 0)],
        );
        let split = self.graph.nodes.last_mut().expect("the node was just written");
        split.outputs = parts.to_vec();
        let first = self.constant(format!("{name}.first"), Tensor::ints(vec![0]));
        let [query, key, value] =
            parts.map(|part| self.apply(&format!("{part}.alone"), "Squeeze", &[&part, &first], Vec::new()));
        let turned = vec![attribute::ints("perm", &[0, 1, 3, 2])];
        let key = self.apply(&format!("{name}.key.turned"), "Transpose", &[&key], turned);
        let scale = Tensor::f32([], vec![(1.0 / (size as f64).sqrt()) as f32]);
        let scale = self.constant(format!("{name}.scale"), scale);
        let query = self.apply(&format!("{name}.scaled"), "Mul", &[&query, &scale], Vec::new());
        self.current = self.apply(&format!("{name}.scores"), "MatMul", &[&query, &key], Vec::new());
        if causal {
            self.mask(name, length);
        }
        self.node(
            &format!("{name}.weights"),
            "Softmax",
            &[],
            vec![attribute::int("axis", -1)],
        );
        self.dropout(&format!("{name}.dropout"), dropout);
        self.node(&format!("{name}.mixed"), "MatMul", &[&value], Vec::new());
        let rows = vec![attribute::ints("perm", &[0, 2, 1, 3])];
        self.node(&format!("{name}.by_position"), "Transpose", &[], rows);
        self.reshaped(&format!("{name}.join"), &[length, features]);
        self.project(&format!("{name}.output"), features, true);
        Ok(())
    }

    /// Makes the scores of later positions vanish. The mask is computed from scalars: a matrix in the file would be taken
    /// for a weight.
    fn mask(&mut self, name: &str, length: usize) {
        let shape = self.constant(format!("{name}.mask.shape"), Tensor::ints(vec![length as i64; 2]));
        let low = self.constant(format!("{name}.mask.low"), Tensor::f32([], vec![-1e9]));
        let one = self.constant(
            format!("{name}.mask.first"),
            Tensor::new([], crate::graph::Elements::I64(vec![1])),
        );
        let full = self.apply(&format!("{name}.mask.full"), "Expand", &[&low, &shape], Vec::new());
        let mask = self.apply(
            &format!("{name}.mask"),
            "Trilu",
            &[&full, &one],
            vec![attribute::int("upper", 1)],
        );
        self.node(&format!("{name}.masked"), "Add", &[&mask], Vec::new());
    }

    pub(super) fn transformer(&mut self, name: &str, block: &Block) -> Written {
        let Block::Transformer {
            heads,
            feed_forward,
            dropout,
            activation,
            norm_first,
            causal,
        } = *block
        else {
            unreachable!("it is called for transformers only")
        };
        let [_, features] = self.sequence()?;
        let mut part = |part: &str, write: &mut dyn FnMut(&mut Self, &str) -> Written| -> Written {
            let before = self.current.clone();
            let norm = format!("{name}.{part}_norm");
            if norm_first {
                self.layer_norm(&norm, 1e-5);
            }
            write(self, &format!("{name}.{part}"))?;
            self.dropout(&format!("{name}.{part}_dropout"), dropout);
            self.node(&format!("{name}.{part}_sum"), "Add", &[&before], Vec::new());
            if !norm_first {
                self.layer_norm(&norm, 1e-5);
            }
            Ok(())
        };
        part("attention", &mut |writer, name| {
            writer.attention(name, heads, dropout, causal)
        })?;
        part("feed_forward", &mut |writer, name| {
            writer.dense(&format!("{name}.in"), feed_forward, true, true);
            writer.activation(&format!("{name}.in"), activation);
            writer.dropout(&format!("{name}.dropout"), dropout);
            writer.dense(&format!("{name}.out"), features, true, true);
            Ok(())
        })
    }
}
