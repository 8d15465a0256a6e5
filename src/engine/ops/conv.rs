//! Conv: convolution over one to three axes, grouped, strided and dilated.

use std::sync::Arc;

use super::conv_arranged::arranged;
use super::conv_window::{Geometry, Window};
use super::depthwise::{self, Depthwise};
use super::host_window::convolve;
use super::images::dense_source;
use super::patches;
use super::product::{Matrices, Params, Product, Source, Start};
use super::registry::OpSpec;
use super::span;
use super::span_plan;
use super::span_stores;
use super::words::word;
use crate::engine::ir::Source as Input;
use crate::engine::ir::{
    Affine, Class, Cost, Fact, Op, PlanesWish, Profile, Recorder, Replacement, Rows, RowsQuery, Storage, WeightAxes,
};
use crate::engine::kernels::BiasAccess;
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Output channels of a group from which a matrix product shares enough to pay.
const MIN_PRODUCT_ROWS: usize = 4;

/// `y[n, o, …] = bias[o] + Σ x[n, group × i, … × stride − pad + tap × dilation] w[o, i, tap]`.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    window: Window,
    pub(super) groups: usize,
}

/// The operator of `spec`.
pub(super) fn conv(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Conv { window: Window::new(spec.attributes)?, groups: groups(spec)? }))
}

/// The `group` attribute.
pub(super) fn groups(spec: &OpSpec<'_>) -> Result<usize> {
    let groups = spec.attributes.int_or("group", 1)?;
    usize::try_from(groups)
        .ok()
        .filter(|g| *g > 0)
        .ok_or_else(|| Error::invalid_argument(format!("group is {groups}, should be at least 1")))
}

/// A convolution at concrete shapes.
pub(super) struct Plan {
    pub(super) geometry: Geometry,
    pub(super) images: usize,
    pub(super) groups: usize,
    /// Channels of one group.
    pub(super) input_channels: usize,
    pub(super) output_channels: usize,
    output: Shape,
}

impl Plan {
    pub(super) fn new(conv: &Conv, x: &[usize], w: &[usize]) -> Result<Self> {
        let ([images, channels, input @ ..], [outputs, per_group, kernel @ ..]) = (x, w) else {
            return Err(Error::invalid_argument("a convolution takes inputs of at least two axes"));
        };
        if *channels != per_group.saturating_mul(conv.groups) || outputs % conv.groups != 0 {
            return Err(Error::invalid_argument(format!(
                "weights {} do not fit {channels} channels in {} groups",
                Shape::from(w),
                conv.groups
            )));
        }
        let geometry = conv.window.geometry(kernel, input)?;
        let mut output = vec![*images, *outputs];
        output.extend(&geometry.output[3 - kernel.len()..]);
        Ok(Self {
            geometry,
            images: *images,
            groups: conv.groups,
            input_channels: *per_group,
            output_channels: outputs / conv.groups,
            output: output.into(),
        })
    }

    /// Whether output channels share so little that they go to kernels of their own.
    fn is_depthwise(&self) -> bool {
        self.input_channels == 1 && self.output_channels < MIN_PRODUCT_ROWS && depthwise::fits(&self.geometry)
    }

    /// How its kernels would have images, if they read them in planes.
    fn wish(&self, profile: &Profile) -> Option<PlanesWish> {
        if self.is_depthwise() {
            return patches::wish(&self.geometry, profile);
        }
        match self.reads_spans(profile) {
            true => span_stores::wish(&self.geometry),
            false => self.matrices().is_none().then_some(PlanesWish::FLAT),
        }
    }

    /// Whether kernels over rows of vectors convolve it, all groups at once.
    fn reads_spans(&self, profile: &Profile) -> bool {
        let work = (self.output.elements() * self.terms()) as u64;
        let columns = self.images * self.geometry.output_pixels();
        self.groups == 1 && span_plan::suits(work, [self.output_channels, columns], profile)
    }

