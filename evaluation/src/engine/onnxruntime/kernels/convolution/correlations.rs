//! Correlations: products of weights with shifted images.

use std::sync::PoisonError;

use super::super::Parallel;
use super::super::packing::{Weights, packed};
use super::super::planes::Planes;
use super::super::scratch::Scratch;
use super::super::tile::{Correlation, Form, lanes};
use super::{DEPTH, group_size, groups};

/// Numbers of the images that are worked on together; they fit into the second cache.
const GROUP: usize = 1 << 17;

/// Places of the images that are worked on together where their shifts are copied.
const COPIED: usize = 512;

/// Where the results of a correlation lie: a grid in the planes, and the same grid in the target.
pub(super) struct Grid {
    pub(super) size: [usize; 2],
    /// The first place in the planes, as an offset.
    pub(super) first: usize,
    /// The first row and column in the target, and the steps to the next.
    pub(super) target: [usize; 2],
    pub(super) steps: [usize; 2],
}

/// One product of weights with shifted images.
pub(super) struct Part<'a> {
    pub(super) weights: Weights<'a>,
    /// The beginning of the image of each product.
    pub(super) offsets: Vec<u32>,
    pub(super) grid: Grid,
}

/// Correlations of the same images.
pub(super) struct Job<'a> {
    pub(super) planes: &'a Planes,
    pub(super) parts: &'a [Part<'a>],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) outputs: usize,
    /// Rows and columns of the target's images.
    pub(super) size: [usize; 2],
}

/// How the vectors of a part are laid out.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// Along the rows, from the planes to the target.
    Rows,
    /// Over all columns of the planes, of which some are between images: by way of a strip beside the target.
    Strip,
    /// Over copies of the shifted images, to the target or a strip.
    Copies { direct: bool },
}

/// A part with what is common to all groups of images.
struct Plan<'a> {
    part: &'a Part<'a>,
    layout: Layout,
    form: Form,
    /// All weights, packed in parts of [`DEPTH`] products, if more than one group needs them.
    packed: Option<Scratch>,
}

