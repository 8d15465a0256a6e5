//! What stands behind a program: its outputs, and the rest of the graph that is compiled when it has run.

use std::collections::HashSet;
use std::sync::Arc;

use super::lower::Lowering;
use crate::engine::ir::{Graph, OutputPlace, Rest, ValueId};
use crate::error::Result;
use crate::tensor::{Signature, Spec};

impl Lowering<'_> {
    /// Says where the outputs are, and what goes on behind the program.
    pub(super) fn hand_over(&mut self) -> Result<()> {
        let later: HashSet<ValueId> =
            self.known.blocked.iter().flat_map(|n| self.graph.nodes[*n].outputs.iter().flatten().copied()).collect();
        let mut rest_outputs = Vec::new();
        for output in &self.graph.outputs {
            let place = if later.contains(output) {
                rest_outputs.push(*output);
                OutputPlace::Rest(rest_outputs.len() - 1)
            } else {
                OutputPlace::Slot(self.host_slot(*output)?)
            };
            self.program.outputs.push(place);
        }
        if !rest_outputs.is_empty() {
            let mut inputs = Vec::with_capacity(self.known.crossing.len());
            for value in &self.known.crossing {
                inputs.push((self.host_slot(*value)?, self.known.wanted.contains(value)));
            }
            let graph = self.rest_graph(rest_outputs)?;
            self.program.rest = Some(Rest { graph: Arc::new(graph), inputs });
        }
        Ok(())
    }

    /// The blocked nodes as a graph of their own.
    fn rest_graph(&self, outputs: Vec<ValueId>) -> Result<Graph> {
        let mut values = self.graph.values.clone();
        for (index, value) in values.iter_mut().enumerate() {
            value.constant = self.known.constant(ValueId(index)).cloned();
        }
        let spec = |value: &ValueId| {
            let fact = self.fact(*value)?;
            Ok(Spec::tensor(self.name(*value), fact.dtype, None))
        };
        let inputs = self.known.crossing.iter().map(spec).collect::<Result<Vec<_>>>()?;
        Ok(Graph {
            values,
            nodes: self.known.blocked.iter().map(|n| self.graph.nodes[*n].clone()).collect(),
            inputs: self.known.crossing.clone(),
            outputs,
            signature: Signature { inputs, outputs: Vec::new() },
        })
    }
}
