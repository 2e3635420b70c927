//! Weights in the order in which the tiles of a correlation read them.

use std::ops::Range;

/// Where the weights of a correlation lie.
#[derive(Debug, Clone)]
pub(super) enum Weights<'a> {
    /// `[outputs, products]`
    Rows { numbers: &'a [f32], products: usize },
    /// `[blocks, outputs, size]`, of which the products are each block's numbers at the `chosen` places.
    Blocks {
        numbers: &'a [f32],
        size: usize,
        chosen: Vec<usize>,
    },
}

/// Numbers that [`Weights::pack`] writes for so many outputs and products, in tiles of `rows`.
pub(super) fn packed(outputs: usize, products: usize, rows: usize) -> usize {
    outputs.next_multiple_of(rows) * products
}

impl Weights<'_> {
    /// Writes some of the products of all outputs as `[tiles, products, R]`, with `R` `rows`. The rows after the last
    /// output are copies of it.
    pub(super) fn pack(&self, outputs: usize, range: Range<usize>, rows: usize, target: &mut [f32]) {
        match rows {
            4 => self.tiles::<4>(outputs, range, target),
            6 => self.tiles::<6>(outputs, range, target),
            8 => self.tiles::<8>(outputs, range, target),
            _ => self.tiles::<12>(outputs, range, target),
        }
    }

    fn tiles<const R: usize>(&self, outputs: usize, range: Range<usize>, target: &mut [f32]) {
        for (tile, target) in target.chunks_exact_mut(range.len() * R).enumerate() {
            let target = target.as_chunks_mut::<R>().0;
            let output: [usize; R] = std::array::from_fn(|r| (tile * R + r).min(outputs - 1));
            match self {
                Self::Rows { numbers, products } => {
                    let rows = output.map(|output| &numbers[output * products..][range.clone()]);
                    for (k, target) in target.iter_mut().enumerate() {
                        for (number, row) in target.iter_mut().zip(&rows) {
                            *number = row[k];
                        }
                    }
                }
                Self::Blocks { numbers, size, chosen } => {
                    let (mut block, mut next) = (range.start / chosen.len(), range.start % chosen.len());
                    for target in target {
                        let numbers = &numbers[block * outputs * size..][..outputs * size];
                        for (number, output) in target.iter_mut().zip(&output) {
                            *number = numbers[output * size + chosen[next]];
                        }
                        next += 1;
                        if next == chosen.len() {
                            (block, next) = (block + 1, 0);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Weights, packed};

    #[test]
    fn both_orders_of_weights_are_packed_alike_in_parts() {
        // Five outputs of seven products, those of the blocks at places 0 and 2 of 3 but for one.
        let (outputs, products) = (5, 8);
        let value = |output: usize, k: usize| (output * 100 + k) as f32;
        let rows: Vec<f32> = (0..outputs)
            .flat_map(|output| (0..products).map(move |k| value(output, k)))
            .collect();
        let blocks: Vec<f32> = (0..products / 2)
            .flat_map(|block| (0..outputs).map(move |output| (block, output)))
            .flat_map(|(block, output)| [value(output, 2 * block), -1.0, value(output, 2 * block + 1)])
            .collect();
        let sources = [
            Weights::Rows {
                numbers: &rows,
                products,
            },
            Weights::Blocks {
                numbers: &blocks,
                size: 3,
                chosen: vec![0, 2],
            },
        ];
        for weights in sources {
            for size in [4, 6, 8, 12] {
                for range in [0..3, 3..8] {
                    let mut target = vec![0.0; packed(outputs, range.len(), size)];
                    weights.pack(outputs, range.clone(), size, &mut target);
                    let tiles = target.chunks_exact(range.len() * size);
                    for (tile, part) in tiles.enumerate() {
                        for (k, row) in range.clone().zip(part.chunks_exact(size)) {
                            for (r, found) in row.iter().enumerate() {
                                let expected = value((tile * size + r).min(outputs - 1), k);
                                assert!((found - expected).abs() < 0.5, "{size} {range:?} {tile} {k} {r}");
                            }
                        }
                    }
                }
            }
        }
    }
}
