//! A numeric self-test of a lane: drivers miscompile, and a wrong answer is worse than none.

use std::sync::Arc;
use std::time::Instant;

use super::compile::compile;
use super::device::Lane;
use super::ir::{Attribute, Attributes, Choices, Given, Graph, Node, Op, Profile};
use super::ops::{OpSpec, build};
use crate::error::{Error, Result};
use crate::tensor::{DType, Dim, Signature, Spec, Tensor};

/// How far, relative to the largest expected magnitude, a device may be off: sums of hundreds of products in 32 bits.
const TOLERANCE: f64 = 1e-4;

/// One operator on small numbers.
struct Case {
    name: &'static str,
    /// Extents of the varying input.
    input: &'static [usize],
    /// Extents of the constant one.
    weight: &'static [usize],
    attributes: &'static [(&'static str, &'static [i64])],
}

/// A matrix product and a padded convolution, with edges that fill no tile.
const CASES: [Case; 2] = [
    Case { name: "MatMul", input: &[19, 70], weight: &[70, 37], attributes: &[] },
    Case {
        name: "Conv",
        input: &[2, 5, 9, 11],
        weight: &[13, 5, 3, 3],
        attributes: &[("pads", &[1, 1, 1, 1]), ("kernel_shape", &[3, 3])],
    },
];

/// So many products in a row: each must wait for the one before, and buffers serve again.
const CHAIN: usize = 5;

/// Runs the kernels that models spend their time in and compares them with the host.
///
/// # Errors
/// `INTERNAL` naming the operator and the difference.
pub(super) fn self_test(lane: &Lane, profile: &Profile) -> Result<()> {
    let start = Instant::now();
    for case in CASES {
        check(lane, profile, &case).map_err(|e| e.at(format!("self-test of {}", case.name)))?;
    }
    check_chain(lane, profile).map_err(|e| e.at("self-test of what waits for what"))?;
    tracing::debug!(lane = lane.number(), elapsed = ?start.elapsed(), "the adapter computes right");
    Ok(())
}

fn check(lane: &Lane, profile: &Profile, case: &Case) -> Result<()> {
    let mut attributes = Attributes::new();
    for (key, values) in case.attributes {
        attributes.set(*key, Attribute::Ints(values.to_vec()));
    }
    let op = build(&OpSpec { domain: "", name: case.name, opset: 17, attributes: &attributes, inputs: 2, outputs: 1 })?;
    let (input, weight) = (pattern(case.input, 3)?, pattern(case.weight, 7)?);
    let expected = op.evaluate(&[Some(&input), Some(&weight)])?;
    run(lane, profile, &one_node(case.input, case.name, op, weight), input, &expected[0])
}

fn check_chain(lane: &Lane, profile: &Profile) -> Result<()> {
    let attributes = Attributes::new();
    let spec = OpSpec { domain: "", name: "MatMul", opset: 17, attributes: &attributes, inputs: 2, outputs: 1 };
    let op = build(&spec)?;
    let (input, weight) = (pattern(&[19, 40], 3)?, pattern(&[40, 40], 7)?);
    let mut graph = one_node(&[19, 40], "MatMul", Arc::clone(&op), weight.clone());
    let mut expected = op.evaluate(&[Some(&input), Some(&weight)])?;
    for _ in 1..CHAIN {
        let (y, w) = (graph.add_value("y", None), graph.nodes[0].inputs[1]);
        let node = Node {
            name: "MatMul".into(),
            op: Arc::clone(&op),
            inputs: vec![Some(graph.outputs[0]), w],
            outputs: vec![Some(y)],
        };
        graph.nodes.push(node);
        graph.outputs[0] = y;
        expected = op.evaluate(&[Some(&expected[0]), Some(&weight)])?;
    }
    run(lane, profile, &graph, input, &expected[0])
}

/// Runs `graph` on `input` and compares.
fn run(lane: &Lane, profile: &Profile, graph: &Graph, input: Tensor, expected: &Tensor) -> Result<()> {
    let given = [Given::Shape(input.shape().clone())];
    let program = Arc::new(compile(graph, &given, profile, &Choices::new())?);
    let executable = lane.prepare(&program)?;
    let found = lane.run(&executable, vec![input])?.tensors;
    compare(&found[0], expected)
}

/// A graph of one operator, `name`, on an input of these extents and a constant.
pub(super) fn one_node(input: &[usize], name: &str, op: Arc<dyn Op>, weight: Tensor) -> Graph {
    let spec = |name: &str, dims: Option<Vec<Dim>>| Spec::tensor(name, DType::F32, dims);
    let dims = input.iter().map(|d| Dim::Fixed(*d)).collect();
    let mut graph = Graph {
        values: Vec::new(),
        nodes: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        signature: Signature { inputs: vec![spec("x", Some(dims))], outputs: vec![spec("y", None)] },
    };
    let (x, w, y) = (graph.add_value("x", None), graph.add_value("w", Some(weight)), graph.add_value("y", None));
    graph.inputs.push(x);
    graph.outputs.push(y);
    graph.nodes.push(Node { name: name.into(), op, inputs: vec![Some(x), Some(w)], outputs: vec![Some(y)] });
    graph
}

/// Small numbers that differ from element to element, sums of which are exact to the last bits.
pub(super) fn pattern(dims: &[usize], step: usize) -> Result<Tensor> {
    let count = dims.iter().product();
    Tensor::from_vec(dims, (0..count).map(|i: usize| ((i * step) % 31) as f32 / 31.0 - 0.4).collect())
}

fn compare(found: &Tensor, expected: &Tensor) -> Result<()> {
    let (found, expected) = (found.to_f32s()?, expected.to_f32s()?);
    let largest = expected.iter().fold(1.0f64, |m, v| m.max(f64::from(v.abs())));
    for (index, (a, b)) in found.iter().zip(expected.iter()).enumerate() {
        let difference = (f64::from(*a) - f64::from(*b)).abs();
        if difference.is_nan() || difference > TOLERANCE * largest {
            return Err(Error::internal(format!("element {index} is {a} on the device and {b} on the host")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::device::{Adapter, LaneOptions, Mask, Replay};
    use super::*;

    #[test]
    fn every_adapter_computes_right() {
        let adapters = Adapter::all();
        if adapters.is_empty() {
            eprintln!("skipped: no adapter");
        }
        for adapter in adapters {
            for replay in [Replay::Auto, Replay::Encoded] {
                let options = LaneOptions { replay, ..LaneOptions::default() };
                let lane = Lane::open(&adapter, 0, &options).expect("an adapter gives a device");
                self_test(&lane, &adapter.profile(&Mask::default())).expect("right results");
            }
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
