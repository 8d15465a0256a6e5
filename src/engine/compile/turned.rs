//! Weights that lie the wrong way round for their reader.

use crate::engine::ir::Graph;
use crate::error::Result;

/// Transposes constant matrices, still packed, whose one reader would rather have them so.
///
/// # Errors
/// Those of transposing a constant, naming the node.
pub(super) fn turn_weights(graph: &mut Graph) -> Result<()> {
    let (mut uses, mut producers) = (graph.uses(), graph.producers());
    for index in 0..graph.nodes.len() {
        for place in 0..graph.nodes[index].inputs.len() {
            let node = &graph.nodes[index];
            let Some(value) = node.inputs[place].filter(|v| uses[v.0] == 1) else { continue };
            let (Some(producer), Some(op)) = (producers[value.0], node.op.reading_transposed(place)) else { continue };
            let before = &graph.nodes[producer];
            let turned = before.op.giving_transposed(&graph.constants(before)).map_err(|e| e.at(before.describe()))?;
            let Some(turned) = turned else { continue };
            graph.replace(producer, producer, turned);
            if !op.is_view() {
                graph.nodes[index].op = op;
                continue;
            }
            // Nothing is left of the reader: its own readers get the weight, which takes its output.
            let Some(output) = graph.nodes[index].outputs.first().copied().flatten() else { continue };
            graph.nodes[producer].outputs = vec![Some(output)];
            graph.nodes[index].outputs = vec![None];
            (producers[output.0], uses[value.0]) = (Some(producer), 0);
        }
    }
    graph.nodes.retain(|node| node.outputs.iter().any(Option::is_some));
    Ok(())
}
