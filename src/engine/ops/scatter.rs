//! Scatter, ScatterElements and ScatterND: data with updates written or joined into it at indices.

use std::sync::Arc;

use super::arguments::{axis_of, optional, place, required};
use super::box_steps::Axis;
use super::boxes::Copy;
use super::broadcast::{Numbers, wrapped};
use super::gather_nd::{tuple_extents, tuple_places};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Operand, Profile, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::{scatter as serial, scatter_parallel as parallel};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Axes that the kernels take.
const MAX_RANK: usize = 8;

/// What becomes of an element and its update; numbered as `shaders/scatter.wgsl` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Replace = 0,
    Add = 1,
    Multiply = 2,
    Larger = 3,
    Smaller = 4,
}

impl Mode {
    fn of(spec: &OpSpec<'_>) -> Result<Self> {
        Ok(match spec.attributes.string_or("reduction", "none")?.as_str() {
            "none" => Mode::Replace,
            "add" => Mode::Add,
            "mul" => Mode::Multiply,
            "max" => Mode::Larger,
            "min" => Mode::Smaller,
            other => return Err(Error::invalid_argument(format!("reduction {other:?}"))),
        })
    }

    /// Whether it can leave the range of the elements.
    fn computes(self) -> bool {
        matches!(self, Mode::Add | Mode::Multiply)
    }
}

pub(super) fn scatter_elements(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let name = if spec.name == "Scatter" { "Scatter" } else { "ScatterElements" };
    Ok(Arc::new(Scatter { name, mode: Mode::of(spec)?, axis: Some(spec.attributes.int_or("axis", 0)?) }))
}

pub(super) fn scatter_nd(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Scatter { name: "ScatterND", mode: Mode::of(spec)?, axis: None }))
}

/// Inputs: data, indices, updates. With an axis each update has an index along it; without, tuples of indices name blocks.
#[derive(Debug)]
struct Scatter {
    name: &'static str,
    mode: Mode,
    axis: Option<i64>,
}

impl Scatter {
    /// Checks the shapes of data, indices and updates.
    fn check(&self, data: &Shape, indices: &Shape, updates: &Shape) -> Result<()> {
        let fits = match self.axis {
            Some(axis) => {
                let axis = axis_of(axis, data.rank())?;
                let inside = |a: usize| a == axis || indices[a] <= data[a];
                indices == updates && indices.rank() == data.rank() && (0..data.rank()).all(inside)
            }
            None => match indices.split_last() {
                Some((width, outer)) if *width <= data.rank() => {
                    let wanted: Vec<usize> = outer.iter().chain(&data[*width..]).copied().collect();
                    updates[..] == wanted[..]
                }
                _ => false,
            },
        };
        if fits {
            return Ok(());
        }
        Err(Error::invalid_argument(format!("updates {updates} at indices {indices} of data {data}")))
    }

    /// Where each update goes, in order.
    fn targets(&self, data: &Shape, indices: &Tensor, updates: &Shape) -> Result<Vec<usize>> {
        let values = indices.to_i64s()?;
        let Some(axis) = self.axis else {
            let width = indices.shape().last().copied().unwrap_or(0);
            let block: usize = data[width..].iter().product();
            let places = tuple_places(&values, &data[..width])?;
            return Ok(places.iter().flat_map(|p| (0..block).map(move |i| p * block + i)).collect());
        };
        let (axis, strides) = (axis_of(axis, data.rank())?, data.strides());
        let mut targets = Vec::with_capacity(values.len());
        for (at, index) in values.into_iter().enumerate() {
            let mut rest = at;
            let mut target = place(index, data[axis])? * strides[axis];
            for (a, extent) in updates.iter().enumerate().rev() {
                if a != axis {
                    target += rest % extent * strides[a];
                }
                rest /= extent;
            }
            targets.push(target);
        }
        Ok(targets)
    }

    fn join<T: Number>(&self, old: T, update: T) -> T {
        match self.mode {
            Mode::Replace => update,
            Mode::Add => old.plus(update),
            Mode::Multiply => old.times(update),
            Mode::Larger => {
                if update > old {
                    update
                } else {
                    old
                }
            }
            Mode::Smaller => {
                if update < old {
                    update
                } else {
                    old
                }
            }
        }
    }

