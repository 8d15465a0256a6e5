//! Operators that give shapes and constants.

use std::sync::Arc;

use super::arguments::{known_ints, required, unknown};
use super::broadcast::{Numbers, wrapped};
use super::registry::OpSpec;
use crate::engine::ir::{Attribute, Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

pub(super) fn shape(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(ShapeOf { start: spec.attributes.int_or("start", 0)?, end: spec.attributes.int("end")? }))
}

/// The extents of some axes.
#[derive(Debug)]
struct ShapeOf {
    start: i64,
    end: Option<i64>,
}

impl ShapeOf {
    fn range(&self, rank: usize) -> std::ops::Range<usize> {
        let counted = |a: i64| (if a < 0 { a + rank as i64 } else { a }).clamp(0, rank as i64) as usize;
        let (start, end) = (counted(self.start), self.end.map_or(rank, counted));
        start..end.max(start)
    }
}

impl Op for ShapeOf {
    fn name(&self) -> &'static str {
        "Shape"
    }

    fn reads_values(&self) -> bool {
        false
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let Some(dims) = &required(inputs, 0)?.dims else { return Ok(vec![Fact::new(DType::I64, unknown(1))]) };
        let dims = &dims[self.range(dims.len())];
        match dims.iter().map(Dim::fixed).collect::<Option<Vec<_>>>() {
            Some(extents) => {
                let extents: Vec<i64> = extents.into_iter().map(|d| d as i64).collect();
                Ok(vec![Fact::constant(Tensor::from_vec([extents.len()], extents)?)])
            }
            None => Ok(vec![Fact::of_shape(DType::I64, &[dims.len()])]),
        }
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let dims = required(inputs, 0)?.shape();
        let extents: Vec<i64> = dims[self.range(dims.rank())].iter().map(|d| *d as i64).collect();
        Ok(vec![Tensor::from_vec([extents.len()], extents)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.all(if query.rows == [Rows::Constant] { Rows::Constant } else { Rows::Counted })
    }
}

pub(super) fn size(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Size))
}

/// The number of elements.
#[derive(Debug)]
struct Size;

impl Op for Size {
    fn name(&self) -> &'static str {
        "Size"
    }

    fn reads_values(&self) -> bool {
        false
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![match required(inputs, 0)?.shape() {
            Some(shape) => Fact::constant(Tensor::scalar(shape.elements() as i64)),
            None => Fact::of_shape(DType::I64, &[]),
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        Ok(vec![Tensor::scalar(required(inputs, 0)?.shape().elements() as i64)])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.all(if query.rows == [Rows::Constant] { Rows::Constant } else { Rows::Counted })
    }
}

pub(super) fn constant(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let mut values = spec.attributes.iter().filter(|(name, _)| name.starts_with("value"));
    let (_, attribute) = values.next().ok_or_else(|| Error::invalid_argument("Constant without a value"))?;
    Ok(Arc::new(Constant(match attribute {
        Attribute::Tensor(tensor) => tensor.clone(),
        Attribute::Int(v) => Tensor::scalar(*v),
        Attribute::Float(v) => Tensor::scalar(*v),
        Attribute::Ints(v) => Tensor::from_vec([v.len()], v.clone())?,
        Attribute::Floats(v) => Tensor::from_vec([v.len()], v.clone())?,
        Attribute::String(v) => Tensor::from_strings(Shape::scalar(), vec![v.clone().into()])?,
        Attribute::Strings(v) => Tensor::from_strings([v.len()], v.iter().map(|s| s.clone().into()).collect())?,
        Attribute::DType(_) | Attribute::Graph(_) => {
            return Err(Error::invalid_argument("neither a type nor a graph is a Constant"));
        }
    })))
}

/// A value of the model's own.
#[derive(Debug)]
struct Constant(Tensor);

impl Op for Constant {
    fn name(&self) -> &'static str {
        "Constant"
    }

    fn infer(&self, _inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![Fact::constant(self.0.clone())])
    }

    fn evaluate(&self, _inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        Ok(vec![self.0.clone()])
    }
}

