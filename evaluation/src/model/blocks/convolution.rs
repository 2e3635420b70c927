//! Convolutions and pools.

use super::{Layout, Writer, Written};
use crate::graph::attribute;
use crate::graph::proto::AttributeProto;
use crate::model::{Conv, Padding, Reduction};

impl Writer {
    pub(super) fn convolution(&mut self, name: &str, conv: &Conv) -> Written {
        let axes = self.space()?;
        let channels = self.shape[0];
        let groups = conv.groups.unwrap_or(channels);
        if !channels.is_multiple_of(groups) || !conv.filters.is_multiple_of(groups) {
            return Err(format!(
                "`groups` ({groups}) must divide the channels ({channels}) and `filters` ({})",
                conv.filters
            ));
        }
        let kernel = spread("kernel", &conv.kernel, axes)?;
        let stride = spread("stride", &conv.stride, axes)?;
        let dilation = spread("dilation", &conv.dilation, axes)?;
        let reach: Vec<usize> = (0..axes).map(|axis| dilation[axis] * (kernel[axis] - 1)).collect();
        let (begin, end) = ends(&conv.padding, &reach, axes)?;
        let window = if conv.transposed {
            [channels, conv.filters / groups]
        } else {
            [conv.filters, channels / groups]
        };
        let size: usize = kernel.iter().product();
        let bias = conv.bias && !conv.batch_norm;
        let inputs = channels / groups * size;
        let further = self.matrix(name, &[&window[..], &kernel].concat(), (inputs, conv.filters), bias);
        let further: Vec<&str> = further.iter().map(String::as_str).collect();
        let mut attributes = vec![
            ints("kernel_shape", &kernel),
            ints("strides", &stride),
            ints("dilations", &dilation),
            ints("pads", &[&begin[..], &end].concat()),
            attribute::int("group", groups as i64),
        ];
        let mut shape = vec![conv.filters];
        for axis in 0..axes {
            let found = self.shape[axis + 1];
            let padding = begin[axis] + end[axis];
            shape.push(if conv.transposed {
                found * stride[axis]
            } else {
                windows(found + padding, reach[axis], stride[axis])
            });
        }
        if conv.transposed {
            // What is missing to exactly `stride` times the size is added at the end.
            let missing: Option<Vec<usize>> = (0..axes)
                .map(|axis| {
                    let made = (self.shape[axis + 1] - 1) * stride[axis] + reach[axis] + 1;
                    (shape[axis + 1] + begin[axis] + end[axis])
                        .checked_sub(made)
                        .filter(|missing| *missing < stride[axis])
                })
                .collect();
            let Some(missing) = missing else {
                return Err("its kernel does not enlarge by exactly the stride; set `padding` to `same`".into());
            };
            attributes.push(ints("output_padding", &missing));
        }
        let operator = if conv.transposed { "ConvTranspose" } else { "Conv" };
        self.node(name, operator, &further, attributes);
        self.shape = shape;
        self.layout = Layout::Image;
        if conv.batch_norm {
            self.batch_norm(&format!("{name}.norm"), 0.1, 1e-5)?;
        }
        self.activation(name, conv.activation);
        Ok(())
    }

    /// A convolution of size 1 without bias.
    pub(super) fn pointwise(&mut self, name: &str, filters: usize, stride: &[usize]) {
        let (channels, axes) = (self.shape[0], self.shape.len() - 1);
        let ones = vec![1; axes];
        let weight = self.matrix(
            name,
            &[&[filters, channels], &ones[..]].concat(),
            (channels, filters),
            false,
        );
        let attributes = vec![ints("kernel_shape", &ones), ints("strides", stride)];
        self.node(name, "Conv", &[&weight[0]], attributes);
        for (axis, stride) in stride.iter().enumerate() {
            self.shape[axis + 1] = self.shape[axis + 1].div_ceil(*stride);
        }
        self.shape[0] = filters;
    }

    pub(super) fn pool(
        &mut self,
        name: &str,
        kind: Reduction,
        size: &[usize],
        stride: &[usize],
        padding: &Padding,
    ) -> Written {
        let axes = self.space()?;
        let size = spread("size", size, axes)?;
        let stride = if stride.is_empty() {
            size.clone()
        } else {
            spread("stride", stride, axes)?
        };
        let reach: Vec<usize> = size.iter().map(|size| size - 1).collect();
        let (begin, end) = ends(padding, &reach, axes)?;
        if (0..axes).any(|axis| begin[axis].max(end[axis]) >= size[axis]) {
            return Err("`padding` must be smaller than `size`".into());
        }
        let operator = match kind {
            Reduction::Max => "MaxPool",
            Reduction::Mean => "AveragePool",
        };
        let mut attributes = vec![
            ints("kernel_shape", &size),
            ints("strides", &stride),
            ints("pads", &[&begin[..], &end].concat()),
        ];
        if kind == Reduction::Mean {
            attributes.push(attribute::int("count_include_pad", 1));
        }
        self.node(name, operator, &[], attributes);
        for axis in 0..axes {
            let padded = self.shape[axis + 1] + begin[axis] + end[axis];
            self.shape[axis + 1] = windows(padded, reach[axis], stride[axis]);
        }
        self.layout = Layout::Image;
        Ok(())
    }

    /// The number of axes of an image behind its channels.
    fn space(&self) -> Result<usize, String> {
        match self.shape.len() {
            rank @ 2..=4 => Ok(rank - 1),
            _ => Err(format!(
                "needs images, rows of shape [channels, …] with one to three more axes, found {:?}; set `data.shape`, or use \
                 `reshape` before it",
                self.shape
            )),
        }
    }
}

/// Number of windows that fit.
fn windows(size: usize, reach: usize, stride: usize) -> usize {
    if size > reach {
        (size - reach - 1) / stride + 1
    } else {
        0
    }
}

/// One number an axis.
fn spread(field: &str, values: &[usize], axes: usize) -> Result<Vec<usize>, String> {
    match values {
        [value] => Ok(vec![*value; axes]),
        values if values.len() == axes => Ok(values.to_vec()),
        values => Err(format!(
            "`{field}` has {} numbers for an image of {axes} axes",
            values.len()
        )),
    }
}

/// Padding at the beginning and the end of each axis.
fn ends(padding: &Padding, reach: &[usize], axes: usize) -> Result<(Vec<usize>, Vec<usize>), String> {
    match padding {
        Padding::Same => {
            let begin: Vec<usize> = reach.iter().map(|reach| reach / 2).collect();
            let end = reach.iter().zip(&begin).map(|(reach, begin)| reach - begin).collect();
            Ok((begin, end))
        }
        Padding::Sizes(sizes) => {
            let sizes = spread("padding", sizes, axes)?;
            Ok((sizes.clone(), sizes))
        }
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    attribute::ints(name, &values)
}
