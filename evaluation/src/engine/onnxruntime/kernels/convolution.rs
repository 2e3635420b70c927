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
//! are copied, which is little work beside the products, and no vector is half empty.

use std::sync::{Mutex, PoisonError};

use super::Parallel;
use super::planes::Planes;
use super::scratch::Scratch;
use super::tile::{Correlation, Outer, lanes, machine, outer_tile, pack, packed};
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

/// Numbers of the images that are worked on together; they fit into the second cache.
const GROUP: usize = 1 << 17;

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

/// Where the results of a correlation lie: a grid in the planes, and the same grid in the target.
struct Grid {
    size: [usize; 2],
    /// The first place in the planes, as an offset.
    first: usize,
    /// The first row and column in the target, and the steps to the next.
    target: [usize; 2],
    steps: [usize; 2],
}

/// One product of weights with shifted images.
struct Part {
    weights: Scratch,
    offsets: Vec<u32>,
    grid: Grid,
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
    let (planes, offsets) = shapes.windows();
    let grid = Grid {
        size: shapes.to,
        first: 0,
        target: [0, 0],
        steps: [1, 1],
    };
    let job = Job {
        planes: &planes,
        parts: &[(w, &offsets, &grid)],
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
            let length = shapes.outputs * taps.len();
            let mut weights = Scratch::new(shapes.channels * length);
            for (channel, row) in weights.chunks_exact_mut(length).enumerate() {
                for (m, row) in row.chunks_exact_mut(taps.len()).enumerate() {
                    let source = &w[(m * shapes.channels + channel) * shapes.taps()..][..shapes.taps()];
                    for (to, [i, j]) in row.iter_mut().zip(&taps) {
                        *to = source[i * window.kernel[1] + j];
                    }
                }
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
                weights,
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
    let parts: Vec<(&[f32], &[u32], &Grid)> = parts
        .iter()
        .map(|part| (&*part.weights, &part.offsets[..], &part.grid))
        .collect();
    let job = Job {
        planes: &planes,
        parts: &parts,
        bias: None,
        outputs: shapes.channels,
        size: shapes.from,
    };
    job.run(shapes.images, dy, dx, threads, parallel);
}

/// Correlations of the same images.
struct Job<'a> {
    planes: &'a Planes,
    /// Weights, offsets of the products, and where the results lie.
    parts: &'a [(&'a [f32], &'a [u32], &'a Grid)],
    bias: Option<&'a [f32]>,
    outputs: usize,
    /// Rows and columns of the target's images.
    size: [usize; 2],
}

/// How the vectors of a part are laid out.
enum Layout {
    /// Along the rows, from the planes to the target.
    Rows,
    /// Over all columns of the planes, of which some are between images: by way of a strip beside the target.
    Strip,
    /// Over copies of the shifted images, to the target or a strip.
    Copies { direct: bool },
}

