//! Conv whose weights were laid out for GPUs when the model was loaded: rows side by side, or turned for Winograd's filtering.

use std::sync::{Arc, OnceLock};

use super::conv::{Conv, Plan, host_reason};
use super::images::flat_source;
use super::product::{Product, Source};
use super::winograd::{self, Winograd};
use crate::engine::ir::Source as Input;
use crate::engine::ir::{Cost, Fact, Family, Op, PlanesWish, Profile, Recorder, Replacement, Rows, RowsQuery};
use crate::engine::kernels::BiasAccess;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// A convolution that holds its weights; its inputs are what is convolved and perhaps a bias.
#[derive(Debug)]
struct ArrangedConv {
    conv: Conv,
    /// Extents of the weights as they were given.
    shape: Shape,
    /// The weights as [group, tap, channel, row].
    weights: Tensor,
    /// Those turned for patches of 2 × 2 and of 4 × 4 pixels, once they are asked for.
    turned: [OnceLock<Tensor>; 2],
}

/// A way of computing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    /// By patches of so many output pixels each way.
    Winograd(usize),
}

/// What becomes of `conv`, if windows of constant weights are read faster otherwise.
pub(super) fn arranged(conv: &Conv, constants: &[Option<&Tensor>], profile: &Profile) -> Result<Option<Replacement>> {
    let Some(weights) = constants.get(1).copied().flatten().filter(|w| w.dtype().is_float()) else { return Ok(None) };
    let shape = weights.shape().clone();
    let [outputs, channels, kernel @ ..] = shape.dims() else { return Ok(None) };
    let (taps, rows) = (kernel.iter().product::<usize>(), outputs / conv.groups);
    if profile.family != Family::Gpu || taps < 2 || rows == 0 || !rows.is_multiple_of(4) || *channels < 2 {
        return Ok(None);
    }
    let terms = channels * taps;
    let given = weights.to_f64s()?;
    let place = |i: usize| {
        let (row, rest) = (i % rows, i / rows);
        let (channel, tap, group) = (rest % channels, rest / channels % taps, rest / terms);
        (group * rows + row) * terms + channel * taps + tap
    };
    let values: Vec<f64> = (0..given.len()).map(|i| given[place(i)]).collect();
    let weights = Tensor::from_f64s(weights.dtype(), [conv.groups, taps, *channels, rows], &values)?;
    let mut inputs = vec![Some(Input::Input(0))];
    inputs.extend((constants.len() > 2).then_some(Some(Input::Input(2))));
    let op = Arc::new(ArrangedConv { conv: conv.clone(), shape, weights, turned: Default::default() });
    Ok(Some(Replacement { op, inputs }))
}

impl ArrangedConv {
    /// The weights as they were given.
    fn given(&self) -> Result<Tensor> {
        let [_, taps, channels, rows] = self.weights.shape()[..] else {
            return Err(Error::internal("arranged weights have four axes"));
        };
        let values = self.weights.to_f64s()?;
        let place = |i: usize| {
            let (tap, channel, output) = (i % taps, i / taps % channels, i / (taps * channels));
            ((output / rows * taps + tap) * channels + channel) * rows + output % rows
        };
        let given: Vec<f64> = (0..values.len()).map(|i| values[place(i)]).collect();
        Tensor::from_f64s(self.weights.dtype(), self.shape.clone(), &given)
    }

    fn turned(&self, channels: [usize; 2], out: usize) -> Result<Tensor> {
        let held = &self.turned[usize::from(out == 4)];
        if let Some(turned) = held.get() {
            return Ok(turned.clone());
        }
        let turned = winograd::turned(&self.given()?.to_f64s()?, channels, out)?;
        Ok(held.get_or_init(|| turned).clone())
    }

