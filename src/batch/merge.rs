//! Rows of several requests put together, and answers taken apart.

use bytes::{Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// A range of rows (axis 0) of a request's tensors.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The tensors; all have the same number of rows.
    pub tensors: &'a [Tensor],
    /// The first row.
    pub start: usize,
    /// How many rows.
    pub count: usize,
}

impl<'a> Rows<'a> {
    /// All rows of `tensors`, as the first of them counts them; none if it is a scalar or there is none.
    pub fn all(tensors: &'a [Tensor]) -> Self {
        let count = tensors.first().and_then(|t| t.shape().first().copied()).unwrap_or(0);
        Self { tensors, start: 0, count }
    }
}

/// The rows of `parts`, one after the other, then copies of the last row up to `total` rows. Nothing is copied when one part
/// makes the whole.
///
/// # Errors
/// `INTERNAL` when the parts differ in number of tensors, dtype or inner shape, or have no row to copy: their key should
/// have kept them apart.
pub fn merge(parts: &[Rows<'_>], total: usize) -> Result<Vec<Tensor>> {
    let rows: usize = parts.iter().map(|p| p.count).sum();
    let (Some(first), Some(last), 1..) = (parts.first(), parts.last(), rows) else {
        return Err(Error::internal("an empty batch was formed"));
    };
    if rows > total || parts.iter().any(|p| p.tensors.len() != first.tensors.len()) {
        return Err(Error::internal(format!("{} requests of {rows} rows do not make a batch of {total}", parts.len())));
    }
    (0..first.tensors.len())
        .map(|i| {
            if parts.len() == 1 && rows == total {
                return slice(&first.tensors[i], first.start, first.count);
            }
            let mut slices = parts
                .iter()
                .map(|p| Ok((slice(&p.tensors[i], p.start, p.count)?, 1)))
                .collect::<Result<Vec<(Tensor, usize)>>>()?;
            if total > rows {
                slices.push((slice(&last.tensors[i], last.start + last.count - 1, 1)?, total - rows));
            }
            concatenate(&slices, total)
        })
        .collect()
}

/// The first rows of `outputs`, `counts[i]` for the i-th part; what follows them is padding. Nothing is copied.
///
/// # Errors
/// `FAILED_PRECONDITION` when an output does not have `total` rows.
pub fn split(outputs: &[Tensor], counts: &[usize], total: usize) -> Result<Vec<Vec<Tensor>>> {
    for output in outputs {
        match output.shape().first() {
            None => return Err(Error::failed_precondition("Batched output tensor has 0 dimensions")),
            Some(rows) if *rows != total => {
                return Err(Error::failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the \
                     input tensors",
                ));
            }
            Some(_) => {}
        }
    }
    let mut start = 0;
    counts
        .iter()
        .map(|count| {
            let part = outputs.iter().map(|t| slice(t, start, *count)).collect();
            start += count;
            part
        })
        .collect()
}

/// Rows `start..start + count` of `tensor`, sharing its memory.
fn slice(tensor: &Tensor, start: usize, count: usize) -> Result<Tensor> {
    let dims = tensor.shape().dims();
    let rows = dims.first().copied().unwrap_or(0);
    if start + count > rows {
        return Err(Error::internal(format!(
            "rows {start} to {} of a tensor of shape {}",
            start + count,
            tensor.shape()
        )));
    }
    if start == 0 && count == rows {
        return Ok(tensor.clone());
    }
    let elements: usize = dims[1..].iter().product();
    let shape = with_rows(tensor.shape(), count);
    if tensor.dtype() == DType::String {
        return Tensor::from_strings(shape, tensor.strings()[start * elements..][..count * elements].to_vec());
    }
    let row_bytes = elements * tensor.dtype().bytes();
    Tensor::from_bytes(tensor.dtype(), shape, tensor.bytes().slice(start * row_bytes..(start + count) * row_bytes))
}

