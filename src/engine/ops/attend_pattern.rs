//! Attention as exporters write it: a product of queries and keys, scaled before or behind, masked, softmax, and a product with the
//! values, with transposes and changes of shape around all of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::arithmetic::Arithmetic;
use super::attend::{Attend, Lie, Mask, Masked, is_attended};
use super::compare::Where;
use super::matmul::MatMul;
use super::pattern::{input, is, made, number, shape, spread};
use super::softmax::Softmax;
use crate::engine::ir::{Fused, Node, Strided, Surroundings, ValueId};
use crate::tensor::{DType, broadcast};

/// Nodes looked at between softmax and the product before it.
const MAX_STEPS: usize = 8;
/// What hides a key for good: exporters write the least number of their type, or less.
const HIDING: f64 = -1e30;

/// What `node` multiplies by a number, and the number.
fn scaled(around: &Surroundings<'_>, node: &Node) -> Option<(ValueId, f64)> {
    let name = is::<Arithmetic>(node)?.name_of();
    let [Some(a), Some(b)] = node.inputs[..] else { return None };
    let found = match (name, number(around, a), number(around, b)) {
        ("Mul", None, Some(factor)) => (a, factor),
        ("Div", None, Some(divisor)) => (a, 1.0 / divisor),
        ("Mul", Some(factor), None) => (b, factor),
        _ => return None,
    };
    // A factor of higher rank would give the result more axes, which changes nothing of the order.
    let same = shape(around, found.0)?.elements() == shape(around, node.outputs[0]?)?.elements();
    (same && found.1.is_finite()).then_some(found)
}

/// `value` before nodes that keep the order of its elements, if nothing else reads it there.
fn unshaped(around: &Surroundings<'_>, mut value: ValueId) -> Option<ValueId> {
    let elements = shape(around, value)?.elements();
    while let Some(node) = around.sole_producer(value) {
        let Some((source, moved)) = around.arrangement(node, value) else { break };
        if !moved.is_whole() || shape(around, source)?.elements() != elements {
            break;
        }
        value = source;
    }
    Some(value)
}

/// The node whose results `value` is with zeros in the place of those that are no numbers, or that makes them: the weights of a
/// query that sees no key are zero to kernels, whether or not a model says so.
fn unguarded<'a>(around: &Surroundings<'a>, value: ValueId) -> Option<&'a Node> {
    let node = around.sole_producer(value)?;
    let ([Some(condition), Some(zero), Some(guarded)], true) = (&node.inputs[..], is::<Where>(node).is_some()) else {
        return Some(node);
    };
    let asks = made(around, *condition, "IsNaN").filter(|asks| input(asks, 0) == Some(*guarded))?;
    let read = around.readers_before(*guarded, node).all(|reader| std::ptr::eq(reader, asks));
    (read && number(around, *zero) == Some(0.0)).then(|| around.producer(*guarded))?
}

/// Scores: where the product of queries and keys is, and what is done to it.
struct Scores<'a> {
    product: &'a Node,
    scale: f64,
    /// The mask, and where the one for each score lies in it.
    mask: Option<(Mask, ValueId, Strided)>,
}

/// What `value`, the input of softmax, is made of.
fn scores<'a>(around: &Surroundings<'a>, value: ValueId, steps: usize) -> Option<Scores<'a>> {
    let value = unshaped(around, value)?;
    let node = around.sole_producer(value).filter(|_| steps < MAX_STEPS)?;
    if is::<MatMul>(node).is_some() {
        return Some(Scores { product: node, scale: 1.0, mask: None });
    }
    if let Some((inner, factor)) = scaled(around, node) {
        let found = scores(around, inner, steps + 1)?;
        // A mask that was added is not scaled by any kernel.
        return found.mask.is_none().then_some(Scores { scale: found.scale * factor, ..found });
    }
    let (mask, given, found) = masked(around, node).into_iter().find_map(|(mask, given, inner)| {
        let same = shape(around, inner)? == shape(around, value)?;
        let found = scores(around, inner, steps + 1)?;
        (same && found.mask.is_none()).then_some((mask, given, found))
    })?;
    let (source, lies) = around.source(given)?;
    let spread = spread(&shape(around, given)?, &shape(around, value)?)?;
    Some(Scores { mask: Some((mask, source, lies.of(&spread)?)), ..found })
}

