//! A graph under concrete inputs: extents known, shape arithmetic folded, composite operators expanded, and cut where
//! something must be computed before the rest can be known.

use std::collections::{BTreeSet, HashMap};

use super::dequantised::Readers;
use crate::engine::ir::{Expansion, Fact, Given, Graph, Node, Packing, Profile, ValueId, Wire, infer};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Operators made of operators made of operators …
const MAX_EXPANSION_DEPTH: usize = 64;
/// Nodes after expansion: unrolled loops are what makes many.
const MAX_NODES: usize = 1 << 19;

/// What is known of every value of a graph under concrete inputs.
#[derive(Debug)]
pub struct Specialised {
    /// The graph with composite operators expanded; values keep their places, new ones come behind.
    pub graph: Graph,
    facts: Vec<Option<Fact>>,
    /// Indices of the nodes to be computed now, in order.
    pub live: Vec<usize>,
    /// Indices of the nodes that can be compiled only when the live ones have run, in order.
    pub blocked: Vec<usize>,
    /// Values computed now that blocked nodes or outputs behind them read.
    pub crossing: Vec<ValueId>,
    /// Those of them whose values decide how the rest goes on.
    pub wanted: BTreeSet<ValueId>,
}

impl Specialised {
    /// What is known of `value`; every value that a live node touches has a fact.
    pub fn fact(&self, value: ValueId) -> Option<&Fact> {
        self.facts[value.0].as_ref()
    }

    /// The constant that `value` is, if so.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.fact(value)?.value.as_ref()
    }

    /// Facts of a node's inputs.
    pub fn input_facts(&self, node: &Node) -> Vec<Option<&Fact>> {
        node.inputs.iter().map(|v| v.and_then(|v| self.fact(v))).collect()
    }

    /// Facts of a node's outputs; unused ones repeat the first.
    pub fn output_facts(&self, node: &Node) -> Vec<Fact> {
        node.outputs.iter().filter_map(|v| v.and_then(|v| self.fact(v)).cloned()).collect()
    }

    /// What is known of each value.
    pub(super) fn facts(&self) -> &[Option<Fact>] {
        &self.facts
    }

    /// Leaves those nodes live that the outputs, or what is computed later, still need.
    pub(super) fn keep_needed(&mut self) {
        let mut needed: BTreeSet<ValueId> = self.graph.outputs.iter().chain(&self.crossing).copied().collect();
        let mut live = Vec::with_capacity(self.live.len());
        for index in self.live.iter().rev() {
            let node = &self.graph.nodes[*index];
            if node.outputs.iter().flatten().any(|value| needed.contains(value)) {
                needed.extend(node.inputs.iter().flatten());
                live.push(*index);
            }
        }
        live.reverse();
        self.live = live;
    }

    /// Whether extents of what the node gives are known only once it has run.
    pub fn is_dynamic(&self, node: &Node) -> bool {
        node.outputs.iter().flatten().any(|v| self.fact(*v).is_some_and(|f| f.shape().is_none()))
    }
}

/// Infers every value of `graph` for these inputs, in the signature's order, evaluating what is constant.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the node that cannot take the inputs, `RESOURCE_EXHAUSTED` for loops that unroll too far.
pub fn specialise(graph: &Graph, inputs: &[Given], profile: &Profile) -> Result<Specialised> {
    if inputs.len() != graph.inputs.len() {
        return Err(Error::invalid_argument(format!(
            "the model takes {} inputs, got {}",
            graph.inputs.len(),
            inputs.len()
        )));
    }
    let mut facts: Vec<Option<Fact>> = graph.values.iter().map(|v| v.constant.as_ref().map(Fact::from)).collect();
    for ((value, spec), given) in graph.inputs.iter().zip(&graph.signature.inputs).zip(inputs) {
        facts[value.0] = Some(given.fact(spec));
    }
    let known = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone_without_nodes() };
    let unknown = vec![false; facts.len()];
    let mut walk = Walk {
        graph: known,
        profile,
        facts,
        unknown,
        alias: HashMap::new(),
        held: HashMap::new(),
        blocked: Vec::new(),
        wanted: BTreeSet::new(),
    };
    for node in &graph.nodes {
        walk.node(node.clone(), 0).map_err(|e| e.at(node.describe()))?;
    }
    walk.finish()
}

struct Walk<'a> {
    graph: Graph,
    profile: &'a Profile,
    facts: Vec<Option<Fact>>,
    /// Values known only when what can be compiled now has run.
    unknown: Vec<bool>,
    /// Outputs of expanded operators that are other values.
    alias: HashMap<ValueId, ValueId>,
    /// What sequences and optional values are made of: read from there, it need not leave the device.
    held: HashMap<ValueId, Vec<ValueId>>,
    blocked: Vec<usize>,
    wanted: BTreeSet<ValueId>,
}

