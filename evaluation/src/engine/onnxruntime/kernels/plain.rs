//! Gradients and updates in one pass over memory, where standard operators take one pass each.
//!
//! Sums are taken in a fixed order, whatever the number of threads.

#![expect(
    clippy::inline_always,
    reason = "its instructions are those of the caller, which alone knows the processor"
)]

use std::sync::{Mutex, PoisonError};

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::Parallel;
use super::cell::{lstm_cell, lstm_cell_gradient};
use super::gelu::{gelu_gradient, gelu_tanh_gradient};
use crate::vectors::vectorized;

/// An operator without attributes.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    pub(super) name: &'static str,
    inputs: usize,
    outputs: &'static [Shape],
    compute: Compute,
    threads: usize,
}

/// The shape of an output.
#[derive(Clone, Copy)]
enum Shape {
    /// That of an input.
    Like(usize),
    /// One number a channel of the first input, whose rank it has.
    Channels,
    /// That of an input, with three and four times its last axis.
    Gates(usize),
    Sums(usize),
}

pub(super) struct Input<'a> {
    pub(super) shape: &'a [i64],
    pub(super) numbers: &'a [f32],
}

type Compute = fn(&[Input<'_>], &mut [&mut [f32]], Parallel<'_>);

/// All operators of this file.
pub(super) fn all(threads: usize) -> [Plain; 11] {
    use Shape::{Channels, Gates, Like, Sums};
    let plain = |name, inputs, outputs, compute| Plain {
        name,
        inputs,
        outputs,
        compute,
        threads,
    };
    [
        plain("ReluGradient", 2, &[Like(0)], relu_gradient),
        plain("GeluGradient", 2, &[Like(0)], gelu_gradient),
        plain("GeluTanhGradient", 2, &[Like(0)], gelu_tanh_gradient),
        plain("SoftmaxGradient", 2, &[Like(0)], softmax_gradient),
        plain(
            "LayerNormGradient",
            5,
            &[Like(0), Like(2), Like(2)],
            layer_norm_gradient,
        ),
        plain("BatchNorm", 4, &[Like(0), Channels, Channels], batch_norm),
        plain(
            "BatchNormGradient",
            5,
            &[Like(0), Like(2), Like(2)],
            batch_norm_gradient,
        ),
        plain("MomentumUpdate", 5, &[Like(0), Like(0)], momentum_update),
        plain(
            "LstmCell",
            2,
            &[Like(1), Like(1), Gates(1), Like(1), Like(1)],
            lstm_cell,
        ),
        plain("LstmCellGradient", 6, &[Sums(0), Like(0)], lstm_cell_gradient),
        plain("AdamUpdate", 8, &[Like(0), Like(0), Like(0)], adam_update),
    ]
}

impl Operator for Plain {
    type Kernel<'attr> = Plain;

    fn name(&self) -> &'static str {
        self.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..self.inputs).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        self.outputs
            .iter()
            .map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        Ok(*self)
    }
}

impl Kernel for Plain {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || ort::Error::new("an input is missing");
        let values: Vec<_> = (0..self.inputs)
            .map(|index| context.input(index)?.ok_or_else(missing))
            .collect::<ort::Result<_>>()?;
        let inputs: Vec<Input<'_>> = values
            .iter()
            .map(|value| {
                let (shape, numbers) = value.try_extract_tensor::<f32>()?;
                Ok(Input { shape, numbers })
            })
            .collect::<ort::Result<_>>()?;
        let shape = |shape: &Shape| match shape {
            Shape::Like(index) => inputs[*index].shape.to_vec(),
            Shape::Gates(index) | Shape::Sums(index) => {
                let mut wide = inputs[*index].shape.to_vec();
                if let Some(last) = wide.last_mut() {
                    *last *= if matches!(shape, Shape::Gates(_)) { 3 } else { 4 };
                }
                wide
            }
            Shape::Channels => {
                let mut shape = vec![1; inputs[0].shape.len()];
                shape[1] = inputs[0].shape[1];
                shape
            }
        };
        let mut outputs: Vec<_> = (0..)
            .zip(self.outputs)
            .map(|(index, output)| context.output(index, shape(output))?.ok_or_else(missing))
            .collect::<ort::Result<_>>()?;
        let mut outputs: Vec<&mut [f32]> = outputs
            .iter_mut()
            .map(|output| Ok(output.try_extract_tensor_mut::<f32>()?.1))
            .collect::<ort::Result<_>>()?;
        (self.compute)(&inputs, &mut outputs, &|count, task| {
            super::each(context, self.threads, count, task);
        });
        Ok(())
    }
}

