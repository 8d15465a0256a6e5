//! GatherElements: for each index, the element of its own line that it names.

use std::sync::Arc;

use super::arguments::{around, axis_of, optional, place, required};
use super::registry::OpSpec;
use super::sketch::Sketch;
use super::words::word;
use crate::engine::ir::{Define, Expansion, Fact, Op, Profile, Recorder, Rows, RowsQuery, Wire, Work, linear_groups};
use crate::engine::kernels::gather_elements as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

pub(super) fn gather_elements(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(GatherElements { axis: spec.attributes.int_or("axis", 0)? }))
}

#[derive(Debug)]
struct GatherElements {
    axis: i64,
}

impl GatherElements {
    /// Checks that every line of indices has a line of data.
    fn check(&self, data: &[usize], indices: &[usize]) -> Result<usize> {
        let axis = axis_of(self.axis, data.len())?;
        let inside = |a: usize| a == axis || indices[a] <= data[a];
        if data.len() != indices.len() || !(0..data.len()).all(inside) {
            let (data, indices) = (Shape::from(data), Shape::from(indices));
            return Err(Error::invalid_argument(format!("indices {indices} into data {data} along axis {axis}")));
        }
        Ok(axis)
    }
}

impl Op for GatherElements {
    fn name(&self) -> &'static str {
        "GatherElements"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        if let (Some(data), Some(indices)) = (data.shape(), indices.shape()) {
            self.check(&data, &indices)?;
        }
        Ok(vec![Fact::open(data.dtype, indices.dims.clone())])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        let axis = self.check(data.shape(), indices.shape())?;
        let strides = data.shape().strides();
        let mut sources = Vec::with_capacity(indices.shape().elements());
        for (at, index) in indices.to_i64s()?.into_iter().enumerate() {
            let mut rest = at;
            let mut source = place(index, data.shape()[axis])? * strides[axis];
            for (a, extent) in indices.shape().iter().enumerate().rev() {
                if a != axis {
                    source += rest % extent * strides[a];
                }
                rest /= extent;
            }
            sources.push(source);
        }
        let shape = indices.shape().clone();
        if data.dtype() == DType::String {
            let strings = sources.iter().map(|s| data.strings()[*s].clone()).collect();
            return Ok(vec![Tensor::from_strings(shape, strings)?]);
        }
        let size = data.dtype().bytes();
        let bytes: Vec<u8> = sources.iter().flat_map(|s| &data.bytes()[s * size..(s + 1) * size]).copied().collect();
        Ok(vec![Tensor::from_bytes(data.dtype(), shape, bytes)?])
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        let (Some(data), Some(indices)) = (required(inputs, 0)?.shape(), required(inputs, 1)?.shape()) else {
            return Ok(None);
        };
        let axis = self.check(&data, &indices)?;
        let cut: Vec<usize> = (0..data.rank()).filter(|a| *a != axis && data[*a] != indices[*a]).collect();
        if cut.is_empty() {
            return Ok(None);
        }
        // Lines of data that no index stands for are cut off first.
        let mut sketch = Sketch::new();
        let mut source = Wire::Input(0);
        for a in cut {
            source = sketch.slice(&source, a, 0, indices[a])?;
        }
        let op: Arc<dyn Op> = Arc::new(Self { axis: axis as i64 });
        let y = sketch.push(op, &[&source, &Wire::Input(1)]);
        Ok(Some(sketch.finish([y])))
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        match (axis_of(self.axis, rank), query.rows) {
            (Ok(axis), [Rows::LEADING, Rows::LEADING]) if axis != 0 => query.all(Rows::LEADING),
            _ => query.default_answer(),
        }
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (data, indices) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let output = recorder.output(0).clone();
        let axis = self.check(&data.shape, &indices.shape)?;
        let [_, count, inner] = around(&indices.shape, axis);
        let total = output.shape.elements();
        let params = kernel::Params {
            total: word(total)?,
            extent: word(data.shape[axis])?,
            count: word(count)?,
            inner: word(inner)?,
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", data.storage), Define::Scalar("Index", indices.storage)],
            buffers: &[data.buffer, indices.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}
