//! Several nodes made one, where an operator knows how: what only shapes show.

use std::collections::HashSet;

use super::specialise::Specialised;
use crate::engine::ir::{Node, Profile, Surroundings};

/// How often operators look around at most: what one makes may be what another looks for.
const PASSES_MAX: usize = 4;

/// Puts what operators make of their surroundings in their place, and leaves out what is then not needed.
pub fn fuse(known: &mut Specialised, profile: &Profile) {
    for _ in 0..PASSES_MAX {
        if !pass(known, profile) {
            return;
        }
    }
}

/// Lets every operator look around once; says whether that changed anything.
fn pass(known: &mut Specialised, profile: &Profile) -> bool {
    let mut fused = Vec::new();
    {
        let around = Surroundings::new(&known.graph, known.facts(), &known.live, &known.crossing, profile);
        for index in known.live.iter().copied() {
            let node = &known.graph.nodes[index];
            fused.extend(node.op.fuse(node, &around).map(|fused| (index, fused)));
        }
    }
    if fused.is_empty() {
        return false;
    }
    let producers = known.graph.producers();
    let mut gone = HashSet::new();
    for (index, fused) in fused {
        let node = &known.graph.nodes[index];
        // What is read may have gone into another, and so may the node itself.
        let taken = node.outputs.first().is_none_or(Option::is_none);
        if taken || fused.inputs.iter().flatten().any(|value| gone.contains(value)) {
            continue;
        }
        let name = node.name.clone();
        gone.extend(node.outputs.iter().flatten().copied().filter(|value| *value != fused.output));
        // Whoever wrote the output before does not any more.
        if let Some(producer) = producers[fused.output.0] {
            known.graph.nodes[producer].outputs = vec![None];
        }
        known.graph.nodes[index] = Node { name, op: fused.op, inputs: fused.inputs, outputs: vec![Some(fused.output)] };
    }
    known.keep_needed();
    true
}
