//! com.microsoft's Attention and MultiHeadAttention, as ONNX's Attention with masks in their other forms.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::written;
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// What both operators are told.
#[derive(Clone)]
struct Settings {
    heads: usize,
    unidirectional: bool,
    scale: Option<f32>,
    /// What is added to the scores of masked keys.
    filter: f32,
}

fn settings(spec: &OpSpec<'_>) -> Result<Settings> {
    let heads = spec.attributes.int("num_heads")?.and_then(|h| usize::try_from(h).ok()).filter(|h| *h > 0);
    Ok(Settings {
        heads: heads.ok_or_else(|| Error::invalid_argument(format!("{} without num_heads", spec.name)))?,
        unidirectional: spec.attributes.flag_or("unidirectional", false)?,
        scale: spec.attributes.float("scale")?.filter(|s| *s != 0.0),
        filter: spec.attributes.float_or("mask_filter_value", -10000.0)?,
    })
}

/// Queries, keys and values as ONNX's Attention takes them, and the extents of the scores.
struct Parts {
    dtype: DType,
    qkv: [Wire; 3],
    past: Option<[Wire; 2]>,
    batch: usize,
    queries: usize,
    /// Those before included.
    keys: usize,
}

impl Parts {
    /// y, present keys and values, and the masked scores.
    fn attend(self, sketch: &mut Sketch, told: &Settings, flat: bool, mask: Option<Wire>) -> Result<Vec<Wire>> {
        let mut attributes = vec![
            ("is_causal", Attribute::Int(i64::from(told.unidirectional))),
            ("qk_matmul_output_mode", Attribute::Int(2)),
        ];
        if flat {
            let heads = Attribute::Int(told.heads as i64);
            attributes.extend([("q_num_heads", heads.clone()), ("kv_num_heads", heads)]);
        }
        attributes.extend(told.scale.map(|scale| ("scale", Attribute::Float(scale))));
        let [q, k, v] = self.qkv.map(Some);
        let [past_k, past_v] = self.past.map_or([None, None], |past| past.map(Some));
        sketch.many(("", "Attention"), vec![q, k, v, mask, past_k, past_v], &attributes, 4)
    }

    /// What is added to the scores, from a mask input in any of its forms and a bias input.
    fn mask(
        &self,
        sketch: &mut Sketch,
        inputs: &[Option<&Fact>],
        [mask, bias]: [usize; 2],
        filter: f32,
    ) -> Result<Option<Wire>> {
        let bias = optional(inputs, bias).map(|_| Wire::Input(bias));
        let Some(fact) = optional(inputs, mask) else { return Ok(bias) };
        let shape = fact.concrete()?;
        let given = sketch.cast(&Wire::Input(mask), DType::I32)?;
        let keys = (0..self.keys).map(|k| k as i32).collect();
        let keys = Wire::Constant(Tensor::from_vec([self.keys], keys)?);
        let (batch, queries, total) = (self.batch, self.queries, self.keys);
        let unseen = match shape[..] {
            // Each row's length; then perhaps each row's first key.
            [count] if count == batch || count == 2 * batch => {
                let bound = |sketch: &mut Sketch, from: usize| {
                    let bound = sketch.slice(&given, 0, from, from + batch)?;
                    sketch.reshape(&bound, &[batch, 1, 1, 1])
                };
                let end = bound(sketch, 0)?;
                let mut unseen = sketch.op("GreaterOrEqual", &[&keys, &end])?;
                if count == 2 * batch {
                    let start = bound(sketch, batch)?;
                    let early = sketch.op("Less", &[&keys, &start])?;
                    unseen = sketch.op("Or", &[&unseen, &early])?;
                }
                unseen
            }
            [b, k] if b == batch && k == total => self.zeros(sketch, &given, &[batch, 1, 1, total])?,
            [b, q, k] if b == batch && q == queries && k == total => {
                self.zeros(sketch, &given, &[batch, 1, queries, total])?
            }
            _ => {
                let scores = format!("{batch} rows, {queries} queries and {total} keys");
                return Err(Error::unimplemented(format!("an attention mask of {shape} for {scores}")));
            }
        };
        let (filter, zero) = (number(self.dtype, f64::from(filter))?, number(self.dtype, 0.0)?);
        let masked = sketch.op("Where", &[&unseen, &filter, &zero])?;
        Ok(Some(match bias {
            Some(bias) => sketch.op("Add", &[&masked, &bias])?,
            None => masked,
        }))
    }

