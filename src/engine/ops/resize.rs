//! Resize and Upsample: interpolation, one axis after the other.

use std::sync::Arc;

use super::arguments::{axis_of, known, known_ints, optional, required, unknown};
use super::registry::OpSpec;
use super::resample::{self, Pass};
use super::resize_taps::{Interpolation, Line, Method, Rounding, Taps, Transform};
use crate::engine::ir::{Fact, Op, Profile, Recorder, Rows, RowsQuery};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

/// How wanted sizes that change the proportions are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proportions {
    Stretch,
    NotLarger,
    NotSmaller,
}

#[derive(Debug)]
struct Resize {
    name: &'static str,
    interpolation: Interpolation,
    proportions: Proportions,
    axes: Option<Vec<i64>>,
    /// Scales given as an attribute (Upsample before opset 9).
    scales: Option<Vec<f32>>,
    /// Which inputs hold region, scales and sizes.
    region_input: Option<usize>,
    scales_input: usize,
    sizes_input: Option<usize>,
}

/// Upsample of opset 7 and 9.
pub(super) fn upsample(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let scales = spec.attributes.floats("scales")?;
    Ok(Arc::new(Resize { scales, ..first(spec, "Upsample")? }))
}

/// Resize of opset 10 and newer.
pub(super) fn resize(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    if spec.opset < 11 {
        return Ok(Arc::new(first(spec, "Resize")?));
    }
    let attributes = spec.attributes;
    let wrong = |what: &str, value: &str| Error::invalid_argument(format!("{what} is {value:?}"));
    let transform = match attributes.string_or("coordinate_transformation_mode", "half_pixel")?.as_str() {
        "half_pixel" => Transform::HalfPixel,
        "half_pixel_symmetric" => Transform::HalfPixelSymmetric,
        "pytorch_half_pixel" => Transform::PytorchHalfPixel,
        "align_corners" => Transform::AlignCorners,
        "asymmetric" => Transform::Asymmetric,
        "tf_half_pixel_for_nn" => Transform::TfHalfPixelForNearest,
        "tf_crop_and_resize" => Transform::TfCropAndResize,
        other => return Err(wrong("coordinate_transformation_mode", other)),
    };
    let rounding = match attributes.string_or("nearest_mode", "round_prefer_floor")?.as_str() {
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return Err(wrong("nearest_mode", other)),
    };
    let method = match attributes.string_or("mode", "nearest")?.as_str() {
        "nearest" => Method::Nearest(rounding),
        "linear" => Method::Linear,
        "cubic" => Method::Cubic(attributes.float_or("cubic_coeff_a", -0.75)?),
        other => return Err(wrong("mode", other)),
    };
    let proportions = match attributes.string_or("keep_aspect_ratio_policy", "stretch")?.as_str() {
        "stretch" => Proportions::Stretch,
        "not_larger" => Proportions::NotLarger,
        "not_smaller" => Proportions::NotSmaller,
        other => return Err(wrong("keep_aspect_ratio_policy", other)),
    };
    Ok(Arc::new(Resize {
        name: "Resize",
        interpolation: Interpolation {
            transform,
            method,
            exclude_outside: attributes.flag_or("exclude_outside", false)?,
            antialias: attributes.flag_or("antialias", false)?,
            extrapolation: attributes.float_or("extrapolation_value", 0.0)?,
        },
        proportions,
        axes: attributes.ints("axes")?,
        scales: None,
        region_input: Some(1),
        scales_input: 2,
        sizes_input: Some(3),
    }))
}

/// The form that Upsample and the first Resize share.
fn first(spec: &OpSpec<'_>, name: &'static str) -> Result<Resize> {
    let method = match spec.attributes.string_or("mode", "nearest")?.as_str() {
        "nearest" => Method::Nearest(Rounding::Coarser),
        "linear" | "bilinear" => Method::Linear,
        other => return Err(Error::invalid_argument(format!("mode is {other:?}"))),
    };
    Ok(Resize {
        name,
        interpolation: Interpolation {
            transform: Transform::Asymmetric,
            method,
            exclude_outside: false,
            antialias: false,
            extrapolation: 0.0,
        },
        proportions: Proportions::Stretch,
        axes: None,
        scales: None,
        region_input: None,
        scales_input: 1,
        sizes_input: None,
    })
}

