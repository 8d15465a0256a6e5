//! Running sums and products along an axis.

use std::sync::Arc;

use super::arguments::{around, axis_of, known_ints, optional, required};
use super::broadcast::{Numbers, wrapped};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Profile, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::cumulate as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

pub(super) fn cumulate(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Cumulate {
        product: spec.name == "CumProd",
        exclusive: spec.attributes.flag_or("exclusive", false)?,
        reverse: spec.attributes.flag_or("reverse", false)?,
    }))
}

/// Input 1 says the axis.
#[derive(Debug)]
struct Cumulate {
    product: bool,
    /// An entry is not part of its own total.
    exclusive: bool,
    /// Totals count from the end.
    reverse: bool,
}

fn axis(inputs: &[Option<&Fact>], rank: usize) -> Result<Option<usize>> {
    match known_ints(inputs, 1)? {
        Some(Some(axes)) => match axes.first() {
            Some(axis) => axis_of(*axis, rank).map(Some),
            None => Err(Error::invalid_argument("the axis is empty")),
        },
        Some(None) => Ok(None),
        None => Err(Error::invalid_argument("no axis is given")),
    }
}

impl Cumulate {
    fn run<T: Copy>(&self, values: &mut [T], [outer, extent, inner]: [usize; 3], one: T, join: impl Fn(T, T) -> T) {
        for line in 0..outer * inner {
            let base = line / inner * extent * inner + line % inner;
            let mut total = one;
            for step in 0..extent {
                let along = if self.reverse { extent - 1 - step } else { step };
                let entry = &mut values[base + along * inner];
                let with = join(total, *entry);
                *entry = if self.exclusive { total } else { with };
                total = with;
            }
        }
    }
}

impl Op for Cumulate {
    fn name(&self) -> &'static str {
        if self.product { "CumProd" } else { "CumSum" }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        if let Some(rank) = input.rank() {
            axis(inputs, rank)?;
        }
        Ok(vec![Fact { value: None, ..input.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let axes = required(inputs, 1)?.to_i64s()?;
        let axis = axes.first().ok_or_else(|| Error::invalid_argument("the axis is empty"))?;
        let lines = around(input.shape(), axis_of(*axis, input.shape().rank())?);
        Ok(vec![match Numbers::of(input)? {
            Numbers::Whole(mut values) if self.product => {
                self.run(&mut values, lines, 1, i64::wrapping_mul);
                wrapped(input.dtype(), input.shape().clone(), &values)?
            }
            Numbers::Whole(mut values) => {
                self.run(&mut values, lines, 0, i64::wrapping_add);
                wrapped(input.dtype(), input.shape().clone(), &values)?
            }
            Numbers::Real(mut values) => {
                if self.product {
                    self.run(&mut values, lines, 1.0, |a, b| a * b);
                } else {
                    self.run(&mut values, lines, 0.0, |a, b| a + b);
                }
                Tensor::from_f64s(input.dtype(), input.shape().clone(), &values)?
            }
        }])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1]
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        match axis(query.inputs, rank) {
            Ok(Some(axis)) => query.except_axes(&[axis]),
            _ => query.default_answer(),
        }
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<String> {
        let dtype = required(inputs, 0).ok()?.dtype;
        let whole = matches!(dtype, DType::F32 | DType::F16 | DType::I32 | DType::U32);
        let runs = whole || profile.storage(dtype).is_some_and(|s| s.class().is_wide());
        (!runs).then(|| format!("totals of {dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let (input, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let Some(axis) = axis(&facts, input.shape.rank())? else {
            return Err(Error::unimplemented("an axis that depends on data"));
        };
        let [outer, extent, inner] = around(&input.shape, axis);
        let params = kernel::Params {
            lines: word(outer * inner)?,
            extent: word(extent)?,
            inner: word(inner)?,
            exclusive: u32::from(self.exclusive),
            reverse: u32::from(self.reverse),
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", input.storage), Define::Const("PRODUCT", u32::from(self.product))],
            buffers: &[input.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(outer * inner, 64, recorder.profile.max_workgroups),
        })
    }
}
