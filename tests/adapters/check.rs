//! One case on one lane: compiled, run, compared.

use std::sync::Arc;

use coracle::engine::compile::{compile, optimise};
use coracle::engine::device::Lane;
use coracle::engine::ir::{
    Attribute, Attributes, Choices, Family, Given, Graph, Node, Op, OutputPlace, Problem, Profile, Program, Slot,
    ValueId, oracle,
};
use coracle::engine::ops::{OpSpec, build};
use coracle::error::{Error, Result};
use coracle::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

use super::case::{Case, Restored};

/// Runs `case` alone and, where its first output holds floats, with a Relu behind it.
pub(crate) fn check(lane: &Lane, profile: &Profile, case: &Case) -> Result<(), String> {
    let fused = run(lane, profile, case, false).map_err(|e| e.to_string())?;
    if fused {
        run(lane, profile, case, true).map_err(|e| format!("with Relu behind it: {e}"))?;
    }
    Ok(())
}

/// Whether the first output could take a Relu.
fn run(lane: &Lane, profile: &Profile, case: &Case, followed: bool) -> Result<bool> {
    let (graph, inputs) = graph_of(case, followed)?;
    let expected = oracle::evaluate(&graph, &inputs)?;
    let shapes: Vec<Given> = inputs.iter().map(|t| Given::Shape(t.shape().clone())).collect();
    let graph = optimise(graph, profile)?;
    let program = Arc::new(compile(&graph, &shapes, profile, &Choices::new())?);
    let on_host = program.host_steps();
    let lacking = case.wide && !(profile.int64 && profile.f64);
    if lacking {
        // What of it stays on the host is the operator's to say.
        return Ok(false);
    }
    if case.on_host == on_host.is_empty() {
        return Err(Error::internal(format!("host steps: {on_host:?}")));
    }
    check_bytes(case, &program)?;
    if on_host.is_empty() {
        let tolerance = if profile.half_precision { case.tolerance.max(1e-2) } else { case.tolerance };
        let check = |program: &Arc<Program>| -> Result<()> {
            for (index, (found, expected)) in execute(lane, program, &inputs)?.iter().zip(&expected).enumerate() {
                compare(found, expected, tolerance).map_err(|e| e.at(format!("output {index}")))?;
            }
            Ok(())
        };
        check(&program)?;
        let most = program.problems().map(|p| p.candidates.len()).max().unwrap_or(0);
        // A CPU takes seconds to compile a kernel made for GPUs: there the default and the last one stand for all.
        let first = if profile.family == Family::Gpu && !profile.unrolls { most.saturating_sub(1).max(1) } else { 1 };
        for candidate in (first..most).filter(|_| !followed) {
            let choices = choices(&program, candidate);
            let program = Arc::new(compile(&graph, &shapes, profile, &choices)?);
            check(&program).map_err(|e| e.at(format!("{choices:?}")))?;
        }
    }
    Ok(matches!(expected[0].dtype(), DType::F32 | DType::F16))
}

/// The candidates at one position, or the last ones where there are fewer.
fn choices(program: &Program, candidate: usize) -> Choices {
    let name = |p: &Problem| p.candidates[candidate.min(p.candidates.len() - 1)].clone();
    program.problems().map(|p| (p.key.clone(), name(p))).collect()
}

/// Packed constants take at most half of what they would take widened to 32 bits, scales included.
fn check_bytes(case: &Case, program: &Program) -> Result<()> {
    let constants = case.inputs.iter().flatten().filter(|i| i.is_constant);
    let (mut small, mut other) = (0, 0);
    for tensor in constants.map(|i| &i.tensor) {
        let bytes = 4 * tensor.shape().elements() as u64;
        if tensor.dtype().bits() <= 8 && bytes >= 2048 { small += bytes } else { other += bytes }
    }
    let (found, most) = (program.constant_bytes(), small / 2 + other);
    if case.packed && found > most {
        return Err(Error::internal(format!("constants take {found} bytes on the device, should take at most {most}")));
    }
    Ok(())
}

fn spec(name: String, dtype: DType, shape: Option<&Shape>) -> Spec {
    Spec::tensor(name, dtype, shape.map(|s| s.iter().map(|d| Dim::Fixed(*d)).collect()))
}

fn operator(case: &Case) -> Result<Arc<dyn Op>> {
    let (domain, name) = case.operator.split_once(':').unwrap_or(("", case.operator));
    build(&OpSpec {
        domain,
        name,
        opset: case.opset,
        attributes: &case.attributes,
        inputs: case.inputs.len(),
        outputs: case.outputs,
    })
}

fn relu() -> Result<Arc<dyn Op>> {
    let attributes = Attributes::new();
    build(&OpSpec { domain: "", name: "Relu", opset: 18, attributes: &attributes, inputs: 1, outputs: 1 })
}

