//! The proof that requests may share a batch: rows are followed from every input to every output.

use std::collections::BTreeSet;

use super::specialise::{Specialised, specialise};
use crate::engine::ir::{Fact, Given, Graph, Node, Profile, Rows, RowsQuery, ValueId};
use crate::tensor::{Dim, Shape, Tensor};

/// Batch extents that the graph is inferred for. Shape arithmetic that gives the same value for all of them does not
/// depend on the batch; primes are unlike most extents of models.
const PROBES: [usize; 3] = [13, 29, 61];

/// Checks that entry *i* of axis 0 of every output depends on entry *i* of axis 0 of the inputs alone, for inputs of these
/// shapes under any extent of axis 0.
///
/// # Errors
/// Why not, naming the input, output or node.
pub fn prove_rows(graph: &Graph, shapes: &[Shape], profile: &Profile) -> Result<(), String> {
    for (spec, shape) in graph.signature.inputs.iter().zip(shapes) {
        let declared = spec.dims.as_ref().map(|d| d.first());
        match declared {
            Some(Some(Dim::Fixed(n))) => return Err(format!("input {:?} has the fixed batch extent {n}", spec.name)),
            Some(None) => return Err(format!("input {:?} has no batch axis", spec.name)),
            _ if shape.rank() == 0 => return Err(format!("input {:?} has no batch axis", spec.name)),
            _ => {}
        }
    }
    if graph.inputs.is_empty() {
        return Err("the model has no inputs".into());
    }
    let probes: Vec<Specialised> =
        PROBES.iter().map(|batch| specialise_for(graph, shapes, *batch, profile)).collect::<Result<_, String>>()?;
    if probes.windows(2).any(|pair| !same_nodes(&pair[0].graph, &pair[1].graph)) {
        return Err("what it computes depends on the batch extent".into());
    }
    // Under each of them: what constants hold, such as indices that point each row at itself, must hold for all.
    for (probe, batch) in probes.iter().zip(PROBES) {
        let rows = follow(&probes, probe, batch, graph.values.len())?;
        for (value, spec) in probe.graph.outputs.iter().zip(&graph.signature.outputs) {
            if rows[value.0] != Rows::LEADING {
                return Err(format!("output {:?} does not have the batch as its axis 0", spec.name));
            }
            let extent = probe.fact(*value).and_then(Fact::shape).and_then(|s| s.first().copied());
            if extent != Some(batch) {
                return Err(format!("output {:?} does not have one row for each input row", spec.name));
            }
        }
    }
    Ok(())
}

fn specialise_for(graph: &Graph, shapes: &[Shape], batch: usize, profile: &Profile) -> Result<Specialised, String> {
    let probed = shapes.iter().map(|shape| {
        let mut dims = shape.to_vec();
        dims[0] = batch;
        Given::Shape(Shape::new(dims))
    });
    let specialised = specialise(graph, &probed.collect::<Vec<_>>(), profile);
    let specialised = specialised.map_err(|e| format!("its batch extent cannot vary: {e}"))?;
    let waits = specialised.blocked.first().copied();
    let dynamic = specialised.live.iter().copied().find(|n| specialised.is_dynamic(&specialised.graph.nodes[*n]));
    match waits.or(dynamic) {
        Some(node) => Err(format!("the shapes of {} depend on data", specialised.graph.nodes[node].describe())),
        None => Ok(specialised),
    }
}

/// Whether both graphs have the same nodes over the same values.
fn same_nodes(a: &Graph, b: &Graph) -> bool {
    let same = |(a, b): (&Node, &Node)| a.op.name() == b.op.name() && a.inputs == b.inputs && a.outputs == b.outputs;
    a.values.len() == b.values.len() && a.nodes.len() == b.nodes.len() && a.nodes.iter().zip(&b.nodes).all(same)
}

/// The rows of every value under one of the probes. The first `declared` values are the model's own.
fn follow(probes: &[Specialised], probe: &Specialised, batch: usize, declared: usize) -> Result<Vec<Rows>, String> {
    let graph = &probe.graph;
    let mut rows = vec![Rows::Constant; graph.values.len()];
    // Constants that expansions made may have been made for one batch extent.
    for (index, slot) in rows.iter_mut().enumerate().skip(declared) {
        let constants: Option<Vec<_>> = probes.iter().map(|p| p.graph.constant(ValueId(index))).collect();
        *slot = constants.map_or(*slot, |constants| rows_of_constants(&constants));
    }
    for input in &graph.inputs {
        rows[input.0] = Rows::LEADING;
    }
    let live: BTreeSet<usize> = probe.live.iter().copied().collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        let inputs = probe.input_facts(node);
        let outputs: Vec<Fact> = node
            .outputs
            .iter()
            .map(|v| v.and_then(|v| probe.fact(v)).cloned().unwrap_or_else(|| unused_output(probe, node)))
            .collect();
        let given: Vec<Rows> = node.inputs.iter().map(|v| v.map_or(Rows::Constant, |v| rows[v.0])).collect();
        let query = RowsQuery { rows: &given, inputs: &inputs, outputs: &outputs, batch };
        let answers = node.op.rows(&query);
        for (value, answer) in node.outputs.iter().zip(answers) {
            let Some(value) = *value else { continue };
            let known: Option<Vec<_>> = probes.iter().map(|p| p.constant(value)).collect();
            rows[value.0] = match (known, answer) {
                (Some(known), _) => rows_of_constants(&known),
                // What nobody reads as a whole may mix: sequences whose elements are read from what they were made of.
                (None, Rows::Mixed) if live.contains(&index) => return Err(format!("{} mixes rows", node.describe())),
                (None, answer) => answer,
            };
        }
    }
    Ok(rows)
}

/// The rows of what shapes alone determine, given its value under each probe: it depends at most on how many rows there are.
fn rows_of_constants(probed: &[&Tensor]) -> Rows {
    if probed.windows(2).all(|w| w[0] == w[1]) {
        return Rows::Constant;
    }
    let shapes: Vec<&Shape> = probed.iter().map(|t| t.shape()).collect();
    let axis =
        (0..shapes[0].rank()).find(|axis| shapes.iter().zip(PROBES).all(|(s, batch)| s.get(*axis) == Some(&batch)));
    match axis.filter(|axis| repeats_one_row(probed, *axis)) {
        Some(axis) => Rows::along(axis),
        None => Rows::Counted,
    }
}

/// Whether all entries of `axis` of all tensors, equal in their other extents, are the same.
fn repeats_one_row(probed: &[&Tensor], axis: usize) -> bool {
    let first = probed[0];
    let around = |t: &Tensor| [t.shape()[..axis].to_vec(), t.shape()[axis + 1..].to_vec()];
    // Strings have no bytes.
    let size = first.shape()[axis + 1..].iter().product::<usize>() * first.dtype().bytes();
    let row = |outer: usize| &first.bytes()[outer * first.shape()[axis] * size..][..size];
    let repeats = |t: &Tensor| t.bytes().chunks(size).enumerate().all(|(i, entry)| entry == row(i / t.shape()[axis]));
    size > 0 && probed.iter().all(|t| t.dtype() == first.dtype() && around(t) == around(first) && repeats(t))
}

fn unused_output(specialised: &Specialised, node: &Node) -> Fact {
    let first = node.outputs.iter().flatten().find_map(|v| specialised.fact(*v));
    first.cloned().unwrap_or_else(|| Fact::of_unknown_rank(crate::tensor::DType::F32))
}
