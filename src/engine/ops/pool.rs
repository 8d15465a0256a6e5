//! Pooling over sliding windows.

use std::sync::Arc;

use super::arguments::required;
use super::conv_window::{AutoPad, Geometry, Window};
use super::images::dense;
use super::patches::{self, Patches};
use super::product::Source;
use super::registry::OpSpec;
use super::words::{signed, word};
use crate::engine::ir::{Define, Fact, Op, PlanesWish, Profile, Recorder, Rows, RowsQuery, Work, linear_groups};
use crate::engine::kernels::pool;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// What is made of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Max,
    /// The mean, over padding too or not.
    Average {
        padding: bool,
    },
    /// The norm of this order.
    Norm(f32),
}

pub(super) fn max_pool(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    pool_op(spec, Kind::Max)
}

pub(super) fn average_pool(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    pool_op(spec, Kind::Average { padding: spec.attributes.flag_or("count_include_pad", false)? })
}

pub(super) fn lp_pool(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    pool_op(spec, Kind::Norm(super::norms::order(spec)?))
}

fn pool_op(spec: &OpSpec<'_>, kind: Kind) -> Result<Arc<dyn Op>> {
    let window = Window::new(spec.attributes)?;
    if window.kernel.is_none() {
        return Err(Error::invalid_argument("a pool without kernel_shape"));
    }
    Ok(Arc::new(Pool {
        kind,
        window,
        ceil: spec.attributes.flag_or("ceil_mode", false)?,
        column_major: spec.attributes.flag_or("storage_order", false)?,
        indices: spec.outputs > 1,
    }))
}

#[derive(Debug)]
struct Pool {
    kind: Kind,
    window: Window,
    /// Round output extents up.
    ceil: bool,
    /// Indices count columns first.
    column_major: bool,
    /// Whether the second output is wanted.
    indices: bool,
}

impl Pool {
    fn kernel(&self) -> &[usize] {
        self.window.kernel.as_deref().unwrap_or_default()
    }

    /// Whether the largest elements are all that is wanted.
    fn is_plain(&self) -> bool {
        self.kind == Kind::Max && !self.indices
    }

    /// Output extent and padding before, along one spatial axis.
    fn along(&self, axis: usize, input: usize) -> Result<(usize, usize)> {
        let (rank, kernel) = (self.kernel().len(), self.kernel()[axis]);
        if !self.ceil || self.window.auto_pad != AutoPad::Explicit {
            return self.window.along(axis, rank, kernel, input);
        }
        let (before, after) = self.window.explicit_pads(axis, rank);
        let (stride, span) = (self.window.stride(axis), self.window.span(axis, kernel));
        let room = (input + before + after).checked_sub(span).ok_or_else(|| {
            Error::invalid_argument(format!("a window of {span} does not fit {input} + {before} + {after} elements"))
        })?;
        let rounded = room.div_ceil(stride) + 1;
        // A window that would start in the padding at the end is left out.
        let output = if (rounded - 1) * stride >= input + before { rounded - 1 } else { rounded };
        Ok((output, before))
    }

    fn geometry(&self, spatial: &[usize]) -> Result<Geometry> {
        let rank = self.window.check_rank(self.kernel(), spatial)?;
        let mut geometry = Geometry::unit();
        for (axis, input) in spatial.iter().enumerate() {
            let (output, pad) = self.along(axis, *input)?;
            geometry.set(axis + 3 - rank, &self.window, axis, self.kernel()[axis], *input, output, pad);
        }
        Ok(geometry)
    }

    /// Where the padded extents end, in input coordinates.
    fn padded_end(&self, geometry: &Geometry) -> [usize; 3] {
        let rank = self.kernel().len();
        let mut end = geometry.input;
        for axis in 0..rank {
            let slot = axis + 3 - rank;
            let after = match self.window.auto_pad {
                AutoPad::Explicit => self.window.explicit_pads(axis, rank).1,
                _ => {
                    let last = geometry.output[slot].saturating_sub(1) * geometry.stride[slot];
                    let span = geometry.kernel[slot].saturating_sub(1) * geometry.dilation[slot] + 1;
                    (last + span).saturating_sub(geometry.input[slot] + geometry.pad[slot])
                }
            };
            end[slot] = geometry.input[slot] + after;
        }
        end
    }

    fn output_shape(input: &[usize], geometry: &Geometry) -> Shape {
        let spatial = &geometry.output[3 - (input.len() - 2)..];
        Shape::new([&input[..2], spatial].concat())
    }
}

/// One output element: where its window starts in the input.
fn window_start(geometry: &Geometry, at: usize) -> [i64; 3] {
    let [_, oy, ox] = geometry.output;
    let place = [at / (oy * ox), at / ox % oy, at % ox];
    std::array::from_fn(|i| (place[i] * geometry.stride[i]) as i64 - geometry.pad[i] as i64)
}

