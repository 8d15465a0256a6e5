//! ReverseSequence: the first so many steps of each batch entry, backwards.

use std::sync::Arc;

use super::arguments::required;
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::reverse_sequence as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

pub(super) fn reverse_sequence(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let axis = |name: &str, default| {
        let axis = spec.attributes.int_or(name, default)?;
        usize::try_from(axis).map_err(|_| Error::invalid_argument(format!("{name} {axis}")))
    };
    let (time, batch) = (axis("time_axis", 0)?, axis("batch_axis", 1)?);
    if time == batch {
        return Err(Error::invalid_argument(format!("axis {time} as both time and batch")));
    }
    Ok(Arc::new(ReverseSequence { time, batch }))
}

#[derive(Debug)]
struct ReverseSequence {
    time: usize,
    batch: usize,
}

impl ReverseSequence {
    fn check(&self, dims: &[usize], lengths: usize) -> Result<()> {
        if self.time.max(self.batch) >= dims.len() || dims[self.batch] != lengths {
            return Err(Error::invalid_argument(format!(
                "{lengths} lengths for axes {} (time) and {} (batch) of {dims:?}",
                self.time, self.batch
            )));
        }
        Ok(())
    }
}

impl Op for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (input, lengths) = (required(inputs, 0)?, required(inputs, 1)?);
        if let (Some(shape), Some(lengths)) = (input.shape(), lengths.shape()) {
            self.check(&shape, lengths.elements())?;
        }
        Ok(vec![Fact { value: None, ..input.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (input, lengths) = (required(inputs, 0)?, required(inputs, 1)?.to_i64s()?);
        let shape = input.shape();
        self.check(shape, lengths.len())?;
        let strides = shape.strides();
        let (time_stride, batch_stride) = (strides[self.time], strides[self.batch]);
        let source = |at: usize| {
            let time = at / time_stride % shape[self.time];
            let length = lengths[at / batch_stride % shape[self.batch]].clamp(0, shape[self.time] as i64) as usize;
            if time < length { at - time * time_stride + (length - 1 - time) * time_stride } else { at }
        };
        let sources = (0..shape.elements()).map(source);
        if input.dtype() == DType::String {
            let strings = sources.map(|s| input.strings()[s].clone()).collect();
            return Ok(vec![Tensor::from_strings(shape.clone(), strings)?]);
        }
        let size = input.dtype().bytes();
        let bytes: Vec<u8> = sources.flat_map(|s| &input.bytes()[s * size..(s + 1) * size]).copied().collect();
        Ok(vec![Tensor::from_bytes(input.dtype(), shape.clone(), bytes)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        match query.rows {
            [Rows::Along { axis, per_row: 1, outer: 1 }, Rows::LEADING] if *axis == self.batch => {
                query.all(query.rows[0])
            }
            _ => query.except_axes(&[self.time, self.batch]),
        }
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (input, lengths) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let output = recorder.output(0).clone();
        let (shape, total) = (&input.shape, output.shape.elements());
        let (first, second) = (self.time.min(self.batch), self.time.max(self.batch));
        let params = kernel::Params {
            total: word(total)?,
            first: word(shape[first])?,
            middle: word(shape[first + 1..second].iter().product())?,
            second: word(shape[second])?,
            inner: word(shape[second + 1..].iter().product())?,
            time_first: u32::from(self.time < self.batch),
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", input.storage), Define::Scalar("Index", lengths.storage)],
            buffers: &[input.buffer, lengths.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}
