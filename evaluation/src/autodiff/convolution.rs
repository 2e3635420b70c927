//! Convolutions and transposed convolutions over one to three spatial axes.
//!
//! | symbol | meaning | shape |
//! | --- | --- | --- |
//! | `x` | input | `[N, C, H…]` |
//! | `w` | weights of `g` groups | `[M, C/g, k…]` |
//! | `y` | output | `[N, M, O…]` |
//!
//! A convolution is linear in `x` and in `w`. Its transpose in `x` is the transposed convolution with the same
//! weights; its gradient in `w` is again a convolution, of `x` with `dy`, in which batch and channels change places,
//! and so do strides and dilations (Dumoulin and Visin 2016, §4; Goodfellow 2010).

use super::{Context, Gradients, Rule};
use crate::graph::proto::AttributeProto;
use crate::graph::{ElementType, Window, attribute};

pub(super) const RULES: &[(&str, Rule)] = &[("Conv", convolution), ("ConvTranspose", transposed)];

fn whole(values: &[usize]) -> Vec<i64> {
    values.iter().map(|value| *value as i64).collect()
}

fn groups(c: &Context<'_>) -> usize {
    c.node.int("group").map_or(1, |group| group.max(1) as usize)
}

fn window_attributes(window: &Window, groups: usize) -> Vec<AttributeProto> {
    vec![
        attribute::ints("kernel_shape", &whole(&window.kernel)),
        attribute::ints("strides", &whole(&window.strides)),
        attribute::ints("dilations", &whole(&window.dilations)),
        attribute::ints("pads", &window.pads()),
        attribute::int("group", groups as i64),
    ]
}

/// The transposed convolution that takes a tensor of spatial sizes `from` back to the sizes `to`, over which the
/// window slid.
pub(super) fn spread(
    c: &mut Context<'_>,
    dy: &str,
    weights: &str,
    window: &Window,
    groups: usize,
    from: &[usize],
    to: &[usize],
) -> String {
    let mut window = window.clone();
    let mut missing = Vec::new();
    for axis in 0..from.len() {
        let reach = (from[axis] - 1) * window.strides[axis] + window.extent(axis);
        let wanted = to[axis] + window.begin[axis];
        // What the last window left over is filled up; where it stuck out, more is cut off.
        if reach > wanted + window.end[axis] {
            window.end[axis] = reach - wanted;
        }
        missing.push((wanted + window.end[axis] - reach) as i64);
    }
    let mut attributes = window_attributes(&window, groups);
    if missing.iter().any(|size| *size != 0) {
        attributes.push(attribute::ints("output_padding", &missing));
    }
    c.op_with("ConvTranspose", &[dy, weights], attributes)
}

/// Gradient `[M, C/g, k…]` of the weights of a convolution from `x` (`x_shape`) to `dy` (`y_shape`).
fn weight_gradient(
    c: &mut Context<'_>,
    (x, x_shape): (&str, &[usize]),
    (dy, y_shape): (&str, &[usize]),
    window: &Window,
    groups: usize,
) -> String {
    let (batch, channels) = (x_shape[0], x_shape[1]);
    let rank = x_shape.len();
    let exchange: Vec<i64> = [1, 0].into_iter().chain(2..rank as i64).collect();
    // Channels of a group become the batch; samples become channels, those of a group in a row.
    let x = if groups == 1 {
        c.op_with("Transpose", &[x], vec![attribute::ints("perm", &exchange)])
    } else {
        let split: Vec<usize> = [batch, groups, channels / groups]
            .into_iter()
            .chain(x_shape[2..].iter().copied())
            .collect();
        let order: Vec<i64> = [2, 1, 0].into_iter().chain(3..=rank as i64).collect();
        let joined: Vec<usize> = [channels / groups, groups * batch]
            .into_iter()
            .chain(x_shape[2..].iter().copied())
            .collect();
        let x = c.reshape(x, &split);
        let x = c.op_with("Transpose", &[&x], vec![attribute::ints("perm", &order)]);
        c.reshape(&x, &joined)
    };
    let dy = c.op_with("Transpose", &[dy], vec![attribute::ints("perm", &exchange)]);
    let exchanged = Window {
        kernel: y_shape[2..].to_vec(),
        strides: window.dilations.clone(),
        dilations: window.strides.clone(),
        ..window.clone()
    };
    let mut gradient = c.op_with("Conv", &[&x, &dy], window_attributes(&exchanged, groups));
    // Where the stride does not divide, there are more taps than the kernel has.
    let spatial = &x_shape[2..];
    if (0..spatial.len()).any(|axis| exchanged.count(axis, spatial[axis], false) != window.kernel[axis]) {
        let axes: Vec<i64> = (2..rank as i64).collect();
        let starts = c.builder.ints(&vec![0; axes.len()]);
        let ends = c.builder.ints(&whole(&window.kernel));
        let axes = c.builder.ints(&axes);
        gradient = c.op("Slice", &[&gradient, &starts, &ends, &axes]);
    }
    c.op_with("Transpose", &[&gradient], vec![attribute::ints("perm", &exchange)])
}

