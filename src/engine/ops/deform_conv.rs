//! DeformConv: a convolution whose taps are moved by offsets, as samples and a matrix product.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::composed::{Composed, composed, push, same_rank};
use super::conv_window::{AutoPad, Geometry, Window};
use super::registry::OpSpec;
use super::words::{signed, word};
use crate::engine::ir::{Attributes, Define, Expansion, Fact, Op, Profile, Recorder, Rows, Wire, Work, linear_groups};
use crate::engine::kernels::deform_columns as kernel;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

fn at_least_one(spec: &OpSpec<'_>, name: &str) -> Result<usize> {
    let value = usize::try_from(spec.attributes.int_or(name, 1)?).ok().filter(|v| *v > 0);
    value.ok_or_else(|| Error::invalid_argument(format!("DeformConv needs a {name} of at least 1")))
}

pub(super) fn deform_conv(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let (groups, offset_groups) = (at_least_one(spec, "group")?, at_least_one(spec, "offset_group")?);
    let window = Window::new(spec.attributes)?;
    composed(Composed {
        name: "DeformConv",
        shape_inputs: &[],
        compose: Box::new(move |inputs| compose(&window, groups, offset_groups, inputs)),
        open: Box::new(same_rank),
        rows: Box::new(|query| {
            // The image, its offsets and masks hold rows; weights and bias do not.
            let fits = query.rows.iter().enumerate().all(|(i, rows)| match i {
                0 | 2 | 4 => *rows == Rows::LEADING || optional(query.inputs, i).is_none(),
                _ => *rows == Rows::Constant,
            });
            if fits { query.all(Rows::LEADING) } else { query.default_answer() }
        }),
    })
}

fn reshape(expansion: &mut Expansion, wire: Wire, dims: &[usize]) -> Result<Wire> {
    let dims: Vec<i64> = dims.iter().map(|d| *d as i64).collect();
    let dims = Wire::Constant(Tensor::from_vec([dims.len()], dims)?);
    push(expansion, "Reshape", &Attributes::new(), vec![Some(wire), Some(dims)])
}

/// y [batch, outputs, pixels] = weights [groups, outputs, channels × taps] × columns [batch, groups, channels × taps, pixels].
fn compose(
    window: &Window,
    groups: usize,
    offset_groups: usize,
    inputs: &[Option<&Fact>],
) -> Result<Option<Expansion>> {
    let shape_of = |i| required(inputs, i).map(Fact::shape);
    let (Some(x), Some(w), Some(offset)) = (shape_of(0)?, shape_of(1)?, shape_of(2)?) else { return Ok(None) };
    let (&[batch, channels, rows, columns], &[outputs, own, ky, kx]) = (x.dims(), w.dims()) else {
        return Err(Error::unimplemented(format!("DeformConv of {x} by {w}: only two spatial axes are supported")));
    };
    if own.checked_mul(groups) != Some(channels) || outputs % groups != 0 || channels % offset_groups != 0 {
        return Err(Error::invalid_argument(format!("weights {w} and {groups} groups over an input {x}")));
    }
    let window = Window { auto_pad: AutoPad::Explicit, ..window.clone() };
    let geometry = window.geometry(&[ky, kx], &[rows, columns])?;
    let (taps, pixels) = (ky * kx, geometry.output_pixels());
    let [_, oy, ox] = geometry.output;
    if *offset.dims() != [batch, offset_groups * taps * 2, oy, ox] {
        return Err(Error::invalid_argument(format!("offsets {offset} for {offset_groups} groups of {taps} taps")));
    }
    let mut expansion = Expansion::default();
    let mut read = vec![Some(Wire::Input(0)), Some(Wire::Input(2))];
    read.extend(optional(inputs, 4).map(|_| Some(Wire::Input(4))));
    let samples = expansion.push(Arc::new(DeformColumns { geometry, offset_groups }), read, 1);
    let samples = reshape(&mut expansion, samples, &[batch, groups, own * taps, pixels])?;
    let weights = reshape(&mut expansion, Wire::Input(1), &[groups, outputs / groups, own * taps])?;
    let none = Attributes::new();
    let product = push(&mut expansion, "MatMul", &none, vec![Some(weights), Some(samples)])?;
    let mut y = reshape(&mut expansion, product, &[batch, outputs, oy, ox])?;
    if optional(inputs, 3).is_some() {
        let bias = reshape(&mut expansion, Wire::Input(3), &[1, outputs, 1, 1])?;
        y = push(&mut expansion, "Add", &none, vec![Some(y), Some(bias)])?;
    }
    expansion.outputs.push(Some(y));
    Ok(Some(expansion))
}

