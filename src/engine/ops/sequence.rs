//! Sequences: made, changed and read.

use std::sync::Arc;

use super::arguments::{optional, place, required};
use super::holding::{self, Holding, REASON, any_element, may_be_held, sequence_fact};
use super::registry::OpSpec;
use crate::engine::ir::{Expansion, Fact, Op, Profile, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

pub(super) fn construct(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    if spec.inputs == 0 {
        return Err(Error::invalid_argument("a sequence is made of at least one tensor"));
    }
    Ok(Arc::new(Holding(DType::Sequence)))
}

pub(super) fn empty(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Sequence(Kind::Empty)))
}

pub(super) fn insert(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Sequence(Kind::Insert)))
}

pub(super) fn erase(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Sequence(Kind::Erase)))
}

pub(super) fn at(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Sequence(Kind::At)))
}

pub(super) fn length(_spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(Sequence(Kind::Length)))
}

/// What is done with the sequence that input 0 is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// None is read, one without elements made.
    Empty,
    /// Input 1 comes before the element that input 2 numbers, or behind the last.
    Insert,
    /// The element that input 1 numbers, or the last, goes.
    Erase,
    /// The element that input 1 numbers.
    At,
    /// How many elements there are.
    Length,
}

#[derive(Debug)]
struct Sequence(Kind);

impl Sequence {
    /// The input that numbers an element.
    fn position_input(&self) -> usize {
        if self.0 == Kind::Insert { 2 } else { 1 }
    }

    /// The place meant among `count` elements.
    fn place(&self, position: Option<&Tensor>, count: usize) -> Result<usize> {
        let position = match position {
            Some(position) => match position.to_i64s()?[..] {
                [position] => position,
                _ => {
                    return Err(Error::invalid_argument(format!(
                        "a position is one integer, not {}",
                        position.shape()
                    )));
                }
            },
            None if self.0 == Kind::Insert => count as i64,
            None => -1,
        };
        match self.0 {
            // Behind the last is a place too.
            Kind::Insert if position == count as i64 => Ok(count),
            _ => place(position, count)
                .map_err(|_| Error::invalid_argument(format!("position {position} of a sequence of {count} elements"))),
        }
    }

    /// The sequence's elements and the place meant, where both are known.
    fn known<'a>(&self, inputs: &[Option<&'a Fact>]) -> Result<Option<(&'a [Fact], usize)>> {
        let Some(parts) = sequence_fact(inputs, 0)?.parts() else { return Ok(None) };
        let position = optional(inputs, self.position_input());
        if position.is_some_and(|p| p.value.is_none()) {
            return Ok(None);
        }
        let at = self.place(position.and_then(|p| p.value.as_ref()), parts.len())?;
        Ok(Some((parts, at)))
    }
}

/// `elements` with `new` before number `at`.
fn inserted<T: Clone>(elements: &[T], at: usize, new: T) -> Vec<T> {
    let (before, behind) = elements.split_at(at);
    before.iter().cloned().chain([new]).chain(behind.iter().cloned()).collect()
}

/// `elements` without number `at`.
fn erased<T: Clone>(elements: &[T], at: usize) -> Vec<T> {
    elements.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, e)| e.clone()).collect()
}

fn fits(sequence: &Fact, new: &Fact) -> Result<()> {
    may_be_held(new)?;
    match sequence.element().map(|e| e.dtype).filter(|held| *held != new.dtype) {
        Some(held) => {
            Err(Error::invalid_argument(format!("a sequence of {held} values cannot hold one of {}", new.dtype)))
        }
        None => Ok(()),
    }
}

