//! Dropout: in inference nothing, in training elements set to zero at random.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::branch::truth;
use super::composed::push;
use super::random::{Numbers, REASON};
use super::registry::OpSpec;
use crate::engine::ir::{Attribute, Attributes, Expansion, Fact, Op, Profile, Rows, RowsQuery, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

pub(super) fn dropout(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    // Before opset 12 the ratio is an attribute, and there is no training.
    Ok(Arc::new(Dropout { mask: spec.outputs > 1, seed: spec.attributes.int("seed")?.map(|seed| seed as u64) }))
}

/// Inputs: data, the share of it that is dropped, whether to drop at all. The mask, if it is asked for, holds where data is
/// kept.
#[derive(Debug)]
struct Dropout {
    mask: bool,
    seed: Option<u64>,
}

fn share(given: &Tensor) -> Result<f64> {
    match given.to_f64s()?[..] {
        [share] if (0.0..1.0).contains(&share) => Ok(share),
        _ => {
            Err(Error::invalid_argument(format!("the ratio of Dropout is one number of [0, 1), got {}", given.shape())))
        }
    }
}

impl Dropout {
    /// The share dropped; `None` while it is not known.
    fn share(&self, inputs: &[Option<&Fact>]) -> Result<Option<f64>> {
        match optional(inputs, 2).map(|flag| flag.value.as_ref().map(truth).transpose()) {
            None => return Ok(Some(0.0)),
            Some(flag) => match flag? {
                Some(false) => return Ok(Some(0.0)),
                Some(true) => {}
                None => return Ok(None),
            },
        }
        match optional(inputs, 1) {
            None => Ok(Some(0.5)),
            Some(ratio) => ratio.value.as_ref().map(share).transpose(),
        }
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "Dropout"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        let kept = if self.share(inputs)? == Some(0.0) { input.value.clone() } else { None };
        let data = Fact { value: kept, ..Fact::open(input.dtype, input.dims.clone()) };
        let mask = self.mask.then(|| Fact::open(DType::Bool, input.dims.clone()));
        Ok(std::iter::once(data).chain(mask).collect())
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        let drops = optional(inputs, 2).map_or(Ok(false), truth)?;
        let share = if drops { optional(inputs, 1).map_or(Ok(0.5), share)? } else { 0.0 };
        let mut kept = vec![1; input.shape().elements()];
        let mut data = input.clone();
        if share > 0.0 {
            let mut numbers = Numbers::begin(self.seed);
            kept.iter_mut().for_each(|kept| *kept = u8::from(numbers.uniform(DType::F64) >= share));
            let mut values = input.to_f64s()?;
            let scaled = |v: f64, kept: u8| if kept == 1 { v / (1.0 - share) } else { 0.0 };
            values.iter_mut().zip(&kept).for_each(|(v, kept)| *v = scaled(*v, *kept));
            data = Tensor::from_f64s(input.dtype(), input.shape().clone(), &values)?;
        }
        let mask = self.mask.then(|| Tensor::from_bools(input.shape().clone(), kept)).transpose()?;
        Ok(std::iter::once(data).chain(mask).collect())
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[2]
    }

    fn is_pure(&self) -> bool {
        false
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        if self.share(inputs)? != Some(0.0) {
            return Ok(None);
        }
        let mut expansion = Expansion::default();
        expansion.outputs.push(Some(Wire::Input(0)));
        if self.mask {
            let shape = required(inputs, 0)?.concrete()?;
            let shape = Tensor::from_vec([shape.rank()], shape.iter().map(|d| *d as i64).collect())?;
            let mut attributes = Attributes::new();
            attributes.set("value", Attribute::Tensor(Tensor::from_bools([1], vec![1])?));
            let inputs = vec![Some(Wire::Constant(shape))];
            let ones = push(&mut expansion, "ConstantOfShape", &attributes, inputs)?;
            expansion.outputs.push(Some(ones));
        }
        Ok(Some(expansion))
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.all(Rows::Mixed)
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some(REASON.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_scaled_and_masked() {
        let op = Dropout { mask: true, seed: Some(5) };
        let data = Tensor::from_vec([100, 20], vec![3.0f32; 2000]).expect("as many");
        let flag = |on: u8| Tensor::from_bools([], vec![on]).expect("one");
        let run = |ratio: f32, on: u8| op.evaluate(&[Some(&data), Some(&Tensor::scalar(ratio)), Some(&flag(on))]);
        let dropped = run(0.25, 1).expect("a ratio");
        let values = dropped[0].values::<f32>().expect("f32");
        assert!(values.iter().zip(dropped[1].bytes()).all(|(v, kept)| *v == if *kept == 1 { 4.0 } else { 0.0 }));
        let kept = dropped[1].bytes().iter().filter(|kept| **kept == 1).count();
        assert!((1400..1600).contains(&kept), "{kept}");
        assert_eq!(run(0.25, 1).expect("a ratio"), dropped);
        for (ratio, on) in [(0.0, 1), (0.25, 0)] {
            let same = run(ratio, on).expect("a ratio");
            assert!(same[0] == data && same[1].bytes().iter().all(|kept| *kept == 1));
        }
        for ratio in [1.0, -0.1, f32::NAN] {
            assert!(run(ratio, 1).is_err());
        }
    }
}
