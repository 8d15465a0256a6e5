//! MaxUnpool: pooled values put back where their maxima were.

use std::sync::Arc;

use super::arguments::{fixed, known, known_ints, required, unknown};
use super::conv_window::Window;
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::{Define, Fact, Op, Recorder, Work, linear_groups};
use crate::engine::kernels::max_unpool as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

pub(super) fn max_unpool(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let window = Window::new(spec.attributes)?;
    if window.kernel.is_none() {
        return Err(Error::invalid_argument("MaxUnpool without kernel_shape"));
    }
    Ok(Arc::new(MaxUnpool { window }))
}

#[derive(Debug)]
struct MaxUnpool {
    window: Window,
}

impl MaxUnpool {
    /// The shape that was pooled: indices count through it.
    fn pooled(&self, x: &[usize]) -> Result<Vec<usize>> {
        let kernel = self.window.kernel.as_deref().unwrap_or_default();
        if x.len() != kernel.len() + 2 || kernel.len() > 3 {
            return Err(Error::invalid_argument(format!("a window of {} axes over {x:?}", kernel.len())));
        }
        let mut shape = x[..2].to_vec();
        for (axis, extent) in x[2..].iter().enumerate() {
            let (before, after) = self.window.explicit_pads(axis, kernel.len());
            let steps = extent.saturating_sub(1).checked_mul(self.window.stride(axis));
            let full = steps.and_then(|n| n.checked_add(kernel[axis])?.checked_sub(before)?.checked_sub(after));
            shape.push(full.ok_or_else(|| Error::invalid_argument("padding is larger than what was pooled"))?);
        }
        Ok(shape)
    }

    /// The output's shape; `None` while it is not known.
    fn shape(&self, inputs: &[Option<&Fact>]) -> Result<Option<Shape>> {
        let Some(x) = required(inputs, 0)?.shape() else { return Ok(None) };
        let Some(wanted) = known_ints(inputs, 2)? else { return self.pooled(&x).map(|s| Some(s.into())) };
        let Some(wanted) = wanted else { return Ok(None) };
        let dims: Option<Vec<usize>> = wanted.iter().map(|d| usize::try_from(*d).ok()).collect();
        let dims = dims.filter(|d| d.len() == x.rank() && d.len() > 2 && d[..2] == x[..2]);
        let dims = dims.ok_or_else(|| Error::invalid_argument(format!("MaxUnpool of {x} to {wanted:?}")))?;
        Ok(Some(dims.into()))
    }
}

/// Spatial extents as z, y, x.
fn spatial(shape: &[usize]) -> [usize; 3] {
    let mut extents = [1; 3];
    extents[5 - shape.len()..].copy_from_slice(&shape[2..]);
    extents
}

impl Op for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        let dims = match self.shape(inputs)? {
            Some(shape) => Some(fixed(&shape)),
            None => x.rank().map(unknown),
        };
        Ok(vec![Fact::open(x.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let x = required(inputs, 0)?;
        let shape = self.shape(&facts)?.ok_or_else(|| Error::internal("constants have values"))?;
        let pooled = self.pooled(x.shape())?;
        let ([pz, py, px], [rz, ry, rx]) = (spatial(&pooled), spatial(&shape));
        let planes = shape[0] * shape[1];
        let mut result = vec![0.0; shape.elements()];
        for (value, index) in x.to_f64s()?.into_iter().zip(required(inputs, 1)?.to_i64s()?) {
            let index = usize::try_from(index).ok().filter(|i| *i < planes * pz * py * px);
            let index =
                index.ok_or_else(|| Error::invalid_argument("MaxUnpool of an index outside what was pooled"))?;
            let (plane, z, row, column) = (index / (pz * py * px), index / (py * px) % pz, index / px % py, index % px);
            if z < rz && row < ry && column < rx {
                result[((plane * rz + z) * ry + row) * rx + column] = value;
            }
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), shape, &result)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[2]
    }

    fn takes_epilogue(&self) -> bool {
        false
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &crate::engine::ir::Profile) -> Option<String> {
        let dtype = inputs.first().copied().flatten()?.dtype;
        let device = matches!(dtype, DType::F32 | DType::F16 | DType::I32 | DType::I8 | DType::U8);
        (!device).then(|| format!("{dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, indices) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let output = recorder.output(0).clone();
        let words = |shape: &[usize]| -> Result<[u32; 4]> {
            let [z, y, x] = spatial(shape);
            Ok([word(z)?, word(y)?, word(x)?, 1])
        };
        let pooled = self.pooled(&x.shape)?;
        for (mode, total) in [(0, output.shape.elements()), (1, x.shape.elements())] {
            let params = kernel::Params {
                total: word(total)?,
                planes: word(output.shape[0] * output.shape[1])?,
                pooled: words(&pooled)?,
                result: words(&output.shape)?,
                ..kernel::Params::default()
            };
            let work = Work {
                shader: &kernel::SHADER,
                defines: &[
                    Define::Scalar("In", x.storage),
                    Define::Scalar("Index", indices.storage),
                    Define::Const("MODE", mode),
                ],
                buffers: &[x.buffer, indices.buffer, output.buffer],
                params: params.words(),
                groups: linear_groups(total, 64, recorder.profile.max_workgroups),
            };
            recorder.dispatch_plain(&work, output.storage)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::{Attribute, Attributes};

    #[test]
    fn indices_count_through_what_was_pooled() {
        let mut attributes = Attributes::new();
        attributes.set("kernel_shape", Attribute::Ints(vec![2]));
        attributes.set("strides", Attribute::Ints(vec![2]));
        let spec = OpSpec { domain: "", name: "MaxUnpool", opset: 11, attributes: &attributes, inputs: 3, outputs: 1 };
        let op = max_unpool(&spec).expect("it is there");
        let x = Tensor::from_vec([1, 2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four");
        let indices = Tensor::from_vec([1, 2, 2], vec![1i64, 2, 4, 7]).expect("four");
        let wanted = Tensor::from_vec([3], vec![1i64, 2, 5]).expect("three");
        let y = op.evaluate(&[Some(&x), Some(&indices), Some(&wanted)]).expect("they are inside");
        assert_eq!(y[0].values::<f32>().expect("f32").as_ref(), [0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 4.0, 0.0]);
    }
}
