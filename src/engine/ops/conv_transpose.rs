//! ConvTranspose: the gradient of a convolution, as networks use it to enlarge images.

use std::sync::Arc;

use super::conv::{groups, host_reason, operands, shifted_bias};
use super::conv_phase::phases;
use super::conv_window::{AutoPad, Geometry, Window, extents};
use super::host_product::add_product;
use super::host_window::scatter;
use super::product::{Product, Source};
use super::registry::OpSpec;
use super::words::word;
use crate::engine::ir::Source as Input;
use crate::engine::ir::{Affine, Cost, Fact, Op, Profile, Recorder, Replacement, Rows, RowsQuery, WeightAxes};
use crate::engine::kernels::BiasAccess;
use crate::error::{Error, Result};
use crate::tensor::{Dim, Shape, Tensor};

/// Phases of the strides together (see [`phases`]), each of which is a dispatch.
const MAX_PHASES: usize = 4096;

/// `y[n, o, i × stride − pad + tap × dilation] += x[n, c, i] w[c, o, tap]`, plus `bias[o]`.
#[derive(Clone, Debug)]
struct ConvTranspose {
    window: Window,
    groups: usize,
    output_padding: Option<Vec<usize>>,
    output_shape: Option<Vec<usize>>,
}

/// The operator of `spec`.
pub(super) fn conv_transpose(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(ConvTranspose {
        window: Window::new(spec.attributes)?,
        groups: groups(spec)?,
        output_padding: extents(spec.attributes, "output_padding")?,
        output_shape: extents(spec.attributes, "output_shape")?,
    }))
}

/// A transposed convolution at concrete shapes. The geometry is that of the convolution it is the gradient of, with
/// `input` and `output` as this operator sees them.
struct Plan {
    geometry: Geometry,
    images: usize,
    groups: usize,
    /// Channels of one group.
    input_channels: usize,
    output_channels: usize,
    output: Shape,
}

impl ConvTranspose {
    /// Output extent and cut-off before the first element along one axis.
    fn along(&self, axis: usize, rank: usize, kernel: usize, input: usize) -> Result<(usize, usize)> {
        let extra = self.output_padding.as_ref().and_then(|p| p.get(axis)).copied().unwrap_or(0);
        let stride = self.window.stride(axis);
        let full = input
            .saturating_sub(1)
            .saturating_mul(stride)
            .saturating_add(self.window.span(axis, kernel))
            .saturating_add(extra);
        let wanted = match (&self.output_shape, self.window.auto_pad) {
            // Some exporters give all axes, some the spatial ones only.
            (Some(shape), _) => shape.get(axis + shape.len().saturating_sub(rank)).copied(),
            (None, AutoPad::SameUpper | AutoPad::SameLower) => Some(input.saturating_mul(stride)),
            (None, AutoPad::Explicit | AutoPad::Valid) => None,
        };
        if let Some(wanted) = wanted {
            let total = full.saturating_sub(wanted);
            let small = total / 2;
            let before = if self.window.auto_pad == AutoPad::SameUpper { small } else { total - small };
            return Ok((wanted, before));
        }
        let (before, after) = match self.window.auto_pad {
            AutoPad::Explicit => self.window.explicit_pads(axis, rank),
            _ => (0, 0),
        };
        let output = full.checked_sub(before.saturating_add(after)).filter(|_| input > 0);
        let output = output
            .ok_or_else(|| Error::invalid_argument(format!("padding {before} + {after} cuts off {full} elements")))?;
        Ok((output, before))
    }

    fn plan(&self, x: &[usize], w: &[usize]) -> Result<Plan> {
        let ([images, channels, input @ ..], [w_channels, per_group, kernel @ ..]) = (x, w) else {
            return Err(Error::invalid_argument("a transposed convolution takes inputs of at least two axes"));
        };
        if channels != w_channels || channels % self.groups != 0 {
            return Err(Error::invalid_argument(format!(
                "weights {} do not fit {channels} channels in {} groups",
                Shape::from(w),
                self.groups
            )));
        }
        let rank = self.window.check_rank(kernel, input)?;
        let mut geometry = Geometry::unit();
        let mut output = vec![*images, per_group.saturating_mul(self.groups)];
        for axis in 0..rank {
            let (extent, pad) = self.along(axis, rank, kernel[axis], input[axis])?;
            geometry.set(axis + 3 - rank, &self.window, axis, kernel[axis], input[axis], extent, pad);
            output.push(extent);
        }
        Ok(Plan {
            geometry,
            images: *images,
            groups: self.groups,
            input_channels: channels / self.groups,
            output_channels: *per_group,
            output: output.into(),
        })
    }
}

