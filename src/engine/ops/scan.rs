//! Scan: a graph applied to one entry of its inputs after another, values carried along.

use std::sync::Arc;

use super::arguments::{axis_of, known, optional, required, unknown};
use super::registry::OpSpec;
use super::stack::{entry, stack};
use crate::engine::ir::{Expansion, Fact, Op, Profile, Subgraph, Wire};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};

/// Nodes that a scan may become.
const MAX_UNROLLED_NODES: usize = 1 << 18;

pub(super) fn scan(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let body = spec.attributes.graph("body")?.ok_or_else(|| Error::invalid_argument("Scan without a body"))?;
    let batched = spec.opset < 9;
    let lead = usize::from(batched);
    let own = spec.inputs.saturating_sub(body.captures + lead);
    let scanned = spec.attributes.int_or("num_scan_inputs", 0)?;
    let scanned = usize::try_from(scanned).ok().filter(|n| *n >= 1 && *n <= own);
    let scanned =
        scanned.ok_or_else(|| Error::invalid_argument(format!("num_scan_inputs does not fit {own} inputs")))?;
    let carried = own - scanned;
    let (takes, gives) = (body.graph.inputs.len(), body.graph.outputs.len());
    if takes != own + body.captures || gives < carried {
        return Err(Error::invalid_argument(format!(
            "the body of a scan of {own} inputs takes {} and gives {gives} outputs",
            takes - body.captures.min(takes)
        )));
    }
    let list = |name: &str, count: usize| {
        let list = spec.attributes.ints(name)?.unwrap_or_else(|| vec![0; count]);
        if list.len() == count {
            Ok(list)
        } else {
            Err(Error::invalid_argument(format!("{name} does not have {count} entries")))
        }
    };
    let directions = if batched { "directions" } else { "scan_input_directions" };
    Ok(Arc::new(Scan {
        carried,
        batched,
        own_inputs: spec.inputs,
        input_axes: list("scan_input_axes", scanned)?,
        backward: list(directions, scanned)?.iter().map(|d| *d == 1).collect(),
        output_axes: list("scan_output_axes", gives - carried)?,
        output_backward: list("scan_output_directions", gives - carried)?.iter().map(|d| *d == 1).collect(),
        body,
    }))
}

/// Inputs: in opset 8 the lengths of the batch's sequences; the values carried, those scanned, and what the body reads from
/// around it. In opset 8 axis 0 of everything is the batch, each entry of which is a scan of its own along axis 1.
#[derive(Debug)]
struct Scan {
    body: Subgraph,
    carried: usize,
    batched: bool,
    own_inputs: usize,
    input_axes: Vec<i64>,
    backward: Vec<bool>,
    output_axes: Vec<i64>,
    output_backward: Vec<bool>,
}

impl Scan {
    /// The whole as nodes one after another; `None` while the extents are not known.
    fn unrolled(&self, inputs: &[Option<&Fact>]) -> Result<Option<Expansion>> {
        let lead = usize::from(self.batched);
        if self.batched && optional(inputs, 0).is_some() {
            return Err(Error::unimplemented("Scan over sequences of several lengths"));
        }
        let first = lead + self.carried;
        let mut shapes = Vec::with_capacity(self.input_axes.len());
        for i in 0..self.input_axes.len() {
            let Some(shape) = required(inputs, first + i)?.shape() else { return Ok(None) };
            shapes.push(if self.batched { Shape::new(shape.get(1..).unwrap_or_default().to_vec()) } else { shape });
        }
        let length = self.length(&shapes)?;
        let mut expansion = Expansion::default();
        let wires: Vec<Wire> = (lead..self.own_inputs).map(Wire::Input).collect();
        if !self.batched {
            let outputs = self.one(&mut expansion, &wires, length)?;
            expansion.outputs = outputs.into_iter().map(Some).collect();
            return Ok(Some(expansion));
        }
        let Some(batch) = required(inputs, first)?.shape().and_then(|s| s.first().copied()) else { return Ok(None) };
        let mut rows: Vec<Vec<Wire>> = vec![Vec::new(); self.body.graph.outputs.len()];
        for row in 0..batch {
            let own = wires.len() - self.body.captures;
            let mut entries = wires.clone();
            for wire in &mut entries[..own] {
                *wire = entry(&mut expansion, wire.clone(), 0, row)?;
            }
            let outputs = self.one(&mut expansion, &entries, length)?;
            rows.iter_mut().zip(outputs).for_each(|(all, one)| all.push(one));
        }
        for row in rows {
            let output = stack(&mut expansion, row, 0)?;
            expansion.outputs.push(Some(output));
        }
        Ok(Some(expansion))
    }

