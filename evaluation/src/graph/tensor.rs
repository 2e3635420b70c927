//! Tensors on the host, and their form in ONNX files.

use std::sync::Arc;

use super::GraphError;
use super::proto::TensorProto;

/// Element types that trained models use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// 32-bit floating point, the type of weights.
    F32,
    /// 64-bit floating point, for checks.
    F64,
    /// 64-bit integers: shapes and indices.
    I64,
    /// 32-bit integers.
    I32,
    /// Truth values.
    Bool,
}

impl ElementType {
    /// The number that stands for the type in ONNX files.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::Bool => 9,
            Self::F64 => 11,
        }
    }

    /// The type of a number in ONNX files, if it is one of ours.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        [Self::F32, Self::F64, Self::I64, Self::I32, Self::Bool]
            .into_iter()
            .find(|element| element.code() == code)
    }

    /// Whether gradients flow through tensors of this type.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

/// The numbers of a tensor in C order.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are those of `ElementType`")]
pub enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    Bool(Vec<bool>),
}

impl Elements {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    #[must_use]
    pub fn element_type(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F64(_) => ElementType::F64,
            Self::I64(_) => ElementType::I64,
            Self::I32(_) => ElementType::I32,
            Self::Bool(_) => ElementType::Bool,
        }
    }
}

/// A tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// The numbers, as many as the product of the shape; a copy of the tensor shares them.
    pub elements: Arc<Elements>,
}

impl Tensor {
    /// A tensor of a shape.
    ///
    /// # Panics
    /// When shape and count differ.
    #[must_use]
    pub fn new(shape: impl Into<Vec<usize>>, elements: Elements) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            elements.len(),
            "a tensor has as many elements as its shape says"
        );
        Self {
            shape,
            elements: Arc::new(elements),
        }
    }

    /// 32-bit numbers.
    ///
    /// # Panics
    /// When shape and count differ.
    #[must_use]
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self::new(shape, Elements::F32(values))
    }

    /// A vector of integers.
    #[must_use]
    pub fn ints(values: Vec<i64>) -> Self {
        Self::new([values.len()], Elements::I64(values))
    }

    /// Floating-point numbers as `f64`, whatever their width; none for other types.
    #[must_use]
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        match &*self.elements {
            Elements::F32(values) => Some(values.iter().map(|value| f64::from(*value)).collect()),
            Elements::F64(values) => Some(values.clone()),
            _ => None,
        }
    }

    /// 32-bit numbers, if they are that.
    #[must_use]
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &*self.elements {
            Elements::F32(values) => Some(values),
            _ => None,
        }
    }

    /// Integers of either width; none for other types.
    #[must_use]
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match &*self.elements {
            Elements::I64(values) => Some(values.clone()),
            Elements::I32(values) => Some(values.iter().map(|value| i64::from(*value)).collect()),
            _ => None,
        }
    }

    /// The same numbers in the other floating-point width; other types stay.
    #[must_use]
    pub fn cast_float(self, element: ElementType) -> Self {
        let elements = match (Arc::unwrap_or_clone(self.elements), element) {
            (Elements::F32(values), ElementType::F64) => Elements::F64(values.into_iter().map(f64::from).collect()),
            (Elements::F64(values), ElementType::F32) => {
                Elements::F32(values.into_iter().map(|value| value as f32).collect())
            }
            (elements, _) => elements,
        };
        Self {
            shape: self.shape,
            elements: Arc::new(elements),
        }
    }

    /// The form in ONNX files, as raw bytes.
    #[must_use]
    pub fn to_proto(&self, name: &str) -> TensorProto {
        let raw = match &*self.elements {
            Elements::F32(values) => bytes(values, f32::to_le_bytes),
            Elements::F64(values) => bytes(values, f64::to_le_bytes),
            Elements::I64(values) => bytes(values, i64::to_le_bytes),
            Elements::I32(values) => bytes(values, i32::to_le_bytes),
            Elements::Bool(values) => values.iter().map(|value| u8::from(*value)).collect(),
        };
        TensorProto {
            raw_data: Some(raw),
            ..self.to_hollow_proto(name)
        }
    }

    /// The form in ONNX files without the numbers.
    #[must_use]
    pub(crate) fn to_hollow_proto(&self, name: &str) -> TensorProto {
        TensorProto {
            dims: self.shape.iter().map(|dim| *dim as i64).collect(),
            data_type: Some(self.elements.element_type().code()),
            name: Some(name.to_owned()),
            ..TensorProto::default()
        }
    }

    /// Reads the form in ONNX files; numbers in other files must have been fetched before.
    ///
    /// # Errors
    /// When the element type is none of ours, or the count does not fit the shape.
    pub fn from_proto(proto: &TensorProto) -> Result<Self, GraphError> {
        let name = proto.name.clone().unwrap_or_default();
        let malformed = |message: String| GraphError::Tensor {
            name: name.clone(),
            message,
        };
        let shape = proto
            .dims
            .iter()
            .map(|dim| usize::try_from(*dim).map_err(|_| malformed(format!("negative dimension {dim}"))))
            .collect::<Result<Vec<_>, _>>()?;
        let code = proto.data_type.unwrap_or(0);
        let element = ElementType::from_code(code).ok_or_else(|| {
            malformed(format!(
                "element type {code} is not supported; convert the tensor to float32 or int64"
            ))
        })?;
        if proto.data_location == Some(1) {
            return Err(malformed("its numbers are in another file".into()));
        }
        let elements = match &proto.raw_data {
            Some(raw) if !raw.is_empty() => decode(element, raw)
                .ok_or_else(|| malformed(format!("{} bytes are no whole number of elements", raw.len())))?,
            _ => match element {
                ElementType::F32 => Elements::F32(proto.float_data.clone()),
                ElementType::F64 => Elements::F64(proto.double_data.clone()),
                ElementType::I64 => Elements::I64(proto.int64_data.clone()),
                ElementType::I32 => Elements::I32(proto.int32_data.clone()),
                ElementType::Bool => Elements::Bool(proto.int32_data.iter().map(|value| *value != 0).collect()),
            },
        };
        let expected = shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
        if expected != Some(elements.len()) {
            return Err(malformed(format!(
                "shape {shape:?} does not fit {} elements",
                elements.len()
            )));
        }
        Ok(Self::new(shape, elements))
    }
}

fn bytes<const N: usize, T: Copy>(values: &[T], convert: fn(T) -> [u8; N]) -> Vec<u8> {
    let parts: Vec<[u8; N]> = values.iter().map(|value| convert(*value)).collect();
    parts.into_flattened()
}

fn decode(element: ElementType, raw: &[u8]) -> Option<Elements> {
    fn chunks<const N: usize, T>(raw: &[u8], convert: fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (chunks, rest) = raw.as_chunks::<N>();
        rest.is_empty()
            .then(|| chunks.iter().map(|chunk| convert(*chunk)).collect())
    }
    Some(match element {
        ElementType::F32 => Elements::F32(chunks(raw, f32::from_le_bytes)?),
        ElementType::F64 => Elements::F64(chunks(raw, f64::from_le_bytes)?),
        ElementType::I64 => Elements::I64(chunks(raw, i64::from_le_bytes)?),
        ElementType::I32 => Elements::I32(chunks(raw, i32::from_le_bytes)?),
        ElementType::Bool => Elements::Bool(raw.iter().map(|byte| *byte != 0).collect()),
    })
}
