//! Reductions along axes, global pools among them.

use std::sync::Arc;

use super::arguments::{axis_of, known, known_ints, optional, required};
use super::broadcast::{Numbers, wrapped};
use super::patches::rows_by_vectors;
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{
    BufferId, Class, Define, Fact, Family, Op, Profile, Recorder, Rows, RowsQuery, Storage, Work, linear_groups,
};
use crate::engine::kernels::{reduce, reduce4};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Reduced extents from which a GPU uses a workgroup for each value.
const GROUP_FROM: usize = 256;

/// Values that keep a CPU's cores and lanes busy: where there are fewer, long rows are cut.
const VALUES_MIN: usize = 128;
/// Elements that a part of a row has at least.
const PART_MIN: usize = 256;
/// Elements of all rows from which that repays a second dispatch.
const CUT_MIN: usize = 16_384;

/// Elements from which rows that share vectors of four with their neighbours are read by vectors.
const MIN_TIGHT: usize = 16;

/// How values become one; `mode` is what `shaders/reduce.wgsl` calls it.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    mode: u32,
    fold: fn(&mut dyn Iterator<Item = f64>, usize) -> f64,
}

fn largest(values: &mut dyn Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}

fn smallest(values: &mut dyn Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) })
}

fn log_sum_exp(values: &mut dyn Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let shift = largest(&mut values.iter().copied());
    if shift.is_infinite() {
        return values.iter().map(|v| v.exp()).sum::<f64>().ln();
    }
    values.iter().map(|v| (v - shift).exp()).sum::<f64>().ln() + shift
}

static KINDS: &[Kind] = &[
    Kind { name: "ReduceSum", mode: 0, fold: |v, _| v.sum() },
    Kind { name: "ReduceMean", mode: 1, fold: |v, n| v.sum::<f64>() / n as f64 },
    Kind { name: "ReduceMax", mode: 2, fold: |v, _| largest(v) },
    Kind { name: "ReduceMin", mode: 3, fold: |v, _| smallest(v) },
    Kind { name: "ReduceProd", mode: 4, fold: |v, _| v.product() },
    Kind { name: "ReduceL1", mode: 5, fold: |v, _| v.map(f64::abs).sum() },
    Kind { name: "ReduceL2", mode: 6, fold: |v, _| v.map(|x| x * x).sum::<f64>().sqrt() },
    Kind { name: "ReduceLogSum", mode: 7, fold: |v, _| v.sum::<f64>().ln() },
    Kind { name: "ReduceSumSquare", mode: 8, fold: |v, _| v.map(|x| x * x).sum() },
    Kind { name: "ReduceLogSumExp", mode: 9, fold: |v, _| log_sum_exp(v) },
    Kind { name: "GlobalAveragePool", mode: 1, fold: |v, n| v.sum::<f64>() / n as f64 },
    Kind { name: "GlobalMaxPool", mode: 2, fold: |v, _| largest(v) },
];

/// Any operator of [`KINDS`].
pub(super) fn reduce(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let kind = KINDS.iter().find(|k| k.name == spec.name);
    let kind = kind.ok_or_else(|| Error::internal(format!("{} is no reduction", spec.name)))?;
    Ok(Arc::new(Reduce {
        kind,
        // Axes are an attribute in older opsets, an input in newer ones.
        axes: spec.attributes.ints("axes")?,
        keep: spec.attributes.flag_or("keepdims", true)?,
        none_is_none: spec.attributes.flag_or("noop_with_empty_axes", false)?,
        global: spec.name.starts_with("Global"),
    }))
}

#[derive(Debug)]
pub(super) struct Reduce {
    kind: &'static Kind,
    axes: Option<Vec<i64>>,
    /// Reduced axes stay with extent 1.
    keep: bool,
    /// No axes means that nothing is reduced, rather than everything.
    none_is_none: bool,
    /// All axes from 2 on.
    global: bool,
}

