//! Sequences and optional values put together and taken apart: what their operators become where it is known what is held.

use std::sync::Arc;

use super::arguments::{place, required};
use crate::engine::ir::{Expansion, Fact, Op, Profile, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, MAX_NESTING, Tensor};

/// Why such operators run on the host.
pub(super) const REASON: &str = "sequences and optional values stay on the host";

/// A sequence of all inputs, as a node of `expansion`.
pub(super) fn sequence(expansion: &mut Expansion, elements: Vec<Wire>) -> Wire {
    expansion.push(Arc::new(Holding(DType::Sequence)), elements.into_iter().map(Some).collect(), 1)
}

/// Element `index` of `from`, as a node of `expansion`.
pub(super) fn element(expansion: &mut Expansion, from: Wire, index: usize) -> Wire {
    expansion.push(Arc::new(Element(index)), vec![Some(from)], 1)
}

/// The sequence that input `i` is.
///
/// # Errors
/// `INVALID_ARGUMENT` for other values.
pub(super) fn sequence_fact<'a>(inputs: &[Option<&'a Fact>], i: usize) -> Result<&'a Fact> {
    let fact = required(inputs, i)?;
    if fact.dtype == DType::Sequence {
        return Ok(fact);
    }
    Err(Error::invalid_argument(format!("input {i} is to be a sequence, it is a {} value", fact.dtype)))
}

/// Whether a value may hold `element`.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is nested too deep.
pub(super) fn may_be_held(element: &Fact) -> Result<()> {
    if element.nesting() < MAX_NESTING {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("sequences and optional values are nested deeper than {MAX_NESTING}")))
}

/// What holds for any element of `fact`.
///
/// # Errors
/// `INVALID_ARGUMENT` when there is none that could tell.
pub(super) fn any_element(fact: &Fact) -> Result<Fact> {
    let unknown = || Error::invalid_argument(format!("the type of what a {} value holds is not known", fact.dtype));
    fact.element().ok_or_else(unknown)
}

/// Makes a value of this type that holds all inputs.
#[derive(Debug)]
pub(super) struct Holding(pub(super) DType);

impl Op for Holding {
    fn name(&self) -> &'static str {
        if self.0 == DType::Optional { "Optional" } else { "SequenceConstruct" }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let parts: Vec<Fact> = inputs.iter().flatten().map(|f| (*f).clone()).collect();
        if let Some(other) = parts.iter().find(|p| p.dtype != parts[0].dtype) {
            let (first, other) = (parts[0].dtype, other.dtype);
            return Err(Error::invalid_argument(format!("a sequence of {first} values cannot hold one of {other}")));
        }
        parts.iter().try_for_each(may_be_held)?;
        Ok(vec![Fact::of_parts(self.0, parts)])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let mut parts: Vec<Tensor> = inputs.iter().flatten().map(|t| (*t).clone()).collect();
        Ok(vec![match self.0 {
            DType::Optional => Tensor::optional(parts.pop())?,
            _ => Tensor::sequence(parts)?,
        }])
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn holds_inputs(&self) -> bool {
        true
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some(REASON.into())
    }
}

/// Takes this element out of a sequence or an optional value.
#[derive(Debug)]
struct Element(usize);

impl Op for Element {
    fn name(&self) -> &'static str {
        "SequenceAt"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let from = required(inputs, 0)?;
        Ok(vec![match from.parts() {
            Some(parts) => parts[place(self.0 as i64, parts.len())?].clone(),
            None => any_element(from)?,
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let elements = required(inputs, 0)?.elements();
        Ok(vec![elements[place(self.0 as i64, elements.len())?].clone()])
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn element(&self) -> Option<usize> {
        Some(self.0)
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some(REASON.into())
    }
}
