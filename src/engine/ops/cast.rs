//! Conversion between element types.

use std::sync::Arc;

use bytes::Bytes;

use super::arguments::required;
use super::broadcast::{Numbers, wrapped};
use super::functions::of_class;
use super::narrow;
use super::registry::OpSpec;
use crate::engine::ir::{Class, Fact, Op, PointwiseBuilder, Reg, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::small_float::{PowerRounding, Rounding};
use crate::tensor::{DType, Tensor};

pub(super) fn cast(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let to = spec.attributes.dtype("to")?;
    let to = to.ok_or_else(|| Error::invalid_argument("Cast without the attribute to"))?;
    Ok(Arc::new(Cast { to: Some(to), rounding: rounding(spec)? }))
}

pub(super) fn cast_like(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Cast { to: None, rounding: rounding(spec)? }))
}

/// What the attributes `saturate` and `round_mode` say.
fn rounding(spec: &OpSpec<'_>) -> Result<Rounding> {
    let power = match spec.attributes.string_or("round_mode", "up")?.as_str() {
        "up" => PowerRounding::Up,
        "down" => PowerRounding::Down,
        "nearest" => PowerRounding::Nearest,
        other => return Err(Error::invalid_argument(format!("round_mode {other:?} does not exist"))),
    };
    Ok(Rounding { saturate: spec.attributes.flag_or("saturate", true)?, power })
}

/// To a given type, or to that of input 1.
#[derive(Debug)]
struct Cast {
    to: Option<DType>,
    /// For floats of at most 8 bits.
    rounding: Rounding,
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        if self.to.is_some() { "Cast" } else { "CastLike" }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let dtype = match self.to {
            Some(dtype) => dtype,
            None => required(inputs, 1)?.dtype,
        };
        Ok(vec![Fact::open(dtype, required(inputs, 0)?.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let to = match self.to {
            Some(dtype) => dtype,
            None => required(inputs, 1)?.dtype(),
        };
        let input = required(inputs, 0)?;
        if to.is_small_float() && input.dtype() != DType::String {
            return Ok(vec![Tensor::from_rounded(to, input.shape().clone(), &input.to_f64s()?, self.rounding)?]);
        }
        Ok(vec![converted(input, to)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        match query.rows {
            [first, ..] => query.all(*first),
            [] => query.default_answer(),
        }
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let (from, to) = (builder.fact(0)?.dtype, builder.output_dtype());
        let class = builder.class_of(to)?;
        let value = builder.input(0)?;
        let source = builder.class(value);
        let real = matches!(source, Class::F32 | Class::F64);
        match (source, to) {
            _ if from == to => Some(value),
            (_, DType::Bool) => Some(builder.call(of_class("to_bool", source)?, &[value], Class::U32)),
            // What has more bits than a 32-bit float would be rounded twice on the way to a smaller one.
            (Class::F64, DType::F16 | DType::BF16) => None,
            (_, DType::BF16) if !real && from.bits() > 16 => None,
            (_, small) if source.is_wide() && small.is_small_float() => None,
            (Class::F64, small) if narrow::is_narrow(small) => None,
            // Which part of an integer type a float saturates to is not for every driver to say.
            (Class::F32 | Class::F64, DType::I32 | DType::U32 | DType::I64 | DType::U64)
                if class.is_wide() || to.bits() == 32 =>
            {
                let whole = of_class(&format!("whole_{}", source.suffix()), class)?;
                Some(builder.call(whole, &[value], class))
            }
            (_, DType::F32 | DType::F16 | DType::F64 | DType::I32 | DType::U32) => Some(builder.convert(value, class)),
            (_, DType::BF16) => narrow::round(builder, value, to, self.rounding),
            (_, small) if small.is_small_float() => narrow::round(builder, value, to, self.rounding),
            (Class::F32, small) if narrow::is_narrow(small) => narrow::truncate(builder, value, small),
            (_, small) if narrow::is_narrow(small) => narrow::wrap(builder, value, small),
            (_, DType::I64 | DType::U64) if class.is_wide() => Some(builder.convert(value, class)),
            // 32-bit unsigned integers may leave 32 bits with a sign.
            (Class::I32 | Class::U32, DType::I64) if from != DType::U32 => Some(builder.convert(value, class)),
            _ => None,
        }
    }
}

/// `tensor` as `to`: floats to integers truncate and saturate (wrap below 8 bits), integers wrap, strings are decimal numbers.
pub(super) fn converted(tensor: &Tensor, to: DType) -> Result<Tensor> {
    let (from, shape) = (tensor.dtype(), tensor.shape().clone());
    if from == to {
        return Ok(tensor.clone());
    }
    if to == DType::String {
        return Tensor::from_strings(shape, texts(tensor)?);
    }
    if from == DType::String {
        let parse = |text: &Bytes| {
            let text = String::from_utf8_lossy(text);
            let parsed = text.trim().parse::<f64>();
            parsed.map_err(|_| Error::invalid_argument(format!("the string {text:?} is no number")))
        };
        return Tensor::from_f64s(to, shape, &tensor.strings().iter().map(parse).collect::<Result<Vec<_>>>()?);
    }
    match Numbers::of(tensor)? {
        Numbers::Whole(values) if from == DType::U64 && to.is_float() => {
            let values: Vec<f64> = values.iter().map(|v| v.cast_unsigned() as f64).collect();
            Tensor::from_f64s(to, shape, &values)
        }
        Numbers::Whole(values) => wrapped(to, shape, &values),
        Numbers::Real(values) if to.is_integer() && to.bits() < 8 => {
            let limit = f64::from(narrow::WRAPPING_LIMIT);
            wrapped(to, shape, &values.iter().map(|v| v.clamp(-limit, limit) as i64).collect::<Vec<_>>())
        }
        // A double between two 32-bit floats is rounded once only.
        Numbers::Real(values) => Tensor::from_f64s(to, shape, &values),
    }
}

fn texts(tensor: &Tensor) -> Result<Vec<Bytes>> {
    let text = |s: String| Bytes::from(s);
    if tensor.dtype() == DType::F32 {
        return Ok(tensor.values::<f32>()?.iter().map(|v| text(v.to_string())).collect());
    }
    Ok(match Numbers::of(tensor)? {
        Numbers::Real(values) => values.iter().map(|v| text(v.to_string())).collect(),
        Numbers::Whole(values) => values.iter().map(|v| text(v.to_string())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_wrap_below_8_bits() {
        let real = Tensor::from_vec([3], vec![-9.5f32, 7.9, f32::NAN]).expect("three");
        assert_eq!(converted(&real, DType::I4).expect("casts").to_i64s().expect("integers"), [7, 7, 0]);
        assert_eq!(converted(&real, DType::U4).expect("casts").to_i64s().expect("integers"), [7, 7, 0]);
    }

    #[test]
    fn integers_wrap_and_floats_saturate() {
        let wide = Tensor::from_vec([2], vec![300i64, -1]).expect("two");
        assert_eq!(converted(&wide, DType::U8).expect("casts").values::<u8>().expect("u8").as_ref(), [44, 255]);
        let real = Tensor::from_vec([2], vec![1e20f32, -1.7]).expect("two");
        assert_eq!(converted(&real, DType::I32).expect("casts").values::<i32>().expect("i32").as_ref(), [i32::MAX, -1]);
    }
}