impl Job<'_> {
    fn layout(&self, grid: &Grid) -> Layout {
        let lanes = lanes();
        let [rows, columns] = grid.size;
        if grid.steps[1] == 1 && columns.is_multiple_of(lanes) {
            return Layout::Rows;
        }
        let taken = ((rows - 1) * self.planes.plane[1] + columns).next_multiple_of(lanes);
        if self.outputs >= 64 && taken * 8 > rows * columns * 9 {
            let direct = grid.steps == [1, 1] && grid.size == self.size && (rows * columns).is_multiple_of(lanes);
            return Layout::Copies { direct };
        }
        Layout::Strip
    }

    fn run(&self, images: usize, source: &[f32], target: &mut [f32], threads: usize, parallel: Parallel<'_>) {
        let (from, to) = (
            self.planes.channels * self.planes.size[0] * self.planes.size[1],
            self.outputs * self.size[0] * self.size[1],
        );
        let smallest = self.parts.iter().map(|(.., grid)| grid.size[0] * grid.size[1]).min();
        // So many images that the weights, which are read anew for each group, are worth it.
        let group = (GROUP / self.planes.image().max(1))
            .max(256 / smallest.unwrap_or(1).max(1))
            .clamp(1, images.div_ceil(threads).max(1));
        let parts: Vec<(Scratch, &[u32], &Grid)> = self
            .parts
            .iter()
            .map(|(weights, offsets, grid)| {
                let mut target = Scratch::new(packed(self.outputs, offsets.len()));
                pack(weights, self.outputs, DEPTH, &mut target);
                (target, *offsets, *grid)
            })
            .collect();
        let groups: Vec<(&[f32], Mutex<&mut [f32]>)> = source
            .chunks(group * from)
            .zip(target.chunks_mut(group * to).map(Mutex::new))
            .collect();
        parallel(groups.len(), &|index| {
            let (source, target) = &groups[index];
            let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
            let count = source.len() / from;
            let mut planes = Scratch::new(self.planes.length(count));
            let image = self.planes.image();
            for (source, planes) in source.chunks_exact(from).zip(planes.chunks_exact_mut(image)) {
                self.planes.write(source, planes);
            }
            planes[count * image..].fill(0.0);
            for (weights, offsets, grid) in &parts {
                match self.layout(grid) {
                    Layout::Rows => self.rows(weights, offsets, grid, count, &planes, &mut target),
                    Layout::Strip => self.strip(weights, offsets, grid, count, &planes, &mut target),
                    Layout::Copies { direct } => {
                        self.copies(weights, offsets, grid, count, &planes, &mut target, direct);
                    }
                }
            }
        });
    }

    fn rows(&self, weights: &[f32], offsets: &[u32], grid: &Grid, images: usize, planes: &[f32], target: &mut [f32]) {
        let lanes = lanes();
        let area = self.size[0] * self.size[1];
        let (mut vectors, mut places) = (Vec::new(), Vec::new());
        for image in 0..images {
            for row in 0..grid.size[0] {
                for column in (0..grid.size[1]).step_by(lanes) {
                    let at = image * self.planes.image() + grid.first + row * self.planes.plane[1] + column;
                    let place = (grid.target[0] + row * grid.steps[0]) * self.size[1] + grid.target[1] + column;
                    vectors.push(at as u32);
                    places.push((image * self.outputs * area + place) as u32);
                }
            }
        }
        for (first, offsets) in (0..).step_by(DEPTH).zip(offsets.chunks(DEPTH)) {
            Correlation {
                weights: &weights[packed(self.outputs, first)..],
                outputs: self.outputs,
                first,
                offsets,
                source: planes,
                vectors: &vectors,
                target,
                target_row: area,
                places: &places,
                bias: self.bias,
            }
            .run();
        }
    }

    fn strip(&self, weights: &[f32], offsets: &[u32], grid: &Grid, images: usize, planes: &[f32], target: &mut [f32]) {
        let lanes = lanes();
        let pitch = self.planes.plane[1];
        let taken = ((grid.size[0] - 1) * pitch + grid.size[1]).next_multiple_of(lanes);
        let (mut vectors, mut places) = (Vec::new(), Vec::new());
        for image in 0..images {
            for at in (0..taken).step_by(lanes) {
                vectors.push((image * self.planes.image() + grid.first + at) as u32);
                places.push((image * taken + at) as u32);
            }
        }
        let mut strip = Scratch::new(self.outputs * images * taken);
        for (first, offsets) in (0..).step_by(DEPTH).zip(offsets.chunks(DEPTH)) {
            Correlation {
                weights: &weights[packed(self.outputs, first)..],
                outputs: self.outputs,
                first,
                offsets,
                source: planes,
                vectors: &vectors,
                target: &mut strip,
                target_row: images * taken,
                places: &places,
                bias: self.bias,
            }
            .run();
        }
        self.unpack(grid, images, &strip, [taken, pitch], target);
    }

    /// Takes the rows of a strip, whose images and rows lie `apart`, to the target.
    fn unpack(&self, grid: &Grid, images: usize, strip: &[f32], apart: [usize; 2], target: &mut [f32]) {
        let area = self.size[0] * self.size[1];
        for image in 0..images {
            for output in 0..self.outputs {
                let strip = &strip[(output * images + image) * apart[0]..][..apart[0]];
                let target = &mut target[(image * self.outputs + output) * area..][..area];
                for row in 0..grid.size[0] {
                    let source = &strip[row * apart[1]..][..grid.size[1]];
                    let start = (grid.target[0] + row * grid.steps[0]) * self.size[1] + grid.target[1];
                    if grid.steps[1] == 1 {
                        target[start..start + source.len()].copy_from_slice(source);
                    } else {
                        for (to, from) in target[start..].iter_mut().step_by(grid.steps[1]).zip(source) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the same as its siblings, and how the target is written"
    )]
    fn copies(
        &self,
        weights: &[f32],
        offsets: &[u32],
        grid: &Grid,
        images: usize,
        planes: &[f32],
        target: &mut [f32],
        direct: bool,
    ) {
        let lanes = lanes();
        let area = grid.size[0] * grid.size[1];
        let columns = images * area;
        let width = 3 * lanes;
        let panels = columns.div_ceil(width);
        let places: Vec<u32> = (0..columns.div_ceil(lanes))
            .map(|vector| {
                let column = vector * lanes;
                let place = if direct {
                    column / area * self.outputs * area + column % area
                } else {
                    column
                };
                place as u32
            })
            .collect();
        let strip_row = columns.next_multiple_of(lanes);
        let mut strip = Scratch::new(if direct { 0 } else { self.outputs * strip_row });
        let mut copies = Scratch::new(panels * width * DEPTH.min(offsets.len()));
        for (first, offsets) in (0..).step_by(DEPTH).zip(offsets.chunks(DEPTH)) {
            let panel = width * offsets.len();
            for image in 0..images {
                for row in 0..grid.size[0] {
                    let column = image * area + row * grid.size[1];
                    let source = image * self.planes.image() + grid.first + row * self.planes.plane[1];
                    // A row may continue in the next panel.
                    let head = grid.size[1].min(width - column % width);
                    let start = column / width * panel + column % width;
                    for (k, offset) in offsets.iter().enumerate() {
                        let source = &planes[source + *offset as usize..][..grid.size[1]];
                        copies[start + k * width..][..head].copy_from_slice(&source[..head]);
                        let mut done = head;
                        while done < source.len() {
                            let part = (source.len() - done).min(width);
                            let start = (column + done) / width * panel;
                            copies[start + k * width..][..part].copy_from_slice(&source[done..done + part]);
                            done += part;
                        }
                    }
                }
            }
            let rows: Vec<u32> = (0..offsets.len()).map(|k| (k * width) as u32).collect();
            let vectors: Vec<u32> = (0..places.len())
                .map(|vector| (vector / 3 * panel + vector % 3 * lanes) as u32)
                .collect();
            Correlation {
                weights: &weights[packed(self.outputs, first)..],
                outputs: self.outputs,
                first,
                offsets: &rows,
                source: &copies,
                vectors: &vectors,
                target: if direct { &mut *target } else { &mut strip },
                target_row: if direct { area } else { strip_row },
                places: &places,
                bias: self.bias,
            }
            .run();
        }
        if !direct {
            // The strip has the outputs outermost, then the images.
            for output in 0..self.outputs {
                for image in 0..images {
                    let source = &strip[output * strip_row + image * area..][..area];
                    let size = self.size[0] * self.size[1];
                    let target = &mut target[(image * self.outputs + output) * size..][..size];
                    for (row, source) in source.chunks_exact(grid.size[1]).enumerate() {
                        let start = (grid.target[0] + row * grid.steps[0]) * self.size[1] + grid.target[1];
                        for (to, from) in target[start..].iter_mut().step_by(grid.steps[1]).zip(source) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }
}

/// `dw`: products of shifted images with `dy`, whose numbers of one place lie side by side.
pub(super) fn weight_gradient(
    shapes: &Shapes,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    threads: usize,
    parallel: Parallel<'_>,
) {
    let (planes, offsets) = shapes.windows();
    let (depth, outputs) = (shapes.depth(), shapes.outputs);
    let (tile_rows, vectors) = outer_tile(outputs);
    let width = vectors * lanes();
    let panels = outputs.div_ceil(width);
    let pitch = planes.plane[1];
    let positions = (shapes.to[0] - 1) * pitch + shapes.to[1];
    // The sums pass through the caches once for so many positions.
    let block: usize = if depth * outputs > 1 << 18 { 512 } else { 128 };
    let group = block.div_ceil(positions).clamp(1, shapes.images);
    let tiles = depth.div_ceil(tile_rows);
    let chunk = tiles.div_ceil(threads);
    let mut sums = Scratch::new(tiles * panels * tile_rows * width);
    sums.fill(0.0);
    let mut space = Scratch::new(planes.length(group));
    let mut rows = Scratch::new(panels * group * positions * width);
    let (from, to) = (
        planes.size[0] * planes.size[1] * planes.channels,
        shapes.to[0] * shapes.to[1],
    );
    for (x, dy) in x.chunks(group * from).zip(dy.chunks(group * outputs * to)) {
        let images = x.len() / from;
        let image = planes.image();
        let rows = &mut rows[..panels * images * positions * width];
        let copies: Vec<_> = x
            .chunks_exact(from)
            .zip(space.chunks_exact_mut(image).map(Mutex::new))
            .collect();
        let panel_rows: Vec<_> = rows
            .chunks_exact_mut(images * positions * width)
            .map(Mutex::new)
            .collect();
        parallel(images + panels, &|index| {
            if let Some((x, space)) = copies.get(index) {
                planes.write(x, &mut space.lock().unwrap_or_else(PoisonError::into_inner));
                return;
            }
            let column = index - images;
            let mut rows = panel_rows[column].lock().unwrap_or_else(PoisonError::into_inner);
            let first = column * width;
            for (dy, rows) in dy
                .chunks_exact(outputs * to)
                .zip(rows.chunks_exact_mut(positions * width))
            {
                let dy = &dy[first * to..(first + width).min(outputs) * to];
                by_place(dy, shapes.to, rows, pitch, width);
            }
        });
        space[images * image..].fill(0.0);
        let space = &*space;
        let rows = &*rows;
        let parts: Vec<_> = sums
            .chunks_mut(chunk * panels * tile_rows * width)
            .zip(offsets.chunks(chunk * tile_rows))
            .map(Mutex::new)
            .collect();
        parallel(parts.len(), &|index| {
            let mut part = parts[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (sums, offsets) = &mut *part;
            for start in (0..positions).step_by(if images > 1 { positions } else { block }) {
                let end = if images > 1 {
                    positions
                } else {
                    (start + block).min(positions)
                };
                machine().dispatch(Outer {
                    tile: (tile_rows, vectors),
                    source: space,
                    offsets,
                    images,
                    image,
                    positions,
                    taken: start..end,
                    dy: rows,
                    sums,
                });
            }
        });
    }
    let strips: Vec<_> = dw.chunks_mut(width * depth).map(Mutex::new).collect();
    parallel(strips.len(), &|column| {
        let mut dw = strips[column].lock().unwrap_or_else(PoisonError::into_inner);
        let tile = tile_rows * width;
        for first in (0..depth).step_by(tile_rows) {
            let sums = &sums[(first / tile_rows * panels + column) * tile..][..tile];
            let count = tile_rows.min(depth - first);
            for (m, dw) in dw.chunks_exact_mut(depth).enumerate() {
                for (k, dw) in dw[first..first + count].iter_mut().enumerate() {
                    *dw = sums[k * width + m];
                }
            }
        }
    });
}

/// Takes `[columns, O, P]` to rows of `width` numbers for each place; places between rows and further columns are 0.
fn by_place(dy: &[f32], size: [usize; 2], rows: &mut [f32], pitch: usize, width: usize) {
    let area = size[0] * size[1];
    if pitch != size[1] || dy.len() != width * area {
        rows.fill(0.0);
    }
    for row in 0..size[0] {
        let rows = &mut rows[row * pitch * width..];
        // Sixteen columns at a time, so that whole lines of memory are written.
        for (block, dy) in dy.chunks(16 * area).enumerate() {
            let columns: Vec<&[f32]> = dy
                .chunks_exact(area)
                .map(|dy| &dy[row * size[1]..][..size[1]])
                .collect();
            if let Ok(columns) = <[&[f32]; 16]>::try_from(&columns[..]) {
                for place in 0..size[1] {
                    let target: &mut [f32] = &mut rows[place * width + block * 16..][..16];
                    for (to, column) in target.iter_mut().zip(columns) {
                        *to = column[place];
                    }
                }
            } else {
                for (index, column) in columns.iter().enumerate() {
                    for (place, value) in column.iter().enumerate() {
                        rows[place * width + block * 16 + index] = *value;
                    }
                }
            }
        }
    }
}