    fn zeros(&self, sketch: &mut Sketch, mask: &Wire, shape: &[usize]) -> Result<Wire> {
        let mask = sketch.reshape(mask, shape)?;
        sketch.op("Equal", &[&mask, &Wire::Constant(Tensor::scalar(0i32))])
    }
}

/// Inputs x [batch, steps, inputs], merged weights and bias, mask, past [2, batch, heads, steps, head] and a bias of the scores;
/// outputs y and the present, as the past.
pub(super) fn attention(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let told = settings(spec)?;
    let sizes = spec.attributes.ints("qkv_hidden_sizes")?;
    let flags =
        [spec.attributes.flag_or("do_rotary", false)?, spec.attributes.flag_or("past_present_share_buffer", false)?];
    if flags.contains(&true) {
        return Err(Error::unimplemented("Attention that rotates, or shares a buffer with its past"));
    }
    written("Attention", spec, move |sketch, inputs| {
        let (x, w) = (required(inputs, 0)?, required(inputs, 1)?.concrete()?);
        let shape = x.concrete()?;
        let wrong = || Error::invalid_argument(format!("attention of {shape} with weights {w}"));
        let (&[batch, steps, _], &[_, width]) = (&shape[..], &w[..]) else { return Err(wrong()) };
        let sizes: Vec<usize> = match &sizes {
            Some(sizes) => sizes.iter().map(|s| usize::try_from(*s).unwrap_or(0)).collect(),
            None => vec![width / 3; 3],
        };
        let &[q, k, v] = &sizes[..] else { return Err(wrong()) };
        if q != k || q + k + v != width || sizes.iter().any(|s| *s == 0 || s % told.heads != 0) {
            return Err(wrong());
        }
        let mut all = sketch.op("MatMul", &[&Wire::Input(0), &Wire::Input(1)])?;
        if optional(inputs, 2).is_some() {
            all = sketch.op("Add", &[&all, &Wire::Input(2)])?;
        }
        let mut part = |from: usize, size: usize| sketch.slice(&all, 2, from, from + size);
        let qkv = [part(0, q)?, part(q, k)?, part(q + k, v)?];
        let mut keys = steps;
        let mut past = None;
        if let Some(fact) = optional(inputs, 4) {
            let shape = fact.concrete()?;
            let &[2, b, heads, before, head] = &shape[..] else { return Err(wrong()) };
            if [b, heads, head] != [batch, told.heads, q / told.heads] || q != v {
                return Err(wrong());
            }
            keys += before;
            let mut half = |i: usize| {
                let one = sketch.slice(&Wire::Input(4), 0, i, i + 1)?;
                sketch.reshape(&one, &[b, heads, before, head])
            };
            past = Some([half(0)?, half(1)?]);
        }
        let parts = Parts { dtype: x.dtype, qkv, past, batch, queries: steps, keys };
        let mask = parts.mask(sketch, inputs, [3, 5], told.filter)?;
        let outputs = parts.attend(sketch, &told, true, mask)?;
        if q != v {
            return Ok(vec![outputs[0].clone()]);
        }
        let (k, v) = (sketch.unsqueeze(&outputs[1], &[0])?, sketch.unsqueeze(&outputs[2], &[0])?);
        Ok(vec![outputs[0].clone(), sketch.concat(&[&k, &v], 0)?])
    })
}

