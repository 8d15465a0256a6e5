//! What is known of a value before it is computed.

use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Tensor};

/// Type, extents as far as known, and the value itself where it is constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; `None` when the rank is unknown.
    pub dims: Option<Vec<Dim>>,
    /// The constant it always is, if so.
    pub value: Option<Tensor>,
}

impl Fact {
    /// A value of known rank.
    pub fn new(dtype: DType, dims: impl IntoIterator<Item = Dim>) -> Self {
        Self { dtype, dims: Some(dims.into_iter().collect()), value: None }
    }

    /// A value of concrete shape.
    pub fn of_shape(dtype: DType, shape: &[usize]) -> Self {
        Self::new(dtype, shape.iter().map(|d| Dim::Fixed(*d)))
    }

    /// A value of unknown rank.
    pub fn of_unknown_rank(dtype: DType) -> Self {
        Self { dtype, dims: None, value: None }
    }

    /// A constant.
    pub fn constant(value: Tensor) -> Self {
        Self { value: Some(value.clone()), ..Self::of_shape(value.dtype(), value.shape()) }
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
