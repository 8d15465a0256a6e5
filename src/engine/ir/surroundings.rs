//! What stands around a node of a graph of known shapes, for operators that can do their neighbours' work too.

use std::sync::Arc;

use super::fact::Fact;
use super::graph::{Graph, Node, ValueId};
use super::op::Op;
use super::profile::Profile;
use super::strided::Strided;
use crate::tensor::Tensor;

/// A node's surroundings.
pub struct Surroundings<'a> {
    /// What the adapter can do.
    pub profile: &'a Profile,
    graph: &'a Graph,
    facts: &'a [Option<Fact>],
    producers: Vec<Option<usize>>,
    /// The nodes that read each value, once for each place.
    readers: Vec<Vec<usize>>,
    /// Whether a value is read outside the nodes.
    leaves: Vec<bool>,
}

/// What takes the place of several nodes.
#[derive(Debug)]
pub struct Fused {
    /// The operator.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub inputs: Vec<Option<ValueId>>,
    /// What it writes.
    pub output: ValueId,
}

impl<'a> Surroundings<'a> {
    /// Those among the nodes `live` of `graph`, what is known of its values being `facts`; `leaving` are read elsewhere too.
    pub fn new(
        graph: &'a Graph,
        facts: &'a [Option<Fact>],
        live: &[usize],
        leaving: &[ValueId],
        profile: &'a Profile,
    ) -> Self {
        let mut readers = vec![Vec::new(); graph.values.len()];
        let mut producers = vec![None; graph.values.len()];
        for index in live {
            let node = &graph.nodes[*index];
            node.inputs.iter().flatten().for_each(|value| readers[value.0].push(*index));
            node.outputs.iter().flatten().for_each(|value| producers[value.0] = Some(*index));
        }
        let mut leaves = vec![false; graph.values.len()];
        graph.outputs.iter().chain(leaving).for_each(|value| leaves[value.0] = true);
        Self { profile, graph, facts, producers, readers, leaves }
    }

    /// What is known of `value`.
    pub fn fact(&self, value: ValueId) -> Option<&'a Fact> {
        self.facts[value.0].as_ref()
    }

    /// The constant that `value` is, if so.
    pub fn constant(&self, value: ValueId) -> Option<&'a Tensor> {
        self.fact(value)?.value.as_ref()
    }

    /// What is known of what `node` reads.
    pub fn facts(&self, node: &Node) -> Vec<Option<&'a Fact>> {
        node.inputs.iter().map(|v| v.and_then(|v| self.fact(v))).collect()
    }

    /// The node that computes `value`.
    pub fn producer(&self, value: ValueId) -> Option<&'a Node> {
        self.producers[value.0].map(|index| &self.graph.nodes[index])
    }

    /// The node that computes `value`, if it is read once only, inside the graph.
    pub fn sole_producer(&self, value: ValueId) -> Option<&'a Node> {
        let once = self.readers[value.0].len() == 1 && !self.leaves[value.0];
        self.producer(value).filter(|_| once)
    }

    /// The node that alone reads `value`.
    pub fn sole_reader(&self, value: ValueId) -> Option<&'a Node> {
        match self.readers[value.0][..] {
            [one] if !self.leaves[value.0] => Some(&self.graph.nodes[one]),
            _ => None,
        }
    }

    /// The nodes that read `value` and come before `node`.
    pub fn readers_before(&self, value: ValueId, node: &Node) -> impl Iterator<Item = &'a Node> {
        let (graph, own) = (self.graph, node.outputs.iter().flatten().find_map(|output| self.producers[output.0]));
        let before = self.readers[value.0].iter().filter(move |index| own.is_some_and(|own| **index < own));
        before.map(move |index| &graph.nodes[*index])
    }

    /// Where the elements that `node` gives as `output` lie in its first input, if moving them is all that it does.
    pub fn arrangement(&self, node: &Node, output: ValueId) -> Option<(ValueId, Strided)> {
        let place = node.outputs.iter().position(|v| *v == Some(output))?;
        let source = node.inputs.first().copied().flatten()?;
        Some((source, node.op.arrangement(place, &self.facts(node))?))
    }

    /// What `value` is made of by moving elements alone, and where they lie in it.
    pub fn source(&self, value: ValueId) -> Option<(ValueId, Strided)> {
        let mut found = (value, Strided::whole(self.fact(value)?.shape()?.elements()));
        while let Some((source, inner)) = self.producer(found.0).and_then(|node| self.arrangement(node, found.0)) {
            let Some(both) = inner.of(&found.1) else { break };
            found = (source, both);
        }
        Some(found)
    }

    /// What is made of `value` by moving all of its elements, as long as nothing else reads them, and where they go.
    pub fn target(&self, value: ValueId) -> Option<(ValueId, Strided)> {
        let mut found = (value, Strided::whole(self.fact(value)?.shape()?.elements()));
        while let Some(reader) = self.sole_reader(found.0) {
            let [Some(output)] = reader.outputs[..] else { break };
            let moved = self.arrangement(reader, output).filter(|(source, _)| *source == found.0);
            let Some(back) = moved.and_then(|(_, inner)| inner.inverse()) else { break };
            let Some(both) = back.of(&found.1).filter(|m| m.elements() == found.1.elements()) else { break };
            found = (output, both);
        }
        Some(found)
    }
}
