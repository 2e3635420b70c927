//! The weights with which `Resize` mixes elements along one axis.

use super::Node;

/// A resized axis: for each output element the input elements that it is mixed from, with their weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interpolation {
    pub(crate) axis: usize,
    pub(crate) inputs: usize,
    pub(crate) taps: Vec<Vec<(usize, f64)>>,
}

impl Interpolation {
    /// The resized axes of a `Resize` node from `input` to `output`; `scales` where it names them.
    pub(crate) fn of(
        node: &Node,
        input: &[usize],
        output: &[usize],
        scales: Option<&[f32]>,
    ) -> Result<Vec<Self>, String> {
        if node.int("antialias").unwrap_or(0) != 0 {
            return Err("attribute `antialias` is not supported; export the model without it".into());
        }
        let rank = input.len();
        let axes: Vec<usize> = match node.ints("axes") {
            Some(axes) => axes
                .iter()
                .map(|axis| (if *axis < 0 { axis + rank as i64 } else { *axis }) as usize)
                .collect(),
            None => (0..rank).collect(),
        };
        let mut all = Vec::new();
        for (position, axis) in axes.into_iter().enumerate() {
            let (from, to) = (input[axis], output[axis]);
            let scale = scales.map_or(to as f32 / from as f32, |scales| scales[position]);
            let is_same = from == to && (scale - 1.0).abs() <= 0.0;
            if !is_same {
                let taps = (0..to)
                    .map(|at| taps(node, at, from, to, scale))
                    .collect::<Result<_, String>>()?;
                all.push(Self {
                    axis,
                    inputs: from,
                    taps,
                });
            }
        }
        Ok(all)
    }

    /// How often each element is repeated, if that is all that happens.
    pub(crate) fn repeats(&self) -> Option<usize> {
        let times = self.taps.len() / self.inputs.max(1);
        let is_repeat = times * self.inputs == self.taps.len()
            && self
                .taps
                .iter()
                .enumerate()
                .all(|(at, taps)| matches!(taps[..], [(from, _)] if from == at / times));
        is_repeat.then_some(times)
    }

    /// `[outputs, inputs]`
    pub(crate) fn matrix(&self) -> Vec<f64> {
        let mut matrix = vec![0.0; self.taps.len() * self.inputs];
        for (row, taps) in self.taps.iter().enumerate() {
            for (column, weight) in taps {
                matrix[row * self.inputs + column] += weight;
            }
        }
        matrix
    }
}

/// Where output element `at` lies on the input's axis. In single precision, as engines compute it.
fn coordinate(node: &Node, at: usize, from: usize, to: usize, scale: f32) -> Result<f32, String> {
    let x = at as f32;
    Ok(
        match node.string("coordinate_transformation_mode").unwrap_or("half_pixel") {
            "half_pixel" => (x + 0.5) / scale - 0.5,
            "half_pixel_symmetric" => {
                let adjustment = to as f32 / (scale * from as f32);
                let centre = from as f32 / 2.0;
                centre * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
            }
            "pytorch_half_pixel" => {
                if to > 1 {
                    (x + 0.5) / scale - 0.5
                } else {
                    0.0
                }
            }
            "align_corners" => {
                if to > 1 {
                    x * (from - 1) as f32 / (to - 1) as f32
                } else {
                    0.0
                }
            }
            "asymmetric" => x / scale,
            other => {
                return Err(format!(
                    "attribute `coordinate_transformation_mode` is `{other}`, which is not supported"
                ));
            }
        },
    )
}

fn taps(node: &Node, at: usize, from: usize, to: usize, scale: f32) -> Result<Vec<(usize, f64)>, String> {
    let x = coordinate(node, at, from, to, scale)?;
    let place = |at: f32| (at.max(0.0) as usize).min(from - 1);
    match node.string("mode").unwrap_or("nearest") {
        "nearest" => {
            let nearest = match node.string("nearest_mode").unwrap_or("round_prefer_floor") {
                "round_prefer_ceil" => (x + 0.5).floor(),
                "floor" => x.floor(),
                "ceil" => x.ceil(),
                _ => (x - 0.5).ceil(),
            };
            Ok(vec![(place(nearest), 1.0)])
        }
        "linear" => {
            let x = x.clamp(0.0, (from - 1) as f32);
            let share = f64::from(x - x.floor());
            Ok(vec![(place(x.floor()), 1.0 - share), (place(x.floor() + 1.0), share)])
        }
        "cubic" => {
            let a = f64::from(node.float("cubic_coeff_a").unwrap_or(-0.75));
            let excludes = node.int("exclude_outside").unwrap_or(0) != 0;
            let share = f64::from(x - x.floor());
            // Keys 1981, eq. 15 with a free.
            let weight = |distance: f64| {
                let d = distance.abs();
                if d <= 1.0 {
                    ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
                } else {
                    ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
                }
            };
            let mut taps = Vec::new();
            for offset in -1_i8..=2 {
                let tap = x.floor() + f32::from(offset);
                let is_outside = tap < 0.0 || tap > (from - 1) as f32;
                if !(excludes && is_outside) {
                    taps.push((place(tap), weight(share - f64::from(offset))));
                }
            }
            let total: f64 = taps.iter().map(|(_, weight)| weight).sum();
            Ok(taps.into_iter().map(|(at, weight)| (at, weight / total)).collect())
        }
        other => Err(format!("attribute `mode` is `{other}`, which is not supported")),
    }
}
