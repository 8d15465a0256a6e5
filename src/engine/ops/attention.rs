//! Attention: scaled dot products of queries and keys, masked, as weights of values (Vaswani et al., 2017).

use std::sync::Arc;

use super::arguments::{made, optional, required};
use super::composed::{Composed, composed};
use super::registry::OpSpec;
use super::sketch::{Sketch, ints, number};
use super::softmax::masked_softmax;
use crate::engine::ir::{Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// What the attributes say.
#[derive(Clone, Debug)]
struct Attention {
    causal: bool,
    /// Heads of queries and of keys and values, for inputs of three axes.
    heads: [Option<i64>; 2],
    scale: Option<f32>,
    /// 0 for none.
    softcap: f32,
    /// Keys to the left and right of a query that it sees; negative for all.
    window: [i64; 2],
    /// Which stage of the scores output 3 is.
    scores_mode: i64,
    outputs: usize,
}

pub(super) fn attention(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let a = spec.attributes;
    let told = Attention {
        causal: a.flag_or("is_causal", false)?,
        heads: [a.int("q_num_heads")?, a.int("kv_num_heads")?],
        scale: a.float("scale")?,
        softcap: a.float_or("softcap", 0.0)?,
        window: [a.int_or("left_window_size", -1)?, a.int_or("right_window_size", -1)?],
        scores_mode: a.int_or("qk_matmul_output_mode", 0)?,
        outputs: spec.outputs,
    };
    let outputs = spec.outputs;
    composed(Composed {
        name: "Attention",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let shapes = [0, 1, 2].map(|i| required(inputs, i).map(Fact::shape));
            let [Ok(Some(q)), Ok(Some(k)), Ok(Some(v))] = shapes else { return Ok(None) };
            let mut sketch = Sketch::new();
            let outputs = told.compose(&mut sketch, inputs, [&q, &k, &v])?;
            Ok(Some(sketch.finish(outputs)))
        }),
        open: Box::new(move |inputs| {
            let q = required(inputs, 0)?;
            let first = q.dims.as_ref().map(|d| super::arguments::unknown(d.len()));
            let others = (1..outputs).map(|_| Fact::new(q.dtype, super::arguments::unknown(4)));
            Ok(std::iter::once(Fact::open(q.dtype, first)).chain(others).collect())
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}

/// Extents of one instance.
struct Extents {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    /// Keys before this call's.
    past: usize,
    keys: usize,
    /// Elements of a head of queries and keys, and of values.
    head: [usize; 2],
    /// Inputs have three axes: heads lie side by side.
    flat: bool,
}

impl Attention {
    fn extents(&self, inputs: &[Option<&Fact>], [q, k, v]: [&Shape; 3]) -> Result<Extents> {
        let wrong = || Error::invalid_argument(format!("attention of queries {q}, keys {k} and values {v}"));
        let past = optional(inputs, 4).map(|f| f.concrete()).transpose()?;
        let past = past.and_then(|p| p.get(2).copied()).unwrap_or(0);
        let heads = |i: usize| self.heads[i].and_then(|h| usize::try_from(h).ok()).filter(|h| *h > 0).ok_or_else(wrong);
        let extents = match (&q[..], &k[..], &v[..]) {
            (&[batch, queries, width], &[_, keys, k_width], &[_, _, v_width]) => {
                let (heads, kv_heads) = (heads(0)?, heads(1)?);
                Extents {
                    batch,
                    heads,
                    kv_heads,
                    queries,
                    past,
                    keys: past + keys,
                    head: [width / heads, v_width / kv_heads],
                    flat: width % heads == 0 && k_width == width / heads * kv_heads && v_width % kv_heads == 0,
                }
            }
            (&[batch, heads, queries, head], &[_, kv_heads, keys, _], &[_, _, _, v_head]) => {
                Extents { batch, heads, kv_heads, queries, past, keys: past + keys, head: [head, v_head], flat: false }
            }
            _ => return Err(wrong()),
        };
        if (q.rank() == 3) != extents.flat || extents.kv_heads == 0 || extents.heads % extents.kv_heads != 0 {
            return Err(wrong());
        }
        Ok(extents)
    }

    fn compose(&self, sketch: &mut Sketch, inputs: &[Option<&Fact>], shapes: [&Shape; 3]) -> Result<Vec<Wire>> {
        let e = self.extents(inputs, shapes)?;
        let dtype = required(inputs, 0)?.dtype;
        let apart = |sketch: &mut Sketch, input: usize, heads: usize, head: usize| {
            if !e.flat {
                return Ok(Wire::Input(input));
            }
            let split = sketch.reshape(&Wire::Input(input), &[e.batch, shapes[input][1], heads, head])?;
            sketch.transpose(&split, &[0, 2, 1, 3])
        };
        let q = apart(sketch, 0, e.heads, e.head[0])?;
        let mut k = apart(sketch, 1, e.kv_heads, e.head[0])?;
        let mut v = apart(sketch, 2, e.kv_heads, e.head[1])?;
        if e.past > 0 || optional(inputs, 4).is_some() {
            k = sketch.concat(&[&Wire::Input(4), &k], 2)?;
            v = sketch.concat(&[&Wire::Input(5), &v], 2)?;
        }
        let rounded = Rounding(dtype);
        // Queries that share keys and values are rows of one product.
        let rows = e.heads / e.kv_heads * e.queries;
        let grouped = sketch.reshape(&q, &[e.batch, e.kv_heads, rows, e.head[0]])?;
        // Each side takes the root of the scale, so that half floats do not overflow.
        let scale = f64::from(self.scale.unwrap_or_else(|| 1.0 / (e.head[0] as f32).sqrt()));
        let columns = sketch.transpose(&k, &[0, 1, 3, 2])?;
        let raw = if rounded.is_needed() {
            let root = number(dtype, scale.sqrt())?;
            let (grouped, columns) = (sketch.op("Mul", &[&grouped, &root])?, sketch.op("Mul", &[&columns, &root])?);
            let (grouped, columns) = (rounded.apply(sketch, &grouped)?, rounded.apply(sketch, &columns)?);
            sketch.op("MatMul", &[&grouped, &columns])?
        } else {
            let product = sketch.op("MatMul", &[&grouped, &columns])?;
            sketch.op("Mul", &[&product, &number(dtype, scale)?])?
        };
        let raw = rounded.apply(sketch, &raw)?;
        let raw = sketch.reshape(&raw, &[e.batch, e.heads, e.queries, e.keys])?;
        let mut capped = raw.clone();
        if self.softcap > 0.0 {
            let cap = number(dtype, f64::from(self.softcap))?;
            let inner = sketch.op("Div", &[&raw, &cap])?;
            let bent = sketch.op("Tanh", &[&inner])?;
            capped = sketch.op("Mul", &[&bent, &cap])?;
            capped = rounded.apply(sketch, &capped)?;
        }
        let biased = self.masked(sketch, inputs, &capped, dtype, &e)?;
        let biased = rounded.apply(sketch, &biased)?;
        let weights = sketch.push(masked_softmax(), &[&biased]);
        let weights = rounded.apply(sketch, &weights)?;
        let grouped = sketch.reshape(&weights, &[e.batch, e.kv_heads, rows, e.keys])?;
        let y = sketch.op("MatMul", &[&grouped, &v])?;
        let mut y = sketch.reshape(&y, &[e.batch, e.heads, e.queries, e.head[1]])?;
        if e.flat {
            y = sketch.transpose(&y, &[0, 2, 1, 3])?;
            y = sketch.reshape(&y, &[e.batch, e.queries, e.heads * e.head[1]])?;
        }
        let scores = match self.scores_mode {
            0 => raw,
            1 => capped,
            2 => biased,
            _ => weights,
        };
        Ok([y, k, v, scores].into_iter().take(self.outputs).collect())
    }

    /// The scores with what a query does not see at minus infinity.
    fn masked(
        &self,
        sketch: &mut Sketch,
        inputs: &[Option<&Fact>],
        scores: &Wire,
        dtype: DType,
        e: &Extents,
    ) -> Result<Wire> {
        let mut scores = scores.clone();
        let mut hidden = Vec::new();
        if let Some(mask) = optional(inputs, 3) {
            let shape = mask.concrete()?;
            let is_bool = mask.dtype == DType::Bool;
            let mut given = Wire::Input(3);
            let last = shape.last().copied().unwrap_or(1);
            // A mask may leave the last keys out; they are not seen.
            if last < e.keys && last != 1 {
                let mut pads = vec![0i64; 2 * shape.rank()];
                pads[2 * shape.rank() - 1] = (e.keys - last) as i64;
                let fill = if is_bool { Tensor::from_bools([], vec![0])? } else { lowest(mask.dtype)? };
                given = sketch.op("Pad", &[&given, &ints(pads)?, &Wire::Constant(fill)])?;
            }
            if is_bool {
                hidden.push(sketch.op("Not", &[&given])?);
            } else {
                scores = sketch.op("Add", &[&scores, &given])?;
            }
        }
        hidden.extend(self.out_of_sight(sketch, inputs, e)?);
        let lowest = Wire::Constant(lowest(dtype)?);
        for mask in hidden {
            scores = sketch.op("Where", &[&mask, &lowest, &scores])?;
        }
        Ok(scores)
    }

    /// What causality, windows and lengths hide.
    fn out_of_sight(&self, sketch: &mut Sketch, inputs: &[Option<&Fact>], e: &Extents) -> Result<Vec<Wire>> {
        let [left, right] = self.window;
        let right =
            if self.causal { Some(if right < 0 { 0 } else { right.min(0) }) } else { (right >= 0).then_some(right) };
        let left = (left >= 0).then_some(left);
        // How far key j is behind query i, both counted from 0.
        let ahead = |query: usize, key: usize| key as i64 - query as i64;
        let pairs = (0..e.queries).flat_map(|q| (0..e.keys).map(move |k| (q, k)));
        let Some(lengths) = optional(inputs, 6) else {
            if right.is_none() && left.is_none() {
                return Ok(Vec::new());
            }
            made([e.queries, e.keys])?;
            let past = e.past as i64;
            let hides = |(q, k): (usize, usize)| {
                let ahead = ahead(q, k) - past;
                u8::from(right.is_some_and(|r| ahead > r) || left.is_some_and(|l| -ahead > l))
            };
            let mask = Tensor::from_bools([e.queries, e.keys], pairs.map(hides).collect())?;
            return Ok(vec![Wire::Constant(mask)]);
        };
        if lengths.shape().is_some_and(|s| s.elements() != e.batch) {
            return Err(Error::invalid_argument(format!("lengths for {} rows are not one a row", e.batch)));
        }
        made([e.queries, e.keys])?;
        let lengths = sketch.cast(&Wire::Input(6), DType::I32)?;
        let lengths = sketch.reshape(&lengths, &[e.batch, 1, 1, 1])?;
        let places = Tensor::from_vec([e.keys], (0..e.keys as i32).collect())?;
        let mut hidden = vec![sketch.op("GreaterOrEqual", &[&Wire::Constant(places), &lengths])?];
        // With an outside cache the queries are the last so many of each row.
        let offset = Wire::Constant(Tensor::scalar(e.queries as i32));
        let offset = sketch.op("Sub", &[&lengths, &offset])?;
        let values: Vec<i32> = pairs.map(|(q, k)| ahead(q, k) as i32).collect();
        let apart = Wire::Constant(Tensor::from_vec([e.queries, e.keys], values)?);
        let apart = sketch.op("Sub", &[&apart, &offset])?;
        if let Some(right) = right {
            let bound = Wire::Constant(Tensor::scalar(i32::try_from(right).unwrap_or(i32::MAX)));
            hidden.push(sketch.op("Greater", &[&apart, &bound])?);
        }
        if let Some(left) = left {
            let bound = Wire::Constant(Tensor::scalar(-i32::try_from(left).unwrap_or(i32::MAX)));
            hidden.push(sketch.op("Less", &[&apart, &bound])?);
        }
        Ok(hidden)
    }
}

fn lowest(dtype: DType) -> Result<Tensor> {
    Tensor::from_f64s(dtype, Vec::new(), &[f64::NEG_INFINITY])
}

/// Types whose values are kept in wider floats on the device are rounded where the definition rounds.
struct Rounding(DType);

impl Rounding {
    fn is_needed(&self) -> bool {
        matches!(self.0, DType::BF16 | DType::F16)
    }

    fn apply(&self, sketch: &mut Sketch, x: &Wire) -> Result<Wire> {
        if !self.is_needed() {
            return Ok(x.clone());
        }
        let wide = sketch.cast(x, DType::F32)?;
        sketch.cast(&wide, self.0)
    }
}