/// The samples under every tap: image, offsets and, if any, masks → [batch, channels, taps, pixels].
#[derive(Debug)]
struct DeformColumns {
    geometry: Geometry,
    offset_groups: usize,
}

impl DeformColumns {
    fn output(&self, x: &Shape) -> [usize; 4] {
        [x[0], x[1], self.geometry.taps(), self.geometry.output_pixels()]
    }

    /// Where tap `tap` of pixel `pixel` stands before it is moved: y, x.
    fn place(&self, tap: usize, pixel: usize) -> [f64; 2] {
        let g = &self.geometry;
        let along = |slot: usize, tap: usize, pixel: usize| {
            (pixel * g.stride[slot] + tap * g.dilation[slot]) as f64 - g.pad[slot] as f64
        };
        let (kx, ox) = (g.kernel[2], g.output[2]);
        [along(1, tap / kx, pixel / ox), along(2, tap % kx, pixel % ox)]
    }
}

/// A bilinear sample of a plane of `extents`, zeros outside.
fn bilinear(plane: &[f64], extents: [usize; 2], place: [f64; 2]) -> f64 {
    let low = place.map(f64::floor);
    let mut sum = 0.0;
    for (down, across) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (row, column) = (low[0] + f64::from(down), low[1] + f64::from(across));
        let inside = (0.0..extents[0] as f64).contains(&row) && (0.0..extents[1] as f64).contains(&column);
        if inside {
            let weight = (1.0 - (place[0] - row).abs()) * (1.0 - (place[1] - column).abs());
            sum += weight * plane[row as usize * extents[1] + column as usize];
        }
    }
    sum
}

impl Op for DeformColumns {
    fn name(&self) -> &'static str {
        "DeformConv samples"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let x = required(inputs, 0)?;
        Ok(vec![Fact::of_shape(x.dtype, &self.output(&x.concrete()?))])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (x, offset) = (required(inputs, 0)?, required(inputs, 1)?.to_f64s()?);
        let mask = optional(inputs, 2).map(Tensor::to_f64s).transpose()?;
        let output = self.output(x.shape());
        let [batch, channels, taps, pixels] = output;
        let [_, rows, columns] = self.geometry.input;
        let values = x.to_f64s()?;
        let mut result = Vec::with_capacity(batch * channels * taps * pixels);
        for plane in 0..batch * channels {
            let group = plane % channels / (channels / self.offset_groups);
            let image = &values[plane * rows * columns..][..rows * columns];
            for tap in 0..taps {
                let entry = (plane / channels * self.offset_groups + group) * taps + tap;
                for pixel in 0..pixels {
                    let [y, x] = self.place(tap, pixel);
                    let moved = [y + offset[2 * entry * pixels + pixel], x + offset[(2 * entry + 1) * pixels + pixel]];
                    let weight = mask.as_ref().map_or(1.0, |m| m[entry * pixels + pixel]);
                    result.push(weight * bilinear(image, [rows, columns], moved));
                }
            }
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), output, &result)?])
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let dtype = optional(inputs, 0)?.dtype;
        (!matches!(dtype, DType::F32 | DType::F16)).then(|| format!("samples of {dtype} values"))
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, offset) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let mask = recorder.optional_input(2).map(|m| m.buffer);
        let output = recorder.output(0).clone();
        let [_, channels, taps, pixels] = self.output(&x.shape);
        let g = &self.geometry;
        let pair = |e: [usize; 3]| -> Result<[i32; 4]> { Ok([signed(e[1] as i64)?, signed(e[2] as i64)?, 0, 0]) };
        let total = output.shape.elements();
        let params = kernel::Params {
            total: word(total)?,
            channels: word(channels)?,
            taps: word(taps)?,
            pixels: word(pixels)?,
            offset_groups: word(self.offset_groups)?,
            channels_per_offset: word(channels / self.offset_groups)?,
            kernel_x: word(g.kernel[2])?,
            output_x: word(g.output[2])?,
            input: pair(g.input)?,
            stride: pair(g.stride)?,
            pad: pair(g.pad)?,
            dilation: pair(g.dilation)?,
        };
        recorder.dispatch(&Work {
            shader: &kernel::SHADER,
            defines: &[Define::Scalar("In", x.storage), Define::Const("MASKED", u32::from(mask.is_some()))],
            buffers: &[x.buffer, offset.buffer, mask.unwrap_or(offset.buffer), output.buffer],
            params: params.words(),
            groups: linear_groups(total, 64, recorder.profile.max_workgroups),
        })
    }
}
