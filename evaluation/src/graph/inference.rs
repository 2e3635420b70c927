//! Types of the nodes that the program itself appends, without asking an engine.
//!
//! Covers the operators that expansions and gradient rules append, and those of models where a shape is easily said.
//! What is not covered has no known type, which is no error: models' own nodes get their types from an engine.

use super::{ElementType, Node, Tensor, TensorType, Window};

/// What is known of the tensors so far.
pub(super) trait Known {
    fn kind(&self, name: &str) -> Option<&TensorType>;
    fn value(&self, name: &str) -> Option<&Tensor>;
}

/// The types of a node's outputs, as far as they follow from what is known.
pub(super) fn infer(node: &Node, known: &dyn Known) -> Vec<Option<TensorType>> {
    let Some(first) = node.input(0).and_then(|name| known.kind(name)) else {
        return vec![None; node.outputs.len()];
    };
    if node.operator == "Split" {
        return split(node, first, known).unwrap_or_else(|| vec![None; node.outputs.len()]);
    }
    let mut types = vec![single(node, first, known)];
    let second = match node.operator.as_str() {
        "MaxPool" | "TopK" => Some(ElementType::I64),
        "Dropout" => Some(ElementType::Bool),
        _ => None,
    };
    if let (Some(element), Some(kind)) = (second, &types[0]) {
        types.push(Some(TensorType::new(element, kind.shape.clone())));
    }
    if node.operator == "LayerNormalization" {
        let axis = node.int("axis").unwrap_or(-1);
        let rank = first.shape.len();
        let axis = (if axis < 0 { axis + rank as i64 } else { axis }) as usize;
        let shape = first.shape.iter().enumerate();
        let means = shape
            .map(|(at, dim)| if at < axis { *dim } else { 1 })
            .collect::<Vec<_>>();
        types.extend([(); 2].map(|()| Some(TensorType::new(first.element, means.clone()))));
    }
    types.resize(node.outputs.len(), None);
    types
}

