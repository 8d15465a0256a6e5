//! Tables of signal processing: window functions and mel filter banks.

use std::sync::Arc;

use super::arguments::{optional, required, unknown};
use super::registry::OpSpec;
use crate::engine::ir::{Attribute, Fact, Op};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Elements past which a table is refused.
const MAX_ELEMENTS: usize = 1 << 28;

/// The element type that `output_datatype` numbers; the float types are all that make sense.
fn output_type(spec: &OpSpec<'_>) -> Result<DType> {
    match spec.attributes.get("output_datatype") {
        None | Some(Attribute::Int(1)) => Ok(DType::F32),
        Some(Attribute::Int(10)) => Ok(DType::F16),
        Some(Attribute::Int(11)) => Ok(DType::F64),
        Some(Attribute::Int(16)) => Ok(DType::BF16),
        Some(Attribute::DType(dtype)) => Ok(*dtype),
        Some(other) => Err(Error::invalid_argument(format!("output_datatype is {other:?}"))),
    }
}

fn number(inputs: &[Option<&Tensor>], i: usize) -> Result<f64> {
    let values = required(inputs, i)?.to_f64s()?;
    values.first().copied().ok_or_else(|| Error::invalid_argument(format!("input {i} should be a scalar")))
}

fn count(inputs: &[Option<&Tensor>], i: usize) -> Result<usize> {
    let value = number(inputs, i)?;
    if (0.0..=MAX_ELEMENTS as f64).contains(&value) {
        return Ok(value as usize);
    }
    Err(Error::invalid_argument(format!("input {i} is {value}")))
}

/// The constant that `op` gives when all its inputs are known.
fn folded(op: &dyn Op, inputs: &[Option<&Fact>]) -> Result<Option<Vec<Fact>>> {
    let values: Vec<Option<&Tensor>> = inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
    if inputs.iter().zip(&values).any(|(fact, value)| fact.is_some() && value.is_none()) {
        return Ok(None);
    }
    Ok(Some(op.evaluate(&values)?.into_iter().map(Fact::constant).collect()))
}

/// Σ aₖ cos(2πkn / N) for k = 0, 1, 2.
#[derive(Debug)]
struct CosineWindow {
    name: &'static str,
    terms: [f64; 3],
    periodic: bool,
    dtype: DType,
}

fn window(spec: &OpSpec<'_>, name: &'static str, terms: [f64; 3]) -> Result<Arc<dyn Op>> {
    let periodic = spec.attributes.flag_or("periodic", true)?;
    Ok(Arc::new(CosineWindow { name, terms, periodic, dtype: output_type(spec)? }))
}

pub(super) fn hann_window(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    window(spec, "HannWindow", [0.5, -0.5, 0.0])
}

/// The optimal terms 25/46 and 21/46, which ONNX uses instead of 0.54 and 0.46.
pub(super) fn hamming_window(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    window(spec, "HammingWindow", [25.0 / 46.0, -21.0 / 46.0, 0.0])
}

pub(super) fn blackman_window(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    window(spec, "BlackmanWindow", [0.42, -0.5, 0.08])
}

impl Op for CosineWindow {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(folded(self, inputs)?.unwrap_or_else(|| vec![Fact::new(self.dtype, unknown(1))]))
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let size = count(inputs, 0)?;
        let period = if self.periodic { size } else { size.saturating_sub(1) }.max(1) as f64;
        let at = |n: usize| {
            let angle = std::f64::consts::TAU * n as f64 / period;
            self.terms.iter().enumerate().map(|(k, term)| term * (angle * k as f64).cos()).sum()
        };
        let values: Vec<f64> = (0..size).map(at).collect();
        Ok(vec![Tensor::from_f64s(self.dtype, [size], &values)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[0]
    }
}

pub(super) fn mel_weight_matrix(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(MelWeightMatrix { dtype: output_type(spec)? }))
}

