//! Images that differ a little from pass to pass: mirrored, and shifted by a crop of the padded image.
//!
//! What happens to an image is a function of seed, pass and position in the training set alone, so a resumed training sees
//! what an uninterrupted one would have seen.

use serde::Serialize;

use super::split;

/// What may happen to an image, each with equal chances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Augment {
    /// Left and right exchanged, or not.
    pub(crate) flip_horizontal: bool,
    /// Top and bottom exchanged, or not.
    pub(crate) flip_vertical: bool,
    /// Shifted by up to so many pixels in each direction; what comes in is as if the file held zeros there.
    pub(crate) pad: usize,
    pub(crate) seed: u64,
}

/// Lengths of an image as it lies in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageShape {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Whether the channels are the last axis.
    pub(crate) channels_last: bool,
}

impl ImageShape {
    /// Of rows of `shape`: `[height, width]`, `[channels, height, width]`, or with the channels last.
    pub(crate) fn of(shape: &[usize], channels_last: bool) -> Option<Self> {
        let (channels, height, width) = match *shape {
            [height, width] => (1, height, width),
            [height, width, channels] if channels_last => (channels, height, width),
            [channels, height, width] => (channels, height, width),
            _ => return None,
        };
        Some(Self {
            channels,
            height,
            width,
            channels_last,
        })
    }
}

impl Augment {
    /// Writes to `out` what becomes of `image` in a pass; `padding` is an image of nothing but zeros.
    pub(crate) fn apply(
        &self,
        shape: ImageShape,
        (pass, position): (u64, u64),
        image: &[f32],
        padding: &[f32],
        out: &mut [f32],
    ) {
        let bits = split::key_of(self.seed, pass, position);
        let mirror_x = self.flip_horizontal && bits & 1 == 1;
        let mirror_y = self.flip_vertical && bits & 2 == 2;
        let choices = 2 * self.pad as u64 + 1;
        let shift = |bits: u64| (bits % choices) as isize - self.pad as isize;
        let (shift_y, shift_x) = (shift((bits >> 2) & 0x3fff_ffff), shift(bits >> 32));
        let (down, across, plane) = if shape.channels_last {
            (shape.width * shape.channels, shape.channels, 1)
        } else {
            (shape.width, 1, shape.width * shape.height)
        };
        let source = |at: usize, shift: isize, length: usize, mirror: bool| {
            let from = usize::try_from(at as isize + shift)
                .ok()
                .filter(|from| *from < length)?;
            Some(if mirror { length - 1 - from } else { from })
        };
        for y in 0..shape.height {
            let from_y = source(y, shift_y, shape.height, mirror_y);
            for x in 0..shape.width {
                let from = from_y.zip(source(x, shift_x, shape.width, mirror_x));
                for channel in 0..shape.channels {
                    let at = channel * plane + y * down + x * across;
                    out[at] = match from {
                        Some((y, x)) => image[channel * plane + y * down + x * across],
                        None => padding[at],
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 2,
        height: 3,
        width: 4,
        channels_last: false,
    };

    fn augmented(augment: Augment, position: u64) -> Vec<f32> {
        let image: Vec<f32> = (1..=24_u8).map(f32::from).collect();
        let mut out = vec![0.0; 24];
        augment.apply(SHAPE, (3, position), &image, &[-1.0; 24], &mut out);
        out
    }

    const NOTHING: Augment = Augment {
        flip_horizontal: false,
        flip_vertical: false,
        pad: 0,
        seed: 9,
    };

    #[test]
    fn an_image_is_mirrored_in_about_half_of_all_cases() {
        let flip = Augment {
            flip_horizontal: true,
            ..NOTHING
        };
        let mirrored = (0..200).filter(|at| {
            let out = augmented(flip, *at);
            assert!(out[..4] == [1.0, 2.0, 3.0, 4.0] || out[..4] == [4.0, 3.0, 2.0, 1.0]);
            out[0] > 1.5
        });
        let count = mirrored.count();
        assert!((80..120).contains(&count), "{count}");
    }

    #[test]
    fn a_crop_shifts_all_channels_alike_and_pads() {
        let crop = Augment { pad: 1, ..NOTHING };
        let mut corners = std::collections::BTreeSet::new();
        for at in 0..200 {
            let out = augmented(crop, at);
            // The middle of both channels comes from the same pixel.
            assert!((out[12 + 5] - out[5] - 12.0).abs() < 1e-6);
            corners.insert((out[5] as i32, out.iter().filter(|value| **value < 0.0).count()));
        }
        assert_eq!(corners.len(), 9, "{corners:?}");
        assert_eq!(augmented(crop, 5), augmented(crop, 5));
    }

    #[test]
    fn channels_may_come_last() {
        let shape = ImageShape::of(&[3, 4, 2], true).unwrap();
        let image: Vec<f32> = (0..24_u8).map(f32::from).collect();
        let flip = Augment {
            flip_horizontal: true,
            ..NOTHING
        };
        let mut out = vec![0.0; 24];
        let at = (0..50)
            .find(|at| {
                flip.apply(shape, (0, *at), &image, &[0.0; 24], &mut out);
                out[0] > 0.5
            })
            .unwrap();
        assert_eq!(out[..4], [6.0, 7.0, 4.0, 5.0], "{at}");
    }
}
