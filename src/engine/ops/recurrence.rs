//! The recurrent part of RNN, LSTM and GRU layers: all steps in one dispatch.

use super::arguments::required;
use super::recurrent_activation::Activation;
use super::words::word;
use crate::engine::ir::{Define, Fact, Family, Op, Recorder, Rows, RowsQuery, Storage, Work, linear_groups};
use crate::engine::kernels::recurrent as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Which layer; numbered as `shaders/recurrent.wgsl` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Rnn = 0,
    Lstm = 1,
    Gru = 2,
}

impl Kind {
    pub(super) fn gates(self) -> usize {
        match self {
            Kind::Rnn => 1,
            Kind::Lstm => 4,
            Kind::Gru => 3,
        }
    }

    /// States carried from step to step.
    pub(super) fn states(self) -> usize {
        if self == Kind::Lstm { 2 } else { 1 }
    }
}

/// Inputs and outputs as `shaders/recurrent.wgsl` has them: x, weights, extra (may be left out), initial, lengths; y, last.
#[derive(Debug)]
pub(super) struct Recurrence {
    pub(super) kind: Kind,
    /// For each direction whether it goes backward.
    pub(super) backward: Vec<bool>,
    /// For each direction f, g and h.
    pub(super) activations: Vec<[Activation; 3]>,
    /// LSTM's input_forget, GRU's linear_before_reset.
    pub(super) coupled: bool,
    /// Bound on what activations are given; 0 for none.
    pub(super) clip: f32,
    /// The hidden states are rounded to 8 bits for the product: batch entries influence each other.
    pub(super) quantized: bool,
}

/// Extents of one instance.
struct Extents {
    steps: usize,
    batch: usize,
    directions: usize,
    hidden: usize,
}

impl Recurrence {
    fn extents(&self, x: &Shape) -> Result<Extents> {
        let &[steps, batch, directions, width] = &x[..] else {
            return Err(Error::internal(format!("a recurrence over {x}")));
        };
        Ok(Extents { steps, batch, directions, hidden: width / self.kind.gates() })
    }

    fn activated(&self, value: f64, direction: usize, which: usize) -> f64 {
        let clip = f64::from(self.clip);
        let value = if clip > 0.0 { value.clamp(-clip, clip) } else { value };
        self.activations[direction][which].apply(value)
    }

    /// One step of one batch entry: the new hidden state; `cell` is moved on. The product reads `h`.
    fn step(
        &self,
        direction: usize,
        x: &[f64],
        weights: &[f64],
        extra: Option<&[f64]>,
        h: &[f64],
        cell: &mut [f64],
    ) -> Vec<f64> {
        let (hidden, width) = (h.len(), x.len());
        let product = |gate: usize, j: usize, state: &[f64]| -> f64 {
            (0..hidden).map(|k| state[k] * weights[k * width + gate * hidden + j]).sum()
        };
        let act = |value, which| self.activated(value, direction, which);
        match self.kind {
            Kind::Rnn => (0..hidden).map(|j| act(x[j] + product(0, j, h), 0)).collect(),
            Kind::Lstm => {
                let mut next = Vec::with_capacity(hidden);
                for j in 0..hidden {
                    let peep = |gate: usize| extra.map_or(0.0, |e| e[gate * hidden + j]);
                    let sum = |gate: usize| x[gate * hidden + j] + product(gate, j, h);
                    let kept = act(sum(2) + peep(2) * cell[j], 0);
                    let taken = if self.coupled { 1.0 - kept } else { act(sum(0) + peep(0) * cell[j], 0) };
                    cell[j] = kept * cell[j] + taken * act(sum(3), 1);
                    next.push(act(sum(1) + peep(1) * cell[j], 0) * act(cell[j], 2));
                }
                next
            }
            Kind::Gru => {
                let gate = |gate: usize, j: usize| act(x[gate * hidden + j] + product(gate, j, h), 0);
                let reset: Vec<f64> = (0..hidden).map(|j| gate(1, j)).collect();
                let gated: Vec<f64> = reset.iter().zip(h).map(|(r, h)| r * h).collect();
                let one = |j: usize| {
                    let recurrent = if self.coupled {
                        reset[j] * (product(2, j, h) + extra.map_or(0.0, |e| e[j]))
                    } else {
                        product(2, j, &gated)
                    };
                    let update = gate(0, j);
                    (1.0 - update) * act(x[2 * hidden + j] + recurrent, 1) + update * h[j]
                };
                (0..hidden).map(one).collect()
            }
        }
    }
}