/// A buffer that results go to.
struct Target<'a> {
    numbers: &'a mut [f32],
    /// Distance of two outputs.
    row: usize,
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

    /// Images that are worked on together: so many that the weights, which are read anew for each group, are worth it.
    fn group(&self, images: usize, threads: usize) -> usize {
        let areas = self.parts.iter().map(|part| part.grid.size[0] * part.grid.size[1]);
        let smallest = areas.min().unwrap_or(1).max(1);
        let copied = |part: &Part<'_>| matches!(self.layout(&part.grid), Layout::Copies { .. });
        let places = if self.parts.iter().all(copied) { COPIED } else { 256 };
        let most = (GROUP / self.planes.image().max(1)).max(places / smallest);
        group_size(images, most, threads)
    }

    pub(super) fn run(
        &self,
        images: usize,
        source: &[f32],
        target: &mut [f32],
        threads: usize,
        parallel: Parallel<'_>,
    ) {
        let (from, to) = (
            self.planes.channels * self.planes.size[0] * self.planes.size[1],
            self.outputs * self.size[0] * self.size[1],
        );
        let group = self.group(images, threads);
        let groups = groups(source, target, [from, to], group);
        let plans: Vec<Plan<'_>> = self
            .parts
            .iter()
            .map(|part| self.plan(part, group, groups.len() > threads))
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
            for plan in &plans {
                match plan.layout {
                    Layout::Rows => self.rows(plan, count, &planes, &mut target),
                    Layout::Strip => self.strip(plan, count, &planes, &mut target),
                    Layout::Copies { direct } => self.copies(plan, count, &planes, &mut target, direct),
                }
            }
        });
    }

    fn plan<'a>(&self, part: &'a Part<'a>, group: usize, shared: bool) -> Plan<'a> {
        let layout = self.layout(&part.grid);
        let form = if matches!(layout, Layout::Copies { .. }) {
            Form::fitting(self.outputs, group * part.grid.size[0] * part.grid.size[1])
        } else {
            Form::wide()
        };
        let products = part.offsets.len();
        let packed = shared.then(|| {
            let mut target = Scratch::new(packed(self.outputs, products, form.rows));
            let parts = target.chunks_mut(packed(self.outputs, DEPTH, form.rows));
            for (first, target) in (0..products).step_by(DEPTH).zip(parts) {
                let range = first..(first + DEPTH).min(products);
                part.weights.pack(self.outputs, range, form.rows, target);
            }
            target
        });
        Plan {
            part,
            layout,
            form,
            packed,
        }
    }

    /// Does `compute` for each part of the products, with its offsets and its packed weights.
    fn by_depth(&self, plan: &Plan<'_>, mut compute: impl FnMut(usize, &[u32], &[f32])) {
        let mut space = Scratch::new(if plan.packed.is_some() {
            0
        } else {
            packed(self.outputs, DEPTH.min(plan.part.offsets.len()), plan.form.rows)
        });
        for (first, offsets) in (0..).step_by(DEPTH).zip(plan.part.offsets.chunks(DEPTH)) {
            let length = packed(self.outputs, offsets.len(), plan.form.rows);
            if let Some(all) = &plan.packed {
                let start = packed(self.outputs, first, plan.form.rows);
                compute(first, offsets, &all[start..start + length]);
            } else {
                // Packed where they are used, they do not leave the second cache.
                let range = first..first + offsets.len();
                let weights = &mut space[..length];
                plan.part.weights.pack(self.outputs, range, plan.form.rows, weights);
                compute(first, offsets, weights);
            }
        }
    }

    /// The sums for vectors of the planes.
    fn correlate(&self, plan: &Plan<'_>, planes: &[f32], vectors: &[u32], places: &[u32], target: &mut Target<'_>) {
        self.by_depth(plan, |first, offsets, weights| {
            Correlation {
                form: plan.form,
                weights,
                outputs: self.outputs,
                offsets,
                source: planes,
                vectors,
                target: &mut *target.numbers,
                target_row: target.row,
                apart: [plan.form.rows * offsets.len(), plan.form.rows * target.row],
                places,
                begins: first == 0,
                bias: self.bias,
            }
            .run();
        });
    }

    fn rows(&self, plan: &Plan<'_>, images: usize, planes: &[f32], target: &mut [f32]) {
        let grid = &plan.part.grid;
        let area = self.size[0] * self.size[1];
        let (mut vectors, mut places) = (Vec::new(), Vec::new());
        for image in 0..images {
            for row in 0..grid.size[0] {
                for column in (0..grid.size[1]).step_by(lanes()) {
                    let at = image * self.planes.image() + grid.first + row * self.planes.plane[1] + column;
                    let place = (grid.target[0] + row * grid.steps[0]) * self.size[1] + grid.target[1] + column;
                    vectors.push(at as u32);
                    places.push((image * self.outputs * area + place) as u32);
                }
            }
        }
        let mut results = Target {
            numbers: target,
            row: area,
        };
        self.correlate(plan, planes, &vectors, &places, &mut results);
    }

    fn strip(&self, plan: &Plan<'_>, images: usize, planes: &[f32], target: &mut [f32]) {
        let grid = &plan.part.grid;
        let pitch = self.planes.plane[1];
        let taken = ((grid.size[0] - 1) * pitch + grid.size[1]).next_multiple_of(lanes());
        let (mut vectors, mut places) = (Vec::new(), Vec::new());
        for image in 0..images {
            for at in (0..taken).step_by(lanes()) {
                vectors.push((image * self.planes.image() + grid.first + at) as u32);
                places.push((image * taken + at) as u32);
            }
        }
        let mut strip = Scratch::new(self.outputs * images * taken);
        let mut results = Target {
            numbers: &mut strip,
            row: images * taken,
        };
        self.correlate(plan, planes, &vectors, &places, &mut results);
        self.unpack(grid, &strip, [images * taken, taken, pitch], target);
    }

    /// Takes the rows of a strip, whose outputs, images and rows lie `apart`, to the target.
    fn unpack(&self, grid: &Grid, strip: &[f32], apart: [usize; 3], target: &mut [f32]) {
        let area = self.size[0] * self.size[1];
        for (image, target) in target.chunks_exact_mut(self.outputs * area).enumerate() {
            for (output, target) in target.chunks_exact_mut(area).enumerate() {
                let strip = &strip[output * apart[0] + image * apart[1]..];
                for row in 0..grid.size[0] {
                    let source = &strip[row * apart[2]..][..grid.size[1]];
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

    fn copies(&self, plan: &Plan<'_>, images: usize, planes: &[f32], target: &mut [f32], direct: bool) {
        let grid = &plan.part.grid;
        let lanes = lanes();
        let area = grid.size[0] * grid.size[1];
        let columns = images * area;
        let width = plan.form.width();
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
        let mut copies = Scratch::new(panels * width * DEPTH.min(plan.part.offsets.len()));
        self.by_depth(plan, |first, offsets, weights| {
            self.copy(grid, images, planes, offsets, width, &mut copies);
            let panel = width * offsets.len();
            let rows: Vec<u32> = (0..offsets.len()).map(|k| (k * width) as u32).collect();
            let vectors: Vec<u32> = (0..places.len())
                .map(|vector| vector * lanes)
                .map(|column| (column / width * panel + column % width) as u32)
                .collect();
            let target_row = if direct { area } else { strip_row };
            Correlation {
                form: plan.form,
                weights,
                outputs: self.outputs,
                offsets: &rows,
                source: &copies,
                vectors: &vectors,
                target: if direct { &mut *target } else { &mut strip },
                target_row,
                apart: [offsets.len(), target_row].map(|length| plan.form.rows * length),
                places: &places,
                begins: first == 0,
                bias: self.bias,
            }
            .run();
        });
        if !direct {
            self.unpack(grid, &strip, [strip_row, area, grid.size[1]], target);
        }
    }

    /// Writes the shifted images as `[panels, products, width]`.
    fn copy(&self, grid: &Grid, images: usize, planes: &[f32], offsets: &[u32], width: usize, copies: &mut [f32]) {
        let panel = width * offsets.len();
        for image in 0..images {
            for row in 0..grid.size[0] {
                let column = (image * grid.size[0] + row) * grid.size[1];
                let source = image * self.planes.image() + grid.first + row * self.planes.plane[1];
                let mut done = 0;
                // A row may continue in the next panel.
                while done < grid.size[1] {
                    let at = column + done;
                    let part = (grid.size[1] - done).min(width - at % width);
                    let targets = &mut copies[at / width * panel + at % width..];
                    copy_shifts(&planes[source + done..], offsets, part, targets, width);
                    done += part;
                }
            }
        }
    }
}

/// Copies `length` numbers from each offset, to rows that lie `width` apart.
fn copy_shifts(source: &[f32], offsets: &[u32], length: usize, targets: &mut [f32], width: usize) {
    match length {
        4 => copy_few::<4>(source, offsets, targets, width),
        8 => copy_few::<8>(source, offsets, targets, width),
        _ => {
            for (offset, target) in offsets.iter().zip(targets.chunks_mut(width)) {
                target[..length].copy_from_slice(&source[*offset as usize..][..length]);
            }
        }
    }
}

/// A length that the compiler knows needs no call for each copy.
fn copy_few<const N: usize>(source: &[f32], offsets: &[u32], targets: &mut [f32], width: usize) {
    for (offset, target) in offsets.iter().zip(targets.chunks_mut(width)) {
        let source: &[f32] = &source[*offset as usize..][..N];
        target[..N].copy_from_slice(source);
    }
}
