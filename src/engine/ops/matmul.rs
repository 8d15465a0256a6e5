//! MatMul: numpy's matrix product.

use std::sync::Arc;

use super::arguments::made;
use super::attend_pattern;
use super::broadcast::indices;
use super::host_product::{add_product, from_wrapped_i64s, wrapped_i64s};
use super::product::{Matrices, Product, Source, Start};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Cost, Fact, Fused, Node, Op, Profile, Recorder, Rows, RowsQuery, Surroundings, WeightAxes};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor, broadcast};

/// `y = a b` over the last two axes; the others broadcast. A vector on the left is a row, on the right a column, and its
/// made-up axis is dropped from the result.
#[derive(Debug)]
pub(super) struct MatMul;

/// The operator of `spec`.
pub(super) fn matmul(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(MatMul))
}

/// A product at concrete shapes.
struct Plan {
    m: usize,
    n: usize,
    k: usize,
    /// Index of the matrix of each side, for each batch entry.
    pairs: Vec<[usize; 2]>,
}

/// Extents as matrices: (batch axes, rows, columns).
fn matrix(shape: &[usize], left: bool) -> (&[usize], usize, usize) {
    match shape {
        [batch @ .., rows, columns] => (batch, *rows, *columns),
        [only] if left => (&[], 1, *only),
        [only] => (&[], *only, 1),
        [] => (&[], 1, 1),
    }
}

/// The extents of the batch, and of the product.
fn extents(a: &[usize], b: &[usize]) -> Result<(Shape, Shape)> {
    if a.is_empty() || b.is_empty() {
        return Err(Error::invalid_argument("a matrix product takes no scalars"));
    }
    let ((a_batch, m, k), (b_batch, b_rows, n)) = (matrix(a, true), matrix(b, false));
    if k != b_rows {
        let (a, b) = (Shape::from(a), Shape::from(b));
        return Err(Error::invalid_argument(format!("{a} times {b}: {k} terms against {b_rows}")));
    }
    let batch = broadcast(a_batch, b_batch)?;
    let mut output = batch.to_vec();
    output.extend((a.len() > 1).then_some(m));
    output.extend((b.len() > 1).then_some(n));
    Ok((batch, output.into()))
}

impl Plan {
    fn new(a: &[usize], b: &[usize]) -> Result<Self> {
        let (batch, _) = extents(a, b)?;
        made(batch.iter().copied())?;
        let ((a_batch, m, k), (b_batch, _, n)) = (matrix(a, true), matrix(b, false));
        let pairs = indices(a_batch, &batch).into_iter().zip(indices(b_batch, &batch));
        Ok(Self { m, n, k, pairs: pairs.map(|(left, right)| [left, right]).collect() })
    }

    /// Whether the right side is the same for every batch entry while the left one goes through its own in order: then
    /// the batch is more rows.
    fn is_stacked(&self) -> bool {
        self.pairs.iter().enumerate().all(|(i, pair)| *pair == [i, 0])
    }
}

