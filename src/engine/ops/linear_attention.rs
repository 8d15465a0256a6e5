//! LinearAttention: attention without softmax, as a recurrence over a matrix of state for each head (Yang et al., "Gated
//! delta networks", 2024).

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::written;
use super::registry::OpSpec;
use super::sketch::number;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Recorder, Rows, RowsQuery, Wire, Work, linear_groups};
use crate::engine::kernels::linear_attention as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Inputs query, key, value, past state, decay, beta; outputs y and the present state.
pub(super) fn linear_attention(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let heads = |name: &str| {
        let heads = spec.attributes.int(name)?.and_then(|h| usize::try_from(h).ok()).filter(|h| *h > 0);
        heads.ok_or_else(|| Error::invalid_argument(format!("LinearAttention without {name}")))
    };
    let (gated, delta) = match spec.attributes.string_or("update_rule", "gated_delta")?.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Error::invalid_argument(format!("update_rule {other:?}"))),
    };
    let scan = Scan {
        heads: heads("q_num_heads")?,
        kv_heads: heads("kv_num_heads")?,
        scale: spec.attributes.float_or("scale", 0.0)?,
        gated,
        delta,
    };
    if !scan.heads.is_multiple_of(scan.kv_heads) {
        let Scan { heads, kv_heads, .. } = scan;
        return Err(Error::invalid_argument(format!("LinearAttention of {heads} heads sharing {kv_heads}")));
    }
    written("LinearAttention", spec, move |sketch, inputs| {
        let dtype = required(inputs, 0)?.dtype;
        let e = scan.extents(inputs)?;
        let past = match optional(inputs, 3) {
            Some(_) => sketch.cast(&Wire::Input(3), DType::F32)?,
            None => sketch.expand(&number(DType::F32, 0.0)?, &e.state())?,
        };
        let given = |i: usize| optional(inputs, i).map(|_| Wire::Input(i));
        let all = vec![given(0), given(1), given(2), Some(past), given(4), given(5)];
        let [y, state] = sketch.push_two(Arc::new(scan.clone()), all);
        Ok(vec![y, sketch.cast(&state, dtype)?])
    })
}

/// The recurrence; past and present are 32-bit floats.
#[derive(Clone, Debug)]
struct Scan {
    heads: usize,
    kv_heads: usize,
    /// 0 for one over the root of the key's elements.
    scale: f32,
    gated: bool,
    delta: bool,
}

/// Extents of one instance.
struct Extents {
    batch: usize,
    steps: usize,
    kv_heads: usize,
    /// Elements of a head's key, and of its value.
    key: usize,
    value: usize,
    /// Decays of a head, and betas of a step.
    decays: usize,
    betas: usize,
}

impl Extents {
    fn state(&self) -> [usize; 4] {
        [self.batch, self.kv_heads, self.key, self.value]
    }
}

impl Scan {
    fn extents(&self, inputs: &[Option<&Fact>]) -> Result<Extents> {
        let (q, k, v) =
            (required(inputs, 0)?.concrete()?, required(inputs, 1)?.concrete()?, required(inputs, 2)?.concrete()?);
        let wrong = || Error::invalid_argument(format!("linear attention of queries {q}, keys {k} and values {v}"));
        let (&[batch, steps, q_width], &[_, _, k_width], &[_, _, v_width]) = (&q[..], &k[..], &v[..]) else {
            return Err(wrong());
        };
        let (key, value) = (k_width / self.kv_heads, v_width / self.kv_heads);
        let wide = [key * self.heads, key * self.kv_heads, value * self.kv_heads];
        if wide != [q_width, k_width, v_width] || k[..2] != q[..2] || v[..2] != q[..2] {
            return Err(wrong());
        }
        let width = |input: usize, needed: bool, allowed: [usize; 2]| {
            let Some(fact) = optional(inputs, input).filter(|_| needed) else {
                return if needed { Err(Error::invalid_argument(format!("input {input} is missing"))) } else { Ok(1) };
            };
            match &fact.concrete()?[..] {
                [b, t, width] if [*b, *t] == [batch, steps] && allowed.contains(width) => Ok(*width),
                other => Err(Error::invalid_argument(format!("linear attention with input {input} of {other:?}"))),
            }
        };
        let decays = width(4, self.gated, [self.kv_heads * key, self.kv_heads])? / self.kv_heads.max(1);
        let betas = width(5, self.delta, [self.kv_heads, 1])?;
        let extents = Extents { batch, steps, kv_heads: self.kv_heads, key, value, decays: decays.max(1), betas };
        if let Some(past) = optional(inputs, 3).map(Fact::concrete).transpose()?
            && past[..] != extents.state()
        {
            return Err(Error::invalid_argument(format!("linear attention after a past of {past}")));
        }
        Ok(extents)
    }