/// Floats of input `i` where it is given and not empty; inner `None` when it is not constant.
fn known_floats(inputs: &[Option<&Fact>], i: usize) -> Result<Option<Option<Vec<f32>>>> {
    let Some(fact) = optional(inputs, i) else { return Ok(None) };
    let values = fact.value.as_ref().map(|t| t.to_f32s().map(|v| v.into_owned())).transpose()?;
    Ok(Some(values).filter(|v| !v.as_ref().is_some_and(Vec::is_empty)))
}

/// What is asked for, one entry a resized axis.
enum Target {
    Scales(Vec<f32>),
    Sizes(Vec<usize>),
}

impl Resize {
    /// The wanted scales or sizes; `None` when they are not constant.
    fn target(&self, inputs: &[Option<&Fact>]) -> Result<Option<Target>> {
        if let Some(scales) = &self.scales {
            return Ok(Some(Target::Scales(scales.clone())));
        }
        match known_floats(inputs, self.scales_input)? {
            Some(Some(scales)) => return Ok(Some(Target::Scales(scales))),
            Some(None) => return Ok(None),
            None => {}
        }
        let sizes = self.sizes_input.map(|i| known_ints(inputs, i)).transpose()?.flatten();
        match sizes {
            Some(Some(sizes)) => {
                let convert = |s: i64| usize::try_from(s).map_err(|_| Error::invalid_argument(format!("size {s}")));
                Ok(Some(Target::Sizes(sizes.into_iter().map(convert).collect::<Result<_>>()?)))
            }
            Some(None) => Ok(None),
            None => Err(Error::invalid_argument("neither scales nor sizes are given")),
        }
    }

    /// The axes that scales, sizes and region list.
    fn axes(&self, rank: usize) -> Result<Vec<usize>> {
        match &self.axes {
            None => Ok((0..rank).collect()),
            Some(axes) => axes.iter().map(|a| axis_of(*a, rank)).collect(),
        }
    }

    /// Every axis at concrete extents; `None` when target or region are not constant.
    fn lines(&self, inputs: &[Option<&Fact>], shape: &[usize]) -> Result<Option<Vec<Line>>> {
        let axes = self.axes(shape.len())?;
        let Some(target) = self.target(inputs)? else { return Ok(None) };
        let mut lines: Vec<Line> =
            shape.iter().map(|n| Line { input: *n, output: *n, scale: 1.0, region: (0.0, 1.0) }).collect();
        let count = match &target {
            Target::Scales(scales) => scales.len(),
            Target::Sizes(sizes) => sizes.len(),
        };
        if count != axes.len() {
            return Err(Error::invalid_argument(format!("{count} scales or sizes for {} axes", axes.len())));
        }
        match target {
            Target::Scales(scales) => {
                for (axis, scale) in axes.iter().zip(scales) {
                    if !(scale.is_finite() && scale > 0.0) {
                        return Err(Error::invalid_argument(format!("scale {scale} should be above 0")));
                    }
                    lines[*axis].scale = scale;
                    lines[*axis].output = (scale * shape[*axis] as f32).floor() as usize;
                }
            }
            Target::Sizes(sizes) => self.fit(&axes, &sizes, &mut lines),
        }
        if self.interpolation.transform == Transform::TfCropAndResize {
            let region = self.region_input.map(|i| known_floats(inputs, i)).transpose()?.flatten();
            match region {
                Some(None) => return Ok(None),
                Some(Some(region)) if region.len() == 2 * axes.len() => {
                    for (i, axis) in axes.iter().enumerate() {
                        lines[*axis].region = (region[i], region[i + axes.len()]);
                    }
                }
                _ => return Err(Error::invalid_argument("tf_crop_and_resize needs a region of two numbers an axis")),
            }
        }
        if lines.iter().any(|l| l.input == 0 && l.output != 0) {
            return Err(Error::invalid_argument("an empty axis cannot grow"));
        }
        Ok(Some(lines))
    }

    fn fit(&self, axes: &[usize], sizes: &[usize], lines: &mut [Line]) {
        let ratios = axes.iter().zip(sizes).map(|(a, s)| *s as f32 / lines[*a].input as f32);
        let common = match self.proportions {
            Proportions::Stretch => None,
            Proportions::NotLarger => ratios.reduce(f32::min),
            Proportions::NotSmaller => ratios.reduce(f32::max),
        };
        for (axis, size) in axes.iter().zip(sizes) {
            let line = &mut lines[*axis];
            line.output = common.map_or(*size, |c| (c * line.input as f32 + 0.5).floor() as usize);
            line.scale = common.unwrap_or(*size as f32 / line.input as f32);
        }
    }

