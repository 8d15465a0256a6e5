//! Optional values: Optional, OptionalHasElement and OptionalGetElement.

use std::sync::Arc;

use super::arguments::{optional, required};
use super::holding::{self, Holding, REASON, any_element};
use super::registry::OpSpec;
use crate::engine::ir::{Expansion, Fact, Op, Profile, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

pub(super) fn make(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Holding(DType::Optional)))
}

pub(super) fn has_element(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(HasElement))
}

pub(super) fn get_element(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(GetElement))
}

/// Whether the input holds anything: none that is left out does, all that are not optional do.
#[derive(Debug)]
struct HasElement;

fn flag(value: bool) -> Result<Tensor> {
    Tensor::from_bools(Shape::scalar(), vec![u8::from(value)])
}

impl Op for HasElement {
    fn name(&self) -> &'static str {
        "OptionalHasElement"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let known = match optional(inputs, 0) {
            None => Some(false),
            Some(fact) if fact.dtype != DType::Optional => Some(true),
            Some(fact) => fact.parts().map(|parts| !parts.is_empty()),
        };
        Ok(vec![match known {
            Some(known) => Fact::constant(flag(known)?),
            None => Fact::of_shape(DType::Bool, &[]),
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let has = |value: &Tensor| value.dtype() != DType::Optional || !value.elements().is_empty();
        Ok(vec![flag(optional(inputs, 0).is_some_and(has))?])
    }

    fn reads_values(&self) -> bool {
        false
    }

    fn takes_sequences(&self) -> bool {
        true
    }
}

/// What the input holds; itself if it is not optional.
#[derive(Debug)]
struct GetElement;

fn nothing() -> Error {
    Error::invalid_argument("the optional value holds nothing")
}

impl Op for GetElement {
    fn name(&self) -> &'static str {
        "OptionalGetElement"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let input = required(inputs, 0)?;
        Ok(vec![match input.parts() {
            _ if input.dtype != DType::Optional => input.clone(),
            Some(parts) => parts.first().cloned().ok_or_else(nothing)?,
            None => any_element(input)?,
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let input = required(inputs, 0)?;
        if input.dtype() != DType::Optional {
            return Ok(vec![input.clone()]);
        }
        Ok(vec![input.elements().first().cloned().ok_or_else(nothing)?])
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        let input = required(inputs, 0)?;
        let mut expansion = Expansion::default();
        let output = match input.parts() {
            _ if input.dtype != DType::Optional => Wire::Input(0),
            Some(_) => holding::element(&mut expansion, Wire::Input(0), 0),
            None => return Ok(None),
        };
        expansion.outputs = vec![Some(output)];
        Ok(Some(expansion))
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some(REASON.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_nothing() {
        let one = Tensor::scalar(1.0f32);
        let some = Holding(DType::Optional).evaluate(&[Some(&one)]).expect("one").remove(0);
        let none = Holding(DType::Optional).evaluate(&[]).expect("none").remove(0);
        assert_eq!(
            (&some, &none),
            (&Tensor::optional(Some(one.clone())).expect("one"), &Tensor::optional(None).expect("none"))
        );
        for (input, has) in [(Some(&one), 1), (Some(&some), 1), (Some(&none), 0), (None, 0)] {
            assert_eq!(HasElement.evaluate(&[input]).expect("any")[0].bytes()[..], [has]);
        }
        for input in [&one, &some] {
            assert_eq!(GetElement.evaluate(&[Some(input)]).expect("one")[0], one);
        }
        assert!(GetElement.evaluate(&[Some(&none)]).is_err() && GetElement.infer(&[Some(&(&none).into())]).is_err());
    }
}