impl Reduce {
    /// The reduced axes, ascending; `None` while they are not known.
    fn axes(&self, facts: &[Option<&Fact>], rank: usize) -> Result<Option<Vec<usize>>> {
        if self.global {
            return Ok(Some((2..rank).collect()));
        }
        let given = match known_ints(facts, 1)? {
            Some(None) => return Ok(None),
            Some(Some(axes)) => Some(axes),
            None => self.axes.clone(),
        };
        let mut axes = match given.filter(|a| !a.is_empty()) {
            Some(axes) => axes.iter().map(|a| axis_of(*a, rank)).collect::<Result<Vec<_>>>()?,
            None if self.none_is_none => Vec::new(),
            None => (0..rank).collect(),
        };
        axes.sort_unstable();
        axes.dedup();
        Ok(Some(axes))
    }

    /// Whether it is the reduction of this name along the last axis and keeps that.
    pub(super) fn reduces_rows(&self, name: &str, facts: &[Option<&Fact>]) -> bool {
        let rank = optional(facts, 0).and_then(Fact::rank).unwrap_or(0);
        let axes = self.axes(facts, rank).ok().flatten();
        self.kind.name == name && self.keep && rank > 0 && axes.is_some_and(|axes| axes == [rank - 1])
    }

    fn dims(&self, dims: &[Dim], axes: &[usize]) -> Vec<Dim> {
        let kept = dims.iter().enumerate().filter_map(|(axis, dim)| match axes.contains(&axis) {
            false => Some(dim.clone()),
            true if self.keep => Some(Dim::Fixed(1)),
            true => None,
        });
        kept.collect()
    }
}

/// Extents and strides of some axes of a row-major shape, neighbours joined.
fn collapsed(shape: &[usize], chosen: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let strides = Shape::from(shape).strides();
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for axis in (0..shape.len()).filter(|a| chosen(*a) && shape[*a] != 1) {
        match axes.last_mut() {
            Some((extent, stride)) if *stride == shape[axis] * strides[axis] => {
                *extent *= shape[axis];
                *stride = strides[axis];
            }
            _ => axes.push((shape[axis], strides[axis])),
        }
    }
    axes
}