/// The tensors of `slices`, each as many times as its count says, one after the other: `total` rows.
fn concatenate(slices: &[(Tensor, usize)], total: usize) -> Result<Tensor> {
    let (first, _) = &slices[0];
    if let Some((other, _)) =
        slices.iter().find(|(t, _)| t.dtype() != first.dtype() || t.shape()[1..] != first.shape()[1..])
    {
        return Err(Error::internal(format!(
            "{}{} and {}{} came into one batch",
            first.dtype(),
            first.shape(),
            other.dtype(),
            other.shape()
        )));
    }
    let shape = with_rows(first.shape(), total);
    if first.dtype() == DType::String {
        let strings: Vec<Bytes> =
            slices.iter().flat_map(|(t, times)| std::iter::repeat_n(t.strings(), *times).flatten()).cloned().collect();
        return Tensor::from_strings(shape, strings);
    }
    let mut bytes = BytesMut::with_capacity(shape.elements().saturating_mul(first.dtype().bytes()));
    for (tensor, times) in slices {
        for _ in 0..*times {
            bytes.extend_from_slice(tensor.bytes());
        }
    }
    Tensor::from_bytes(first.dtype(), shape, bytes.freeze())
}

/// `shape` with another extent on axis 0.
fn with_rows(shape: &Shape, rows: usize) -> Shape {
    let mut dims = shape.dims().to_vec();
    dims[0] = rows;
    Shape::from(dims)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two tensors of `rows` rows: numbers counted up from `from`, and the same as strings.
    fn request(from: usize, rows: usize) -> Vec<Tensor> {
        let numbers: Vec<f32> = (from..from + rows * 3).map(|v| v as f32).collect();
        let strings = (from..from + rows).map(|v| Bytes::from(v.to_string())).collect();
        vec![
            Tensor::from_vec([rows, 3], numbers).expect("three numbers a row"),
            Tensor::from_strings([rows], strings).expect("one string a row"),
        ]
    }

    proptest! {
        #[test]
        fn splitting_what_was_merged_gives_it_back(counts in prop::collection::vec(1usize..5, 1..6), padding in 0usize..4) {
            let requests: Vec<_> = counts.iter().enumerate().map(|(i, n)| request(i * 100, *n)).collect();
            let parts: Vec<_> = requests.iter().map(|r| Rows::all(r)).collect();
            let total = counts.iter().sum::<usize>() + padding;
            let merged = merge(&parts, total).expect("equal inner shapes");
            prop_assert_eq!(merged[0].shape().dims(), [total, 3]);
            prop_assert_eq!(split(&merged, &counts, total).expect("enough rows"), requests);
        }
    }

    #[test]
    fn padding_repeats_the_last_real_row() {
        let (a, b) = (request(0, 1), request(50, 2));
        let part = Rows { tensors: &b, start: 0, count: 1 };
        let merged = merge(&[Rows::all(&a), part], 4).expect("equal inner shapes");
        let numbers = merged[0].values::<f32>().expect("f32");
        assert_eq!(numbers[3..], [50.0, 51.0, 52.0, 50.0, 51.0, 52.0, 50.0, 51.0, 52.0]);
        assert_eq!(merged[1].strings()[3], "50");
    }

    #[test]
    fn one_whole_request_is_not_copied() {
        let a = request(0, 4);
        let merged = merge(&[Rows::all(&a)], 4).expect("one request");
        assert_eq!(merged[0].bytes().as_ptr(), a[0].bytes().as_ptr());
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (a, b) = (request(0, 2), vec![Tensor::scalar(1.0f32)]);
        assert!(merge(&[Rows::all(&a), Rows { tensors: &b, start: 0, count: 1 }], 3).is_err());
        assert!(merge(&[], 0).is_err());
        let error = split(&b, &[1], 1).expect_err("a scalar has no rows");
        assert_eq!(error.message(), "Batched output tensor has 0 dimensions");
        assert!(split(&a, &[1], 1).is_err());
    }
}
