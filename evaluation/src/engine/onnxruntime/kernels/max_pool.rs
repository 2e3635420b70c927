//! The gradient of `MaxPool`.
//!
//! The standard form asks `MaxPool` for the positions of the greatest elements, for which ONNX Runtime leaves its
//! fast kernel, and adds up with a general scatter.

use std::sync::{Mutex, PoisonError};

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::window_node;
use crate::graph::{Node, Window};
use crate::vectors::vectorized;

/// From the input of a pool and the gradient of its output, the gradient of the input: each window adds to its
/// greatest element, the first of equal ones.
pub(super) struct MaxPoolGradient {
    pub(super) threads: usize,
}

pub(super) struct MaxPoolGradientKernel {
    node: Node,
    threads: usize,
    /// The windows of inputs of a shape that was seen before.
    windows: Option<(Vec<i64>, Windows)>,
}

/// Where the windows of a plane lie.
enum Windows {
    /// Side by side, two by two elements each, in planes of rows of this width.
    Tiles(usize),
    /// For each the flat positions of its elements.
    Positions(Vec<Vec<u32>>),
}

impl Operator for MaxPoolGradient {
    type Kernel<'attr> = MaxPoolGradientKernel;

    fn name(&self) -> &'static str {
        "MaxPoolGradient"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [(); 2].map(|()| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        Ok(MaxPoolGradientKernel {
            node: window_node(context),
            threads: self.threads,
            windows: None,
        })
    }
}

impl Kernel for MaxPoolGradientKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || ort::Error::new("an input is missing");
        let (x, dy) = (
            context.input(0)?.ok_or_else(missing)?,
            context.input(1)?.ok_or_else(missing)?,
        );
        let (x_shape, x) = x.try_extract_tensor::<f32>()?;
        let (y_shape, dy) = dy.try_extract_tensor::<f32>()?;
        let shape = x_shape.to_vec();
        let mut dx = context.output(0, shape.clone())?.ok_or_else(missing)?;
        let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
        dx.fill(0.0);
        if self.windows.as_ref().is_none_or(|(seen, _)| *seen != shape) {
            let windows = windows(&self.node, &shape[2..], &y_shape[2..]).map_err(ort::Error::new)?;
            self.windows = Some((shape.clone(), windows));
        }
        let Some((_, windows)) = &self.windows else {
            return Ok(());
        };
        let size = |shape: &[i64]| (shape[2..].iter().product::<i64>() as usize).max(1);
        let (plane, output) = (size(&shape), size(y_shape));
        let planes: Vec<_> = dx.chunks_exact_mut(plane).map(Mutex::new).collect();
        super::each(context, self.threads, planes.len(), &|index| {
            let mut dx = planes[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (x, dy) = (&x[index * plane..][..plane], &dy[index * output..][..output]);
            match windows {
                Windows::Tiles(width) => tiles(*width, x, dy, &mut dx),
                Windows::Positions(windows) => anywhere(windows, x, dy, &mut dx),
            }
        });
        Ok(())
    }
}

fn anywhere(windows: &[Vec<u32>], x: &[f32], dy: &[f32], dx: &mut [f32]) {
    for (window, dy) in windows.iter().zip(dy) {
        let mut best = window[0] as usize;
        for position in &window[1..] {
            if x[*position as usize] > x[best] {
                best = *position as usize;
            }
        }
        dx[best] += dy;
    }
}

/// The same for windows of two by two, without a branch.
fn tiles(width: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let rows = x.chunks_exact(2 * width).zip(dx.chunks_exact_mut(2 * width));
    let mut rows = rows.zip(dy.chunks_exact((width / 2).max(1)));
    vectorized(
        #[inline(always)]
        || {
            for ((x, dx), dy) in rows.by_ref() {
                let (upper, lower) = x.split_at(width);
                let (d_upper, d_lower) = dx.split_at_mut(width);
                let pairs = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0);
                let targets = d_upper.as_chunks_mut::<2>().0.iter_mut();
                let targets = targets.zip(d_lower.as_chunks_mut::<2>().0).zip(dy);
                for ((&[a, b], &[c, d]), ((d_ab, d_cd), dy)) in pairs.zip(targets) {
                    let second = b > a;
                    let best = if second { b } else { a };
                    let third = c > best;
                    let best = if third { c } else { best };
                    let fourth = d > best;
                    // Who is the last to be greater than those before it takes all.
                    let shared = |taken: bool, left: f32| if taken { [left, 0.0] } else { [0.0, left] };
                    let [d_d, left] = shared(fourth, *dy);
                    let [d_c, left] = shared(third, left);
                    let [d_b, d_a] = shared(second, left);
                    *d_ab = [d_a, d_b];
                    *d_cd = [d_c, d_d];
                }
            }
        },
    );
}