fn single(node: &Node, first: &TensorType, known: &dyn Known) -> Option<TensorType> {
    let kind = |index: usize| node.input(index).and_then(|name| known.kind(name));
    let ints = |index: usize| {
        node.input(index)
            .and_then(|name| known.value(name))
            .and_then(Tensor::to_i64)
    };
    let rank = first.shape.len();
    let at = |axis: i64, rank: usize| (if axis < 0 { axis + rank as i64 } else { axis }) as usize;
    let of = |shape: Vec<usize>| Some(TensorType::new(first.element, shape));
    match node.operator.as_str() {
        "Abs"
        | "Acos"
        | "Acosh"
        | "Asin"
        | "Asinh"
        | "Atan"
        | "Atanh"
        | "BatchNormalization"
        | "Ceil"
        | "Celu"
        | "Clip"
        | "Cos"
        | "Cosh"
        | "CumSum"
        | "Dropout"
        | "Elu"
        | "Erf"
        | "Exp"
        | "Floor"
        | "Gelu"
        | "GroupNormalization"
        | "HardSigmoid"
        | "HardSwish"
        | "Hardmax"
        | "Identity"
        | "InstanceNormalization"
        | "LRN"
        | "LayerNormalization"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "Mish"
        | "Neg"
        | "Not"
        | "PRelu"
        | "RMSNormalization"
        | "Reciprocal"
        | "Relu"
        | "ReverseSequence"
        | "Round"
        | "ScatterElements"
        | "ScatterND"
        | "Selu"
        | "Shrink"
        | "Sigmoid"
        | "Sign"
        | "Sin"
        | "Sinh"
        | "Softmax"
        | "Softplus"
        | "Softsign"
        | "Sqrt"
        | "Swish"
        | "Tan"
        | "Tanh"
        | "ThresholdedRelu"
        | "Trilu" => Some(first.clone()),
        "AveragePool" | "Conv" | "ConvTranspose" | "LpPool" | "MaxPool" => windows(node, first, kind(1)),
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let sizes = (0..rank).map(|axis| if axis < 2 { first.shape[axis] } else { 1 });
            of(sizes.collect())
        }
        "Flatten" => {
            let axis = at(node.int("axis").unwrap_or(1), rank);
            let (before, after) = (first.shape.get(..axis)?, first.shape.get(axis..)?);
            of(vec![before.iter().product(), after.iter().product()])
        }
        "CastLike" => Some(TensorType::new(kind(1)?.element, first.shape.clone())),
        "Shape" if node.attributes.is_empty() => Some(TensorType::new(ElementType::I64, [rank])),
        "Size" => Some(TensorType::new(ElementType::I64, [])),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Sum" | "Mean" | "Mod" => {
            let mut shape = first.shape.clone();
            for index in 1..node.inputs.len() {
                shape = broadcast(&shape, &kind(index)?.shape)?;
            }
            of(shape)
        }
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" => Some(TensorType::new(
            ElementType::Bool,
            broadcast(&first.shape, &kind(1)?.shape)?,
        )),
        "Where" => {
            let yes = kind(1)?;
            let shape = broadcast(&broadcast(&first.shape, &yes.shape)?, &kind(2)?.shape)?;
            Some(TensorType::new(yes.element, shape))
        }
        "Cast" => Some(TensorType::new(
            ElementType::from_code(node.int("to")? as i32)?,
            first.shape.clone(),
        )),
        "MatMul" => matmul(&first.shape, &kind(1)?.shape).and_then(of),
        "Gemm" => {
            let (a, b) = (&first.shape, &kind(1)?.shape);
            let flag = |name: &str| usize::from(node.int(name).unwrap_or(0) != 0);
            of(vec![*a.get(flag("transA"))?, *b.get(1 - flag("transB"))?])
        }
        "Transpose" => match node.ints("perm") {
            Some(order) => of(order.iter().map(|axis| first.shape[at(*axis, rank)]).collect()),
            None => of(first.shape.iter().rev().copied().collect()),
        },
        "Reshape" => reshape(&first.shape, &ints(1)?).and_then(of),
        "Expand" => {
            let wanted: Vec<usize> = ints(1)?.iter().map(|dim| *dim as usize).collect();
            broadcast(&first.shape, &wanted).and_then(of)
        }
        "Unsqueeze" => {
            let axes = ints(1)?;
            let rank = rank + axes.len();
            let axes: Vec<usize> = axes.iter().map(|axis| at(*axis, rank)).collect();
            let mut old = first.shape.iter().copied();
            of((0..rank)
                .map(|axis| if axes.contains(&axis) { Some(1) } else { old.next() })
                .collect::<Option<_>>()?)
        }
        "Squeeze" => {
            let axes: Vec<usize> = ints(1)?.iter().map(|axis| at(*axis, rank)).collect();
            of((0..rank)
                .filter(|axis| !axes.contains(axis))
                .map(|axis| first.shape[axis])
                .collect())
        }
        "Concat" => {
            let axis = at(node.int("axis")?, rank);
            let mut shape = first.shape.clone();
            for index in 1..node.inputs.len() {
                *shape.get_mut(axis)? += kind(index)?.shape.get(axis)?;
            }
            of(shape)
        }
        "Gather" => {
            let axis = at(node.int("axis").unwrap_or(0), rank);
            let mut shape = first.shape.clone();
            shape.splice(axis..=axis, kind(1)?.shape.iter().copied());
            of(shape)
        }
        "GatherElements" => of(kind(1)?.shape.clone()),
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean" | "ReduceMin"
        | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => {
            let axes: Vec<usize> = match node.input(1) {
                Some(_) => ints(1)?.iter().map(|axis| at(*axis, rank)).collect(),
                None => (0..rank).collect(),
            };
            let keeps = node.int("keepdims").unwrap_or(1) != 0;
            of((0..rank)
                .filter(|axis| keeps || !axes.contains(axis))
                .map(|axis| if axes.contains(&axis) { 1 } else { first.shape[axis] })
                .collect())
        }
        "Slice" => {
            let (starts, ends) = (ints(1)?, ints(2)?);
            let axes = match node.input(3) {
                Some(_) => ints(3)?,
                None => (0..starts.len() as i64).collect(),
            };
            if node.input(4).is_some() && ints(4)?.iter().any(|step| *step != 1) {
                return None;
            }
            let mut shape = first.shape.clone();
            for ((start, end), axis) in starts.iter().zip(&ends).zip(axes) {
                let size = shape.get_mut(at(axis, rank))?;
                let place =
                    |value: i64| (if value < 0 { value + *size as i64 } else { value }).clamp(0, *size as i64) as usize;
                *size = place(*end).saturating_sub(place(*start));
            }
            of(shape)
        }
        _ => None,
    }
}

