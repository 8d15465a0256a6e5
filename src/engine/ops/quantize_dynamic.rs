//! Quantisation with a scale computed from the values.

use std::sync::Arc;

use super::arguments::required;
use super::registry::{self, OpSpec};
use crate::engine::ir::{Attribute, Attributes, Expansion, Fact, Op, Profile, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// The opset whose operators the expansion is made of.
const OPSET: i64 = 21;

pub(super) fn dynamic_quantize(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(DynamicQuantize))
}

/// To 8 bits without sign: `scale` is the range of the values and 0 over 255, the zero point is where 0 lies.
#[derive(Debug)]
struct DynamicQuantize;

fn expansion() -> Result<Expansion> {
    let mut expansion = Expansion::default();
    let mut push = |name: &str, attributes: &Attributes, inputs: &[Wire]| -> Result<Wire> {
        let spec = OpSpec { domain: "", name, opset: OPSET, attributes, inputs: inputs.len(), outputs: 1 };
        Ok(expansion.push(registry::build(&spec)?, inputs.iter().cloned().map(Some).collect(), 1))
    };
    let none = Attributes::new();
    let mut flat = Attributes::new();
    flat.set("keepdims", Attribute::Int(0));
    let mut to_u8 = Attributes::new();
    to_u8.set("to", Attribute::DType(DType::U8));
    let (input, zero) = (Wire::Input(0), Wire::Constant(Tensor::scalar(0f32)));
    let most = push("ReduceMax", &flat, std::slice::from_ref(&input))?;
    let least = push("ReduceMin", &flat, std::slice::from_ref(&input))?;
    let high = push("Max", &none, &[most, zero.clone()])?;
    let low = push("Min", &none, &[least, zero])?;
    let range = push("Sub", &none, &[high, low.clone()])?;
    let scale = push("Div", &none, &[range, Wire::Constant(Tensor::scalar(255f32))])?;
    let below = push("Neg", &none, &[low])?;
    let offset = push("Div", &none, &[below, scale.clone()])?;
    let offset = push("Round", &none, &[offset])?;
    // The conversion saturates.
    let offset = push("Cast", &to_u8, &[offset])?;
    let result = push("QuantizeLinear", &none, &[input, scale.clone(), offset.clone()])?;
    expansion.outputs = vec![Some(result), Some(scale), Some(offset)];
    Ok(expansion)
}

impl Op for DynamicQuantize {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        if input.dtype != DType::F32 {
            return Err(Error::invalid_argument(format!("{} of {} values", self.name(), input.dtype)));
        }
        Ok(vec![
            Fact::open(DType::U8, input.dims.clone()),
            Fact::of_shape(DType::F32, &[]),
            Fact::of_shape(DType::U8, &[]),
        ])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        expansion()?.evaluate(inputs)
    }

    fn expand(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        expansion().map(Some)
    }
}