    /// Lines along an axis, or along the tuples, one invocation each.
    fn record_lines(&self, recorder: &mut Recorder<'_>, indices: &Operand, updates: &Operand) -> Result<()> {
        let output = recorder.output(0).clone();
        let (shape, strides) = (output.shape.clone(), output.shape.strides());
        let mut params =
            serial::Params { extents: [[1; 4]; 2], tuple_extents: [[1; 4]; 2], ..serial::Params::default() };
        let lines;
        if let Some(axis) = self.axis {
            let axis = axis_of(axis, shape.rank())?;
            if shape.rank() > MAX_RANK {
                return Err(Error::unimplemented(format!("updates of {} axes", shape.rank())));
            }
            let update_strides = updates.shape.strides();
            for a in (0..shape.rank()).filter(|a| *a != axis) {
                params.extents[a / 4][a % 4] = word(updates.shape[a])?;
                params.update_strides[a / 4][a % 4] = word(update_strides[a])?;
                params.data_strides[a / 4][a % 4] = word(strides[a])?;
            }
            params.count = word(updates.shape[axis])?;
            params.update_step = word(update_strides[axis])?;
            params.axis_extent = word(shape[axis])?;
            params.axis_stride = word(strides[axis])?;
            lines = updates.shape.elements() / updates.shape[axis].max(1);
        } else {
            let width = indices.shape.last().copied().unwrap_or(0);
            let block: usize = shape[width..].iter().product();
            params.tuple_extents = tuple_extents(&shape[..width])?;
            params.extents[0][0] = word(block)?;
            params.update_strides[0][0] = 1;
            params.data_strides[0][0] = 1;
            params.count = word(updates.shape.elements() / block.max(1))?;
            params.update_step = word(block)?;
            params.axis_stride = word(block)?;
            params.width = word(width)?;
            lines = block;
        }
        params.lines = word(lines)?;
        let work = Work {
            shader: &serial::SHADER,
            defines: &[
                Define::Scalar("In", updates.storage),
                Define::Scalar("Index", indices.storage),
                Define::Const("MODE", self.mode as u32),
                Define::Const("TUPLES", u32::from(self.axis.is_none())),
            ],
            buffers: &[updates.buffer, indices.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(lines, 64, recorder.profile.max_workgroups),
        };
        recorder.dispatch_plain(&work, output.storage)
    }

    /// All updates at once, where they replace.
    fn record_parallel(&self, recorder: &mut Recorder<'_>, indices: &Operand, updates: &Operand) -> Result<()> {
        let output = recorder.output(0).clone();
        let width = indices.shape.last().copied().unwrap_or(0);
        let total = updates.shape.elements();
        let params = parallel::Params {
            total: word(total)?,
            width: word(width)?,
            block: word(output.shape[width..].iter().product())?,
            unused: 0,
            extents: tuple_extents(&output.shape[..width])?,
        };
        let work = Work {
            shader: &parallel::SHADER,
            defines: &[Define::Scalar("In", updates.storage), Define::Scalar("Index", indices.storage)],
            buffers: &[updates.buffer, indices.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        };
        recorder.dispatch_plain(&work, output.storage)
    }
}

/// Numbers that updates are joined in.
trait Number: std::marker::Copy + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

impl Number for f64 {
    fn plus(self, other: Self) -> Self {
        self + other
    }
    fn times(self, other: Self) -> Self {
        self * other
    }
}

impl Number for i64 {
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
    fn times(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }
}

impl Op for Scatter {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (data, indices, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        if data.dtype != updates.dtype {
            return Err(Error::invalid_argument(format!("{} updates of {} data", updates.dtype, data.dtype)));
        }
        if let (Some(data), Some(indices), Some(updates)) = (data.shape(), indices.shape(), updates.shape()) {
            self.check(&data, &indices, &updates)?;
        }
        Ok(vec![Fact { value: None, ..data.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (data, indices, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        self.check(data.shape(), indices.shape(), updates.shape())?;
        let targets = self.targets(data.shape(), indices, updates.shape())?;
        let shape = data.shape().clone();
        if data.dtype() == DType::String {
            let mut strings = data.strings().to_vec();
            targets.iter().zip(updates.strings()).for_each(|(at, s)| strings[*at] = s.clone());
            return Ok(vec![Tensor::from_strings(shape, strings)?]);
        }
        Ok(vec![match (Numbers::of(data)?, Numbers::of(updates)?) {
            (Numbers::Real(mut values), Numbers::Real(updates)) => {
                targets.iter().zip(updates).for_each(|(at, update)| values[*at] = self.join(values[*at], update));
                Tensor::from_f64s(data.dtype(), shape, &values)?
            }
            (Numbers::Whole(mut values), Numbers::Whole(updates)) => {
                targets.iter().zip(updates).for_each(|(at, update)| values[*at] = self.join(values[*at], update));
                wrapped(data.dtype(), shape, &values)?
            }
            _ => return Err(Error::invalid_argument("updates of another kind than the data")),
        }])
    }

    fn takes_epilogue(&self) -> bool {
        false
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        let axis = self.axis.and_then(|a| axis_of(a, rank).ok());
        match (axis, query.rows) {
            (Some(axis), rows) if axis != 0 && rows.iter().all(|r| *r == Rows::LEADING) => query.all(Rows::LEADING),
            _ => query.default_answer(),
        }
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<String> {
        let dtype = required(inputs, 0).ok()?.dtype;
        let wide = profile.storage(dtype).is_some_and(|s| s.class().is_wide());
        let narrow = dtype.is_integer() && !matches!(dtype, DType::I32 | DType::U32) && !wide;
        (self.mode.computes() && narrow).then(|| format!("{dtype} arithmetic"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (data, indices) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let updates = recorder.input(2)?.clone();
        let total = data.shape.elements();
        Copy { from: 0, to: 0, axes: vec![Axis { extent: total, from: 1, to: 1 }] }.record(recorder, &data, 0)?;
        if updates.shape.elements() == 0 {
            return Ok(());
        }
        if self.axis.is_none() && self.mode == Mode::Replace {
            self.record_parallel(recorder, &indices, &updates)
        } else {
            self.record_lines(recorder, &indices, &updates)
        }
    }
}