/// What DequantizeLinear makes of `codes`.
fn restore(graph: &mut Graph, codes: ValueId, restored: &Restored) -> ValueId {
    let mut attributes = Attributes::new();
    attributes.set("axis", Attribute::Int(restored.axis));
    attributes.set("block_size", Attribute::Int(restored.block));
    let name = "DequantizeLinear";
    let op = build(&OpSpec { domain: "", name, opset: 21, attributes: &attributes, inputs: 3, outputs: 1 });
    let scales = graph.add_value("scales", Some(restored.scales.clone()));
    let zeros = restored.zeros.clone().map(|zeros| graph.add_value("zeros", Some(zeros)));
    let (inputs, output) = (vec![Some(codes), Some(scales), zeros], graph.add_value("restored", None));
    let op = op.expect("an operator of the library");
    graph.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(output)] });
    output
}

/// The graph of the case and what to feed it.
fn graph_of(case: &Case, followed: bool) -> Result<(Graph, Vec<Tensor>)> {
    let signature = Signature { inputs: Vec::new(), outputs: Vec::new() };
    let mut graph = Graph { values: vec![], nodes: vec![], inputs: vec![], outputs: vec![], signature };
    let (mut fed, mut inputs) = (Vec::new(), Vec::new());
    for (index, input) in case.inputs.iter().enumerate() {
        inputs.push(input.as_ref().map(|input| {
            let value = graph.add_value(format!("x{index}"), input.is_constant.then(|| input.tensor.clone()));
            if !input.is_constant {
                graph.inputs.push(value);
                let tensor = &input.tensor;
                graph.signature.inputs.push(spec(format!("x{index}"), tensor.dtype(), Some(tensor.shape())));
                fed.push(tensor.clone());
            }
            if let Some(restored) = &input.restored {
                return restore(&mut graph, value, restored);
            }
            value
        }));
    }
    let results: Vec<_> = (0..case.outputs).map(|i| graph.add_value(format!("y{i}"), None)).collect();
    let outputs = results.iter().copied().map(Some).collect();
    graph.nodes.push(Node { name: case.name.into(), op: operator(case)?, inputs, outputs });
    graph.outputs = results;
    if followed {
        let after = graph.add_value("relu", None);
        let inputs = vec![Some(graph.outputs[0])];
        graph.nodes.push(Node { name: "relu".into(), op: relu()?, inputs, outputs: vec![Some(after)] });
        graph.outputs[0] = after;
    }
    graph.signature.outputs = (0..graph.outputs.len()).map(|i| spec(format!("y{i}"), DType::F32, None)).collect();
    Ok((graph, fed))
}

/// Runs a program of one segment.
pub(crate) fn execute(lane: &Lane, program: &Arc<Program>, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut slots: Vec<Option<Tensor>> = vec![None; program.slots];
    for (slot, tensor) in program.inputs.iter().zip(inputs) {
        slots[slot.0] = Some(tensor.clone());
    }
    for (slot, tensor) in &program.known {
        slots[slot.0] = Some(tensor.clone());
    }
    let take = |slots: &[Option<Tensor>], slot: &Slot| {
        slots[slot.0].clone().ok_or_else(|| Error::internal(format!("slot {} is empty", slot.0)))
    };
    let segment = program.segments.first().filter(|s| !s.dispatches.is_empty() || !s.downloads.is_empty());
    if let Some(segment) = segment {
        let uploads = segment.uploads.iter().map(|port| take(&slots, &port.slot)).collect::<Result<Vec<_>>>()?;
        let tensors = lane.run(&lane.prepare(program)?, uploads)?.tensors;
        for (port, tensor) in segment.downloads.iter().zip(tensors) {
            slots[port.slot.0] = Some(tensor);
        }
    }
    let output = |place: &OutputPlace| match place {
        OutputPlace::Slot(slot) => take(&slots, slot),
        OutputPlace::Rest(_) => Err(Error::internal("a shape depends on data")),
    };
    program.outputs.iter().map(output).collect()
}

/// Types, shapes, integers and the places of NaN and ±Inf must be equal; other floats may differ by the tolerance.
pub(crate) fn compare(found: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        let (a, b) = (found.shape(), expected.shape());
        return Err(Error::internal(format!("{}{a} instead of {}{b}", found.dtype(), expected.dtype())));
    }
    // Half a unit in the last place of a 16-bit float, on either side.
    let rounding = if expected.dtype() == DType::F16 { 1e-3 } else { 0.0 };
    let exact = !expected.dtype().is_float();
    if matches!(expected.dtype(), DType::I64 | DType::U64) && found != expected {
        // 64-bit floats cannot tell large integers apart.
        return Err(Error::internal(format!(
            "{:?} on the device and {:?} on the host",
            found.to_i64s()?,
            expected.to_i64s()?
        )));
    }
    let (found, expected) = (found.to_f64s()?, expected.to_f64s()?);
    let largest = expected.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
    let bound = if exact { 0.0 } else { tolerance.max(rounding) * largest };
    for (index, (a, b)) in found.iter().zip(&expected).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= bound;
        if !same {
            return Err(Error::internal(format!("element {index} is {a} on the device and {b} on the host")));
        }
    }
    Ok(())
}
