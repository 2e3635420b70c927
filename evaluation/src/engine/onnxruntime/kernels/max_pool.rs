//! The gradient of `MaxPool`.
//!
//! The standard form asks `MaxPool` for the positions of the greatest elements, for which ONNX Runtime leaves its
//! fast kernel, and adds up with a general scatter.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::window_node;
use crate::graph::{Node, Window};

/// From the input of a pool and the gradient of its output, the gradient of the input: each window adds to its
/// greatest element, the first of equal ones.
pub(super) struct MaxPoolGradient;

pub(super) struct MaxPoolGradientKernel {
    node: Node,
    /// For each window the flat positions of its elements in a plane, for spatial sizes seen before.
    windows: Option<(Vec<i64>, Vec<Vec<u32>>)>,
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
        let plane = shape[2..].iter().product::<i64>() as usize;
        let planes = x.chunks_exact(plane.max(1)).zip(dx.chunks_exact_mut(plane.max(1)));
        for ((x, dx), dy) in planes.zip(dy.chunks_exact(windows.len().max(1))) {
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
        Ok(())
    }
}

/// The flat positions of the elements of every window.
fn windows(node: &Node, input: &[i64], output: &[i64]) -> Result<Vec<Vec<u32>>, String> {
    let sizes = |shape: &[i64]| shape.iter().map(|size| *size as usize).collect::<Vec<_>>();
    let (input, output) = (sizes(input), sizes(output));
    Window::sliding(node, &[], &input)?.positions(&input, &output)
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
