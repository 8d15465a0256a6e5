//! If: one of two graphs, as a condition says.

use std::sync::Arc;

use super::arguments::required;
use super::registry::OpSpec;
use crate::engine::ir::{Expansion, Fact, Op, Profile, Subgraph, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

pub(super) fn branch(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let graph = |name: &str| {
        let graph =
            spec.attributes.graph(name)?.ok_or_else(|| Error::invalid_argument(format!("If without {name}")))?;
        if graph.graph.outputs.len() < spec.outputs || graph.graph.inputs.len() != graph.captures {
            return Err(Error::invalid_argument(format!(
                "{name} takes {} inputs and gives {} outputs, where If takes none and gives {}",
                graph.graph.inputs.len() - graph.captures.min(graph.graph.inputs.len()),
                graph.graph.outputs.len(),
                spec.outputs
            )));
        }
        Ok(graph)
    };
    Ok(Arc::new(If { then: graph("then_branch")?, otherwise: graph("else_branch")? }))
}

/// Input 0 decides; the others are what the branches read.
#[derive(Debug)]
struct If {
    then: Subgraph,
    otherwise: Subgraph,
}

impl If {
    fn taken(&self, condition: &Tensor) -> Result<Expansion> {
        self.expanded(if truth(condition)? { &self.then } else { &self.otherwise })
    }

    fn expanded(&self, branch: &Subgraph) -> Result<Expansion> {
        let inputs: Vec<Option<Wire>> = (1..=branch.captures).map(|i| Some(Wire::Input(i))).collect();
        let mut expansion = Expansion::default();
        expansion.outputs = expansion.push_graph(&branch.graph, &inputs)?.into_iter().map(Some).collect();
        Ok(expansion)
    }
}

/// The one bool that a condition is.
pub(super) fn truth(condition: &Tensor) -> Result<bool> {
    match (condition.dtype(), &condition.bytes()[..]) {
        (DType::Bool, [decision]) => Ok(*decision != 0),
        (dtype, _) => {
            Err(Error::invalid_argument(format!("a condition is one bool, got {dtype} {}", condition.shape())))
        }
    }
}

/// What is left to be known of a value when a branch that is not understood may give it too.
fn loosened(fact: Fact) -> Fact {
    match fact.element() {
        Some(element) => Fact::of_many(fact.dtype, Some(loosened(element))),
        None if fact.dtype.is_compound() => Fact::of_many(fact.dtype, None),
        None => Fact::of_unknown_rank(fact.dtype),
    }
}

impl Op for If {
    fn name(&self) -> &'static str {
        "If"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        if let Some(condition) = &required(inputs, 0)?.value {
            return self.taken(condition)?.infer(inputs);
        }
        // A branch may be one that these extents never take.
        match (self.expanded(&self.then)?.infer(inputs), self.expanded(&self.otherwise)?.infer(inputs)) {
            (Ok(then), Ok(otherwise)) => Ok(then.into_iter().zip(otherwise).map(|(a, b)| a.join(b)).collect()),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one.into_iter().map(loosened).collect()),
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        self.taken(required(inputs, 0)?)?.evaluate(inputs)
    }

    fn is_pure(&self) -> bool {
        self.then.is_pure() && self.otherwise.is_pure()
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn shape_inputs(&self) -> &'static [usize] {
        &[0]
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        required(inputs, 0)?.value.as_ref().map(|condition| self.taken(condition)).transpose()
    }
}
