//! SequenceMap: a graph applied to each element of a sequence.

use std::sync::Arc;

use super::arguments::required;
use super::holding::{self, REASON, any_element, may_be_held, sequence_fact};
use super::registry::OpSpec;
use crate::engine::ir::{Expansion, Fact, Op, Profile, Subgraph, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// Nodes that a map may become.
const MAX_UNROLLED_NODES: usize = 1 << 16;

pub(super) fn sequence_map(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let body = spec.attributes.graph("body")?.ok_or_else(|| Error::invalid_argument("SequenceMap without a body"))?;
    if body.graph.inputs.len() != spec.inputs || spec.inputs <= body.captures {
        return Err(Error::invalid_argument(format!(
            "the body of a map over {} values takes {}",
            spec.inputs - body.captures.min(spec.inputs),
            body.graph.inputs.len() - body.captures.min(body.graph.inputs.len())
        )));
    }
    Ok(Arc::new(SequenceMap { own_inputs: spec.inputs - body.captures, body }))
}

/// Input 0 is the sequence; the others are sequences as long, taken element by element, or tensors, each time the same; then
/// what the body reads from around it. Each output is the sequence of what the body gives.
#[derive(Debug)]
struct SequenceMap {
    body: Subgraph,
    own_inputs: usize,
}

impl SequenceMap {
    /// Whether input `i`, a value of this type, is taken element by element.
    fn is_mapped(&self, i: usize, dtype: DType) -> bool {
        i < self.own_inputs && dtype == DType::Sequence
    }

    /// The body for each element in turn, when it is known how many there are.
    fn unrolled(&self, inputs: &[Option<&Fact>]) -> Result<Option<Expansion>> {
        let Some(parts) = sequence_fact(inputs, 0)?.parts() else { return Ok(None) };
        let count = parts.len();
        let mut mapped = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            let held = input.filter(|f| self.is_mapped(i, f.dtype));
            match held.map(Fact::parts) {
                Some(None) => return Ok(None),
                Some(Some(parts)) if parts.len() != count => return Err(uneven(count, i, parts.len())),
                _ => mapped.push(held.is_some()),
            }
        }
        if count.saturating_mul(self.body.graph.nodes.len()) > MAX_UNROLLED_NODES {
            return Ok(None);
        }
        let mut expansion = Expansion::default();
        let mut given: Vec<Vec<Wire>> = vec![Vec::with_capacity(count); self.body.graph.outputs.len()];
        for index in 0..count {
            let entering = mapped.iter().enumerate().map(|(i, mapped)| {
                let input = Wire::Input(i);
                Some(if *mapped { holding::element(&mut expansion, input, index) } else { input })
            });
            let entering: Vec<Option<Wire>> = entering.collect();
            let outputs = expansion.push_graph(&self.body.graph, &entering)?;
            given.iter_mut().zip(outputs).for_each(|(all, one)| all.push(one));
        }
        let sequences = given.into_iter().map(|all| Some(holding::sequence(&mut expansion, all)));
        expansion.outputs = sequences.collect();
        Ok(Some(expansion))
    }

    fn once(&self) -> Result<Expansion> {
        let mut expansion = Expansion::default();
        let inputs: Vec<Option<Wire>> = (0..self.body.graph.inputs.len()).map(|i| Some(Wire::Input(i))).collect();
        expansion.outputs = expansion.push_graph(&self.body.graph, &inputs)?.into_iter().map(Some).collect();
        Ok(expansion)
    }
}

fn uneven(count: usize, input: usize, other: usize) -> Error {
    Error::invalid_argument(format!("a map over {count} elements, input {input} has {other}"))
}

impl Op for SequenceMap {
    fn name(&self) -> &'static str {
        "SequenceMap"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        if let Some(expansion) = self.unrolled(inputs)? {
            return expansion.infer(inputs);
        }
        let mut entering = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            entering.push(match input {
                Some(fact) if self.is_mapped(i, fact.dtype) => Some(any_element(fact)?),
                other => other.cloned(),
            });
        }
        let entering: Vec<Option<&Fact>> = entering.iter().map(Option::as_ref).collect();
        let given = self.once()?.infer(&entering)?;
        given.iter().try_for_each(may_be_held)?;
        Ok(given.into_iter().map(|fact| Fact::of_many(DType::Sequence, Some(fact))).collect())
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let count = required(inputs, 0)?.as_sequence()?.len();
        let once = self.once()?;
        let mut given: Vec<Vec<Tensor>> = vec![Vec::with_capacity(count); self.body.graph.outputs.len()];
        for index in 0..count {
            let mut entering = Vec::with_capacity(inputs.len());
            for (i, input) in inputs.iter().enumerate() {
                entering.push(match input {
                    Some(value) if self.is_mapped(i, value.dtype()) => {
                        let elements = value.elements();
                        Some(elements.get(index).ok_or_else(|| uneven(count, i, elements.len()))?)
                    }
                    other => *other,
                });
            }
            given.iter_mut().zip(once.evaluate(&entering)?).for_each(|(all, one)| all.push(one));
        }
        given.into_iter().map(Tensor::sequence).collect()
    }

    fn is_pure(&self) -> bool {
        self.body.is_pure()
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        self.unrolled(inputs)
    }

    fn host_reason(&self, _inputs: &[Option<&Fact>], _profile: &Profile) -> Option<String> {
        Some(REASON.into())
    }
}
