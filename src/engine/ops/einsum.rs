//! Einsum: sums of products by an equation over axis labels, as products of matrices.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::arguments::{made, required};
use super::composed::{Composed, composed};
use super::registry::OpSpec;
use super::sketch::Sketch;
use crate::engine::ir::{Fact, Op, Wire};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// An axis label: a letter, or an axis of an ellipsis counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

pub(super) fn einsum(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let equation =
        spec.attributes.string("equation")?.ok_or_else(|| Error::invalid_argument("Einsum without an equation"))?;
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), Some(right.to_owned())),
        None => (equation.clone(), None),
    };
    let terms: Vec<String> = left.split(',').map(str::to_owned).collect();
    if terms.len() != spec.inputs {
        return Err(Error::invalid_argument(format!("equation {equation:?} for {} inputs", spec.inputs)));
    }
    composed(Composed {
        name: "Einsum",
        shape_inputs: &[],
        compose: Box::new(move |inputs| {
            let shapes: Option<Vec<Shape>> =
                (0..terms.len()).map(|i| inputs.get(i).copied().flatten().and_then(Fact::shape)).collect();
            let Some(shapes) = shapes else { return Ok(None) };
            let mut sketch = Sketch::new();
            let y = contract(&mut sketch, &terms, right.as_deref(), &shapes, required(inputs, 0)?)?;
            Ok(Some(sketch.finish([y])))
        }),
        open: Box::new(|inputs| Ok(vec![Fact::of_unknown_rank(required(inputs, 0)?.dtype)])),
        rows: Box::new(|query| query.default_answer()),
    })
}

fn labels(term: &str, rank: Option<usize>) -> Result<Vec<Label>> {
    let wrong = || Error::invalid_argument(format!("term {term:?} for an input of rank {rank:?}"));
    let letters = term.chars().filter(|c| c.is_alphabetic()).count();
    let mut found = Vec::new();
    let mut rest = term;
    while let Some(c) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("...") {
            let covered = rank.unwrap_or(letters).checked_sub(letters).ok_or_else(wrong)?;
            found.extend((0..covered).rev().map(Label::Ellipsis));
            rest = behind;
        } else if c.is_alphabetic() {
            found.push(Label::Letter(c));
            rest = &rest[c.len_utf8()..];
        } else {
            return Err(wrong());
        }
    }
    if rank.is_some_and(|rank| rank != found.len()) { Err(wrong()) } else { Ok(found) }
}

/// A value and what its axes are.
#[derive(Clone)]
struct Term {
    wire: Wire,
    labels: Vec<Label>,
}

fn contract(
    sketch: &mut Sketch,
    terms: &[String],
    right: Option<&str>,
    shapes: &[Shape],
    first: &Fact,
) -> Result<Wire> {
    let mut extents: BTreeMap<Label, usize> = BTreeMap::new();
    let mut parsed = Vec::new();
    let mut times: BTreeMap<Label, usize> = BTreeMap::new();
    for (index, (term, shape)) in terms.iter().zip(shapes).enumerate() {
        let labels = labels(term, Some(shape.rank()))?;
        for (label, extent) in labels.iter().zip(shape.iter()) {
            let known = extents.entry(*label).or_insert(*extent);
            if *known == 1 {
                *known = *extent;
            }
            if *extent != *known && *extent != 1 {
                return Err(Error::invalid_argument(format!("axis {label:?} has the extents {known} and {extent}")));
            }
            *times.entry(*label).or_default() += 1;
        }
        parsed.push(Term { wire: Wire::Input(index), labels });
    }
    let output = match right {
        Some(right) => {
            let covered = times.keys().filter(|l| matches!(l, Label::Ellipsis(_))).count();
            let letters = right.chars().filter(|c| c.is_alphabetic()).count();
            labels(right, Some(if right.contains("...") { letters + covered } else { letters }))?
        }
        // Every letter that stands once, in the order of the alphabet, behind the ellipsis.
        None => {
            let mut ellipsis: Vec<Label> = times.keys().filter(|l| matches!(l, Label::Ellipsis(_))).copied().collect();
            ellipsis.reverse();
            let once = times.iter().filter(|(l, n)| matches!(l, Label::Letter(_)) && **n == 1).map(|(l, _)| *l);
            ellipsis.into_iter().chain(once).collect()
        }
    };
    if let Some(unknown) = output.iter().find(|l| !extents.contains_key(l)) {
        return Err(Error::invalid_argument(format!("axis {unknown:?} of the output is of no input")));
    }
    let mut prepared = Vec::new();
    for (term, shape) in parsed.into_iter().zip(shapes) {
        prepared.push(diagonal(sketch, term, shape, first)?);
    }
    let mut all = prepared.into_iter();
    let mut sum = all.next().ok_or_else(|| Error::invalid_argument("Einsum of nothing"))?;
    let mut rest: Vec<Term> = all.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let needed = |label: &Label| output.contains(label) || rest.iter().any(|t| t.labels.contains(label));
        sum = pair(sketch, sum, next, &extents, needed)?;
    }
    // What is left is summed, and put in order.
    let gone: Vec<usize> = (0..sum.labels.len()).filter(|i| !output.contains(&sum.labels[*i])).collect();
    if !gone.is_empty() {
        sum.wire = sketch.reduce("ReduceSum", &sum.wire, &gone, false)?;
        sum.labels.retain(|l| output.contains(l));
    }
    let order: Vec<usize> = output.iter().filter_map(|l| sum.labels.iter().position(|s| s == l)).collect();
    let y = if order.iter().copied().eq(0..order.len()) { sum.wire } else { sketch.transpose(&sum.wire, &order)? };
    let whole: Vec<usize> = output.iter().map(|l| extents[l]).collect();
    sketch.expand(&y, &whole)
}