/// Numbers that one task works on, so that small tensors stay on one thread.
pub(super) const PIECE: usize = 1 << 14;

/// The sums of two functions of pairs of numbers.
#[inline(always)]
fn sums(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> [f32; 2]) -> [f64; 2] {
    let mut lanes = [[0.0_f32; 16]; 2];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in a.iter().zip(b).enumerate() {
            let terms = term(*a, *b);
            lanes[0][lane] += terms[0];
            lanes[1][lane] += terms[1];
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        let terms = term(*a, *b);
        lanes[0][lane] += terms[0];
        lanes[1][lane] += terms[1];
    }
    lanes.map(|lanes| lanes.iter().map(|sum| f64::from(*sum)).sum())
}

/// `dx = dy` where `y > 0`, else 0, from `dy` and `y`.
fn relu_gradient(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    let [dy, y] = [0, 1].map(|index: usize| inputs[index].numbers);
    let pieces: Vec<_> = outputs[0].chunks_mut(PIECE).map(Mutex::new).collect();
    parallel(pieces.len(), &|index| {
        let mut dx = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        let range = index * PIECE..index * PIECE + dx.len();
        let (dy, y) = (&dy[range.clone()], &y[range]);
        vectorized(
            #[inline(always)]
            || {
                for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                    *dx = if *y > 0.0 { *dy } else { 0.0 };
                }
            },
        );
    });
}

/// `dx = y (dy - Σ dy y)` over the last axis, from `dy` and `y`.
fn softmax_gradient(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    let [dy, y] = [0, 1].map(|index: usize| inputs[index].numbers);
    let width = *inputs[0].shape.last().unwrap_or(&1) as usize;
    let piece = (PIECE / width.max(1)).max(1) * width.max(1);
    let pieces: Vec<_> = outputs[0].chunks_mut(piece).map(Mutex::new).collect();
    parallel(pieces.len(), &|index| {
        let mut dx = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = dx
            .chunks_exact_mut(width)
            .zip(dy[index * piece..].chunks_exact(width))
            .zip(y[index * piece..].chunks_exact(width));
        vectorized(
            #[inline(always)]
            || {
                for ((dx, dy), y) in rows.by_ref() {
                    let sum = sums(dy, y, |dy, y| [dy * y, 0.0])[0] as f32;
                    for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
                        *dx = y * (dy - sum);
                    }
                }
            },
        );
    });
}

/// `dx = r (dh - mean(dh) - xh mean(dh xh))` with `dh = dy scale`, and the gradients of scale and bias, from `dy`,
/// `x`, the scale, the means and `r`; statistics are those of rows.
fn layer_norm_gradient(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    /// Parts of the rows, each with its own sums over columns.
    const PARTS: usize = 8;
    let [dy, x, scale, means, inverses] = [0, 1, 2, 3, 4].map(|index: usize| inputs[index].numbers);
    let [dx, d_scale, d_bias] = outputs else {
        unreachable!("it has three outputs")
    };
    let width = scale.len();
    let part = means.len().div_ceil(PARTS).max(1);
    let pieces: Vec<_> = dx
        .chunks_mut(part * width)
        .map(|dx| Mutex::new((dx, vec![0.0_f32; 2 * width])))
        .collect();
    parallel(pieces.len(), &|index| {
        let mut piece = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (dx, columns) = &mut *piece;
        let (d_scale, d_bias) = columns.split_at_mut(width);
        vectorized(
            #[inline(always)]
            || {
                for (row, dx) in (index * part..).zip(dx.chunks_exact_mut(width)) {
                    let (dy, x) = (&dy[row * width..][..width], &x[row * width..][..width]);
                    let (mean, inverse) = (means[row], inverses[row]);
                    for (((dx, dy), x), ((d_scale, d_bias), scale)) in dx
                        .iter_mut()
                        .zip(dy)
                        .zip(x)
                        .zip(d_scale.iter_mut().zip(d_bias.iter_mut()).zip(scale))
                    {
                        *d_scale += dy * ((x - mean) * inverse);
                        *d_bias += dy;
                        *dx = dy * scale;
                    }
                    let totals = sums(dx, x, |dh, x| [dh, dh * ((x - mean) * inverse)]);
                    let [first, second] = totals.map(|total| (total / width as f64) as f32);
                    for (dx, x) in dx.iter_mut().zip(x) {
                        *dx = (*dx - first - (x - mean) * inverse * second) * inverse;
                    }
                }
            },
        );
    });
    d_scale.fill(0.0);
    d_bias.fill(0.0);
    for piece in pieces {
        let (_, columns) = piece.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (total, part) in d_scale.iter_mut().chain(d_bias.iter_mut()).zip(columns) {
            *total += part;
        }
    }
}

