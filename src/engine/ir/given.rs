//! What a compile is told of an input.

use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use super::fact::{Fact, MAX_FOLLOWED_PARTS};
use crate::tensor::{DType, Shape, Spec, Tensor};

/// One input as far as a compile may rely on it: equal lists of these run the same program.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// Its extents.
    Shape(Shape),
    /// What it is: for inputs that decide shapes or control flow.
    Value(Tensor),
    /// Types and extents of what a sequence or an optional value holds.
    Parts(Vec<(DType, Given)>),
    /// The type of what a sequence holds, for long ones.
    Many(DType),
}

impl Given {
    /// What is to be relied on of an input: its extents.
    pub fn of(tensor: &Tensor) -> Self {
        match tensor.elements() {
            _ if !tensor.dtype().is_compound() => Given::Shape(tensor.shape().clone()),
            [first, ..] if tensor.elements().len() > MAX_FOLLOWED_PARTS => Given::Many(first.dtype()),
            elements => Given::Parts(elements.iter().map(|e| (e.dtype(), Given::of(e))).collect()),
        }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        static SCALAR: LazyLock<Shape> = LazyLock::new(Shape::scalar);
        match self {
            Given::Shape(shape) => shape,
            Given::Value(tensor) => tensor.shape(),
            Given::Parts(_) | Given::Many(_) => &SCALAR,
        }
    }

    /// What is known of the input that `spec` declares.
    pub fn fact(&self, spec: &Spec) -> Fact {
        match self {
            Given::Shape(_) if spec.dtype.is_compound() => Fact::of_spec(spec),
            _ => self.typed(spec.dtype),
        }
    }

    fn typed(&self, dtype: DType) -> Fact {
        match self {
            // A tensor without elements is known.
            Given::Shape(shape) if shape.elements() == 0 && dtype != DType::String => {
                let empty = Tensor::from_bytes(dtype, shape.clone(), Vec::new());
                empty.map_or_else(|_| Fact::of_shape(dtype, shape), Fact::constant)
            }
            Given::Shape(shape) => Fact::of_shape(dtype, shape),
            Given::Value(tensor) => Fact::from(tensor),
            Given::Parts(parts) => {
                Fact::of_parts(dtype, parts.iter().map(|(dtype, given)| given.typed(*dtype)).collect())
            }
            Given::Many(element) => Fact::of_many(dtype, Some(Fact::of_unknown_rank(*element))),
        }
    }
}

// Tensors are compared by their bytes, so that equality is total.
impl Eq for Given {}

impl Hash for Given {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shape().hash(state);
        match self {
            Given::Shape(_) => {}
            Given::Value(tensor) => tensor.bytes().hash(state),
            Given::Parts(parts) => parts.hash(state),
            Given::Many(element) => element.hash(state),
        }
    }
}

impl From<&Shape> for Given {
    fn from(shape: &Shape) -> Self {
        Given::Shape(shape.clone())
    }
}
