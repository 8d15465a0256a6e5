//! What a compile is told of an input.

use std::hash::{Hash, Hasher};

use super::fact::Fact;
use crate::tensor::{DType, Shape, Tensor};

/// One input as far as a compile may rely on it: equal lists of these run the same program.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// Its extents.
    Shape(Shape),
    /// What it is: for inputs that decide shapes or control flow.
    Value(Tensor),
}

impl Given {
    /// The extents.
    pub fn shape(&self) -> &Shape {
        match self {
            Given::Shape(shape) => shape,
            Given::Value(tensor) => tensor.shape(),
        }
    }

    /// What is known of an input of `dtype`.
    pub fn fact(&self, dtype: DType) -> Fact {
        match self {
            // A tensor without elements is known.
            Given::Shape(shape) if shape.elements() == 0 && dtype != DType::String => {
                let empty = Tensor::from_bytes(dtype, shape.clone(), Vec::new());
                empty.map_or_else(|_| Fact::of_shape(dtype, shape), Fact::constant)
            }
            Given::Shape(shape) => Fact::of_shape(dtype, shape),
            Given::Value(tensor) => Fact::from(tensor),
        }
    }
}

// Tensors are compared by their bytes, so that equality is total.
impl Eq for Given {}

impl Hash for Given {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shape().hash(state);
        if let Given::Value(tensor) = self {
            tensor.bytes().hash(state);
        }
    }
}

impl From<&Shape> for Given {
    fn from(shape: &Shape) -> Self {
        Given::Shape(shape.clone())
    }
}
