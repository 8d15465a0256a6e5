//! Rows of different extents put together: each request's tensors are padded with their own first elements.

use std::ops::Range;

use super::merge::{Rows, merge};
use super::row::Row;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// As [`merge`], for requests whose extents behind axis 0 are at most those of `row`: what is missing at the end of an axis is
/// filled with the first element of the request's tensor.
///
/// # Errors
/// `INTERNAL` when the parts differ in number of tensors, dtype or rank, do not fit into `row`, or have no row to copy.
pub fn merge_padded(parts: &[Rows<'_>], row: &Row, total: usize) -> Result<Vec<Tensor>> {
    let shapes = row.shapes(total);
    let rows: usize = parts.iter().map(|part| part.count).sum();
    if rows == 0 || rows > total || parts.iter().any(|part| !fits(part, &shapes)) {
        return Err(Error::internal(format!("{} requests of {rows} rows do not make a batch of {total}", parts.len())));
    }
    let is_exact = |part: &Rows<'_>| part.tensors.iter().zip(&shapes).all(|(t, shape)| t.shape()[1..] == shape[1..]);
    if parts.iter().all(is_exact) {
        return merge(parts, total);
    }
    shapes.iter().enumerate().map(|(i, shape)| one_input(parts, i, shape, total - rows)).collect()
}

/// Whether the part has an input for each shape, with rows to copy, and none is larger than it.
fn fits(part: &Rows<'_>, shapes: &[Shape]) -> bool {
    let inside = |(tensor, shape): (&Tensor, &Shape)| {
        let own = tensor.shape();
        let rows = own.first().is_some_and(|rows| part.start + part.count <= *rows);
        rows && own.rank() == shape.rank()
            && own.elements() > 0
            && own[1..].iter().zip(&shape[1..]).all(|(a, b)| a <= b)
    };
    part.count > 0 && part.tensors.len() == shapes.len() && part.tensors.iter().zip(shapes).all(inside)
}

/// Input `i` of all parts, and its last row `more` times again.
fn one_input(parts: &[Rows<'_>], i: usize, shape: &Shape, more: usize) -> Result<Tensor> {
    let dtype = parts[0].tensors[i].dtype();
    if let Some(part) = parts.iter().find(|part| part.tensors[i].dtype() != dtype) {
        let other = part.tensors[i].dtype();
        return Err(Error::internal(format!("{dtype} and {other} came into one batch")));
    }
    if dtype == DType::String {
        return Tensor::from_strings(shape.clone(), laid(parts, i, (shape, 1), more, Tensor::strings));
    }
    let bytes = laid(parts, i, (shape, dtype.bytes()), more, |tensor| tensor.bytes());
    Tensor::from_bytes(dtype, shape.clone(), bytes)
}

/// The data of input `i` of all parts in what makes a tensor of `shape`, each of whose elements is so many of `own`'s, and the last
/// row `more` times again.
fn laid<T: Clone>(
    parts: &[Rows<'_>],
    i: usize,
    (shape, width): (&Shape, usize),
    more: usize,
    own: impl Fn(&Tensor) -> &[T],
) -> Vec<T> {
    let mut all = Vec::with_capacity(shape.elements().saturating_mul(width));
    for part in parts {
        let own = own(&part.tensors[i]);
        each_run(part, i, shape, &mut |run| match run {
            Run::Copy(range) => all.extend_from_slice(&own[range.start * width..range.end * width]),
            Run::Fill(count) => repeat(&mut all, &own[..width], count),
        });
    }
    let row = all[all.len() - shape[1..].iter().product::<usize>() * width..].to_vec();
    repeat(&mut all, &row, more);
    all
}

/// Adds `piece` so many times, more and more at a time.
fn repeat<T: Clone>(all: &mut Vec<T>, piece: &[T], times: usize) {
    let (start, end) = (all.len(), all.len() + piece.len() * times);
    if start < end {
        all.extend_from_slice(piece);
    }
    while all.len() < end {
        let more = (all.len() - start).min(end - all.len());
        all.extend_from_within(start..start + more);
    }
}

/// Elements that lie next to each other in what is made.
enum Run {
    /// These of the request's.
    Copy(Range<usize>),
    /// So many times its first.
    Fill(usize),
}

/// What the rows of a part's input `i` become when they are padded to the extents of `shape`, in order.
fn each_run(part: &Rows<'_>, i: usize, shape: &Shape, emit: &mut impl FnMut(Run)) {
    let from = &part.tensors[i].shape()[1..];
    let row: usize = from.iter().product();
    (part.start..part.start + part.count).for_each(|at| runs(from, &shape[1..], at * row, emit));
}

/// The same for what begins at element `first` and has the extents `from`, which become those of `to`.
fn runs(from: &[usize], to: &[usize], first: usize, emit: &mut impl FnMut(Run)) {
    let elements: usize = from.iter().product();
    let ([extent, from_inner @ ..], [target, to_inner @ ..]) = (from, to) else {
        return emit(Run::Copy(first..first + 1));
    };
    if from == to {
        return emit(Run::Copy(first..first + elements));
    }
    if from_inner == to_inner {
        emit(Run::Copy(first..first + elements));
    } else {
        (0..*extent).for_each(|at| runs(from_inner, to_inner, first + at * (elements / extent), emit));
    }
    emit(Run::Fill((target - extent) * to_inner.iter().product::<usize>()));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::merge::split;

    /// Elements of a type at the places of `runs`, looked up one by one.
    fn slowly(tensor: &Tensor, at: &[usize]) -> f64 {
        let dims = tensor.shape().dims();
        let inside = at.iter().zip(dims).all(|(at, extent)| at < extent);
        let place =
            if inside { at.iter().zip(tensor.shape().strides()).map(|(at, stride)| at * stride).sum() } else { 0 };
        tensor.to_f64s().expect("numbers")[place]
    }

    fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
        dims.iter().fold(vec![Vec::new()], |all, extent| {
            all.iter().flat_map(|head| (0..*extent).map(move |at| [&head[..], &[at]].concat())).collect()
        })
    }

    proptest! {
        /// Whatever the shapes: each request's numbers are where they were, its first number stands everywhere else.
        #[test]
        fn every_element_is_found_again(
            dims in prop::collection::vec((1usize..4, prop::collection::vec(1usize..5, 3)), 1..5),
            rank in 0usize..4,
            more in 0usize..3,
        ) {
            let requests: Vec<_> = dims.iter().enumerate().map(|(i, (rows, inner))| {
                let dims = [&[*rows], &inner[..rank]].concat();
                let count: usize = dims.iter().product();
                vec![Tensor::from_vec(dims, (0..count).map(|v| (i * 1000 + v + 1) as i64).collect()).expect("as many")]
            }).collect();
            let row = requests.iter().filter_map(|r| Row::exact(r)).reduce(|a, b| a.around(&b)).expect("one at least");
            let parts: Vec<_> = requests.iter().map(|r| Rows::all(r)).collect();
            let total = parts.iter().map(|p| p.count).sum::<usize>() + more;
            let merged = merge_padded(&parts, &row, total).expect("they fit");
            prop_assert_eq!(merged[0].shape(), &row.shapes(total)[0]);
            let counts: Vec<_> = parts.iter().map(|p| p.count).collect();
            for (request, found) in requests.iter().zip(split(&merged, &counts, total).expect("enough rows")) {
                for at in indices(found[0].shape()) {
                    prop_assert_eq!(slowly(&found[0], &at), slowly(&request[0], &at), "at {:?}", at);
                }
            }
            let last = Rows { tensors: &merged, start: total - more - 1, count: 1 };
            for at in total - more..total {
                let copy = Rows { tensors: &merged, start: at, count: 1 };
                prop_assert_eq!(merge(&[copy], 1).expect("a row"), merge(&[last], 1).expect("a row"));
            }
        }
    }

    fn words(words: &[&'static str]) -> Tensor {
        Tensor::from_strings([1, words.len()], words.iter().map(|w| Bytes::from_static(w.as_bytes())).collect())
            .expect("as many")
    }

    #[test]
    fn every_type_is_padded_with_its_first_element() {
        let halves =
            |v: &[f32]| Tensor::from_vec([1, v.len()], v.iter().map(|v| f16::from_f32(*v)).collect()).expect("as many");
        let bools = |v: &[u8]| Tensor::from_bools([1, v.len()], v.to_vec()).expect("as many");
        let (a, b) = (
            vec![halves(&[0.5]), bools(&[1]), words(&["x"])],
            vec![halves(&[1.0, 2.0, 3.0]), bools(&[0, 1]), words(&["p", "q"])],
        );
        let row = Row::exact(&a).expect("a row").around(&Row::exact(&b).expect("a row"));
        let merged = merge_padded(&[Rows::all(&a), Rows::all(&b)], &row, 3).expect("they fit");
        assert_eq!(merged[0].to_f64s().expect("numbers"), [0.5, 0.5, 0.5, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
        assert_eq!(merged[1].to_i64s().expect("bools"), [1, 1, 0, 1, 0, 1]);
        assert_eq!(merged[2].strings(), ["x", "x", "p", "q", "p", "q"]);
    }

    #[test]
    fn what_is_equal_is_not_copied_and_what_does_not_fit_is_refused() {
        let a = vec![words(&["x", "y"])];
        let row = Row::exact(&a).expect("a row");
        let merged = merge_padded(&[Rows::all(&a)], &row, 1).expect("one request");
        assert_eq!(merged[0].strings().as_ptr(), a[0].strings().as_ptr());
        let wide = vec![words(&["x", "y", "z"])];
        assert!(merge_padded(&[Rows::all(&wide)], &row, 1).is_err(), "it is wider than the row");
        let numbers = vec![Tensor::from_vec([1, 1], vec![1i64]).expect("one")];
        assert!(merge_padded(&[Rows::all(&a), Rows::all(&numbers)], &row, 2).is_err(), "they are of two types");
        assert!(merge_padded(&[], &row, 1).is_err() && merge_padded(&[Rows::all(&a), Rows::all(&a)], &row, 1).is_err());
    }
}
