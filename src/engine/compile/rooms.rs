//! Which values lie in planes, which inside the value that they are joined to, and which are some channels of others.

use std::collections::HashMap;

use super::group::Unit;
use super::specialise::Specialised;
use crate::engine::ir::{Access, Chain, Fact, Graph, Node, Planes, PlanesWish, Profile, Storage, Strided, ValueId};
use crate::tensor::Shape;

/// Where a value would best be put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The value whose buffer it is.
    pub(super) owner: ValueId,
    /// How the value lies there.
    pub(super) planes: Planes,
    /// Whether the chain behind any kernel can store it there; elsewhere kernels must know how.
    pub(super) by_chain: bool,
}

/// Where values of images lie that have no buffer to themselves.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Where values would best be put. Producers that cannot store there leave the spot empty.
    pub(super) spots: HashMap<ValueId, Spot>,
    /// Values that are channels of what their node reads, from this one on: nothing is moved.
    pub(super) channels: HashMap<ValueId, usize>,
}

/// What is known of the readers of a value.
#[derive(Clone, Copy, Debug)]
struct Readers {
    /// What they want together; `None` where one reads it dense.
    wish: Option<PlanesWish>,
    /// How many of them join it to others.
    joins: usize,
}

/// Finds the rooms of all values.
pub(super) fn rooms(graph: &Graph, known: &Specialised, profile: &Profile, units: &[Unit]) -> Rooms {
    let mut search = Search { graph, known, profile, readers: HashMap::new(), rooms: Rooms::default() };
    for value in graph.outputs.iter().chain(&known.crossing) {
        search.note(*value, None);
    }
    // What readers want is known before what they read is made.
    units.iter().rev().for_each(|unit| search.read_by(unit));
    // What is joined last comes first: the others lie in it.
    for unit in units.iter().rev() {
        if let Unit::Device { root, chain, output, .. } = unit {
            search.place(root.map(|root| &graph.nodes[root]), chain, *output);
        }
    }
    search.rooms
}

struct Search<'a> {
    graph: &'a Graph,
    known: &'a Specialised,
    profile: &'a Profile,
    readers: HashMap<ValueId, Readers>,
    rooms: Rooms,
}

