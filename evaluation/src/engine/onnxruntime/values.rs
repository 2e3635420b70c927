//! Tensors between the host and ONNX Runtime.

use ort::memory::Allocator;
use ort::value::{DynTensor, TensorElementType};

use crate::graph::{ElementType, Elements, Tensor};

pub(super) fn ort_type(element: ElementType) -> TensorElementType {
    match element {
        ElementType::F32 => TensorElementType::Float32,
        ElementType::F64 => TensorElementType::Float64,
        ElementType::I64 => TensorElementType::Int64,
        ElementType::I32 => TensorElementType::Int32,
        ElementType::Bool => TensorElementType::Bool,
    }
}

pub(super) fn element_type(element: TensorElementType) -> Option<ElementType> {
    match element {
        TensorElementType::Float32 => Some(ElementType::F32),
        TensorElementType::Float64 => Some(ElementType::F64),
        TensorElementType::Int64 => Some(ElementType::I64),
        TensorElementType::Int32 => Some(ElementType::I32),
        TensorElementType::Bool => Some(ElementType::Bool),
        _ => None,
    }
}

pub(super) fn host_tensor(value: &Tensor) -> ort::Result<DynTensor> {
    let mut tensor = DynTensor::new(
        &Allocator::default(),
        ort_type(value.elements.element_type()),
        value.shape.clone(),
    )?;
    fill_host(&mut tensor, value)?;
    Ok(tensor)
}

pub(super) fn fill_host(target: &mut DynTensor, value: &Tensor) -> ort::Result<()> {
    match &*value.elements {
        Elements::F32(values) => target.try_extract_tensor_mut::<f32>()?.1.copy_from_slice(values),
        Elements::F64(values) => target.try_extract_tensor_mut::<f64>()?.1.copy_from_slice(values),
        Elements::I64(values) => target.try_extract_tensor_mut::<i64>()?.1.copy_from_slice(values),
        Elements::I32(values) => target.try_extract_tensor_mut::<i32>()?.1.copy_from_slice(values),
        Elements::Bool(values) => target.try_extract_tensor_mut::<bool>()?.1.copy_from_slice(values),
    }
    Ok(())
}

pub(super) fn to_host(tensor: &DynTensor) -> ort::Result<Tensor> {
    let elements = match tensor.data_type() {
        TensorElementType::Float32 => Elements::F32(tensor.try_extract_tensor::<f32>()?.1.to_vec()),
        TensorElementType::Float64 => Elements::F64(tensor.try_extract_tensor::<f64>()?.1.to_vec()),
        TensorElementType::Int64 => Elements::I64(tensor.try_extract_tensor::<i64>()?.1.to_vec()),
        TensorElementType::Int32 => Elements::I32(tensor.try_extract_tensor::<i32>()?.1.to_vec()),
        TensorElementType::Bool => Elements::Bool(tensor.try_extract_tensor::<bool>()?.1.to_vec()),
        other => {
            return Err(ort::Error::new(format!("element type {other} is not supported")));
        }
    };
    let shape: Vec<usize> = tensor.shape().iter().map(|dim| *dim as usize).collect();
    Ok(Tensor::new(shape, elements))
}