    fn length(&self, shapes: &[Shape]) -> Result<usize> {
        let mut length = None;
        for (shape, axis) in shapes.iter().zip(&self.input_axes) {
            let extent = shape[axis_of(*axis, shape.rank())?];
            if *length.get_or_insert(extent) != extent {
                return Err(Error::invalid_argument(format!("inputs of {extent} and {length:?} entries are scanned")));
            }
        }
        let length = length.unwrap_or(0);
        if length == 0 {
            return Err(Error::unimplemented("Scan over nothing"));
        }
        if length.saturating_mul(self.body.graph.nodes.len() + 1) > MAX_UNROLLED_NODES {
            return Err(Error::resource_exhausted(format!(
                "a scan of {length} entries over {} nodes unrolls to more than {MAX_UNROLLED_NODES}",
                self.body.graph.nodes.len()
            )));
        }
        Ok(length)
    }

    /// One scan over `wires`: carried, scanned, captured.
    fn one(&self, expansion: &mut Expansion, wires: &[Wire], length: usize) -> Result<Vec<Wire>> {
        let (carried, others) = wires.split_at(self.carried);
        let (scanned, captured) = others.split_at(self.input_axes.len());
        let mut carried = carried.to_vec();
        let mut collected: Vec<Vec<Wire>> = vec![Vec::new(); self.output_axes.len()];
        for step in 0..length {
            let mut entering = std::mem::take(&mut carried);
            for (i, wire) in scanned.iter().enumerate() {
                let index = if self.backward[i] { length - 1 - step } else { step };
                entering.push(entry(expansion, wire.clone(), self.input_axes[i], index)?);
            }
            let entering: Vec<Option<Wire>> = entering.into_iter().chain(captured.iter().cloned()).map(Some).collect();
            let mut outputs = expansion.push_graph(&self.body.graph, &entering)?.into_iter();
            carried = outputs.by_ref().take(self.carried).collect();
            collected.iter_mut().zip(outputs).for_each(|(all, one)| all.push(one));
        }
        for (i, mut steps) in collected.into_iter().enumerate() {
            if self.output_backward[i] {
                steps.reverse();
            }
            carried.push(stack(expansion, steps, self.output_axes[i])?);
        }
        Ok(carried)
    }

    /// What is known of the outputs while the extents are not: element types.
    fn open(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        let lead = usize::from(self.batched);
        let mut expansion = Expansion::default();
        let mut entering: Vec<Option<Wire>> = Vec::new();
        for (i, input) in (lead..self.own_inputs).enumerate() {
            let is_scanned = (self.carried..self.carried + self.input_axes.len()).contains(&i);
            entering.push(Some(if is_scanned && !self.batched {
                entry(&mut expansion, Wire::Input(input), self.input_axes[i - self.carried], 0)?
            } else {
                Wire::Input(input)
            }));
        }
        let outputs = expansion.push_graph(&self.body.graph, &entering)?;
        expansion.outputs = outputs.into_iter().map(Some).collect();
        let facts = expansion.infer(inputs)?.into_iter().enumerate().map(|(i, fact)| {
            let rank = fact.rank().filter(|_| !self.batched);
            let dims = if i < self.carried { rank.map(unknown) } else { rank.map(|r| unknown(r + 1)) };
            Fact::open(fact.dtype, dims)
        });
        Ok(facts.collect())
    }
}

impl Op for Scan {
    fn name(&self) -> &'static str {
        "Scan"
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>> {
        match self.unrolled(inputs)? {
            Some(expansion) => expansion.infer(inputs),
            None => self.open(inputs),
        }
    }

    fn evaluate(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
        let facts = known(inputs);
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let expansion = self.unrolled(&facts)?;
        expansion.ok_or_else(|| Error::internal("a scan of tensors of unknown extents"))?.evaluate(inputs)
    }

    fn is_pure(&self) -> bool {
        self.body.is_pure()
    }

    fn takes_sequences(&self) -> bool {
        true
    }

    fn expand(&self, inputs: &[Option<&Fact>], _profile: &Profile) -> Result<Option<Expansion>> {
        self.unrolled(inputs)
    }
}