/// The coordinates of a window's taps.
fn taps(geometry: &Geometry, start: [i64; 3]) -> impl Iterator<Item = [i64; 3]> + '_ {
    let [kz, ky, kx] = geometry.kernel;
    (0..kz * ky * kx).map(move |tap| {
        let tap = [tap / (ky * kx), tap / kx % ky, tap % kx];
        std::array::from_fn(|i| start[i] + (tap[i] * geometry.dilation[i]) as i64)
    })
}

/// The index of a coordinate inside one plane, if it is inside.
fn index(geometry: &Geometry, at: [i64; 3]) -> Option<usize> {
    let inside = at.iter().zip(&geometry.input).all(|(c, n)| (0..*n as i64).contains(c));
    let [_, iy, ix] = geometry.input;
    inside.then(|| (at[0] as usize * iy + at[1] as usize) * ix + at[2] as usize)
}

impl Op for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Max => "MaxPool",
            Kind::Average { .. } => "AveragePool",
            Kind::Norm(_) => "LpPool",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let Some(dims) = &input.dims else {
            return Ok(vec![Fact::of_unknown_rank(input.dtype), Fact::of_unknown_rank(DType::I64)]);
        };
        if dims.len() != self.kernel().len() + 2 {
            return Err(Error::invalid_argument(format!(
                "a window of {} axes over an input of rank {}",
                self.kernel().len(),
                dims.len()
            )));
        }
        let spatial = dims[2..].iter().enumerate().map(|(axis, dim)| match dim.fixed() {
            Some(extent) => Ok(Dim::Fixed(self.along(axis, extent)?.0)),
            None => Ok(Dim::Unknown),
        });
        let mut output = dims[..2].to_vec();
        output.extend(spatial.collect::<Result<Vec<_>>>()?);
        Ok(vec![Fact::new(input.dtype, output.clone()), Fact::new(DType::I64, output)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let shape = input.shape();
        if shape.rank() != self.kernel().len() + 2 {
            return Err(Error::invalid_argument(format!("a window of {} axes over {shape}", self.kernel().len())));
        }
        let geometry = self.geometry(&shape[2..])?;
        let (values, plane, pixels) = (input.to_f64s()?, geometry.input_pixels(), geometry.output_pixels());
        let end = self.padded_end(&geometry);
        let (mut output, mut places) = (Vec::new(), Vec::new());
        for (number, plane_values) in values.chunks(plane.max(1)).enumerate() {
            for at in 0..pixels {
                let start = window_start(&geometry, at);
                let inside: Vec<usize> = taps(&geometry, start).filter_map(|c| index(&geometry, c)).collect();
                match self.kind {
                    Kind::Max => {
                        let better = |best: usize, i: usize| {
                            let (b, v) = (plane_values[best], plane_values[i]);
                            if !b.is_nan() && (v > b || v.is_nan()) { i } else { best }
                        };
                        let best = inside.iter().copied().reduce(better);
                        output.push(best.map_or(f64::NEG_INFINITY, |i| plane_values[i]));
                        places.push(best.map_or(0, |i| (number * plane + self.numbered(&geometry, i)) as i64));
                    }
                    Kind::Average { padding } => {
                        let sum: f64 = inside.iter().map(|i| plane_values[*i]).sum();
                        let within = |c: &[i64; 3]| c.iter().zip(&end).all(|(c, n)| *c < *n as i64);
                        let count = if padding { taps(&geometry, start).filter(within).count() } else { inside.len() };
                        output.push(sum / count.max(1) as f64);
                    }
                    Kind::Norm(p) => {
                        let p = f64::from(p);
                        let sum: f64 = inside.iter().map(|i| plane_values[*i].abs().powf(p)).sum();
                        output.push(sum.powf(1.0 / p));
                    }
                }
            }
        }
        let shape = Self::output_shape(shape, &geometry);
        let mut outputs = vec![Tensor::from_f64s(input.dtype(), shape.clone(), &output)?];
        if self.indices {
            outputs.push(Tensor::from_vec(shape, places)?);
        }
        Ok(outputs)
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        // Indices count through the whole batch.
        if self.indices { query.default_answer() } else { query.leading_of_first() }
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let dtype = inputs.first().copied().flatten()?.dtype;
        let device = match self.kind {
            // Small integers are exact as floats.
            Kind::Max => matches!(dtype, DType::F32 | DType::F16 | DType::I8 | DType::U8),
            _ => matches!(dtype, DType::F32 | DType::F16),
        };
        (!device).then(|| format!("{dtype} values"))
    }

    fn reads_planes(&self, i: usize, inputs: &[Option<&Fact>], profile: &Profile) -> Option<PlanesWish> {
        let shape = inputs.first().copied().flatten()?.shape().filter(|_| i == 0 && self.is_plain())?;
        patches::wish(&self.geometry(shape.get(2..)?).ok()?, profile)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let mut input = recorder.input(0)?.clone();
        let geometry = self.geometry(&input.shape[2..])?;
        if self.is_plain() {
            let (images, channels) = (input.shape[0], input.shape[1]);
            let geometry = &geometry;
            let x = Source::from(&input);
            if (Patches { x, weights: None, geometry, images, channels, multiplier: 1 }).record(recorder)? {
                return Ok(());
            }
        }
        input = dense(recorder, &input)?;
        let output = recorder.output(0).clone();
        let extents = |e: [usize; 3]| -> Result<[i32; 4]> {
            Ok([signed(e[0] as i64)?, signed(e[1] as i64)?, signed(e[2] as i64)?, 1])
        };
        let [oz, oy, ox] = geometry.output;
        let total = output.shape.elements();
        let params = pool::Params {
            total: word(total)?,
            channels: word(input.shape[1])?,
            lowest: f32::NEG_INFINITY.to_bits(),
            order: if let Kind::Norm(p) = self.kind { p } else { 1.0 },
            input: extents(geometry.input)?,
            output: [word(oz)?, word(oy)?, word(ox)?, 1],
            kernel: extents(geometry.kernel)?,
            stride: extents(geometry.stride)?,
            dilation: extents(geometry.dilation)?,
            pad: extents(geometry.pad)?,
            padded: extents(self.padded_end(&geometry))?,
            columns_first: u32::from(self.column_major),
            ..pool::Params::default()
        };
        let mode = match self.kind {
            Kind::Max => 0,
            Kind::Average { padding: false } => 1,
            Kind::Average { padding: true } => 2,
            Kind::Norm(_) => 4,
        };
        let groups = linear_groups(total, 64, recorder.profile.max_workgroups);
        recorder.dispatch(&Work {
            shader: &pool::SHADER,
            defines: &[Define::Scalar("In", input.storage), Define::Const("MODE", mode)],
            buffers: &[input.buffer, output.buffer],
            params: params.words(),
            groups,
        })?;
        if !self.indices || recorder.output_count() < 2 {
            return Ok(());
        }
        let places = recorder.output(1).clone();
        let work = Work {
            shader: &pool::SHADER,
            defines: &[Define::Scalar("In", input.storage), Define::Const("MODE", 3)],
            buffers: &[input.buffer, places.buffer],
            params: params.words(),
            groups,
        };
        recorder.dispatch_plain(&work, places.storage)
    }
}

