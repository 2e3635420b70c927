//! Brings inputs to one size by constants that are found on the training rows alone.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `x` | an input as the file has it | |
//! | `s` | `data.scale` | one number |
//! | `a` | shift: mean or minimum of `s x` | one per unit |
//! | `d` | divisor: standard deviation or range of `s x`, 1 for a constant unit | one per unit |
//! | `y` | what the model sees, `y = (s x - a) / d` | |
//!
//! Numbers of classes and `data.unscaled` are left alone: `a = 0`, `d = s`.
//!
//! A unit is what shares its constants: each feature of a vector, the whole of a matrix, each channel of an image or a
//! volume, which is its first axis unless the layout says that it is the last.

use serde::Serialize;

use super::description::Normalize;
use super::layout::ImageLayout;

/// The constants that turn inputs into what the model sees.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaling {
    /// `none`, `standard` or `minmax`.
    pub method: &'static str,
    /// Factor of every input, applied first.
    pub scale: f64,
    /// Subtracted after scaling, one per unit; empty for `none`.
    pub shift: Vec<f64>,
    /// Divides the result, one per unit; empty for `none`.
    pub divisor: Vec<f64>,
    /// Axes of a row: `chw` or `hwc` as in the file, or how they were turned.
    pub(crate) layout: ImageLayout,
    /// What stood for missing numbers, one for each of a row of the file, where they were filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fill: Option<Vec<f64>>,
}

/// How many units a row has, and which unit each number of it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Units {
    pub(crate) count: usize,
    size: usize,
    /// Whether the units take turns, as channels do that are the last axis.
    interleaved: bool,
}

impl Units {
    /// Of rows that have this shape in the file.
    pub(crate) fn of(row_shape: &[usize], channels_last: bool) -> Self {
        let length: usize = row_shape.iter().product();
        let count = match row_shape {
            [features] => *features,
            [] | [_, _] => 1,
            [.., channels] if channels_last => *channels,
            [channels, ..] => *channels,
        };
        Self {
            count,
            size: length / count,
            interleaved: channels_last && row_shape.len() > 2,
        }
    }

    pub(crate) fn unit(self, element: usize) -> usize {
        if self.interleaved {
            element % self.count
        } else {
            element / self.size
        }
    }
}

impl Scaling {
    /// Finds the constants; `each` calls its argument with unit and scaled value for all numbers of the training rows,
    /// and may fail to read them.
    pub(crate) fn fit<E>(
        method: Normalize,
        scale: f64,
        units: usize,
        mut each: impl FnMut(&mut dyn FnMut(usize, f64)) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (name, shift, divisor) = match method {
            Normalize::None => ("none", Vec::new(), Vec::new()),
            Normalize::Minmax => {
                let mut low = vec![f64::INFINITY; units];
                let mut high = vec![f64::NEG_INFINITY; units];
                each(&mut |unit, value| {
                    low[unit] = low[unit].min(value);
                    high[unit] = high[unit].max(value);
                })?;
                let range = low
                    .iter()
                    .zip(&high)
                    .map(|(low, high)| divisor(high - low, *low))
                    .collect();
                ("minmax", low, range)
            }
            Normalize::Standard => {
                let mut count = vec![0.0; units];
                let mut mean = vec![0.0; units];
                each(&mut |unit, value| {
                    count[unit] += 1.0;
                    mean[unit] += (value - mean[unit]) / count[unit];
                })?;
                // A second pass about the mean loses no digits, unlike the difference of squares.
                let mut squares = vec![0.0; units];
                each(&mut |unit, value| {
                    let distance = value - mean[unit];
                    squares[unit] += distance * distance;
                })?;
                let deviations = squares
                    .iter()
                    .zip(&count)
                    .zip(&mean)
                    .map(|((squares, count), mean): ((&f64, &f64), &f64)| divisor((squares / count).sqrt(), *mean))
                    .collect();
                ("standard", mean, deviations)
            }
        };
        Ok(Self {
            method: name,
            scale,
            shift,
            divisor,
            layout: ImageLayout::default(),
            fill: None,
        })
    }

    /// Leaves some of `count` units as they are.
    pub(crate) fn leave(&mut self, units: impl Iterator<Item = usize>, count: usize) {
        let mut units = units.peekable();
        if units.peek().is_none() {
            return;
        }
        self.shift.resize(count, 0.0);
        self.divisor.resize(count, 1.0);
        for unit in units {
            self.shift[unit] = 0.0;
            self.divisor[unit] = self.scale;
        }
    }

    /// What the model sees in place of `value`.
    pub(crate) fn apply(&self, unit: usize, value: f64) -> f64 {
        let scaled = value * self.scale;
        match (self.shift.get(unit), self.divisor.get(unit)) {
            (Some(shift), Some(divisor)) => (scaled - shift) / divisor,
            _ => scaled,
        }
    }
}

/// `spread`, or 1 where it is nothing but rounding noise beside `level`.
fn divisor(spread: f64, level: f64) -> f64 {
    if spread > level.abs() * 1e-12 && spread.is_normal() {
        spread
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(method: Normalize, values: &[f64]) -> Scaling {
        Scaling::fit(method, 1.0, 1, |take| {
            for value in values {
                take(0, *value);
            }
            Ok::<(), ()>(())
        })
        .unwrap()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn standard_gives_mean_zero_and_deviation_one() {
        let scaling = fit(Normalize::Standard, &[1.0, 2.0, 3.0, 4.0]);
        assert!(close(scaling.shift[0], 2.5) && close(scaling.divisor[0], 1.25f64.sqrt()));
        assert!(close(scaling.apply(0, 2.5), 0.0));
    }

    #[test]
    fn minmax_gives_zero_to_one() {
        let scaling = fit(Normalize::Minmax, &[-2.0, 6.0]);
        assert!(close(scaling.apply(0, -2.0), 0.0) && close(scaling.apply(0, 6.0), 1.0));
    }

    #[test]
    fn a_constant_feature_is_not_divided_by_nothing() {
        for method in [Normalize::Standard, Normalize::Minmax] {
            let scaling = fit(method, &[0.1; 7]);
            assert!(close(scaling.divisor[0], 1.0), "{scaling:?}");
            assert!(close(scaling.apply(0, 0.1), 0.0));
        }
    }

    #[test]
    fn large_offsets_keep_their_small_differences() {
        let scaling = fit(Normalize::Standard, &[1e9, 1e9 + 1.0, 1e9 + 2.0]);
        assert!((scaling.divisor[0] - (2.0f64 / 3.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn vectors_matrices_and_images_have_their_own_units() {
        let count = |shape: &[usize]| Units::of(shape, false).count;
        assert_eq!((count(&[64]), count(&[8, 8]), count(&[3, 4, 4])), (64, 1, 3));
        assert_eq!(Units::of(&[3, 4, 4], false).unit(16), 1);
        let last = Units::of(&[4, 5, 3], true);
        assert_eq!((last.count, last.unit(16)), (3, 1));
    }
}
