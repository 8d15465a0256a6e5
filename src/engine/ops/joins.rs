//! Joins along channels that others have begun, and joins of what was cut apart.

use super::views::nothing;
use crate::engine::ir::{Fused, Node, Strided, Surroundings, ValueId};

/// The join that `node` is, of fewer parts: those that an earlier join has put together are one, and so are all pieces of one
/// value in their order.
pub(super) fn shorter(node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
    let [Some(output)] = node.outputs[..] else { return None };
    let rank = around.fact(output)?.rank()?;
    let parts: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
    if !node.op.joins_channels(rank) || parts.len() != node.inputs.len() {
        return None;
    }
    let mut fewer = mended(&parts, around);
    if let Some((joined, count)) = begun(node, &fewer, around) {
        fewer.splice(..count, [joined]);
    }
    let op = if fewer.len() == 1 { nothing() } else { node.op.clone() };
    (fewer.len() < parts.len()).then(|| Fused { op, inputs: fewer.into_iter().map(Some).collect(), output })
}

/// The longest join before `node` of its first parts, and how many these are.
fn begun(node: &Node, parts: &[ValueId], around: &Surroundings<'_>) -> Option<(ValueId, usize)> {
    let begins = |other: &&Node| {
        let inputs = other.inputs.iter().copied();
        other.op.name() == node.op.name()
            && other.inputs.len() > 1
            && other.inputs.len() < parts.len()
            && inputs.eq(parts[..other.inputs.len()].iter().copied().map(Some))
    };
    let joins = around.readers_before(*parts.first()?, node).filter(begins);
    let joins = joins.filter_map(|other| {
        let [Some(joined)] = other.outputs[..] else { return None };
        let rank = around.fact(joined)?.rank()?;
        other.op.joins_channels(rank).then_some((joined, other.inputs.len()))
    });
    joins.max_by_key(|(_, count)| *count)
}

/// `parts` with what some were cut from in the place of all its pieces.
fn mended(parts: &[ValueId], around: &Surroundings<'_>) -> Vec<ValueId> {
    let mut fewer = Vec::with_capacity(parts.len());
    let mut at = 0;
    while at < parts.len() {
        let whole = whole(&parts[at..], around);
        let (value, count) = whole.unwrap_or((parts[at], 1));
        fewer.push(value);
        at += count;
    }
    fewer
}

/// The value whose channels, all in order, the first of `parts` are, and how many these are.
fn whole(parts: &[ValueId], around: &Surroundings<'_>) -> Option<(ValueId, usize)> {
    let (source, _) = around.source(*parts.first()?).filter(|(source, _)| *source != parts[0])?;
    let shape = around.fact(source)?.shape()?;
    let ([images, all], inner) = (*shape.first_chunk()?, shape[2..].iter().product::<usize>());
    let mut channel = 0;
    for (place, part) in parts.iter().enumerate() {
        let (other, lies) = around.source(*part)?;
        let extents = around.fact(*part)?.shape()?;
        let channels = *extents.get(1)?;
        let expected = Strided::new(channel * inner, [(images, all * inner), (channels * inner, 1)]);
        if other != source || extents[..1] != shape[..1] || extents[2..] != shape[2..] || lies != expected {
            return None;
        }
        channel += channels;
        if channel == all {
            return Some((source, place + 1));
        }
    }
    None
}
