//! Operators that choose by where an element stands: Trilu, OneHot, EyeLike, Hardmax.

use std::sync::Arc;

use super::arguments::{axis_of, known_ints, made, optional, required, unknown};
use super::composed::{Composed, composed, over_shape, same_extents};
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

pub(super) fn trilu(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let upper = spec.attributes.flag_or("upper", true)?;
    composed(Composed {
        name: "Trilu",
        shape_inputs: &[1],
        compose: Box::new(move |inputs| {
            let input = required(inputs, 0)?;
            let diagonal = match known_ints(inputs, 1)? {
                Some(None) => return Ok(None),
                Some(Some(k)) => k.first().copied().unwrap_or(0),
                None => 0,
            };
            let Some(shape) = input.shape() else { return Ok(None) };
            let &[.., rows, columns] = &shape[..] else {
                return Err(Error::invalid_argument(format!("Trilu of {shape}")));
            };
            let count = made([rows, columns])?;
            let kept = |at: usize| {
                let beyond = (at % columns) as i64 - (at / columns) as i64;
                u8::from(if upper { beyond >= diagonal } else { beyond <= diagonal })
            };
            let mask = Tensor::from_bools([rows, columns], (0..count).map(kept).collect())?;
            let mut sketch = Sketch::new();
            let zero = Tensor::from_bytes(input.dtype, Vec::new(), vec![0; input.dtype.bytes()])?;
            let y = sketch.op("Where", &[&Wire::Constant(mask), &Wire::Input(0), &Wire::Constant(zero)])?;
            Ok(Some(sketch.finish([y])))
        }),
        open: Box::new(same_extents),
        rows: Box::new(|query| query.default_answer()),
    })
}

pub(super) fn one_hot(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axis = spec.attributes.int_or("axis", -1)?;
    composed(Composed {
        name: "OneHot",
        shape_inputs: &[1],
        compose: Box::new(move |inputs| {
            let (indices, values) = (required(inputs, 0)?, required(inputs, 2)?);
            let (Some(shape), Some(depth)) = (indices.shape(), required(inputs, 1)?.value.as_ref()) else {
                return Ok(None);
            };
            let depth = depth.to_f64s()?.first().copied().unwrap_or(0.0);
            // Floats are cut off, what is less than nothing saturates.
            if depth < 0.0 || depth.is_nan() {
                return Err(Error::invalid_argument(format!("OneHot of depth {depth}")));
            }
            let (depth, axis) = (made([depth as usize])?, axis_of(axis, shape.rank() + 1)?);
            let mut sketch = Sketch::new();
            let index = sketch.unsqueeze(&Wire::Input(0), &[axis])?;
            let mut along = vec![1; shape.rank() + 1];
            along[axis] = depth;
            // Negative indices count from the end.
            let mut hot = Vec::new();
            for first in [0.0, -(depth as f64)] {
                let places: Vec<f64> = (0..depth).map(|i| first + i as f64).collect();
                if first < 0.0 && matches!(indices.dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64) {
                    continue;
                }
                let places = Wire::Constant(Tensor::from_f64s(indices.dtype, along.clone(), &places)?);
                hot.push(sketch.op("Equal", &[&index, &places])?);
            }
            let hot = match &hot[..] {
                [one] => one.clone(),
                [one, other] => sketch.op("Or", &[one, other])?,
                _ => return Err(Error::internal("a place is counted in one or two ways")),
            };
            if values.shape().is_some_and(|s| s[..] != [2]) {
                return Err(Error::invalid_argument("OneHot takes two values, off and on"));
            }
            let off = sketch.slice(&Wire::Input(2), 0, 0, 1)?;
            let on = sketch.slice(&Wire::Input(2), 0, 1, 2)?;
            let y = sketch.op("Where", &[&hot, &on, &off])?;
            Ok(Some(sketch.finish([y])))
        }),
        open: Box::new(|inputs| {
            let dims = optional(inputs, 0).and_then(Fact::rank).map(|rank| unknown(rank + 1));
            Ok(vec![Fact::open(required(inputs, 2)?.dtype, dims)])
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}

pub(super) fn hardmax(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    // Before opset 13 all axes from the given one on are one.
    let flattens = spec.opset < 13;
    let axis = spec.attributes.int_or("axis", if flattens { 1 } else { -1 })?;
    composed(Composed {
        name: "Hardmax",
        shape_inputs: &[],
        compose: over_shape(move |shape, input| {
            let axis = axis_of(axis, shape.len())?;
            let mut sketch = Sketch::new();
            let mut x = Wire::Input(0);
            let mut whole = shape.to_vec();
            if flattens {
                whole = vec![shape[..axis].iter().product(), shape[axis..].iter().product()];
                x = sketch.reshape(&x, &whole)?;
            }
            let axis = if flattens { 1 } else { axis };
            let place = sketch.with("ArgMax", &[&x], &[("axis", Attribute::Int(axis as i64))])?;
            let mut along = vec![1; whole.len()];
            along[axis] = whole[axis];
            let places = Tensor::from_vec(along, (0..made([whole[axis]])? as i64).collect())?;
            let hot = sketch.op("Equal", &[&place, &Wire::Constant(places)])?;
            let y = sketch.op("Where", &[&hot, &number(input.dtype, 1.0)?, &number(input.dtype, 0.0)?])?;
            let y = if flattens { sketch.reshape(&y, shape)? } else { y };
            Ok(sketch.finish([y]))
        }),
        open: Box::new(same_extents),
        rows: Box::new(|query| query.default_answer()),
    })
}

pub(super) fn eye_like(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(EyeLike { dtype: spec.attributes.dtype("dtype")?, diagonal: spec.attributes.int_or("k", 0)? }))
}

/// Ones along a diagonal of a matrix of the input's shape.
#[derive(Debug)]
struct EyeLike {
    dtype: Option<DType>,
    diagonal: i64,
}

impl EyeLike {
    fn matrix(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let &[rows, columns] = shape else {
            return Err(Error::invalid_argument(format!("EyeLike of {shape:?}")));
        };
        let count = made([rows, columns])?;
        let one = |at: usize| f64::from((at % columns) as i64 - (at / columns) as i64 == self.diagonal);
        let values: Vec<f64> = (0..count).map(one).collect();
        Tensor::from_f64s(self.dtype.unwrap_or(dtype), shape, &values)
    }
}

impl Op for EyeLike {
    fn name(&self) -> &'static str {
        "EyeLike"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        Ok(vec![match input.shape() {
            Some(shape) => Fact::constant(self.matrix(input.dtype, &shape)?),
            None => Fact::new(self.dtype.unwrap_or(input.dtype), vec![Dim::Unknown; 2]),
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        Ok(vec![self.matrix(input.dtype(), input.shape())?])
    }

    fn reads_values(&self) -> bool {
        false
    }
}