/// How `node` may mask scores: how, by which value, and which value is the scores.
fn masked(around: &Surroundings<'_>, node: &Node) -> Vec<(Mask, ValueId, ValueId)> {
    let hides = |value: ValueId| number(around, value).is_some_and(|v| v <= HIDING);
    match node.inputs[..] {
        [Some(a), Some(b)] if is::<Arithmetic>(node).is_some_and(|sum| sum.name_of() == "Add") => {
            vec![(Mask::Added, b, a), (Mask::Added, a, b)]
        }
        [Some(condition), Some(a), Some(b)] if is::<Where>(node).is_some() => match (hides(a), hides(b)) {
            (true, false) => vec![(Mask::Set, condition, b)],
            (false, true) => vec![(Mask::Zero, condition, a)],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// An array that attention reads: the value that it lies in and where, and what its elements are multiplied by.
struct Read {
    value: ValueId,
    lies: Strided,
    factor: f64,
}

fn read(around: &Surroundings<'_>, value: ValueId) -> Option<Read> {
    let (mut source, mut lies) = around.source(value)?;
    let mut factor = 1.0;
    while let Some((inner, by)) = around.producer(source).and_then(|node| scaled(around, node)) {
        let (next, moved) = around.source(inner)?;
        let Some(both) = moved.of(&lies) else { break };
        (source, lies, factor) = (next, both, factor * by);
    }
    Some(Read { value: source, lies, factor })
}

/// One side of a product, broadcast over the batch: its matrices' rows and columns in this order of strides.
fn matrices(own: &[usize], batch: &[usize], inner: [(usize, usize); 3]) -> Option<Strided> {
    let (rows, columns) = (own[own.len() - 2], own[own.len() - 1]);
    let over = spread(&own[..own.len() - 2], batch)?;
    let axes = over.axes.iter().map(|(extent, stride)| (*extent, stride * rows * columns));
    Some(Strided::new(0, axes.chain(inner)))
}

/// All of attention, if `node` is its last product.
pub(super) fn recognised(node: &Node, around: &Surroundings<'_>) -> Option<Fused> {
    let (output, weights, values) = (node.outputs.first().copied().flatten()?, input(node, 0)?, input(node, 1)?);
    let dtype = around.fact(output)?.dtype;
    let softmax = unguarded(around, unshaped(around, weights)?).filter(|_| is_attended(dtype))?;
    let scored = input(softmax, 0)?;
    is::<Softmax>(softmax)?.is_along_last(&shape(around, scored)?).then_some(())?;
    let found = scores(around, scored, 0)?;
    let (queries, keys) = (input(found.product, 0)?, input(found.product, 1)?);
    let [a, b, p, w] = [queries, keys, weights, values].map(|value| shape(around, value));
    let (a, b, p, w) = (a?, b?, p?, w?);
    if [&a, &b, &p, &w].iter().any(|s| s.rank() < 2) {
        return None;
    }
    let [m, depth] = [a[a.rank() - 2], a[a.rank() - 1]];
    let [keys_count, width] = [b[b.rank() - 1], w[w.rank() - 1]];
    let batch = broadcast(&a[..a.rank() - 2], &b[..b.rank() - 2]).ok()?;
    let later = broadcast(&p[..p.rank() - 2], &w[..w.rank() - 2]).ok()?;
    let rows = batch.elements() * m;
    // The softmax and the second product must see the same keys, and all the scores.
    let later_m = p[p.rank() - 2];
    let agree = p[p.rank() - 1] == keys_count && shape(around, scored)?.last() == Some(&keys_count);
    if !agree || later.elements() * later_m != rows || p.elements() != rows * keys_count {
        return None;
    }
    let (q, k, v) = (read(around, queries)?, read(around, keys)?, read(around, values)?);
    let (target, y) = around.target(output)?;
    let q_lies = q.lies.of(&matrices(&a, &batch, [(m, depth), (depth, 1), (1, 0)])?)?;
    let k_lies = k.lies.of(&matrices(&b, &batch, [(m, 0), (keys_count, 1), (depth, keys_count)])?)?;
    let v_lies = v.lies.of(&matrices(&w, &later, [(later_m, 0), (keys_count, width), (width, 1)])?)?;
    let mut sides = vec![
        Side { lies: &q_lies, inner: vec![depth] },
        Side { lies: &k_lies, inner: vec![keys_count, depth] },
        Side { lies: &v_lies, inner: vec![keys_count, width] },
        Side { lies: &y, inner: vec![width] },
    ];
    sides.extend(found.mask.iter().map(|(_, _, lies)| Side { lies, inner: vec![keys_count] }));
    let plan = Plan::new(rows, &sides)?;
    let shape = shape(around, target)?;
    if v.factor != 1.0 || shape.elements() != rows * width {
        return None;
    }
    let mask = found.mask.as_ref().map(|(mask, _, lies)| Masked {
        mask: *mask,
        lie: plan.lie(lies, 4, 0),
        key: plan.inner[4][0],
    });
    let attend = Attend {
        entries: plan.entries,
        heads: plan.heads,
        sharing: plan.sharing,
        queries: plan.queries,
        keys: keys_count,
        depth,
        width,
        q: plan.lie(&q_lies, 0, 0),
        k: plan.lie(&k_lies, 1, 1),
        v: plan.lie(&v_lies, 2, 1),
        y: plan.lie(&y, 3, 0),
        mask,
        scale: found.scale * q.factor * k.factor,
        shape,
    };
    let contiguous = [(0, 0), (1, 1), (2, 1), (3, 0)];
    let contiguous =
        contiguous.iter().all(|(side, axis)| plan.inner[*side][*axis] == 1 || sides[*side].inner[*axis] == 1);
    let given = found.mask.as_ref().map(|(_, value, _)| *value);
    let types = [q.value, k.value, v.value].iter().all(|v| around.fact(*v).is_some_and(|f| f.dtype == dtype));
    let masks = given.is_none_or(|v| around.fact(v).is_some_and(|f| f.dtype == dtype || f.dtype == DType::Bool));
    let fits = contiguous && types && masks && attend.has_kernel(around.profile, dtype);
    let inputs = [Some(q.value), Some(k.value), Some(v.value)].into_iter().chain(given.map(Some)).collect();
    fits.then(|| Fused { op: Arc::new(attend), inputs, output: target })
}

/// An array as attention goes through it: by rows of the scores, then by these axes of its own.
struct Side<'a> {
    lies: &'a Strided,
    inner: Vec<usize>,
}

/// Rows of the scores as batch entries, heads and queries.
struct Plan {
    entries: usize,
    heads: usize,
    sharing: usize,
    queries: usize,
    /// For each side, elements between entries, heads and queries.
    outer: Vec<[usize; 3]>,
    /// For each side, elements between the steps of its own axes.
    inner: Vec<Vec<usize>>,
}

/// One axis of the rows, with every side's stride.
#[derive(Clone)]
struct RowAxis {
    extent: usize,
    strides: Vec<usize>,
}

impl RowAxis {
    /// Whether an axis behind it goes on at the same pace for the sides that `counts` names.
    fn goes_on(&self, inner: &Self, counts: impl Fn(usize) -> bool) -> bool {
        let mut sides = self.strides.iter().zip(&inner.strides).enumerate();
        sides.all(|(side, (outer, inner_stride))| !counts(side) || *outer == inner_stride * inner.extent)
    }
}

impl Plan {
    /// `None` where the sides' strides do not fit batch entries, heads and queries. Sides are q, k, v, y and maybe a mask.
    fn new(rows: usize, sides: &[Side<'_>]) -> Option<Self> {
        let extents = row_extents(rows, sides)?;
        let mut axes: Vec<RowAxis> =
            extents.iter().map(|extent| RowAxis { extent: *extent, strides: Vec::new() }).collect();
        let mut inner = Vec::with_capacity(sides.len());
        for side in sides {
            let shape: Vec<usize> = extents.iter().chain(&side.inner).copied().collect();
            let elements: usize = shape.iter().product();
            let strides = side.lies.strides(&shape).filter(|_| side.lies.elements() == elements)?;
            axes.iter_mut().zip(&strides).for_each(|(axis, stride)| axis.strides.push(*stride));
            inner.push(strides[extents.len()..].to_vec());
        }
        let mut merged: Vec<RowAxis> = Vec::new();
        for axis in axes.into_iter().filter(|axis| axis.extent != 1) {
            match merged.last_mut() {
                Some(outer) if outer.goes_on(&axis, |_| true) => {
                    *outer = RowAxis { extent: outer.extent * axis.extent, ..axis };
                }
                _ => merged.push(axis),
            }
        }
        let one = RowAxis { extent: 1, strides: vec![0; sides.len()] };
        let is_keyed = |axis: &RowAxis| axis.strides[1] != 0 || axis.strides[2] != 0;
        if merged.last().is_none_or(is_keyed) {
            merged.push(one.clone());
        }
        let queries = merged.pop()?;
        let mut sharing = 1;
        if let [_, heads, shared] = &merged[..] {
            // The heads that have the same keys go on where the others do.
            if is_keyed(shared) || !heads.goes_on(shared, |side| side != 1 && side != 2) {
                return None;
            }
            sharing = shared.extent;
            let strides: Vec<usize> =
                (0..sides.len()).map(|s| if s == 1 || s == 2 { heads.strides[s] } else { shared.strides[s] }).collect();
            let both = RowAxis { extent: heads.extent * shared.extent, strides };
            merged.truncate(1);
            merged.push(both);
        }
        while merged.len() < 2 {
            merged.insert(0, one.clone());
        }
        let [entries, heads] = &merged[..] else { return None };
        let outer = (0..sides.len()).map(|s| [entries.strides[s], heads.strides[s], queries.strides[s]]).collect();
        Some(Self { entries: entries.extent, heads: heads.extent, sharing, queries: queries.extent, outer, inner })
    }

    /// How rows of `side` lie, which are `own` axes further in than the queries.
    fn lie(&self, lies: &Strided, side: usize, own: usize) -> Lie {
        let [entry, head, query] = self.outer[side];
        let row = if own == 0 { query } else { self.inner[side][0] };
        Lie { first: lies.offset, steps: [entry, head, row] }
    }
}

/// Extents that the rows must be split into so that each side has one stride for each, outermost first.
fn row_extents(rows: usize, sides: &[Side<'_>]) -> Option<Vec<usize>> {
    let mut bounds = BTreeSet::from([1, rows]);
    for side in sides {
        let inner: usize = side.inner.iter().product();
        for (unit, (extent, _)) in side.lies.units().into_iter().zip(&side.lies.axes) {
            let ends = [unit, unit * extent].into_iter().filter(|end| *end > inner);
            for end in ends {
                bounds.insert(end.is_multiple_of(inner).then_some(end / inner)?);
            }
        }
    }
    let bounds: Vec<usize> = bounds.into_iter().collect();
    let extents = bounds.windows(2).map(|pair| pair[1].is_multiple_of(pair[0]).then_some(pair[1] / pair[0]));
    let mut extents = extents.collect::<Option<Vec<_>>>()?;
    extents.reverse();
    Some(extents)
}
