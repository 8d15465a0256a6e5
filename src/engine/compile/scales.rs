//! Channels that are scaled before a convolution (squeeze and excitation): it scales what it reads itself.

use std::collections::HashMap;

use super::specialise::Specialised;
use crate::engine::ir::{Profile, ValueId};

/// Lets convolutions read what the multiplications before them read, where nobody else wants the products.
pub(super) fn take_scales(known: &mut Specialised, profile: &Profile) {
    let mut uses: HashMap<ValueId, usize> = HashMap::new();
    let mut producers = HashMap::new();
    for index in &known.live {
        let node = &known.graph.nodes[*index];
        node.inputs.iter().flatten().for_each(|v| *uses.entry(*v).or_default() += 1);
        producers.extend(node.outputs.iter().flatten().map(|v| (*v, *index)));
    }
    for value in known.graph.outputs.iter().chain(&known.crossing) {
        *uses.entry(*value).or_default() += 1;
    }
    let mut taken = Vec::new();
    for index in &known.live {
        let node = &known.graph.nodes[*index];
        let Some(op) = node.op.taking_scales(&known.input_facts(node), profile) else { continue };
        let Some(read) = node.inputs.first().copied().flatten().filter(|v| uses.get(v) == Some(&1)) else { continue };
        let Some(before) = producers.get(&read) else { continue };
        let scaling = &known.graph.nodes[*before];
        let Some([scaled, scale]) = scaling.op.scales_channels(&known.input_facts(scaling)) else { continue };
        let (scaled, scale) = (scaling.inputs[scaled], scaling.inputs[scale]);
        let mut inputs = node.inputs.clone();
        inputs.resize(3, None);
        inputs[0] = scaled;
        inputs.push(scale);
        taken.push(*before);
        let node = &mut known.graph.nodes[*index];
        (node.op, node.inputs) = (op, inputs);
    }
    known.live.retain(|index| !taken.contains(index));
}
