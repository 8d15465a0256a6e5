//! TensorScatter: a cache of keys or values with new entries written at each row's own place.

use std::sync::Arc;

use super::arguments::{axis_of, optional, required};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Recorder, Rows, RowsQuery, Storage, Work, linear_groups};
use crate::engine::kernels::tensor_scatter as kernel;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

pub(super) fn tensor_scatter(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let circular = match spec.attributes.string_or("mode", "linear")?.as_str() {
        "linear" => false,
        "circular" => true,
        other => return Err(Error::invalid_argument(format!("TensorScatter mode {other:?}"))),
    };
    Ok(Arc::new(TensorScatter { axis: spec.attributes.int_or("axis", -2)?, circular }))
}

/// Inputs: the cache, the update, and the first place of each row of axis 0, 0 if left out.
#[derive(Debug)]
struct TensorScatter {
    axis: i64,
    circular: bool,
}

/// Extents: rows, what lies between them and the axis, the axis, the update's, and what lies behind.
struct Extents {
    outer: usize,
    extent: usize,
    length: usize,
    inner: usize,
}

impl TensorScatter {
    fn extents(&self, cache: &Shape, update: &Shape) -> Result<Extents> {
        let axis = axis_of(self.axis, cache.rank())?;
        let same = |a: usize| a == axis || cache[a] == update[a];
        let fits = axis > 0 && update.rank() == cache.rank() && (0..cache.rank()).all(same);
        if !fits || update[axis] > cache[axis] {
            return Err(Error::invalid_argument(format!("an update {update} of a cache {cache} along axis {axis}")));
        }
        Ok(Extents {
            outer: cache[1..axis].iter().product(),
            extent: cache[axis],
            length: update[axis],
            inner: cache[axis + 1..].iter().product(),
        })
    }
}

impl Op for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (cache, update) = (required(inputs, 0)?, required(inputs, 1)?);
        if cache.dtype != update.dtype {
            return Err(Error::invalid_argument(format!("{} values for a cache of {}", update.dtype, cache.dtype)));
        }
        if let (Some(cache), Some(update)) = (cache.shape(), update.shape()) {
            self.extents(&cache, &update)?;
        }
        Ok(vec![Fact { value: None, ..cache.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (cache, update) = (required(inputs, 0)?, required(inputs, 1)?);
        let e = self.extents(cache.shape(), update.shape())?;
        let starts = optional(inputs, 2).map(Tensor::to_i64s).transpose()?;
        let bytes = e.inner * cache.dtype().bytes();
        let mut result = cache.bytes().to_vec();
        for (row, block) in update.bytes().chunks((e.length * bytes).max(1)).enumerate() {
            let start = starts.as_ref().map_or(Some(&0), |s| s.get(row / e.outer.max(1)));
            let start = *start.ok_or_else(|| Error::invalid_argument("not every row has a place"))?;
            for (step, entry) in block.chunks(bytes.max(1)).enumerate() {
                let mut along = start.saturating_add(step as i64);
                if self.circular {
                    along = along.rem_euclid(e.extent as i64);
                }
                if let Some(along) = usize::try_from(along).ok().filter(|a| *a < e.extent) {
                    let at = (row * e.extent + along) * bytes;
                    result[at..at + bytes].copy_from_slice(entry);
                }
            }
        }
        Ok(vec![Tensor::from_bytes(cache.dtype(), cache.shape().clone(), result)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let all = query.rows.iter().all(|r| *r == Rows::LEADING);
        if all { query.all(Rows::LEADING) } else { query.default_answer() }
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (cache, update) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let output = recorder.output(0).clone();
        let e = self.extents(&cache.shape, &update.shape)?;
        let start = recorder.optional_input(2).cloned();
        let (buffer, storage) = match &start {
            Some(start) => (start.buffer, start.storage),
            // Something must be bound; it is not read.
            None => (recorder.table(vec![0]), Storage::I32),
        };
        let total = output.shape.elements();
        let params = kernel::Params {
            total: word(total)?,
            outer: word(e.outer)?,
            extent: word(e.extent)?,
            length: word(e.length)?,
            inner: word(e.inner)?,
            circular: u32::from(self.circular),
            has_start: u32::from(start.is_some()),
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", cache.storage), Define::Scalar("Index", storage)],
            buffers: &[cache.buffer, update.buffer, buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}
