//! Writing an operator down as a composition of others.

use std::sync::Arc;

use super::registry::{OpSpec, build};
use crate::engine::ir::{Attribute, Attributes, Expansion, Op, Subgraph, Wire};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// The version whose attribute forms are used: axes of reductions are inputs, as are those of Squeeze.
const OPSET: i64 = 18;

/// An expansion being written.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    expansion: Expansion,
}

/// A number as a constant of `dtype`.
pub(super) fn number(dtype: DType, value: f64) -> Result<Wire> {
    Ok(Wire::Constant(Tensor::from_f64s(dtype, Vec::new(), &[value])?))
}

/// Integers along one axis.
pub(super) fn ints(values: impl IntoIterator<Item = i64>) -> Result<Wire> {
    let values: Vec<i64> = values.into_iter().collect();
    Ok(Wire::Constant(Tensor::from_vec([values.len()], values)?))
}

fn extents(values: &[usize]) -> Result<Wire> {
    ints(values.iter().map(|v| *v as i64))
}

impl Sketch {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds `op` with one output.
    pub(super) fn push(&mut self, op: Arc<dyn Op>, inputs: &[&Wire]) -> Wire {
        self.expansion.push(op, inputs.iter().map(|w| Some((*w).clone())).collect(), 1)
    }

    /// Adds `op`, of two outputs.
    pub(super) fn push_two(&mut self, op: Arc<dyn Op>, inputs: Vec<Option<Wire>>) -> [Wire; 2] {
        self.expansion.push(op, inputs, 2);
        let node = self.expansion.nodes.len() - 1;
        [0, 1].map(|output| Wire::Output { node, output })
    }

    /// Adds operator `name` and returns its first output.
    pub(super) fn op(&mut self, name: &str, inputs: &[&Wire]) -> Result<Wire> {
        self.with(name, inputs, &[])
    }

    /// As [`Sketch::op`], with attributes.
    pub(super) fn with(&mut self, name: &str, inputs: &[&Wire], attributes: &[(&str, Attribute)]) -> Result<Wire> {
        let inputs = inputs.iter().map(|w| Some((*w).clone())).collect();
        Ok(self.many(("", name), inputs, attributes, 1)?.remove(0))
    }

    /// Adds an operator of any domain, inputs left out included, and returns its outputs.
    pub(super) fn many(
        &mut self,
        (domain, name): (&str, &str),
        inputs: Vec<Option<Wire>>,
        attributes: &[(&str, Attribute)],
        outputs: usize,
    ) -> Result<Vec<Wire>> {
        let mut all = Attributes::new();
        for (name, value) in attributes {
            all.set(*name, value.clone());
        }
        let opset = if domain.is_empty() { OPSET } else { 1 };
        let spec = OpSpec { domain, name, opset, attributes: &all, inputs: inputs.len(), outputs };
        let op = build(&spec)?;
        self.expansion.push(op, inputs, outputs);
        let node = self.expansion.nodes.len() - 1;
        Ok((0..outputs).map(|output| Wire::Output { node, output }).collect())
    }

    /// Adds all nodes of `graph` and returns its outputs.
    pub(super) fn graph(&mut self, graph: &Subgraph, inputs: Vec<Wire>) -> Result<Vec<Wire>> {
        self.expansion.push_graph(&graph.graph, &inputs.into_iter().map(Some).collect::<Vec<_>>())
    }

    pub(super) fn reshape(&mut self, x: &Wire, shape: &[usize]) -> Result<Wire> {
        self.with("Reshape", &[x, &extents(shape)?], &[("allowzero", Attribute::Int(1))])
    }

    pub(super) fn transpose(&mut self, x: &Wire, order: &[usize]) -> Result<Wire> {
        let order = order.iter().map(|a| *a as i64).collect();
        self.with("Transpose", &[x], &[("perm", Attribute::Ints(order))])
    }

    pub(super) fn expand(&mut self, x: &Wire, shape: &[usize]) -> Result<Wire> {
        self.op("Expand", &[x, &extents(shape)?])
    }

    /// Entries `start..end` of `axis`.
    pub(super) fn slice(&mut self, x: &Wire, axis: usize, start: usize, end: usize) -> Result<Wire> {
        self.op("Slice", &[x, &extents(&[start])?, &extents(&[end])?, &extents(&[axis])?])
    }

    pub(super) fn concat(&mut self, parts: &[&Wire], axis: usize) -> Result<Wire> {
        self.with("Concat", parts, &[("axis", Attribute::Int(axis as i64))])
    }

    pub(super) fn unsqueeze(&mut self, x: &Wire, axes: &[usize]) -> Result<Wire> {
        self.op("Unsqueeze", &[x, &extents(axes)?])
    }

    pub(super) fn cast(&mut self, x: &Wire, to: DType) -> Result<Wire> {
        self.with("Cast", &[x], &[("to", Attribute::DType(to))])
    }

    /// Reduction `name` along `axes`, which stay with extent 1 if `keep`.
    pub(super) fn reduce(&mut self, name: &str, x: &Wire, axes: &[usize], keep: bool) -> Result<Wire> {
        let keep = [("keepdims", Attribute::Int(i64::from(keep))), ("noop_with_empty_axes", Attribute::Int(1))];
        self.with(name, &[x, &extents(axes)?], &keep)
    }

    /// What was written, giving `outputs`.
    pub(super) fn finish(self, outputs: impl IntoIterator<Item = Wire>) -> Expansion {
        Expansion { outputs: outputs.into_iter().map(Some).collect(), ..self.expansion }
    }
}