fn two<T: Copy>(inputs: &[Option<T>]) -> Result<[T; 2]> {
    match inputs {
        [Some(a), Some(b), ..] => Ok([*a, *b]),
        _ => Err(Error::invalid_argument("a matrix product takes two inputs")),
    }
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let [a, b] = two(inputs)?;
        if a.dtype != b.dtype {
            return Err(Error::invalid_argument(format!("{} times {} matrices", a.dtype, b.dtype)));
        }
        let (Some(x), Some(w)) = (&a.dims, &b.dims) else { return Ok(vec![Fact::of_unknown_rank(a.dtype)]) };
        if let (Some(x), Some(w)) = (a.shape(), b.shape()) {
            return Ok(vec![Fact::of_shape(a.dtype, &extents(&x, &w)?.1)]);
        }
        let batch = |dims: &[Dim]| dims[..dims.len().saturating_sub(2)].to_vec();
        let mut dims = broadcast_dims(&batch(x), &batch(w));
        dims.extend((x.len() > 1).then(|| x[x.len() - 2].clone()));
        dims.extend((w.len() > 1).then(|| w[w.len() - 1].clone()));
        Ok(vec![Fact::new(a.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let [a, b] = two(inputs)?;
        let plan = Plan::new(a.shape(), b.shape())?;
        let (_, shape) = extents(a.shape(), b.shape())?;
        let output = if a.dtype().is_float() {
            let values = multiply(&plan, &a.to_f64s()?, &b.to_f64s()?);
            Tensor::from_f64s(a.dtype(), shape, &values)?
        } else {
            let values = multiply(&plan, &wrapped_i64s(a)?, &wrapped_i64s(b)?);
            from_wrapped_i64s(a.dtype(), shape, &values)?
        };
        Ok(vec![output])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        matmul_rows(query).unwrap_or_else(|| query.default_answer())
    }

    fn weight_axes(&self, i: usize, shape: &Shape) -> Option<WeightAxes> {
        (i == 1 && shape.rank() == 2).then_some(WeightAxes { channel: 1, term: Some(0) })
    }

    fn fuse(&self, node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
        attend_pattern::recognised(node, around)
    }

    fn channel_axis(&self, output_rank: usize) -> Option<usize> {
        output_rank.checked_sub(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<String> {
        let dtype = inputs.first()?.as_ref()?.dtype;
        let runs = matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::U32)
            || profile.storage(dtype).is_some_and(|s| s.class().is_wide());
        (!runs).then(|| format!("products of {dtype} have no kernel"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (a, b) = (recorder.input(0)?, recorder.input(1)?);
        let plan = Plan::new(&a.shape, &b.shape)?;
        let Plan { m, n, k, .. } = plan;
        // Behind a vector the last axis of the result is the rows, and epilogues need their coordinate within a matrix.
        let ends_in_rows = b.shape.rank() == 1;
        let stacked = plan.is_stacked() && !ends_in_rows;
        let (rows, entries) =
            if stacked { (m * plan.pairs.len(), plan.pairs.len().min(1)) } else { (m, plan.pairs.len()) };
        let pairs = &plan.pairs[..entries];
        let matrices = Matrices { extents: [rows, n, k], a_strides: [k, 1], b_strides: [n, 1] };
        let transposed = matrices.is_narrow() && !Source::from(b).is_blocked();
        let starts = pairs.iter().enumerate().map(|(i, [left, right])| {
            let (left, right) = (word(left * m * k)?, word(right * k * n)?);
            let (first, second) = if transposed { (right, left) } else { (left, right) };
            Ok([first, second, word(i * m * n)?, 0])
        });
        let starts = starts.collect::<Result<Vec<Start>>>()?;
        let (a, b) = (Source::from(a), Source::from(b));
        let (a, b) = if transposed { (b, a) } else { (a, b) };
        let mut params = matrices.params(transposed)?;
        if ends_in_rows {
            (params.channel_row, params.channel_column) = (params.channel_column, params.channel_row);
        }
        Product { a, b, bias: None, params, starts, padded: false }.record(recorder)
    }

    fn cost(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Cost {
        let depth = inputs.first().and_then(|a| a.as_ref()?.shape()?.last().copied()).unwrap_or(0);
        let elements = outputs.first().and_then(Fact::shape).map_or(0, |s| s.elements());
        Cost { flops: 2.0 * elements as f64 * depth as f64 }
    }
}

fn multiply<T: super::host_product::Sum>(plan: &Plan, a: &[T], b: &[T]) -> Vec<T> {
    let Plan { m, n, k, .. } = *plan;
    let mut y = vec![T::default(); plan.pairs.len() * m * n];
    if m * n > 0 {
        for ([left, right], y) in plan.pairs.iter().zip(y.chunks_exact_mut(m * n)) {
            add_product(&a[left * m * k..][..m * k], &b[right * k * n..][..k * n], y, n, k);
        }
    }
    y
}

/// Broadcast extents where some are not known: a fixed extent above 1 decides, equal symbols stay.
fn broadcast_dims(a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let rank = a.len().max(b.len());
    let one = Dim::Fixed(1);
    let at = |dims: &[Dim], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(one.clone(), |i| dims[i].clone());
    let dims = (0..rank).map(|axis| match (at(a, axis), at(b, axis)) {
        (x, y) if x == y => x,
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => other,
        (fixed @ Dim::Fixed(_), _) | (_, fixed @ Dim::Fixed(_)) => fixed,
        _ => Dim::Unknown,
    });
    dims.collect()
}

/// Rows lie along a batch axis of one or both sides, along the rows of a, or along the columns of b; never along the axis
/// that is summed over.
fn matmul_rows(query: &RowsQuery<'_>) -> Option<Vec<Rows>> {
    let [a, b] = two(query.inputs).ok()?;
    let ranks = [a.rank()?, b.rank()?];
    // Axes are counted in the full product, before the made-up axes of vectors are dropped.
    let full = ranks[0].max(ranks[1]).max(2);
    let place = |side: usize, axis: usize| match (ranks[side], side) {
        (1, _) => None,
        (rank, 0) if axis + 1 == rank => None,
        (rank, 1) if axis + 2 == rank => None,
        (rank, _) => Some(axis + full - rank),
    };
    let reaches = |side: usize, fact: &Fact, axis: usize| {
        let index = (axis + ranks[side]).checked_sub(full);
        axis + 2 < full && index.and_then(|i| fact.dims.as_ref()?[i].fixed()).is_some_and(|extent| extent != 1)
    };
    let (axis, rows) = match (query.rows[0], query.rows[1]) {
        (rows @ Rows::Along { axis, .. }, Rows::Constant) => {
            let axis = place(0, axis)?;
            if reaches(1, b, axis) {
                return Some(query.all(Rows::Mixed));
            }
            (axis, rows)
        }
        (Rows::Constant, rows @ Rows::Along { axis, .. }) => {
            let axis = place(1, axis)?;
            if reaches(0, a, axis) {
                return Some(query.all(Rows::Mixed));
            }
            (axis, rows)
        }
        (rows @ Rows::Along { axis, .. }, others @ Rows::Along { axis: other, .. }) => {
            let axis = place(0, axis)?;
            if axis + 2 >= full || others.moved_to(place(1, other)?) != rows.moved_to(axis) {
                return Some(query.all(Rows::Mixed));
            }
            (axis, rows)
        }
        _ => return None,
    };
    // A vector on the left has no row axis in the result, so what stands behind it moves up.
    let axis = if ranks[0] == 1 && axis + 1 == full { axis - 1 } else { axis };
    Some(query.all(rows.moved_to(axis)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn product(a: &Tensor, b: &Tensor) -> Tensor {
        MatMul.evaluate(&[Some(a), Some(b)]).expect("shapes fit").remove(0)
    }

    #[test]
    fn vectors_are_rows_and_columns() {
        let m = Tensor::from_vec([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four");
        let v = Tensor::from_vec([2], vec![1i64, 10]).expect("two");
        let w = Tensor::from_vec([2], vec![1.0f32, 10.0]).expect("two");
        assert_eq!(product(&m, &w), Tensor::from_vec([2], vec![21.0f32, 43.0]).expect("two"));
        assert_eq!(product(&w, &m), Tensor::from_vec([2], vec![31.0f32, 42.0]).expect("two"));
        assert_eq!(product(&v, &v), Tensor::from_vec(Shape::scalar(), vec![101i64]).expect("one"));
    }

    #[test]
    fn integers_wrap() {
        let a = Tensor::from_vec([1, 2], vec![200u8, 100]).expect("two");
        let b = Tensor::from_vec([2, 1], vec![2u8, 1]).expect("two");
        assert_eq!(product(&a, &b), Tensor::from_vec([1, 1], vec![244u8]).expect("one"));
    }

    #[test]
    fn rows_pass_beside_constant_matrices_only() {
        let (x, w) = (Fact::of_shape(DType::F32, &[97, 8]), Fact::of_shape(DType::F32, &[8, 4]));
        let ask = |rows: [Rows; 2], inputs: [&Fact; 2]| {
            let outputs = MatMul.infer(&inputs.map(Some)).expect("shapes fit");
            let inputs = inputs.map(Some);
            MatMul.rows(&RowsQuery { rows: &rows, inputs: &inputs, outputs: &outputs, batch: 97 })[0]
        };
        assert_eq!(ask([Rows::LEADING, Rows::Constant], [&x, &w]), Rows::LEADING);
        let square = Fact::of_shape(DType::F32, &[97, 97]);
        assert_eq!(ask([Rows::Constant, Rows::LEADING], [&square, &square]), Rows::Mixed);
        let stack = Fact::of_shape(DType::F32, &[97, 5, 5]);
        assert_eq!(ask([Rows::LEADING, Rows::LEADING], [&stack, &stack]), Rows::LEADING);
        assert_eq!(ask([Rows::LEADING, Rows::LEADING], [&square, &square]), Rows::Mixed);
    }

    proptest! {
        #[test]
        fn batches_broadcast(m in 1usize..6, n in 1usize..6, k in 0usize..6, batch in 1usize..4, stretched in any::<bool>()) {
            let left = if stretched { 1 } else { batch };
            let a: Vec<f64> = (0..2 * left * m * k).map(|i| (i % 13) as f64 - 6.0).collect();
            let b: Vec<f64> = (0..batch * k * n).map(|i| (i % 7) as f64 - 3.0).collect();
            let y = product(
                &Tensor::from_vec([2, left, m, k], a.clone()).expect("as many"),
                &Tensor::from_vec([batch, k, n], b.clone()).expect("as many"),
            );
            prop_assert_eq!(y.shape().dims(), [2, batch, m, n]);
            let values = y.to_f64s().expect("real");
            for (i, value) in values.iter().enumerate() {
                let (column, row, entry, outer) = (i % n, i / n % m, i / (n * m) % batch, i / (n * m * batch));
                let side = outer * left + if stretched { 0 } else { entry };
                let sum: f64 = (0..k).map(|t| a[(side * m + row) * k + t] * b[(entry * k + t) * n + column]).sum();
                prop_assert_eq!(*value, sum);
            }
        }
    }
}