impl Walk<'_> {
    fn node(&mut self, mut node: Node, depth: usize) -> Result<()> {
        for input in node.inputs.iter_mut().flatten() {
            *input = self.alias.get(input).copied().unwrap_or(*input);
        }
        if self.graph.nodes.len() >= MAX_NODES || depth > MAX_EXPANSION_DEPTH {
            return Err(Error::resource_exhausted(format!("more than {MAX_NODES} nodes after expansion")));
        }
        if let Some(source) = self.element(&node)
            && let Some(value) = node.outputs.first().copied().flatten()
        {
            self.alias(value, source);
            return Ok(());
        }
        if let (true, Some(Some(value))) = (node.op.holds_inputs(), node.outputs.first()) {
            self.held.insert(*value, node.inputs.iter().flatten().copied().collect());
        }
        if self.must_wait(&node) {
            self.block(node);
            return Ok(());
        }
        let facts: Vec<Option<&Fact>> = node.inputs.iter().map(|v| v.and_then(|v| self.facts[v.0].as_ref())).collect();
        let constants: Vec<Option<&Tensor>> = facts.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
        // Whether weights are restored beforehand is decided when all their readers are there.
        let outputs = match node.op.quantized(&constants) {
            Some(weight) if Packing::of_constant(&weight.codes).is_some() => node.op.infer(&facts)?,
            _ => infer(&*node.op, &facts)?,
        };
        let folded = outputs.iter().all(|f| f.value.is_some());
        if !folded && let Some(expansion) = node.op.expand(&facts, self.profile)? {
            return self.inline(&node, expansion, depth);
        }
        // Extents that depend on data: whoever reads them waits until the node has run.
        for (value, fact) in node.outputs.iter().zip(outputs) {
            if let Some(value) = value {
                self.unknown[value.0] = fact.shape().is_none();
                self.facts[value.0] = Some(fact);
            }
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    /// The value that the node takes out of one made here.
    fn element(&self, node: &Node) -> Option<ValueId> {
        let from = node.inputs.first().copied().flatten()?;
        self.held.get(&from)?.get(node.op.element()?).copied()
    }

    /// From here on `value` is another name of `source`.
    fn alias(&mut self, value: ValueId, source: ValueId) {
        self.alias.insert(value, source);
        self.facts[value.0] = self.facts[source.0].clone();
        self.unknown[value.0] = self.unknown[source.0];
    }

    /// Whether the node reads what is not known yet, noting the values that it needs.
    fn must_wait(&mut self, node: &Node) -> bool {
        let is_unknown = |v: &ValueId| self.unknown[v.0];
        let mut waits = node.inputs.iter().flatten().any(is_unknown);
        for i in node.op.shape_inputs() {
            let Some(value) = node.inputs.get(*i).copied().flatten() else { continue };
            if self.facts[value.0].as_ref().is_none_or(|f| f.value.is_none()) {
                waits = true;
                self.wanted.insert(value);
            }
        }
        waits
    }

    fn block(&mut self, node: Node) {
        for value in node.outputs.iter().flatten() {
            self.unknown[value.0] = true;
        }
        self.blocked.push(self.graph.nodes.len());
        self.graph.nodes.push(node);
    }

    fn add_value(&mut self, name: String, constant: Option<Tensor>) -> ValueId {
        self.facts.push(constant.as_ref().map(Fact::from));
        self.unknown.push(false);
        self.graph.add_value(name, constant)
    }

    /// Puts the nodes of `expansion` in the place of `node`.
    fn inline(&mut self, node: &Node, expansion: Expansion, depth: usize) -> Result<()> {
        // Outputs of inner nodes that are outputs of the whole are written in place.
        let mut direct: HashMap<(usize, usize), ValueId> = HashMap::new();
        for (value, wire) in node.outputs.iter().zip(&expansion.outputs) {
            if let (Some(value), Some(Wire::Output { node, output })) = (value, wire) {
                direct.entry((*node, *output)).or_insert(*value);
            }
        }
        let mut written: Vec<Vec<Option<ValueId>>> = Vec::with_capacity(expansion.nodes.len());
        for (index, inner) in expansion.nodes.into_iter().enumerate() {
            let label = if inner.name.is_empty() { inner.op.name() } else { inner.name.as_str() };
            let name = format!("{}/{label}", node.name);
            let mut inputs = Vec::with_capacity(inner.inputs.len());
            for wire in inner.inputs {
                inputs.push(wire.and_then(|wire| self.wire(node, &name, wire, &written)));
            }
            let mut outputs = Vec::with_capacity(inner.outputs);
            for output in 0..inner.outputs {
                let value = direct.get(&(index, output)).copied();
                outputs.push(Some(value.unwrap_or_else(|| self.add_value(format!("{name}:{output}"), None))));
            }
            written.push(outputs.clone());
            self.node(Node { name, op: inner.op, inputs, outputs }, depth + 1)?;
        }
        for (value, wire) in node.outputs.iter().zip(expansion.outputs) {
            let (Some(value), Some(wire)) = (*value, wire) else { continue };
            match self.wire(node, &node.name, wire, &written) {
                Some(source) if source != value => self.alias(value, source),
                _ => {}
            }
        }
        Ok(())
    }

    fn wire(&mut self, node: &Node, name: &str, wire: Wire, written: &[Vec<Option<ValueId>>]) -> Option<ValueId> {
        let value = match wire {
            Wire::Input(i) => node.inputs.get(i).copied().flatten()?,
            Wire::Constant(tensor) => self.add_value(format!("{name}/constant"), Some(tensor)),
            Wire::Output { node, output } => written[node][output]?,
        };
        Some(self.alias.get(&value).copied().unwrap_or(value))
    }

    /// Computes weights whose readers do not restore them themselves, and what follows from them.
    fn settle(&mut self) -> Result<()> {
        let readers = Readers::new(&self.graph);
        let mut blocked: BTreeSet<usize> = self.blocked.iter().copied().collect();
        for index in 0..self.graph.nodes.len() {
            let node = &self.graph.nodes[index];
            let outputs: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
            let facts: Vec<Option<&Fact>> =
                node.inputs.iter().map(|v| v.and_then(|v| self.facts[v.0].as_ref())).collect();
            let constants: Vec<Option<&Tensor>> = facts.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
            let open = outputs.iter().any(|v| self.facts[v.0].as_ref().is_some_and(|f| f.value.is_none()));
            let computable = node.inputs.iter().zip(&constants).all(|(v, c)| v.is_none() || c.is_some());
            if !open || !computable || blocked.contains(&index) {
                continue;
            }
            if let Some(weight) = node.op.quantized(&constants)
                && readers.restore(&self.graph, index, &weight)
            {
                // It goes where its readers go, if they go together.
                let later = readers.of(outputs[0]).iter().filter(|r| blocked.contains(r)).count();
                if later == readers.of(outputs[0]).len() {
                    blocked.insert(index);
                }
                if later == 0 || blocked.contains(&index) {
                    continue;
                }
            }
            let inferred = infer(&*node.op, &facts).map_err(|e| e.at(node.describe()))?;
            for (value, fact) in self.graph.nodes[index].outputs.clone().into_iter().zip(inferred) {
                if let Some(value) = value {
                    self.facts[value.0] = Some(fact);
                }
            }
        }
        self.blocked = blocked.into_iter().collect();
        Ok(())
    }

    fn finish(mut self) -> Result<Specialised> {
        self.settle()?;
        for output in &mut self.graph.outputs {
            *output = self.alias.get(output).copied().unwrap_or(*output);
        }
        let mut specialised = Specialised {
            graph: self.graph,
            facts: self.facts,
            live: Vec::new(),
            blocked: Vec::new(),
            crossing: Vec::new(),
            wanted: BTreeSet::new(),
        };
        divide(&mut specialised, &self.blocked, &self.wanted);
        Ok(specialised)
    }
}

/// Says which nodes outputs depend on through values that are not constants: now, and later.
fn divide(known: &mut Specialised, blocked: &[usize], wanted: &BTreeSet<ValueId>) {
    let blocked: BTreeSet<usize> = blocked.iter().copied().collect();
    let mut needed = vec![false; known.graph.values.len()];
    for output in &known.graph.outputs {
        needed[output.0] = known.constant(*output).is_none();
    }
    let mut later = vec![false; known.graph.values.len()];
    let (mut now_nodes, mut later_nodes) = (Vec::new(), Vec::new());
    for (index, node) in known.graph.nodes.iter().enumerate().rev() {
        if !node.outputs.iter().flatten().any(|v| needed[v.0]) {
            continue;
        }
        let is_blocked = blocked.contains(&index);
        if is_blocked {
            later_nodes.push(index)
        } else {
            now_nodes.push(index)
        }
        for value in node.inputs.iter().flatten() {
            needed[value.0] |= known.constant(*value).is_none();
            later[value.0] |= is_blocked && known.constant(*value).is_none();
        }
    }
    now_nodes.reverse();
    later_nodes.reverse();
    let written_later: BTreeSet<ValueId> =
        later_nodes.iter().flat_map(|n| known.graph.nodes[*n].outputs.iter().flatten().copied()).collect();
    let crossing = (0..later.len()).filter(|v| later[*v]).map(ValueId).filter(|v| !written_later.contains(v));
    known.crossing = crossing.collect();
    known.wanted = known.crossing.iter().copied().filter(|v| wanted.contains(v)).collect();
    known.live = now_nodes;
    known.blocked = later_nodes;
}
