//! Means of the forest over all dimensions but one or two.
//!
//! A numeric axis is divided into equal cells, a categorical one into its categories. The mean over a cell and everything else is
//! computed exactly from the boxes of the leaves.

use super::forest::{Axis, Extent, Tree};

/// Cells of a numeric axis.
const CELLS: usize = 64;
/// The same for pairs.
const PAIR_CELLS: usize = 16;

/// The mean in each cell of each axis.
#[derive(Debug)]
pub(super) struct Marginals {
    means: Vec<Vec<f64>>,
    masses: Vec<Vec<f64>>,
    is_numeric: Vec<bool>,
}

impl Marginals {
    /// Of the average of `trees`.
    pub(super) fn new<'a>(trees: impl Iterator<Item = &'a Tree>, axes: &[Axis]) -> Self {
        let masses: Vec<Vec<f64>> = axes.iter().map(|axis| cell_masses(axis, CELLS)).collect();
        let mut means: Vec<Vec<f64>> = masses.iter().map(|masses| vec![0.0; masses.len()]).collect();
        let mut count = 0.0;
        for tree in trees {
            count += 1.0;
            tree.leaves(axes, |extents, value| {
                let parts: Vec<f64> = extents
                    .iter()
                    .zip(axes)
                    .map(|(extent, axis)| extent.mass(axis))
                    .collect();
                for (axis, extent) in extents.iter().enumerate() {
                    // Not a quotient of products: a part may be empty.
                    let others: f64 = parts
                        .iter()
                        .enumerate()
                        .filter(|(other, _)| *other != axis)
                        .map(|(_, part)| part)
                        .product();
                    overlaps(extent, CELLS, |cell, covered| {
                        means[axis][cell] += value * others * covered;
                    });
                }
            });
        }
        for mean in means.iter_mut().flatten() {
            *mean /= count;
        }
        Self {
            means,
            masses,
            is_numeric: axes.iter().map(|axis| matches!(axis, Axis::Numeric)).collect(),
        }
    }

    /// Vⱼ.
    pub(super) fn variance(&self, axis: usize) -> f64 {
        weighted_variance(&self.means[axis], &self.masses[axis])
    }

    /// The cell with the best mean.
    pub(super) fn best(&self, axis: usize) -> usize {
        let means = &self.means[axis];
        (0..means.len())
            .min_by(|a, b| means[*a].total_cmp(&means[*b]))
            .unwrap_or(0)
    }

    /// The centre of a cell of a numeric axis.
    pub(super) fn centre(&self, axis: usize, cell: usize) -> f64 {
        if self.is_numeric[axis] {
            (cell as f64 + 0.5) / CELLS as f64
        } else {
            0.5
        }
    }
}

/// Vⱼₖ − Vⱼ − Vₖ of the average of `trees`, all on the same grid.
pub(super) fn interaction(trees: &[&Tree], axes: &[Axis], first: usize, second: usize) -> f64 {
    let (rows, columns) = (
        cell_masses(&axes[first], PAIR_CELLS),
        cell_masses(&axes[second], PAIR_CELLS),
    );
    let mut means = vec![0.0; rows.len() * columns.len()];
    for tree in trees {
        tree.leaves(axes, |extents, value| {
            let others: f64 = extents
                .iter()
                .zip(axes)
                .enumerate()
                .filter(|(axis, _)| *axis != first && *axis != second)
                .map(|(_, (extent, axis))| extent.mass(axis))
                .product();
            let amount = value * others / trees.len() as f64;
            overlaps(&extents[first], PAIR_CELLS, |row, part| {
                overlaps(&extents[second], PAIR_CELLS, |column, other| {
                    means[row * columns.len() + column] += amount * part * other;
                });
            });
        });
    }
    let masses: Vec<f64> = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| row * column))
        .collect();
    let row_means: Vec<f64> = means
        .chunks(columns.len())
        .map(|row| row.iter().zip(&columns).map(|(mean, mass)| mean * mass).sum())
        .collect();
    let column_means: Vec<f64> = (0..columns.len())
        .map(|column| {
            rows.iter()
                .enumerate()
                .map(|(row, mass)| means[row * columns.len() + column] * mass)
                .sum()
        })
        .collect();
    weighted_variance(&means, &masses)
        - weighted_variance(&row_means, &rows)
        - weighted_variance(&column_means, &columns)
}

fn cell_masses(axis: &Axis, cells: usize) -> Vec<f64> {
    match axis {
        Axis::Numeric => vec![1.0 / cells as f64; cells],
        Axis::Categorical(weights) => weights.clone(),
    }
}

/// Calls `part` with each cell that `extent` touches and the share of the cell that it covers.
fn overlaps(extent: &Extent, cells: usize, mut part: impl FnMut(usize, f64)) {
    match extent {
        Extent::Interval(low, high) => {
            let (low, high) = (low * cells as f64, high * cells as f64);
            for cell in (low as usize)..(libm::ceil(high) as usize).min(cells) {
                let covered = high.min(cell as f64 + 1.0) - low.max(cell as f64);
                if covered > 0.0 {
                    part(cell, covered);
                }
            }
        }
        Extent::Categories(present) => {
            for (category, _) in present.iter().enumerate().filter(|(_, present)| **present) {
                part(category, 1.0);
            }
        }
    }
}

fn weighted_variance(values: &[f64], masses: &[f64]) -> f64 {
    let mean: f64 = values.iter().zip(masses).map(|(value, mass)| value * mass).sum();
    values
        .iter()
        .zip(masses)
        .map(|(value, mass)| mass * (value - mean) * (value - mean))
        .sum()
}
