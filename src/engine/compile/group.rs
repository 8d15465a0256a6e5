//! Which nodes run together: a kernel and the elementwise work fused behind it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::dequantised::Restored;
use super::specialise::Specialised;
use crate::engine::ir::{Chain, Fact, Graph, Node, PointwiseBuilder, PointwiseInput, Profile, Reg, ValueId};

/// Elementwise nodes looked at behind one kernel.
const MAX_MEMBERS: usize = 24;
/// Storage buffers left to a kernel's own bindings when a chain takes operands.
const OWN_BUFFERS: usize = 6;
/// Stands for the caller among the readers of a graph output.
const CALLER: usize = usize::MAX;

/// What runs as one step.
#[derive(Debug)]
pub(super) enum Unit {
    /// Kernels of one node, if it has any, with the chain fused behind them.
    Device {
        /// The node whose kernels run; `None` when the chain is all there is.
        root: Option<usize>,
        /// What is done to each value before it is stored.
        chain: Chain,
        /// The nodes that run here, in order.
        members: Vec<usize>,
        /// What is stored.
        output: ValueId,
    },
    /// Output 0 is input 0 under another shape.
    View(usize),
    /// A host step, and why it is one.
    Host(usize, String),
}

impl Unit {
    /// The position in the graph's order at which everything it reads is there: its last node's.
    fn place(&self) -> usize {
        match self {
            Unit::Device { members, .. } => members.last().copied().unwrap_or(0),
            Unit::View(node) | Unit::Host(node, _) => *node,
        }
    }
}

/// Groups the live nodes of a graph. `forced_host` names nodes that have no kernel for their case, and why; what is in
/// `restored` needs no unit.
pub(super) fn units(
    graph: &Graph,
    known: &Specialised,
    profile: &Profile,
    forced_host: &HashMap<usize, String>,
    restored: &HashMap<ValueId, Restored>,
) -> Vec<Unit> {
    let grouper = Grouper { graph, known, profile, forced_host, readers: readers(graph, known) };
    let mut taken = HashSet::new();
    let mut units = Vec::new();
    for index in known.live.iter().copied() {
        let left_to_readers = graph.nodes[index].outputs.iter().flatten().any(|v| restored.contains_key(v));
        if taken.contains(&index) || left_to_readers {
            continue;
        }
        let unit = grouper.unit(index, &taken);
        if let Unit::Device { members, .. } = &unit {
            taken.extend(members.iter().copied());
        }
        units.push(unit);
    }
    units.sort_by_key(Unit::place);
    units
}

/// Live readers of each value.
fn readers(graph: &Graph, known: &Specialised) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.values.len()];
    for index in known.live.iter().copied() {
        let inputs: BTreeSet<ValueId> = graph.nodes[index].inputs.iter().flatten().copied().collect();
        for value in inputs {
            readers[value.0].push(index);
        }
    }
    for value in graph.outputs.iter().chain(&known.crossing) {
        readers[value.0].push(CALLER);
    }
    readers
}

struct Grouper<'a> {
    graph: &'a Graph,
    known: &'a Specialised,
    profile: &'a Profile,
    forced_host: &'a HashMap<usize, String>,
    readers: Vec<Vec<usize>>,
}

/// A unit while it grows.
#[derive(Clone)]
struct Draft {
    chain: Chain,
    regs: HashMap<ValueId, Reg>,
    members: Vec<usize>,
    output: ValueId,
}

