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
    let samples = if shapes.is_empty() { data_set(signature, file) } else { None };
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut tensors = Vec::with_capacity(signature.inputs.len());
    for (index, spec) in signature.inputs.iter().enumerate() {
        let name = spec.name.as_str();
        tensors.push(if let Some(source) = given.get(name) {
            let read = tensors::read_input(source, spec).with_context(|| format!("input {name:?}"))?;
            with_rows(read, spec, args.batch)?
        } else if let Some(shape) = shapes.get(name) {
            random.tensor(spec.dtype, parse_shape(shape).with_context(|| format!("--shape {name}"))?)?
        } else if let Some(samples) = &samples {
            with_rows(samples[index].clone(), spec, args.batch)?
        } else {
            random.tensor(spec.dtype, declared_shape(spec, args.batch.unwrap_or(1) as usize)?)?
        });
    }
    Ok(tensors)
}

/// `tensor` with `rows` rows, its own over and over, unless the model fixes their number.
fn with_rows(tensor: Tensor, spec: &Spec, rows: Option<u32>) -> anyhow::Result<Tensor> {
    let is_fixed = spec.dims.as_ref().is_none_or(|dims| dims.first().is_none_or(|d| d.fixed().is_some()));
    let (Some(rows), Some(has)) = (rows, tensor.shape().first().copied()) else { return Ok(tensor) };
    if is_fixed || has == 0 || tensor.bytes().is_empty() {
        return Ok(tensor);
    }
    let row = tensor.bytes().len() / has;
    let bytes: Vec<u8> = tensor.bytes().iter().copied().cycle().take(rows as usize * row).collect();
    let dims = [&[rows as usize], &tensor.shape()[1..]].concat();
    Ok(Tensor::from_bytes(tensor.dtype(), dims, bytes)?)
}

/// The inputs of `test_data_set_0` beside the model, if all are there and of the right type.
fn data_set(signature: &Signature, file: &Path) -> Option<Vec<Tensor>> {
    let folder = file.parent()?.join("test_data_set_0");
    let read = |(index, spec): (usize, &Spec)| {
        let (_, tensor) = tensors::read_proto(&folder.join(format!("input_{index}.pb")), spec.dtype).ok()?;
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
