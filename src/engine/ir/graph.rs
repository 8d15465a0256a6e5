//! The format-neutral graph.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::op::{Op, Replacement, Source};
use crate::error::{Error, Result};
use crate::tensor::{Signature, Tensor};

/// A value of a graph: the index of its [`ValueInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// A value's name and, for weights and folded constants, its contents.
#[derive(Clone, Debug, Default)]
pub struct ValueInfo {
    /// The model's name for it, for messages.
    pub name: String,
    /// What it always is, if constant.
    pub constant: Option<Tensor>,
}

/// One operator applied to values. Optional inputs and unused outputs are `None`.
#[derive(Clone, Debug)]
pub struct Node {
    /// The model's name for it, for messages; made up where the model has none.
    pub name: String,
    /// What it does.
    pub op: Arc<dyn Op>,
    /// What it reads.
    pub inputs: Vec<Option<ValueId>>,
    /// What it writes.
    pub outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// `Conv node "x"`, for messages.
    pub fn describe(&self) -> String {
        format!("{} node {:?}", self.op.name(), self.name)
    }
}

/// A whole model: nodes in an order in which every value is written before it is read.
#[derive(Clone, Debug)]
pub struct Graph {
    /// All values.
    pub values: Vec<ValueInfo>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// The values fed by a request, in the signature's order.
    pub inputs: Vec<ValueId>,
    /// The values returned, in the signature's order.
    pub outputs: Vec<ValueId>,
    /// Names, types and declared extents of inputs and outputs.
    pub signature: Signature,
}

impl Graph {
    /// The graph with all its values and none of its nodes.
    pub fn clone_without_nodes(&self) -> Self {
        Self {
            values: self.values.clone(),
            nodes: Vec::new(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            signature: self.signature.clone(),
        }
    }

    /// Adds a value.
    pub fn add_value(&mut self, name: impl Into<String>, constant: Option<Tensor>) -> ValueId {
        self.values.push(ValueInfo { name: name.into(), constant });
        ValueId(self.values.len() - 1)
    }

    /// The constant that `value` is, if so.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.values[value.0].constant.as_ref()
    }

    /// The constants among a node's inputs.
    pub fn constants(&self, node: &Node) -> Vec<Option<&Tensor>> {
        node.inputs.iter().map(|v| v.and_then(|v| self.constant(v))).collect()
    }

    /// Puts `replacement`, whose inputs are those of node `reads`, in the place of node `index`, keeping its first output.
    pub fn replace(&mut self, index: usize, reads: usize, replacement: Replacement) {
        let old_inputs = self.nodes[reads].inputs.clone();
        let name = self.nodes[reads].name.clone();
        let inputs: Vec<Option<ValueId>> = replacement
            .inputs
            .into_iter()
            .enumerate()
            .map(|(position, source)| match source? {
                Source::Input(i) => old_inputs.get(i).copied().flatten(),
                Source::Constant(tensor) => Some(self.add_value(format!("{name}.{position}"), Some(tensor))),
            })
            .collect();
        let node = &mut self.nodes[index];
        node.name = name;
        node.op = replacement.op;
        node.inputs = inputs;
        node.outputs.truncate(1);
    }

    /// How often each value is read, graph outputs counted once each.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        let reads = self.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).chain(&self.outputs);
        for value in reads {
            uses[value.0] += 1;
        }
        uses
    }

    /// Which node writes each value.
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for value in node.outputs.iter().flatten() {
                producers[value.0] = Some(index);
            }
        }
        producers
    }

    /// Drops nodes whose outputs nobody reads, and the constants only they read.
    pub fn remove_dead(&mut self) {
        let mut live: BTreeSet<ValueId> = self.outputs.iter().copied().collect();
        let mut keep = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            keep[index] = node.outputs.iter().flatten().any(|v| live.contains(v));
            if keep[index] {
                live.extend(node.inputs.iter().flatten());
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next().unwrap_or(true));
        for (index, value) in self.values.iter_mut().enumerate() {
            if !live.contains(&ValueId(index)) {
                value.constant = None;
            }
        }
    }

    /// Checks that every value is written once, before it is read.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the node and value.
    pub fn check(&self) -> Result<()> {
        let mut written: Vec<bool> = self.values.iter().map(|v| v.constant.is_some()).collect();
        for input in &self.inputs {
            written[input.0] = true;
        }
        for node in &self.nodes {
            if let Some(missing) = node.inputs.iter().flatten().find(|v| !written[v.0]) {
                let name = &self.values[missing.0].name;
                return Err(Error::invalid_argument(format!(
                    "{} reads {name:?}, which nothing writes",
                    node.describe()
                )));
            }
            for output in node.outputs.iter().flatten() {
                if std::mem::replace(&mut written[output.0], true) {
                    let name = &self.values[output.0].name;
                    return Err(Error::invalid_argument(format!("{} writes {name:?} a second time", node.describe())));
                }
            }
        }
        match self.outputs.iter().find(|v| !written[v.0]) {
            Some(missing) => {
                let name = &self.values[missing.0].name;
                Err(Error::invalid_argument(format!("nothing writes the output {name:?}")))
            }
            None => Ok(()),
        }
    }
}
