//! com.microsoft's GroupQueryAttention and RotaryEmbedding: attention over a cache of rotated keys, some heads sharing them.

use std::sync::Arc;

use super::arguments::{known_ints, optional, required};
use super::composed::{Composed, composed, written};
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Inputs that are not taken, by their places.
const REFUSED: [(usize, &str); 6] = [
    (11, "head_sink"),
    (12, "k_scale"),
    (13, "v_scale"),
    (14, "q_norm_weight"),
    (15, "k_norm_weight"),
    (16, "query_seqlens"),
];

#[derive(Clone)]
struct Settings {
    heads: usize,
    kv_heads: usize,
    scale: Option<f32>,
    softcap: f32,
    causal: bool,
    /// Keys that a query sees, its own the last of them; not above 0 for all.
    window: i64,
    rotary: bool,
    interleaved: bool,
}

/// Inputs query, key, value (or all in query), past keys and values [batch, kv_heads, steps, head], each row's last position
/// [batch], the longest row's length, cosines and sines, positions, a bias of the scores; outputs y and the present.
pub(super) fn group_query(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let a = spec.attributes;
    let count = |name: &str| {
        let count = a.int(name)?.and_then(|h| usize::try_from(h).ok()).filter(|h| *h > 0);
        count.ok_or_else(|| Error::invalid_argument(format!("GroupQueryAttention without {name}")))
    };
    let unwanted = a.int_or("smooth_softmax", 0)? > 0
        || a.int_or("qk_output", 0)? != 0
        || a.int_or("sliding_window_cache", 0)? != 0;
    if unwanted || spec.outputs > 3 {
        return Err(Error::unimplemented(
            "GroupQueryAttention with a smooth softmax, a cache of a window or scores as an output",
        ));
    }
    let told = Settings {
        heads: count("num_heads")?,
        kv_heads: count("kv_num_heads")?,
        scale: a.float("scale")?.filter(|s| *s != 0.0),
        softcap: a.float_or("softcap", 0.0)?,
        causal: a.int_or("causal", 1)? != 0,
        window: a.int_or("local_window_size", -1)?,
        rotary: a.flag_or("do_rotary", false)?,
        interleaved: a.flag_or("rotary_interleaved", false)?,
    };
    let outputs = spec.outputs.max(1);
    composed(Composed {
        name: "GroupQueryAttention",
        shape_inputs: &[6],
        compose: Box::new(move |inputs| {
            let total = known_ints(inputs, 6)?.flatten().and_then(|t| t.first().copied());
            if inputs.iter().flatten().any(|fact| fact.shape().is_none()) {
                return Ok(None);
            }
            let Some(total) = total else { return Ok(None) };
            let mut sketch = Sketch::new();
            let wires = told.compose(&mut sketch, inputs, usize::try_from(total).unwrap_or(0))?;
            Ok(Some(sketch.finish(wires.into_iter().take(outputs))))
        }),
        open: Box::new(move |inputs| {
            let dtype = required(inputs, 0)?.dtype;
            Ok((0..outputs).map(|_| Fact::of_unknown_rank(dtype)).collect())
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}

impl Settings {
    fn compose(&self, sketch: &mut Sketch, inputs: &[Option<&Fact>], total: usize) -> Result<Vec<Wire>> {
        if let Some((_, name)) = REFUSED.iter().find(|(i, _)| optional(inputs, *i).is_some()) {
            return Err(Error::unimplemented(format!("GroupQueryAttention with {name}")));
        }
        let fact = required(inputs, 0)?;
        let (dtype, shape) = (fact.dtype, fact.concrete()?);
        let wrong = || Error::invalid_argument(format!("{} heads of queries {shape}", self.heads));
        let &[batch, steps, width] = &shape[..] else { return Err(wrong()) };
        let packed = optional(inputs, 1).is_none();
        let all = if packed { self.heads + 2 * self.kv_heads } else { self.heads };
        if width % all != 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(wrong());
        }
        let head = width / all;
        let counts = [self.heads, self.kv_heads, self.kv_heads];
        let mut sides = Vec::new();
        for (i, count) in counts.into_iter().enumerate() {
            let flat = if packed {
                let from = counts[..i].iter().sum::<usize>() * head;
                sketch.slice(&Wire::Input(0), 2, from, from + count * head)?
            } else {
                Wire::Input(i)
            };
            let split = sketch.reshape(&flat, &[batch, steps, count, head])?;
            sides.push(sketch.transpose(&split, &[0, 2, 1, 3])?);
        }
        // A first call's rows begin at 0, however long they are; later ones end where each row ends.
        let lengths = sketch.cast(&Wire::Input(5), DType::I32)?;
        let lengths = sketch.reshape(&lengths, &[batch])?;
        let number_of = |value: usize| Wire::Constant(Tensor::scalar(i32::try_from(value).unwrap_or(i32::MAX)));
        let lengths = sketch.op("Add", &[&lengths, &number_of(1)])?;
        let is_first = steps == total;
        let begins = if is_first {
            Wire::Constant(Tensor::from_vec([batch], vec![0i32; batch])?)
        } else {
            sketch.op("Sub", &[&lengths, &number_of(steps)])?
        };
        if self.rotary {
            let positions = self.positions(sketch, inputs, &begins, [batch, steps])?;
            for side in &mut sides[..2] {
                let given =
                    vec![Some(side.clone()), Some(Wire::Input(7)), Some(Wire::Input(8)), Some(positions.clone())];
                *side = self.rotated(sketch, inputs, given, head)?;
            }
        }
        let before = optional(inputs, 3).map(Fact::concrete).transpose()?.and_then(|p| p.get(2).copied()).unwrap_or(0);
        let present = before.max(total);
        for (side, past) in sides[1..].iter_mut().zip([3, 4]) {
            let past = (before > 0 && !is_first).then_some(Wire::Input(past));
            if past.is_none() && present == steps {
                continue;
            }
            let grown = self.grown(sketch, dtype, past, [batch, before, present, head])?;
            *side = match grown {
                None => side.clone(),
                Some(all) => sketch.with("TensorScatter", &[&all, side, &begins], &[("axis", Attribute::Int(2))])?,
            };
            if !is_first {
                *side = cleared(sketch, side, &lengths, [batch, present], dtype)?;
            }
        }
        let [q, k, v] = &sides[..] else { return Err(Error::internal("there are three sides")) };
        let mut attributes = vec![
            ("is_causal", Attribute::Int(i64::from(self.causal))),
            ("softcap", Attribute::Float(self.softcap)),
            // The window counts the query's own key.
            ("left_window_size", Attribute::Int(if self.window > 0 { self.window - 1 } else { -1 })),
        ];
        attributes.extend(self.scale.map(|scale| ("scale", Attribute::Float(scale))));
        let mask = optional(inputs, 10).map(|_| Wire::Input(10));
        // A first call's shorter rows end in keys that only what is behind them would see.
        let all_steps = Tensor::from_vec([batch], vec![i32::try_from(steps).unwrap_or(i32::MAX); batch])?;
        let ends = if is_first && self.causal { Wire::Constant(all_steps) } else { lengths };
        let given = vec![Some(q.clone()), Some(k.clone()), Some(v.clone()), mask, None, None, Some(ends)];
        let y = sketch.many(("", "Attention"), given, &attributes, 1)?.remove(0);
        let y = sketch.transpose(&y, &[0, 2, 1, 3])?;
        let y = sketch.reshape(&y, &[batch, steps, self.heads * head])?;
        Ok(vec![y, k.clone(), v.clone()])
    }

    fn positions(
        &self,
        sketch: &mut Sketch,
        inputs: &[Option<&Fact>],
        begins: &Wire,
        [batch, steps]: [usize; 2],
    ) -> Result<Wire> {
        if optional(inputs, 9).is_some() {
            return Ok(Wire::Input(9));
        }
        let begins = sketch.reshape(begins, &[batch, 1])?;
        let steps = Tensor::from_vec([steps], (0..steps as i32).collect())?;
        sketch.op("Add", &[&begins, &Wire::Constant(steps)])
    }

    fn rotated(
        &self,
        sketch: &mut Sketch,
        inputs: &[Option<&Fact>],
        given: Vec<Option<Wire>>,
        head: usize,
    ) -> Result<Wire> {
        let cosines = required(inputs, 7)?.concrete()?;
        let turned = cosines.last().map_or(0, |c| 2 * c);
        let attributes = [
            ("interleaved", Attribute::Int(i64::from(self.interleaved))),
            ("rotary_embedding_dim", Attribute::Int(if turned == head { 0 } else { turned as i64 })),
        ];
        Ok(sketch.many(("", "RotaryEmbedding"), given, &attributes, 1)?.remove(0))
    }

    /// The past with zeros behind it up to the present's length; `None` for a present of no steps.
    fn grown(
        &self,
        sketch: &mut Sketch,
        dtype: DType,
        past: Option<Wire>,
        [batch, before, present, head]: [usize; 4],
    ) -> Result<Option<Wire>> {
        let kept = if past.is_some() { before } else { 0 };
        if present == kept {
            return Ok(past);
        }
        let rest = sketch.expand(&number(dtype, 0.0)?, &[batch, self.kv_heads, present - kept, head])?;
        Ok(Some(match past {
            Some(past) => sketch.concat(&[&past, &rest], 2)?,
            None => rest,
        }))
    }
}

/// A cache with zeros behind each row's end.
fn cleared(sketch: &mut Sketch, all: &Wire, ends: &Wire, [batch, present]: [usize; 2], dtype: DType) -> Result<Wire> {
    let places = Tensor::from_vec([present, 1], (0..present as i32).collect())?;
    let ends = sketch.reshape(ends, &[batch, 1, 1, 1])?;
    let used = sketch.op("Less", &[&Wire::Constant(places), &ends])?;
    sketch.op("Where", &[&used, all, &number(dtype, 0.0)?])
}

/// Inputs x, positions, cosines and sines; positions are one number, where each row begins, or one for each element.
pub(super) fn rotary(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let interleaved = Attribute::Int(i64::from(spec.attributes.flag_or("interleaved", false)?));
    let heads = spec.attributes.int_or("num_heads", 0)?;
    let turned = spec.attributes.int_or("rotary_embedding_dim", 0)?;
    if spec.attributes.float_or("scale", 1.0)? != 1.0 || spec.attributes.flag_or("is_packed_batching", false)? {
        return Err(Error::unimplemented("RotaryEmbedding that scales, or of rows of several lengths"));
    }
    written("RotaryEmbedding", spec, move |sketch, inputs| {
        let shape = required(inputs, 0)?.concrete()?;
        let half = required(inputs, 2)?.concrete()?.last().copied().unwrap_or(0);
        let (batch, steps, heads) = match shape[..] {
            [batch, _, steps, _] => (batch, steps, 0),
            [batch, steps, width] if heads == 0 && half > 0 => (batch, steps, (width / (2 * half)) as i64),
            [batch, steps, _] => (batch, steps, heads),
            _ => return Err(Error::invalid_argument(format!("rotary embedding of {shape}"))),
        };
        let mut positions = Wire::Input(1);
        if required(inputs, 1)?.rank() == Some(1) {
            let offsets = Tensor::from_vec([1, steps], (0..steps as i32).collect())?;
            positions = sketch.cast(&positions, DType::I32)?;
            positions = sketch.op("Add", &[&positions, &Wire::Constant(offsets)])?;
            positions = sketch.expand(&positions, &[batch, steps])?;
        }
        let given = vec![Some(Wire::Input(0)), Some(Wire::Input(2)), Some(Wire::Input(3)), Some(positions)];
        let attributes = [
            ("interleaved", interleaved.clone()),
            ("num_heads", Attribute::Int(heads)),
            ("rotary_embedding_dim", Attribute::Int(turned)),
        ];
        Ok(vec![sketch.many(("", "RotaryEmbedding"), given, &attributes, 1)?.remove(0)])
    })
}