/// Inputs query, key, value, bias of all three, key mask, bias of the scores, past keys and values; outputs y, present keys and
/// values, and the masked scores. Heads lie side by side, or keys and values have an axis of them; queries, or keys, may
/// hold the rest: [batch, steps, heads, 3 or 2, head].
pub(super) fn multi_head(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let told = settings(spec)?;
    if spec.inputs > 8 {
        return Err(Error::unimplemented("MultiHeadAttention that shares a buffer with its past"));
    }
    written("MultiHeadAttention", spec, move |sketch, inputs| {
        let dtype = required(inputs, 0)?.dtype;
        let mut qkv =
            [0, 1, 2].map(|i| optional(inputs, i).map(|f| f.concrete().map(|s| (Wire::Input(i), s.to_vec()))));
        unpack(sketch, &mut qkv)?;
        let [Some(q), Some(k), Some(v)] = qkv else {
            return Err(Error::invalid_argument("MultiHeadAttention without keys or values"));
        };
        let mut sides = [q?, k?, v?];
        if optional(inputs, 3).is_some() {
            let mut from = 0;
            for (wire, shape) in sides.iter_mut() {
                // Keys with an axis of heads come from elsewhere, biased already.
                if let &mut [_, _, width] = &mut shape[..] {
                    let own = sketch.slice(&Wire::Input(3), 0, from, from + width)?;
                    *wire = sketch.op("Add", &[wire, &own])?;
                    from += width;
                }
            }
        }
        let mut heads_apart = Vec::new();
        for (wire, shape) in &sides {
            heads_apart.push(match shape[..] {
                [batch, steps, width] if width % told.heads == 0 => {
                    let split = sketch.reshape(wire, &[batch, steps, told.heads, width / told.heads])?;
                    (sketch.transpose(&split, &[0, 2, 1, 3])?, [batch, steps, width])
                }
                [batch, heads, steps, head] if heads == told.heads => (wire.clone(), [batch, steps, heads * head]),
                _ => return Err(Error::invalid_argument(format!("{} heads of {shape:?}", told.heads))),
            });
        }
        let [(q, [batch, queries, _]), (k, [_, keys, _]), (v, [_, _, values])] = &heads_apart[..] else {
            return Err(Error::internal("there are three sides"));
        };
        let (batch, queries, values) = (*batch, *queries, *values);
        let before = optional(inputs, 6).map(Fact::concrete).transpose()?.and_then(|p| p.get(2).copied());
        let past = before.map(|_| [Wire::Input(6), Wire::Input(7)]);
        let keys = keys + before.unwrap_or(0);
        let parts = Parts { dtype, qkv: [q.clone(), k.clone(), v.clone()], past, batch, queries, keys };
        let mask = parts.mask(sketch, inputs, [4, 5], told.filter)?;
        let mut outputs = parts.attend(sketch, &told, false, mask)?;
        let y = sketch.transpose(&outputs[0], &[0, 2, 1, 3])?;
        outputs[0] = sketch.reshape(&y, &[batch, queries, values])?;
        Ok(outputs)
    })
}

/// A side and its extents.
type Side = Option<Result<(Wire, Vec<usize>)>>;

/// Sides packed into queries or keys as [batch, steps, heads, count, head], each on its own as [batch, steps, heads × head].
fn unpack(sketch: &mut Sketch, sides: &mut [Side; 3]) -> Result<()> {
    for (from, count) in [(0, 3), (1, 2)] {
        let Some(Ok((packed, shape))) = &sides[from] else { continue };
        let &[batch, steps, heads, c, head] = &shape[..] else { continue };
        if c != count {
            return Err(Error::invalid_argument(format!("{c} sides packed into one, not {count}")));
        }
        let packed = packed.clone();
        for side in 0..count {
            let one = sketch.slice(&packed, 3, side, side + 1)?;
            let one = sketch.reshape(&one, &[batch, steps, heads * head])?;
            sides[from + side] = Some(Ok((one, vec![batch, steps, heads * head])));
        }
    }
    Ok(())
}
