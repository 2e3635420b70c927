//! Convolutions as operators of ONNX Runtime.

use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::convolution::{Shapes, forward, input_gradient, weight_gradient};
use super::{each, window_node};
use crate::graph::{Node, Window};

/// `y = x * w + bias`, from `x`, `w` and perhaps `bias`.
pub(super) struct Forward {
    pub(super) threads: usize,
}

/// `dx` from `dy` and `w`; the attribute `size` has the sizes of the axes of `x`.
pub(super) struct InputGradient {
    pub(super) threads: usize,
}

/// `dw` from `x` and `dy`.
pub(super) struct WeightGradient {
    pub(super) threads: usize,
}

pub(super) struct ConvolutionKernel {
    compute: fn(&Self, &ComputeContext) -> ort::Result<()>,
    node: Node,
    size: Vec<i64>,
    threads: usize,
}

impl ConvolutionKernel {
    fn new(
        compute: fn(&Self, &ComputeContext) -> ort::Result<()>,
        context: &KernelContext<'_>,
        threads: usize,
    ) -> Self {
        Self {
            compute,
            node: window_node(context),
            size: context.get::<Vec<i64>>("size").unwrap_or_default(),
            threads,
        }
    }

    /// Shapes of a convolution of `x` with `w`; a sequence is an image of one row.
    fn shapes(&self, x: &[i64], w: &[i64], y: Option<&[i64]>) -> ort::Result<Shapes> {
        let sizes = |shape: &[i64]| shape.iter().map(|size| *size as usize).collect::<Vec<_>>();
        let (x, w) = (sizes(x), sizes(w));
        let mut window = Window::sliding(&self.node, &w[2..], &x[2..]).map_err(ort::Error::new)?;
        let mut to: Vec<usize> = match y {
            Some(y) => sizes(&y[2..]),
            None => (0..x.len() - 2)
                .map(|axis| window.count(axis, x[2 + axis], false))
                .collect(),
        };
        let mut from = x[2..].to_vec();
        if from.len() == 1 {
            for (list, value) in [
                (&mut window.kernel, 1),
                (&mut window.strides, 1),
                (&mut window.dilations, 1),
                (&mut window.begin, 0),
                (&mut window.end, 0),
                (&mut to, 1),
                (&mut from, 1),
            ] {
                list.insert(0, value);
            }
        }
        Ok(Shapes {
            images: x[0],
            channels: x[1],
            outputs: w[0],
            from: [from[0], from[1]],
            to: [to[0], to[1]],
            window,
        })
    }

    fn forward(&self, context: &ComputeContext) -> ort::Result<()> {
        let (x, w, bias) = (
            context.input(0)?.ok_or_else(missing)?,
            context.input(1)?.ok_or_else(missing)?,
            if context.num_inputs()? > 2 {
                context.input(2)?
            } else {
                None
            },
        );
        let ((x_shape, x), (w_shape, w)) = (x.try_extract_tensor::<f32>()?, w.try_extract_tensor::<f32>()?);
        let bias = match &bias {
            Some(bias) => Some(bias.try_extract_tensor::<f32>()?.1),
            None => None,
        };
        let shapes = self.shapes(x_shape, w_shape, None)?;
        let mut shape = vec![shapes.images as i64, shapes.outputs as i64];
        shape.extend(shapes.to[4 - x_shape.len()..].iter().map(|size| *size as i64));
        let mut y = context.output(0, shape)?.ok_or_else(missing)?;
        let y = y.try_extract_tensor_mut::<f32>()?.1;
        forward(&shapes, x, w, bias, y, self.threads, &|count, task| {
            each(context, self.threads, count, task);
        });
        Ok(())
    }

    fn input_gradient(&self, context: &ComputeContext) -> ort::Result<()> {
        let (dy, w) = (
            context.input(0)?.ok_or_else(missing)?,
            context.input(1)?.ok_or_else(missing)?,
        );
        let ((y_shape, dy), (w_shape, w)) = (dy.try_extract_tensor::<f32>()?, w.try_extract_tensor::<f32>()?);
        let mut x_shape = vec![y_shape[0], w_shape[1]];
        x_shape.extend(&self.size);
        let shapes = self.shapes(&x_shape, w_shape, Some(y_shape))?;
        let mut dx = context.output(0, x_shape)?.ok_or_else(missing)?;
        let dx = dx.try_extract_tensor_mut::<f32>()?.1;
        input_gradient(&shapes, dy, w, dx, self.threads, &|count, task| {
            each(context, self.threads, count, task);
        });
        Ok(())
    }

