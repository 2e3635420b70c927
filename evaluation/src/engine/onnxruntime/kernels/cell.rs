//! One step of an LSTM layer and its gradient, in one pass each.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `B`, `H` | rows, hidden units | |
//! | `s` | sums of the gates input, output, forget and candidate | `[B, 4 H]` |
//! | `i`, `o`, `f` | gates, the logistic function of their sums | `[B, 3 H]` together |
//! | `g`, `c`, `t`, `h` | candidate `tanh s`, cell `f c + i g`, `tanh c`, hidden state `o t` | `[B, H]` |
//!
//! The functions are those of Cephes (Moshier 1992): polynomials after a reduction of the argument, with a relative
//! error of some 1e-7, in a form that is the same operations for every number and so fills vectors.

#![expect(
    clippy::inline_always,
    reason = "the instructions are those of the caller, which alone knows the processor"
)]
#![expect(clippy::many_single_char_names, reason = "the names are those of the formula")]

use super::Parallel;
use super::plain::Input;
use crate::vectors::vectorized;

/// `eˣ`, for `x` up to 0; below -87 the result is that of -87.
#[inline(always)]
pub(super) fn exp_negative(x: f32) -> f32 {
    /// Adding this rounds to a whole number, which stands in the last bits.
    const ROUND: f32 = 12_582_912.0;
    // Unlike `max`, this keeps what is not a number.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut sum = 1.987_569_3e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        sum = sum * rest + coefficient;
    }
    let power = f32::from_bits(
        shifted
            .to_bits()
            .wrapping_sub(ROUND.to_bits())
            .wrapping_add(127)
            .wrapping_shl(23),
    );
    (sum * rest * rest + rest + 1.0) * power
}

#[inline(always)]
pub(super) fn logistic(x: f32) -> f32 {
    let e = exp_negative(-x.abs());
    let small = e / (1.0 + e);
    if x < 0.0 { small } else { 1.0 - small }
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    let e = exp_negative(-2.0 * x.abs());
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    let z = x * x;
    let mut sum = -5.704_988_7e-3;
    for coefficient in [2.063_909e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328e-1] {
        sum = sum * z + coefficient;
    }
    if x.abs() < 0.625 { sum * z * x + x } else { large }
}

/// `h`, `c`, the gates, `g` and `t` from `s` and the cell before.
pub(super) fn lstm_cell(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], _: Parallel<'_>) {
    let [s, before] = [0, 1].map(|index: usize| inputs[index].numbers);
    let [h, c, gates, g, t] = outputs else {
        unreachable!("it has five outputs")
    };
    let hidden = *inputs[1].shape.last().unwrap_or(&1) as usize;
    vectorized(
        #[inline(always)]
        || {
            let sums = s.chunks_exact(4 * hidden);
            for (row, (s, gates)) in sums.zip(gates.chunks_exact_mut(3 * hidden)).enumerate() {
                for (gate, s) in gates.iter_mut().zip(s) {
                    *gate = logistic(*s);
                }
                let range = row * hidden..(row + 1) * hidden;
                let (h, c, g, t) = (
                    &mut h[range.clone()],
                    &mut c[range.clone()],
                    &mut g[range.clone()],
                    &mut t[range.clone()],
                );
                for (g, s) in g.iter_mut().zip(&s[3 * hidden..]) {
                    *g = tanh(*s);
                }
                let (i, rest) = gates.split_at(hidden);
                let (o, f) = rest.split_at(hidden);
                for ((((c, i), g), f), before) in c.iter_mut().zip(i).zip(&*g).zip(f).zip(&before[range]) {
                    *c = i * g + f * before;
                }
                for (((h, t), c), o) in h.iter_mut().zip(t).zip(&*c).zip(o) {
                    *t = tanh(*c);
                    *h = o * *t;
                }
            }
        },
    );
}

/// The gradients of `s` and of the cell before, from those of `h` and `c`, the gates, `g`, `t` and the cell before.
pub(super) fn lstm_cell_gradient(inputs: &[Input<'_>], outputs: &mut [&mut [f32]], _: Parallel<'_>) {
    let [dh, dc, gates, g, t, before] = [0, 1, 2, 3, 4, 5].map(|index: usize| inputs[index].numbers);
    let [ds, d_before] = outputs else {
        unreachable!("it has two outputs")
    };
    let hidden = *inputs[0].shape.last().unwrap_or(&1) as usize;
    vectorized(
        #[inline(always)]
        || {
            let rows = ds.chunks_exact_mut(4 * hidden).zip(d_before.chunks_exact_mut(hidden));
            for (row, (ds, d_before)) in rows.enumerate() {
                let range = row * hidden..(row + 1) * hidden;
                let (i, rest) = gates[row * 3 * hidden..(row + 1) * 3 * hidden].split_at(hidden);
                let (o, f) = rest.split_at(hidden);
                let (di, rest) = ds.split_at_mut(hidden);
                let (d_o, rest) = rest.split_at_mut(hidden);
                let (df, dg) = rest.split_at_mut(hidden);
                let [dh, dc, g, t, before] = [dh, dc, g, t, before].map(|values| &values[range.clone()]);
                for at in 0..hidden {
                    let through = dh[at] * o[at];
                    let total = dc[at] + (through - through * t[at] * t[at]);
                    let parts = [total * g[at], dh[at] * t[at], total * before[at]];
                    di[at] = parts[0] * i[at] * (1.0 - i[at]);
                    d_o[at] = parts[1] * o[at] * (1.0 - o[at]);
                    df[at] = parts[2] * f[at] * (1.0 - f[at]);
                    let candidate = total * i[at];
                    dg[at] = candidate - candidate * g[at] * g[at];
                    d_before[at] = total * f[at];
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_those_of_the_library_in_double_precision() {
        for step in -4000..4000 {
            let x = step as f32 * 0.025;
            let wide = f64::from(x);
            let error = |found: f32, expected: f64| ((f64::from(found) - expected) / expected.abs().max(1e-30)).abs();
            assert!(error(tanh(x), wide.tanh()) < 3e-7, "tanh {x}");
            if x > -80.0 {
                let expected = 1.0 / (1.0 + (-wide).exp());
                assert!(error(logistic(x), expected) < 3e-7, "logistic {x}");
            }
        }
        assert!(tanh(f32::NAN).is_nan() && logistic(f32::NAN).is_nan());
    }
}
