//! DFT and STFT: discrete Fourier transforms of whole axes and of windows along a signal.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::arguments::{axis_of, known, optional, required, unknown};
use super::registry::OpSpec;
use super::windows::known_scalar;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Profile, Recorder, Rows, RowsQuery, Storage, Work, linear_groups};
use crate::engine::kernels::dft as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Transforms at concrete extents; named as `shaders/dft.wgsl` has it.
#[derive(Clone, Debug)]
struct Transform {
    output: Vec<usize>,
    count: usize,
    period: usize,
    taps: usize,
    inner: usize,
    in_parts: usize,
    frames: usize,
    outer_stride: usize,
    frame_stride: usize,
    tap_stride: usize,
    inverse: bool,
    /// Weights that the transform itself gives to its taps.
    weights: Option<Vec<f32>>,
}

impl Transform {
    fn out_parts(&self) -> usize {
        self.output.last().copied().unwrap_or(1)
    }

    fn scale(&self) -> f64 {
        if self.inverse { 1.0 / self.period.max(1) as f64 } else { 1.0 }
    }

    fn sign(&self) -> f64 {
        if self.inverse { 1.0 } else { -1.0 }
    }

    /// cos and sin of every angle there is, as pairs.
    fn turns(&self) -> Vec<f64> {
        (0..self.period)
            .flat_map(|j| {
                let (sine, cosine) = (TAU * j as f64 / self.period as f64).sin_cos();
                [cosine, sine]
            })
            .collect()
    }

    fn apply(&self, x: &[f64], window: Option<&[f64]>) -> Vec<f64> {
        let turns = self.turns();
        let own: Option<Vec<f64>> = self.weights.as_ref().map(|w| w.iter().map(|w| f64::from(*w)).collect());
        let window = window.or(own.as_deref());
        let element = |at: usize| {
            let (part, rest) = (at % self.out_parts(), at / self.out_parts());
            let (inner, row) = (rest % self.inner, rest / self.inner);
            let (bin, frame) = (row % self.count, row / self.count);
            let from = frame / self.frames * self.outer_stride
                + frame % self.frames * self.frame_stride
                + inner * self.in_parts;
            let term = |n: usize| {
                let from = from + n * self.tap_stride;
                let turn = bin * n % self.period;
                let (cosine, sine) = (turns[2 * turn], self.sign() * turns[2 * turn + 1]);
                let imaginary = if self.in_parts == 2 { x[from + 1] } else { 0.0 };
                let product =
                    if part == 0 { x[from] * cosine - imaginary * sine } else { x[from] * sine + imaginary * cosine };
                product * window.map_or(1.0, |w| w[n])
            };
            self.scale() * (0..self.taps).map(term).sum::<f64>()
        };
        (0..Shape::from(self.output.as_slice()).elements()).map(element).collect()
    }

