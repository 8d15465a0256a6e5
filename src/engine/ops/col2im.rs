//! Col2Im: columns of blocks laid back over an image, summed where they overlap.

use std::sync::Arc;

use super::arguments::{known, known_ints, optional, required};
use super::conv_window::{AutoPad, Geometry, Window};
use super::registry::OpSpec;
use super::words::{signed, word};
use crate::engine::ir::{Define, Fact, Op, Profile, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::col2im as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

pub(super) fn col2im(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Col2Im { window: Window { auto_pad: AutoPad::Explicit, ..Window::new(spec.attributes)? } }))
}

#[derive(Debug)]
struct Col2Im {
    window: Window,
}

fn counts(values: &[i64]) -> Result<Vec<usize>> {
    let wrong = || Error::invalid_argument(format!("Col2Im with extents {values:?}"));
    values.iter().map(|v| usize::try_from(*v).ok().filter(|v| *v > 0 && *v < 1 << 31).ok_or_else(wrong)).collect()
}

impl Col2Im {
    /// The window whose input is the image and whose outputs are the blocks, and how many axes it has; `None` while image
    /// and block are not known.
    fn geometry(&self, inputs: &[Option<&Fact>]) -> Result<Option<(Geometry, usize)>> {
        let missing = |what: &str| Error::invalid_argument(format!("Col2Im without {what}"));
        let image = known_ints(inputs, 1)?.ok_or_else(|| missing("an image shape"))?;
        let block = known_ints(inputs, 2)?.ok_or_else(|| missing("a block shape"))?;
        let (Some(image), Some(block)) = (image, block) else { return Ok(None) };
        let geometry = self.window.geometry(&counts(&block)?, &counts(&image)?)?;
        Ok(Some((geometry, image.len())))
    }

    fn output(geometry: &Geometry, axes: usize, x: &[usize]) -> Result<Shape> {
        let &[batch, columns, blocks] = x else {
            return Err(Error::invalid_argument(format!("Col2Im of an input of rank {}", x.len())));
        };
        if blocks != geometry.output_pixels() || columns % geometry.taps() != 0 {
            return Err(Error::invalid_argument(format!(
                "{columns} × {blocks} columns for {} blocks of {} elements",
                geometry.output_pixels(),
                geometry.taps()
            )));
        }
        let mut dims = vec![batch, columns / geometry.taps()];
        dims.extend(&geometry.input[3 - axes..]);
        Ok(Shape::new(dims))
    }
}

impl Op for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        Ok(vec![match (self.geometry(inputs)?, x.shape()) {
            (Some((geometry, axes)), Some(shape)) => Fact::of_shape(x.dtype, &Self::output(&geometry, axes, &shape)?),
            (Some((geometry, axes)), None) => {
                let spatial = geometry.input[3 - axes..].iter().map(|e| Dim::Fixed(*e));
                Fact::new(x.dtype, [Dim::Unknown, Dim::Unknown].into_iter().chain(spatial))
            }
            (None, _) => Fact::of_unknown_rank(x.dtype),
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let x = required(inputs, 0)?;
        let (geometry, axes) = self.geometry(&facts)?.ok_or_else(|| Error::internal("constants have values"))?;
        let output = Self::output(&geometry, axes, x.shape())?;
        let (taps, blocks, pixels) = (geometry.taps(), geometry.output_pixels(), geometry.input_pixels());
        let mut result = vec![0.0; output.elements()];
        let unfold = |at: usize, extents: [usize; 3]| {
            [at / (extents[1] * extents[2]), at / extents[2] % extents[1], at % extents[2]]
        };
        for (at, value) in x.to_f64s()?.into_iter().enumerate() {
            let (tap, block) = (unfold(at / blocks % taps, geometry.kernel), unfold(at % blocks, geometry.output));
            let place = |i: usize| {
                let padded = block[i] * geometry.stride[i] + tap[i] * geometry.dilation[i];
                padded.checked_sub(geometry.pad[i]).filter(|p| *p < geometry.input[i])
            };
            if let (Some(z), Some(row), Some(column)) = (place(0), place(1), place(2)) {
                let [_, rows, columns] = geometry.input;
                result[at / (taps * blocks) * pixels + (z * rows + row) * columns + column] += value;
            }
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), output, &result)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[1, 2]
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let dtype = optional(inputs, 0)?.dtype;
        (!matches!(dtype, DType::F32 | DType::F16)).then(|| format!("sums of {dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let (x, output) = (recorder.input(0)?.clone(), recorder.output(0).clone());
        let (geometry, _) =
            self.geometry(&facts)?.ok_or_else(|| Error::unimplemented("an image shape that depends on data"))?;
        let quad = |e: [usize; 3], w: usize| -> Result<[i32; 4]> {
            Ok([signed(e[0] as i64)?, signed(e[1] as i64)?, signed(e[2] as i64)?, signed(w as i64)?])
        };
        let total = output.shape.elements();
        let params = kernel::Params {
            total: word(total)?,
            channels: word(output.shape[1])?,
            image: quad(geometry.input, 1)?,
            kernel: quad(geometry.kernel, 1)?,
            blocks: quad(geometry.output, geometry.output_pixels())?,
            stride: quad(geometry.stride, 1)?,
            pad: quad(geometry.pad, 0)?,
            dilation: quad(geometry.dilation, 1)?,
            ..kernel::Params::default()
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", x.storage)],
            buffers: &[x.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}
