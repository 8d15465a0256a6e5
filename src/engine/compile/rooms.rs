//! Which values lie in planes, and which inside the value that they are joined to.

use std::collections::HashMap;

use super::group::Unit;
use super::specialise::Specialised;
use crate::engine::ir::{Access, Chain, Fact, Graph, Node, Planes, PlanesWish, Profile, Storage, ValueId};
use crate::tensor::Shape;

/// Where a value would best be put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The value whose buffer it is.
    pub(super) owner: ValueId,
    /// How the value lies there.
    pub(super) planes: Planes,
}

/// What is known of the readers of a value.
#[derive(Clone, Copy, Debug)]
struct Readers {
    /// What they want together; `None` where one reads it dense.
    wish: Option<PlanesWish>,
    /// How many of them join it to others.
    joins: usize,
}

/// The spots of all values that have one. Producers that cannot store there leave them empty.
pub(super) fn spots(graph: &Graph, known: &Specialised, profile: &Profile, units: &[Unit]) -> HashMap<ValueId, Spot> {
    let mut search = Search { graph, known, profile, readers: HashMap::new(), spots: HashMap::new() };
    units.iter().for_each(|unit| search.read_by(unit));
    for value in graph.outputs.iter().chain(&known.crossing) {
        search.note(*value, None);
    }
    // What is joined last comes first: the others lie in it.
    for unit in units.iter().rev() {
        if let Unit::Device { root: Some(root), chain, output, .. } = unit {
            search.place(&graph.nodes[*root], chain, *output);
        }
    }
    search.spots
}

struct Search<'a> {
    graph: &'a Graph,
    known: &'a Specialised,
    profile: &'a Profile,
    readers: HashMap<ValueId, Readers>,
    spots: HashMap<ValueId, Spot>,
}

impl Search<'_> {
    fn note(&mut self, value: ValueId, wish: Option<PlanesWish>) {
        let readers = self.readers.entry(value).or_insert(Readers { wish, joins: 0 });
        readers.wish = readers.wish.zip(wish).map(|(a, b)| PlanesWish {
            border: a.border.max(b.border),
            dense_serves: a.dense_serves && b.dense_serves,
        });
    }

    fn read_by(&mut self, unit: &Unit) {
        let node = match unit {
            Unit::Device { root, chain, .. } => {
                chain.operands.iter().for_each(|operand| self.note(operand.value, None));
                root.map(|root| (&self.graph.nodes[root], true))
            }
            Unit::View(node) | Unit::Host(node, _) => Some((&self.graph.nodes[*node], false)),
        };
        let Some((node, by_kernels)) = node else { return };
        let (facts, joins) = (self.known.input_facts(node), self.joins(node));
        for (i, value) in node.inputs.iter().enumerate() {
            let Some(value) = value else { continue };
            let wish = match joins {
                true => Some(PlanesWish { border: 0, dense_serves: true }),
                false => node.op.reads_planes(i, &facts, self.profile).filter(|_| by_kernels),
            };
            self.note(*value, wish);
            self.readers.entry(*value).and_modify(|readers| readers.joins += usize::from(joins));
        }
    }

    /// Whether the node joins images along their channels.
    fn joins(&self, node: &Node) -> bool {
        let output = node.outputs.first().copied().flatten();
        output.and_then(|v| self.images(v)).is_some_and(|shape| node.op.joins_channels(shape.rank()))
    }

    /// The extents of a computed value, if it may lie in planes.
    fn images(&self, value: ValueId) -> Option<Shape> {
        let fact = self.known.fact(value).filter(|fact| fact.value.is_none())?;
        let shape = fact.shape()?;
        (shape.rank() == 4 && self.profile.storage(fact.dtype) == Some(Storage::F32)).then_some(shape)
    }

    /// Finds a spot for the output of a unit, and for what it joins.
    fn place(&mut self, node: &Node, chain: &Chain, output: ValueId) {
        let alone = node.outputs.iter().flatten().count() == 1;
        // Operands are found by the place of the element that is stored, or not at all by it.
        let free = chain.operands.iter().all(|o| matches!(o.access, Access::Channel | Access::Scalar));
        let Some(shape) = self.images(output).filter(|_| alone && free) else {
            self.spots.remove(&output);
            return;
        };
        let joins = chain.is_identity() && self.joins(node);
        if !self.spots.contains_key(&output) {
            let wish = self.readers.get(&output).and_then(|readers| readers.wish);
            let planes = match wish {
                Some(wish) if !wish.dense_serves => Planes::new(&shape, if joins { 0 } else { wish.border }),
                _ if joins => Planes::new(&shape, 0).filter(|planes| planes.is_dense(&shape)),
                _ => None,
            };
            let fits = |planes: &Planes| planes.elements as u64 * 4 <= self.profile.max_binding_bytes;
            let Some(planes) = planes.filter(fits) else { return };
            self.spots.insert(output, Spot { owner: output, planes });
        }
        if joins {
            self.place_parts(node, self.spots[&output]);
        }
    }

    /// Puts what `node` joins where it joins it, as far as it has no other place to be.
    fn place_parts(&mut self, node: &Node, whole: Spot) {
        let mut channel = 0;
        for part in &node.inputs {
            let Some(part) = *part else { return };
            let Some(shape) = self.known.fact(part).and_then(Fact::shape) else { return };
            let planes = whole.planes.from_channel(channel);
            channel += shape.get(1).copied().unwrap_or(0);
            let once = node.inputs.iter().filter(|other| **other == Some(part)).count() == 1;
            let readers = self.readers.get(&part).filter(|r| r.wish.is_some() && r.joins == 1);
            if once && readers.is_some() && self.images(part).is_some() {
                self.spots.insert(part, Spot { owner: whole.owner, planes });
            }
        }
    }
}
