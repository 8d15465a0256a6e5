//! Gather: entries of one axis by index.

use std::sync::Arc;

use super::arguments::{axis_of, optional, place, required};
use super::arranged;
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{
    Define, Fact, Fused, Node, Op, Recorder, Rows, RowsQuery, Storage, Strided, Surroundings, Work, linear_groups,
};
use crate::engine::kernels::gather;
use crate::error::Result;
use crate::tensor::{DType, Tensor};

pub(super) fn gather(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Gather { axis: spec.attributes.int_or("axis", 0)? }))
}

/// The axis is replaced by the axes of the indices.
#[derive(Debug)]
struct Gather {
    axis: i64,
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        let (Some(dims), Some(count)) = (&data.dims, &indices.dims) else {
            return Ok(vec![Fact::of_unknown_rank(data.dtype)]);
        };
        let axis = axis_of(self.axis, dims.len())?;
        if let (Some(extent), Some(values)) = (dims[axis].fixed(), &indices.value) {
            for index in values.to_i64s()? {
                place(index, extent)?;
            }
        }
        let dims = dims[..axis].iter().chain(count).chain(&dims[axis + 1..]).cloned();
        Ok(vec![Fact::new(data.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        let shape = data.shape();
        let axis = axis_of(self.axis, shape.rank())?;
        let places = indices.to_i64s()?.into_iter().map(|i| place(i, shape[axis])).collect::<Result<Vec<_>>>()?;
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        let dims: Vec<usize> =
            shape[..axis].iter().chain(indices.shape().iter()).chain(&shape[axis + 1..]).copied().collect();
        let blocks = (0..outer).flat_map(|o| places.iter().map(move |p| (o * shape[axis] + p) * inner));
        if data.dtype() == DType::String {
            let strings = blocks.flat_map(|at| data.strings()[at..at + inner].to_vec()).collect();
            return Ok(vec![Tensor::from_strings(dims, strings)?]);
        }
        let size = data.dtype().bytes();
        let mut bytes = Vec::with_capacity(outer * places.len() * inner * size);
        for at in blocks {
            bytes.extend_from_slice(&data.bytes()[at * size..(at + inner) * size]);
        }
        Ok(vec![Tensor::from_bytes(data.dtype(), dims, bytes)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let Some(rank) = optional(query.inputs, 0).and_then(Fact::rank) else { return query.default_answer() };
        let Ok(gathered) = axis_of(self.axis, rank) else { return query.default_answer() };
        let indices_rank = optional(query.inputs, 1).and_then(Fact::rank).unwrap_or(0);
        match query.rows {
            [rows @ Rows::Along { axis, .. }, Rows::Constant] if *axis != gathered => {
                let axis = if *axis < gathered { *axis } else { axis + indices_rank - 1 };
                query.all(rows.moved_to(axis))
            }
            [Rows::Constant, rows @ Rows::Along { .. }] => query.all(rows.moved_by(gathered)),
            // Indices made from the batch's extent may point each row at itself.
            [Rows::Along { axis, per_row, outer: 1 }, Rows::Counted] if *axis == gathered => {
                let indices = optional(query.inputs, 1).and_then(|f| f.value.as_ref());
                let values = indices.and_then(|i| i.to_i64s().ok().zip(Some(i.shape())));
                let found = values.and_then(|(values, shape)| query.rows_of_indices(&values, shape, *per_row));
                found.map_or_else(|| query.default_answer(), |rows| query.all(rows.moved_by(gathered)))
            }
            _ => query.default_answer(),
        }
    }

    fn arrangement(&self, _output: usize, inputs: &[Option<&Fact>]) -> Option<Strided> {
        let shape = optional(inputs, 0)?.shape()?;
        let axis = axis_of(self.axis, shape.rank()).ok()?;
        let index = optional(inputs, 1)?.value.as_ref().filter(|index| index.shape().elements() == 1)?;
        let [index] = index.to_i64s().ok()?[..] else { return None };
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        Some(Strided::new(place(index, shape[axis]).ok()? * inner, [(outer, shape[axis] * inner), (inner, 1)]))
    }

    fn fuse(&self, node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
        arranged::joined(node, around)
    }

    fn reads_packed(&self, i: usize) -> bool {
        i == 0
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (data, indices) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let output = recorder.output(0).clone();
        let axis = axis_of(self.axis, data.shape.rank())?;
        let total = output.shape.elements();
        let (bits, signed) = match data.storage {
            Storage::Packed(packing) => (packing.bits, packing.signed),
            _ => (0, false),
        };
        let params = gather::Params {
            total: word(total)?,
            extent: word(data.shape[axis])?,
            count: word(indices.shape.elements())?,
            inner: word(data.shape[axis + 1..].iter().product())?,
        };
        recorder.dispatch(&Work {
            shader: &gather::SHADER,
            defines: &[
                Define::Scalar("In", data.storage),
                Define::Scalar("Index", indices.storage),
                Define::Const("BITS", bits),
                Define::Const("SIGNED", u32::from(signed)),
            ],
            buffers: &[data.buffer, indices.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}
