//! A model exported for one row, opened to any number.

use crate::engine::ir::Graph;
use crate::error::{Error, Result};
use crate::tensor::{Dim, Spec, Tensor};

/// `graph` with axis 0 of every input and output open. Reshapes to a constant shape of one row keep as many rows as come.
/// Whether the rows stay apart is for [`super::prove_rows`] to say.
///
/// # Errors
/// `FAILED_PRECONDITION` naming an input or output whose axis 0 is neither open nor of extent 1.
pub fn rebatch(mut graph: Graph) -> Result<Graph> {
    let signature = &mut graph.signature;
    for spec in signature.inputs.iter_mut().chain(&mut signature.outputs) {
        open_first(spec)?;
    }
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some(shape) = node.inputs.get(1).copied().flatten().filter(|_| node.op.name() == "Reshape") else {
            continue;
        };
        let Some(extents) = graph.constant(shape).map(Tensor::to_i64s).transpose()? else { continue };
        if let [1, rest @ ..] = &extents[..] {
            // Zero copies the input's extent.
            let copying: Vec<i64> = std::iter::once(0).chain(rest.iter().copied()).collect();
            let name = format!("{}/rows", graph.values[shape.0].name);
            let constant = Tensor::from_vec([copying.len()], copying)?;
            graph.nodes[index].inputs[1] = Some(graph.add_value(name, Some(constant)));
        }
    }
    Ok(graph)
}

fn open_first(spec: &mut Spec) -> Result<()> {
    let Some(first) = spec.dims.as_mut().and_then(|dims| dims.first_mut()) else { return Ok(()) };
    match first {
        Dim::Fixed(1) => *first = Dim::Symbol("batch".into()),
        Dim::Fixed(n) => {
            return Err(Error::failed_precondition(format!(
                "axis 0 of {:?} has the extent {n}: only models exported with 1 can be given another",
                spec.name
            )));
        }
        _ => {}
    }
    Ok(())
}