/// Sum over everything but the channels.
fn bias_gradient(c: &mut Context<'_>, dy: &str, rank: usize) -> String {
    let axes: Vec<i64> = (0..rank as i64).filter(|axis| *axis != 1).collect();
    let axes = c.builder.ints(&axes);
    c.op_with("ReduceSum", &[dy, &axes], vec![attribute::int("keepdims", 0)])
}

fn convolution(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, w) = (c.dy()?, c.x(0)?, c.x(1)?);
    let (x_shape, w_shape, y_shape) = (c.shape(&x)?, c.shape(&w)?, c.shape(&c.y()?)?);
    let window = Window::sliding(c.node, &w_shape[2..], &x_shape[2..])?;
    let groups = groups(c);
    let gradients = convolution_gradients(c, [&dy, &x, &w], [&x_shape, &w_shape, &y_shape], &window, groups);
    if groups == 1 && matches!(x_shape.len(), 3 | 4) && c.element()? == ElementType::F32 {
        let mut attributes = window_attributes(&window, 1);
        if let Some(dw) = &gradients[1] {
            c.builder
                .shortcut("ConvWeightGradient", &[&x, &dy], &[dw], attributes.clone());
        }
        if let Some(dx) = &gradients[0] {
            attributes.push(attribute::ints("size", &whole(&x_shape[2..])));
            c.builder.shortcut("ConvInputGradient", &[&dy, &w], &[dx], attributes);
        }
    }
    Ok(gradients)
}

/// Gradients of `x`, `w` and the bias from `[dy, x, w]`; shapes are those of `x`, `w` and `y`.
fn convolution_gradients(
    c: &mut Context<'_>,
    [dy, x, w]: [&str; 3],
    [x_shape, w_shape, y_shape]: [&[usize]; 3],
    window: &Window,
    groups: usize,
) -> Gradients {
    if let Some(strip) = Strip::of(window, groups, x_shape, y_shape) {
        let rows = strip.rows(c, dy, y_shape[1], &y_shape[2..]);
        let dx = if !c.needs(0) {
            None
        } else if strip.is_small(window) {
            Some(strip.input_gradient(c, &rows, w, w_shape, window))
        } else {
            Some(spread(c, dy, w, window, groups, &y_shape[2..], &x_shape[2..]))
        };
        let dw = c.needs(1).then(|| strip.weight_gradient(c, x, &rows, w_shape, window));
        let db = c.needs(2).then(|| bias_gradient(c, dy, x_shape.len()));
        return vec![dx, dw, db];
    }
    let dx = c
        .needs(0)
        .then(|| spread(c, dy, w, window, groups, &y_shape[2..], &x_shape[2..]));
    let dw = c
        .needs(1)
        .then(|| weight_gradient(c, (x, x_shape), (dy, y_shape), window, groups));
    let db = c.needs(2).then(|| bias_gradient(c, dy, x_shape.len()));
    vec![dx, dw, db]
}

