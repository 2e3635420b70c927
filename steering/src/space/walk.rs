//! Counting through all points of a finite space or grid, one after the other.

use protocol::Point;
use protocol::PointValue;

use super::{Assignment, Space};

/// All points in a fixed order: the last dimension runs fastest. Conditions are heeded, so no point appears twice.
#[derive(Debug)]
pub(crate) struct Walk<'space> {
    space: &'space Space,
    axes: Vec<Axis>,
    /// Position on each axis; `None` where the dimension is inactive.
    place: Vec<Option<u64>>,
    assignment: Assignment,
    started: bool,
}

#[derive(Debug)]
enum Axis {
    Listed(Vec<PointValue>),
    Counted(u64),
}

impl Axis {
    fn len(&self) -> u64 {
        match self {
            Self::Listed(values) => values.len() as u64,
            Self::Counted(size) => *size,
        }
    }
}

impl<'space> Walk<'space> {
    /// Through all points of a finite space; the position of a dimension that is a continuum otherwise.
    pub(crate) fn all(space: &'space Space) -> Result<Self, usize> {
        Self::along(space, |space, position| {
            space.dimensions[position].size().map(Axis::Counted)
        })
    }

    /// Through the grid: the levels of each dimension, or all its values.
    pub(crate) fn grid(space: &'space Space) -> Result<Self, usize> {
        Self::along(space, |space, position| {
            let dimension = &space.dimensions[position];
            match &dimension.levels {
                Some(levels) => Some(Axis::Listed(levels.clone())),
                None => dimension.size().map(Axis::Counted),
            }
        })
    }

    fn along(space: &'space Space, axis: impl Fn(&Space, usize) -> Option<Axis>) -> Result<Self, usize> {
        let axes = (0..space.dimensions.len())
            .map(|position| axis(space, position).ok_or(position))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            space,
            axes,
            place: vec![None; space.dimensions.len()],
            assignment: space.blank(),
            started: false,
        })
    }

    fn put(&mut self, position: usize, index: u64) {
        self.place[position] = Some(index);
        let value = match &self.axes[position] {
            Axis::Listed(values) => values[index as usize].clone(),
            Axis::Counted(_) => self.space.dimensions[position].nth(index),
        };
        self.assignment.set(position, value);
    }

    /// Sets all dimensions from the `from`-th of the order on to their first value, as far as they are active.
    fn reset(&mut self, from: usize) {
        for &position in &self.space.order[from..] {
            self.place[position] = None;
            self.assignment.clear(position);
        }
        for &position in &self.space.order[from..] {
            if self.space.is_active(position, &self.assignment) {
                self.put(position, 0);
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Point;

    fn next(&mut self) -> Option<Point> {
        if self.started {
            let order = &self.space.order;
            let at = (0..order.len())
                .rev()
                .find(|at| self.place[order[*at]].is_some_and(|index| index + 1 < self.axes[order[*at]].len()))?;
            let position = order[at];
            let index = self.place[position]?;
            self.put(position, index + 1);
            self.reset(at + 1);
        } else {
            self.started = true;
            self.reset(0);
        }
        Some(self.space.point(self.assignment.clone()))
    }
}
