//! Weights that are integers: products restore their numbers as they read them, so that nothing wider is ever stored.

use std::collections::HashMap;

use super::specialise::Specialised;
use crate::engine::ir::{Graph, Node, Profile, Quantized, ValueId, WeightAxes};
use crate::tensor::Tensor;

/// Which nodes read each value of a graph.
pub(super) struct Readers {
    nodes: Vec<Vec<usize>>,
    is_output: Vec<bool>,
}

impl Readers {
    pub(super) fn new(graph: &Graph) -> Self {
        let mut nodes = vec![Vec::new(); graph.values.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().flatten().for_each(|value| nodes[value.0].push(index));
        }
        let mut is_output = vec![false; graph.values.len()];
        graph.outputs.iter().for_each(|value| is_output[value.0] = true);
        Self { nodes, is_output }
    }

    /// The nodes that read `value`, once for each place.
    pub(super) fn of(&self, value: ValueId) -> &[usize] {
        &self.nodes[value.0]
    }

    /// Whether all who read output 0 of node `index` restore `weight`, which that node is, themselves.
    pub(super) fn restore(&self, graph: &Graph, index: usize, weight: &Quantized) -> bool {
        let Some(value) = graph.nodes[index].outputs.first().copied().flatten() else { return false };
        !self.is_output[value.0] && agreed(graph, self.of(value), value, weight).is_some()
    }
}

/// The axes along which all of `readers` take scales of `weight`, if they restore it from packed integers and agree.
fn agreed(graph: &Graph, readers: &[usize], value: ValueId, weight: &Quantized) -> Option<WeightAxes> {
    let mut axes = None;
    for reader in readers {
        let Node { op, inputs, .. } = &graph.nodes[*reader];
        let mut places = (0..inputs.len()).filter(|i| inputs[*i] == Some(value));
        let own = op.weight_axes(places.next()?, weight.codes.shape())?;
        if places.next().is_some() || axes.is_some_and(|a| a != own) {
            return None;
        }
        axes = Some(own);
    }
    axes.filter(|axes| weight.packing(*axes).is_some())
}

/// A weight that its readers restore.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) weight: Quantized,
    pub(super) axes: WeightAxes,
}

/// Outputs of live nodes that need not run because all readers run on the device and restore the weight themselves.
pub(super) fn restored(
    graph: &Graph,
    known: &Specialised,
    profile: &Profile,
    forced_host: &HashMap<usize, String>,
) -> HashMap<ValueId, Restored> {
    let all = Readers::new(graph);
    let on_device = |index: &usize| {
        let node = &graph.nodes[*index];
        !forced_host.contains_key(index) && node.op.host_reason(&known.input_facts(node), profile).is_none()
    };
    let weight_of = |index: &usize| {
        let node = &graph.nodes[*index];
        let constants: Vec<Option<&Tensor>> = node.inputs.iter().map(|v| v.and_then(|v| known.constant(v))).collect();
        if node.inputs.iter().zip(&constants).any(|(value, constant)| value.is_some() && constant.is_none()) {
            return None;
        }
        let (weight, value) = (node.op.quantized(&constants)?, node.outputs.first().copied().flatten()?);
        let read_elsewhere = all.is_output[value.0] || known.crossing.contains(&value);
        let readers: Vec<usize> =
            all.of(value).iter().copied().filter(|r| known.live.binary_search(r).is_ok()).collect();
        let axes = agreed(graph, &readers, value, &weight)?;
        (!read_elsewhere && readers.iter().all(on_device)).then_some((value, Restored { weight, axes }))
    };
    known.live.iter().filter_map(weight_of).collect()
}
