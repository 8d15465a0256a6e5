//! Softmax and its logarithm.

use std::sync::Arc;

use super::arguments::{axis_of, optional, required};
use super::patches::rows_of_fours;
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Family, Op, Profile, Recorder, Rows, RowsQuery, Storage, Work, linear_groups};
use crate::engine::kernels::{softmax as kernel, softmax4};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Extents from which a GPU uses a workgroup for each row.
const GROUP_FROM: usize = 256;

pub(super) fn softmax(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    // Before opset 13 all axes from the given one on are one.
    let flattens = spec.opset < 13;
    let axis = spec.attributes.int_or("axis", if flattens { 1 } else { -1 })?;
    Ok(Arc::new(Softmax { axis, flattens, logarithm: spec.name == "LogSoftmax", masked: false }))
}

/// Softmax along the last axis.
pub(super) fn of_rows() -> Arc<dyn Op> {
    Arc::new(Softmax { axis: -1, flattens: false, logarithm: false, masked: false })
}

/// Softmax along the last axis, of attention scores: a row of minus infinities alone, where nothing is attended to, gives zeros.
pub(super) fn masked_softmax() -> Arc<dyn Op> {
    Arc::new(Softmax { axis: -1, flattens: false, logarithm: false, masked: true })
}

#[derive(Debug)]
pub(super) struct Softmax {
    axis: i64,
    flattens: bool,
    logarithm: bool,
    masked: bool,
}

impl Softmax {
    /// Whether rows of the last axis of an array of this shape, and no logarithms of them, are what it gives.
    pub(super) fn is_along_last(&self, shape: &[usize]) -> bool {
        let rows = self.around(shape).ok();
        !self.logarithm && rows.is_some_and(|[_, extent, inner]| inner == 1 && shape.last() == Some(&extent))
    }

    /// (outer, extent, inner) around the normalised axis.
    fn around(&self, shape: &[usize]) -> Result<[usize; 3]> {
        // Flattening may start behind the last axis: then every element is a row of its own.
        if self.flattens && self.axis == shape.len() as i64 {
            return Ok([shape.iter().product(), 1, 1]);
        }
        let axis = axis_of(self.axis, shape.len())?;
        let outer = shape[..axis].iter().product();
        if self.flattens {
            return Ok([outer, shape[axis..].iter().product(), 1]);
        }
        Ok([outer, shape[axis], shape[axis + 1..].iter().product()])
    }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        if self.logarithm { "LogSoftmax" } else { "Softmax" }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        if let Some(shape) = input.shape() {
            self.around(&shape)?;
        }
        Ok(vec![Fact { value: None, ..input.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        if !input.dtype().is_float() {
            return Err(Error::invalid_argument(format!("{} of {} values", self.name(), input.dtype())));
        }
        let [outer, extent, inner] = self.around(input.shape())?;
        let mut values = input.to_f64s()?;
        for row in 0..outer * inner {
            let base = row / inner * extent * inner + row % inner;
            let at = |i: usize| base + i * inner;
            let largest = (0..extent).map(|i| values[at(i)]).fold(f64::NEG_INFINITY, f64::max);
            if self.masked && largest == f64::NEG_INFINITY {
                (0..extent).for_each(|i| values[at(i)] = 0.0);
                continue;
            }
            let sum: f64 = (0..extent).map(|i| (values[at(i)] - largest).exp()).sum();
            for i in 0..extent {
                let shifted = values[at(i)] - largest;
                values[at(i)] = if self.logarithm { shifted - sum.ln() } else { shifted.exp() / sum };
            }
        }
        Ok(vec![Tensor::from_f64s(input.dtype(), input.shape().clone(), &values)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        match axis_of(self.axis, rank) {
            Ok(axis) if self.flattens => query.except_axes(&(axis..rank).collect::<Vec<_>>()),
            Ok(axis) => query.except_axes(&[axis]),
            Err(_) => query.default_answer(),
        }
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let dtype = required(inputs, 0).ok()?.dtype;
        (!matches!(dtype, DType::F32 | DType::F16 | DType::BF16)).then(|| format!("{dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (input, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let [outer, extent, inner] = self.around(&input.shape)?;
        let rows = outer * inner;
        let floats = input.storage == Storage::F32 && output.storage == Storage::F32;
        if floats && inner == 1 && rows_of_fours(recorder, rows, extent) {
            let group = recorder.profile.subgroup.unwrap_or(8);
            return recorder.dispatch(&Work {
                shader: &softmax4::SHADER,
                defines: &[
                    Define::Const("LOGARITHM", u32::from(self.logarithm)),
                    Define::Const("MASKED", u32::from(self.masked)),
                    Define::Const("GROUP", group),
                ],
                buffers: &[input.buffer, output.buffer],
                params: softmax4::Params { rows: word(rows)?, vectors: word(extent / 4)? }.words(),
                groups: linear_groups(rows, group, recorder.profile.max_workgroups),
            });
        }
        let params = kernel::Params { rows: word(rows)?, extent: word(extent)?, inner: word(inner)?, unused: 0 };
        let grouped = recorder.profile.family == Family::Gpu && extent >= GROUP_FROM;
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[
                Define::Scalar("In", input.storage),
                Define::Const("LOGARITHM", u32::from(self.logarithm)),
                Define::Const("GROUP", u32::from(grouped)),
                Define::Const("MASKED", u32::from(self.masked)),
            ],
            buffers: &[input.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(rows, if grouped { 1 } else { 64 }, recorder.profile.max_workgroups),
        })
    }
}
