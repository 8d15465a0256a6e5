//! TopK: the largest or smallest elements along an axis, and where they are.

use std::sync::Arc;

use super::arguments::{around, axis_of, known, known_ints, optional, required};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Class, Define, Fact, Op, Profile, Recorder, Rows, RowsQuery, Storage, Work, linear_groups};
use crate::engine::kernels::top_k as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Extents up to which every element is compared with every other.
const DIRECT_UP_TO: usize = 1024;

pub(super) fn top_k(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(TopK {
        axis: spec.attributes.int_or("axis", -1)?,
        largest: spec.attributes.flag_or("largest", true)?,
        // An attribute before opset 10, input 1 since. Results are sorted whether asked for or not.
        count: spec.attributes.int("k")?,
    }))
}

#[derive(Debug)]
struct TopK {
    axis: i64,
    largest: bool,
    count: Option<i64>,
}

impl TopK {
    fn count(&self, inputs: &[Option<&Fact>]) -> Result<Option<usize>> {
        let given = match known_ints(inputs, 1)? {
            Some(None) => return Ok(None),
            Some(Some(k)) => k.first().copied(),
            None => self.count,
        };
        let k = given.ok_or_else(|| Error::invalid_argument("TopK without k"))?;
        usize::try_from(k).map(Some).map_err(|_| Error::invalid_argument(format!("TopK of {k}")))
    }

    /// Extents of the outputs.
    fn output(&self, shape: &[usize], count: usize) -> Result<(usize, Shape)> {
        let axis = axis_of(self.axis, shape.len())?;
        if count > shape[axis] {
            return Err(Error::invalid_argument(format!("the first {count} of {} entries", shape[axis])));
        }
        let mut output = shape.to_vec();
        output[axis] = count;
        Ok((axis, Shape::new(output)))
    }
}

impl Op for TopK {
    fn name(&self) -> &'static str {
        "TopK"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let (count, dims) = (self.count(inputs)?, input.dims.as_ref());
        let dims = match (dims, count) {
            (Some(dims), count) => {
                let axis = axis_of(self.axis, dims.len())?;
                if let (Some(shape), Some(count)) = (input.shape(), count) {
                    self.output(&shape, count)?;
                }
                let mut dims = dims.clone();
                dims[axis] = count.map_or(Dim::Unknown, Dim::Fixed);
                Some(dims)
            }
            (None, _) => None,
        };
        let places = Fact::open(DType::I64, dims.clone());
        Ok(vec![Fact::open(input.dtype, dims), places])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let count = self.count(&facts)?.unwrap_or(0);
        let (axis, output) = self.output(input.shape(), count)?;
        let [outer, extent, inner] = around(input.shape(), axis);
        let values = input.to_f64s()?;
        let whole = if input.dtype().is_float() || input.dtype() == DType::U64 { None } else { Some(input.to_i64s()?) };
        let size = input.dtype().bytes();
        let mut bytes = vec![0; output.elements() * size];
        let mut places = vec![0i64; output.elements()];
        for line in 0..outer * inner {
            let at = |i: usize| line / inner * extent * inner + line % inner + i * inner;
            let mut order: Vec<usize> = (0..extent).collect();
            order.sort_by(|a, b| {
                let (a, b) = (at(*a), at(*b));
                let ascending = match &whole {
                    Some(whole) => whole[a].cmp(&whole[b]),
                    None => values[a].total_cmp(&values[b]),
                };
                if self.largest { ascending.reverse() } else { ascending }
            });
            for (rank, place) in order.into_iter().take(count).enumerate() {
                let target = (line / inner * count + rank) * inner + line % inner;
                bytes[target * size..(target + 1) * size]
                    .copy_from_slice(&input.bytes()[at(place) * size..(at(place) + 1) * size]);
                places[target] = place as i64;
            }
        }
        Ok(vec![Tensor::from_bytes(input.dtype(), output.clone(), bytes)?, Tensor::from_vec(output, places)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn takes_epilogue(&self) -> bool {
        false
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        axis_of(self.axis, rank).map_or_else(|_| query.default_answer(), |axis| query.except_axes(&[axis]))
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<String> {
        let dtype = required(inputs, 0).ok()?.dtype;
        profile.storage(dtype).is_none().then(|| format!("{dtype} values stay on the host"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let (input, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let count = self.count(&facts)?.ok_or_else(|| Error::unimplemented("a k that depends on data"))?;
        let (axis, _) = self.output(&input.shape, count)?;
        let [outer, extent, inner] = around(&input.shape, axis);
        let lines = outer * inner;
        if lines * count == 0 {
            return Ok(());
        }
        let places = match recorder.output_count() {
            0 | 1 => recorder.scratch(output.shape.clone(), DType::I32, Storage::I32),
            _ => recorder.output(1).clone(),
        };
        let direct = extent <= DIRECT_UP_TO || count == extent;
        let class = match input.storage.class() {
            Class::F32 => 0,
            Class::I32 | Class::I64 => 1,
            Class::U32 | Class::U64 => 2,
            Class::F64 => return Err(Error::unimplemented("the order of f64 values has no kernel")),
        };
        let (key, bits) = if input.storage.bytes() == 8 { (Storage::U64, 64) } else { (Storage::U32, 32) };
        let found = recorder.scratch(Shape::new(vec![if direct { 2 } else { 2 * lines }]), DType::U64, key);
        let picked =
            recorder.scratch(Shape::new(vec![if direct { 1 } else { lines * count }]), DType::U32, Storage::U32);
        let params = kernel::Params {
            lines: word(lines)?,
            extent: word(extent)?,
            inner: word(inner)?,
            k: word(count)?,
            direct: u32::from(direct),
        };
        let most = recorder.profile.max_workgroups;
        let stages = if direct { 2..3 } else { 0..3 };
        for stage in stages {
            let compared = lines * if direct { extent } else { count };
            let work = Work {
                shader: &kernel::SHADER,
                defines: &[
                    Define::Scalar("In", input.storage),
                    Define::Scalar("Key", key),
                    Define::Scalar("Place", places.storage),
                    Define::Const("BITS", bits),
                    Define::Const("STAGE", stage),
                    Define::Const("CLASS", class),
                    Define::Const("SMALLEST", u32::from(!self.largest)),
                ],
                buffers: &[input.buffer, found.buffer, picked.buffer, output.buffer, places.buffer],
                params: params.words(),
                groups: if stage == 2 { linear_groups(compared, 64, most) } else { linear_groups(lines, 1, most) },
            };
            recorder.dispatch_plain(&work, output.storage)?;
        }
        Ok(())
    }
}