    /// The inputs as the convolution itself would have them.
    fn widened<'a, T>(inputs: &[Option<&'a T>], weights: &'a T) -> Vec<Option<&'a T>> {
        let mut all = vec![inputs.first().copied().flatten(), Some(weights)];
        all.extend(inputs.get(1).copied());
        all
    }

    /// Ways of computing it, the one that should be fastest first; larger patches round more, so they are for those who measure.
    fn ways(&self, plan: &Plan, x: Source, profile: &Profile) -> Result<Vec<Way>> {
        let (channels, geometry) = ([plan.input_channels, plan.output_channels], &plan.geometry);
        if plan.groups > 1 || !winograd::fits(geometry, channels) {
            return Ok(vec![Way::Direct]);
        }
        let small = Winograd { x, weights: x, bias: None, geometry, images: plan.images, channels, out: 2 };
        let direct = self.product(plan, x, x, None)?.estimate(profile);
        let first = if small.estimate(profile)? < direct { Way::Winograd(2) } else { Way::Direct };
        let second = if first == Way::Direct { Way::Winograd(2) } else { Way::Direct };
        Ok(vec![first, second, Way::Winograd(4)])
    }

    /// The tiles of the convolution itself.
    fn product(&self, plan: &Plan, x: Source, weights: Source, bias: Option<Source>) -> Result<Product> {
        let mut params = plan.params()?;
        let [kernel_x, kernel_y, ..] = params.kernel;
        params.a_row = 1;
        params.a_channel = params.rows;
        let tap = params.rows * params.channels;
        params.a_tap = [tap, tap * kernel_x, tap * kernel_x * kernel_y, 0];
        let bias = bias.map(|bias| (bias, BiasAccess::Channel));
        let padded = plan.geometry.padded;
        Ok(Product { a: weights, b: x, bias, params, starts: plan.starts()?, padded })
    }
}

impl Op for ArrangedConv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        self.conv.infer(&Self::widened(inputs, &Fact::of_shape(self.weights.dtype(), &self.shape)))
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        self.conv.evaluate(&Self::widened(inputs, &self.given()?))
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn reads_planes(&self, i: usize, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<PlanesWish> {
        (i == 0).then_some(PlanesWish::FLAT)
    }

    fn channel_axis(&self, _output_rank: usize) -> Option<usize> {
        Some(1)
    }

    fn host_reason(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        host_reason(inputs)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let x = recorder.input(0)?;
        let plan = Plan::new(&self.conv, &x.shape, &self.shape)?;
        let x = flat_source(recorder, Source::from(x), &x.shape.clone())?;
        let bias = recorder.optional_input(1).map(Source::from);
        let channels = [plan.input_channels, plan.output_channels];
        let ways = self.ways(&plan, x, recorder.profile)?;
        let names: Vec<String> = ways.iter().map(|way| format!("{way:?}")).collect();
        let epilogue = recorder.epilogue();
        let key = || {
            let (input, pad) = (&plan.geometry.input[1..], &plan.geometry.pad[1..]);
            format!("windows {} of {channels:?} {input:?} pad {pad:?} {:?} epilogue {epilogue}", plan.images, x.storage)
        };
        let way = ways[recorder.choose(key, &names)];
        let (weights, storage) = match way {
            Way::Direct => (self.weights.clone(), recorder.profile.storage(self.weights.dtype())),
            Way::Winograd(out) => {
                let turned = self.turned(channels, out)?;
                let storage = recorder.profile.storage(turned.dtype());
                (turned, storage)
            }
        };
        let storage = storage.ok_or_else(|| Error::internal("weights that are floats have a device form"))?;
        let weights = Source::from(&recorder.constant(weights, storage));
        match way {
            Way::Direct => self.product(&plan, x, weights, bias)?.record(recorder),
            Way::Winograd(out) => {
                let (geometry, images) = (&plan.geometry, plan.images);
                Winograd { x, weights, bias, geometry, images, channels, out }.record(recorder)
            }
        }
    }

    fn cost(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Cost {
        self.conv.cost(&Self::widened(inputs, &Fact::of_shape(self.weights.dtype(), &self.shape)), outputs)
    }
}