    fn record(&self, recorder: &mut Recorder<'_>, window: Option<usize>) -> Result<()> {
        let (x, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let window = window.and_then(|i| recorder.optional_input(i)).map(|w| (w.buffer, w.storage));
        let has_window = window.is_some() || self.weights.is_some();
        let turns: Vec<u32> = self.turns().iter().map(|v| (*v as f32).to_bits()).collect();
        let turns = recorder.table(turns);
        let (window, storage) = match (window, &self.weights) {
            (Some(window), _) => window,
            (None, Some(weights)) => {
                let words: Vec<u32> = weights.iter().map(|w| w.to_bits()).collect();
                (recorder.table(words), Storage::F32)
            }
            (None, None) => (turns, Storage::F32),
        };
        let total = output.shape.elements();
        let params = kernel::Params {
            total: word(total)?,
            count: word(self.count)?,
            period: word(self.period)?,
            taps: word(self.taps)?,
            inner: word(self.inner)?,
            in_parts: word(self.in_parts)?,
            out_parts: word(self.out_parts())?,
            frames: word(self.frames)?,
            outer_stride: word(self.outer_stride)?,
            frame_stride: word(self.frame_stride)?,
            tap_stride: word(self.tap_stride)?,
            scale: self.scale() as f32,
            sign: self.sign() as f32,
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[
                Define::Scalar("In", x.storage),
                Define::Scalar("Win", storage),
                Define::Const("WINDOW", u32::from(has_window)),
            ],
            buffers: &[x.buffer, window, turns, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}

fn host_type(inputs: &[Option<&Fact>]) -> Option<String> {
    let dtype = optional(inputs, 0)?.dtype;
    (!matches!(dtype, DType::F32 | DType::F16)).then(|| format!("a transform of {dtype} values"))
}

fn facts_of(recorder: &Recorder<'_>) -> Vec<Option<Fact>> {
    (0..recorder.input_count()).map(|i| recorder.fact(i).cloned()).collect()
}

fn positive(value: i64, what: &str) -> Result<usize> {
    let value = usize::try_from(value).ok().filter(|v| *v > 0 && *v < 1 << 30);
    value.ok_or_else(|| Error::invalid_argument(format!("{what} should be at least 1")))
}

pub(super) fn dft(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    // The axis is an attribute before opset 20, an input since, and counts from the other end by default.
    let default = if spec.opset < 20 { 1 } else { -2 };
    Ok(Arc::new(Dft {
        axis: spec.attributes.int_or("axis", default)?,
        inverse: spec.attributes.flag_or("inverse", false)?,
        one_sided: spec.attributes.flag_or("onesided", false)?,
    }))
}

#[derive(Debug)]
struct Dft {
    axis: i64,
    inverse: bool,
    one_sided: bool,
}

impl Dft {
    fn axis(&self, inputs: &[Option<&Fact>], rank: usize) -> Result<Option<usize>> {
        let axis = match known_scalar(inputs, 2)? {
            Some(None) => return Ok(None),
            Some(Some(axis)) => axis,
            None => self.axis,
        };
        let axis = axis_of(axis, rank)?;
        if axis + 1 == rank {
            return Err(Error::invalid_argument("a transform along the axis of real and imaginary parts"));
        }
        Ok(Some(axis))
    }

    /// The transform at concrete extents; `None` while length or axis are not known.
    fn transform(&self, inputs: &[Option<&Fact>]) -> Result<Option<Transform>> {
        let Some(shape) = required(inputs, 0)?.shape() else { return Ok(None) };
        let (Some(axis), length) = (self.axis(inputs, shape.rank())?, known_scalar(inputs, 1)?) else {
            return Ok(None);
        };
        let in_parts = shape[shape.rank() - 1];
        if !(1..=2).contains(&in_parts) {
            return Err(Error::invalid_argument(format!("numbers of {in_parts} parts are neither real nor complex")));
        }
        let to_real = self.inverse && self.one_sided;
        let period = match length {
            Some(None) => return Ok(None),
            Some(Some(length)) => positive(length, "dft_length")?,
            None if to_real => (2 * shape[axis].saturating_sub(1)).max(1),
            None => shape[axis].max(1),
        };
        let half = period / 2 + 1;
        let count = if self.one_sided && !self.inverse { half } else { period };
        let taps = shape[axis].min(if to_real { half } else { period });
        // A real signal's spectrum is symmetric: what its first half says of the second is counted twice.
        let weights = to_real.then(|| {
            let alone = |n: usize| n == 0 || 2 * n == period;
            (0..taps).map(|n| if alone(n) { 1.0 } else { 2.0 }).collect()
        });
        let mut output = shape.dims().to_vec();
        output[axis] = count;
        output[shape.rank() - 1] = if to_real { 1 } else { 2 };
        let inner: usize = shape[axis + 1..shape.rank() - 1].iter().product();
        Ok(Some(Transform {
            output,
            count,
            period,
            taps,
            inner,
            in_parts,
            frames: 1,
            outer_stride: shape[axis..].iter().product(),
            frame_stride: 0,
            tap_stride: inner * in_parts,
            inverse: self.inverse,
            weights,
        }))
    }
}

impl Op for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        Ok(vec![match (self.transform(inputs)?, x.rank()) {
            (Some(transform), _) => Fact::of_shape(x.dtype, &transform.output),
            (None, Some(rank)) => Fact::new(x.dtype, unknown(rank)),
            (None, None) => Fact::of_unknown_rank(x.dtype),
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let transform = self.transform(&facts)?.ok_or_else(|| Error::internal("constants have values"))?;
        let x = required(inputs, 0)?;
        let values = transform.apply(&x.to_f64s()?, None);
        Ok(vec![Tensor::from_f64s(x.dtype(), transform.output, &values)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1, 2]
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        match self.axis(query.inputs, rank) {
            Ok(Some(axis)) => query.except_axes(&[axis, rank - 1]),
            _ => query.default_answer(),
        }
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        host_type(inputs)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts = facts_of(recorder);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let transform = self.transform(&facts)?;
        transform.ok_or_else(|| Error::unimplemented("a length or axis that depends on data"))?.record(recorder, None)
    }
}

pub(super) fn stft(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Stft { one_sided: spec.attributes.flag_or("onesided", true)? }))
}

/// A transform of each of the frames that start `frame_step` apart.
#[derive(Debug)]
struct Stft {
    one_sided: bool,
}

impl Stft {
    /// The transforms at concrete extents; `None` while step or length are not known.
    fn transform(&self, inputs: &[Option<&Fact>]) -> Result<Option<Transform>> {
        let Some(shape) = required(inputs, 0)?.shape() else { return Ok(None) };
        let step = known_scalar(inputs, 1)?.ok_or_else(|| Error::invalid_argument("STFT without a frame step"))?;
        let window = optional(inputs, 2).map(|w| w.shape().map(|s| s.elements()));
        let length = match (known_scalar(inputs, 3)?, window) {
            (Some(None), _) | (None, Some(None)) => return Ok(None),
            (Some(Some(length)), _) => positive(length, "frame_length")?,
            (None, Some(Some(length))) => length,
            (None, None) => return Err(Error::invalid_argument("STFT with neither window nor frame length")),
        };
        let Some(step) = step else { return Ok(None) };
        let step = positive(step, "frame_step")?;
        if window.flatten().is_some_and(|w| w != length) {
            return Err(Error::invalid_argument(format!("frames of {length} samples and a window of another length")));
        }
        let (batch, samples, in_parts) = match *shape.dims() {
            [batch, samples] => (batch, samples, 1),
            [batch, samples, parts @ 1..=2] => (batch, samples, parts),
            _ => return Err(Error::invalid_argument(format!("a signal of shape {shape}"))),
        };
        let room = samples.checked_sub(length);
        let room =
            room.ok_or_else(|| Error::invalid_argument(format!("{samples} samples do not fill a frame of {length}")))?;
        let frames = room / step + 1;
        let count = if self.one_sided { length / 2 + 1 } else { length };
        Ok(Some(Transform {
            output: vec![batch, frames, count, 2],
            count,
            period: length,
            taps: length,
            inner: 1,
            in_parts,
            frames,
            outer_stride: samples * in_parts,
            frame_stride: step * in_parts,
            tap_stride: in_parts,
            inverse: false,
            weights: None,
        }))
    }
}

impl Op for Stft {
    fn name(&self) -> &'static str {
        "STFT"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        Ok(vec![match self.transform(inputs)? {
            Some(transform) => Fact::of_shape(x.dtype, &transform.output),
            None => Fact::new(x.dtype, unknown(4)),
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let transform = self.transform(&facts)?.ok_or_else(|| Error::internal("constants have values"))?;
        let x = required(inputs, 0)?;
        let window = optional(inputs, 2).map(Tensor::to_f64s).transpose()?;
        let values = transform.apply(&x.to_f64s()?, window.as_deref());
        Ok(vec![Tensor::from_f64s(x.dtype(), transform.output, &values)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1, 3]
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        host_type(inputs)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts = facts_of(recorder);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let transform = self.transform(&facts)?;
        transform.ok_or_else(|| Error::unimplemented("frames that depend on data"))?.record(recorder, Some(2))
    }
}