/// Rounds to the 256 levels of the range that holds all values and 0, one of which is 0, in 32-bit floats as
/// DynamicQuantizeLinear does.
fn round_to_bytes(states: &mut [(usize, Vec<f64>)]) {
    let all = || states.iter().flat_map(|(_, state)| state).map(|v| *v as f32);
    let (low, high) = (all().fold(0.0, f32::min), all().fold(0.0, f32::max));
    let scale = if low < high { (high - low) / 255.0 } else { 1.0 };
    let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
    for value in states.iter_mut().flat_map(|(_, state)| state) {
        let level = (*value as f32 / scale).round_ties_even() + zero;
        *value = f64::from(level.clamp(0.0, 255.0) - zero) * f64::from(scale);
    }
}

impl Op for Recurrence {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Rnn => "RNN",
            Kind::Lstm if self.quantized => "DynamicQuantizeLSTM",
            Kind::Lstm => "LSTM",
            Kind::Gru => "GRU",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        let Some(shape) = x.shape() else {
            return Ok(vec![Fact::of_unknown_rank(x.dtype), Fact::of_unknown_rank(DType::F32)]);
        };
        let e = self.extents(&shape)?;
        Ok(vec![
            Fact::of_shape(x.dtype, &[e.steps, e.directions, e.batch, e.hidden]),
            Fact::of_shape(DType::F32, &[self.kind.states(), e.directions, e.batch, e.hidden]),
        ])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let x = required(inputs, 0)?;
        let e = self.extents(x.shape())?;
        let (dtype, x) = (x.dtype(), x.to_f64s()?);
        let weights = required(inputs, 1)?.to_f64s()?;
        let extra = inputs.get(2).copied().flatten().map(Tensor::to_f64s).transpose()?;
        let mut last = required(inputs, 3)?.to_f64s()?;
        let lengths = required(inputs, 4)?.to_i64s()?;
        let (hidden, width) = (e.hidden, e.hidden * self.kind.gates());
        let mut y = vec![0.0; e.steps * e.directions * e.batch * hidden];
        let cells = e.directions * e.batch * hidden;
        let length = |entry: usize| (lengths[entry].max(0) as usize).min(e.steps);
        for (direction, step) in (0..e.directions).flat_map(|d| (0..e.steps).map(move |s| (d, s))) {
            let weights = &weights[direction * hidden * width..][..hidden * width];
            let extra = extra.as_ref().map(|all| &all[direction * (all.len() / e.directions)..]);
            let first = direction * e.batch;
            // States that the step before made.
            let made = (0..e.batch).filter(|entry| step <= length(*entry));
            let state = |entry: usize| last[(first + entry) * hidden..][..hidden].to_vec();
            let mut states: Vec<(usize, Vec<f64>)> = made.map(|entry| (entry, state(entry))).collect();
            if self.quantized {
                round_to_bytes(&mut states);
            }
            for (entry, h) in states.into_iter().filter(|(entry, _)| step < length(*entry)) {
                let own = first + entry;
                let time = if self.backward[direction] { length(entry) - 1 - step } else { step };
                let input = &x[((time * e.batch + entry) * e.directions + direction) * width..][..width];
                let cell = if self.kind == Kind::Lstm { &mut last[cells + own * hidden..][..hidden] } else { &mut [] };
                let next = self.step(direction, input, weights, extra, &h, cell);
                y[((time * e.directions + direction) * e.batch + entry) * hidden..][..hidden].copy_from_slice(&next);
                last[own * hidden..][..hidden].copy_from_slice(&next);
            }
        }
        let shapes = [[e.steps, e.directions, e.batch, hidden], [self.kind.states(), e.directions, e.batch, hidden]];
        Ok(vec![Tensor::from_f64s(dtype, shapes[0], &y)?, Tensor::from_f64s(DType::F32, shapes[1], &last)?])
    }

    /// Rows are entries of the batch, axis 1 of x and axis 2 of both outputs.
    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let along = |input: usize, axis: usize| {
            let rows = query.rows.get(input).copied().unwrap_or(Rows::Constant);
            rows == Rows::along(axis)
        };
        let constant = |input: usize| query.rows.get(input).is_none_or(|r| *r == Rows::Constant);
        let apart = along(0, 1) && constant(1) && constant(2) && along(3, 2) && along(4, 0);
        if apart && !self.quantized { query.all(Rows::along(2)) } else { query.default_answer() }
    }

    fn takes_epilogue(&self) -> bool {
        // What it stores it also reads again.
        false
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let inputs = (recorder.input(0)?.clone(), recorder.input(1)?.clone(), recorder.input(3)?.clone());
        let (x, weights, initial) = inputs;
        let (extra, lengths) = (recorder.optional_input(2).cloned(), recorder.input(4)?.clone());
        let e = self.extents(&x.shape)?;
        if recorder.output_count() < 2 || initial.storage != x.storage {
            return Err(Error::unimplemented("a recurrence without its last states, or with states of another type"));
        }
        let (y, last) = (recorder.output(0).clone(), recorder.output(1).clone());
        let spare = match self.kind {
            Kind::Gru => 2 * e.directions * e.batch * e.hidden,
            _ if self.quantized => e.directions * e.batch * e.hidden,
            _ => 1,
        };
        let scratch = recorder.scratch(Shape::new(vec![spare]), DType::F32, Storage::F32);
        let mut params = kernel::Params {
            steps: word(e.steps)?,
            batch: word(e.batch)?,
            directions: word(e.directions)?,
            hidden: word(e.hidden)?,
            backward: self.backward.iter().enumerate().map(|(d, back)| u32::from(*back) << d).sum(),
            has_extra: u32::from(extra.is_some()),
            coupled: u32::from(self.coupled),
            clip: self.clip,
            ..kernel::Params::default()
        };
        for (direction, activations) in self.activations.iter().enumerate() {
            for (which, activation) in activations.iter().enumerate() {
                params.functions[direction][which] = activation.code();
                params.alphas[direction][which] = activation.alpha;
                params.betas[direction][which] = activation.beta;
            }
        }
        let groups = if self.quantized { e.directions } else { e.batch * e.directions };
        let size = if recorder.profile.family == Family::Gpu { 256 } else { 64 };
        let work = Work {
            shader: &kernel::SHADER,
            defines: &[
                Define::Scalar("In", x.storage),
                Define::Scalar("Weight", weights.storage),
                Define::Scalar("Index", lengths.storage),
                Define::Const("KIND", self.kind as u32),
                Define::Const("QUANTIZED", u32::from(self.quantized)),
                Define::Const("SIZE", size),
            ],
            // Without extra weights something must be bound all the same.
            buffers: &[
                x.buffer,
                weights.buffer,
                extra.map_or(weights.buffer, |e| e.buffer),
                initial.buffer,
                lengths.buffer,
                y.buffer,
                last.buffer,
                scratch.buffer,
            ],
            params: params.words(),
            groups: linear_groups(groups, 1, recorder.profile.max_workgroups),
        };
        recorder.dispatch_plain(&work, y.storage)
    }
}
