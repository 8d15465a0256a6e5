//! Typed arrays in host memory, and what a model promises about them.

mod compound;
mod dtype;
mod element;
mod shape;
mod signature;
pub mod small_float;
mod value;

pub use compound::MAX_NESTING;
pub use dtype::DType;
pub use element::Element;
pub use shape::{Shape, broadcast};
pub use signature::{Dim, Signature, Spec};
pub use value::{Data, Tensor};