    fn factor(&self, key: usize) -> f32 {
        if self.scale == 0.0 { 1.0 / (key as f32).sqrt() } else { self.scale }
    }
}

impl Op for Scan {
    fn name(&self) -> &'static str {
        "LinearAttention"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let e = self.extents(inputs)?;
        Ok(vec![
            Fact::of_shape(required(inputs, 0)?.dtype, &[e.batch, e.steps, self.heads * e.value]),
            Fact::of_shape(DType::F32, &e.state()),
        ])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = super::arguments::known(inputs);
        let e = self.extents(&facts.iter().map(Option::as_ref).collect::<Vec<_>>())?;
        let read = |i: usize| optional(inputs, i).map_or_else(|| Ok(Vec::new()), Tensor::to_f64s);
        let (q, k, v, decay, beta) = (read(0)?, read(1)?, read(2)?, read(4)?, read(5)?);
        let mut state = read(3)?;
        let (shared, factor) = (self.heads / self.kv_heads, f64::from(self.factor(e.key)));
        let mut y = vec![0.0; e.batch * e.steps * self.heads * e.value];
        for index in 0..e.batch * e.kv_heads * e.value {
            let (entry, head, j) = (index / (e.kv_heads * e.value), index / e.value % e.kv_heads, index % e.value);
            for at in entry * e.steps..(entry + 1) * e.steps {
                let row = at * e.kv_heads + head;
                let key = &k[row * e.key..][..e.key];
                let column = |i: usize| ((entry * e.kv_heads + head) * e.key + i) * e.value + j;
                if self.gated {
                    for i in 0..e.key {
                        let place = row * e.decays + if e.decays == 1 { 0 } else { i };
                        state[column(i)] *= decay[place].exp();
                    }
                }
                let mut update = v[row * e.value + j];
                if self.delta {
                    let seen: f64 = (0..e.key).map(|i| state[column(i)] * key[i]).sum();
                    update = (update - seen) * beta[at * e.betas + if e.betas == 1 { 0 } else { head }];
                }
                (0..e.key).for_each(|i| state[column(i)] += key[i] * update);
                for query in head * shared..(head + 1) * shared {
                    let place = at * self.heads + query;
                    let sum: f64 = (0..e.key).map(|i| state[column(i)] * q[place * e.key + i]).sum();
                    y[place * e.value + j] = factor * sum;
                }
            }
        }
        let shape = [e.batch, e.steps, self.heads * e.value];
        Ok(vec![
            Tensor::from_f64s(required(inputs, 0)?.dtype(), shape, &y)?,
            Tensor::from_f64s(DType::F32, e.state(), &state)?,
        ])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let leads = |(i, rows): (usize, &Rows)| *rows == Rows::LEADING || optional(query.inputs, i).is_none();
        let all = query.rows.iter().enumerate().all(leads);
        if all { query.all(Rows::LEADING) } else { query.default_answer() }
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &crate::engine::ir::Profile) -> Option<String> {
        let dtype = optional(inputs, 0)?.dtype;
        (!matches!(dtype, DType::F32 | DType::F16 | DType::BF16)).then(|| format!("{dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let e = self.extents(&facts)?;
        let q = recorder.input(0)?.clone();
        let buffer = |i: usize| recorder.optional_input(i).map_or(q.buffer, |operand| operand.buffer);
        let params = kernel::Params {
            total: word(e.batch * e.kv_heads * e.value)?,
            steps: word(e.steps)?,
            heads: word(self.heads)?,
            kv_heads: word(e.kv_heads)?,
            key: word(e.key)?,
            value: word(e.value)?,
            decays: word(if self.gated { e.decays } else { 0 })?,
            betas: word(if self.delta { e.betas } else { 0 })?,
            scale: self.factor(e.key),
        };
        let work = Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", q.storage)],
            buffers: &[
                q.buffer,
                buffer(1),
                buffer(2),
                buffer(3),
                buffer(4),
                buffer(5),
                recorder.output(1).buffer,
                recorder.output(0).buffer,
            ],
            params: params.words(),
            groups: linear_groups(e.batch * e.kv_heads * e.value, 64, recorder.profile.max_workgroups),
        };
        recorder.dispatch(&work)
    }
}