    /// The axes that change, those that shrink most first: later passes then have less to do.
    fn passes(&self, lines: &[Line]) -> Vec<usize> {
        let mut axes: Vec<usize> = (0..lines.len()).filter(|a| !self.interpolation.keeps(&lines[*a])).collect();
        axes.sort_by(|a, b| lines[*a].scale.total_cmp(&lines[*b].scale));
        axes
    }

    fn taps(&self, line: &Line) -> Vec<Taps> {
        (0..line.output).map(|at| self.interpolation.taps(at, line)).collect()
    }
}

/// `x` with axis `axis` of `shape` replaced by what `taps` make of it.
fn resample_axis(x: &[f64], shape: &[usize], axis: usize, taps: &[Taps]) -> Vec<f64> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut y = Vec::with_capacity(outer * taps.len() * inner);
    for o in 0..outer {
        for row in taps {
            y.extend((0..inner).map(|i| {
                let at = |index: usize| x[(o * shape[axis] + index) * inner + i];
                row.taps.iter().fold(f64::from(row.constant), |sum, (index, w)| sum + f64::from(*w) * at(*index))
            }));
        }
    }
    y
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        let Some(dims) = &x.dims else { return Ok(vec![Fact::of_unknown_rank(x.dtype)]) };
        if let Some(shape) = x.shape() {
            let dims = match self.lines(inputs, &shape)? {
                Some(lines) => lines.iter().map(|l| Dim::Fixed(l.output)).collect(),
                None => unknown(dims.len()),
            };
            return Ok(vec![Fact::new(x.dtype, dims)]);
        }
        let mut out = dims.clone();
        let axes = self.axes(dims.len())?;
        let target = self.target(inputs)?;
        for (i, axis) in axes.into_iter().enumerate() {
            out[axis] = match &target {
                Some(Target::Scales(scales)) if scales.get(i) == Some(&1.0) => continue,
                Some(Target::Scales(scales)) => match (dims[axis].fixed(), scales.get(i)) {
                    (Some(n), Some(scale)) => Dim::Fixed((scale * n as f32).floor() as usize),
                    _ => Dim::Unknown,
                },
                Some(Target::Sizes(sizes)) if self.proportions == Proportions::Stretch => {
                    sizes.get(i).map_or(Dim::Unknown, |s| Dim::Fixed(*s))
                }
                _ => Dim::Unknown,
            };
        }
        Ok(vec![Fact::new(x.dtype, out)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let x = required(inputs, 0)?;
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let lines = self.lines(&facts, x.shape())?.ok_or_else(|| Error::internal("constants have values"))?;
        let (mut shape, mut values) = (x.shape().dims().to_vec(), x.to_f64s()?);
        for axis in self.passes(&lines) {
            values = resample_axis(&values, &shape, axis, &self.taps(&lines[axis]));
            shape[axis] = lines[axis].output;
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), shape, &values)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        if self.sizes_input.is_some() { &[1, 2, 3] } else { &[1] }
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        let lines = optional(query.inputs, 0).and_then(Fact::shape).map(|s| self.lines(query.inputs, &s));
        let Some(Ok(Some(lines))) = lines else { return query.default_answer() };
        // Sizes may be counted from the batch: an axis that they keep is kept whatever the batch.
        match query.rows.split_first() {
            Some((rows @ Rows::Along { axis, .. }, rest))
                if self.interpolation.keeps(&lines[*axis])
                    && rest.iter().all(|r| matches!(r, Rows::Constant | Rows::Counted)) =>
            {
                query.all(*rows)
            }
            _ => query.default_answer(),
        }
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let dtype = optional(inputs, 0)?.dtype;
        let device = matches!(dtype, DType::F32 | DType::F16);
        (!device).then(|| format!("{dtype} is interpolated on the host"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let facts: Vec<Option<&Fact>> = (0..recorder.input_count()).map(|i| recorder.fact(i)).collect();
        let lines = self.lines(&facts, &recorder.input(0)?.shape)?;
        let lines = lines.ok_or_else(|| Error::unimplemented("sizes depend on data, which is not supported yet"))?;
        let mut axes = self.passes(&lines);
        if axes.is_empty() {
            // Nothing changes, but the fused chain still has to run: any axis serves.
            if lines.is_empty() {
                return Err(Error::unimplemented("resizing a scalar is not supported"));
            }
            axes.push(lines.len() - 1);
        }
        let passes: Vec<Pass> = axes.into_iter().map(|axis| Pass { axis, taps: self.taps(&lines[axis]) }).collect();
        resample::record(recorder, &passes)
    }
}
