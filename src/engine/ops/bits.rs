//! Operators on the bits of elements.

use std::sync::Arc;

use super::arguments::required;
use super::broadcast::{Numbers, common_dims, common_shape, indices, wrapped};
use super::functions::of_class;
use super::narrow;
use super::registry::OpSpec;
use crate::engine::ir::{Fact, Op, PointwiseBuilder, Reg, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// What is done to the bits of one or two integers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    And,
    Or,
    Xor,
    Not,
    Left,
    Right,
}

pub(super) fn bitwise(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let kind = match spec.name {
        "BitwiseAnd" => Kind::And,
        "BitwiseOr" => Kind::Or,
        "BitwiseXor" => Kind::Xor,
        _ => Kind::Not,
    };
    Ok(Arc::new(Bits(kind)))
}

pub(super) fn bit_shift(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    match spec.attributes.string_or("direction", "")?.as_str() {
        "LEFT" => Ok(Arc::new(Bits(Kind::Left))),
        "RIGHT" => Ok(Arc::new(Bits(Kind::Right))),
        other => Err(Error::invalid_argument(format!("BitShift of direction {other:?}"))),
    }
}

/// Bits of integers, with numpy broadcasting of the two inputs.
#[derive(Debug)]
struct Bits(Kind);

impl Bits {
    fn apply(&self, a: i64, b: i64, dtype: DType) -> i64 {
        // Shifts by the width or more, or by less than nothing, leave what sign extension leaves.
        let by = u32::try_from(b).ok().filter(|by| (*by as usize) < dtype.bits());
        match self.0 {
            Kind::And => a & b,
            Kind::Or => a | b,
            Kind::Xor => a ^ b,
            Kind::Not => !a,
            Kind::Left => by.map_or(0, |by| a << by),
            Kind::Right if dtype == DType::U64 => by.map_or(0, |by| (a.cast_unsigned() >> by).cast_signed()),
            Kind::Right => by.map_or(if a < 0 { -1 } else { 0 }, |by| a >> by),
        }
    }
}