/// Convolutions and pools; the kernel of a convolution is its second input.
fn windows(node: &Node, first: &TensorType, weights: Option<&TensorType>) -> Option<TensorType> {
    let input = first.shape.get(2..)?;
    let mut shape = first.shape[..2].to_vec();
    match node.operator.as_str() {
        "Conv" => {
            let weights = &weights?.shape;
            let window = Window::sliding(node, weights.get(2..)?, input).ok()?;
            shape[1] = weights[0];
            shape.extend((0..input.len()).map(|axis| window.count(axis, input[axis], false)));
        }
        "ConvTranspose" => {
            let weights = &weights?.shape;
            let (_, output) = Window::transposed(node, weights.get(2..)?, input, None).ok()?;
            shape[1] = weights[1] * node.int("group").unwrap_or(1) as usize;
            shape.extend(output);
        }
        _ => {
            let window = Window::sliding(node, &[], input).ok()?;
            let ceil = node.int("ceil_mode").unwrap_or(0) != 0;
            shape.extend((0..input.len()).map(|axis| window.count(axis, input[axis], ceil)));
        }
    }
    Some(TensorType::new(first.element, shape))
}

fn split(node: &Node, first: &TensorType, known: &dyn Known) -> Option<Vec<Option<TensorType>>> {
    let rank = first.shape.len() as i64;
    let axis = node.int("axis").unwrap_or(0);
    let axis = (if axis < 0 { axis + rank } else { axis }) as usize;
    let sizes = known.value(node.input(1)?)?.to_i64()?;
    let part = |size: &i64| {
        let mut shape = first.shape.clone();
        *shape.get_mut(axis)? = *size as usize;
        Some(TensorType::new(first.element, shape))
    };
    Some(sizes.iter().map(part).collect())
}

/// The shape that two shapes broadcast to.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    (0..rank)
        .map(|axis| match (dim(a, axis), dim(b, axis)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}

fn matmul(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (a_batch, b_batch) = (&a[..a.len().saturating_sub(2)], &b[..b.len().saturating_sub(2)]);
    let mut shape = broadcast(a_batch, b_batch)?;
    if a.len() > 1 {
        shape.push(a[a.len() - 2]);
    }
    if b.len() > 1 {
        shape.push(b[b.len() - 1]);
    }
    Some(shape)
}

fn reshape(from: &[usize], wanted: &[i64]) -> Option<Vec<usize>> {
    let mut shape = Vec::new();
    for (axis, dim) in wanted.iter().enumerate() {
        shape.push(match dim {
            0 => *from.get(axis)?,
            -1 => 1,
            dim => usize::try_from(*dim).ok()?,
        });
    }
    if let Some(open) = wanted.iter().position(|dim| *dim == -1) {
        let rest: usize = shape.iter().product();
        shape[open] = from.iter().product::<usize>().checked_div(rest)?;
    }
    Some(shape)
}
