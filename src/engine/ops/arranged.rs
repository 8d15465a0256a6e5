//! Several movements of elements, one behind the other, as one: those that undo each other vanish.

use super::box_steps::Axis;
use super::boxes::Copy;
use super::movement::{Movement, Moving};
use super::views::reshaping;
use crate::engine::ir::{Fact, Fused, Node, Rows, RowsQuery, Strided, Surroundings, ValueId};
use crate::error::Result;
use crate::tensor::{Dim, Shape};

/// Elements of input 0 that lie anywhere in it.
#[derive(Debug)]
struct Arranged {
    lies: Strided,
    shape: Shape,
}

impl Movement for Arranged {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn dims(&self, _facts: &[Option<&Fact>]) -> Result<Vec<Option<Vec<Dim>>>> {
        Ok(vec![Some(self.shape.iter().map(|d| Dim::Fixed(*d)).collect())])
    }

    fn copies(&self, _facts: &[Option<&Fact>], _outputs: &[Shape]) -> Result<Vec<(usize, usize, Copy)>> {
        let axes = self.lies.axes.iter().zip(self.lies.units());
        let axes = axes.map(|((extent, from), to)| Axis { extent: *extent, from: *from as i64, to: to as i64 });
        Ok(vec![(0, 0, Copy { from: self.lies.offset as i64, to: 0, axes: axes.collect() })])
    }

    fn rows(&self, query: &RowsQuery<'_>) -> Vec<Rows> {
        query.default_answer()
    }
}

/// What moves elements at once from where they were before the movements that `node` is the last of, if there are several.
pub(super) fn joined(node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
    let [Some(output)] = node.outputs[..] else { return None };
    // A node that does more than move elements is its own source.
    let (source, lies) = around.source(output).filter(|(source, _)| *source != output)?;
    let shape = around.fact(output)?.shape()?;
    if moves(around, node, source)? < 2 || lies.elements() != shape.elements() || shape.elements() == 0 {
        return None;
    }
    let all = around.fact(source)?.shape()?.elements() == lies.elements();
    let op = if all && lies.is_whole() { reshaping(&shape) } else { Moving::op(Arranged { lies, shape }) };
    Some(Fused { op, inputs: vec![Some(source)], output })
}

/// How many nodes between `source` and the output of `node` move elements, that one included.
fn moves(around: &Surroundings<'_>, node: &Node, source: ValueId) -> Option<usize> {
    let (mut node, mut moves) = (node, 0);
    loop {
        moves += usize::from(!node.op.is_view());
        let input = node.inputs.first().copied().flatten()?;
        if input == source {
            return Some(moves);
        }
        node = around.producer(input)?;
    }
}
