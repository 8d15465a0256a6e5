//! Remainders.

use std::sync::Arc;

use super::arguments::required;
use super::broadcast::{Numbers, common_dims, common_shape, indices, wrapped};
use super::functions::of_class;
use super::registry::OpSpec;
use crate::engine::ir::{Class, Fact, Op, PointwiseBuilder, Reg, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

pub(super) fn modulo(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Mod { truncated: spec.attributes.flag_or("fmod", false)? }))
}

/// `a - b × quotient`, with numpy broadcasting.
#[derive(Debug)]
struct Mod {
    /// Whether the quotient is truncated, so that the result has the sign of `a`; otherwise it is rounded down and the
    /// result has the sign of `b`.
    truncated: bool,
}

impl Mod {
    fn real(&self, a: f64, b: f64) -> f64 {
        let rest = a % b;
        match () {
            () if self.truncated || rest.is_nan() => rest,
            () if rest == 0.0 => 0f64.copysign(b),
            () if (rest < 0.0) != (b < 0.0) => rest + b,
            () => rest,
        }
    }

    fn whole(&self, a: i64, b: i64, dtype: DType) -> Option<i64> {
        if dtype == DType::U64 {
            return a.cast_unsigned().checked_rem(b.cast_unsigned()).map(u64::cast_signed);
        }
        if b == 0 {
            return None;
        }
        let rest = a.wrapping_rem(b);
        Some(if !self.truncated && rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
    }
}

impl Op for Mod {
    fn name(&self) -> &'static str {
        "Mod"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        Ok(vec![Fact::open(a.dtype, common_dims(&[a, b])?)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (a, b) = (required(inputs, 0)?, required(inputs, 1)?);
        let (dtype, shape) = (a.dtype(), common_shape([a.shape(), b.shape()])?);
        let pairs = indices(a.shape(), &shape).into_iter().zip(indices(b.shape(), &shape));
        if let (Numbers::Whole(x), Numbers::Whole(y)) = (Numbers::of(a)?, Numbers::of(b)?) {
            let zero = || Error::invalid_argument("the remainder of an integer division by zero");
            let values = pairs.map(|(i, j)| self.whole(x[i], y[j], dtype).ok_or_else(zero));
            return Ok(vec![wrapped(dtype, shape, &values.collect::<Result<Vec<_>>>()?)?]);
        }
        let (x, y) = (a.to_f64s()?, b.to_f64s()?);
        let values: Vec<f64> = pairs.map(|(i, j)| self.real(x[i], y[j])).collect();
        Ok(vec![Tensor::from_f64s(dtype, shape, &values)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let dtype = builder.output_dtype();
        // A remainder lies between its operands: those of 64 bits that lie in 32 have one that does, too.
        let class = builder.class_of(dtype)?;
        let signed = !matches!(class, Class::U32 | Class::U64);
        let function = of_class(if self.truncated && signed { "fmod" } else { "mod" }, class)?;
        let (a, b) = (builder.input(0)?, builder.input(1)?);
        Some(builder.call(function, &[a, b], class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_follow_the_divisor_or_the_dividend() {
        let (floor, truncated) = (Mod { truncated: false }, Mod { truncated: true });
        assert_eq!((floor.whole(-7, 3, DType::I32), truncated.whole(-7, 3, DType::I32)), (Some(2), Some(-1)));
        assert_eq!((floor.real(-7.5, 2.0), truncated.real(-7.5, 2.0)), (0.5, -1.5));
        assert_eq!(floor.real(-1.0, f64::INFINITY), f64::INFINITY);
        assert!(floor.real(1.0, 0.0).is_nan());
        assert_eq!(floor.whole(1, 0, DType::I8), None);
    }
}
