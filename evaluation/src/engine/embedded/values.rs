//! Tensors while a program runs.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use rten::{DataType, ValueOrView, ValueType};
use rten_tensor::{AsView as _, Layout as _};

use crate::engine::reference;
use crate::graph::{ElementType, Elements, Tensor};

/// A tensor as `rten` has it, or in double precision.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Fast(rten::Value),
    Exact(reference::Value),
}

fn fast<T>(shape: &[usize], values: Vec<T>) -> Held
where
    rten::Value: From<rten_tensor::Tensor<T>>,
{
    Held::Fast(rten::Value::from_shape(shape, values).expect("a tensor's count fits its shape"))
}

impl Held {
    pub(super) fn new(tensor: Tensor) -> Self {
        let narrow = |value: i64| value.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        if tensor.elements.element_type() == ElementType::F64 {
            return Self::Exact(reference::Value::from_tensor(&tensor));
        }
        match Arc::unwrap_or_clone(tensor.elements) {
            Elements::F32(values) => fast(&tensor.shape, values),
            Elements::I64(values) => fast(&tensor.shape, values.into_iter().map(narrow).collect()),
            Elements::I32(values) => fast(&tensor.shape, values),
            Elements::Bool(values) => fast(&tensor.shape, values.into_iter().map(i32::from).collect()),
            Elements::F64(_) => unreachable!("double precision is left to the interpreter"),
        }
    }

    /// For an operator of the interpreter; `element` tells integers and truth values apart.
    pub(super) fn to_exact(&self, element: Option<ElementType>) -> reference::Value {
        match self {
            Self::Exact(value) => value.clone(),
            Self::Fast(value) => {
                let (shape, numbers) = numbers(value);
                let data = ArrayD::from_shape_vec(IxDyn(&shape), numbers).expect("a tensor's count fits its shape");
                reference::Value::new(element.unwrap_or(natural(value)), data)
            }
        }
    }

    /// For an operator of `rten`.
    pub(super) fn as_input(&self) -> ValueOrView<'_> {
        match self {
            Self::Fast(value) => value.into(),
            Self::Exact(value) => narrowed(value).into(),
        }
    }

    /// For an operator of `rten` that may overwrite it.
    pub(super) fn into_input(self) -> ValueOrView<'static> {
        match self {
            Self::Fast(value) => value.into(),
            Self::Exact(value) => narrowed(&value).into(),
        }
    }

    /// As a tensor of a type; without one, of the type that its numbers have here.
    pub(super) fn into_tensor(self, element: Option<ElementType>) -> Tensor {
        match self {
            Self::Fast(value) if element.unwrap_or(natural(&value)) == ElementType::F32 => {
                let shape = value.shape().to_vec();
                Tensor::new(shape, Elements::F32(Self::Fast(value).into_singles()))
            }
            held => held.to_exact(element).to_tensor(),
        }
    }

    /// The numbers as `f32` in C order.
    pub(super) fn into_singles(self) -> Vec<f32> {
        match self {
            Self::Fast(rten::Value::FloatTensor(tensor)) => tensor.into_data(),
            Self::Fast(value) => numbers(&value).1.into_iter().map(|value| value as f32).collect(),
            Self::Exact(value) => value.data.iter().map(|value| *value as f32).collect(),
        }
    }
}

fn narrowed(value: &reference::Value) -> rten::Value {
    match Held::new(match value.element {
        ElementType::F64 => {
            let numbers = value.data.iter().map(|value| *value as f32).collect();
            Tensor::new(value.shape(), Elements::F32(numbers))
        }
        _ => value.to_tensor(),
    }) {
        Held::Fast(value) => value,
        Held::Exact(_) => unreachable!("only tensors in double precision are held exactly"),
    }
}

/// The type of a tensor of which nothing is known but its numbers.
fn natural(value: &rten::Value) -> ElementType {
    match value.dtype() {
        ValueType::Tensor(DataType::Float) => ElementType::F32,
        _ => ElementType::I64,
    }
}

fn numbers(value: &rten::Value) -> (Vec<usize>, Vec<f64>) {
    let numbers = match value {
        rten::Value::FloatTensor(tensor) => tensor.iter().map(|value| f64::from(*value)).collect(),
        rten::Value::Int32Tensor(tensor) => tensor.iter().map(|value| f64::from(*value)).collect(),
        rten::Value::Int8Tensor(tensor) => tensor.iter().map(|value| f64::from(*value)).collect(),
        rten::Value::UInt8Tensor(tensor) => tensor.iter().map(|value| f64::from(*value)).collect(),
        _ => Vec::new(),
    };
    (value.shape().to_vec(), numbers)
}
