//! What can be done to a graph once, whatever the shapes: constants folded, operators replaced by cheaper ones,
//! per-channel scales taken into the convolutions before them.

use super::dequantised::Readers;
use super::turned::turn_weights;
use crate::engine::ir::{Fact, Graph, Profile, infer_extents};
use crate::error::Result;

/// Constants made at load hold at most this many elements unless an input of theirs is as large.
const MAX_FOLDED_ELEMENTS: usize = 1 << 24;

/// The same function in fewer, cheaper nodes.
///
/// # Errors
/// Those of evaluating a node over constants, naming it.
pub fn optimise(mut graph: Graph, profile: &Profile) -> Result<Graph> {
    turn_weights(&mut graph)?;
    fold_constants(&mut graph)?;
    fold_affines(&mut graph);
    simplify(&mut graph, profile)?;
    fold_constants(&mut graph)?;
    graph.remove_dead();
    Ok(graph)
}

fn fold_constants(graph: &mut Graph) -> Result<()> {
    let readers = Readers::new(graph);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let inputs = graph.constants(node);
        if inputs.iter().zip(&node.inputs).any(|(c, v)| v.is_some() && c.is_none()) {
            continue;
        }
        if !node.op.is_pure() || node.op.quantized(&inputs).is_some_and(|w| readers.restore(graph, index, &w)) {
            continue;
        }
        let facts: Vec<_> = inputs.iter().map(|c| c.map(Fact::from)).collect();
        let borrowed: Vec<_> = facts.iter().map(Option::as_ref).collect();
        let place = |e: crate::error::Error| e.at(node.describe());
        let inferred = infer_extents(&*node.op, &borrowed).map_err(place)?;
        let largest_input = inputs.iter().flatten().map(|t| t.shape().elements()).max().unwrap_or(0);
        let bound = MAX_FOLDED_ELEMENTS.max(largest_input);
        if inferred.iter().any(|f| f.shape().is_none_or(|s| s.elements() > bound)) {
            continue;
        }
        let outputs = node.op.evaluate(&inputs).map_err(place)?;
        for (value, tensor) in graph.nodes[index].outputs.clone().into_iter().zip(outputs) {
            if let Some(value) = value {
                graph.values[value.0].constant = Some(tensor);
            }
        }
    }
    graph.nodes.retain(|n| n.outputs.iter().flatten().any(|v| graph.values[v.0].constant.is_none()));
    Ok(())
}

fn simplify(graph: &mut Graph, profile: &Profile) -> Result<()> {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let inputs = graph.constants(node);
        let replacement = node.op.simplify(&inputs, profile).map_err(|e| e.at(node.describe()))?;
        if let Some(replacement) = replacement {
            graph.replace(index, index, replacement);
        }
    }
    Ok(())
}

/// Takes each per-channel scale and shift into the node before it, where that node has no other reader and can.
fn fold_affines(graph: &mut Graph) {
    let uses = graph.uses();
    let producers = graph.producers();
    let mut removed = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some(affine) = node.op.affine(&graph.constants(node)) else { continue };
        let Some(input) = node.inputs.first().copied().flatten() else { continue };
        let Some(producer) = producers[input.0].filter(|p| uses[input.0] == 1 && !removed[*p]) else { continue };
        let before = &graph.nodes[producer];
        let Some(replacement) = before.op.absorb(&graph.constants(before), &affine) else { continue };
        // The merged node takes the later one's place and output.
        graph.replace(index, producer, replacement);
        removed[producer] = true;
    }
    let mut removed = removed.into_iter();
    graph.nodes.retain(|_| !removed.next().unwrap_or(false));
}
