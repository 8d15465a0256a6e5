//! Batch normalisation as inference has it: one scale and shift a channel (Ioffe and Szegedy, 2015).

use std::sync::Arc;

use super::arguments::required;
use super::registry::OpSpec;
use crate::engine::ir::{
    Affine, Class, Fact, Op, PointwiseBuilder, Profile, Reg, Replacement, Rows, RowsQuery, Source,
};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Tensor};

pub(super) fn batch_normalization(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    if spec.attributes.flag_or("training_mode", false)? {
        return super::batch_statistics::batch_normalization_training(spec);
    }
    if !spec.attributes.flag_or("spatial", true)? {
        return Err(Error::unimplemented("BatchNormalization with spatial=0 is not supported"));
    }
    Ok(Arc::new(BatchNormalization { epsilon: f64::from(spec.attributes.float_or("epsilon", 1e-5)?) }))
}

/// `(x − mean) / √(variance + ε) × scale + bias` along axis 1.
#[derive(Debug)]
struct BatchNormalization {
    epsilon: f64,
}

impl BatchNormalization {
    /// Scale and shift from inputs 1 to 4: scale, bias, mean, variance.
    fn folded(&self, inputs: &[Option<&Tensor>]) -> Result<Affine> {
        let read = |i| required(inputs, i).and_then(Tensor::to_f64s);
        let (scale, bias, mean, variance) = (read(1)?, read(2)?, read(3)?, read(4)?);
        let factors = scale.iter().zip(&variance).map(|(s, v)| s / (v + self.epsilon).sqrt());
        let factors: Vec<f64> = factors.collect();
        let shift = bias.iter().zip(mean.iter().zip(&factors)).map(|(b, (m, f))| b - m * f).collect();
        Ok(Affine { scale: factors, shift })
    }
}

impl Op for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        // What has no channel axis is one channel.
        let channels = input.dims.as_ref().and_then(|d| d.get(1).map_or(Some(1), Dim::fixed));
        // Scales, shifts, means and variances.
        for i in 1..5 {
            let given = required(inputs, i)?.shape().map(|s| s.elements());
            if let Some((channels, given)) = channels.zip(given).filter(|(channels, given)| channels != given) {
                return Err(Error::invalid_argument(format!("input {i} has {given} numbers for {channels} channels")));
            }
        }
        Ok(vec![Fact { value: None, ..input.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let Affine { scale, shift } = self.folded(inputs)?;
        let inner: usize = input.shape().iter().skip(2).product();
        let mut values = input.to_f64s()?;
        for (block, chunk) in values.chunks_mut(inner.max(1)).enumerate() {
            let channel = block % scale.len().max(1);
            chunk.iter_mut().for_each(|v| *v = *v * scale[channel] + shift[channel]);
        }
        Ok(vec![Tensor::from_f64s(input.dtype(), input.shape().clone(), &values)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn affine(&self, constants: &[Option<&Tensor>]) -> Option<Affine> {
        self.folded(constants).ok()
    }

    fn simplify(&self, constants: &[Option<&Tensor>], _profile: &Profile) -> Result<Option<Replacement>> {
        let Ok(affine) = self.folded(constants) else { return Ok(None) };
        let tensor = |values: Vec<f64>| {
            Tensor::from_vec([values.len()], values.into_iter().map(|v| v as f32).collect::<Vec<f32>>())
        };
        Ok(Some(Replacement {
            op: Arc::new(ScaleShift),
            inputs: vec![
                Some(Source::Input(0)),
                Some(Source::Constant(tensor(affine.scale)?)),
                Some(Source::Constant(tensor(affine.shift)?)),
            ],
        }))
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        if !matches!(builder.output_dtype(), DType::F32 | DType::F16) {
            return None;
        }
        let value = builder.input(0)?;
        let (scale, bias) = (builder.input_at(1, 1)?, builder.input_at(2, 1)?);
        let (mean, variance) = (builder.input_at(3, 1)?, builder.input_at(4, 1)?);
        let epsilon = builder.constant_f32(self.epsilon as f32);
        let spread = builder.call("add_f", &[variance, epsilon], Class::F32);
        let spread = builder.call("sqrt", &[spread], Class::F32);
        let centred = builder.call("sub_f", &[value, mean], Class::F32);
        let normal = builder.call("div_f", &[centred, spread], Class::F32);
        let scaled = builder.call("mul_f", &[normal, scale], Class::F32);
        Some(builder.call("add_f", &[scaled, bias], Class::F32))
    }
}

/// A batch normalisation whose parameters are constant: `x × scale + shift` along axis 1.
#[derive(Debug)]
struct ScaleShift;

impl Op for ScaleShift {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        Ok(vec![Fact { value: None, ..required(inputs, 0)?.clone() }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let (scale, shift) = (required(inputs, 1)?.to_f64s()?, required(inputs, 2)?.to_f64s()?);
        let inner: usize = input.shape().iter().skip(2).product();
        let mut values = input.to_f64s()?;
        for (block, chunk) in values.chunks_mut(inner.max(1)).enumerate() {
            let channel = block % scale.len().max(1);
            chunk.iter_mut().for_each(|v| *v = *v * scale[channel] + shift[channel]);
        }
        Ok(vec![Tensor::from_f64s(input.dtype(), input.shape().clone(), &values)?])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.leading_of_first()
    }

    fn pointwise(&self, builder: &mut PointwiseBuilder<'_>) -> Option<Reg> {
        let (value, scale, shift) = (builder.input(0)?, builder.input_at(1, 1)?, builder.input_at(2, 1)?);
        let scaled = builder.call("mul_f", &[value, scale], Class::F32);
        Some(builder.call("add_f", &[scaled, shift], Class::F32))
    }
}
