//! RoiAlign and MaxRoiPool: fixed numbers of bins over regions of interest.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::conv_window::extents;
use super::registry::OpSpec;
use super::words::{signed, word};
use crate::engine::ir::{Define, Fact, Op, Profile, Recorder, Work, linear_groups};
use crate::engine::kernels::roi as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// What is made of a bin; numbered as `shaders/roi.wgsl` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    AlignedMean = 0,
    AlignedMax = 1,
    Pooled = 2,
}

#[derive(Debug)]
struct Regions {
    mode: Mode,
    /// Bins along y and x.
    bins: [usize; 2],
    /// Samples along each axis of a bin; 0 for as many as it has pixels.
    samples: usize,
    scale: f32,
    /// What is taken off scaled coordinates.
    shift: f32,
}

pub(super) fn roi_align(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let attributes = spec.attributes;
    let mode = match attributes.string_or("mode", "avg")?.as_str() {
        "avg" => Mode::AlignedMean,
        "max" => Mode::AlignedMax,
        other => return Err(Error::invalid_argument(format!("RoiAlign mode {other:?}"))),
    };
    // Before opset 16 coordinates were never shifted.
    let default = if spec.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let shift = match attributes.string_or("coordinate_transformation_mode", default)?.as_str() {
        "half_pixel" => 0.5,
        "output_half_pixel" => 0.0,
        other => return Err(Error::invalid_argument(format!("coordinate_transformation_mode is {other:?}"))),
    };
    let extent = |name: &str, default| -> Result<usize> {
        let value = attributes.int_or(name, default)?;
        let value = usize::try_from(value).ok().filter(|v| *v < 1 << 16);
        value.ok_or_else(|| Error::invalid_argument(format!("{name} is out of range")))
    };
    Ok(Arc::new(Regions {
        mode,
        bins: [extent("output_height", 1)?, extent("output_width", 1)?],
        samples: extent("sampling_ratio", 0)?,
        scale: attributes.float_or("spatial_scale", 1.0)?,
        shift,
    }))
}

pub(super) fn max_roi_pool(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let bins = extents(spec.attributes, "pooled_shape")?.unwrap_or_default();
    let bins = <[usize; 2]>::try_from(bins);
    let bins = bins.map_err(|b| Error::invalid_argument(format!("MaxRoiPool with pooled_shape {b:?}")))?;
    let scale = spec.attributes.float_or("spatial_scale", 1.0)?;
    Ok(Arc::new(Regions { mode: Mode::Pooled, bins, samples: 0, scale, shift: 0.0 }))
}

/// One plane of the image.
struct Plane<'a> {
    values: &'a [f64],
    rows: usize,
    columns: usize,
}

impl Plane<'_> {
    /// The four neighbours of a point, weighed; none outside the plane.
    fn neighbours(&self, y: f32, x: f32) -> [f64; 4] {
        let (height, width) = (self.rows as f32, self.columns as f32);
        if y < -1.0 || y > height || x < -1.0 || x > width {
            return [0.0; 4];
        }
        let (y, x) = (y.clamp(0.0, height - 1.0), x.clamp(0.0, width - 1.0));
        let (top, left) = (y as usize, x as usize);
        let (bottom, right) = ((top + 1).min(self.rows - 1), (left + 1).min(self.columns - 1));
        let (down, across) = (f64::from(y - top as f32), f64::from(x - left as f32));
        let at = |row: usize, column: usize| self.values[row * self.columns + column];
        [
            (1.0 - down) * (1.0 - across) * at(top, left),
            (1.0 - down) * across * at(top, right),
            down * (1.0 - across) * at(bottom, left),
            down * across * at(bottom, right),
        ]
    }
}

impl Regions {
    /// Values in a region's description.
    fn width(&self) -> usize {
        if self.mode == Mode::Pooled { 5 } else { 4 }
    }

    fn aligned(&self, plane: &Plane<'_>, region: &[f32], bin: [usize; 2]) -> f64 {
        // y first, as bins are.
        let start = [region[1] * self.scale - self.shift, region[0] * self.scale - self.shift];
        let end = [region[3] * self.scale - self.shift, region[2] * self.scale - self.shift];
        let step: [f32; 2] = std::array::from_fn(|i| {
            let size = end[i] - start[i];
            (if self.shift == 0.0 { size.max(1.0) } else { size }) / self.bins[i] as f32
        });
        let count = step.map(|s| if self.samples > 0 { self.samples } else { s.ceil() as usize });
        let place = |i: usize, n: usize| start[i] + (bin[i] as f32 + (n as f32 + 0.5) / count[i] as f32) * step[i];
        let samples = (0..count[0]).flat_map(|j| (0..count[1]).map(move |i| (j, i)));
        let samples = samples.map(|(j, i)| plane.neighbours(place(0, j), place(1, i)));
        if self.mode == Mode::AlignedMax {
            return samples.flatten().reduce(f64::max).unwrap_or(0.0);
        }
        samples.flatten().sum::<f64>() / (count[0] * count[1]).max(1) as f64
    }