/// Triangular filters, evenly spaced in mels: [spectrum bins, mel bins].
#[derive(Debug)]
struct MelWeightMatrix {
    dtype: DType,
}

/// Stevens, Volkmann and Newman's scale in O'Shaughnessy's form, 2595 · log₁₀(1 + f / 700).
fn mels(hertz: f64) -> f64 {
    2595.0 * (1.0 + hertz / 700.0).log10()
}

fn hertz(mels: f64) -> f64 {
    700.0 * (10f64.powf(mels / 2595.0) - 1.0)
}

impl Op for MelWeightMatrix {
    fn name(&self) -> &'static str {
        "MelWeightMatrix"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(folded(self, inputs)?.unwrap_or_else(|| vec![Fact::new(self.dtype, unknown(2))]))
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let (bands, length, rate) = (count(inputs, 0)?, count(inputs, 1)?, number(inputs, 2)?);
        let (low, high) = (mels(number(inputs, 3)?), mels(number(inputs, 4)?));
        let bins = length / 2 + 1;
        if bins.saturating_mul(bands) > MAX_ELEMENTS || rate <= 0.0 {
            return Err(Error::invalid_argument(format!("{bands} bands over {bins} bins at {rate} samples a second")));
        }
        let step = (high - low) / (bands + 2) as f64;
        let edge = |i: usize| ((length + 1) as f64 * hertz(low + i as f64 * step) / rate).floor().max(0.0) as usize;
        let mut weights = vec![0.0; bins * bands];
        for band in 0..bands {
            let (lower, centre, upper) = (edge(band), edge(band + 1), edge(band + 2));
            for bin in lower..centre.saturating_add(1).min(bins) {
                let rise = if centre == lower { 1.0 } else { (bin - lower) as f64 / (centre - lower) as f64 };
                weights[bin * bands + band] = rise;
            }
            for bin in centre..upper.min(bins) {
                weights[bin * bands + band] = (upper - bin) as f64 / (upper - centre) as f64;
            }
        }
        Ok(vec![Tensor::from_f64s(self.dtype, [bins, bands], &weights)?])
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[0, 1, 2, 3, 4]
    }
}

/// The one integer that input `i` holds: outer `None` when it is absent, inner when it is not known.
pub(super) fn known_scalar(inputs: &[Option<&Fact>], i: usize) -> Result<Option<Option<i64>>> {
    let Some(fact) = optional(inputs, i) else { return Ok(None) };
    let Some(value) = &fact.value else { return Ok(Some(None)) };
    match value.to_i64s()?.as_slice() {
        [value] => Ok(Some(Some(*value))),
        values => Err(Error::invalid_argument(format!("input {i} should be a scalar, holds {} values", values.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::Attributes;

    #[test]
    fn bands_beyond_the_last_bin_take_no_time() {
        let op = MelWeightMatrix { dtype: DType::F32 };
        let (bands, length, rate) = (Tensor::scalar(2i64), Tensor::scalar(8i64), Tensor::scalar(1i64));
        let (low, high) = (Tensor::scalar(0.0f32), Tensor::scalar(1e30f32));
        let y = op.evaluate(&[&bands, &length, &rate, &low, &high].map(Some)).expect("ten numbers");
        assert_eq!(y[0].shape().dims(), [5, 2]);
    }

    #[test]
    fn a_periodic_window_is_one_short_of_symmetric() {
        let attributes = Attributes::new();
        let spec = OpSpec { domain: "", name: "HannWindow", opset: 17, attributes: &attributes, inputs: 1, outputs: 1 };
        let size = Tensor::scalar(4i64);
        let y = hann_window(&spec).expect("it is there").evaluate(&[Some(&size)]).expect("it is small");
        let y = y[0].values::<f32>().expect("f32").into_owned();
        assert!(y.iter().zip([0.0, 0.5, 1.0, 0.5]).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?}");
    }
}