/// Element offsets of all coordinates over `axes`, in order.
fn offsets(axes: &[(usize, usize)]) -> Vec<usize> {
    let mut offsets = vec![0];
    for (extent, stride) in axes {
        offsets = offsets.iter().flat_map(|base| (0..*extent).map(move |i| base + i * stride)).collect();
    }
    offsets
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let Some(dims) = &input.dims else { return Ok(vec![Fact::of_unknown_rank(input.dtype)]) };
        if self.global && dims.len() < 2 {
            return Err(Error::invalid_argument(format!("{} of rank {}", self.kind.name, dims.len())));
        }
        let dims = match self.axes(inputs, dims.len())? {
            Some(axes) => Some(self.dims(dims, &axes)),
            None if self.keep => Some(vec![Dim::Unknown; dims.len()]),
            None => None,
        };
        Ok(vec![Fact::open(input.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let shape = input.shape();
        let axes = self.axes(&facts, shape.rank())?.unwrap_or_default();
        let dims = self.dims(&super::arguments::fixed(shape), &axes);
        let output = Shape::new(dims.iter().filter_map(Dim::fixed).collect::<Vec<_>>());
        let (kept, reduced) = (collapsed(shape, |a| !axes.contains(&a)), collapsed(shape, |a| axes.contains(&a)));
        let nothing = output.elements() == 0 || axes.iter().any(|a| shape[*a] == 0);
        let reduced = if nothing { Vec::new() } else { offsets(&reduced) };
        let bases = if output.elements() == 0 { Vec::new() } else { offsets(&kept) };
        if input.dtype().is_integer() && matches!(self.kind.mode, 0 | 2 | 3 | 4) {
            return Ok(vec![self.whole(input, output, &bases, &reduced)?]);
        }
        let values = input.to_f64s()?;
        let fold =
            |base: &usize| (self.kind.fold)(&mut reduced.iter().map(|offset| values[base + offset]), reduced.len());
        let mut folded: Vec<f64> = bases.iter().map(fold).collect();
        if input.dtype() == DType::Bool {
            // The largest of no bools is false, not the true that minus infinity would be.
            folded.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        }
        Ok(vec![Tensor::from_f64s(input.dtype(), output, &folded)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        let Ok(Some(axes)) = self.axes(query.inputs, rank) else { return query.default_answer() };
        let answers = query.except_axes(&axes);
        let moved = |rows: Rows| match rows {
            Rows::Along { axis, .. } if !self.keep => rows.moved_to(axis - axes.iter().filter(|a| **a < axis).count()),
            other => other,
        };
        answers.into_iter().map(moved).collect()
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn channel_axis(&self, output_rank: usize) -> Option<usize> {
        (self.keep && output_rank >= 2).then_some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<String> {
        let dtype = required(inputs, 0).ok()?.dtype;
        let extreme = matches!(self.kind.mode, 2 | 3);
        // Sums, products, sums of sizes and of squares.
        let sums = matches!(self.kind.mode, 0 | 4 | 5 | 8);
        let class = profile.storage(dtype)?.class();
        let runs = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => true,
            // Roots and logarithms are made of 32-bit floats.
            DType::F64 => extreme || sums || self.kind.mode == 1,
            // Roots, logarithms and means of integers are rounded in ways of their own.
            DType::I32 | DType::U32 => extreme || sums,
            DType::I64 | DType::U64 if class.is_wide() => extreme || sums,
            DType::Bool => extreme,
            // What is as large as an element fits where elements do.
            other => extreme && other.is_integer(),
        };
        (!runs).then(|| format!("a reduction of {dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let (input, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let shape = &input.shape;
        let Some(axes) = self.axes(&facts, shape.rank())? else {
            return Err(Error::unimplemented("axes that depend on data"));
        };
        let kept = collapsed(shape, |a| !axes.contains(&a));
        let reduced = collapsed(shape, |a| axes.contains(&a));
        if kept.len() > 4 || reduced.len() > 4 || axes.iter().any(|a| shape[*a] == 0) {
            return Err(Error::unimplemented("a reduction over more than four separate axes, or over none at all"));
        }
        let count: usize = reduced.iter().map(|(n, _)| n).product();
        let quads = |axes: &[(usize, usize)]| -> Result<([u32; 4], [u32; 4])> {
            let (mut extents, mut strides) = ([1; 4], [0; 4]);
            for (position, (extent, stride)) in axes.iter().enumerate() {
                let at = 4 - axes.len() + position;
                (extents[at], strides[at]) = (word(*extent)?, word(*stride)?);
            }
            Ok((extents, strides))
        };
        let (kept_extents, kept_strides) = quads(&kept)?;
        let (reduced_extents, reduced_strides) = quads(&reduced)?;
        let channel = self.channel_axis(output.shape.rank());
        let total = output.shape.elements();
        let channel_inner = channel.map_or(Ok(1), |a| word(output.shape[a + 1..].iter().product()))?;
        let channels = channel.map_or(Ok(1), |a| word(output.shape[a]))?;
        let floats = [input.storage, output.storage] == [Storage::F32; 2] && self.kind.mode <= 3;
        let rows = match (&kept[..], &reduced[..]) {
            ([], [(_, 1)]) => true,
            ([(_, stride)], [(n, 1)]) => stride == n,
            _ => false,
        };
        let wanted = if total * count >= CUT_MIN { VALUES_MIN / total } else { 1 };
        let parts = wanted.min(count / PART_MIN).max(1);
        let fits = count.is_multiple_of(4) || count >= MIN_TIGHT;
        if floats && rows && fits && rows_by_vectors(recorder, total * parts, count / parts) {
            return self.record_rows(recorder, input.buffer, count, parts, [channel_inner, channels]);
        }
        let params = reduce::Params {
            kept: word(total)?,
            reduced: word(count)?,
            channel_inner,
            channels,
            kept_extents,
            kept_strides,
            reduced_extents,
            reduced_strides,
        };
        let grouped = recorder.profile.family == Family::Gpu && count >= GROUP_FROM;
        recorder.dispatch(&Work {
            shader: &reduce::SHADER,
            defines: &[
                Define::Scalar("In", input.storage),
                Define::Const("MODE", self.kind.mode),
                Define::Const("GROUP", u32::from(grouped)),
                Define::Const("FLOAT", u32::from(matches!(input.storage.class(), Class::F32 | Class::F64))),
            ],
            buffers: &[input.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, if grouped { 1 } else { 64 }, recorder.profile.max_workgroups),
        })
    }
}

impl Reduce {
    /// Adds the dispatches that reduce rows of `count` floats that lie side by side in `x`, in `parts` parts each and then those.
    fn record_rows(
        &self,
        recorder: &mut Recorder<'_>,
        x: BufferId,
        count: usize,
        parts: usize,
        [channel_inner, channels]: [u32; 2],
    ) -> Result<()> {
        let (total, group) = (recorder.output(0).shape.elements(), recorder.profile.subgroup.unwrap_or(8));
        let max_groups = recorder.profile.max_workgroups;
        // A mean is a share of a sum.
        let (mode, divisor) = if self.kind.mode == 1 { (0, count as f32) } else { (self.kind.mode, 1.0) };
        let part = count.div_ceil(parts).next_multiple_of(4);
        let parts = count.div_ceil(part);
        let defines = [Define::Const("MODE", mode), Define::Const("GROUP", group)];
        let stage = |values: usize, count: usize, part: usize, parts: usize| -> Result<reduce4::Params> {
            let [values, count, part, parts] = [word(values)?, word(count)?, word(part)?, word(parts)?];
            Ok(reduce4::Params { values, count, part, parts, channel_inner: 1, channels: 1, divisor: 1.0, unused: 0 })
        };
        let (mut x, mut count) = (x, count);
        if parts > 1 {
            let partial = recorder.scratch(Shape::from([total, parts]), DType::F32, Storage::F32).buffer;
            let params = stage(total * parts, count, part, parts)?;
            let work = Work {
                shader: &reduce4::SHADER,
                defines: &defines,
                buffers: &[x, partial],
                params: params.words(),
                groups: linear_groups(total * parts, group, max_groups),
            };
            recorder.dispatch_plain(&work, Storage::F32)?;
            (x, count) = (partial, parts);
        }
        recorder.dispatch(&Work {
            shader: &reduce4::SHADER,
            defines: &defines,
            buffers: &[x, recorder.output(0).buffer],
            params: reduce4::Params { channel_inner, channels, divisor, ..stage(total, count, count, 1)? }.words(),
            groups: linear_groups(total, group, max_groups),
        })
    }

    /// Integers are summed and compared as such.
    fn whole(&self, input: &Tensor, output: Shape, bases: &[usize], reduced: &[usize]) -> Result<Tensor> {
        let Numbers::Whole(values) = Numbers::of(input)? else {
            return Err(Error::internal("whole numbers that are not"));
        };
        // Flipping the top bit turns the unsigned order into the signed one.
        let flip = if input.dtype() == DType::U64 { i64::MIN } else { 0 };
        let fold = |base: &usize| {
            let mut terms = reduced.iter().map(|offset| values[base + offset]);
            match self.kind.mode {
                0 => terms.fold(0, i64::wrapping_add),
                2 => terms.map(|v| v ^ flip).max().unwrap_or(i64::MIN) ^ flip,
                3 => terms.map(|v| v ^ flip).min().unwrap_or(i64::MAX) ^ flip,
                _ => terms.by_ref().fold(1, i64::wrapping_mul),
            }
        };
        wrapped(input.dtype(), output, &bases.iter().map(fold).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::{Attribute, Attributes};

    #[test]
    fn separate_axes_are_reduced_together() {
        let mut attributes = Attributes::new();
        attributes.set("axes", Attribute::Ints(vec![0, -1]));
        attributes.set("keepdims", Attribute::Int(0));
        let spec = OpSpec { domain: "", name: "ReduceSum", opset: 11, attributes: &attributes, inputs: 1, outputs: 1 };
        let input = Tensor::from_vec([2, 3, 2], (0..12).map(|v| v as f32).collect()).expect("twelve");
        let output = reduce(&spec).expect("it is there").evaluate(&[Some(&input)]).expect("it sums");
        assert_eq!(output[0].shape().dims(), [3]);
        assert_eq!(output[0].values::<f32>().expect("f32").as_ref(), [14.0, 22.0, 30.0]);
    }
}