    fn pooled(&self, plane: &Plane<'_>, region: &[f32], bin: [usize; 2]) -> f64 {
        let extents = [plane.rows, plane.columns];
        let range = |i: usize| {
            let first = (region[2 - i] * self.scale).round() as i64;
            let last = (region[4 - i] * self.scale).round() as i64;
            let step = (last - first + 1).max(1) as f32 / self.bins[i] as f32;
            let inside = |at: f32| (at as i64 + first).clamp(0, extents[i] as i64) as usize;
            inside((bin[i] as f32 * step).floor())..inside(((bin[i] + 1) as f32 * step).ceil())
        };
        let (rows, columns) = (range(0), range(1));
        let values = rows.flat_map(|row| columns.clone().map(move |column| row * plane.columns + column));
        values.map(|at| plane.values[at]).reduce(f64::max).unwrap_or(0.0)
    }
}

impl Op for Regions {
    fn name(&self) -> &'static str {
        if self.mode == Mode::Pooled { "MaxRoiPool" } else { "RoiAlign" }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let (x, regions) = (required(inputs, 0)?, required(inputs, 1)?);
        let (Some(dims), Some(count)) = (&x.dims, &regions.dims) else {
            return Ok(vec![Fact::of_unknown_rank(x.dtype)]);
        };
        let [count, width] = count.as_slice() else {
            return Err(Error::invalid_argument(format!("regions {count:?}")));
        };
        if dims.len() != 4 || width.fixed().is_some_and(|w| w != self.width()) {
            return Err(Error::invalid_argument(format!("regions of {width} values over an image {dims:?}")));
        }
        let [bins_y, bins_x] = self.bins.map(Dim::Fixed);
        Ok(vec![Fact::new(x.dtype, [count.clone(), dims[1].clone(), bins_y, bins_x])])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (x, regions) = (required(inputs, 0)?, required(inputs, 1)?);
        let output = self.infer(&[Some(&Fact::from(x)), Some(&Fact::from(regions))])?[0].concrete()?;
        let &[batch, channels, rows, columns] = x.shape().dims() else {
            return Err(Error::invalid_argument(format!("{} of an image {}", self.name(), x.shape())));
        };
        let (values, places) = (x.to_f64s()?, regions.to_f32s()?);
        let images = match self.mode {
            Mode::Pooled => places.chunks(5).map(|r| r[0] as i64).collect(),
            _ => required(inputs, 2)?.to_i64s()?,
        };
        let mut result = Vec::with_capacity(output.elements());
        for (image, region) in images.iter().zip(places.chunks(self.width())) {
            let image = usize::try_from(*image).ok().filter(|i| *i < batch);
            let image = image.ok_or_else(|| Error::invalid_argument("a region of an image that is not there"))?;
            for channel in 0..channels {
                let plane = &values[(image * channels + channel) * rows * columns..][..rows * columns];
                let plane = Plane { values: plane, rows, columns };
                for at in 0..self.bins[0] * self.bins[1] {
                    let bin = [at / self.bins[1], at % self.bins[1]];
                    result.push(match self.mode {
                        Mode::Pooled => self.pooled(&plane, region, bin),
                        _ => self.aligned(&plane, region, bin),
                    });
                }
            }
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), output, &result)?])
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let floats = |i| optional(inputs, i).is_some_and(|f| matches!(f.dtype, DType::F32 | DType::F16));
        (!floats(0) || !floats(1)).then(|| "its values are no 32-bit floats".into())
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, regions) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let images = if self.mode == Mode::Pooled { regions.clone() } else { recorder.input(2)?.clone() };
        let output = recorder.output(0).clone();
        let total = output.shape.elements();
        let extent = |axis: usize| signed(x.shape[axis] as i64);
        let params = kernel::Params {
            total: word(total)?,
            channels: word(x.shape[1])?,
            batch: extent(0)?,
            rows: extent(2)?,
            columns: extent(3)?,
            bins_y: word(self.bins[0])?,
            bins_x: word(self.bins[1])?,
            samples: signed(self.samples as i64)?,
            scale: self.scale,
            shift: self.shift,
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[
                Define::Scalar("In", x.storage),
                Define::Scalar("Region", regions.storage),
                Define::Scalar("Index", images.storage),
                Define::Const("MODE", self.mode as u32),
            ],
            buffers: &[x.buffer, regions.buffer, images.buffer, output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::{Attribute, Attributes};

    #[test]
    fn bins_of_a_pooled_region_overlap_where_they_must() {
        let mut attributes = Attributes::new();
        attributes.set("pooled_shape", Attribute::Ints(vec![2, 2]));
        let spec = OpSpec { domain: "", name: "MaxRoiPool", opset: 1, attributes: &attributes, inputs: 2, outputs: 1 };
        let x = Tensor::from_vec([1, 1, 3, 3], (1..=9).map(|v| v as f32).collect()).expect("nine");
        let region = Tensor::from_vec([1, 5], vec![0.0f32, 0.0, 0.0, 2.0, 2.0]).expect("five");
        let y = max_roi_pool(&spec).expect("it is there").evaluate(&[Some(&x), Some(&region)]).expect("it pools");
        assert_eq!(y[0].values::<f32>().expect("f32").as_ref(), [5.0, 6.0, 8.0, 9.0]);
    }
}