impl Pool {
    /// The number that `storage_order` gives to element `i` of a plane.
    fn numbered(&self, geometry: &Geometry, i: usize) -> usize {
        if !self.column_major {
            return i;
        }
        let [iz, iy, ix] = geometry.input;
        let (z, y, x) = (i / (iy * ix), i / ix % iy, i % ix);
        // Column-major over the plane's own axes: the first one counts fastest.
        match self.kernel().len() {
            2 => x * iy + y,
            3 => (x * iy + y) * iz + z,
            _ => i,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::{Attribute, Attributes};

    fn built(name: &str, attributes: &[(&str, Attribute)]) -> Arc<dyn Op> {
        let mut given = Attributes::new();
        for (key, value) in attributes {
            given.set(*key, value.clone());
        }
        let spec = OpSpec { domain: "", name, opset: 19, attributes: &given, inputs: 1, outputs: 1 };
        (if name == "MaxPool" { max_pool(&spec) } else { average_pool(&spec) }).expect("a pool")
    }

    #[test]
    fn ceiling_extents_and_averages_follow_the_standard() {
        let attributes = [
            ("kernel_shape", Attribute::Ints(vec![3, 3])),
            ("strides", Attribute::Ints(vec![2, 2])),
            ("ceil_mode", Attribute::Int(1)),
        ];
        let input = Tensor::from_vec([1, 1, 4, 4], (1..=16).map(|v| v as f32).collect()).expect("sixteen");
        let average = built("AveragePool", &attributes).evaluate(&[Some(&input)]).expect("it pools");
        assert_eq!(average[0].values::<f32>().expect("f32").as_ref(), [6.0, 7.5, 12.0, 13.5]);
        let max = built("MaxPool", &attributes).evaluate(&[Some(&input)]).expect("it pools");
        assert_eq!(max[0].values::<f32>().expect("f32").as_ref(), [11.0, 12.0, 15.0, 16.0]);
    }
}
