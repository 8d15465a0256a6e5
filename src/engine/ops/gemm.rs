//! Gemm: `alpha × a b + beta × c` of matrices, either side transposed.

use std::sync::Arc;

use super::host_product::{Sum, add_product, from_wrapped_i64s, wrapped_i64s};
use super::product::{Matrices, Params, Product, Source};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::Source as Input;
use crate::engine::ir::{Affine, Cost, Fact, Op, Operand, Profile, Recorder, Replacement, Rows, RowsQuery, WeightAxes};
use crate::engine::kernels::BiasAccess;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

#[derive(Clone, Debug)]
struct Gemm {
    alpha: f32,
    beta: f32,
    transpose_a: bool,
    transpose_b: bool,
}

/// The operator of `spec`.
pub(super) fn gemm(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    if spec.opset < 7 {
        return Err(Error::unimplemented("Gemm before opset 7 is not supported"));
    }
    let attributes = spec.attributes;
    Ok(Arc::new(Gemm {
        alpha: attributes.float_or("alpha", 1.0)?,
        beta: attributes.float_or("beta", 1.0)?,
        transpose_a: attributes.flag_or("transA", false)?,
        transpose_b: attributes.flag_or("transB", false)?,
    }))
}

/// Elements of a matrix between rows and between columns, as the product sees it.
fn strides(columns_in_memory: usize, transpose: bool) -> [usize; 2] {
    if transpose { [1, columns_in_memory] } else { [columns_in_memory, 1] }
}

/// Elements of `c` between rows and between columns of the product it broadcasts to.
fn broadcast_strides(c: &[usize], m: usize, n: usize) -> Result<[usize; 2]> {
    let (rows, columns) = match c {
        [] => (1, 1),
        [columns] => (1, *columns),
        [rows, columns] => (*rows, *columns),
        _ => (0, 0),
    };
    if (rows != 1 && rows != m) || (columns != 1 && columns != n) {
        let c = Shape::from(c);
        return Err(Error::invalid_argument(format!("{c} does not broadcast to a product of [{m},{n}]")));
    }
    Ok([if rows == 1 { 0 } else { columns }, usize::from(columns != 1)])
}

fn two<T: Copy>(inputs: &[Option<T>]) -> Result<[T; 2]> {
    match inputs {
        [Some(a), Some(b), ..] => Ok([*a, *b]),
        _ => Err(Error::invalid_argument("Gemm takes two matrices")),
    }
}

fn third<T: Copy>(inputs: &[Option<T>]) -> Option<T> {
    inputs.get(2).copied().flatten()
}

impl Gemm {
    /// Rows, columns and terms.
    fn extents(&self, a: &[usize], b: &[usize]) -> Result<[usize; 3]> {
        let ([a0, a1], [b0, b1]) = (a, b) else {
            let (a, b) = (Shape::from(a), Shape::from(b));
            return Err(Error::invalid_argument(format!("Gemm takes matrices, got {a} and {b}")));
        };
        let (m, k) = if self.transpose_a { (*a1, *a0) } else { (*a0, *a1) };
        let (terms, n) = if self.transpose_b { (*b1, *b0) } else { (*b0, *b1) };
        if k != terms {
            return Err(Error::invalid_argument(format!("Gemm sums {k} terms against {terms}")));
        }
        Ok([m, n, k])
    }

    /// `a b` on the host.
    fn multiply<T: Sum>(&self, a: &[T], b: &[T], [m, n, k]: [usize; 3]) -> Vec<T> {
        let mut y = vec![T::default(); m * n];
        let a = if self.transpose_a { transposed(a, k, m) } else { a.to_vec() };
        let b = if self.transpose_b { transposed(b, n, k) } else { b.to_vec() };
        add_product(&a, &b, &mut y, n, k);
        y
    }