/// A term with every label once: of axes that share one the diagonal stays.
fn diagonal(sketch: &mut Sketch, mut term: Term, shape: &Shape, first: &Fact) -> Result<Term> {
    let mut dims = shape.to_vec();
    loop {
        let twice =
            (0..term.labels.len()).find_map(|j| (0..j).find(|i| term.labels[*i] == term.labels[j]).map(|i| (i, j)));
        let Some((i, j)) = twice else { return Ok(term) };
        // The mask leaves the diagonal, the sum over one of the axes drops the zeros.
        let mut along = [vec![1; dims.len()], vec![1; dims.len()]];
        (along[0][i], along[1][j]) = (dims[i], dims[j]);
        let count = |n: usize| made([n]).map(|n| (0..n as i32).collect::<Vec<i32>>());
        let [a, b] = along;
        let rows = Wire::Constant(Tensor::from_vec(a, count(dims[i])?)?);
        let columns = Wire::Constant(Tensor::from_vec(b, count(dims[j])?)?);
        let same = sketch.op("Equal", &[&rows, &columns])?;
        let zero = super::sketch::number(first.dtype, 0.0)?;
        let masked = sketch.op("Where", &[&same, &term.wire, &zero])?;
        term.wire = sketch.reduce("ReduceSum", &masked, &[j], false)?;
        term.labels.remove(j);
        dims.remove(j);
    }
}

/// The product of two terms, summed over labels that nothing needs any more.
fn pair(
    sketch: &mut Sketch,
    a: Term,
    b: Term,
    extents: &BTreeMap<Label, usize>,
    needed: impl Fn(&Label) -> bool,
) -> Result<Term> {
    let (a, b) = (summed(sketch, a, |l| needed(l) || b.labels.contains(l))?, b);
    let b = summed(sketch, b, |l| needed(l) || a.labels.contains(l))?;
    let shared = |l: &&Label| b.labels.contains(l);
    let batch: Vec<Label> = a.labels.iter().filter(shared).filter(|l| needed(l)).copied().collect();
    let inner: Vec<Label> = a.labels.iter().filter(shared).filter(|l| !needed(l)).copied().collect();
    let rows: Vec<Label> = a.labels.iter().filter(|l| !b.labels.contains(l)).copied().collect();
    let columns: Vec<Label> = b.labels.iter().filter(|l| !a.labels.contains(l)).copied().collect();
    let size = |labels: &[Label]| labels.iter().map(|l| extents[l]).product::<usize>();
    // As [batch, rows, inner] times [batch, inner, columns].
    let mut sides = Vec::new();
    for (term, order) in [(&a, [&batch, &rows, &inner]), (&b, [&batch, &inner, &columns])] {
        let labels: Vec<Label> = order.iter().flat_map(|l| l.iter().copied()).collect();
        let order_of: Vec<usize> = labels.iter().filter_map(|l| term.labels.iter().position(|t| t == l)).collect();
        let moved = sketch.transpose(&term.wire, &order_of)?;
        let whole: Vec<usize> = labels.iter().map(|l| extents[l]).collect();
        let whole = sketch.expand(&moved, &whole)?;
        sides.push(sketch.reshape(&whole, &order.map(|l| size(l)))?);
    }
    let product = sketch.op("MatMul", &[&sides[0], &sides[1]])?;
    let labels: Vec<Label> = [batch, rows, columns].concat();
    let whole: Vec<usize> = labels.iter().map(|l| extents[l]).collect();
    Ok(Term { wire: sketch.reshape(&product, &whole)?, labels })
}

/// The term summed over labels that are not `kept`.
fn summed(sketch: &mut Sketch, mut term: Term, kept: impl Fn(&Label) -> bool) -> Result<Term> {
    let gone: Vec<usize> = (0..term.labels.len()).filter(|i| !kept(&term.labels[*i])).collect();
    if !gone.is_empty() {
        term.wire = sketch.reduce("ReduceSum", &term.wire, &gone, false)?;
        term.labels.retain(|l| kept(l));
    }
    Ok(term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ir::{Attribute, Attributes};

    #[test]
    fn a_batched_product_with_a_transposed_result() {
        let mut attributes = Attributes::new();
        attributes.set("equation", Attribute::String("bij, bjk -> bki".into()));
        let spec = OpSpec { domain: "", name: "Einsum", opset: 12, attributes: &attributes, inputs: 2, outputs: 1 };
        let a = Tensor::from_vec([1, 2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).expect("four");
        let b = Tensor::from_vec([1, 2, 1], vec![10.0f32, 1.0]).expect("two");
        let y = einsum(&spec).expect("it is there").evaluate(&[Some(&a), Some(&b)]).expect("it fits");
        assert_eq!(y[0], Tensor::from_vec([1, 1, 2], vec![12.0f32, 34.0]).expect("two"));
    }
}
