//! The number of distinct points of a space.

use super::{Assignment, Space};

/// Branches after which counting gives up and calls the space large.
const PATIENCE: usize = 100_000;

/// Number of distinct points, saturating; `None` when some dimension is a continuum.
pub(super) fn size(space: &Space) -> Option<u64> {
    let mut total = 1_u64;
    for component in components(space) {
        let mut counter = Counter {
            space,
            order: &component,
            patience: PATIENCE,
        };
        total = total.saturating_mul(counter.count(0, &mut space.blank())?);
    }
    Some(total)
}

/// Dimensions tied together by conditions, parents first; different components vary independently.
fn components(space: &Space) -> Vec<Vec<usize>> {
    let mut label: Vec<usize> = (0..space.dimensions().len()).collect();
    let mut moved = true;
    while moved {
        moved = false;
        for (position, dimension) in space.dimensions().iter().enumerate() {
            for condition in &dimension.conditions {
                let least = label[position].min(label[condition.parent]);
                moved |= label[position] != least || label[condition.parent] != least;
                label[position] = least;
                label[condition.parent] = least;
            }
        }
    }
    let mut components: Vec<Vec<usize>> = vec![Vec::new(); label.len()];
    for &position in space.order() {
        components[label[position]].push(position);
    }
    components.retain(|component| !component.is_empty());
    components
}

struct Counter<'a> {
    space: &'a Space,
    order: &'a [usize],
    patience: usize,
}

impl Counter<'_> {
    /// Points of the dimensions from the `at`-th on, for the parents assigned so far.
    fn count(&mut self, at: usize, assignment: &mut Assignment) -> Option<u64> {
        let Some(&position) = self.order.get(at) else {
            return Some(1);
        };
        if !self.space.is_active(position, assignment) {
            return self.count(at + 1, assignment);
        }
        let dimension = &self.space.dimensions()[position];
        let size = dimension.size()?;
        if !dimension.is_parent {
            return Some(size.saturating_mul(self.count(at + 1, assignment)?));
        }
        // Values that conditions mention branch one by one, all others together.
        let mut mentioned = Vec::new();
        for child in self.space.dimensions() {
            for condition in child.conditions.iter().filter(|condition| condition.parent == position) {
                mentioned.extend(condition.values.iter().filter_map(|value| dimension.encode(value)));
            }
        }
        mentioned.sort_unstable_by_key(|coordinate| coordinate.bits());
        mentioned.dedup_by_key(|coordinate| coordinate.bits());
        let mut total = 0_u64;
        for coordinate in &mentioned {
            let Some(patience) = self.patience.checked_sub(1) else {
                return Some(u64::MAX);
            };
            self.patience = patience;
            assignment.set(position, dimension.decode(*coordinate));
            total = total.saturating_add(self.count(at + 1, assignment)?);
        }
        let others = size - mentioned.len() as u64;
        if others > 0 {
            assignment.clear(position);
            total = total.saturating_add(others.saturating_mul(self.count(at + 1, assignment)?));
        }
        assignment.clear(position);
        Some(total)
    }
}
