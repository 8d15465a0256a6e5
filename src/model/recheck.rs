//! An answer of a device, computed again on the host within bounds.

use std::time::{Duration, Instant};

use super::agreement::{Verdict, compare};
use crate::engine::Reference;
use crate::engine::ir::oracle::{Watch, evaluate_watched};
use crate::engine::ir::{Fact, Graph, Node, Origins, infer_extents};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What an element costs beside the arithmetic of products, in the same unit.
const ELEMENT_FLOPS: f64 = 8.0;

/// What a check may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Time.
    pub(super) time_max: Duration,
    /// Memory of what lies between inputs and outputs.
    pub(super) bytes_max: u64,
    /// Operations a second that the host is known, or taken, to do.
    pub(super) flops_per_s: f64,
}

/// What came of a check.
#[derive(Debug)]
pub(super) struct Checked {
    /// The output and what is wrong with it; `None`: the device was right.
    pub(super) disagreement: Option<(String, String)>,
    /// Operations that the host did.
    pub(super) flops: f64,
}

/// Computes the outputs for `inputs` and compares those that the device gave.
///
/// # Errors
/// `FAILED_PRECONDITION` where chance decides, `RESOURCE_EXHAUSTED` where it takes more than `bounds`, else that of the node that
/// the host cannot compute; all of them say why nothing was compared.
pub(super) fn recheck(reference: &Reference, inputs: &[Tensor], found: &[Tensor], bounds: Bounds) -> Result<Checked> {
    if !reference.is_pure {
        return Err(Error::failed_precondition("the model draws random numbers"));
    }
    let graph = &*reference.graph;
    let (flops, bytes) = foreseen(graph, inputs);
    let seconds = flops / bounds.flops_per_s;
    if seconds > bounds.time_max.as_secs_f64() {
        let max = bounds.time_max;
        return Err(Error::resource_exhausted(format!("it would take {seconds:.1} s on the host, {max:?} at most")));
    }
    let mut watch = Watcher {
        origins: Origins::new(graph),
        end: Instant::now() + bounds.time_max,
        held: inputs.iter().map(size).sum(),
        bytes_max: bounds.bytes_max,
    };
    watch.check_room(bytes)?;
    let expected = evaluate_watched(graph, inputs, &mut watch)?;
    if expected.len() != found.len() {
        let what = format!("{} outputs on the device, {} on the host", found.len(), expected.len());
        return Ok(Checked { disagreement: Some((String::new(), what)), flops });
    }
    let (mut is_open, mut disagreement) = (false, None);
    for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
        let mut origin = watch.origins.of(graph.outputs[i]);
        origin.halves |= reference.halves;
        match compare(expected, found, origin) {
            Verdict::Agreed => {}
            Verdict::Open => is_open = true,
            Verdict::Disagreed(what) => {
                let name = graph.signature.outputs.get(i).map_or_else(String::new, |spec| spec.name.clone());
                disagreement.get_or_insert((name, what));
            }
        }
    }
    if is_open && disagreement.is_none() {
        return Err(Error::failed_precondition("shapes differ by a choice among nearly equal numbers"));
    }
    Ok(Checked { disagreement, flops })
}

/// The operations that `inputs` need and the bytes of the largest value, as far as shapes tell beforehand.
fn foreseen(graph: &Graph, inputs: &[Tensor]) -> (f64, u64) {
    let mut facts: Vec<Option<Fact>> = graph.values.iter().map(|v| v.constant.as_ref().map(Fact::from)).collect();
    for (value, tensor) in graph.inputs.iter().zip(inputs) {
        facts[value.0] = Some(Fact::from(tensor));
    }
    let (mut flops, mut bytes) = (0.0, 0);
    for node in &graph.nodes {
        let known: Vec<_> = node.inputs.iter().map(|v| v.and_then(|v| facts[v.0].as_ref())).collect();
        // What follows a shape that only values tell is not foreseen, but watched.
        if known.iter().zip(&node.inputs).any(|(fact, value)| value.is_some() && fact.is_none()) {
            continue;
        }
        let Ok(outputs) = infer_extents(&*node.op, &known) else { continue };
        let sizes =
            outputs.iter().filter_map(|fact| Some((fact.shape()?.elements() as u64, fact.dtype.bytes() as u64)));
        for (elements, width) in sizes {
            flops += elements as f64 * ELEMENT_FLOPS;
            bytes = bytes.max(elements.saturating_mul(width));
        }
        flops += node.op.cost(&known, &outputs).flops;
        for (value, fact) in node.outputs.iter().zip(outputs) {
            if let Some(value) = value {
                facts[value.0] = Some(fact);
            }
        }
    }
    (flops, bytes)
}

/// Bytes that a tensor's elements take.
pub(super) fn size(tensor: &Tensor) -> u64 {
    let strings: usize = tensor.strings().iter().map(|string| 32 + string.len()).sum();
    (tensor.bytes().len() + strings) as u64 + tensor.elements().iter().map(size).sum::<u64>()
}

/// Keeps an evaluation within its bounds and follows where values come from.
struct Watcher {
    origins: Origins,
    end: Instant,
    held: u64,
    bytes_max: u64,
}

impl Watcher {
    fn check_room(&self, bytes: u64) -> Result<()> {
        let needed = self.held.saturating_add(bytes);
        if needed <= self.bytes_max {
            return Ok(());
        }
        Err(Error::resource_exhausted(format!("it takes {needed} bytes on the host, {} at most", self.bytes_max)))
    }
}

impl Watch for Watcher {
    fn before(&mut self, node: &Node) -> Result<()> {
        if Instant::now() < self.end {
            return Ok(());
        }
        Err(Error::resource_exhausted("it takes too long on the host").at(node.describe()))
    }

    fn after(&mut self, node: &Node, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
        self.held += outputs.iter().map(size).sum::<u64>();
        self.origins.note(node, inputs, outputs);
        self.check_room(0).map_err(|e| e.at(node.describe()))
    }

    fn dropped(&mut self, value: &Tensor) {
        self.held = self.held.saturating_sub(size(value));
    }
}
