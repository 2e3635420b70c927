//! Gradients of convolutions by their weights.

use std::sync::{Mutex, PoisonError};

use super::super::Parallel;
use super::super::packing::{Weights, packed};
use super::super::scratch::Scratch;
use super::super::tile::{Correlation, Form, Outer, lanes, outer_tile};
use super::{DEPTH, Shapes, winograd};
use crate::vectors::machine;

/// Places of a result up to which its images are taken together, with vectors along the weights.
const SMALL: usize = 64;

/// `dw`: products of shifted images with `dy`.
pub(in super::super) fn weight_gradient(
    shapes: &Shapes,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    threads: usize,
    parallel: Parallel<'_>,
) {
    if winograd::weight_gradient(shapes, x, dy, dw, threads, parallel) {
        return;
    }
    if shapes.to[0] * shapes.to[1] <= SMALL && shapes.outputs >= 64 && shapes.depth() >= 3 * lanes() {
        along_weights(shapes, x, dy, dw, parallel);
    } else {
        along_outputs(shapes, x, dy, dw, threads, parallel);
    }
}

/// For small images of many channels, whose sums are many and short: each goes to its place as it is done.
fn along_weights(shapes: &Shapes, x: &[f32], dy: &[f32], dw: &mut [f32], parallel: Parallel<'_>) {
    let (planes, offsets) = shapes.windows();
    let (depth, outputs, images) = (shapes.depth(), shapes.outputs, shapes.images);
    let area = shapes.to[0] * shapes.to[1];
    let mut space = Scratch::new(planes.length(images));
    let image = planes.image();
    let sources = x.chunks_exact(shapes.channels * shapes.from[0] * shapes.from[1]);
    for (x, space) in sources.zip(space.chunks_exact_mut(image)) {
        planes.write(x, space);
    }
    // The zeros after the last row.
    space[images * image..].fill(0.0);
    let begins: Vec<usize> = (0..images)
        .flat_map(|at| (0..shapes.to[0]).map(move |row| at * image + row * planes.plane[1]))
        .flat_map(|start| start..start + shapes.to[1])
        .collect();
    let form = Form::fitting(outputs, depth);
    let width = form.width();
    // Each number of `dy` is one weight of the sums over all places of all images.
    let weights = Weights::Blocks {
        numbers: dy,
        size: area,
        chosen: (0..area).collect(),
    };
    let part = begins.len().div_ceil(begins.len().div_ceil(DEPTH));
    let mut rows = Scratch::new(packed(outputs, begins.len(), form.rows));
    let parts = rows.chunks_mut(packed(outputs, part, form.rows));
    for (first, rows) in (0..begins.len()).step_by(part).zip(parts) {
        weights.pack(outputs, first..(first + part).min(begins.len()), form.rows, rows);
    }
    let mut columns: Vec<Vec<&mut [f32]>> = offsets.chunks(width).map(|_| Vec::with_capacity(outputs)).collect();
    for row in dw.chunks_exact_mut(depth) {
        for (column, part) in columns.iter_mut().zip(row.chunks_mut(width)) {
            column.push(part);
        }
    }
    let columns: Vec<_> = columns.into_iter().zip(offsets.chunks(width)).map(Mutex::new).collect();
    let vectors: Vec<u32> = (0..width).step_by(lanes()).map(|place| place as u32).collect();
    let steps: Vec<u32> = (0..part).map(|step| (step * width) as u32).collect();
    let (space, rows) = (&*space, &*rows);
    parallel(columns.len(), &|index| {
        let mut column = columns[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (targets, offsets) = &mut *column;
        let mut shifts = Scratch::new(part * width);
        let mut sums = Scratch::new(outputs * width);
        for (first, begins) in (0..).step_by(part).zip(begins.chunks(part)) {
            for (begin, shifts) in begins.iter().zip(shifts.chunks_exact_mut(width)) {
                let space = &space[*begin..];
                for (shift, offset) in shifts.iter_mut().zip(*offsets) {
                    *shift = space[*offset as usize];
                }
                shifts[offsets.len()..].fill(0.0);
            }
            Correlation {
                form,
                weights: &rows[packed(outputs, first, form.rows)..][..packed(outputs, begins.len(), form.rows)],
                outputs,
                offsets: &steps[..begins.len()],
                source: &shifts,
                vectors: &vectors,
                target: &mut sums,
                target_row: width,
                apart: [form.rows * begins.len(), form.rows * width],
                places: &vectors,
                begins: first == 0,
                bias: None,
            }
            .run();
        }
        for (target, sums) in targets.iter_mut().zip(sums.chunks_exact(width)) {
            target.copy_from_slice(&sums[..target.len()]);
        }
    });
}

/// With vectors along the outputs, whose numbers of one place are laid side by side.
fn along_outputs(shapes: &Shapes, x: &[f32], dy: &[f32], dw: &mut [f32], threads: usize, parallel: Parallel<'_>) {
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