impl Op for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let [x, w] = operands(inputs)?;
        if let (Some(x_shape), Some(w_shape)) = (x.shape(), w.shape()) {
            return Ok(vec![Fact::of_shape(x.dtype, &self.plan(&x_shape, &w_shape)?.output)]);
        }
        let Some([images, _, spatial @ ..]) = x.dims.as_deref() else {
            return Ok(vec![Fact::of_unknown_rank(x.dtype)]);
        };
        let weights = w.dims.as_deref().unwrap_or_default();
        let channels =
            weights.get(1).and_then(Dim::fixed).map_or(Dim::Unknown, |n| Dim::Fixed(n.saturating_mul(self.groups)));
        let mut dims = vec![images.clone(), channels];
        for (axis, extent) in spatial.iter().enumerate() {
            let kernel = weights.get(axis + 2).and_then(Dim::fixed);
            dims.push(match extent.fixed().zip(kernel) {
                Some((input, kernel)) => self.along(axis, spatial.len(), kernel, input)?.0.into(),
                None => Dim::Unknown,
            });
        }
        Ok(vec![Fact::new(x.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let [x, w] = operands(inputs)?;
        let plan = self.plan(x.shape(), w.shape())?;
        let bias = inputs.get(2).copied().flatten().map(Tensor::to_f64s).transpose()?;
        let (input, weights) = (x.to_f64s()?, w.to_f64s()?);
        let (g, rows) = (&plan.geometry, plan.output_channels);
        let (pixels, terms) = (g.input_pixels(), rows * g.taps());
        let mut y = vec![0.0; plan.output.elements()];
        for (entry, output) in y.chunks_exact_mut((rows * g.output_pixels()).max(1)).enumerate() {
            let group = entry % plan.groups;
            if let Some(bias) = &bias {
                for (line, bias) in output.chunks_exact_mut(g.output_pixels()).zip(&bias[group * rows..]) {
                    line.fill(*bias);
                }
            }
            // What each input pixel gives to each output channel and tap, then put in place.
            let depth = plan.input_channels;
            let weights = &weights[group * depth * terms..][..depth * terms];
            let turned: Vec<f64> = (0..terms * depth).map(|i| weights[i % depth * terms + i / depth]).collect();
            let mut spread = vec![0.0; terms * pixels];
            add_product(&turned, &input[entry * depth * pixels..][..depth * pixels], &mut spread, pixels, depth);
            for (term, values) in spread.chunks_exact(pixels.max(1)).enumerate() {
                scatter(g, term, values, output);
            }
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), plan.output, &y)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn absorb(&self, constants: &[Option<&Tensor>], affine: &Affine) -> Option<Replacement> {
        let [w, bias] = [1, 2].map(|i| constants.get(i).copied().flatten());
        let w = w?;
        let [channels, per_group, kernel @ ..] = &w.shape()[..] else { return None };
        if constants.len() > 2 && bias.is_none() || per_group.saturating_mul(self.groups) != affine.scale.len() {
            return None;
        }
        let taps = kernel.iter().product::<usize>().max(1);
        let depth = channels / self.groups;
        let output = |i: usize| i / (depth * per_group * taps) * per_group + i / taps % per_group;
        let scaled: Vec<f64> = w.to_f64s().ok()?.iter().enumerate().map(|(i, v)| v * affine.scale[output(i)]).collect();
        let weights = Tensor::from_f64s(w.dtype(), w.shape().clone(), &scaled).ok()?;
        let bias = shifted_bias(bias, affine, w.dtype())?;
        let inputs = vec![Some(Input::Input(0)), Some(Input::Constant(weights)), Some(Input::Constant(bias))];
        Some(Replacement { op: Arc::new(self.clone()), inputs })
    }

    fn weight_axes(&self, i: usize, shape: &Shape) -> Option<WeightAxes> {
        (i == 1 && shape.rank() > 2 && self.groups == 1).then_some(WeightAxes { channel: 1, term: None })
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        let strides = self.window.strides.iter().flatten();
        let phases = strides.fold(1usize, |phases, stride| phases.saturating_mul(*stride));
        let too_many = || (phases > MAX_PHASES).then(|| format!("its strides make {phases} dispatches"));
        host_reason(inputs).or_else(too_many)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, w) = (recorder.input(0)?, recorder.input(1)?);
        let plan = self.plan(&x.shape, &w.shape)?;
        let bias = recorder.optional_input(2).map(|bias| (Source::from(bias), BiasAccess::Channel));
        let (x, w) = (Source::from(x), Source::from(w));
        let g = &plan.geometry;
        let (taps, input_pixels, output_pixels) = (g.taps(), g.input_pixels(), g.output_pixels());
        for phase in phases(g)? {
            let mut params = phase.params;
            params.rows = word(plan.output_channels)?;
            params.columns = word(plan.images * phase.pixels)?;
            params.channels = word(plan.input_channels)?;
            params.a_row = word(taps)?;
            params.a_channel = word(plan.output_channels * taps)?;
            params.b_image = word(plan.groups * plan.input_channels * input_pixels)?;
            params.b_channel = word(input_pixels)?;
            params.y_step[3] = word(plan.groups * plan.output_channels * output_pixels)?;
            params.y_row = word(output_pixels)?;
            let starts = (0..plan.groups).map(|group| {
                let (channel, row) = (group * plan.input_channels, group * plan.output_channels);
                Ok([
                    word(channel * plan.output_channels * taps + phase.first_tap)?,
                    word(channel * input_pixels)?,
                    word(row * output_pixels + phase.first_pixel)?,
                    word(row)?,
                ])
            });
            let starts = starts.collect::<Result<Vec<_>>>()?;
            Product { a: w, b: x, bias, params, starts, padded: phase.padded }.record(recorder)?;
        }
        Ok(())
    }

    fn cost(&self, inputs: &[Option<&Fact>], _outputs: &[Fact]) -> Cost {
        let shape = |i: usize| inputs.get(i).copied().flatten().and_then(Fact::shape);
        let (Some(x), Some(w)) = (shape(0), shape(1)) else { return Cost::default() };
        Cost { flops: 2.0 * x.elements() as f64 * w[1..].iter().product::<usize>() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::{Attribute, Attributes};

    fn op(attributes: &[(&str, Attribute)]) -> Arc<dyn Op> {
        let mut all = Attributes::new();
        attributes.iter().for_each(|(name, value)| all.set(*name, value.clone()));
        let spec = OpSpec { domain: "", name: "ConvTranspose", opset: 11, attributes: &all, inputs: 2, outputs: 1 };
        conv_transpose(&spec).expect("valid attributes")
    }

    fn evaluate(op: &dyn Op, x: &Tensor, w: &Tensor) -> Tensor {
        op.evaluate(&[Some(x), Some(w)]).expect("fits").remove(0)
    }

    #[test]
    fn windows_overlap_and_add() {
        let x = Tensor::from_vec([1, 1, 3], vec![1.0f32, 2.0, 3.0]).expect("three");
        let w = Tensor::from_vec([1, 1, 3], vec![1.0f32, 10.0, 100.0]).expect("three");
        let y = evaluate(&*op(&[("strides", Attribute::Ints(vec![2]))]), &x, &w);
        assert_eq!(y, Tensor::from_vec([1, 1, 7], vec![1.0f32, 10.0, 102.0, 20.0, 203.0, 30.0, 300.0]).expect("seven"));
    }

    #[test]
    fn extents_follow_every_way_of_padding() {
        let (x, w) = (
            Fact::of_shape(crate::tensor::DType::F32, &[1, 1, 5, 5]),
            Fact::of_shape(crate::tensor::DType::F32, &[1, 1, 3, 3]),
        );
        let shape = |attributes: &[(&str, Attribute)]| {
            op(attributes).infer(&[Some(&x), Some(&w)]).expect("fits").remove(0).shape().expect("fixed")[2..].to_vec()
        };
        let strides = ("strides", Attribute::Ints(vec![2, 2]));
        assert_eq!(shape(std::slice::from_ref(&strides)), [11, 11]);
        assert_eq!(shape(&[strides.clone(), ("pads", Attribute::Ints(vec![1, 1, 1, 1]))]), [9, 9]);
        assert_eq!(shape(&[strides.clone(), ("output_padding", Attribute::Ints(vec![1, 1]))]), [12, 12]);
        assert_eq!(shape(&[strides.clone(), ("auto_pad", Attribute::String("SAME_UPPER".into()))]), [10, 10]);
        assert_eq!(shape(&[strides, ("output_shape", Attribute::Ints(vec![10, 9]))]), [10, 9]);
    }

    #[test]
    fn groups_and_a_following_affine_map_keep_their_channels() {
        let x = Tensor::from_vec([1, 4, 2], (0..8).map(|v| v as f32).collect::<Vec<_>>()).expect("eight");
        let w = Tensor::from_vec([4, 1, 2], (0..8).map(|v| v as f32 - 3.0).collect::<Vec<_>>()).expect("eight");
        let op = op(&[("group", Attribute::Int(2))]);
        let affine = Affine { scale: vec![2.0, -1.0], shift: vec![0.5, 1.0] };
        let new = op.absorb(&[None, Some(&w)], &affine).expect("constant weights");
        let [Some(Input::Constant(weights)), Some(Input::Constant(bias))] = &new.inputs[1..] else {
            panic!("constants")
        };
        let after = new.op.evaluate(&[Some(&x), Some(weights), Some(bias)]).expect("fits").remove(0);
        let before = evaluate(&*op, &x, &w).to_f64s().expect("real");
        let wanted: Vec<f64> =
            before.iter().enumerate().map(|(i, v)| v * affine.scale[i / 3] + affine.shift[i / 3]).collect();
        assert_eq!(after.to_f64s().expect("real"), wanted);
    }
}
