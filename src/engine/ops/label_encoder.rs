//! LabelEncoder: values looked up in a table.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::arguments::required;
use super::registry::OpSpec;
use crate::engine::ir::{Attributes, Fact, Op, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Where each key's value stands.
#[derive(Debug)]
enum Keys {
    Texts(HashMap<Bytes, usize>),
    Whole(HashMap<i64, usize>),
    /// By bits, one NaN and one zero for all.
    Real(HashMap<u64, usize>),
}

fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

impl Keys {
    fn new(keys: &Tensor) -> Result<Self> {
        Ok(match keys.dtype() {
            DType::String => Self::Texts(keys.strings().iter().cloned().zip(0..).collect()),
            dtype if dtype.is_float() => Self::Real(keys.to_f64s()?.into_iter().map(bits).zip(0..).collect()),
            _ => Self::Whole(keys.to_i64s()?.into_iter().zip(0..).collect()),
        })
    }

    fn places(&self, input: &Tensor) -> Result<Vec<Option<usize>>> {
        Ok(match self {
            Self::Texts(keys) => input.strings().iter().map(|t| keys.get(t).copied()).collect(),
            Self::Real(keys) => input.to_f64s()?.into_iter().map(|v| keys.get(&bits(v)).copied()).collect(),
            Self::Whole(keys) => input.to_i64s()?.iter().map(|v| keys.get(v).copied()).collect(),
        })
    }
}

/// Values for the keys of one type, and the one for all others.
#[derive(Debug)]
struct Table {
    from: DType,
    keys: Keys,
    values: Tensor,
    default: Tensor,
}

impl Table {
    fn new(keys: &Tensor, values: Tensor, default: Tensor) -> Result<Self> {
        let (k, v) = (keys.shape().elements(), values.shape().elements());
        if k != v || default.shape().elements() != 1 || default.dtype() != values.dtype() {
            return Err(Error::invalid_argument(format!(
                "{k} keys, {v} values of {}, and {} defaults of {}",
                values.dtype(),
                default.shape().elements(),
                default.dtype()
            )));
        }
        Ok(Self { from: keys.dtype(), keys: Keys::new(keys)?, values, default })
    }

    fn lookup(&self, input: &Tensor) -> Result<Tensor> {
        let places = self.keys.places(input)?;
        let shape = input.shape().clone();
        if self.values.dtype() == DType::String {
            let text = |place: &Option<usize>| match place {
                Some(place) => self.values.strings()[*place].clone(),
                None => self.default.strings()[0].clone(),
            };
            return Tensor::from_strings(shape, places.iter().map(text).collect());
        }
        let size = self.values.dtype().bytes();
        let element = |place: &Option<usize>| match place {
            Some(place) => &self.values.bytes()[place * size..(place + 1) * size],
            None => &self.default.bytes()[..],
        };
        let bytes: Vec<u8> = places.iter().flat_map(element).copied().collect();
        Tensor::from_bytes(self.values.dtype(), shape, bytes)
    }
}

fn strings(texts: Vec<String>) -> Result<Tensor> {
    Tensor::from_strings([texts.len()], texts.into_iter().map(Bytes::from).collect())
}

/// The one list given of those whose names begin with `prefix`.
fn list(attributes: &Attributes, prefix: &str) -> Result<Tensor> {
    let name = |kind: &str| format!("{prefix}_{kind}");
    let lists = [
        attributes.tensor(&name("tensor"))?,
        attributes.strings(&name("strings"))?.map(strings).transpose()?,
        attributes.ints(&name("int64s"))?.map(|v| Tensor::from_vec([v.len()], v)).transpose()?,
        attributes.floats(&name("floats"))?.map(|v| Tensor::from_vec([v.len()], v)).transpose()?,
    ];
    let mut given = lists.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(list), None) => Ok(list),
        _ => Err(Error::invalid_argument(format!("LabelEncoder takes exactly one list of {prefix}"))),
    }
}