impl Grouper<'_> {
    fn unit(&self, index: usize, taken: &HashSet<usize>) -> Unit {
        let node = &self.graph.nodes[index];
        if let Some(reason) = self.host_reason(index) {
            return Unit::Host(index, reason);
        }
        if node.op.is_view() {
            return Unit::View(index);
        }
        let Some(output) = node.outputs.first().copied().flatten() else {
            return Unit::Host(index, "its first output is not used".into());
        };
        if let Some(draft) = self.pointwise_draft(index, output) {
            return self.grow(None, draft, taken);
        }
        let mut draft = Draft { chain: Chain::default(), regs: HashMap::new(), members: vec![index], output };
        if let Some(storage) = self.known.fact(output).and_then(|f| self.profile.storage(f.dtype)) {
            let value = draft.chain.value(storage.class());
            draft.chain.finish(value);
            draft.regs.insert(output, value);
        }
        self.grow(Some(index), draft, taken)
    }

    fn host_reason(&self, index: usize) -> Option<String> {
        if let Some(reason) = self.forced_host.get(&index) {
            return Some(reason.clone());
        }
        let node = &self.graph.nodes[index];
        let inputs = self.known.input_facts(node);
        if let Some(reason) = node.op.host_reason(&inputs, self.profile) {
            return Some(reason);
        }
        let outputs = self.known.output_facts(node);
        let moving = inputs.iter().flatten().copied().filter(|f| f.value.is_none()).chain(&outputs);
        let missing = moving.map(|f| f.dtype).find(|dtype| self.profile.storage(*dtype).is_none())?;
        Some(format!("{missing} values stay on the host"))
    }

    fn pointwise_draft(&self, index: usize, output: ValueId) -> Option<Draft> {
        let empty = Draft { chain: Chain::default(), regs: HashMap::new(), members: Vec::new(), output };
        self.extended(&empty, index, None)
    }

    /// `draft` with node `index` appended, if that node is a scalar expression here.
    fn extended(&self, draft: &Draft, index: usize, channel_axis: Option<usize>) -> Option<Draft> {
        let node = &self.graph.nodes[index];
        let output = sole_output(node)?;
        let fact = self.known.fact(output)?;
        let facts = self.known.input_facts(node);
        let inputs: Vec<Option<PointwiseInput<'_>>> = node
            .inputs
            .iter()
            .zip(&facts)
            .map(|(value, fact)| {
                let (value, fact) = ((*value)?, (*fact)?);
                Some(PointwiseInput { fact, value, reg: draft.regs.get(&value).copied() })
            })
            .collect();
        let mut draft = draft.clone();
        let mut builder = PointwiseBuilder::new(&mut draft.chain, &inputs, fact, channel_axis, self.profile)?;
        let class = builder.class_of(fact.dtype)?;
        let result = node.op.pointwise(&mut builder)?;
        let result = builder.convert(result, class);
        draft.chain.finish(result);
        let operands = draft.chain.operands.len() + OWN_BUFFERS;
        if operands > self.profile.max_storage_buffers as usize {
            return None;
        }
        draft.regs.insert(output, result);
        draft.members.push(index);
        draft.output = output;
        Some(draft)
    }

    /// Takes in the elementwise nodes behind `draft` as far as one value leaves the unit.
    ///
    /// With one value leaving, nothing that the unit reads can depend on what it computes: such a path would leave it.
    fn grow(&self, root: Option<usize>, draft: Draft, taken: &HashSet<usize>) -> Unit {
        let mut best = draft.clone();
        let root_node = root.map(|r| &self.graph.nodes[r]);
        let single = root_node.is_none_or(|n| n.outputs.iter().flatten().count() == 1 && n.op.takes_epilogue());
        let shape = self.known.fact(draft.output).and_then(Fact::shape);
        if let Some(shape) = shape.filter(|_| single) {
            let channel_axis = root_node.and_then(|n| n.op.channel_axis(shape.rank()));
            let mut draft = draft;
            let mut candidates: BTreeSet<usize> = self.readers[draft.output.0].iter().copied().collect();
            while let Some(index) = candidates.pop_first() {
                let fits = index != CALLER && !taken.contains(&index) && self.may_join(index, &shape);
                let Some(next) = fits.then(|| self.extended(&draft, index, channel_axis)).flatten() else { continue };
                draft = next;
                candidates.extend(&self.readers[draft.output.0]);
                if self.leaving(&draft) == 1 {
                    best = draft.clone();
                }
                if draft.members.len() >= MAX_MEMBERS {
                    break;
                }
            }
        }
        Unit::Device { root, chain: best.chain, members: best.members, output: best.output }
    }

    fn may_join(&self, index: usize, shape: &[usize]) -> bool {
        let node = &self.graph.nodes[index];
        let same_shape = |v: ValueId| self.known.fact(v).and_then(Fact::shape).is_some_and(|s| *s == *shape);
        !node.op.is_view() && sole_output(node).is_some_and(same_shape) && self.host_reason(index).is_none()
    }

    /// How many values of the unit are read outside it.
    fn leaving(&self, draft: &Draft) -> usize {
        let outside = |value: &&ValueId| self.readers[value.0].iter().any(|r| !draft.members.contains(r));
        draft.regs.keys().filter(outside).count()
    }
}

fn sole_output(node: &Node) -> Option<ValueId> {
    let mut outputs = node.outputs.iter().flatten();
    outputs.next().filter(|_| outputs.next().is_none()).copied()
}