impl Op for Bits {
    fn name(&self) -> &'static str {
        match self.0 {
            Kind::And => "BitwiseAnd",
            Kind::Or => "BitwiseOr",
            Kind::Xor => "BitwiseXor",
            Kind::Not => "BitwiseNot",
            Kind::Left | Kind::Right => "BitShift",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let first = required(inputs, 0)?;
        if !first.dtype.is_integer() {
            return Err(Error::invalid_argument(format!("{} of {} values", self.name(), first.dtype)));
        }
        if self.0 == Kind::Not {
            return Ok(vec![Fact { value: None, ..first.clone() }]);
        }
        Ok(vec![Fact::open(first.dtype, common_dims(&[first, required(inputs, 1)?])?)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let a = required(inputs, 0)?;
        let b = if self.0 == Kind::Not { a } else { required(inputs, 1)? };
        let shape = common_shape([a.shape(), b.shape()])?;
        let (Numbers::Whole(x), Numbers::Whole(y)) = (Numbers::of(a)?, Numbers::of(b)?) else {
            return Err(Error::invalid_argument(format!("{} of {} values", self.name(), a.dtype())));
        };
        let pairs = indices(a.shape(), &shape).into_iter().zip(indices(b.shape(), &shape));
        let values: Vec<i64> = pairs.map(|(i, j)| self.apply(x[i], y[j], a.dtype())).collect();
        Ok(vec![wrapped(a.dtype(), shape, &values)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let dtype = builder.output_dtype();
        let class = builder.class_of(dtype).filter(|class| class.is_wide() || dtype.bits() <= 32)?;
        let what = match self.0 {
            Kind::And => "bits_and",
            Kind::Or => "bits_or",
            Kind::Xor => "bits_xor",
            Kind::Not => "bits_not",
            Kind::Left => "shift_left",
            Kind::Right => "shift_right",
        };
        let function = of_class(what, class)?;
        let mut arguments = vec![builder.input(0)?];
        if self.0 != Kind::Not {
            arguments.push(builder.input(1)?);
        }
        if matches!(self.0, Kind::Left | Kind::Right) {
            arguments.push(builder.constant_u32(u32::try_from(dtype.bits()).ok()?));
        }
        let value = builder.call(function, &arguments, class);
        if matches!(self.0, Kind::Not | Kind::Left) { narrow::wrap(builder, value, dtype) } else { Some(value) }
    }
}

pub(super) fn bit_cast(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let to = spec.attributes.dtype("to")?;
    let to = to.ok_or_else(|| Error::invalid_argument("BitCast without the attribute to"))?;
    Ok(Arc::new(BitCast { to }))
}

/// The same bits as another type of the same width.
#[derive(Debug)]
struct BitCast {
    to: DType,
}

impl BitCast {
    fn check(&self, from: DType) -> Result<()> {
        // Bool holds one bit in eight.
        if from.bits() != self.to.bits() || from.bits() == 0 {
            return Err(Error::invalid_argument(format!("the bits of {from} are not as many as those of {}", self.to)));
        }
        Ok(())
    }
}

impl Op for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        self.check(input.dtype)?;
        Ok(vec![Fact::open(self.to, input.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        self.check(input.dtype())?;
        let shape = input.shape().clone();
        let bytes = input.bytes();
        if self.to.bits() < 8 {
            let unused = 8 - self.to.bits();
            let signed = self.to.carrier() == DType::I8;
            let extend = |byte: &u8| {
                let top = byte << unused;
                if signed { (top.cast_signed() >> unused).cast_unsigned() } else { top >> unused }
            };
            return Ok(vec![Tensor::from_bytes(self.to, shape, bytes.iter().map(extend).collect::<Vec<u8>>())?]);
        }
        if self.to == DType::Bool {
            return Ok(vec![Tensor::from_bools(shape, bytes.iter().map(|b| u8::from(*b != 0)).collect())?]);
        }
        Ok(vec![Tensor::from_bytes(self.to, shape, bytes.clone())?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let from = builder.fact(0)?.dtype;
        let class = builder.class_of(self.to)?;
        let source = builder.class_of(from)?;
        let whole = |dtype: DType| dtype.is_integer() || dtype == DType::Bool;
        if self.to == DType::Bool && from != DType::Bool {
            return None;
        }
        let value = builder.input(0)?;
        if whole(from) && whole(self.to) && (source.is_wide() == class.is_wide()) {
            return narrow::wrap(builder, value, self.to);
        }
        // Only floats that lie in as many bits as they have.
        if from.bits() != 32 && !source.is_wide() {
            return None;
        }
        if source == class {
            return Some(value);
        }
        let function = of_class(&format!("bits_{}", source.suffix()), class)?;
        Some(builder.call(function, &[value], class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shifted(kind: Kind, a: i8, b: i8) -> i64 {
        let (a, b) = (Tensor::scalar(a), Tensor::scalar(b));
        Bits(kind).evaluate(&[Some(&a), Some(&b)]).expect("integers")[0].to_i64s().expect("integers")[0]
    }

    #[test]
    fn shifts_past_the_width_leave_the_sign() {
        assert_eq!(shifted(Kind::Right, -128, 8), -1);
        assert_eq!(shifted(Kind::Right, -128, 7), -1);
        assert_eq!(shifted(Kind::Right, 64, -1), 0);
        assert_eq!(shifted(Kind::Left, 3, 7), -128);
        assert_eq!(shifted(Kind::Left, 3, 8), 0);
    }

    #[test]
    fn bits_are_read_as_the_other_type() {
        let one = BitCast { to: DType::I32 }.evaluate(&[Some(&Tensor::scalar(1.0f32))]).expect("as wide");
        assert_eq!(one[0].to_i64s().expect("integers"), [0x3f80_0000]);
        assert!(BitCast { to: DType::I64 }.evaluate(&[Some(&Tensor::scalar(1.0f32))]).is_err());
    }
}
