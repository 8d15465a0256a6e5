//! What decoding a model file would take, told from its bytes alone: two bytes can be an empty node, which takes a hundred times as
//! much in memory.

use super::limits::{MAX_GRAPH_DEPTH, MAX_NODES, MAX_PARTS};
use crate::error::{Error, Result};

/// What a message is, as far as there are messages in it that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Tensor,
    SparseTensor,
    /// A text, bytes, packed numbers, or a small message.
    Leaf,
}

impl Kind {
    /// What stands in the field `number` of this one.
    fn inside(self, number: u64) -> Self {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            _ => Self::Leaf,
        }
    }
}

/// Whether the model in `bytes` may be decoded. What is malformed is left for decoding to find.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` naming what there is too much of, and the bound.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    Scan::default().message(Kind::Model, bytes, 0)
}

#[derive(Debug, Default)]
struct Scan {
    nodes: usize,
    parts: usize,
}

impl Scan {
    /// `depth` graphs are around it.
    fn message(&mut self, kind: Kind, mut bytes: &[u8], depth: usize) -> Result<()> {
        if depth > MAX_GRAPH_DEPTH {
            return Err(Error::resource_exhausted(format!("graphs are nested more than {MAX_GRAPH_DEPTH} deep")));
        }
        while let Some((number, contents)) = field(&mut bytes) {
            let Some(contents) = contents else { continue };
            let inside = kind.inside(number);
            self.nodes += usize::from(inside == Kind::Node);
            self.parts += 1;
            if self.nodes > MAX_NODES {
                return Err(Error::resource_exhausted(format!("the model has more than {MAX_NODES} nodes")));
            }
            if self.parts > MAX_PARTS {
                return Err(Error::resource_exhausted(format!(
                    "the model has more than {MAX_PARTS} names, attributes and other parts"
                )));
            }
            if inside != Kind::Leaf {
                self.message(inside, contents, depth + usize::from(inside == Kind::Graph))?;
            }
        }
        Ok(())
    }
}

/// The next field of a message: its number, and what it holds where that has a length. `None` at the end, and where it is
/// malformed.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let key = varint(bytes)?;
    let length = match key & 7 {
        0 => {
            varint(bytes)?;
            0
        }
        1 => 8,
        2 => usize::try_from(varint(bytes)?).ok()?,
        5 => 4,
        // Groups: their fields come next, where they count as this message's.
        3 | 4 => 0,
        _ => return None,
    };
    let (contents, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((key >> 3, (key & 7 == 2).then_some(contents)))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(number: u8, contents: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = contents.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(contents);
        bytes
    }

    fn told(model: &[u8]) -> String {
        check(model).expect_err("too much").message().to_owned()
    }

    #[test]
    fn nodes_and_parts_are_counted_wherever_they_are() {
        let nodes = |count: usize| wrapped(1, &[]).repeat(count);
        assert!(check(&wrapped(7, &nodes(MAX_NODES))).is_ok());
        assert_eq!(told(&wrapped(7, &nodes(MAX_NODES + 1))), "the model has more than 524288 nodes");
        let twice = [wrapped(7, &nodes(MAX_NODES)), wrapped(7, &nodes(1))].concat();
        assert_eq!(told(&twice), "the model has more than 524288 nodes");
        // Empty names of inputs of one node.
        let node = wrapped(1, &wrapped(1, &[]).repeat(MAX_PARTS));
        assert_eq!(told(&wrapped(7, &node)), "the model has more than 8388608 names, attributes and other parts");
    }

    #[test]
    fn graphs_inside_graphs_are_bounded() {
        let nested = |depth: usize| {
            let inner = (0..depth).fold(Vec::new(), |graph, _| wrapped(1, &wrapped(5, &wrapped(6, &graph))));
            wrapped(7, &inner)
        };
        assert!(check(&nested(MAX_GRAPH_DEPTH - 1)).is_ok());
        assert_eq!(told(&nested(MAX_GRAPH_DEPTH)), "graphs are nested more than 28 deep");
        // Far deeper than recursion would go.
        assert_eq!(told(&nested(5000)), "graphs are nested more than 28 deep");
    }

    #[test]
    fn what_is_malformed_is_left_to_others() {
        for bytes in [&[0xff; 12][..], &[0x3a, 0x7f, 1], &[0x0f], &[0x3a]] {
            assert!(check(bytes).is_ok(), "{bytes:?}");
        }
    }
}
