//! From the numbers of a file to those that the model sees, row by row.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::augment::{Augment, ImageShape};
use super::scaling::Scaling;
use super::store::Store;
use crate::model::RawInputs;
use crate::training::RowSource;

/// What happens to every row alike.
#[derive(Debug, Clone)]
pub(crate) struct Transform {
    /// What stands for a missing number, one for each of a row of the file; none where nothing is missing.
    pub(crate) fill: Option<Vec<f64>>,
    pub(crate) scaling: Scaling,
    /// The unit of each number of a row of the file; see [`Scaling`].
    pub(crate) units: Vec<u32>,
    /// Which number of the file's row each number of the model's row is.
    pub(crate) order: Option<Vec<usize>>,
}

impl Transform {
    /// The number in place of a missing one.
    pub(crate) fn filled(&self, element: usize, value: f64) -> f64 {
        match &self.fill {
            Some(fill) if value.is_nan() => fill[element],
            _ => value,
        }
    }

    /// The same in the form in which a saved model holds it, for rows of the file of this shape.
    pub(crate) fn raw(&self, shape: &[usize]) -> RawInputs {
        let of_element = |constants: &[f64], default: f64| {
            let of_unit = |unit: &u32| constants.get(*unit as usize).copied().unwrap_or(default);
            self.units.iter().map(of_unit).collect::<Vec<_>>()
        };
        RawInputs {
            shape: shape.to_vec(),
            scale: self.scaling.scale,
            shift: of_element(&self.scaling.shift, 0.0),
            divisor: of_element(&self.scaling.divisor, 1.0),
            fill: self.fill.clone(),
            axes: self.scaling.layout.axes(shape),
        }
    }

    pub(crate) fn apply(&self, numbers: &[f64], out: &mut [f32]) {
        let one = |element: usize| {
            let value = self.filled(element, numbers[element]);
            self.scaling.apply(self.units[element] as usize, value) as f32
        };
        match &self.order {
            None => out.iter_mut().enumerate().for_each(|(at, out)| *out = one(at)),
            Some(order) => out.iter_mut().zip(order).for_each(|(out, from)| *out = one(*from)),
        }
    }
}

/// Rows of a store as the model sees them, made when they are needed.
#[derive(Debug)]
pub(crate) struct FedRows {
    store: Arc<Store>,
    /// Row in the store of each position; a row may occur more than once.
    rows: Vec<usize>,
    transform: Transform,
    augment: Option<(Augment, ImageShape)>,
    /// A row of nothing but zeros, as the model would see it.
    padding: Vec<f32>,
    digest: [u8; 32],
}

impl FedRows {
    pub(crate) fn new(
        store: Arc<Store>,
        rows: Vec<usize>,
        transform: Transform,
        augment: Option<(Augment, ImageShape)>,
    ) -> Self {
        let width = transform.units.len();
        let mut padding = vec![0.0; width];
        transform.apply(&vec![0.0; width], &mut padding);
        let mut hash = Sha256::new();
        hash.update(store.digest());
        for row in &rows {
            hash.update((*row as u64).to_le_bytes());
        }
        hash.update(format!("{:?} {:?}", transform.fill, transform.scaling));
        hash.update(format!("{:?} {augment:?}", transform.order));
        Self {
            store,
            rows,
            transform,
            augment,
            padding,
            digest: hash.finalize().into(),
        }
    }
}

impl RowSource for FedRows {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn fill(&self, rows: &[i64], pass: u64, out: &mut [f32]) -> Result<(), String> {
        let width = self.padding.len();
        let mut record = Vec::new();
        let mut numbers = vec![0.0; width];
        let mut image = vec![0.0; if self.augment.is_some() { width } else { 0 }];
        for (&position, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            let row = self.rows[position as usize];
            self.store.read(row, &mut record, &mut numbers)?;
            if let Some((augment, shape)) = &self.augment {
                self.transform.apply(&numbers, &mut image);
                augment.apply(*shape, (pass, position as u64), &image, &self.padding, out);
            } else {
                self.transform.apply(&numbers, out);
            }
            if out.iter().any(|value| !value.is_finite()) {
                return Err(format!(
                    "row {} of all files holds a value that is too large for single precision; use `\"normalize\": \
                     \"standard\"` or a `scale`",
                    row + 1
                ));
            }
        }
        Ok(())
    }

    fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
