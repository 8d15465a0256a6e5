//! RotaryEmbedding: pairs of elements turned by angles that grow with their position (Su et al., 2021).

use std::sync::Arc;

use super::arguments::{optional, required};
use super::attend::Lie;
use super::composed::{Composed, composed, same_extents};
use super::registry::OpSpec;
use super::rotation::{Angles, Rotation};
use super::sketch::Sketch;
use crate::engine::ir::{Attribute, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::Shape;

pub(super) fn rotary(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let interleaved = spec.attributes.flag_or("interleaved", false)?;
    let turned = spec.attributes.int_or("rotary_embedding_dim", 0)?;
    let heads = spec.attributes.int_or("num_heads", 0)?;
    composed(Composed {
        name: "RotaryEmbedding",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let Some(shape) = required(inputs, 0)?.shape() else { return Ok(None) };
            let wrong = || Error::invalid_argument(format!("rotary embedding of {shape} in {heads} heads"));
            let mut sketch = Sketch::new();
            let (batch, steps, count, width) = match shape[..] {
                [batch, count, steps, width] => (batch, steps, count, width),
                [batch, steps, all] => {
                    let count = usize::try_from(heads).ok().filter(|h| *h > 0 && all % h == 0).ok_or_else(wrong)?;
                    (batch, steps, count, all / count)
                }
                _ => return Err(wrong()),
            };
            let turned = match usize::try_from(turned) {
                Ok(0) => width,
                Ok(turned) if turned <= width => turned,
                _ => return Err(wrong()),
            };
            let half = turned / 2;
            let mut angles = Vec::new();
            for cache in [1, 2] {
                let mut values = Wire::Input(cache);
                if optional(inputs, 3).is_some() {
                    values = sketch.with("Gather", &[&values, &Wire::Input(3)], &[("axis", Attribute::Int(0))])?;
                }
                angles.push(sketch.reshape(&values, &[batch, steps, 1, half])?);
            }
            // Rows of heads or of steps.
            let (rows, over) = match shape.rank() {
                4 => ([batch, count, steps], [steps * half, 0, half]),
                _ => ([batch, steps, count], [steps * half, half, 0]),
            };
            let lie = |steps| Lie { first: 0, steps };
            let angle = Angles { lie: lie(over), half: 0 };
            let rotation = Rotation {
                rows,
                half,
                x: lie([rows[1] * rows[2] * width, rows[2] * width, width]),
                cosine: angle,
                sine: angle,
                shape: Shape::new([rows[0], rows[1], rows[2], turned]),
            };
            if !interleaved && rotation.is_in_fours() {
                let mut y = sketch.push(Arc::new(rotation), &[&Wire::Input(0), &angles[0], &angles[1]]);
                if turned < width {
                    let x = sketch.reshape(&Wire::Input(0), &[rows[0], rows[1], rows[2], width])?;
                    let rest = sketch.slice(&x, 3, turned, width)?;
                    y = sketch.concat(&[&y, &rest], 3)?;
                }
                let y = sketch.reshape(&y, &shape)?;
                return Ok(Some(sketch.finish([y])));
            }
            // As [batch, steps, heads, elements].
            let x = match shape.rank() {
                4 => sketch.transpose(&Wire::Input(0), &[0, 2, 1, 3])?,
                _ => sketch.reshape(&Wire::Input(0), &[batch, steps, count, width])?,
            };
            let (cosine, sine) = (&angles[0], &angles[1]);
            let part = sketch.slice(&x, 3, 0, turned)?;
            let (first, second) = if interleaved {
                let pairs = sketch.reshape(&part, &[batch, steps, count, half, 2])?;
                let mut side = |at: usize| {
                    let one = sketch.slice(&pairs, 4, at, at + 1)?;
                    sketch.reshape(&one, &[batch, steps, count, half])
                };
                (side(0)?, side(1)?)
            } else {
                (sketch.slice(&part, 3, 0, half)?, sketch.slice(&part, 3, half, 2 * half)?)
            };
            let (a, b) = (sketch.op("Mul", &[cosine, &first])?, sketch.op("Mul", &[sine, &second])?);
            let real = sketch.op("Sub", &[&a, &b])?;
            let (a, b) = (sketch.op("Mul", &[sine, &first])?, sketch.op("Mul", &[cosine, &second])?);
            let imaginary = sketch.op("Add", &[&a, &b])?;
            let mut y = if interleaved {
                let (real, imaginary) = (sketch.unsqueeze(&real, &[4])?, sketch.unsqueeze(&imaginary, &[4])?);
                let pairs = sketch.concat(&[&real, &imaginary], 4)?;
                sketch.reshape(&pairs, &[batch, steps, count, turned])?
            } else {
                sketch.concat(&[&real, &imaginary], 3)?
            };
            if turned < width {
                let rest = sketch.slice(&x, 3, turned, width)?;
                y = sketch.concat(&[&y, &rest], 3)?;
            }
            let y =
                if shape.rank() == 4 { sketch.transpose(&y, &[0, 2, 1, 3])? } else { sketch.reshape(&y, &shape)? };
            Ok(Some(sketch.finish([y])))
        }),
        open: Box::new(same_extents),
        rows: Box::new(|query| query.default_answer()),
    })
}
