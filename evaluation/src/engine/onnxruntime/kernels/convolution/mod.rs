//! Convolutions over two axes and their gradients, for the CPU.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `x` | images | `[N, C, H, W]` |
//! | `w` | weights | `[M, C, k, l]` |
//! | `y`, `dy` | result and its gradient | `[N, M, O, P]` |
//! | `K` | products of one number of the result | `C k l` |
//!
//! All three are products of a matrix with shifted images, computed where they lie, without a matrix of all shifts
//! (Georganas et al. 2018, "Anatomy of high-performance deep learning convolutions on SIMD architectures", §II): each
//! number of a window is one distance in [`Planes`]. Small images of many channels are the exception: there the shifts
//! are copied, which is little work beside the products, and no vector is half empty. Windows of three by three between many
//! channels take fewer products in [`winograd`].

mod correlations;
mod weight_gradient;
mod winograd;

use std::sync::Mutex;

use self::correlations::{Grid, Job, Part};
pub(super) use self::weight_gradient::weight_gradient;
use self::winograd::Winograd;
use super::Parallel;
use super::packing::Weights;
use super::planes::Planes;
use crate::graph::Window;

/// Shapes of a convolution.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shapes {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) outputs: usize,
    /// Sizes of an image and of its result.
    pub(super) from: [usize; 2],
    pub(super) to: [usize; 2],
    pub(super) window: Window,
}

/// Products added up before the next part of the sums; their images fit into the nearest cache.
const DEPTH: usize = 192;

/// Images of a group: as many groups as it takes for none to have more than `most`, all of the same size, and some for every thread.
fn group_size(images: usize, most: usize, threads: usize) -> usize {
    let most = most.clamp(1, images.div_ceil(threads).max(1));
    images.div_ceil(images.div_ceil(most).max(1)).max(1)
}

/// A group of images, and where its results go.
type Group<'a> = (&'a [f32], Mutex<&'a mut [f32]>);

/// Groups of `size` images, which have so many numbers in the source and in the target.
fn groups<'a>(source: &'a [f32], target: &'a mut [f32], [from, to]: [usize; 2], size: usize) -> Vec<Group<'a>> {
    let targets = target.chunks_mut(size * to).map(Mutex::new);
    source.chunks(size * from).zip(targets).collect()
}

impl Shapes {
    fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    fn depth(&self) -> usize {
        self.channels * self.taps()
    }

    /// Each tap of the window with its row and column.
    fn each_tap(&self) -> impl Iterator<Item = [usize; 2]> + Clone {
        let [rows, columns] = [self.window.kernel[0], self.window.kernel[1]];
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
    }

    /// Remainder and quotient by the stride of a tap's distance.
    fn split(&self, axis: usize, tap: usize) -> (usize, usize) {
        let distance = tap * self.window.dilations[axis];
        (
            distance % self.window.strides[axis],
            distance / self.window.strides[axis],
        )
    }

    /// The images as windows read them, and the offset of each of the `K` numbers of a window.
    fn windows(&self) -> (Planes, Vec<u32>) {
        let mut phases: Vec<[usize; 2]> = Vec::new();
        for [i, j] in self.each_tap() {
            let phase = [self.split(0, i).0, self.split(1, j).0];
            if !phases.contains(&phase) {
                phases.push(phase);
            }
        }
        let reach = |axis: usize| self.to[axis] - 1 + (self.window.extent(axis) - 1) / self.window.strides[axis] + 1;
        let mut plane = [reach(0), reach(1)];
        if self.window.strides[1] == 1 {
            // The zeros after a row serve as those before the next.
            let after = plane[1].saturating_sub(self.window.begin[1] + self.from[1]);
            plane[1] -= after.min(self.window.begin[1]);
        }
        let planes = Planes {
            channels: self.channels,
            size: self.from,
            strides: [self.window.strides[0], self.window.strides[1]],
            begin: [self.window.begin[0] as isize, self.window.begin[1] as isize],
            phases,
            plane,
        };
        let offset = |channel: usize, [i, j]: [usize; 2]| {
            let ((a, row), (b, column)) = (self.split(0, i), self.split(1, j));
            let phase = planes.phases.iter().position(|phase| *phase == [a, b]);
            planes.place(channel, phase.expect("all phases are listed"), row, column) as u32
        };
        let offsets = (0..self.channels)
            .flat_map(|channel| self.each_tap().map(move |tap| (channel, tap)))
            .map(|(channel, tap)| offset(channel, tap))
            .collect();
        (planes, offsets)
    }
}

