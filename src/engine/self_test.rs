//! A numeric self-test of a lane: drivers miscompile, and a wrong answer is worse than none.

use std::sync::Arc;
use std::time::Instant;

use super::compile::compile;
use super::device::Lane;
use super::ir::{Attribute, Attributes, Graph, Node, Profile, ValueInfo};
use super::ops::{OpSpec, build};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Shape, Signature, Spec, Tensor};

/// How far, relative to the largest expected magnitude, a device may be off: sums of hundreds of products in 32 bits.
const TOLERANCE: f64 = 1e-4;

/// (operator, extents of the varying input, extents of the weight, attributes): a matrix product and a padded
/// convolution, with edges that fill no tile.
const CASES: [(&str, &[usize], Option<&[usize]>, &[(&str, &[i64])]); 2] = [
    ("MatMul", &[19, 70], Some(&[70, 37]), &[]),
    ("Conv", &[2, 5, 9, 11], Some(&[13, 5, 3, 3]), &[("pads", &[1, 1, 1, 1]), ("kernel_shape", &[3, 3])]),
];

/// Runs the kernels that models spend their time in and compares them with the host.
///
/// # Errors
/// `INTERNAL` naming the operator and the difference.
pub(super) fn self_test(lane: &Lane, profile: &Profile) -> Result<()> {
    let start = Instant::now();
    for (name, input, weight, attributes) in CASES {
        check(lane, profile, name, input, weight, attributes).map_err(|e| e.at(format!("self-test of {name}")))?;
    }
    tracing::debug!(lane = lane.index(), elapsed = ?start.elapsed(), "the adapter computes right");
    Ok(())
}

fn check(
    lane: &Lane,
    profile: &Profile,
    name: &str,
    input: &[usize],
    weight: Option<&[usize]>,
    given: &[(&str, &[i64])],
) -> Result<()> {
    let mut attributes = Attributes::new();
    for (key, values) in given {
        attributes.set(*key, Attribute::Ints(values.to_vec()));
    }
    let constants: Vec<Tensor> = weight.map(|dims| pattern(dims, 7)).transpose()?.into_iter().collect();
    let spec = OpSpec { domain: "", name, opset: 17, attributes: &attributes, inputs: 1 + constants.len(), outputs: 1 };
    let op = build(&spec)?;
    let tensor = pattern(input, 3)?;
    let mut arguments = vec![Some(&tensor)];
    arguments.extend(constants.iter().map(Some));
    let expected = op.evaluate(&arguments)?;
    let graph = one_node(name, op, input, &constants);
    let program = Arc::new(compile(&graph, &[Shape::from(input)], profile)?);
    let executable = lane.prepare(&program)?;
    let found = lane.run(&executable, vec![tensor])?.tensors;
    compare(&found[0], &expected[0])
}

fn one_node(name: &str, op: Arc<dyn super::ir::Op>, input: &[usize], constants: &[Tensor]) -> Graph {
    let spec = |name: &str, dims: Option<Vec<Dim>>| Spec { name: name.into(), dtype: DType::F32, dims };
    let dims = input.iter().map(|d| Dim::Fixed(*d)).collect();
    let mut graph = Graph {
        values: vec![ValueInfo { name: "x".into(), constant: None }, ValueInfo { name: "y".into(), constant: None }],
        nodes: Vec::new(),
        inputs: vec![super::ir::ValueId(0)],
        outputs: vec![super::ir::ValueId(1)],
        signature: Signature { inputs: vec![spec("x", Some(dims))], outputs: vec![spec("y", None)] },
    };
    let mut inputs = vec![Some(graph.inputs[0])];
    inputs.extend(constants.iter().map(|c| Some(graph.add_value("w", Some(c.clone())))));
    graph.nodes.push(Node { name: name.into(), op, inputs, outputs: vec![Some(graph.outputs[0])] });
    graph
}

/// Small numbers that differ from element to element, sums of which are exact to the last bits.
fn pattern(dims: &[usize], step: usize) -> Result<Tensor> {
    let count = dims.iter().product();
    Tensor::from_vec(dims, (0..count).map(|i: usize| ((i * step) % 31) as f32 / 31.0 - 0.4).collect())
}

fn compare(found: &Tensor, expected: &Tensor) -> Result<()> {
    let (found, expected) = (found.to_f32s()?, expected.to_f32s()?);
    let largest = expected.iter().fold(1.0f64, |m, v| m.max(f64::from(v.abs())));
    for (index, (a, b)) in found.iter().zip(expected.iter()).enumerate() {
        let difference = (f64::from(*a) - f64::from(*b)).abs();
        // Written so that NaN fails too.
        if !(difference <= TOLERANCE * largest) {
            return Err(Error::internal(format!("element {index} is {a} on the device and {b} on the host")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::device::{Adapter, LaneOptions, Mask};
    use super::*;

    #[test]
    fn every_adapter_computes_right() {
        let adapters = Adapter::all();
        if adapters.is_empty() {
            eprintln!("skipped: no adapter");
        }
        for adapter in adapters {
            let lane = Lane::open(&adapter, 0, &LaneOptions::default()).expect("an adapter gives a device");
            self_test(&lane, &adapter.profile(&Mask::default())).expect("right results");
        }
    }

    #[test]
    fn a_lost_device_refuses_work() {
        let Some(adapter) = Adapter::all().into_iter().next() else { return };
        let lane = Lane::open(&adapter, 0, &LaneOptions::default()).expect("an adapter gives a device");
        lane.simulate_loss();
        let error = self_test(&lane, &adapter.profile(&Mask::default())).expect_err("nothing runs");
        assert_eq!(error.code(), crate::error::Code::Unavailable);
    }
}
