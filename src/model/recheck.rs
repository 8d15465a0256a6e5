//! An answer of a device, computed again on the host within bounds.

use std::time::{Duration, Instant};

use super::agreement::{Verdict, compare};
use crate::engine::Reference;
use crate::engine::ir::oracle::{Watch, evaluate_watched};
use crate::engine::ir::{Fact, Graph, Node, Origins, infer};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What an element costs beside the arithmetic of products, in the same unit.
const ELEMENT_FLOPS: f64 = 8.0;

/// Inputs of more elements are not taken for shapes, axes or conditions.
const DECIDING_ELEMENTS_MAX: usize = 16;

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
        let is_small = tensor.shape().rank() <= 1 && tensor.shape().elements() <= DECIDING_ELEMENTS_MAX;
        let of_shape = || Fact::of_shape(tensor.dtype(), tensor.shape());
        facts[value.0] = Some(if is_small { Fact::from(tensor) } else { of_shape() });
    }
    let (mut flops, mut bytes) = (0.0, 0);
    for node in &graph.nodes {
        let known: Vec<_> = node.inputs.iter().map(|v| v.and_then(|v| facts[v.0].as_ref())).collect();
        // What follows a shape that only values tell is not foreseen, but watched.
        if known.iter().zip(&node.inputs).any(|(fact, value)| value.is_some() && fact.is_none()) {
            continue;
        }
        let Ok(outputs) = infer(&*node.op, &known) else { continue };
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::engine::ir::oracle::evaluate;
    use crate::error::Code;
    use crate::formats::onnx;

    const PLENTY: Bounds = Bounds { time_max: Duration::from_secs(600), bytes_max: 1 << 30, flops_per_s: 1e9 };

    /// The model of digits, two images, and what it gives.
    fn answered() -> (Reference, Vec<Tensor>, Vec<Tensor>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits/1/model.onnx");
        let graph = Arc::new(onnx::import(&path).expect("the model is there"));
        let pixels = (0..128).map(|at| (at % 17) as f32 / 16.0).collect();
        let inputs = vec![Tensor::from_vec([2, 1, 8, 8], pixels).expect("two images")];
        let outputs = evaluate(&graph, &inputs).expect("it computes");
        (Reference { graph, is_pure: true, halves: false }, inputs, outputs)
    }

    #[test]
    fn wrong_answers_are_told_from_right_ones() {
        let (reference, inputs, mut outputs) = answered();
        let checked = recheck(&reference, &inputs, &outputs, PLENTY).expect("it can be compared");
        assert_eq!(checked.disagreement, None);
        assert!(checked.flops > 1e4, "{} operations for convolutions", checked.flops);
        let mut values = outputs[0].values::<f32>().expect("f32").into_owned();
        values[7] += 0.5 * values.iter().fold(1.0f32, |most, v| most.max(v.abs()));
        outputs[0] = Tensor::from_vec(outputs[0].shape().clone(), values).expect("as many");
        let checked = recheck(&reference, &inputs, &outputs, PLENTY).expect("it can be compared");
        let (output, what) = checked.disagreement.expect("it is wrong");
        assert_eq!(output, reference.graph.signature.outputs[0].name);
        assert!(what.starts_with("element 7 is ") && what.ends_with("; 1 elements are wrong"), "{what}");
        let checked = recheck(&reference, &inputs, &[], PLENTY).expect("it can be compared");
        assert!(checked.disagreement.is_some(), "an output is missing");
    }

    #[test]
    fn bounds_are_kept() {
        let (reference, inputs, outputs) = answered();
        let refused = |reference: &Reference, bounds| {
            let error = recheck(reference, &inputs, &outputs, bounds).expect_err("it may not");
            (error.code(), error.message().to_owned())
        };
        let (code, what) = refused(&reference, Bounds { flops_per_s: 1e-3, ..PLENTY });
        assert!(code == Code::ResourceExhausted && what.contains("s on the host, 600s at most"), "{what}");
        // However fast the host is said to be.
        let late = Bounds { time_max: Duration::ZERO, flops_per_s: f64::INFINITY, ..PLENTY };
        let (code, what) = refused(&reference, late);
        assert!(code == Code::ResourceExhausted && what.contains("it takes too long on the host"), "{what}");
        let (code, what) = refused(&reference, Bounds { bytes_max: 600, ..PLENTY });
        assert!(code == Code::ResourceExhausted && what.contains(" bytes on the host, 600 at most"), "{what}");
        let chance = Reference { is_pure: false, ..reference };
        assert_eq!(refused(&chance, PLENTY).0, Code::FailedPrecondition);
    }
}