/// `y = x * w + bias`
pub(super) fn forward(
    shapes: &Shapes,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    threads: usize,
    parallel: Parallel<'_>,
) {
    if let Some(winograd) = Winograd::forward(shapes, w, bias) {
        return winograd.run(shapes.images, x, y, threads, parallel);
    }
    let (planes, offsets) = shapes.windows();
    let grid = Grid {
        size: shapes.to,
        first: 0,
        target: [0, 0],
        steps: [1, 1],
    };
    let part = Part {
        weights: Weights::Rows {
            numbers: w,
            products: shapes.depth(),
        },
        offsets,
        grid,
    };
    let job = Job {
        planes: &planes,
        parts: &[part],
        bias,
        outputs: shapes.outputs,
        size: shapes.to,
    };
    job.run(shapes.images, x, y, threads, parallel);
}

/// `dx`: for each phase of `x` a correlation of `dy` with the taps that reach it, turned.
pub(super) fn input_gradient(
    shapes: &Shapes,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    threads: usize,
    parallel: Parallel<'_>,
) {
    if let Some(winograd) = Winograd::input_gradient(shapes, w) {
        return winograd.run(shapes.images, dy, dx, threads, parallel);
    }
    let window = &shapes.window;
    // A number `h` of `x` in the phase `a` is `h + begin = a + stride t`; the tap at distance `a + stride q` takes it
    // to the number `t - q` of `y`.
    let first = |axis: usize, a: usize| window.begin[axis].saturating_sub(a).div_ceil(window.strides[axis]);
    let end = |axis: usize, a: usize| {
        (shapes.from[axis] + window.begin[axis])
            .saturating_sub(a)
            .div_ceil(window.strides[axis])
    };
    let farthest = |axis: usize| (window.extent(axis) - 1) / window.strides[axis];
    let lowest = |axis: usize| (0..window.strides[axis]).map(|a| first(axis, a)).min().unwrap_or(0);
    let highest = |axis: usize| (0..window.strides[axis]).map(|a| end(axis, a)).max().unwrap_or(0);
    let rows = |axis: usize| highest(axis).saturating_sub(lowest(axis)) + farthest(axis);
    let begin = |axis: usize| farthest(axis) as isize - lowest(axis) as isize;
    let mut pitch = rows(1);
    if begin(1) > 0 {
        let after = pitch as isize - begin(1) - shapes.to[1] as isize;
        pitch -= after.clamp(0, begin(1)) as usize;
    }
    let planes = Planes {
        channels: shapes.outputs,
        size: shapes.to,
        strides: [1, 1],
        begin: [begin(0), begin(1)],
        phases: vec![[0, 0]],
        plane: [rows(0), pitch],
    };
    let mut parts = Vec::new();
    let mut is_whole = true;
    for a in 0..window.strides[0] {
        for b in 0..window.strides[1] {
            let taps: Vec<[usize; 2]> = shapes
                .each_tap()
                .filter(|[i, j]| shapes.split(0, *i).0 == a && shapes.split(1, *j).0 == b)
                .collect();
            let range = [first(0, a)..end(0, a), first(1, b)..end(1, b)];
            if range.iter().any(std::ops::Range::is_empty) {
                continue;
            }
            if taps.is_empty() {
                is_whole = false;
                continue;
            }
            let offsets = (0..shapes.outputs)
                .flat_map(|m| taps.iter().map(move |tap| (m, tap)))
                .map(|(m, [i, j])| {
                    let row = farthest(0) - shapes.split(0, *i).1;
                    planes.place(m, 0, row, farthest(1) - shapes.split(1, *j).1) as u32
                })
                .collect();
            let target = |axis: usize, a: usize| a + window.strides[axis] * range[axis].start - window.begin[axis];
            parts.push(Part {
                weights: Weights::Blocks {
                    numbers: w,
                    size: shapes.taps(),
                    chosen: taps.iter().map(|[i, j]| i * window.kernel[1] + j).collect(),
                },
                offsets,
                grid: Grid {
                    size: [range[0].len(), range[1].len()],
                    first: planes.place(0, 0, range[0].start - lowest(0), range[1].start - lowest(1)),
                    target: [target(0, a), target(1, b)],
                    steps: [window.strides[0], window.strides[1]],
                },
            });
        }
    }
    if !is_whole {
        dx.fill(0.0);
    }
    let job = Job {
        planes: &planes,
        parts: &parts,
        bias: None,
        outputs: shapes.channels,
        size: shapes.from,
    };
    job.run(shapes.images, dy, dx, threads, parallel);
}
