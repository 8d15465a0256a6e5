//! Sequences and optional values: what holds tensors.

use std::sync::Arc;

use super::dtype::DType;
use super::value::{Data, Tensor};
use crate::error::{Error, Result};

/// Elements of one sequence, and bytes that they may claim.
const MAX_ELEMENTS: usize = 1 << 18;
const MAX_BYTES: usize = 1 << 32;
/// Values inside each other.
pub const MAX_NESTING: usize = 8;

impl Tensor {
    /// A sequence of `elements`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for elements of several types or nested too deep, `RESOURCE_EXHAUSTED` for too many of them.
    pub fn sequence(elements: Vec<Tensor>) -> Result<Self> {
        if let Some(other) = elements.iter().find(|e| e.dtype() != elements[0].dtype()) {
            let (first, other) = (elements[0].dtype(), other.dtype());
            return Err(Error::invalid_argument(format!("a sequence of {first} values cannot hold one of {other}")));
        }
        let bytes = elements.iter().fold(0usize, |sum, e| sum.saturating_add(e.bytes().len()));
        if elements.len() > MAX_ELEMENTS || bytes > MAX_BYTES {
            return Err(Error::resource_exhausted(format!(
                "a sequence of {} values, {bytes} bytes: at most {MAX_ELEMENTS} and {MAX_BYTES} bytes are held",
                elements.len()
            )));
        }
        shallow(&elements)?;
        Ok(Self::holding(DType::Sequence, elements.into()))
    }

    /// An optional value.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is nested too deep.
    pub fn optional(element: Option<Tensor>) -> Result<Self> {
        shallow(element.as_slice())?;
        Ok(Self::holding(DType::Optional, element.into_iter().collect()))
    }

    /// How many values are inside each other, this one included; 0 for tensors.
    fn nesting(&self) -> usize {
        if !self.dtype().is_compound() {
            return 0;
        }
        1 + self.elements().iter().map(Tensor::nesting).max().unwrap_or(0)
    }

    /// What a sequence or an optional value holds; empty for tensors.
    pub fn elements(&self) -> &[Tensor] {
        match self.data() {
            Data::Elements(elements) => elements,
            Data::Bytes(_) | Data::Strings(_) => &[],
        }
    }

    /// The elements of a sequence.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for other values.
    pub fn as_sequence(&self) -> Result<&Arc<[Tensor]>> {
        match self.data() {
            Data::Elements(elements) if self.dtype() == DType::Sequence => Ok(elements),
            _ => Err(Error::invalid_argument(format!("expected a sequence, got a {} value", self.dtype()))),
        }
    }
}

/// Dropping what is nested takes stack for every level.
fn shallow(elements: &[Tensor]) -> Result<()> {
    match elements.iter().map(Tensor::nesting).max() {
        Some(depth) if depth >= MAX_NESTING => {
            Err(Error::invalid_argument(format!("sequences and optional values are nested deeper than {MAX_NESTING}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_one_type() {
        let (a, b) = (Tensor::scalar(1.0f32), Tensor::scalar(2i64));
        let same = Tensor::sequence(vec![a.clone(), a.clone()]).expect("two floats");
        assert_eq!((same.dtype(), same.shape().rank(), same.elements().len()), (DType::Sequence, 0, 2));
        let error = Tensor::sequence(vec![a.clone(), b]).expect_err("two types");
        assert_eq!(error.message(), "a sequence of f32 values cannot hold one of i64");
        assert!(Tensor::optional(Some(a)).expect("one").as_sequence().is_err());
    }

    #[test]
    fn what_holds_tensors_is_none() {
        let none = Tensor::optional(None).expect("none");
        assert!(none.to_f64s().is_err() && none.to_i64s().is_err() && none.values::<f32>().is_err());
        assert!(none.reshaped([1]).is_err() && none.reshaped([]).is_ok());
        assert!(Tensor::from_bytes(DType::Sequence, [], vec![]).is_err());
        assert_eq!(none.bytes().len() + none.strings().len(), 0);
    }

    #[test]
    fn nesting_ends() {
        let deeper = (0..MAX_NESTING).try_fold(Tensor::scalar(1u8), |inner, _| Tensor::optional(Some(inner)));
        let deepest = deeper.expect("as deep as allowed");
        assert!(Tensor::optional(Some(deepest.clone())).is_err() && Tensor::sequence(vec![deepest]).is_err());
    }
}