impl Search<'_> {
    fn note(&mut self, value: ValueId, wish: Option<PlanesWish>) {
        let readers = self.readers.entry(value).or_insert(Readers { wish, joins: 0 });
        readers.wish = readers.wish.zip(wish).map(|(a, b)| a.and(b));
    }

    fn read_by(&mut self, unit: &Unit) {
        let node = match unit {
            Unit::Device { root, chain, .. } => {
                for operand in &chain.operands {
                    let whole = operand.access == Access::Same && self.images(operand.value).is_some();
                    self.note(operand.value, whole.then_some(PlanesWish::FLAT));
                }
                root.map(|root| (&self.graph.nodes[root], Some(chain)))
            }
            Unit::View(node) | Unit::Host(node, _) => Some((&self.graph.nodes[*node], None)),
        };
        let Some((node, chain)) = node else { return };
        if let Some((input, wish)) = chain.filter(|chain| chain.is_identity()).and_then(|_| self.cut(node)) {
            return self.note(input, Some(wish));
        }
        let (facts, joins) = (self.known.input_facts(node), self.joins(node));
        for (i, value) in node.inputs.iter().enumerate() {
            let Some(value) = value else { continue };
            let wish = match joins {
                true => Some(PlanesWish::ANY),
                false => node.op.reads_planes(i, &facts, self.profile).filter(|_| chain.is_some()),
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

    /// What the node reads, and how its readers want that, if all that it gives is some of its channels each and can stay where it
    /// is. That is noted then.
    fn cut(&mut self, node: &Node) -> Option<(ValueId, PlanesWish)> {
        let input = node.inputs.first().copied().flatten()?;
        let whole = self.images(input)?;
        let facts = self.known.input_facts(node);
        let (mut wish, mut channels) = (PlanesWish::ANY, Vec::new());
        for (place, output) in node.outputs.iter().enumerate() {
            let Some(output) = *output else { continue };
            let Some(readers) = self.readers.get(&output) else { continue };
            wish = wish.and(readers.wish?);
            let channel = first_channel(&node.op.arrangement(place, &facts)?, &whole, &self.images(output)?)?;
            channels.push((output, channel));
        }
        self.rooms.channels.extend(channels);
        Some((input, wish))
    }

    /// The extents of a computed value, if it may lie in planes.
    fn images(&self, value: ValueId) -> Option<Shape> {
        let fact = self.known.fact(value).filter(|fact| fact.value.is_none())?;
        let shape = fact.shape()?;
        (shape.rank() == 4 && self.profile.storage(fact.dtype) == Some(Storage::F32)).then_some(shape)
    }

    /// Finds a spot for the output of a unit, and for what it joins.
    fn place(&mut self, root: Option<&Node>, chain: &Chain, output: ValueId) {
        let alone = root.is_none_or(|node| node.outputs.iter().flatten().count() == 1);
        let Some(shape) = self.images(output).filter(|_| alone && !self.rooms.channels.contains_key(&output)) else {
            self.rooms.spots.remove(&output);
            return;
        };
        // Operands are found by the place of the element that is stored, or not at all by it.
        let free = chain.operands.iter().all(|o| matches!(o.access, Access::Channel | Access::Scalar));
        let joins = root.filter(|node| chain.is_identity() && self.joins(node));
        if let Some(spot) = self.rooms.spots.get_mut(&output) {
            let once = joins.is_none() && root.is_none_or(|node| node.op.takes_epilogue());
            spot.by_chain = once && spot.planes.is_flat(&shape);
            if !free && !spot.by_chain {
                self.rooms.spots.remove(&output);
            }
        } else if free && root.is_some() {
            let wish = self.readers.get(&output).and_then(|readers| readers.wish);
            let planes = match wish {
                Some(wish) if !wish.dense_serves && !wish.flat => {
                    Planes::new(&shape, if joins.is_some() { 0 } else { wish.border })
                }
                _ if joins.is_some() => Planes::dense(&shape),
                _ => None,
            };
            let fits = |planes: &Planes| planes.elements as u64 * 4 <= self.profile.max_binding_bytes;
            let spot = planes.filter(fits).map(|planes| Spot { owner: output, planes, by_chain: false });
            self.rooms.spots.extend(spot.map(|spot| (output, spot)));
        }
        if let Some((node, whole)) = joins.zip(self.rooms.spots.get(&output).copied()) {
            self.place_parts(node, whole);
        }
    }

    /// Puts what `node` joins where it joins it, as far as it has no other place to be.
    fn place_parts(&mut self, node: &Node, whole: Spot) {
        let mut channel = 0;
        for part in &node.inputs {
            let Some(part) = *part else { return };
            let Some(shape) = self.known.fact(part).and_then(Fact::shape) else { return };
            let planes = whole.planes.from_channel(channel, &shape);
            channel += shape.get(1).copied().unwrap_or(0);
            let once = node.inputs.iter().filter(|other| **other == Some(part)).count() == 1;
            let joined_here = self.readers.get(&part).filter(|readers| once && readers.joins == 1);
            let wish = joined_here.and_then(|readers| readers.wish).filter(|_| self.images(part).is_some());
            let serves = |planes: &Planes| wish.is_some_and(|wish| !wish.flat || planes.is_flat(&shape));
            if let Some(planes) = planes.filter(serves) {
                self.rooms.spots.insert(part, Spot { planes, ..whole });
            }
        }
    }
}

/// The channel of images of extents `whole` from which on images of extents `part`, which lie so in them, are all of theirs; `None`
/// where they are not.
fn first_channel(lies: &Strided, whole: &[usize], part: &[usize]) -> Option<usize> {
    let ([images, all, y, x], [_, channels, ..]) = (whole, part) else { return None };
    let plane = y * x;
    let channel = lies.offset.checked_div(plane)?;
    let expected = Strided::new(channel * plane, [(*images, all * plane), (channels * plane, 1)]);
    let aligned = (channel * plane).is_multiple_of(4) && (*images == 1 || (all * plane).is_multiple_of(4));
    (part == [*images, *channels, *y, *x] && *lies == expected && aligned).then_some(channel)
}