/// What is given for all others, as one element of `dtype`.
fn default(attributes: &Attributes, dtype: DType) -> Result<Tensor> {
    if let Some(tensor) = attributes.tensor("default_tensor")? {
        return Ok(tensor);
    }
    match dtype {
        DType::String => strings(vec![attributes.string_or("default_string", "_Unused")?]),
        dtype if dtype.is_float() => {
            Tensor::from_f64s(dtype, [1], &[f64::from(attributes.float_or("default_float", -0.0)?)])
        }
        dtype => Tensor::from_f64s(dtype, [1], &[attributes.int_or("default_int64", -1)? as f64]),
    }
}

pub(super) fn label_encoder(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let attributes = spec.attributes;
    // The first version maps texts to their places and back.
    if let Some(classes) = attributes.strings("classes_strings")? {
        let places = Tensor::from_vec([classes.len()], (0..classes.len() as i64).collect())?;
        let texts = strings(classes)?;
        let there = Table::new(&texts, places.clone(), default(attributes, DType::I64)?)?;
        let back = Table::new(&places, texts, default(attributes, DType::String)?)?;
        return Ok(Arc::new(LabelEncoder { tables: vec![there, back] }));
    }
    let (keys, values) = (list(attributes, "keys")?, list(attributes, "values")?);
    let default = default(attributes, values.dtype())?;
    Ok(Arc::new(LabelEncoder { tables: vec![Table::new(&keys, values, default)?] }))
}

/// Each element's value, from the table for its type.
#[derive(Debug)]
struct LabelEncoder {
    tables: Vec<Table>,
}

impl LabelEncoder {
    fn table(&self, dtype: DType) -> Result<&Table> {
        let table = self.tables.iter().find(|t| t.from == dtype);
        table.ok_or_else(|| {
            Error::invalid_argument(format!("{dtype} values, where keys are of {}", self.tables[0].from))
        })
    }
}

impl Op for LabelEncoder {
    fn name(&self) -> &'static str {
        "LabelEncoder"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        Ok(vec![Fact::open(self.table(input.dtype)?.values.dtype(), input.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        Ok(vec![self.table(input.dtype())?.lookup(input)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.elementwise()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::Attribute;

    fn op(attributes: &[(&str, Attribute)]) -> Result<Arc<dyn Op>> {
        let mut all = Attributes::new();
        attributes.iter().for_each(|(name, value)| all.set(*name, value.clone()));
        label_encoder(&OpSpec { domain: "", name: "LabelEncoder", opset: 4, attributes: &all, inputs: 1, outputs: 1 })
    }

    #[test]
    fn any_nan_is_the_key_and_later_keys_win() {
        let keys = ("keys_floats", Attribute::Floats(vec![f32::NAN, 0.0, 1.0, 1.0]));
        let values = ("values_strings", Attribute::Strings(["nan", "zero", "one", "uno"].map(String::from).to_vec()));
        let op = op(&[keys, values]).expect("four each");
        let input = Tensor::from_vec([4], vec![f32::from_bits(0xffc0_0001), -0.0, 1.0, 2.0]).expect("four");
        assert_eq!(op.evaluate(&[Some(&input)]).expect("floats")[0].strings(), ["nan", "zero", "uno", "_Unused"]);
        assert!(op.infer(&[Some(&Fact::of_shape(DType::I64, &[1]))]).is_err());
    }

    #[test]
    fn the_first_version_goes_both_ways() {
        let op = op(&[("classes_strings", Attribute::Strings(vec!["a".into(), "b".into()]))]).expect("two classes");
        let texts = strings(vec!["b".into(), "c".into()]).expect("two");
        let places = op.evaluate(&[Some(&texts)]).expect("texts").remove(0);
        assert_eq!(places.to_i64s().expect("integers"), [1, -1]);
        assert_eq!(op.evaluate(&[Some(&places)]).expect("places")[0].strings(), ["b", "_Unused"]);
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let ints = |name, values: &[i64]| (name, Attribute::Ints(values.to_vec()));
        assert!(op(&[ints("keys_int64s", &[1, 2]), ints("values_int64s", &[1])]).is_err());
        assert!(op(&[ints("keys_int64s", &[1])]).is_err());
        let default = ("default_tensor", Attribute::Tensor(Tensor::scalar(1.0f32)));
        assert!(op(&[ints("keys_int64s", &[1]), ints("values_int64s", &[1]), default]).is_err());
    }
}