/// The transpose of a convolution from `y` to `x`, so that `x` and `dy` change roles.
fn transposed(c: &mut Context<'_>) -> Result<Gradients, String> {
    let (dy, x, w) = (c.dy()?, c.x(0)?, c.x(1)?);
    let (x_shape, w_shape, y_shape) = (c.shape(&x)?, c.shape(&w)?, c.shape(&c.y()?)?);
    let (window, _) = Window::transposed(c.node, &w_shape[2..], &x_shape[2..], Some(&y_shape[2..]))?;
    let groups = groups(c);
    let dx = if c.needs(0) {
        let mut dx = c.op_with("Conv", &[&dy, &w], window_attributes(&window, groups));
        let spatial = &y_shape[2..];
        if (0..spatial.len()).any(|axis| window.count(axis, spatial[axis], false) != x_shape[2 + axis]) {
            // An output padding beyond the stride makes further windows, which no input reached.
            let axes: Vec<i64> = (2..x_shape.len() as i64).collect();
            let starts = c.builder.ints(&vec![0; axes.len()]);
            let ends = c.builder.ints(&whole(&x_shape[2..]));
            let axes = c.builder.ints(&axes);
            dx = c.op("Slice", &[&dx, &starts, &ends, &axes]);
        }
        Some(dx)
    } else {
        None
    };
    let dw = c
        .needs(1)
        .then(|| weight_gradient(c, (&dy, &y_shape), (&x, &x_shape), &window, groups));
    let db = c.needs(2).then(|| bias_gradient(c, &dy, x_shape.len()));
    Ok(vec![dx, dw, db])
}

/// The images of a batch in one long strip, for windows that move by single steps over two axes.
///
/// Every image is followed by as many zero columns and rows as the padding is wide; the padding before an image is
/// that after the one before. In a strip every tap of the kernel is one and the same distance for all elements, so
/// that its products with `dy` are one matrix product of whole rows. Elements of `dy` in the padding are zero.
#[derive(Debug, Clone)]
struct Strip {
    batch: usize,
    channels: usize,
    /// Sizes of an image, and with the padding after it.
    image: [usize; 2],
    padded: [usize; 2],
    /// Sizes of an image of `dy`.
    output: [usize; 2],
}

/// Below so many channels the taps are multiplied all at once: their copies cost less than further products.
const FEW_CHANNELS: usize = 16;

/// Images of so few elements are too narrow for a product each.
const SMALL_IMAGE: usize = 36;

impl Strip {
    fn of(window: &Window, groups: usize, x: &[usize], y: &[usize]) -> Option<Self> {
        if x.len() != 4 || groups != 1 || window.strides != [1, 1] {
            return None;
        }
        let size = |axis: usize| (x[2 + axis] + window.begin[axis].max(window.end[axis])).max(y[2 + axis]);
        Some(Self {
            batch: x[0],
            channels: x[1],
            image: [x[2], x[3]],
            padded: [size(0), size(1)],
            output: [y[2], y[3]],
        })
    }

    fn length(&self) -> usize {
        self.batch * self.padded[0] * self.padded[1]
    }

    /// Whether the convolution back is better done for the whole strip.
    fn is_small(&self, window: &Window) -> bool {
        let is_inside = (0..2).all(|axis| window.begin[axis] < window.extent(axis));
        self.output[0] * self.output[1] <= SMALL_IMAGE && self.channels >= 64 && is_inside
    }

    /// A tensor of images of sizes `size` as `[channels, length]`.
    fn rows(&self, c: &mut Context<'_>, images: &str, channels: usize, size: &[usize]) -> String {
        let mut rows = if self.batch == 1 || channels == 1 {
            c.reshape(images, &[channels, self.batch, size[0], size[1]])
        } else {
            c.op_with("Transpose", &[images], vec![attribute::ints("perm", &[1, 0, 2, 3])])
        };
        if *size != self.padded {
            let after = whole(&[self.padded[0] - size[0], self.padded[1] - size[1]]);
            let pads = c.builder.ints(&[0, 0, 0, 0, 0, 0, after[0], after[1]]);
            rows = c.op("Pad", &[&rows, &pads]);
        }
        c.reshape(&rows, &[channels, self.length()])
    }

