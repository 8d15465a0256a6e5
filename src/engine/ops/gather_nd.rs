//! GatherND: blocks of elements by tuples of indices.

use std::sync::Arc;

use super::arguments::{optional, place, required};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::gather_nd as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Axes that the kernels follow a tuple of indices through.
pub(super) const MAX_TUPLE: usize = 8;

pub(super) fn gather_nd(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let batch_dims = usize::try_from(spec.attributes.int_or("batch_dims", 0)?);
    let batch_dims = batch_dims.map_err(|_| Error::invalid_argument("batch_dims is negative"))?;
    Ok(Arc::new(GatherNd { batch_dims }))
}

/// The first `batch_dims` axes belong to data and indices alike.
#[derive(Debug)]
struct GatherNd {
    batch_dims: usize,
}

/// How the shapes of one instance go together.
struct Plan {
    batch: usize,
    tuples: usize,
    /// Extents of the axes that tuples go through.
    extents: Vec<usize>,
    block: usize,
    output: Shape,
}

impl GatherNd {
    fn plan(&self, data: &[usize], indices: &[usize]) -> Result<Plan> {
        let b = self.batch_dims;
        let wrong = || {
            let (data, indices) = (Shape::from(data), Shape::from(indices));
            Error::invalid_argument(format!("indices {indices} into data {data} with {b} batch axes"))
        };
        let (width, outer) = indices.split_last().ok_or_else(wrong)?;
        if outer.len() < b || b + width > data.len() || data[..b] != outer[..b] {
            return Err(wrong());
        }
        let output: Vec<usize> = outer.iter().chain(&data[b + width..]).copied().collect();
        Ok(Plan {
            batch: data[..b].iter().product(),
            tuples: outer[b..].iter().product(),
            extents: data[b..b + width].to_vec(),
            block: data[b + width..].iter().product(),
            output: output.into(),
        })
    }
}

/// The extents of a tuple's axes as a kernel's parameter.
pub(super) fn tuple_extents(extents: &[usize]) -> Result<[[u32; 4]; 2]> {
    if extents.len() > MAX_TUPLE {
        return Err(Error::unimplemented(format!("tuples of {} indices", extents.len())));
    }
    let mut words = [[1; 4]; 2];
    for (axis, extent) in extents.iter().enumerate() {
        words[axis / 4][axis % 4] = word(*extent)?;
    }
    Ok(words)
}

/// The place that each tuple of indices names among all places of `extents`.
pub(super) fn tuple_places(indices: &[i64], extents: &[usize]) -> Result<Vec<usize>> {
    if extents.is_empty() {
        return Err(Error::invalid_argument("tuples without indices"));
    }
    let one = |tuple: &[i64]| {
        tuple.iter().zip(extents).try_fold(0, |at, (index, extent)| Ok(at * extent + place(*index, *extent)?))
    };
    indices.chunks(extents.len()).map(one).collect()
}

impl Op for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        if let (Some(shape), Some(indices)) = (data.shape(), indices.shape()) {
            return Ok(vec![Fact::of_shape(data.dtype, &self.plan(&shape, &indices)?.output)]);
        }
        let (Some(dims), Some(tuples)) = (&data.dims, &indices.dims) else {
            return Ok(vec![Fact::of_unknown_rank(data.dtype)]);
        };
        let Some((width, outer)) = tuples.split_last().and_then(|(w, outer)| Some((w.fixed()?, outer))) else {
            return Ok(vec![Fact::of_unknown_rank(data.dtype)]);
        };
        let rest = dims.get(self.batch_dims + width..).ok_or_else(|| {
            Error::invalid_argument(format!("tuples of {width} indices into data of {} axes", dims.len()))
        })?;
        let output: Vec<Dim> = outer.iter().chain(rest).cloned().collect();
        Ok(vec![Fact::new(data.dtype, output)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (data, indices) = (required(inputs, 0)?, required(inputs, 1)?);
        let plan = self.plan(data.shape(), indices.shape())?;
        let places = tuple_places(&indices.to_i64s()?, &plan.extents)?;
        let all: usize = plan.extents.iter().product();
        let start = |(tuple, place): (usize, &usize)| ((tuple / plan.tuples.max(1)) * all + place) * plan.block;
        let starts: Vec<usize> = places.iter().enumerate().map(start).collect();
        debug_assert!(plan.batch * plan.tuples == starts.len());
        if data.dtype() == DType::String {
            let strings = starts.iter().flat_map(|s| data.strings()[*s..s + plan.block].to_vec()).collect();
            return Ok(vec![Tensor::from_strings(plan.output, strings)?]);
        }
        let size = data.dtype().bytes();
        let bytes: Vec<u8> =
            starts.iter().flat_map(|s| &data.bytes()[s * size..(s + plan.block) * size]).copied().collect();
        Ok(vec![Tensor::from_bytes(data.dtype(), plan.output, bytes)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let both = [Rows::LEADING, Rows::LEADING];
        match query.rows {
            rows if rows == both && self.batch_dims > 0 => query.all(Rows::LEADING),
            [Rows::Constant, rows @ Rows::Along { axis, .. }] => {
                // The axis of the indices themselves is none of the output.
                let tuples = optional(query.inputs, 1).and_then(Fact::rank).unwrap_or(0);
                if axis + 1 < tuples { query.all(*rows) } else { query.default_answer() }
            }
            // Indices made from the batch's extent may point each row at itself.
            [Rows::Along { axis, per_row, outer: 1 }, Rows::Counted] if self.batch_dims == 0 => {
                let indices = optional(query.inputs, 1).and_then(|f| f.value.as_ref());
                let found = indices.and_then(|i| {
                    let (width, outer) = i.shape().split_last().filter(|(width, _)| axis < *width)?;
                    let own: Vec<i64> = i.to_i64s().ok()?.into_iter().skip(*axis).step_by(*width).collect();
                    query.rows_of_indices(&own, outer, *per_row)
                });
                found.map_or_else(|| query.default_answer(), |rows| query.all(rows))
            }
            _ => query.default_answer(),
        }
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (data, indices) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let output = recorder.output(0).clone();
        let plan = self.plan(&data.shape, &indices.shape)?;
        let total = output.shape.elements();
        let params = kernel::Params {
            total: word(total)?,
            tuples: word(plan.tuples)?,
            width: word(plan.extents.len())?,
            block: word(plan.block)?,
            places: word(plan.extents.iter().product())?,
            extents: tuple_extents(&plan.extents)?,
            ..kernel::Params::default()
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