fn windows(node: &Node, input: &[i64], output: &[i64]) -> Result<Windows, String> {
    let sizes = |shape: &[i64]| shape.iter().map(|size| *size as usize).collect::<Vec<_>>();
    let (input, output) = (sizes(input), sizes(output));
    let window = Window::sliding(node, &[], &input)?;
    let is_tiled = window.kernel == [2, 2] && window.strides == [2, 2] && window.dilations == [1, 1];
    let is_whole = output.iter().zip(&input).all(|(output, input)| *output == input / 2);
    if is_tiled && is_whole && window.begin == [0, 0] {
        return Ok(Windows::Tiles(input[1]));
    }
    window.positions(&input, &output).map(Windows::Positions)
}

#[cfg(test)]
mod tests {
    use super::super::substitute;
    use crate::autodiff::differentiate;
    use crate::engine::reference::Reference;
    use crate::engine::{Engine, Feed, testing};
    use crate::graph::{Builder, ElementType, Tensor, TensorType, attribute};

    /// A pool and its gradient, as a program with the sum of both as its result.
    fn pool(shape: [usize; 4], attributes: Vec<crate::graph::proto::AttributeProto>) -> crate::graph::Graph {
        let mut builder = Builder::new();
        let x = builder.input("x", TensorType::new(ElementType::F32, shape));
        let y = builder.node("MaxPool", &[&x], attributes);
        let types = testing::engine().types(builder.graph()).unwrap();
        builder.declare(&y, types[&y].clone());
        let seed = builder.node("Mul", &[&y, &y], Vec::new());
        let gradient = differentiate(&mut builder, &[(y, seed)], &[x])
            .unwrap()
            .remove(0)
            .unwrap();
        builder.output("gradient", &gradient);
        builder.finish()
    }

    #[test]
    fn the_fused_gradient_of_a_pool_is_that_of_the_reference_interpreter() {
        let ints = |name: &str, values: &[i64]| attribute::ints(name, values);
        let forms = [
            vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])],
            vec![
                ints("kernel_shape", &[2, 2]),
                ints("strides", &[2, 2]),
                ints("pads", &[0, 1, 0, 0]),
            ],
            vec![ints("kernel_shape", &[3, 2]), ints("pads", &[1, 0, 1, 1])],
            vec![
                ints("kernel_shape", &[3, 3]),
                ints("strides", &[2, 2]),
                attribute::int("ceil_mode", 1),
            ],
            vec![
                ints("kernel_shape", &[3, 3]),
                ints("strides", &[2, 2]),
                attribute::string("auto_pad", "SAME_LOWER"),
            ],
        ];
        for attributes in forms {
            let shape = [2, 3, 6, 7];
            let graph = pool(shape, attributes);
            let mut model = graph.to_model();
            assert!(substitute(&mut model, &graph), "the gradient is replaced");
            let operators: Vec<_> = model
                .graph
                .unwrap()
                .node
                .into_iter()
                .map(|node| node.op_type.unwrap())
                .collect();
            assert_eq!(operators, ["MaxPool", "Mul", "MaxPoolGradient"]);

            // Whole numbers, so that there are equal ones.
            let values: Vec<f32> = (0..252).map(|at| ((at * 7) % 11) as f32).collect();
            let mut machine = testing::engine().machine(0.0).unwrap();
            let program = machine
                .load(&graph, &[TensorType::new(ElementType::F32, shape)])
                .unwrap();
            machine.run(program, &[Feed::F32(&values)]).unwrap();
            let expected = Reference
                .run(&graph, vec![("x".into(), Tensor::f32(shape, values))])
                .unwrap();
            assert_eq!(machine.result(program, 0).unwrap(), expected[0].as_f32().unwrap());
        }
    }
}
