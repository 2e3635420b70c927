//! The sliding windows of convolutions and pools.

use super::Node;

/// How a window slides over the spatial axes; every list has one entry per axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) dilations: Vec<usize>,
    /// Padding before the first element.
    pub(crate) begin: Vec<usize>,
    /// Padding after the last element.
    pub(crate) end: Vec<usize>,
}

impl Window {
    /// The window of a convolution or pool over spatial axes of sizes `input`; `kernel` is used where the node does
    /// not name its own.
    pub(crate) fn sliding(node: &Node, kernel: &[usize], input: &[usize]) -> Result<Self, String> {
        let mut window = Self::unpadded(node, kernel, input.len())?;
        match node.string("auto_pad") {
            None | Some("NOTSET" | "") => window.take_pads(node)?,
            Some("VALID") => {}
            Some(rule) => {
                for (axis, size) in input.iter().enumerate() {
                    let stride = window.strides[axis];
                    let outputs = size.div_ceil(stride);
                    let span = (outputs.max(1) - 1) * stride + window.extent(axis);
                    window.share(axis, span.saturating_sub(*size), rule == "SAME_UPPER");
                }
            }
        }
        Ok(window)
    }

    /// The window of a transposed convolution from spatial axes of sizes `input` to sizes `output`; without `output`,
    /// the one that the node's attributes say.
    pub(crate) fn transposed(
        node: &Node,
        kernel: &[usize],
        input: &[usize],
        output: Option<&[usize]>,
    ) -> Result<(Self, Vec<usize>), String> {
        let rank = input.len();
        let mut window = Self::unpadded(node, kernel, rank)?;
        let rule = node.string("auto_pad").unwrap_or("NOTSET");
        let extra = lengths(node, "output_padding", 0, rank)?;
        let full =
            |window: &Self, axis: usize| (input[axis] - 1) * window.strides[axis] + extra[axis] + window.extent(axis);
        let wanted = match (node.ints("output_shape"), rule) {
            (Some(shape), _) if !shape.is_empty() => Some(
                shape[shape.len().saturating_sub(rank)..]
                    .iter()
                    .map(|size| *size as usize)
                    .collect::<Vec<_>>(),
            ),
            (_, "SAME_UPPER" | "SAME_LOWER") => {
                Some((0..rank).map(|axis| input[axis] * window.strides[axis]).collect())
            }
            _ => None,
        };
        if let Some(wanted) = &wanted {
            for axis in 0..rank {
                let total = full(&window, axis)
                    .checked_sub(output.map_or(wanted[axis], |output| output[axis]))
                    .ok_or("its `output_shape` is larger than its input reaches")?;
                window.share(axis, total, rule == "SAME_UPPER");
            }
        } else if rule != "VALID" {
            window.take_pads(node)?;
        }
        let shape = (0..rank)
            .map(|axis| {
                full(&window, axis)
                    .checked_sub(window.begin[axis] + window.end[axis])
                    .ok_or_else(|| "its pads are larger than its output".to_owned())
            })
            .collect::<Result<_, String>>()?;
        Ok((window, shape))
    }

    fn unpadded(node: &Node, kernel: &[usize], rank: usize) -> Result<Self, String> {
        let kernel = match node.ints("kernel_shape") {
            Some(sizes) if !sizes.is_empty() => lengths(node, "kernel_shape", 1, rank)?,
            _ => kernel.to_vec(),
        };
        if kernel.len() != rank {
            return Err(format!("its kernel has {} axes, its input {rank}", kernel.len()));
        }
        Ok(Self {
            kernel,
            strides: lengths(node, "strides", 1, rank)?,
            dilations: lengths(node, "dilations", 1, rank)?,
            begin: vec![0; rank],
            end: vec![0; rank],
        })
    }

    fn take_pads(&mut self, node: &Node) -> Result<(), String> {
        let rank = self.kernel.len();
        let pads = lengths(node, "pads", 0, 2 * rank)?;
        self.begin = pads[..rank].to_vec();
        self.end = pads[rank..].to_vec();
        Ok(())
    }

    /// Shares padding between both ends of an axis; of an odd number the last end gets more if `upper`.
    fn share(&mut self, axis: usize, total: usize, upper: bool) {
        let (small, large) = (total / 2, total - total / 2);
        (self.begin[axis], self.end[axis]) = if upper { (small, large) } else { (large, small) };
    }

    /// Elements from the first to the last that a window covers.
    pub(crate) fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Number of windows along an axis of size `input`. With `ceil`, a last window may stick out, unless it would
    /// begin beyond the input and the padding before it.
    pub(crate) fn count(&self, axis: usize, input: usize, ceil: bool) -> usize {
        let room = (input + self.begin[axis] + self.end[axis]).saturating_sub(self.extent(axis));
        let stride = self.strides[axis];
        if !ceil {
            return room / stride + 1;
        }
        let count = room.div_ceil(stride) + 1;
        if (count - 1) * stride >= input + self.begin[axis] {
            count - 1
        } else {
            count
        }
    }

    /// Whether the windows of sizes `output` cover an input of sizes `input` once each, without padding.
    pub(crate) fn tiles(&self, input: &[usize], output: &[usize]) -> bool {
        (0..input.len()).all(|axis| {
            self.strides[axis] == self.kernel[axis]
                && self.dilations[axis] == 1
                && self.begin[axis] == 0
                && output[axis] * self.kernel[axis] == input[axis]
        })
    }

    /// The flat positions of the elements of every window, in a plane of sizes `input` under windows of sizes `output`.
    pub(crate) fn positions(&self, input: &[usize], output: &[usize]) -> Result<Vec<Vec<u32>>, String> {
        let mut all: Vec<Vec<u32>> = vec![vec![0]];
        for axis in 0..input.len() {
            let along: Vec<Vec<u32>> = (0..output[axis])
                .map(|at| {
                    (0..self.kernel[axis])
                        .filter_map(|tap| {
                            let place = at * self.strides[axis] + tap * self.dilations[axis];
                            let place = place.checked_sub(self.begin[axis])?;
                            (place < input[axis]).then_some(place as u32)
                        })
                        .collect()
                })
                .collect();
            all = all
                .iter()
                .flat_map(|outer| {
                    along.iter().map(|inner| {
                        let size = input[axis] as u32;
                        let join = |before: &u32| {
                            let first = before * size;
                            inner.iter().map(move |at| first + at)
                        };
                        outer.iter().flat_map(join).collect::<Vec<u32>>()
                    })
                })
                .collect();
        }
        if all.iter().any(Vec::is_empty) {
            return Err("a window of the pool lies in the padding".into());
        }
        Ok(all)
    }

    /// `pads` as ONNX writes them.
    pub(crate) fn pads(&self) -> Vec<i64> {
        self.begin.iter().chain(&self.end).map(|pad| *pad as i64).collect()
    }
}

fn lengths(node: &Node, name: &str, default: usize, count: usize) -> Result<Vec<usize>, String> {
    let Some(values) = node.ints(name).filter(|values| !values.is_empty()) else {
        return Ok(vec![default; count]);
    };
    if values.len() != count {
        return Err(format!(
            "attribute `{name}` must hold {count} numbers, found {}",
            values.len()
        ));
    }
    let least = i64::from(!matches!(name, "pads" | "output_padding"));
    values
        .iter()
        .map(|value| {
            usize::try_from(*value)
                .ok()
                .filter(|_| *value >= least)
                .ok_or_else(|| format!("attribute `{name}` must be at least {least}, found {value}"))
        })
        .collect()
}