    /// The matrices that are multiplied where each image has one window, all of it: images and weights, the latter transposed.
    fn matrices(&self) -> Option<Matrices> {
        let g = &self.geometry;
        let one = g.output == [1; 3] && g.kernel == g.input && !g.padded && self.groups == 1;
        let (rows, columns, terms) = (self.images, self.output_channels, self.terms());
        let matrices = Matrices { extents: [rows, columns, terms], a_strides: [terms, 1], b_strides: [1, terms] };
        (one && !matrices.is_narrow()).then_some(matrices)
    }

    fn terms(&self) -> usize {
        self.input_channels * self.geometry.taps()
    }

    pub(super) fn params(&self) -> Result<Params> {
        let g = &self.geometry;
        let (taps, pixels) = (g.taps(), g.output_pixels());
        let flat = |extents: [usize; 3]| -> Result<[u32; 4]> {
            let [z, y, x] = extents;
            Ok([word(x)?, word(y)?, word(z)?, 0])
        };
        let [_, kernel_y, kernel_x] = g.kernel;
        let mut params = Params {
            rows: word(self.output_channels)?,
            columns: word(self.images * pixels)?,
            channels: word(self.input_channels)?,
            taps: word(taps)?,
            a_row: word(self.terms())?,
            a_channel: word(taps)?,
            b_image: word(self.groups * self.input_channels * g.input_pixels())?,
            b_channel: word(g.input_pixels())?,
            a_tap: flat([kernel_x * kernel_y, kernel_x, 1])?,
            kernel: flat(g.kernel)?,
            input: flat(g.input)?,
            stride: flat(g.stride)?,
            pad: flat(g.pad)?,
            dilation: flat(g.dilation)?,
            output: flat(g.output)?,
            y_step: flat([g.output[1] * g.output[2], g.output[2], 1])?,
            y_row: word(pixels)?,
            bias_row: 1,
            channel_row: 1,
            alpha: 1.0,
            beta: 1.0,
            ..Params::default()
        };
        params.output[3] = word(pixels)?;
        params.y_step[3] = word(self.groups * self.output_channels * pixels)?;
        Ok(params)
    }

    pub(super) fn starts(&self) -> Result<Vec<Start>> {
        let starts = (0..self.groups).map(|group| {
            let rows = group * self.output_channels;
            Ok([
                word(rows * self.terms())?,
                word(group * self.input_channels * self.geometry.input_pixels())?,
                word(rows * self.geometry.output_pixels())?,
                word(rows)?,
            ])
        });
        starts.collect()
    }
}

/// Input and weights of a convolution.
pub(super) fn operands<T: Copy>(inputs: &[Option<T>]) -> Result<[T; 2]> {
    match inputs {
        [Some(x), Some(w), ..] => Ok([*x, *w]),
        _ => Err(Error::invalid_argument("a convolution takes an input and weights")),
    }
}

