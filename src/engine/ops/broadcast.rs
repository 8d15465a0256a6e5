//! Elementwise evaluation on the host, with broadcasting.

use crate::engine::ir::Fact;
use crate::error::Result;
use crate::tensor::{DType, Dim, Shape, Tensor, broadcast};

/// The elements of a real tensor, wide enough to compute in.
pub(super) enum Numbers {
    /// Floats.
    Real(Vec<f64>),
    /// Integers and bools; `u64` as its bits.
    Whole(Vec<i64>),
}

impl Numbers {
    pub(super) fn of(tensor: &Tensor) -> Result<Self> {
        if tensor.dtype().is_float() {
            return Ok(Self::Real(tensor.to_f64s()?));
        }
        if tensor.dtype() == DType::U64 {
            return Ok(Self::Whole(tensor.values::<u64>()?.iter().map(|v| v.cast_signed()).collect()));
        }
        Ok(Self::Whole(tensor.to_i64s()?))
    }
}

/// Integers as a tensor of `dtype`, wrapped to its width.
pub(super) fn wrapped(dtype: DType, shape: Shape, values: &[i64]) -> Result<Tensor> {
    macro_rules! cast {
        ($t:ty) => {
            Tensor::from_vec::<$t>(shape, values.iter().map(|v| *v as $t).collect())
        };
    }
    match dtype {
        DType::Bool => Tensor::from_bools(shape, values.iter().map(|v| u8::from(*v != 0)).collect()),
        DType::U8 => cast!(u8),
        DType::I8 => cast!(i8),
        DType::U16 => cast!(u16),
        DType::I16 => cast!(i16),
        DType::U32 => cast!(u32),
        DType::I32 => cast!(i32),
        DType::U2 | DType::U4 => {
            let mask = (1i64 << dtype.bits()) - 1;
            Tensor::from_bytes(dtype, shape, values.iter().map(|v| (v & mask) as u8).collect::<Vec<u8>>())
        }
        DType::I2 | DType::I4 => {
            let unused = 64 - dtype.bits();
            let wrap = |v: &i64| ((v << unused) >> unused) as u8;
            Tensor::from_bytes(dtype, shape, values.iter().map(wrap).collect::<Vec<u8>>())
        }
        DType::U64 => cast!(u64),
        DType::I64 => cast!(i64),
        float => {
            let values: Vec<f64> = values.iter().map(|v| *v as f64).collect();
            Tensor::from_f64s(float, shape, &values)
        }
    }
}

/// For each element of `output` in order, the index of the element of a tensor of shape `input` that broadcasts to it.
pub(super) fn indices(input: &[usize], output: &[usize]) -> Vec<usize> {
    if output.contains(&0) {
        return Vec::new();
    }
    if input == output {
        return (0..output.iter().product()).collect();
    }
    let lead = output.len() - input.len();
    let strides = Shape::from(input).strides();
    let stride = |axis: usize| match axis.checked_sub(lead) {
        Some(i) if input[i] != 1 => strides[i],
        _ => 0,
    };
    let mut indices = vec![0];
    for (axis, extent) in output.iter().enumerate() {
        let step = stride(axis);
        indices = indices.iter().flat_map(|base| (0..*extent).map(move |i| base + i * step)).collect();
    }
    indices
}

/// The shape that all of `shapes` broadcast to.
pub(super) fn common_shape<'a>(shapes: impl IntoIterator<Item = &'a Shape>) -> Result<Shape> {
    shapes.into_iter().try_fold(Shape::scalar(), |common, shape| broadcast(&common, shape))
}

/// Extents that all of `facts` broadcast to; `None` when a rank is unknown.
pub(super) fn common_dims(facts: &[&Fact]) -> Result<Option<Vec<Dim>>> {
    let Some(all) = facts.iter().map(|f| f.dims.as_ref()).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let rank = all.iter().map(|d| d.len()).max().unwrap_or(0);
    let mut common = vec![Dim::Fixed(1); rank];
    for dims in all {
        for (i, dim) in dims.iter().enumerate() {
            let slot = &mut common[rank - dims.len() + i];
            *slot = match (&*slot, dim) {
                (a, b) if a == b => continue,
                (Dim::Fixed(1), b) => b.clone(),
                (_, Dim::Fixed(1)) => continue,
                (Dim::Fixed(a), Dim::Fixed(b)) => {
                    // Says the shapes, as it fails.
                    broadcast(&[*a], &[*b])?;
                    continue;
                }
                (Dim::Fixed(a), _) => Dim::Fixed(*a),
                (_, Dim::Fixed(b)) => Dim::Fixed(*b),
                _ => Dim::Unknown,
            };
        }
    }
    Ok(Some(common))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_repeat_along_stretched_axes() {
        assert_eq!(indices(&[2, 1], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(indices(&[3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(indices(&[], &[2]), [0, 0]);
    }
}
