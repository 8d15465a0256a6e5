//! Local response normalisation across channels.

use std::sync::Arc;

use super::arguments::required;
use super::registry::OpSpec;
use super::words::{signed, word};
use crate::engine::ir::{Define, Fact, Op, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::lrn as kernel;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

pub(super) fn lrn(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let size = spec.attributes.int_or("size", 0)?;
    let size = usize::try_from(size).ok().filter(|s| *s > 0 && *s < 1 << 30);
    Ok(Arc::new(Lrn {
        size: size.ok_or_else(|| Error::invalid_argument("LRN needs a size of at least 1"))?,
        alpha: spec.attributes.float_or("alpha", 1e-4)?,
        beta: spec.attributes.float_or("beta", 0.75)?,
        bias: spec.attributes.float_or("bias", 1.0)?,
    }))
}

#[derive(Debug)]
struct Lrn {
    /// Channels summed over.
    size: usize,
    alpha: f32,
    beta: f32,
    bias: f32,
}

impl Lrn {
    /// Channels before and after the centre.
    fn reach(&self) -> (usize, usize) {
        ((self.size - 1) / 2, self.size / 2)
    }
}

impl Op for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        if input.rank().is_some_and(|r| r < 2) {
            return Err(Error::invalid_argument("LRN needs a channel axis"));
        }
        Ok(vec![Fact { value: None, ..input.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let shape = input.shape();
        let (channels, inner) = (shape[1], shape[2..].iter().product::<usize>());
        let values = input.to_f64s()?;
        let (before, after) = self.reach();
        let normal = values.iter().enumerate().map(|(at, value)| {
            let channel = at / inner % channels;
            let base = at - channel * inner;
            let near = channel.saturating_sub(before)..=(channel + after).min(channels - 1);
            let sum: f64 = near.map(|c| values[base + c * inner].powi(2)).sum();
            let scale = f64::from(self.alpha) / self.size as f64;
            value / (f64::from(self.bias) + scale * sum).powf(f64::from(self.beta))
        });
        Ok(vec![Tensor::from_f64s(input.dtype(), shape.clone(), &normal.collect::<Vec<_>>())?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (input, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let total = output.shape.elements();
        let (before, after) = self.reach();
        let params = kernel::Params {
            total: word(total)?,
            channels: signed(input.shape[1] as i64)?,
            inner: word(input.shape[2..].iter().product())?,
            before: signed(before as i64)?,
            after: signed(after as i64)?,
            scale: self.alpha / self.size as f32,
            beta: self.beta,
            bias: self.bias,
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", input.storage)],
            buffers: &[input.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}