    /// `[M, C, k, k]`: for each tap the product of `dy` with the strip of `x`, shifted.
    fn weight_gradient(&self, c: &mut Context<'_>, x: &str, dy: &str, w_shape: &[usize], window: &Window) -> String {
        let (outputs, taps) = (w_shape[0], w_shape[2] * w_shape[3]);
        let length = self.length();
        let mut x = self.rows(c, x, self.channels, &self.image);
        let keep = || vec![attribute::int("transB", 1)];
        if taps == 1 && window.begin == [0, 0] {
            let product = c.op_with("Gemm", &[dy, &x], keep());
            return c.reshape(&product, w_shape);
        }
        let pitch = self.padded[1];
        let before = window.begin[0] * pitch + window.begin[1];
        let reach = (window.extent(0) - 1) * pitch + window.extent(1) - 1;
        let pads = c
            .builder
            .ints(&[0, before as i64, 0, reach.saturating_sub(before) as i64]);
        x = c.op("Pad", &[&x, &pads]);
        let axis = c.builder.ints(&[1]);
        let mut shifted = Vec::new();
        for row in 0..w_shape[2] {
            for column in 0..w_shape[3] {
                let start = row * window.dilations[0] * pitch + column * window.dilations[1];
                let starts = c.builder.ints(&[start as i64]);
                let ends = c.builder.ints(&[(start + length) as i64]);
                shifted.push(c.op("Slice", &[&x, &starts, &ends, &axis]));
            }
        }
        let join = |c: &mut Context<'_>, parts: &[String]| {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            c.op_with("Concat", &parts, vec![attribute::int("axis", 0)])
        };
        let (apart, order) = if self.channels < FEW_CHANNELS {
            let all = join(c, &shifted);
            let product = c.op_with("Gemm", &[dy, &all], keep());
            (c.reshape(&product, &[outputs, taps, self.channels]), [0, 2, 1])
        } else {
            let products: Vec<String> = shifted.iter().map(|x| c.op_with("Gemm", &[dy, x], keep())).collect();
            let all = join(c, &products);
            (c.reshape(&all, &[taps, outputs, self.channels]), [1, 2, 0])
        };
        let ordered = c.op_with("Transpose", &[&apart], vec![attribute::ints("perm", &order)]);
        c.reshape(&ordered, w_shape)
    }

    /// The whole strip of `dy` as one tall image, convolved with the turned kernel.
    fn input_gradient(&self, c: &mut Context<'_>, dy: &str, w: &str, w_shape: &[usize], window: &Window) -> String {
        let (height, width) = (self.batch * self.padded[0], self.padded[1]);
        let dy = c.reshape(dy, &[1, w_shape[0], height, width]);
        let mut w = c.op_with("Transpose", &[w], vec![attribute::ints("perm", &[1, 0, 2, 3])]);
        if w_shape[2] * w_shape[3] > 1 {
            let ends = c.builder.ints(&[i64::MIN, i64::MIN]);
            let last = c.builder.ints(&[-1, -1]);
            let axes = c.builder.ints(&[2, 3]);
            w = c.op("Slice", &[&w, &last, &ends, &axes, &last]);
        }
        let turned = |axis: usize| (window.extent(axis) - 1) as i64 - window.begin[axis] as i64;
        let pads = [turned(0), turned(1), window.begin[0] as i64, window.begin[1] as i64];
        let attributes = vec![
            attribute::ints("dilations", &whole(&window.dilations)),
            attribute::ints("pads", &pads.map(|pad| pad.max(0))),
        ];
        let dx = c.op_with("Conv", &[&dy, &w], attributes);
        let dx = c.reshape(&dx, &[self.channels, self.batch, self.padded[0], self.padded[1]]);
        let starts = c.builder.ints(&[0, 0]);
        let ends = c.builder.ints(&whole(&self.image));
        let axes = c.builder.ints(&[2, 3]);
        let dx = c.op("Slice", &[&dx, &starts, &ends, &axes]);
        c.op_with("Transpose", &[&dx], vec![attribute::ints("perm", &[1, 0, 2, 3])])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<super::conformance::Case> {
    use super::conformance::Case;
    let case =
        |operator: &'static str, x: &[usize], w: &[usize]| Case::new(operator).input(x, -1.0..1.0).input(w, -1.0..1.0);
    let conv = |x: &[usize], w: &[usize]| case("Conv", x, w);
    let back = |x: &[usize], w: &[usize]| case("ConvTranspose", x, w);
    let ints = |name: &str, values: &[i64]| attribute::ints(name, values);
    let mut cases = vec![
        conv(&[2, 3, 5, 6], &[4, 3, 3, 3]).input([4], -1.0..1.0),
        conv(&[1, 2, 5, 5], &[3, 2, 1, 1]),
        conv(&[2, 2, 6, 5], &[2, 2, 3, 2])
            .attribute(ints("strides", &[2, 1]))
            .attribute(ints("pads", &[1, 0, 1, 0])),
        conv(&[1, 2, 7, 7], &[2, 2, 3, 3])
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("pads", &[0, 1, 1, 2])),
        // The stride leaves a row over.
        conv(&[1, 1, 6, 8], &[2, 1, 3, 3]).attribute(ints("strides", &[2, 3])),
        conv(&[1, 2, 7, 8], &[2, 2, 3, 2])
            .attribute(ints("dilations", &[2, 3]))
            .attribute(ints("pads", &[2, 1, 2, 1])),
        conv(&[1, 2, 9, 9], &[2, 2, 3, 3])
            .attribute(ints("dilations", &[2, 2]))
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("pads", &[1, 1, 1, 1])),
        conv(&[2, 4, 4, 4], &[6, 2, 3, 3])
            .input([6], -1.0..1.0)
            .attribute(attribute::int("group", 2))
            .attribute(ints("pads", &[1, 1, 1, 1])),
        // Small images with many channels, and many channels.
        conv(&[2, 64, 2, 2], &[1, 64, 3, 3]).attribute(ints("pads", &[1, 1, 1, 1])),
        conv(&[2, 64, 3, 2], &[1, 64, 2, 1]),
        conv(&[1, 17, 3, 4], &[2, 17, 3, 2])
            .attribute(ints("dilations", &[1, 2]))
            .attribute(ints("pads", &[1, 2, 2, 0])),
        conv(&[2, 18, 2, 3], &[2, 18, 1, 1]),
        conv(&[1, 2, 3, 3], &[2, 2, 1, 2]).attribute(ints("pads", &[1, 2, 1, 2])),
        // Depthwise, with one and with two outputs a channel.
        conv(&[2, 3, 4, 4], &[3, 1, 3, 3])
            .attribute(attribute::int("group", 3))
            .attribute(ints("pads", &[1, 1, 1, 1])),
        conv(&[2, 3, 5, 5], &[6, 1, 3, 3])
            .input([6], -1.0..1.0)
            .attribute(attribute::int("group", 3))
            .attribute(ints("strides", &[2, 2])),
        conv(&[2, 3, 8], &[4, 3, 3])
            .input([4], -1.0..1.0)
            .attribute(ints("pads", &[2, 0])),
        conv(&[1, 4, 9], &[4, 2, 3])
            .attribute(attribute::int("group", 2))
            .attribute(ints("dilations", &[2]))
            .attribute(ints("strides", &[2])),
        conv(&[1, 2, 3, 4, 3], &[2, 2, 2, 2, 2])
            .input([2], -1.0..1.0)
            .attribute(ints("strides", &[1, 2, 1]))
            .attribute(ints("pads", &[0, 1, 1, 1, 0, 0])),
        conv(&[1, 2, 3, 3, 3], &[2, 1, 2, 2, 2]).attribute(attribute::int("group", 2)),
        back(&[2, 3, 3, 4], &[3, 2, 3, 3]).input([2], -1.0..1.0),
        back(&[1, 2, 3, 3], &[2, 2, 3, 2])
            .attribute(ints("strides", &[2, 3]))
            .attribute(ints("pads", &[1, 0, 0, 1]))
            .attribute(ints("output_padding", &[1, 2])),
        back(&[1, 4, 3, 3], &[4, 3, 2, 2])
            .input([6], -1.0..1.0)
            .attribute(attribute::int("group", 2))
            .attribute(ints("strides", &[2, 2])),
        back(&[1, 2, 3, 3], &[2, 1, 2, 2])
            .attribute(ints("dilations", &[2, 2]))
            .attribute(attribute::int("group", 2)),
        back(&[1, 2, 3, 3], &[2, 2, 3, 3])
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("output_shape", &[6, 5]))
            .attribute(attribute::string("auto_pad", "SAME_UPPER")),
        back(&[1, 2, 3, 3], &[2, 2, 3, 3])
            .attribute(ints("strides", &[2, 2]))
            .attribute(ints("output_shape", &[6, 6])),
        back(&[2, 3, 4], &[3, 2, 3]).attribute(ints("strides", &[2])),
        back(&[1, 2, 2, 2, 3], &[2, 2, 2, 2, 2]).attribute(ints("strides", &[2, 1, 1])),
    ];
    for rule in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        cases.push(
            conv(&[1, 2, 6, 5], &[2, 2, 3, 2])
                .attribute(attribute::string("auto_pad", rule))
                .attribute(ints("strides", &[2, 2])),
        );
        cases.push(
            back(&[1, 2, 3, 3], &[2, 2, 3, 3])
                .attribute(attribute::string("auto_pad", rule))
                .attribute(ints("strides", &[2, 2])),
        );
    }
    cases
}
