//! Which of some given points promises most: the model without a search for candidates.

use super::Options;
use super::layout::Layout;
use super::model::{MANY, Model, Purpose};
use crate::history::History;
use crate::rng::Key;
use crate::space::{Coordinate, Space};

/// Multiplications that one choice may cost; of more points than they are enough for, only some are looked at.
const WORK: f64 = 1e7;
/// Points that are looked at, at most.
const MOST: usize = 2_000;

/// What the evaluated points of a history teach about others.
#[derive(Debug)]
pub(crate) struct Preference {
    layout: Layout,
    model: Model,
}

impl Preference {
    /// Learns from the points of `history`; nothing if there are fewer than two losses, or nothing that varies.
    pub(crate) fn new(space: &Space, history: &History, key: Key) -> Option<Self> {
        let options = Options {
            startup: 0,
            draws: 4,
            candidates: 0,
            exact: MANY,
        };
        let layout = Layout::new(space);
        if layout.features == 0 {
            return None;
        }
        let model = Model::new(&layout, history, &options, key)?;
        Some(Self { layout, model })
    }

    /// Which of `count` points, the one from which the largest improvement is expected, of equals the first; the points of `history`
    /// that are still being evaluated are believed to lose what is predicted. Of very many points half of those that are affordable
    /// are the first, and half lie evenly among the others.
    pub(crate) fn best_of(
        &self,
        count: usize,
        coordinates: impl Fn(usize) -> Vec<Option<Coordinate>>,
        history: &History,
    ) -> Option<usize> {
        let mut model = (self.model.with_pending(&self.layout, history)).unwrap_or_else(|| self.model.clone());
        let affordable = ((WORK / model.cost()) as usize).clamp(2, MOST);
        let looked_at: Vec<usize> = if count <= affordable {
            (0..count).collect()
        } else {
            let first = affordable / 2;
            let spread = (0..first).map(|index| first + index * (count - first) / first);
            (0..first).chain(spread).collect()
        };
        let row = |point: &usize| self.layout.row(&coordinates(*point));
        let rows: Vec<Vec<f64>> = looked_at.iter().map(row).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let worths = model.balanced(&rows, Purpose::Improve);
        let mut best: Option<(f64, usize)> = None;
        for (worth, point) in worths.into_iter().zip(looked_at) {
            if best.is_none_or(|(highest, _)| worth > highest) {
                best = Some((worth, point));
            }
        }
        best.map(|(_, point)| point)
    }
}