    fn weight_gradient(&self, context: &ComputeContext) -> ort::Result<()> {
        let (x, dy) = (
            context.input(0)?.ok_or_else(missing)?,
            context.input(1)?.ok_or_else(missing)?,
        );
        let ((x_shape, x), (y_shape, dy)) = (x.try_extract_tensor::<f32>()?, dy.try_extract_tensor::<f32>()?);
        let mut w_shape = vec![y_shape[1], x_shape[1]];
        w_shape.extend(self.node.ints("kernel_shape").unwrap_or_default());
        let shapes = self.shapes(x_shape, &w_shape, Some(y_shape))?;
        let mut dw = context.output(0, w_shape)?.ok_or_else(missing)?;
        let dw = dw.try_extract_tensor_mut::<f32>()?.1;
        weight_gradient(&shapes, x, dy, dw, self.threads, &|count, task| {
            each(context, self.threads, count, task);
        });
        Ok(())
    }
}

fn missing() -> ort::Error {
    ort::Error::new("an input is missing")
}

impl Kernel for ConvolutionKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        (self.compute)(self, context)
    }
}

macro_rules! operator {
    ($operator:ty, $name:literal, $compute:expr, $inputs:expr) => {
        impl Operator for $operator {
            type Kernel<'attr> = ConvolutionKernel;

            fn name(&self) -> &'static str {
                $name
            }

            fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
                $inputs
            }

            fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
                [OperatorOutput::required(TensorElementType::Float32)]
            }

            fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
                Ok(ConvolutionKernel::new($compute, context, self.threads))
            }
        }
    };
}

fn required() -> OperatorInput {
    OperatorInput::required(TensorElementType::Float32)
}

operator!(
    Forward,
    "Conv",
    ConvolutionKernel::forward,
    [
        required(),
        required(),
        OperatorInput::optional(TensorElementType::Float32)
    ]
);
operator!(
    InputGradient,
    "ConvInputGradient",
    ConvolutionKernel::input_gradient,
    [required(), required()]
);
operator!(
    WeightGradient,
    "ConvWeightGradient",
    ConvolutionKernel::weight_gradient,
    [required(), required()]
);

#[cfg(test)]
mod tests {
    use super::super::substitute;
    use crate::autodiff::differentiate;
    use crate::engine::reference::Reference;
    use crate::engine::{Engine, Feed, testing};
    use crate::graph::proto::AttributeProto;
    use crate::graph::{Builder, ElementType, Graph, Tensor, TensorType, attribute};

    /// A convolution with a bias and its gradients, weighted by the numbers of the result.
    fn convolution(x: &[usize], w: &[usize], attributes: Vec<AttributeProto>) -> Graph {
        let mut builder = Builder::new();
        let kind = |shape: &[usize]| TensorType::new(ElementType::F32, shape);
        let x = builder.input("x", kind(x));
        let (w, bias) = (builder.input("w", kind(w)), builder.input("b", kind(&w[..1])));
        let y = builder.node("Conv", &[&x, &w, &bias], attributes);
        let types = testing::engine().types(builder.graph()).unwrap();
        builder.declare(&y, types[&y].clone());
        let gradients = differentiate(&mut builder, &[(y.clone(), y.clone())], &[x, w]).unwrap();
        builder.output("y", &y);
        for (name, gradient) in ["dx", "dw"].iter().zip(gradients) {
            builder.output(name, &gradient.unwrap());
        }
        builder.finish()
    }

    fn numbers(count: usize, step: f64) -> Vec<f32> {
        (0..count)
            .map(|at| ((at as f64 * step).fract() * 2.0 - 1.0) as f32)
            .collect()
    }

