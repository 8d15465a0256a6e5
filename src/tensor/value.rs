//! What graphs pass: tensors, and the sequences and optional values that hold them.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::dtype::DType;
use super::element::Element;
use super::shape::Shape;
use super::small_float::{self, Rounding};
use crate::error::{Error, Result};

/// A tensor's elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Little-endian, row-major, `elements × dtype.bytes()` long. May start at any address.
    Bytes(Bytes),
    /// One byte string an element.
    Strings(Arc<[Bytes]>),
    /// What a sequence or an optional value holds: any number of values of one type, or at most one.
    Elements(Arc<[Tensor]>),
}

/// A dense row-major array in host memory, or what holds such (of rank 0). Clones share the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// A tensor of any fixed-size dtype over `bytes` (little-endian).
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the length is not `elements × size`, or elements of the dtype have no fixed size.
    pub fn from_bytes(dtype: DType, shape: impl Into<Shape>, bytes: impl Into<Bytes>) -> Result<Self> {
        let (shape, bytes) = (shape.into(), bytes.into());
        if dtype.bits() == 0 || shape.elements().checked_mul(dtype.bytes()) != Some(bytes.len()) {
            return Err(Error::invalid_argument(format!(
                "{} bytes do not make a {dtype} tensor of shape {shape}",
                bytes.len()
            )));
        }
        Ok(Self { dtype, shape, data: Data::Bytes(bytes) })
    }

    /// A tensor over `values`, without copying them.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the shape holds another number of elements.
    pub fn from_vec<T: Element>(shape: impl Into<Shape>, values: Vec<T>) -> Result<Self> {
        Self::from_bytes(T::DTYPE, shape, Bytes::from_owner(Owned(values)))
    }

    /// A bool tensor; `values` are 0 or 1.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`].
    pub fn from_bools(shape: impl Into<Shape>, values: Vec<u8>) -> Result<Self> {
        Self::from_bytes(DType::Bool, shape, values)
    }

    /// A string tensor.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`].
    pub fn from_strings(shape: impl Into<Shape>, values: Vec<Bytes>) -> Result<Self> {
        let shape = shape.into();
        if shape.elements() != values.len() {
            return Err(Error::invalid_argument(format!(
                "{} strings do not make a tensor of shape {shape}",
                values.len()
            )));
        }
        Ok(Self { dtype: DType::String, shape, data: Data::Strings(values.into()) })
    }

    /// A value of rank 0 that holds `elements`.
    pub(super) fn holding(dtype: DType, elements: Arc<[Tensor]>) -> Self {
        Self { dtype, shape: Shape::scalar(), data: Data::Elements(elements) }
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Self {
        let bytes = Bytes::copy_from_slice(bytemuck::bytes_of(&value));
        Self { dtype: T::DTYPE, shape: Shape::scalar(), data: Data::Bytes(bytes) }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements as stored.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Raw little-endian bytes; empty for what has none of its own.
    pub fn bytes(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        match &self.data {
            Data::Bytes(bytes) => bytes,
            Data::Strings(_) | Data::Elements(_) => &EMPTY,
        }
    }

    /// The strings of a string tensor; empty otherwise.
    pub fn strings(&self) -> &[Bytes] {
        match &self.data {
            Data::Strings(strings) => strings,
            Data::Bytes(_) | Data::Elements(_) => &[],
        }
    }

    /// The elements as `T`, copied only when the bytes are not aligned for it. Types that lie in memory as
    /// another (bool, those below 8 bits, 8-bit floats) read as their [`DType::carrier`].
    ///
    /// # Errors
    /// `INTERNAL` when the dtype is another one.
    pub fn values<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        let same = self.dtype == T::DTYPE || self.dtype.carrier() == T::DTYPE;
        match &self.data {
            Data::Bytes(bytes) if same => Ok(match bytemuck::try_cast_slice(bytes) {
                Ok(aligned) => Cow::Borrowed(aligned),
                Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
            }),
            _ => Err(Error::internal(format!("a {} tensor was read as {}", self.dtype, T::DTYPE))),
        }
    }

    /// Any integer or bool tensor as `i64` (u64 saturates): axes, shapes, indices.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for other dtypes.
    pub fn to_i64s(&self) -> Result<Vec<i64>> {
        fn widen<T: Element + Into<i64>>(t: &Tensor) -> Result<Vec<i64>> {
            Ok(t.values::<T>()?.iter().map(|v| (*v).into()).collect())
        }
        match self.dtype {
            DType::Bool | DType::U8 | DType::U4 | DType::U2 => widen::<u8>(self),
            DType::I8 | DType::I4 | DType::I2 => widen::<i8>(self),
            DType::U16 => widen::<u16>(self),
            DType::I16 => widen::<i16>(self),
            DType::U32 => widen::<u32>(self),
            DType::I32 => widen::<i32>(self),
            DType::I64 => Ok(self.values::<i64>()?.into_owned()),
            DType::U64 => Ok(self.values::<u64>()?.iter().map(|v| i64::try_from(*v).unwrap_or(i64::MAX)).collect()),
            other => Err(Error::invalid_argument(format!("expected integers, got a {other} tensor"))),
        }
    }

    /// Any real numeric tensor as `f64`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for strings and complex numbers.
    pub fn to_f64s(&self) -> Result<Vec<f64>> {
        match self.dtype {
            DType::F64 => Ok(self.values::<f64>()?.into_owned()),
            DType::F32 => Ok(self.values::<f32>()?.iter().map(|v| f64::from(*v)).collect()),
            DType::F16 => Ok(self.values::<half::f16>()?.iter().map(|v| v.to_f64()).collect()),
            DType::BF16 => Ok(self.values::<half::bf16>()?.iter().map(|v| v.to_f64()).collect()),
            DType::U64 => Ok(self.values::<u64>()?.iter().map(|v| *v as f64).collect()),
            small if small.is_small_float() => {
                let codes = self.values::<u8>()?;
                Ok(codes.iter().filter_map(|code| small_float::decode(small, *code)).map(f64::from).collect())
            }
            DType::String | DType::Complex64 | DType::Complex128 => {
                Err(Error::invalid_argument(format!("expected real numbers, got a {} tensor", self.dtype)))
            }
            _ => Ok(self.to_i64s()?.into_iter().map(|v| v as f64).collect()),
        }
    }

    /// Any real numeric tensor as `f32`, borrowed when it is one already.
    ///
    /// # Errors
    /// As [`Tensor::to_f64s`].
    pub fn to_f32s(&self) -> Result<Cow<'_, [f32]>> {
        if self.dtype == DType::F32 {
            return self.values::<f32>();
        }
        Ok(Cow::Owned(self.to_f64s()?.into_iter().map(|v| v as f32).collect()))
    }

    /// A real numeric tensor of `dtype` from values computed in `f64`: rounded, integers truncated and saturated.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the count is wrong or the dtype is not real.
    pub fn from_f64s(dtype: DType, shape: impl Into<Shape>, values: &[f64]) -> Result<Self> {
        use half::{bf16, f16};
        let shape = shape.into();
        macro_rules! cast {
            ($t:ty, $f:expr) => {
                Self::from_vec::<$t>(shape, values.iter().map($f).collect())
            };
        }
        match dtype {
            DType::Bool => Self::from_bools(shape, values.iter().map(|v| u8::from(*v != 0.0)).collect()),
            DType::U8 => cast!(u8, |v| *v as u8),
            DType::I8 => cast!(i8, |v| *v as i8),
            DType::U16 => cast!(u16, |v| *v as u16),
            DType::I16 => cast!(i16, |v| *v as i16),
            DType::U32 => cast!(u32, |v| *v as u32),
            DType::I32 => cast!(i32, |v| *v as i32),
            DType::U64 => cast!(u64, |v| *v as u64),
            DType::I64 => cast!(i64, |v| *v as i64),
            DType::F16 => cast!(f16, |v| f16::from_f64(*v)),
            DType::BF16 => cast!(bf16, |v| bf16::from_f64(*v)),
            DType::F32 => cast!(f32, |v| *v as f32),
            DType::F64 => cast!(f64, |v| *v),
            DType::U4 | DType::I4 | DType::U2 | DType::I2 => {
                let (low, high) = dtype.small_range();
                let clamp = |v: &f64| (*v as i64).clamp(low, high) as u8;
                Self::from_bytes(dtype, shape, values.iter().map(clamp).collect::<Vec<u8>>())
            }
            small if small.is_small_float() => Self::from_rounded(small, shape, values, Rounding::default()),
            other => Err(Error::invalid_argument(format!("{other} is not a real number type"))),
        }
    }

    /// A tensor of floats of at most 8 bits, rounded as asked.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the count is wrong or the dtype another one.
    pub fn from_rounded(dtype: DType, shape: impl Into<Shape>, values: &[f64], rounding: Rounding) -> Result<Self> {
        let codes: Option<Vec<u8>> = values.iter().map(|v| small_float::encode(dtype, *v, rounding)).collect();
        let codes = codes.ok_or_else(|| Error::invalid_argument(format!("{dtype} is no float of 8 bits or fewer")))?;
        Self::from_bytes(dtype, shape, codes)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the element counts differ, or for another rank of what is no tensor.
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if self.dtype.is_compound() && shape.rank() > 0 {
            return Err(Error::invalid_argument(format!("a {} value has no axes", self.dtype)));
        }
        if shape.elements() != self.shape.elements() {
            return Err(Error::invalid_argument(format!(
                "cannot reshape {} to {shape}: {} elements against {}",
                self.shape,
                self.shape.elements(),
                shape.elements()
            )));
        }
        Ok(Self { dtype: self.dtype, shape, data: self.data.clone() })
    }
}

/// Lets `Bytes` own a typed vector.
struct Owned<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_bytes_are_read_through_a_copy() {
        let mut raw = vec![0u8];
        raw.extend_from_slice(&1.5f32.to_le_bytes());
        raw.extend_from_slice(&(-2.0f32).to_le_bytes());
        let t = Tensor::from_bytes(DType::F32, [2], Bytes::from(raw).slice(1..)).expect("eight bytes");
        assert_eq!(t.values::<f32>().expect("f32").as_ref(), [1.5, -2.0]);
    }

    #[test]
    fn lengths_are_checked() {
        assert!(Tensor::from_bytes(DType::F32, [2], vec![0u8; 7]).is_err());
        assert!(Tensor::from_vec::<f32>([usize::MAX, 8], vec![]).is_err());
    }
}
