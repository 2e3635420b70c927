//! Where the channels of an image are: in files, and in what the model sees.

use serde::{Deserialize, Serialize};

/// The order of a row's axes. Models from `model.blocks` and from PyTorch take channels first, those from Keras last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub(crate) enum ImageLayout {
    /// As in the file, channels first.
    #[default]
    #[serde(rename = "chw")]
    First,
    /// As in the file, channels last.
    #[serde(rename = "hwc")]
    Last,
    /// Channels last in the file, first for the model.
    #[serde(rename = "hwc to chw")]
    LastToFirst,
    /// Channels first in the file, last for the model.
    #[serde(rename = "chw to hwc")]
    FirstToLast,
}

impl ImageLayout {
    /// The shape that the model sees of rows that have `shape` in the file.
    pub(crate) fn of_model(self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if shape.len() >= 3 {
            match self {
                Self::First | Self::Last => {}
                Self::LastToFirst => shape.rotate_right(1),
                Self::FirstToLast => shape.rotate_left(1),
            }
        }
        shape
    }

    /// Which number of a row of the file each number of the model's row is; none where nothing moves.
    pub(crate) fn order(self, shape: &[usize]) -> Option<Vec<usize>> {
        if shape.len() < 3 || matches!(self, Self::First | Self::Last) {
            return None;
        }
        let (channels, pixels) = if self == Self::LastToFirst {
            let channels = shape[shape.len() - 1];
            (channels, shape.iter().product::<usize>() / channels)
        } else {
            (shape[0], shape[1..].iter().product())
        };
        Some(if self == Self::LastToFirst {
            (0..channels)
                .flat_map(|channel| (0..pixels).map(move |pixel| pixel * channels + channel))
                .collect()
        } else {
            (0..pixels)
                .flat_map(|pixel| (0..channels).map(move |channel| channel * pixels + pixel))
                .collect()
        })
    }

    /// The axes of a row of the file in the order in which the model has them; none where nothing moves.
    pub(crate) fn axes(self, shape: &[usize]) -> Option<Vec<usize>> {
        self.order(shape)?;
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        if self == Self::LastToFirst {
            axes.rotate_right(1);
        } else {
            axes.rotate_left(1);
        }
        Some(axes)
    }

    /// Whether the channels are the last axis of a row in the file.
    pub(crate) fn is_last_in_file(self) -> bool {
        matches!(self, Self::Last | Self::LastToFirst)
    }

    /// Whether the channels are the last axis of what the model sees.
    pub(crate) fn is_last_in_model(self) -> bool {
        matches!(self, Self::Last | Self::FirstToLast)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_channels_there_and_back_moves_nothing() {
        let file = [2, 3, 4];
        let model = ImageLayout::LastToFirst.of_model(&file);
        assert_eq!(model, [4, 2, 3]);
        assert_eq!(ImageLayout::FirstToLast.of_model(&model), file);
        let there = ImageLayout::LastToFirst.order(&file).unwrap();
        let back = ImageLayout::FirstToLast.order(&model).unwrap();
        // The second number of the model's row is the first channel of the second pixel.
        assert_eq!(there[1], 4);
        assert!(back.iter().enumerate().all(|(at, from)| there[*from] == at));
    }
}
