//! CausalConvWithState: a convolution of each channel over itself and the past, which is carried from call to call.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::written;
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::{Error, Result};

/// Inputs x [batch, channels, steps], weights [channels, 1, k], bias [channels], past [batch, channels, k − 1]; outputs y as x
/// and the present, the last k − 1 steps of past and x.
pub(super) fn causal_conv(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let bent = match spec.attributes.string_or("activation", "none")?.as_str() {
        "none" => false,
        "silu" | "swish" => true,
        other => return Err(Error::invalid_argument(format!("activation {other:?}"))),
    };
    written("CausalConvWithState", spec, move |sketch, inputs| {
        let (x, w) = (required(inputs, 0)?.concrete()?, required(inputs, 1)?.concrete()?);
        let past = optional(inputs, 3).map(Fact::concrete).transpose()?;
        let (batch, channels, steps, k) = match (&x[..], &w[..]) {
            (&[batch, channels, steps], &[c, 1, k]) if c == channels && k > 0 => (batch, channels, steps, k),
            _ => return Err(Error::invalid_argument(format!("causal convolution of {x} by {w}"))),
        };
        if let Some(past) = past.as_ref().filter(|p| p[..] != [batch, channels, k - 1]) {
            return Err(Error::invalid_argument(format!("causal convolution of {x} by {w} after a past of {past}")));
        }
        let all = if k == 1 { Wire::Input(0) } else { behind_the_past(sketch, inputs, [batch, channels, k - 1])? };
        let mut given = vec![Some(all.clone()), Some(Wire::Input(1))];
        given.extend(optional(inputs, 2).map(|_| Some(Wire::Input(2))));
        let mut y = sketch.many(("", "Conv"), given, &[("group", Attribute::Int(channels as i64))], 1)?.remove(0);
        if bent {
            y = sketch.op("Swish", &[&y])?;
        }
        let present = sketch.slice(&all, 2, steps, steps + k - 1)?;
        Ok(vec![y, present])
    })
}

fn behind_the_past(sketch: &mut Sketch, inputs: &[Option<&Fact>], shape: [usize; 3]) -> Result<Wire> {
    let past = match optional(inputs, 3) {
        Some(_) => Wire::Input(3),
        None => sketch.expand(&number(required(inputs, 0)?.dtype, 0.0)?, &shape)?,
    };
    sketch.concat(&[&past, &Wire::Input(0)], 2)
}
