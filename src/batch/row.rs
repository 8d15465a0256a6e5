//! What one row of a request looks like, where rows of other extents may stand beside it in a batch.

use bytes::Bytes;

use crate::tensor::{DType, Shape, Tensor};

/// Axes, the first one included, of what can be padded.
const RANK_MAX: usize = 6;

/// For each input of a request its extents behind axis 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    inputs: Vec<Inner>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    /// Of one element.
    bytes: u64,
    extents: Vec<usize>,
}

impl Inner {
    fn elements(&self) -> u64 {
        self.extents.iter().fold(1u64, |n, extent| n.saturating_mul(*extent as u64))
    }
}

impl Row {
    /// A row of `inputs`, each of whose extents is `room(input, axis, extent)`, no less than it is; `None` where they cannot be
    /// padded: an input has no elements to pad it with, no axis or more than 6.
    pub fn of(inputs: &[Tensor], room: impl Fn(usize, usize, usize) -> usize) -> Option<Self> {
        let inner = |(input, tensor): (usize, &Tensor)| {
            let (shape, dtype) = (tensor.shape(), tensor.dtype());
            if !(1..=RANK_MAX).contains(&shape.rank()) || shape.elements() == 0 || dtype.is_compound() {
                return None;
            }
            let bytes = if dtype == DType::String { size_of::<Bytes>() } else { dtype.bytes() };
            let extents =
                shape.iter().enumerate().skip(1).map(|(axis, extent)| room(input, axis, *extent).max(*extent));
            Some(Inner { bytes: bytes as u64, extents: extents.collect() })
        };
        Some(Self { inputs: inputs.iter().enumerate().map(inner).collect::<Option<_>>()? })
    }

    /// A row of `inputs` as they are.
    pub fn exact(inputs: &[Tensor]) -> Option<Self> {
        Self::of(inputs, |_, _, extent| extent)
    }

    /// The least row that holds this one and another of as many inputs and axes.
    #[must_use]
    pub fn around(&self, other: &Row) -> Self {
        let inner = |(own, other): (&Inner, &Inner)| {
            let extents = own.extents.iter().zip(&other.extents).map(|(a, b)| *a.max(b)).collect();
            Inner { bytes: own.bytes, extents }
        };
        Self { inputs: self.inputs.iter().zip(&other.inputs).map(inner).collect() }
    }

    /// Elements of all inputs together; saturates.
    pub fn elements(&self) -> u64 {
        self.inputs.iter().fold(0, |sum: u64, input| sum.saturating_add(input.elements()))
    }

    /// Bytes of all inputs together, the contents of strings aside; saturates.
    pub fn bytes(&self) -> u64 {
        let bytes = |input: &Inner| input.elements().saturating_mul(input.bytes);
        self.inputs.iter().fold(0, |sum: u64, input| sum.saturating_add(bytes(input)))
    }

    /// The shapes of so many rows.
    pub fn shapes(&self, rows: usize) -> Vec<Shape> {
        let shape = |input: &Inner| Shape::new([&[rows], &input.extents[..]].concat());
        self.inputs.iter().map(shape).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(dims: &[usize]) -> Tensor {
        Tensor::from_vec(dims, vec![0.0f32; dims.iter().product()]).expect("as many")
    }

    #[test]
    fn what_has_nothing_to_be_padded_with_has_no_row() {
        for dims in [&[][..], &[2, 0], &[1; 7]] {
            assert_eq!(Row::exact(&[floats(&[2, 3]), floats(dims)]), None, "{dims:?}");
        }
        assert_eq!(Row::exact(&[floats(&[2, 3])]).expect("it has one").shapes(5), [Shape::new([5, 3])]);
        let roomy = Row::of(&[floats(&[2, 3]), floats(&[2, 5, 1])], |input, axis, extent| extent * (input + axis));
        assert_eq!(roomy.expect("it has one").shapes(1), [Shape::new([1, 3]), Shape::new([1, 10, 3])]);
    }

    #[test]
    fn rows_grow_around_each_other() {
        let strings = Tensor::from_strings([1], vec![Bytes::from_static(b"a")]).expect("one");
        let row = |dims: &[usize]| Row::exact(&[floats(dims), strings.clone()]).expect("it has one");
        let both = row(&[2, 3, 1]).around(&row(&[1, 2, 4]));
        assert_eq!(both, row(&[1, 3, 4]));
        assert_eq!((both.elements(), both.bytes()), (13, 48 + 32));
        let mut vast = row(&[1, 1]);
        vast.inputs[0].extents = vec![usize::MAX, 2];
        assert_eq!((vast.elements(), vast.bytes()), (u64::MAX, u64::MAX));
    }
}