impl Op for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let [x, w] = operands(inputs)?;
        if let (Some(x_shape), Some(w_shape)) = (x.shape(), w.shape()) {
            return Ok(vec![Fact::of_shape(x.dtype, &Plan::new(self, &x_shape, &w_shape)?.output)]);
        }
        let Some([images, _, spatial @ ..]) = x.dims.as_deref() else {
            return Ok(vec![Fact::of_unknown_rank(x.dtype)]);
        };
        let weights = w.dims.as_deref().unwrap_or_default();
        let kernel = |axis: usize| match &self.window.kernel {
            Some(kernel) => kernel.get(axis).copied(),
            None => weights.get(axis + 2).and_then(Dim::fixed),
        };
        let mut dims = vec![images.clone(), weights.first().cloned().unwrap_or(Dim::Unknown)];
        for (axis, extent) in spatial.iter().enumerate() {
            dims.push(match (extent.fixed(), kernel(axis)) {
                (Some(input), Some(kernel)) => self.window.along(axis, spatial.len(), kernel, input)?.0.into(),
                // A window that keeps one extent of its own length keeps any.
                (None, Some(kernel)) if self.keeps_extent(axis, spatial.len(), kernel) => extent.clone(),
                _ => Dim::Unknown,
            });
        }
        Ok(vec![Fact::new(x.dtype, dims)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let [x, w] = operands(inputs)?;
        let plan = Plan::new(self, x.shape(), w.shape())?;
        let bias = inputs.get(2).copied().flatten().map(Tensor::to_f64s).transpose()?;
        let (input, weights) = (x.to_f64s()?, w.to_f64s()?);
        let (rows, terms, pixels) = (plan.output_channels, plan.terms(), plan.geometry.output_pixels());
        let mut y = vec![0.0; plan.output.elements()];
        for (entry, output) in y.chunks_exact_mut((rows * pixels).max(1)).enumerate() {
            let group = entry % plan.groups;
            let channels = plan.input_channels * plan.geometry.input_pixels();
            if let Some(bias) = &bias {
                for (line, bias) in output.chunks_exact_mut(pixels).zip(&bias[group * rows..]) {
                    line.fill(*bias);
                }
            }
            let weights = &weights[group * rows * terms..][..rows * terms];
            convolve(&plan.geometry, &input[entry * channels..][..channels], weights, output, terms);
        }
        Ok(vec![Tensor::from_f64s(x.dtype(), plan.output, &y)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn simplify(&self, constants: &[Option<&Tensor>], profile: &Profile) -> Result<Option<Replacement>> {
        arranged(self, constants, profile)
    }

    fn absorb(&self, constants: &[Option<&Tensor>], affine: &Affine) -> Option<Replacement> {
        let [w, bias] = [1, 2].map(|i| constants.get(i).copied().flatten());
        let (w, outputs) = (w?, affine.scale.len());
        // A bias that is given but not constant cannot be scaled here; `constants` says nothing of it being there, so its
        // place in the list decides.
        if constants.len() > 2 && bias.is_none() || w.shape().first() != Some(&outputs) {
            return None;
        }
        let per_output = w.shape().elements() / outputs.max(1);
        let scaled: Vec<f64> =
            w.to_f64s().ok()?.iter().enumerate().map(|(i, v)| v * affine.scale[i / per_output.max(1)]).collect();
        let weights = Tensor::from_f64s(w.dtype(), w.shape().clone(), &scaled).ok()?;
        let bias = shifted_bias(bias, affine, w.dtype())?;
        let inputs = vec![Some(Input::Input(0)), Some(Input::Constant(weights)), Some(Input::Constant(bias))];
        Some(Replacement { op: Arc::new(self.clone()), inputs })
    }

    fn weight_axes(&self, i: usize, shape: &Shape) -> Option<WeightAxes> {
        // Those of channels that read one channel each go to kernels of their own.
        let product = shape.rank() > 2 && (shape[1] > 1 || shape[0] / self.groups >= MIN_PRODUCT_ROWS);
        (i == 1 && product).then_some(WeightAxes { channel: 0, term: None })
    }

    fn reads_planes(&self, i: usize, inputs: &[Option<&Fact>], profile: &Profile) -> Option<PlanesWish> {
        self.floats_plan(inputs, profile).filter(|_| i == 0)?.wish(profile)
    }

    fn taking_scales(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<Arc<dyn Op>> {
        super::conv_scaled::taking_scales(self, inputs, profile)
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        // Integers are convolved for quantised convolutions.
        let dtype = inputs.first()?.as_ref()?.dtype;
        host_reason(inputs).filter(|_| dtype != DType::I32)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, w) = (recorder.input(0)?, recorder.input(1)?);
        let plan = Plan::new(self, &x.shape, &w.shape)?;
        let (mut x, w, shape) = (Source::from(x), Source::from(w), x.shape.clone());
        let bias = recorder.optional_input(2).map(Source::from);
        let floats = recorder.output(0).storage.class() == Class::F32;
        if floats && plan.is_depthwise() {
            let (channels, multiplier) = (plan.groups * plan.output_channels, plan.output_channels);
            let (geometry, images) = (&plan.geometry, plan.images);
            return Depthwise { x, weights: w, bias, geometry, images, channels, multiplier }.record(recorder);
        }
        if let Some(matrices) = plan.matrices().filter(|_| floats && w.packed().is_none()) {
            let a = dense_source(recorder, x, &shape)?;
            let params = Params { bias_column: 1, ..matrices.params(false)? };
            let bias = bias.map(|bias| (bias, BiasAccess::Column));
            return Product { a, b: w, bias, params, starts: vec![[0; 4]], padded: false }.record(recorder);
        }
        let bias = bias.map(|bias| (bias, BiasAccess::Channel));
        let (params, starts, padded) = (plan.params()?, plan.starts()?, plan.geometry.padded);
        let product = Product { a: w, b: x, bias, params, starts, padded };
        if x.planes.is_some_and(|planes| !planes.is_flat(&shape)) {
            if span::record(&product, recorder)? {
                return Ok(());
            }
            x = dense_source(recorder, x, &shape)?;
        }
        Product { b: x, ..product }.record(recorder)
    }

    fn cost(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Cost {
        let terms = inputs.get(1).and_then(|w| w.as_ref()?.shape()).map_or(0, |w| w[1..].iter().product::<usize>());
        let elements = outputs.first().and_then(Fact::shape).map_or(0, |y| y.elements());
        Cost { flops: 2.0 * terms as f64 * elements as f64 }
    }
}

impl Conv {
    /// What is convolved, where weights are constant floats.
    fn floats_plan(&self, inputs: &[Option<&Fact>], profile: &Profile) -> Option<Plan> {
        let [x, w] = operands(inputs).ok()?;
        let floats = profile.storage(x.dtype) == Some(Storage::F32)
            && w.value.as_ref().is_some_and(|w| profile.constant_storage(w) == Some(Storage::F32));
        let (x, w) = (x.shape()?, w.shape().filter(|_| floats)?);
        Plan::new(self, &x, &w).ok()
    }

    /// Whether it runs by kernels over rows of vectors.
    pub(super) fn reads_spans(&self, inputs: &[Option<&Fact>], profile: &Profile) -> bool {
        self.floats_plan(inputs, profile).is_some_and(|plan| plan.reads_spans(profile))
    }

    fn keeps_extent(&self, axis: usize, rank: usize, kernel: usize) -> bool {
        let probe = self.window.span(axis, kernel);
        self.window.stride(axis) == 1 && self.window.along(axis, rank, kernel, probe).is_ok_and(|(n, _)| n == probe)
    }
}

/// Why a convolution of these inputs runs on the host.
pub(super) fn host_reason(inputs: &[Option<&Fact>]) -> Option<String> {
    let dtype = inputs.first()?.as_ref()?.dtype;
    (!matches!(dtype, DType::F32 | DType::F16)).then(|| format!("convolutions of {dtype} have no kernel"))
}

/// `bias × scale + shift`, of the weights' type.
pub(super) fn shifted_bias(bias: Option<&Tensor>, affine: &Affine, dtype: DType) -> Option<Tensor> {
    let old = match bias {
        Some(bias) => bias.to_f64s().ok()?,
        None => vec![0.0; affine.shift.len()],
    };
    let new = old.iter().zip(&affine.scale).zip(&affine.shift).map(|((b, scale), shift)| b * scale + shift);
    Tensor::from_f64s(dtype, [affine.shift.len()], &new.collect::<Vec<_>>()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::conv_window::AutoPad;
    use super::*;

    fn plain(groups: usize) -> Conv {
        let auto_pad = AutoPad::Explicit;
        Conv { window: Window { kernel: None, strides: None, dilations: None, pads: None, auto_pad }, groups }
    }

    fn counted(shape: &[usize], from: i32) -> Tensor {
        let values = (0..shape.iter().product::<usize>()).map(|i| (i as i32 * 7 % 11 + from) as f32);
        Tensor::from_vec(shape, values.collect()).expect("as many")
    }

    #[test]
    fn a_line_is_convolved() {
        let x = Tensor::from_vec([1, 1, 4], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four");
        let w = Tensor::from_vec([1, 1, 2], vec![10.0f32, 1.0]).expect("two");
        let bias = Tensor::from_vec([1], vec![0.5f32]).expect("one");
        let y = plain(1).evaluate(&[Some(&x), Some(&w), Some(&bias)]).expect("fits");
        assert_eq!(y[0], Tensor::from_vec([1, 1, 3], vec![12.5f32, 23.5, 34.5]).expect("three"));
    }

    #[test]
    fn a_symbol_survives_a_window_that_keeps_extents() {
        let mut conv = plain(1);
        let weights = Fact::of_shape(DType::F32, &[8, 3, 3]);
        let input = Fact::new(DType::F32, [Dim::Symbol("n".into()), Dim::Fixed(3), Dim::Symbol("t".into())]);
        let out =
            |conv: &Conv| conv.infer(&[Some(&input), Some(&weights)]).expect("fits").remove(0).dims.expect("ranked");
        assert_eq!(out(&conv), [Dim::Symbol("n".into()), Dim::Fixed(8), Dim::Unknown]);
        conv.window.pads = Some(vec![1, 1]);
        assert_eq!(out(&conv)[2], Dim::Symbol("t".into()));
    }

    #[test]
    fn a_following_affine_map_is_absorbed() {
        let (x, w) = (counted(&[1, 2, 3], 0), counted(&[2, 2, 2], -3));
        let affine = Affine { scale: vec![2.0, -1.0], shift: vec![0.5, 1.0] };
        let replacement = plain(1).absorb(&[None, Some(&w)], &affine).expect("constant weights");
        let new: Vec<Tensor> = replacement.inputs[1..]
            .iter()
            .filter_map(|input| match input {
                Some(Input::Constant(tensor)) => Some(tensor.clone()),
                _ => None,
            })
            .collect();
        let before = plain(1).evaluate(&[Some(&x), Some(&w)]).expect("fits")[0].to_f64s().expect("real");
        let after = replacement.op.evaluate(&[Some(&x), Some(&new[0]), Some(&new[1])]).expect("fits");
        let wanted: Vec<f64> =
            before.iter().enumerate().map(|(i, v)| v * affine.scale[i / 2] + affine.shift[i / 2]).collect();
        assert_eq!(after[0].to_f64s().expect("real"), wanted);
        assert!(plain(1).absorb(&[None, Some(&w), None], &affine).is_none());
    }

    proptest! {
        #[test]
        fn planes_agree_with_the_definition(
            channels in 1usize..3, outputs in 1usize..3, groups in 1usize..3,
            kernel in 1usize..4, stride in 1usize..3, dilation in 1usize..3, pad in 0usize..3,
        ) {
            let input = [6, 7];
            let mut conv = plain(groups);
            conv.window.strides = Some(vec![stride, 1]);
            conv.window.dilations = Some(vec![1, dilation]);
            conv.window.pads = Some(vec![pad, 0, 1, pad]);
            let x = counted(&[2, channels * groups, input[0], input[1]], -4);
            let w = counted(&[outputs * groups, channels, kernel, 2], -2);
            let y = conv.evaluate(&[Some(&x), Some(&w)]).expect("fits").remove(0);
            let [_, all, rows, columns] = y.shape()[..] else { panic!("four axes") };
            let (xs, ws) = (x.to_f64s().expect("real"), w.to_f64s().expect("real"));
            for (i, value) in y.to_f64s().expect("real").into_iter().enumerate() {
                let (column, row, o, n) = (i % columns, i / columns % rows, i / (columns * rows) % all, i / (columns * rows * all));
                let mut sum = 0.0;
                for c in 0..channels {
                    for ky in 0..kernel {
                        for kx in 0..2 {
                            let (iy, ix) = ((row * stride + ky).wrapping_sub(pad), column + kx * dilation);
                            if iy < input[0] && ix < input[1] {
                                let channel = o / outputs * channels + c;
                                sum += xs[((n * channels * groups + channel) * input[0] + iy) * input[1] + ix]
                                    * ws[((o * channels + c) * kernel + ky) * 2 + kx];
                            }
                        }
                    }
                }
                prop_assert_eq!(value, sum);
            }
        }
    }
}