    fn bias(&self, c: &Operand, m: usize, n: usize, swapped: bool, params: &mut Params) -> Result<BiasAccess> {
        let [row, column] = broadcast_strides(&c.shape, m, n)?;
        let (row, column) = if swapped { (column, row) } else { (row, column) };
        (params.bias_row, params.bias_column) = (word(row)?, word(column)?);
        Ok(match (row, column) {
            (0, _) => BiasAccess::Column,
            (1, 0) => BiasAccess::Channel,
            _ => BiasAccess::Element,
        })
    }
}

/// The transpose of a matrix of `rows` × `columns`.
fn transposed<T: Copy>(matrix: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

impl Op for Gemm {
    fn name(&self) -> &'static str {
        "Gemm"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let [a, b] = two(inputs)?;
        if let (Some(x), Some(w)) = (a.shape(), b.shape()) {
            let [m, n, _] = self.extents(&x, &w)?;
            if let Some(c) = third(inputs).and_then(Fact::shape) {
                broadcast_strides(&c, m, n)?;
            }
            return Ok(vec![Fact::of_shape(a.dtype, &[m, n])]);
        }
        let dim = |fact: &Fact, axis: bool| {
            fact.dims.as_ref().and_then(|d| d.get(usize::from(axis)).cloned()).unwrap_or(Dim::Unknown)
        };
        Ok(vec![Fact::new(a.dtype, [dim(a, self.transpose_a), dim(b, !self.transpose_b)])])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let [a, b] = two(inputs)?;
        let extents @ [m, n, _] = self.extents(a.shape(), b.shape())?;
        let c = third(inputs);
        let [row, column] = c.map_or(Ok([0, 0]), |c| broadcast_strides(c.shape(), m, n))?;
        let place = |i: usize| i / n * row + i % n * column;
        let plain = self.alpha == 1.0 && (c.is_none() || self.beta == 1.0);
        if a.dtype().is_integer() && plain {
            let mut y = self.multiply(&wrapped_i64s(a)?, &wrapped_i64s(b)?, extents);
            if let Some(c) = c.map(wrapped_i64s).transpose()? {
                y.iter_mut().enumerate().for_each(|(i, y)| *y = y.wrapping_add(c[place(i)]));
            }
            return Ok(vec![from_wrapped_i64s(a.dtype(), [m, n].into(), &y)?]);
        }
        let mut y = self.multiply(&a.to_f64s()?, &b.to_f64s()?, extents);
        y.iter_mut().for_each(|y| *y *= f64::from(self.alpha));
        if let Some(c) = c.map(Tensor::to_f64s).transpose()? {
            y.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(self.beta) * c[place(i)]);
        }
        Ok(vec![Tensor::from_f64s(a.dtype(), [m, n], &y)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let row_axis = usize::from(self.transpose_a);
        let c_reaches = third(query.inputs).is_some_and(|c| match c.dims.as_deref() {
            Some([rows, _]) => rows.fixed() != Some(1),
            dims => dims.is_none(),
        });
        let others_constant = query.rows.iter().skip(1).all(|r| *r == Rows::Constant);
        match query.rows.first() {
            Some(rows @ Rows::Along { axis, .. }) if *axis == row_axis && others_constant && !c_reaches => {
                query.all(rows.moved_to(0))
            }
            _ => query.default_answer(),
        }
    }

    fn simplify(&self, constants: &[Option<&Tensor>], _profile: &Profile) -> Result<Option<Replacement>> {
        // Columns side by side are read four at a time.
        let Some(b) = constants.get(1).copied().flatten().filter(|_| self.transpose_b) else { return Ok(None) };
        let [rows, columns] = b.shape()[..] else { return Ok(None) };
        let turned = match b.dtype() {
            DType::F32 => Tensor::from_vec([columns, rows], transposed(&b.values::<f32>()?, rows, columns))?,
            DType::F16 => Tensor::from_vec([columns, rows], transposed(&b.values::<half::f16>()?, rows, columns))?,
            _ => return Ok(None),
        };
        let op = Arc::new(Self { transpose_b: false, ..self.clone() });
        let c = (constants.len() > 2).then_some(Input::Input(2));
        Ok(Some(Replacement { op, inputs: vec![Some(Input::Input(0)), Some(Input::Constant(turned)), c] }))
    }

    fn absorb(&self, constants: &[Option<&Tensor>], affine: &Affine) -> Option<Replacement> {
        let (b, n) = (constants.get(1).copied().flatten()?, affine.scale.len());
        let [b0, b1] = b.shape()[..] else { return None };
        // Axis 1 of the result, as scales are counted, is the columns of b.
        let (columns, period) = if self.transpose_b { (b0, b1) } else { (b1, 1) };
        if columns != n || n == 0 {
            return None;
        }
        let scaled: Vec<f64> =
            b.to_f64s().ok()?.iter().enumerate().map(|(i, v)| v * affine.scale[i / period % n]).collect();
        let old = match constants.get(2).copied() {
            None => vec![0.0],
            Some(c) => c?.to_f64s().ok()?,
        };
        let shape: Shape = constants.get(2).copied().flatten().map_or(Shape::scalar(), |c| c.shape().clone());
        let shape = match shape.dims() {
            [rows, columns] if *columns == n => Shape::from([*rows, n]),
            [] | [1] | [1, 1] => Shape::from([n]),
            [columns] if *columns == n => Shape::from([n]),
            _ => return None,
        };
        let summand = |i: usize| {
            let c = old[if old.len() == 1 { 0 } else { i }] * f64::from(self.beta);
            c * affine.scale[i % n] + affine.shift[i % n]
        };
        let new: Vec<f64> = (0..shape.elements()).map(summand).collect();
        let b = Tensor::from_f64s(b.dtype(), b.shape().clone(), &scaled).ok()?;
        let c = Tensor::from_f64s(b.dtype(), shape, &new).ok()?;
        let inputs = vec![Some(Input::Input(0)), Some(Input::Constant(b)), Some(Input::Constant(c))];
        Some(Replacement { op: Arc::new(Self { beta: 1.0, ..self.clone() }), inputs })
    }

    fn weight_axes(&self, i: usize, _shape: &Shape) -> Option<WeightAxes> {
        let (channel, term) = if self.transpose_b { (0, 1) } else { (1, 0) };
        (i == 1).then_some(WeightAxes { channel, term: Some(term) })
    }

    fn reading_transposed(&self, i: usize) -> Option<Arc<dyn Op>> {
        // Columns side by side are read several at a time.
        (i == 1 && self.transpose_b).then(|| Arc::new(Self { transpose_b: false, ..self.clone() }) as Arc<dyn Op>)
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let dtype = inputs.first()?.as_ref()?.dtype;
        (!matches!(dtype, DType::F32 | DType::F16)).then(|| format!("products of {dtype} have no kernel"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (a, b) = (recorder.input(0)?, recorder.input(1)?);
        let extents @ [m, n, _] = self.extents(&a.shape, &b.shape)?;
        let a_strides = strides(a.shape[1], self.transpose_a);
        let b_strides = strides(b.shape[1], self.transpose_b);
        let matrices = Matrices { extents, a_strides, b_strides };
        let swapped = matrices.is_narrow() && !Source::from(b).is_blocked();
        let mut params = Params { alpha: self.alpha, beta: self.beta, ..matrices.params(swapped)? };
        let bias = match recorder.optional_input(2) {
            Some(c) => Some((Source::from(c), self.bias(c, m, n, swapped, &mut params)?)),
            None => None,
        };
        let (a, b) = (Source::from(a), Source::from(b));
        let (a, b) = if swapped { (b, a) } else { (a, b) };
        Product { a, b, bias, params, starts: vec![[0; 4]], padded: false }.record(recorder)
    }

    fn cost(&self, inputs: &[Option<&Fact>], _outputs: &[Fact]) -> Cost {
        let shapes = two(inputs).ok().and_then(|[a, b]| Some((a.shape()?, b.shape()?)));
        let extents = shapes.and_then(|(a, b)| self.extents(&a, &b).ok());
        Cost { flops: extents.map_or(0.0, |[m, n, k]| 2.0 * m as f64 * n as f64 * k as f64) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op(transpose_a: bool, transpose_b: bool) -> Gemm {
        Gemm { alpha: 2.0, beta: -1.0, transpose_a, transpose_b }
    }

    fn counted(shape: &[usize]) -> Tensor {
        let values = (0..shape.iter().product::<usize>()).map(|i| (i * 7 % 11) as f32 - 5.0);
        Tensor::from_vec(shape, values.collect()).expect("as many")
    }

    fn constant(source: &Option<Input>) -> &Tensor {
        match source {
            Some(Input::Constant(tensor)) => tensor,
            other => panic!("{other:?} is not a constant"),
        }
    }

    #[test]
    fn scales_and_adds() {
        let a = Tensor::from_vec([1, 2], vec![1.0f32, 2.0]).expect("two");
        let b = Tensor::from_vec([1, 2], vec![3.0f32, 4.0]).expect("two");
        let c = Tensor::scalar(5.0f32);
        let y = op(false, true).evaluate(&[Some(&a), Some(&b), Some(&c)]).expect("fits");
        assert_eq!(y[0], Tensor::from_vec([1, 1], vec![17.0f32]).expect("one"));
    }

    #[test]
    fn rows_need_constant_weights() {
        let facts = [[97, 4], [4, 3], [97, 3]].map(|s| Fact::of_shape(DType::F32, &s));
        let outputs = [facts[2].clone()];
        let ask = |rows: &[Rows], inputs: &[Option<&Fact>]| {
            op(false, false).rows(&RowsQuery { rows, inputs, outputs: &outputs, batch: 97 })[0]
        };
        let inputs: Vec<_> = facts.iter().map(Some).collect();
        assert_eq!(ask(&[Rows::LEADING, Rows::Constant], &inputs[..2]), Rows::LEADING);
        assert_eq!(ask(&[Rows::LEADING, Rows::LEADING], &inputs[..2]), Rows::Mixed);
        assert_eq!(ask(&[Rows::LEADING, Rows::Constant, Rows::Constant], &inputs), Rows::Mixed);
    }

    #[test]
    fn a_following_affine_map_is_absorbed() {
        let (a, b, c) = (counted(&[3, 4]), counted(&[2, 4]), counted(&[3, 2]));
        let affine = Affine { scale: vec![2.0, -1.0], shift: vec![0.5, 1.0] };
        let gemm = op(false, true);
        let new = gemm.absorb(&[None, Some(&b), Some(&c)], &affine).expect("constants");
        let before = gemm.evaluate(&[Some(&a), Some(&b), Some(&c)]).expect("fits")[0].to_f64s().expect("real");
        let wanted: Vec<f64> =
            before.iter().enumerate().map(|(i, v)| v * affine.scale[i % 2] + affine.shift[i % 2]).collect();
        let after = new.op.evaluate(&[Some(&a), Some(constant(&new.inputs[1])), Some(constant(&new.inputs[2]))]);
        assert_eq!(after.expect("fits")[0].to_f64s().expect("real"), wanted);
    }

    proptest! {
        #[test]
        fn transposes_agree_with_the_definition(
            m in 1usize..6, n in 1usize..6, k in 1usize..6, ta in any::<bool>(), tb in any::<bool>(), c_rows in any::<bool>(),
        ) {
            let a = counted(&if ta { [k, m] } else { [m, k] });
            let b = counted(&if tb { [n, k] } else { [k, n] });
            let c = counted(&[if c_rows { m } else { 1 }, n]);
            let y = op(ta, tb).evaluate(&[Some(&a), Some(&b), Some(&c)]).expect("fits").remove(0).to_f64s().expect("real");
            let [av, bv, cv] = [&a, &b, &c].map(|t| t.to_f64s().expect("real"));
            for (i, value) in y.into_iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let sum: f64 = (0..k)
                    .map(|t| av[if ta { t * m + row } else { row * k + t }] * bv[if tb { column * k + t } else { t * n + column }])
                    .sum();
                prop_assert_eq!(value, 2.0 * sum - cv[if c_rows { i } else { column }]);
            }
        }
    }
}
