//! What `coracle bench` feeds a model: given files, the data set beside it, or random values.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::bench::Args;
use super::shapes::{declared_shape, pairs, parse_shape};
use super::tensors;
use crate::tensor::{DType, Shape, Signature, Spec, Tensor};

/// One tensor for each input of `signature`, in its order.
pub(super) fn inputs(args: &Args, signature: &Signature, file: &Path) -> anyhow::Result<Vec<Tensor>> {
    let shapes = pairs(&args.shapes)?;
    let given = pairs(&args.inputs)?;
    for name in shapes.keys().chain(given.keys()) {
        if !signature.inputs.iter().any(|s| s.name == *name) {
            bail!("the model has no input {name:?}");
        }
    }
    let samples = if shapes.is_empty() && args.batch == 1 { data_set(signature, file) } else { None };
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let tensor = |(index, spec): (usize, &Spec)| {
        if let Some(source) = given.get(spec.name.as_str()) {
            return tensors::read_input(source, spec).with_context(|| format!("input {:?}", spec.name));
        }
        if let Some(samples) = &samples {
            return Ok(samples[index].clone());
        }
        let shape = match shapes.get(spec.name.as_str()) {
            Some(text) => parse_shape(text).with_context(|| format!("--shape {}", spec.name))?,
            None => declared_shape(spec, args.batch as usize)?,
        };
        random.tensor(spec.dtype, shape)
    };
    let mut tensor = tensor;
    signature.inputs.iter().enumerate().map(&mut tensor).collect()
}

/// The inputs of `test_data_set_0` beside the model, if all are there and of the right type.
fn data_set(signature: &Signature, file: &Path) -> Option<Vec<Tensor>> {
    let folder = file.parent()?.join("test_data_set_0");
    let read = |(index, spec): (usize, &Spec)| {
        let (_, tensor) = tensors::read_proto(&folder.join(format!("input_{index}.pb"))).ok()?;
        (tensor.dtype() == spec.dtype).then_some(tensor)
    };
    signature.inputs.iter().enumerate().map(read).collect()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same inputs on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Floats in [−1, 1), integers and bools 0 or 1, empty strings.
    fn tensor(&mut self, dtype: DType, shape: Shape) -> anyhow::Result<Tensor> {
        let count = shape.elements();
        if dtype == DType::String {
            return Ok(Tensor::from_strings(shape, vec![Default::default(); count])?);
        }
        let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
        let value = |random: &mut Self| match random.next() {
            bits if dtype.is_float() => unit(bits) * 2.0 - 1.0,
            bits => (bits >> 63) as f64,
        };
        let values: Vec<f64> = (0..count).map(|_| value(self)).collect();
        Ok(Tensor::from_f64s(dtype, shape, &values)?)
    }
}
