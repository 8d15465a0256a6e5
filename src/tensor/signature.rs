//! What a model takes and gives: named values whose extents may be symbols.

use std::fmt;
use std::sync::Arc;

use super::dtype::DType;

/// The extent of one axis as far as it is known before a request comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Always this many.
    Fixed(usize),
    /// Equal wherever the same name stands within one model.
    Symbol(Arc<str>),
    /// Known only at run time.
    Unknown,
}

impl Dim {
    /// The extent if it is fixed.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(*n),
            _ => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(s) => f.write_str(s),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// One named input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The name that requests and replies use.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; `None` when even the rank is unknown.
    pub dims: Option<Vec<Dim>>,
    /// What a sequence or an optional value holds, without a name.
    pub element: Option<Box<Spec>>,
}

impl Spec {
    /// A tensor.
    pub fn tensor(name: impl Into<String>, dtype: DType, dims: Option<Vec<Dim>>) -> Self {
        Self { name: name.into(), dtype, dims, element: None }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", self.name)?;
        }
        if let Some(element) = &self.element {
            return write!(f, "{} of {element}", self.dtype);
        }
        write!(f, "{}", self.dtype)?;
        match &self.dims {
            None => f.write_str("[…]"),
            Some(dims) => {
                let dims: Vec<_> = dims.iter().map(Dim::to_string).collect();
                write!(f, "[{}]", dims.join(","))
            }
        }
    }
}

/// A callable face of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Inputs in the model's order.
    pub inputs: Vec<Spec>,
    /// Outputs in the model's order.
    pub outputs: Vec<Spec>,
}
