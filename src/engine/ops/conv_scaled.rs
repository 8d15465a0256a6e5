//! Conv over channels that are scaled first, one number for each channel of an image: what squeeze-and-excitation blocks end in.

use std::sync::Arc;

use super::conv::{Conv, Plan};
use super::images::{dense_source, scaled};
use super::product::{Product, Source};
use super::span;
use crate::engine::ir::{Cost, Fact, Op, Profile, Recorder, Rows, RowsQuery};
use crate::engine::kernels::BiasAccess;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A convolution of windows of one element in one group; its inputs are what is convolved, weights, perhaps a bias, and scales
/// of extents [images, channels, 1, …].
#[derive(Debug)]
struct ScaledConv {
    conv: Conv,
}

/// `conv` with scales, where it runs by kernels that take them.
pub(super) fn taking_scales(conv: &Conv, inputs: &[Option<&Fact>], profile: &Profile) -> Option<Arc<dyn Op>> {
    let [x, w] = [0, 1].map(|i| inputs.get(i).copied().flatten());
    let plan = Plan::new(conv, &x?.shape()?, &w?.shape()?).ok()?;
    let whole = plan.geometry.kernel == [1; 3] && plan.geometry.pad == [0; 3] && !plan.geometry.padded;
    let fits = whole && plan.input_channels.is_multiple_of(4) && conv.reads_spans(inputs, profile);
    fits.then(|| Arc::new(ScaledConv { conv: conv.clone() }) as Arc<dyn Op>)
}

fn scales<T: Copy>(inputs: &[Option<T>]) -> Result<T> {
    let scales = inputs.get(3).copied().flatten();
    scales.ok_or_else(|| Error::invalid_argument("a convolution of scaled channels without scales"))
}

impl Op for ScaledConv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        self.conv.infer(&inputs[..inputs.len().min(3)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (scales, Some(x)) = (scales(inputs)?.to_f64s()?, inputs[0]) else { return self.conv.evaluate(inputs) };
        let plane = x.shape()[2..].iter().product::<usize>().max(1);
        let values: Vec<f64> = x.to_f64s()?.iter().enumerate().map(|(i, v)| v * scales[i / plane]).collect();
        let x = Tensor::from_f64s(x.dtype(), x.shape().clone(), &values)?;
        let mut inputs = inputs[..3].to_vec();
        inputs[0] = Some(&x);
        self.conv.evaluate(&inputs)
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.default_answer()
    }

    fn channel_axis(&self, output_rank: usize) -> Option<usize> {
        self.conv.channel_axis(output_rank)
    }

    fn record(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let (x, w) = (recorder.input(0)?.clone(), recorder.input(1)?.clone());
        let scale = recorder.input(3)?.buffer;
        let plan = Plan::new(&self.conv, &x.shape, &w.shape)?;
        let bias = recorder.optional_input(2).map(|bias| (Source::from(bias), BiasAccess::Channel));
        let (params, starts) = (plan.params()?, plan.starts()?);
        let b = Source { scale: Some(scale), ..Source::from(&x) };
        let product = Product { a: Source::from(&w), b, bias, params, starts, padded: false };
        if span::record(&product, recorder)? {
            return Ok(());
        }
        let images = dense_source(recorder, Source::from(&x), &x.shape)?;
        let plane = x.shape[2..].iter().product::<usize>();
        let b = scaled(recorder, images, scale, [x.shape.elements(), plane])?;
        Product { b, ..product }.record(recorder)
    }

    fn cost(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Cost {
        self.conv.cost(inputs, outputs)
    }
}