    fn check(x: &[usize], w: &[usize], attributes: Vec<AttributeProto>) {
        let graph = convolution(x, w, attributes);
        let mut model = graph.to_model();
        assert!(substitute(&mut model, &graph));
        let ours = model
            .graph
            .unwrap()
            .node
            .iter()
            .filter(|node| node.domain.is_some())
            .count();
        assert_eq!(ours, 3, "all three are replaced for {x:?} {w:?}");
        let values = [
            numbers(x.iter().product(), 0.618_033_988_75),
            numbers(w.iter().product(), 0.414_213_562_37),
            numbers(w[0], 0.732_050_807_57),
        ];
        let inputs = ["x", "w", "b"].into_iter().zip([x, w, &w[..1]]).zip(&values);
        let inputs = inputs.map(|((name, shape), values)| (name.to_owned(), Tensor::f32(shape, values.clone())));
        let expected = Reference.run(&graph, inputs.collect()).unwrap();
        let types: Vec<TensorType> = expected
            .iter()
            .map(|tensor| TensorType::new(ElementType::F32, tensor.shape.clone()))
            .collect();
        let mut machine = testing::engine().machine(0.0).unwrap();
        let program = machine.load(&graph, &types).unwrap();
        let feeds: Vec<Feed<'_>> = values.iter().map(|values| Feed::F32(values)).collect();
        // Twice, since scratch memory keeps what the first run left.
        for _ in 0..2 {
            machine.run(program, &feeds).unwrap();
            for (index, expected) in expected.iter().enumerate() {
                let found = machine.result(program, index).unwrap();
                let expected = expected.as_f32().unwrap();
                let scale = expected.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
                for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                    assert!(
                        (found - expected).abs() <= 2e-6 * scale,
                        "output {index} of {x:?} {w:?} at {at}: {found} instead of {expected}"
                    );
                }
            }
        }
    }

    fn ints(name: &str, values: &[i64]) -> AttributeProto {
        attribute::ints(name, values)
    }

    #[test]
    fn convolutions_of_whole_vectors_are_those_of_the_reference_interpreter() {
        check(&[2, 3, 3, 32], &[5, 3, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
        check(&[1, 2, 2, 16], &[4, 2, 1, 1], Vec::new());
    }

    #[test]
    fn convolutions_of_strips_are_those_of_the_reference_interpreter() {
        check(&[2, 3, 5, 6], &[9, 3, 3, 3], Vec::new());
        check(&[3, 2, 6, 5], &[4, 2, 2, 3], vec![ints("pads", &[0, 2, 1, 1])]);
        check(
            &[1, 2, 7, 9],
            &[4, 2, 3, 2],
            vec![ints("dilations", &[2, 3]), ints("pads", &[2, 1, 2, 1])],
        );
        check(&[2, 2, 4, 4], &[6, 2, 1, 1], vec![ints("pads", &[1, 0, 0, 1])]);
        check(&[1, 25, 4, 5], &[4, 25, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
    }

    #[test]
    fn convolutions_with_strides_are_those_of_the_reference_interpreter() {
        check(&[2, 3, 6, 8], &[5, 3, 3, 3], vec![ints("strides", &[2, 3])]);
        check(
            &[2, 2, 7, 7],
            &[4, 2, 3, 3],
            vec![ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])],
        );
        check(&[2, 4, 6, 6], &[8, 4, 1, 1], vec![ints("strides", &[2, 2])]);
        check(
            &[1, 2, 9, 9],
            &[4, 2, 2, 2],
            vec![ints("strides", &[3, 3]), ints("pads", &[0, 1, 2, 0])],
        );
        check(
            &[1, 2, 9, 8],
            &[4, 2, 3, 3],
            vec![
                ints("strides", &[2, 2]),
                ints("dilations", &[2, 1]),
                ints("pads", &[1, 2, 2, 1]),
            ],
        );
        let same = vec![ints("strides", &[2, 2]), attribute::string("auto_pad", "SAME_LOWER")];
        check(&[1, 2, 6, 5], &[4, 2, 3, 3], same);
    }

    #[test]
    fn convolutions_of_copies_are_those_of_the_reference_interpreter() {
        check(&[3, 4, 4, 4], &[64, 4, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
        check(&[2, 64, 3, 3], &[64, 64, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
        // Two groups of images, whose weights are packed once, and sums over the places in three parts.
        check(&[33, 8, 4, 4], &[64, 8, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
        check(
            &[3, 64, 5, 3],
            &[65, 64, 3, 2],
            vec![ints("strides", &[2, 1]), ints("pads", &[1, 1, 0, 1])],
        );
    }

    #[test]
    fn convolutions_with_fewer_products_are_those_of_the_reference_interpreter() {
        // Two groups of images.
        check(&[22, 33, 7, 5], &[32, 33, 3, 3], vec![ints("pads", &[0, 2, 1, 1])]);
        // The sums over channels in two parts.
        check(&[192, 193, 1, 1], &[32, 193, 3, 3], vec![ints("pads", &[1, 1, 1, 1])]);
        check(&[6, 32, 12, 12], &[32, 32, 3, 3], vec![ints("pads", &[2, 0, 2, 0])]);
    }

    #[test]
    fn convolutions_of_sequences_are_those_of_the_reference_interpreter() {
        check(&[2, 3, 8], &[4, 3, 3], vec![ints("pads", &[2, 0])]);
        check(
            &[2, 3, 19],
            &[4, 3, 5],
            vec![ints("strides", &[2]), ints("pads", &[2, 2])],
        );
    }
}