pub(super) fn constant_of_shape(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let value = spec.attributes.tensor("value")?.unwrap_or_else(|| Tensor::scalar(0.0f32));
    if value.shape().elements() != 1 || value.dtype() == DType::String {
        return Err(Error::invalid_argument("ConstantOfShape takes one number"));
    }
    Ok(Arc::new(ConstantOfShape(value)))
}

/// One number everywhere.
#[derive(Debug)]
struct ConstantOfShape(Tensor);

/// Bytes that one filled constant may take.
const MAX_FILLED_BYTES: usize = 1 << 31;

impl Op for ConstantOfShape {
    fn name(&self) -> &'static str {
        "ConstantOfShape"
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[0]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let shape = required(inputs, 0)?;
        Ok(vec![match known_ints(inputs, 0)?.flatten() {
            Some(extents) => Fact::of_shape(self.0.dtype(), &non_negative(&extents)?),
            None => match shape.shape() {
                Some(count) => Fact::new(self.0.dtype(), unknown(count.elements())),
                None => Fact::of_unknown_rank(self.0.dtype()),
            },
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let shape = Shape::new(non_negative(&required(inputs, 0)?.to_i64s()?)?);
        let bytes = shape.elements().saturating_mul(self.0.dtype().bytes());
        if bytes > MAX_FILLED_BYTES {
            return Err(Error::resource_exhausted(format!("a constant of shape {shape} takes {bytes} bytes")));
        }
        let count = shape.elements();
        Ok(vec![Tensor::from_bytes(self.0.dtype(), shape, self.0.bytes().repeat(count))?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        // Every row is the same, however many there are.
        match (query.rows, query.outputs.first().and_then(Fact::shape)) {
            ([Rows::Counted], Some(shape)) if shape.first() == Some(&query.batch) => query.all(Rows::LEADING),
            _ => query.default_answer(),
        }
    }
}

pub(super) fn non_negative(extents: &[i64]) -> Result<Vec<usize>> {
    let convert = |e: &i64| usize::try_from(*e).map_err(|_| Error::invalid_argument(format!("the extent {e}")));
    extents.iter().map(convert).collect()
}

pub(super) fn range(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Range))
}

/// start, start + delta, … below limit.
#[derive(Debug)]
struct Range;

/// Elements that one range may have.
const MAX_RANGE: f64 = 16_777_216.0;

impl Op for Range {
    fn name(&self) -> &'static str {
        "Range"
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[0, 1, 2]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        // Known bounds are evaluated; unknown ones leave the length open.
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, unknown(1))])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let first = |i| -> Result<f64> {
            let values = required(inputs, i)?.to_f64s()?;
            values.first().copied().ok_or_else(|| Error::invalid_argument("Range takes scalars"))
        };
        let (start, limit, delta) = (first(0)?, first(1)?, first(2)?);
        let count = ((limit - start) / delta).ceil().max(0.0);
        if !count.is_finite() || count > MAX_RANGE {
            return Err(Error::invalid_argument(format!("Range from {start} to {limit} by {delta}")));
        }
        let count = count as usize;
        let dtype = required(inputs, 0)?.dtype();
        if let (Numbers::Whole(start), Numbers::Whole(delta)) =
            (Numbers::of(required(inputs, 0)?)?, Numbers::of(required(inputs, 2)?)?)
        {
            let values: Vec<i64> = (0..count as i64).map(|i| start[0] + i * delta[0]).collect();
            return Ok(vec![wrapped(dtype, [count].into(), &values)?]);
        }
        let values: Vec<f64> = (0..count).map(|i| start + i as f64 * delta).collect();
        Ok(vec![Tensor::from_f64s(dtype, [count], &values)?])
    }
}
