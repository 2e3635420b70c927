//! Memory that kernels use while they run, kept for the next one.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

static KEPT: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// So many buffers are kept at most: a few for each thread.
const LIMIT: usize = 24;

/// Numbers of no particular values.
pub(super) struct Scratch {
    numbers: Vec<f32>,
    length: usize,
}

impl Scratch {
    /// A buffer of `length` numbers: the smallest kept one that is large enough, else the largest, made larger.
    pub(super) fn new(length: usize) -> Self {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = (0..kept.len())
            .filter(|index| kept[*index].len() >= length)
            .min_by_key(|index| kept[*index].len());
        let index = fitting.or_else(|| (0..kept.len()).max_by_key(|index| kept[*index].len()));
        let mut numbers = index.map(|index| kept.swap_remove(index)).unwrap_or_default();
        drop(kept);
        if numbers.len() < length {
            numbers.resize(length, 0.0);
        }
        Self { numbers, length }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[..self.length]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.length]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < LIMIT {
            kept.push(std::mem::take(&mut self.numbers));
        }
    }
}