/// Images, channels, and numbers of a channel of an image.
fn by_channel(shape: &[i64]) -> [usize; 3] {
    let size: i64 = shape[2..].iter().product();
    [shape[0] as usize, shape[1] as usize, size as usize]
}

/// Each channel of a tensor as a list of its parts, one an image.
fn channels(numbers: &mut [f32], [_, channels, size]: [usize; 3]) -> Vec<Mutex<Vec<&mut [f32]>>> {
    let mut all: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::new()).collect();
    for (index, part) in numbers.chunks_exact_mut(size).enumerate() {
        all[index % channels].push(part);
    }
    all.into_iter().map(Mutex::new).collect()
}

/// `y = (x - mean)/√(variance + ε) scale + bias`, mean and variance of each channel, from `x`, scale, bias and `ε`.
fn batch_norm(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    let [x, scale, bias, epsilon] = [0, 1, 2, 3].map(|index: usize| inputs[index].numbers);
    let [y, means, variances] = outputs else {
        unreachable!("it has three outputs")
    };
    let sizes = by_channel(inputs[0].shape);
    let [images, count, size] = sizes;
    let numbers = (images * size) as f64;
    let targets = channels(y, sizes);
    let statistics: Vec<_> = means.iter_mut().zip(variances.iter_mut()).map(Mutex::new).collect();
    parallel(count, &|channel| {
        let mut y = targets[channel].lock().unwrap_or_else(PoisonError::into_inner);
        let mut statistics = statistics[channel].lock().unwrap_or_else(PoisonError::into_inner);
        let part = |image: usize| &x[(image * count + channel) * size..][..size];
        vectorized(
            #[inline(always)]
            || {
                let mut total = 0.0;
                for image in 0..images {
                    total += sums(part(image), part(image), |x, _| [x, 0.0])[0];
                }
                let mean = (total / numbers) as f32;
                let mut total = 0.0;
                for image in 0..images {
                    total += sums(part(image), part(image), |x, _| [(x - mean) * (x - mean), 0.0])[0];
                }
                let variance = (total / numbers) as f32;
                let factor = scale[channel] / (variance + epsilon[0]).sqrt();
                for (image, y) in y.iter_mut().enumerate() {
                    for (y, x) in y.iter_mut().zip(part(image)) {
                        *y = (x - mean) * factor + bias[channel];
                    }
                }
                (*statistics.0, *statistics.1) = (mean, variance);
            },
        );
    });
}

