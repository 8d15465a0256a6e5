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
    /// Values that are channels of what their node reads: nothing is moved.
    pub(super) channels: HashMap<ValueId, Channels>,
}

/// Every `step`-th channel from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) first: usize,
    pub(super) step: usize,
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
            let own = readers.wish?;
            let taken = Channels::find(&node.op.arrangement(place, &facts)?, &whole, &self.images(output)?)?;
            if own.flat && taken.step > 1 {
                return None;
            }
            wish = wish.and(own);
            channels.push((output, taken));
        }
        let stays = !channels.is_empty();
        self.rooms.channels.extend(channels);
        stays.then_some((input, wish))
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

impl Channels {
    /// Which channels of images of extents `whole` images of extents `part` are, which lie so in them; `None` where they are not, or
    /// begin inside a vector of four.
    fn find(lies: &Strided, whole: &[usize], part: &[usize]) -> Option<Self> {
        let ([images, all, y, x], [_, channels, ..]) = (whole, part) else { return None };
        let plane = y * x;
        let step = if *channels > 1 { lies.strides(part)?[1].checked_div(plane)? } else { 1 };
        let taken = Self { first: lies.offset.checked_div(plane)?, step };
        let axes = [(*images, all * plane), (*channels, step * plane), (plane, 1)];
        let expected = Strided::new(taken.first * plane, axes);
        taken.of(Planes::dense(whole)?, part)?;
        (part == [*images, *channels, *y, *x] && *lies == expected && step > 0).then_some(taken)
    }

    /// Where these channels of images that lie in `planes` lie, images of extents `shape`; `None` where they begin inside a vector.
    pub(super) fn of(self, planes: Planes, shape: &[usize]) -> Option<Planes> {
        let from = planes.from_channel(self.first, shape)?;
        Some(Planes { plane: self.step * from.plane, ..from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_found() {
        let (whole, plane) = ([2, 6, 3, 4], 12);
        let lies = |first, axes: &[(usize, usize)]| Strided::new(first, axes.iter().copied());
        let find = |lies: Strided, channels| Channels::find(&lies, &whole, &[2, channels, 3, 4]);
        let all = Channels { first: 0, step: 1 };
        assert_eq!(find(Strided::whole(2 * 6 * plane), 6), Some(all));
        let halves = lies(3 * plane, &[(2, 6 * plane), (3 * plane, 1)]);
        assert_eq!(find(halves.clone(), 3), Some(Channels { first: 3, ..all }));
        assert_eq!(
            find(lies(plane, &[(2, 6 * plane), (3, 2 * plane), (plane, 1)]), 3),
            Some(Channels { first: 1, step: 2 })
        );
        assert_eq!(find(lies(plane, &[(2, 6 * plane), (plane, 1)]), 1), Some(Channels { first: 1, ..all }));
        // Inside a plane, turned, and of other images.
        assert_eq!(find(lies(4, &[(2, 6 * plane), (3 * plane, 1)]), 3), None);
        assert_eq!(find(lies(0, &[(2, 6 * plane), (3, plane), (4, 1), (3, 4)]), 3), None);
        assert_eq!(find(lies(0, &[(2, 3 * plane), (3 * plane, 1)]), 3), None);
        assert_eq!(Channels::find(&halves, &whole, &[2, 3, 12, 1]), None);
        // What begins inside a vector.
        assert_eq!(Channels::find(&lies(15, &[(30, 1)]), &[1, 3, 3, 5], &[1, 2, 3, 5]), None);
    }
}
