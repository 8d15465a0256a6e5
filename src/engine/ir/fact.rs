//! What is known of a value before it is computed.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Spec, Tensor};

/// Sequences of at most this many elements are followed element by element.
pub const MAX_FOLLOWED_PARTS: usize = 512;

/// Type, extents as far as known, and the value itself where it is constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; `None` when the rank is unknown.
    pub dims: Option<Vec<Dim>>,
    /// The constant it always is, if so.
    pub value: Option<Tensor>,
    /// What a sequence or an optional value holds, as far as known.
    pub elements: Option<Elements>,
}

/// What is known of the elements of a sequence or an optional value.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Each of them: how many there are is known.
    Each(Arc<[Fact]>),
    /// What holds for any of them.
    Any(Arc<Fact>),
}

impl Fact {
    /// A tensor whose value is not known.
    pub fn open(dtype: DType, dims: Option<Vec<Dim>>) -> Self {
        Self { dtype, dims, value: None, elements: None }
    }

    /// A value of known rank.
    pub fn new(dtype: DType, dims: impl IntoIterator<Item = Dim>) -> Self {
        Self::open(dtype, Some(dims.into_iter().collect()))
    }

    /// A value of concrete shape.
    pub fn of_shape(dtype: DType, shape: &[usize]) -> Self {
        Self::new(dtype, shape.iter().map(|d| Dim::Fixed(*d)))
    }

    /// A value of unknown rank.
    pub fn of_unknown_rank(dtype: DType) -> Self {
        Self::open(dtype, None)
    }

    /// A constant.
    pub fn constant(value: Tensor) -> Self {
        let known = match value.dtype() {
            dtype if dtype.is_compound() => Self::of_parts(dtype, value.elements().iter().map(Self::from).collect()),
            dtype => Self::of_shape(dtype, value.shape()),
        };
        Self { value: Some(value), ..known }
    }

    /// A sequence or an optional value of these elements.
    pub fn of_parts(dtype: DType, parts: Vec<Fact>) -> Self {
        match parts.len() <= MAX_FOLLOWED_PARTS {
            true => Self { elements: Some(Elements::Each(parts.into())), ..Self::of_shape(dtype, &[]) },
            false => Self::of_many(dtype, parts.into_iter().reduce(Self::join)),
        }
    }

    /// A sequence or an optional value of any number of elements, for all of which `element` holds.
    pub fn of_many(dtype: DType, element: Option<Fact>) -> Self {
        let elements = element.map(|element| Elements::Any(Fact { value: None, ..element }.into()));
        Self { elements, ..Self::of_shape(dtype, &[]) }
    }

    /// What a signature says.
    pub fn of_spec(spec: &Spec) -> Self {
        match &spec.element {
            Some(element) => Self::of_many(spec.dtype, Some(Self::of_spec(element))),
            None => Self::open(spec.dtype, spec.dims.clone()),
        }
    }

    /// How many sequences and optional values are inside each other, this one included; 0 for tensors.
    pub fn nesting(&self) -> usize {
        let deepest = match &self.elements {
            Some(Elements::Each(parts)) => parts.iter().map(Fact::nesting).max().unwrap_or(0),
            Some(Elements::Any(element)) => element.nesting(),
            None => 0,
        };
        deepest + usize::from(self.dtype.is_compound())
    }

    /// The elements of a sequence or an optional value, where each is known.
    pub fn parts(&self) -> Option<&[Fact]> {
        match &self.elements {
            Some(Elements::Each(parts)) => Some(parts),
            _ => None,
        }
    }

    /// What holds for any element of a sequence or an optional value.
    pub fn element(&self) -> Option<Fact> {
        match self.elements.as_ref()? {
            Elements::Each(parts) => parts.iter().cloned().reduce(Self::join).map(|f| Fact { value: None, ..f }),
            Elements::Any(element) => Some(Fact::clone(element)),
        }
    }

    /// What holds for both.
    pub fn join(self, other: Self) -> Self {
        if self.dtype != other.dtype && (self.dtype == DType::Optional || other.dtype == DType::Optional) {
            let inner = |fact: Self| if fact.dtype == DType::Optional { fact.element() } else { Some(fact) };
            let element = inner(self).into_iter().chain(inner(other)).reduce(Self::join);
            return Self::of_many(DType::Optional, element);
        }
        if self.dtype.is_compound() {
            return self.join_elements(other);
        }
        let dims = match (self.dims, other.dims) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Some(a.into_iter().zip(b).map(|(a, b)| if a == b { a } else { Dim::Unknown }).collect())
            }
            _ => None,
        };
        Self::open(self.dtype, dims)
    }

    fn join_elements(self, other: Self) -> Self {
        match (self.parts(), other.parts()) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Self::of_parts(self.dtype, a.iter().zip(b).map(|(a, b)| a.clone().join(b.clone())).collect())
            }
            _ => {
                let elements = self.element().into_iter().chain(other.element());
                Self::of_many(self.dtype, elements.reduce(Self::join))
            }
        }
    }

    /// The concrete shape, if every extent is fixed.
    pub fn shape(&self) -> Option<Shape> {
        self.dims.as_ref()?.iter().map(Dim::fixed).collect::<Option<Vec<_>>>().map(Shape::new)
    }

    /// The concrete shape, for code that runs only after shapes are known.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` when an extent depends on data.
    pub fn concrete(&self) -> Result<Shape> {
        self.shape().ok_or_else(|| Error::unimplemented("a shape depends on data, which is not supported yet"))
    }

    /// How many axes, if known.
    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }
}

impl From<&Tensor> for Fact {
    fn from(value: &Tensor) -> Self {
        Self::constant(value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_both_is_no_more_than_either_says() {
        let sequence = |parts: &[usize]| {
            let parts = parts.iter().map(|n| Fact::of_shape(DType::F32, &[2, *n]));
            Fact::of_parts(DType::Sequence, parts.collect())
        };
        let same = sequence(&[1, 2]).join(sequence(&[1, 3]));
        let parts = same.parts().expect("two each");
        assert_eq!((parts[0].shape(), parts[1].shape()), (Some([2, 1].into()), None));
        let several = sequence(&[1, 1]).join(sequence(&[]));
        assert_eq!((several.parts(), several.element()), (None, Some(Fact::of_shape(DType::F32, &[2, 1]))));
        let optional = Fact::of_parts(DType::Optional, Vec::new()).join(sequence(&[4]));
        assert_eq!((optional.dtype, optional.element()), (DType::Optional, Some(sequence(&[4]))));
    }
}
