//! com.microsoft's operators over quantised tensors that are no products: numbers are restored, worked on and quantised
//! again, which fuses into one kernel where the work in between is elementwise.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::{Composed, composed};
use super::registry::OpSpec;
use super::sketch::Sketch;
use crate::engine::ir::{Attribute, Attributes, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// `(name, operator in between, operands of value, scale and zero point, where those of the result are)`
const OPERATORS: &[(&str, &str, &[usize], usize)] = &[
    ("QLinearAdd", "Add", &[0, 3], 6),
    ("QLinearMul", "Mul", &[0, 3], 6),
    ("QLinearSigmoid", "Sigmoid", &[0], 3),
    ("QLinearLeakyRelu", "LeakyRelu", &[0], 3),
    ("QLinearGlobalAveragePool", "GlobalAveragePool", &[0], 3),
    ("QLinearAveragePool", "AveragePool", &[0], 3),
    ("QLinearSoftmax", "Softmax", &[0], 3),
    ("QLinearConcat", "Concat", &[], 0),
    ("QLinearReduceMean", "ReduceMean", &[0], 3),
];

/// Any operator of [`OPERATORS`].
pub(super) fn quantized_elementwise(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let found = OPERATORS.iter().find(|o| o.0 == spec.name);
    let (name, operator, operands, result) =
        *found.ok_or_else(|| Error::internal(format!("{} works on no quantised tensors", spec.name)))?;
    let channels_last = spec.attributes.flag_or("channels_last", false)?;
    if channels_last && name.contains("Pool") {
        return Err(Error::unimplemented(format!("{name} with channels last")));
    }
    let (operands, result) = match name {
        // The result's come first, then as many triples as there are.
        "QLinearConcat" => ((2..spec.inputs).step_by(3).collect::<Vec<_>>(), 0),
        _ => (operands.to_vec(), result),
    };
    let attributes = inner_attributes(spec)?;
    let last = operands.first().copied().unwrap_or(0);
    composed(Composed {
        name,
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            if operands.iter().any(|i| optional(inputs, *i).is_none_or(|f| f.shape().is_none())) {
                return Ok(None);
            }
            let mut sketch = Sketch::new();
            let mut restored = Vec::with_capacity(operands.len());
            for first in &operands {
                let mut triple = vec![Some(Wire::Input(*first)), Some(Wire::Input(first + 1))];
                triple.push(optional(inputs, first + 2).map(|_| Wire::Input(first + 2)));
                restored.push(sketch.many(("", "DequantizeLinear"), triple, &[], 1)?.remove(0));
            }
            let listed: Vec<(&str, Attribute)> = attributes.iter().map(|(n, v)| (n, v.clone())).collect();
            let restored: Vec<&Wire> = restored.iter().collect();
            let y = sketch.with(operator, &restored, &listed)?;
            let mut triple = vec![Some(y), Some(Wire::Input(result))];
            triple.push(optional(inputs, result + 1).map(|_| Wire::Input(result + 1)));
            let y = sketch.many(("", "QuantizeLinear"), triple, &[], 1)?.remove(0);
            Ok(Some(sketch.finish([y])))
        }),
        open: Box::new(move |inputs| {
            let dtype = optional(inputs, result + 1).map_or(DType::U8, |f| f.dtype);
            let rank = required(inputs, last)?.rank();
            Ok(vec![Fact::open(dtype, rank.map(super::arguments::unknown))])
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}

/// The attributes that the operator in between knows.
fn inner_attributes(spec: &OpSpec<'_>) -> Result<Attributes> {
    let mut inner = Attributes::new();
    for (name, value) in spec.attributes.iter().filter(|(name, _)| !matches!(*name, "channels_last" | "opset")) {
        inner.set(name, value.clone());
    }
    Ok(inner)
}
