//! ArgMax and ArgMin: where along an axis the extreme value is.

use std::sync::Arc;

use super::arguments::{around, axis_of, optional, required};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Profile, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::arg_extreme as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

pub(super) fn arg_extreme(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(ArgExtreme {
        smallest: spec.name == "ArgMin",
        axis: spec.attributes.int_or("axis", 0)?,
        keep: spec.attributes.flag_or("keepdims", true)?,
        last: spec.attributes.flag_or("select_last_index", false)?,
    }))
}

#[derive(Debug)]
struct ArgExtreme {
    smallest: bool,
    axis: i64,
    /// The axis stays with extent 1.
    keep: bool,
    /// Of several extreme values the last counts.
    last: bool,
}

impl Op for ArgExtreme {
    fn name(&self) -> &'static str {
        if self.smallest { "ArgMin" } else { "ArgMax" }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let Some(dims) = &input.dims else { return Ok(vec![Fact::of_unknown_rank(DType::I64)]) };
        let axis = axis_of(self.axis, dims.len())?;
        if dims[axis] == Dim::Fixed(0) {
            return Err(Error::invalid_argument(format!("{} along an axis without entries", self.name())));
        }
        let mut dims = dims.clone();
        if self.keep {
            dims[axis] = Dim::Fixed(1);
        } else {
            dims.remove(axis);
        }
        Ok(vec![Fact::new(DType::I64, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let output = self.infer(&[Some(&Fact::from(input))])?[0].concrete()?;
        let [outer, extent, inner] = around(input.shape(), axis_of(self.axis, input.shape().rank())?);
        let values = input.to_f64s()?;
        let mut places = Vec::with_capacity(outer * inner);
        for line in 0..outer * inner {
            let at = |i: usize| values[line / inner * extent * inner + line % inner + i * inner];
            let mut best = 0;
            for i in 1..extent {
                let (value, so_far) = (at(i), at(best));
                let beyond = if self.smallest { value < so_far } else { value > so_far };
                if beyond || (self.last && value == so_far) {
                    best = i;
                }
            }
            places.push(best as i64);
        }
        Ok(vec![Tensor::from_vec(output, places)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let rank = optional(query.inputs, 0).and_then(Fact::rank).unwrap_or(0);
        let Ok(touched) = axis_of(self.axis, rank) else { return query.default_answer() };
        let moved = |rows: Rows| match rows {
            Rows::Along { axis, .. } if !self.keep && axis > touched => rows.moved_to(axis - 1),
            other => other,
        };
        query.except_axes(&[touched]).into_iter().map(moved).collect()
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<String> {
        let dtype = required(inputs, 0).ok()?.dtype;
        profile.storage(dtype).is_none().then(|| format!("{dtype} values stay on the host"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (input, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let [outer, extent, inner] = around(&input.shape, axis_of(self.axis, input.shape.rank())?);
        let params = kernel::Params {
            lines: word(outer * inner)?,
            extent: word(extent)?,
            inner: word(inner)?,
            last: u32::from(self.last),
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", input.storage), Define::Const("SMALLEST", u32::from(self.smallest))],
            buffers: &[input.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(outer * inner, 64, recorder.profile.max_workgroups),
        })
    }
}
