//! An operator as a small graph of others.

use std::sync::Arc;

use super::fact::Fact;
use super::graph::Graph;
use super::infer::{infer, infer_extents};
use super::op::Op;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Elements of a value between the nodes of an expansion that is evaluated on the host.
const MAX_HOST_ELEMENTS: usize = 1 << 25;

/// A value inside an expansion.
#[derive(Clone, Debug)]
pub enum Wire {
    /// The expanded operator's input of this index.
    Input(usize),
    /// A constant.
    Constant(Tensor),
    /// Output `output` of node `node`.
    Output {
        /// Which node.
        node: usize,
        /// Which of its outputs.
        output: usize,
    },
}

/// One operator of an expansion.
#[derive(Clone, Debug)]
pub struct ExpandedNode {
    /// What the node is called inside the expansion; empty for its operator's name.
    pub name: String,
    /// What it does.
    pub op: Arc<dyn Op>,
    /// What it reads; `None` for inputs left out.
    pub inputs: Vec<Option<Wire>>,
    /// How many outputs it has.
    pub outputs: usize,
}

/// An operator as a small graph of others, for inputs of known shapes.
#[derive(Clone, Debug, Default)]
pub struct Expansion {
    /// Nodes, each after those it reads.
    pub nodes: Vec<ExpandedNode>,
    /// What the operator's outputs are.
    pub outputs: Vec<Option<Wire>>,
}

impl Expansion {
    /// Adds a node and returns its output 0.
    pub fn push(&mut self, op: Arc<dyn Op>, inputs: Vec<Option<Wire>>, outputs: usize) -> Wire {
        self.nodes.push(ExpandedNode { name: String::new(), op, inputs, outputs });
        Wire::Output { node: self.nodes.len() - 1, output: 0 }
    }

    /// Adds all nodes of `graph`, whose inputs are `inputs`, and returns its outputs.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the graph takes another number of inputs or reads what nothing writes.
    pub fn push_graph(&mut self, graph: &Graph, inputs: &[Option<Wire>]) -> Result<Vec<Wire>> {
        if inputs.len() != graph.inputs.len() {
            let (wanted, got) = (graph.inputs.len(), inputs.len());
            return Err(Error::invalid_argument(format!("a subgraph takes {wanted} inputs, got {got}")));
        }
        let constants = graph.values.iter().map(|v| v.constant.clone().map(Wire::Constant));
        let mut wires: Vec<Option<Wire>> = constants.collect();
        for (value, wire) in graph.inputs.iter().zip(inputs) {
            wires[value.0].clone_from(wire);
        }
        for node in &graph.nodes {
            let read = node.inputs.iter().map(|v| v.and_then(|v| wires[v.0].clone())).collect();
            self.push(Arc::clone(&node.op), read, node.outputs.len());
            let index = self.nodes.len() - 1;
            self.nodes[index].name.clone_from(&node.name);
            for (output, value) in node.outputs.iter().enumerate() {
                if let Some(value) = value {
                    wires[value.0] = Some(Wire::Output { node: index, output });
                }
            }
        }
        let missing = || Error::invalid_argument("nothing writes an output of a subgraph");
        graph.outputs.iter().map(|v| wires[v.0].clone().ok_or_else(missing)).collect()
    }

    /// Facts of the outputs, for these inputs.
    ///
    /// # Errors
    /// Those of the nodes.
    pub fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let mut facts: Vec<Vec<Fact>> = Vec::with_capacity(self.nodes.len());
        let fact = |wire: &Wire, facts: &[Vec<Fact>]| match wire {
            Wire::Input(i) => inputs.get(*i).copied().flatten().cloned(),
            Wire::Constant(tensor) => Some(Fact::from(tensor)),
            Wire::Output { node, output } => facts.get(*node).and_then(|f| f.get(*output)).cloned(),
        };
        for node in &self.nodes {
            let read: Vec<Option<Fact>> =
                node.inputs.iter().map(|w| w.as_ref().and_then(|w| fact(w, &facts))).collect();
            let read: Vec<Option<&Fact>> = read.iter().map(Option::as_ref).collect();
            facts.push(infer(&*node.op, &read)?);
        }
        self.collect(|wire| fact(wire, &facts))
    }

    /// The outputs for these inputs, on the host.
    ///
    /// # Errors
    /// Those of the nodes.
    pub fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let mut values: Vec<Vec<Tensor>> = Vec::with_capacity(self.nodes.len());
        let value = |wire: &Wire, values: &[Vec<Tensor>]| match wire {
            Wire::Input(i) => inputs.get(*i).copied().flatten().cloned(),
            Wire::Constant(tensor) => Some(tensor.clone()),
            Wire::Output { node, output } => values.get(*node).and_then(|v| v.get(*output)).cloned(),
        };
        for node in &self.nodes {
            let read: Vec<Option<Tensor>> =
                node.inputs.iter().map(|w| w.as_ref().and_then(|w| value(w, &values))).collect();
            let facts: Vec<Option<Fact>> = read.iter().map(|t| t.as_ref().map(Fact::from)).collect();
            let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
            let given = infer_extents(&*node.op, &facts)?;
            if let Some(large) = given.iter().filter_map(Fact::shape).find(|s| s.elements() > MAX_HOST_ELEMENTS) {
                return Err(Error::resource_exhausted(format!(
                    "{} gives {large} on the host: more than {MAX_HOST_ELEMENTS} elements",
                    node.op.name()
                )));
            }
            let read: Vec<Option<&Tensor>> = read.iter().map(Option::as_ref).collect();
            values.push(node.op.evaluate(&read)?);
        }
        self.collect(|wire| value(wire, &values))
    }

    fn collect<T>(&self, get: impl Fn(&Wire) -> Option<T>) -> Result<Vec<T>> {
        let missing = || Error::internal("an expansion leaves an output out");
        // Outputs that are left out stand behind those that are there.
        self.outputs.iter().map_while(Option::as_ref).map(|wire| get(wire).ok_or_else(missing)).collect()
    }
}