/// `dx = scale/d (dy - mean(dy) - xh mean(dy xh))` with `xh = (x - mean)/d`, and the gradients of scale and bias,
/// from `dy`, `x`, the scale, the means and the deviations `d` of the channels.
fn batch_norm_gradient(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    let [dy, x, scale, means, deviations] = [0, 1, 2, 3, 4].map(|index: usize| inputs[index].numbers);
    let [dx, d_scale, d_bias] = outputs else {
        unreachable!("it has three outputs")
    };
    let sizes = by_channel(inputs[0].shape);
    let [images, count, size] = sizes;
    let numbers = (images * size) as f64;
    let targets = channels(dx, sizes);
    let gradients: Vec<_> = d_scale.iter_mut().zip(d_bias.iter_mut()).map(Mutex::new).collect();
    parallel(count, &|channel| {
        let mut dx = targets[channel].lock().unwrap_or_else(PoisonError::into_inner);
        let mut gradients = gradients[channel].lock().unwrap_or_else(PoisonError::into_inner);
        let start = |image: usize| (image * count + channel) * size;
        let (mean, inverse) = (means[channel], 1.0 / deviations[channel]);
        vectorized(
            #[inline(always)]
            || {
                let mut totals = [0.0; 2];
                for image in 0..images {
                    let (dy, x) = (&dy[start(image)..][..size], &x[start(image)..][..size]);
                    let part = sums(dy, x, |dy, x| [dy, dy * ((x - mean) * inverse)]);
                    totals = [totals[0] + part[0], totals[1] + part[1]];
                }
                let [first, second] = totals.map(|total| (total / numbers) as f32);
                let factor = scale[channel] * inverse;
                for (image, dx) in dx.iter_mut().enumerate() {
                    let (dy, x) = (&dy[start(image)..][..size], &x[start(image)..][..size]);
                    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                        *dx = (dy - first - (x - mean) * inverse * second) * factor;
                    }
                }
                (*gradients.0, *gradients.1) = (totals[1] as f32, totals[0] as f32);
            },
        );
    });
}

/// `m ← momentum m + g`, `w ← w - rate m`, from `w`, `g`, `m`, the rate and the momentum.
fn momentum_update(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    let [w, g, m, rate, momentum] = [0, 1, 2, 3, 4].map(|index: usize| inputs[index].numbers);
    let (rate, momentum) = (rate[0], momentum[0]);
    let [next, next_m] = outputs else {
        unreachable!("it has two outputs")
    };
    let count = w.len().div_ceil(PIECE);
    let pieces: Vec<_> = next
        .chunks_mut(PIECE)
        .zip(next_m.chunks_mut(PIECE))
        .map(Mutex::new)
        .collect();
    parallel(count, &|index| {
        let mut piece = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (next, next_m) = &mut *piece;
        let range = index * PIECE..index * PIECE + next.len();
        let (w, g, m) = (&w[range.clone()], &g[range.clone()], &m[range]);
        vectorized(
            #[inline(always)]
            || {
                for ((((next, next_m), w), g), m) in next.iter_mut().zip(next_m.iter_mut()).zip(w).zip(g).zip(m) {
                    *next_m = m * momentum + g;
                    *next = w - *next_m * rate;
                }
            },
        );
    });
}

/// `m ← β₁ m + g`, `v ← β₂ v + g²`, `w ← w - a m/(√v + e)`, from `w`, `g`, `m`, `v`, `a`, `e`, `β₁` and `β₂`.
fn adam_update(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], parallel: Parallel<'_>) {
    let [w, g, m, v] = [0, 1, 2, 3].map(|index: usize| inputs[index].numbers);
    let [step, epsilon, beta1, beta2] = [4, 5, 6, 7].map(|index: usize| inputs[index].numbers[0]);
    let [next, next_m, next_v] = outputs else {
        unreachable!("it has three outputs")
    };
    let pieces: Vec<_> = next
        .chunks_mut(PIECE)
        .zip(next_m.chunks_mut(PIECE))
        .zip(next_v.chunks_mut(PIECE))
        .map(Mutex::new)
        .collect();
    parallel(pieces.len(), &|index| {
        let mut piece = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        let ((next, next_m), next_v) = &mut *piece;
        let range = index * PIECE..index * PIECE + next.len();
        let (w, g, m, v) = (&w[range.clone()], &g[range.clone()], &m[range.clone()], &v[range]);
        vectorized(
            #[inline(always)]
            || {
                let targets = next.iter_mut().zip(next_m.iter_mut()).zip(next_v.iter_mut());
                for (((next, next_m), next_v), (((w, g), m), v)) in targets.zip(w.iter().zip(g).zip(m).zip(v)) {
                    *next_m = m * beta1 + g;
                    *next_v = v * beta2 + g * g;
                    *next = w - *next_m / (next_v.sqrt() + epsilon) * step;
                }
            },
        );
    });
}