impl Op for Sequence {
    fn name(&self) -> &'static str {
        match self.0 {
            Kind::Empty => "SequenceEmpty",
            Kind::Insert => "SequenceInsert",
            Kind::Erase => "SequenceErase",
            Kind::At => "SequenceAt",
            Kind::Length => "SequenceLength",
        }
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let sequence = |parts| Fact::of_parts(DType::Sequence, parts);
        Ok(vec![match self.0 {
            Kind::Empty => sequence(Vec::new()),
            Kind::Insert => {
                let (held, new) = (sequence_fact(inputs, 0)?, required(inputs, 1)?);
                fits(held, new)?;
                match self.known(inputs)? {
                    Some((parts, at)) => sequence(inserted(parts, at, new.clone())),
                    None => {
                        let both = held.element().into_iter().chain([new.clone()]);
                        Fact::of_many(DType::Sequence, both.reduce(Fact::join))
                    }
                }
            }
            Kind::Erase => match self.known(inputs)? {
                Some((parts, at)) => sequence(erased(parts, at)),
                None => Fact::of_many(DType::Sequence, sequence_fact(inputs, 0)?.element()),
            },
            Kind::At => {
                required(inputs, 1)?;
                match self.known(inputs)? {
                    Some((parts, at)) => parts[at].clone(),
                    None => any_element(sequence_fact(inputs, 0)?)?,
                }
            }
            Kind::Length => match sequence_fact(inputs, 0)?.parts() {
                Some(parts) => Fact::constant(Tensor::scalar(parts.len() as i64)),
                None => Fact::of_shape(DType::I64, &[]),
            },
        }])
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        if self.0 == Kind::Empty {
            return Ok(vec![Tensor::sequence(Vec::new())?]);
        }
        let elements = required(inputs, 0)?.as_sequence()?;
        let at = || self.place(optional(inputs, self.position_input()), elements.len());
        Ok(vec![match self.0 {
            Kind::Empty => Tensor::sequence(Vec::new())?,
            Kind::Insert => Tensor::sequence(inserted(elements, at()?, required(inputs, 1)?.clone()))?,
            Kind::Erase => Tensor::sequence(erased(elements, at()?))?,
            Kind::At => elements[at()?].clone(),
            Kind::Length => Tensor::scalar(elements.len() as i64),
        }])
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        if !matches!(self.0, Kind::Insert | Kind::Erase | Kind::At) {
            return Ok(None);
        }
        let Some((parts, at)) = self.known(inputs)? else { return Ok(None) };
        let mut expansion = Expansion::default();
        let output = if self.0 == Kind::At {
            holding::element(&mut expansion, Wire::Input(0), at)
        } else {
            let held =
                (0..parts.len()).map(|i| holding::element(&mut expansion, Wire::Input(0), i)).collect::<Vec<_>>();
            let changed = if self.0 == Kind::Insert { inserted(&held, at, Wire::Input(1)) } else { erased(&held, at) };
            holding::sequence(&mut expansion, changed)
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
    use crate::error::Code;

    fn scalars(values: &[f32]) -> Tensor {
        Tensor::sequence(values.iter().map(|v| Tensor::scalar(*v)).collect()).expect("one type")
    }

    fn run(kind: Kind, inputs: &[&Tensor]) -> Result<Tensor> {
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|t| Some(*t)).collect();
        Ok(Sequence(kind).evaluate(&inputs)?.remove(0))
    }

    #[test]
    fn positions_count_from_either_end() {
        let (abc, new) = (scalars(&[1.0, 2.0, 3.0]), Tensor::scalar(9.0f32));
        let insert = |at: i64| run(Kind::Insert, &[&abc, &new, &Tensor::scalar(at)]);
        assert_eq!(insert(0).expect("inside"), scalars(&[9.0, 1.0, 2.0, 3.0]));
        assert_eq!(insert(-1).expect("inside"), scalars(&[1.0, 2.0, 9.0, 3.0]));
        assert_eq!(insert(3).expect("the end"), run(Kind::Insert, &[&abc, &new]).expect("the end"));
        assert_eq!(run(Kind::Erase, &[&abc]).expect("the last"), scalars(&[1.0, 2.0]));
        assert_eq!(run(Kind::At, &[&abc, &Tensor::scalar(-3i32)]).expect("inside"), Tensor::scalar(1.0f32));
        for (kind, at) in [(Kind::Insert, 4i64), (Kind::Insert, -4), (Kind::Erase, 3), (Kind::At, 3), (Kind::At, -4)] {
            let at = Tensor::scalar(at);
            let inputs: &[&Tensor] = if kind == Kind::Insert { &[&abc, &new, &at] } else { &[&abc, &at] };
            let error = run(kind, inputs).expect_err("outside");
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        }
    }

    #[test]
    fn elements_of_another_type_and_tensors_are_refused() {
        let (abc, other) = (scalars(&[1.0]), Tensor::scalar(1i64));
        assert!(run(Kind::Insert, &[&abc, &other]).is_err());
        assert!(run(Kind::Length, &[&other]).is_err());
        let facts = [Fact::from(&abc), Fact::from(&other)];
        assert!(Sequence(Kind::Insert).infer(&[Some(&facts[0]), Some(&facts[1])]).is_err());
        assert!(Sequence(Kind::Length).infer(&[Some(&facts[1])]).is_err());
        assert!(
            Holding(DType::Sequence).infer(&[Some(&facts[1]), Some(&Fact::from(&Tensor::scalar(1.0f32)))]).is_err()
        );
    }
}
