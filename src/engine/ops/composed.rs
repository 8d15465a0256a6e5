//! Operators that are compositions of others.

use std::fmt;
use std::sync::Arc;

use super::arguments::{known, required};
use super::registry::{OpSpec, build};
use super::sketch::Sketch;
use crate::engine::ir::{Attributes, Expansion, Fact, Op, Profile, Rows, RowsQuery, Wire};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Makes the composition for these inputs; `None` while their shapes, or values that give shapes, are not known.
type Compose = dyn Fn(&[Option<&Fact>]) -> Result<Option<Expansion>> + Send + Sync;
/// What is known of the outputs before the composition is.
type Open = dyn Fn(&[Option<&Fact>]) -> Result<Vec<Fact>> + Send + Sync;
/// Where the rows of a batch go.
type RowsOf = dyn Fn(&RowsQuery<'_>) -> Vec<Rows> + Send + Sync;

/// An operator that is a composition of others, whatever the device.
pub(super) struct Composed {
    pub(super) name: &'static str,
    pub(super) shape_inputs: &'static [usize],
    pub(super) compose: Box<Compose>,
    pub(super) open: Box<Open>,
    pub(super) rows: Box<RowsOf>,
}

impl fmt::Debug for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Composed").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The one output has input 0's type and extents.
pub(super) fn same_extents(inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    Ok(vec![Fact { value: None, ..required(inputs, 0)?.clone() }])
}

/// The one output has input 0's type and rank.
pub(super) fn same_rank(inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    let input = required(inputs, 0)?;
    let dims = input.dims.as_ref().map(|d| super::arguments::unknown(d.len()));
    Ok(vec![Fact::open(input.dtype, dims)])
}

/// The one output has input 0's type; its rank is given by values.
pub(super) fn same_type(inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
    Ok(vec![Fact::of_unknown_rank(required(inputs, 0)?.dtype)])
}

/// Adds operator `name` of opset 13 to `expansion`.
pub(super) fn push(
    expansion: &mut Expansion,
    name: &str,
    attributes: &Attributes,
    inputs: Vec<Option<Wire>>,
) -> Result<Wire> {
    let spec = OpSpec { domain: "", name, opset: 13, attributes, inputs: inputs.len(), outputs: 1 };
    Ok(expansion.push(build(&spec)?, inputs, 1))
}

impl Composed {
    fn composition(&self, inputs: &[Option<&Fact>]) -> Result<Option<Expansion>> {
        if required(inputs, 0)?.shape().is_none() {
            return Ok(None);
        }
        (self.compose)(inputs)
    }
}

impl Op for Composed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        match self.composition(inputs)? {
            Some(expansion) => expansion.infer(inputs),
            None => (self.open)(inputs),
        }
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let expansion = self.composition(&facts)?;
        expansion.ok_or_else(|| Error::internal(format!("{} of constants is not known", self.name)))?.evaluate(inputs)
    }

    fn shape_inputs(&self) -> &'static [usize] {
        self.shape_inputs
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        self.composition(inputs)
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        (self.rows)(query)
    }
}

/// `compose` with the shape of input 0.
pub(super) fn over_shape(
    compose: impl Fn(&[usize], &Fact) -> Result<Expansion> + Send + Sync + 'static,
) -> Box<Compose> {
    Box::new(move |inputs| {
        let input = required(inputs, 0)?;
        input.shape().map(|shape| compose(&shape, input)).transpose()
    })
}

/// The operator of `spec`, written once all its inputs' shapes are known; all outputs have input 0's type until then.
pub(super) fn written(
    name: &'static str,
    spec: &OpSpec<'_>,
    write: impl Fn(&mut Sketch, &[Option<&Fact>]) -> Result<Vec<Wire>> + Send + Sync + 'static,
) -> Result<Arc<dyn Op>> {
    let outputs = spec.outputs.max(1);
    composed(Composed {
        name,
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            if inputs.iter().flatten().any(|fact| fact.shape().is_none()) {
                return Ok(None);
            }
            let mut sketch = Sketch::new();
            let wires = write(&mut sketch, inputs)?;
            Ok(Some(sketch.finish(wires.into_iter().take(outputs))))
        }),
        open: Box::new(move |inputs| {
            let dtype = required(inputs, 0)?.dtype;
            Ok((0..outputs).map(|_| Fact::of_unknown_rank(dtype)).collect())
        }),
        rows: Box::new(|query| query.default_answer()),
    })
}

/// A composed operator, ready for the registry.
pub(super) fn composed(op: Composed) -> Result<Arc<dyn Op>> {
    Ok(Arc::new(op))
}
