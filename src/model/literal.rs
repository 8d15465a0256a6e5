//! Values written in TOML as tensors and features.

use bytes::Bytes;
use toml::Value;

use super::example::{Feature, FeatureKind, range};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Most values that one may stand for.
const FILLED_MAX: usize = 1 << 24;

/// Elements in row-major order, and the extents of the nested arrays that hold them.
fn flat<'a>(value: &'a Value, into: &mut Vec<&'a Value>) -> Result<Vec<usize>> {
    let Value::Array(items) = value else {
        into.push(value);
        return Ok(Vec::new());
    };
    let mut inner: Option<Vec<usize>> = None;
    for item in items {
        let dims = flat(item, into)?;
        if *inner.get_or_insert_with(|| dims.clone()) != dims {
            return Err(Error::invalid_argument("a ragged array, expected rows of one length"));
        }
    }
    let mut dims = vec![items.len()];
    dims.extend(inner.unwrap_or_default());
    Ok(dims)
}

fn number(value: &Value) -> Result<f64> {
    match value {
        Value::Integer(n) => Ok(*n as f64),
        Value::Float(n) => Ok(*n),
        Value::Boolean(b) => Ok(f64::from(u8::from(*b))),
        other => Err(Error::invalid_argument(format!("{other}, expected a number"))),
    }
}

fn integer(value: &Value) -> Result<i64> {
    match value {
        Value::Integer(n) => Ok(*n),
        Value::Boolean(b) => Ok(i64::from(*b)),
        other => Err(Error::invalid_argument(format!("{other}, expected an integer"))),
    }
}

fn string(value: &Value) -> Result<Bytes> {
    match value {
        Value::String(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        other => Err(Error::invalid_argument(format!("{other}, expected a string"))),
    }
}

/// A tensor of `dtype` from a value or nested arrays of them.
///
/// # Errors
/// `INVALID_ARGUMENT` for ragged arrays and values of another kind.
pub(super) fn tensor(value: &Value, dtype: DType) -> Result<Tensor> {
    let mut values = Vec::new();
    let shape = Shape::new(flat(value, &mut values)?);
    if dtype == DType::String {
        return Tensor::from_strings(shape, values.into_iter().map(string).collect::<Result<_>>()?);
    }
    if dtype == DType::I64 {
        return Tensor::from_vec(shape, values.into_iter().map(integer).collect::<Result<Vec<i64>>>()?);
    }
    let numbers = if dtype.is_integer() || dtype == DType::Bool {
        let (low, high) = range(dtype);
        let within = |value: i64| match value {
            value if (low..=high).contains(&value) => Ok(value as f64),
            _ => Err(Error::invalid_argument(format!("{value}, expected a number from {low} to {high}"))),
        };
        values.into_iter().map(|v| integer(v).and_then(within)).collect::<Result<Vec<_>>>()?
    } else {
        values.into_iter().map(number).collect::<Result<Vec<_>>>()?
    };
    Tensor::from_f64s(dtype, shape, &numbers)
}

/// A tensor of one row, all of it one value.
///
/// # Errors
/// `INVALID_ARGUMENT` for a value of another kind, or more than [`FILLED_MAX`] of them.
pub(super) fn filled(value: &Value, dtype: DType, row: &[usize]) -> Result<Tensor> {
    let count = Shape::new(row).elements();
    if count > FILLED_MAX {
        return Err(Error::invalid_argument(format!("a row of {count} values, expected at most {FILLED_MAX}")));
    }
    let mut dims = vec![1];
    dims.extend_from_slice(row);
    tensor(&Value::Array(vec![value.clone(); count]), dtype)?.reshaped(dims)
}

/// `count` values of a feature: as many as are written, or one for all.
///
/// # Errors
/// `INVALID_ARGUMENT` for another number of values or values of another kind.
pub(super) fn feature(value: &Value, kind: FeatureKind, count: usize) -> Result<Feature> {
    let mut values = Vec::new();
    flat(value, &mut values)?;
    if values.len() == 1 && count <= FILLED_MAX {
        values = vec![values[0]; count];
    }
    if values.len() != count {
        return Err(Error::invalid_argument(format!("{} values, expected {count} or one", values.len())));
    }
    Ok(match kind {
        FeatureKind::Bytes => Feature::Bytes(values.into_iter().map(string).collect::<Result<_>>()?),
        FeatureKind::Float => {
            Feature::Floats(values.into_iter().map(|v| number(v).map(|n| n as f32)).collect::<Result<_>>()?)
        }
        FeatureKind::Int64 => Feature::Ints(values.into_iter().map(integer).collect::<Result<_>>()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_do_not_fit_are_refused() {
        let one = |value: i64, dtype| tensor(&Value::Integer(value), dtype);
        for (dtype, low, high) in [(DType::U8, 0, 255), (DType::I8, -128, 127), (DType::U32, 0, i64::from(u32::MAX))] {
            for value in [low, high] {
                assert_eq!(one(value, dtype).expect("it fits").to_i64s().expect("integers"), [value]);
            }
            for value in [low - 1, high + 1] {
                let error = one(value, dtype).expect_err("it does not fit");
                assert_eq!(error.message(), format!("{value}, expected a number from {low} to {high}"));
            }
        }
        let truth = |value| tensor(&Value::Boolean(value), DType::Bool).expect("a truth");
        assert_eq!((truth(true).bytes()[0], truth(false).bytes()[0]), (1, 0));
        assert!(one(2, DType::Bool).is_err());
        assert_eq!(one(i64::MIN, DType::I64).expect("any").to_i64s().expect("integers"), [i64::MIN]);
    }
}
