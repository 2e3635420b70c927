//! The input numbers of a table, row by row, wherever they are.

use super::column::{Column, Values};
use super::error::DatasetError;
use super::store::Store;

/// Rows that are looked at together.
const BLOCK: usize = 256;

type TakeBlock<'a> = &'a mut dyn FnMut(usize, &[f64]) -> Result<(), DatasetError>;

/// Inputs as columns in memory, or as records of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Numbers<'a> {
    Columns(&'a [&'a Column]),
    Stored(&'a Store, usize),
}

impl Numbers<'_> {
    /// Numbers in a row.
    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.iter().map(|column| column.width()).sum(),
            Self::Stored(_, width) => *width,
        }
    }

    /// Calls `take` with the position in `rows` of the first row of a block, and the numbers of the block, row after row.
    /// Missing ones are NaN. The order of calls does not depend on where the numbers are.
    pub(crate) fn each_block(&self, rows: &[usize], take: TakeBlock<'_>) -> Result<(), DatasetError> {
        let width = self.width();
        let mut block = vec![0.0; BLOCK.min(rows.len()) * width];
        let mut record = Vec::new();
        for (index, rows) in rows.chunks(BLOCK).enumerate() {
            let block = &mut block[..rows.len() * width];
            match self {
                Self::Columns(columns) => gather(columns, rows, width, block),
                Self::Stored(store, _) => {
                    for (row, out) in rows.iter().zip(block.chunks_exact_mut(width)) {
                        store.read(*row, &mut record, out).map_err(DatasetError::Reading)?;
                    }
                }
            }
            take(index * BLOCK, block)?;
        }
        Ok(())
    }
}

fn gather(columns: &[&Column], rows: &[usize], width: usize, block: &mut [f64]) {
    let mut offset = 0;
    for column in columns {
        let length = column.width();
        let outs = block
            .chunks_exact_mut(width)
            .map(|row| &mut row[offset..offset + length]);
        let parts = rows.iter().map(|row| row * length..(row + 1) * length).zip(outs);
        match &column.values {
            Values::Bytes(values) => parts.for_each(|(from, to)| copy(&values[from], to, |value| f64::from(*value))),
            Values::Singles(values) => parts.for_each(|(from, to)| copy(&values[from], to, |value| f64::from(*value))),
            Values::Doubles(values) => parts.for_each(|(from, to)| to.copy_from_slice(&values[from])),
            Values::Integers(values) => parts.for_each(|(from, to)| copy(&values[from], to, |value| *value as f64)),
            Values::Texts(_) => parts.for_each(|(_, to)| to.fill(f64::NAN)),
        }
        offset += length;
    }
}

fn copy<T>(from: &[T], to: &mut [f64], convert: impl Fn(&T) -> f64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(from);
    }
}
