//! Channels that are scaled before a convolution (squeeze and excitation): it scales what it reads itself.

use super::specialise::Specialised;
use crate::engine::ir::{Profile, Surroundings};

/// Lets convolutions read what the multiplications before them read, where nobody else wants the products.
pub(super) fn take_scales(known: &mut Specialised, profile: &Profile) {
    let mut taking = Vec::new();
    {
        let around = Surroundings::new(&known.graph, known.facts(), &known.live, &known.crossing, profile);
        for index in known.live.iter().copied() {
            let node = &known.graph.nodes[index];
            let Some(op) = node.op.taking_scales(&around.facts(node), profile) else { continue };
            let read = node.inputs.first().copied().flatten();
            let Some(scaling) = read.and_then(|value| around.sole_producer(value)) else { continue };
            let Some([scaled, scale]) = scaling.op.scales_channels(&around.facts(scaling)) else { continue };
            let mut inputs = node.inputs.clone();
            inputs.resize(3, None);
            inputs[0] = scaling.inputs[scaled];
            inputs.push(scaling.inputs[scale]);
            taking.push((index, op, inputs));
        }
    }
    for (index, op, inputs) in taking {
        let node = &mut known.graph.nodes[index];
        (node.op, node.inputs) = (op, inputs);
    }
    known.keep_needed();
}
