//! Operators by name.

use std::sync::Arc;

use crate::engine::ir::{Attributes, Op};
use crate::error::{Error, Result};

/// One node as an importer found it.
#[derive(Clone, Debug)]
pub struct OpSpec<'a> {
    /// The operator's domain; empty for ONNX's own.
    pub domain: &'a str,
    /// The operator's name.
    pub name: &'a str,
    /// The version of the domain that the model asks for.
    pub opset: i64,
    /// Its attributes.
    pub attributes: &'a Attributes,
    /// How many inputs the node lists.
    pub inputs: usize,
    /// How many outputs the node lists.
    pub outputs: usize,
}

type Constructor = fn(&OpSpec<'_>) -> Result<Arc<dyn Op>>;

/// (domain, name, constructor): one line an operator.
const OPERATORS: &[(&str, &str, Constructor)] = &[
    ("", "Conv", super::conv::conv),
    ("", "ConvTranspose", super::conv_transpose::conv_transpose),
    ("", "Gemm", super::gemm::gemm),
    ("", "MatMul", super::matmul::matmul),
];

/// The operator that `spec` asks for.
///
/// # Errors
/// `UNIMPLEMENTED` for an operator or variant that does not exist here; `INVALID_ARGUMENT` for attributes that are wrong.
pub fn build(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let domain = if spec.domain == "ai.onnx" { "" } else { spec.domain };
    let found = OPERATORS.iter().find(|(d, name, _)| *d == domain && *name == spec.name);
    let (_, _, constructor) =
        found.ok_or_else(|| Error::unimplemented(format!("operator {} is not supported", spec.name)))?;
    constructor(spec)
}

/// Every operator's domain and name.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPERATORS.iter().map(|(domain, name, _)| (*domain, *name))
}
