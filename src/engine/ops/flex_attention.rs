//! FlexAttention: attention whose scores and weights pass through graphs of the node.

use std::sync::Arc;

use super::arguments::required;
use super::composed::written;
use super::registry::OpSpec;
use super::sketch::{Sketch, number};
use crate::engine::ir::{Attribute, Op, Subgraph, Wire};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape};

/// Inputs Q [batch, heads, queries, head], K [batch, kv_heads, keys, head], V [batch, kv_heads, keys, v_head], and what the
/// graphs read from around the node; output Y [batch, heads, queries, v_head].
pub(super) fn flex_attention(spec: &OpSpec<'_>) -> Result<Arc<dyn Op>> {
    let [of_scores, of_weights] = [modifier(spec, "score_mod")?, modifier(spec, "prob_mod")?];
    let scale = spec.attributes.float("scale")?;
    let precision = spec.attributes.dtype("softmax_precision")?;
    written("FlexAttention", spec, move |sketch, inputs| {
        let [q, k, v] = [required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?];
        let dtype = q.dtype;
        let (q, k, v) = (q.concrete()?, k.concrete()?, v.concrete()?);
        let wrong = || Error::invalid_argument(format!("attention of queries {q}, keys {k} and values {v}"));
        let (&[batch, heads, queries, head], &[_, kv_heads, keys, _], &[_, _, _, v_head]) = (&q[..], &k[..], &v[..])
        else {
            return Err(wrong());
        };
        let fits = kv_heads > 0 && heads % kv_heads == 0;
        if !fits || k[..] != [batch, kv_heads, keys, head] || v[..] != [batch, kv_heads, keys, v_head] {
            return Err(wrong());
        }
        let inner = precision.unwrap_or(if dtype == DType::F64 { dtype } else { DType::F32 });
        // Queries that share keys and values are rows of one product.
        let rows = heads / kv_heads * queries;
        let shape = Shape::from(&[batch, heads, queries, keys][..]);
        let root = f64::from(scale.unwrap_or_else(|| 1.0 / (head as f32).sqrt())).sqrt();
        let grouped = sketch.reshape(&Wire::Input(0), &[batch, kv_heads, rows, head])?;
        let grouped = sketch.op("Mul", &[&grouped, &number(dtype, root)?])?;
        let columns = sketch.transpose(&Wire::Input(1), &[0, 1, 3, 2])?;
        let columns = sketch.op("Mul", &[&columns, &number(dtype, root)?])?;
        let scores = sketch.op("MatMul", &[&grouped, &columns])?;
        let scores = sketch.cast(&scores, inner)?;
        let scores = sketch.reshape(&scores, &shape)?;
        let scores = modified(sketch, of_scores.as_ref(), scores)?;
        let weights = sketch.with("Softmax", &[&scores], &[("axis", Attribute::Int(3))])?;
        let weights = modified(sketch, of_weights.as_ref(), weights)?;
        let weights = sketch.reshape(&weights, &[batch, kv_heads, rows, keys])?;
        let values = sketch.cast(&Wire::Input(2), inner)?;
        let y = sketch.op("MatMul", &[&weights, &values])?;
        let y = sketch.reshape(&y, &[batch, heads, queries, v_head])?;
        Ok(vec![sketch.cast(&y, dtype)?])
    })
}

fn modifier(spec: &OpSpec<'_>, name: &str) -> Result<Option<Subgraph>> {
    let graph = spec.attributes.graph(name)?;
    let fits = |g: &Subgraph| g.graph.inputs.len() == g.captures + 1 && g.graph.outputs.len() == 1;
    if graph.as_ref().is_some_and(|g| !fits(g)) {
        return Err(Error::invalid_argument(format!("{name} is no graph of one input and one output")));
    }
    Ok(graph)
}

/// What a graph of the node makes of `x`, if it is there.
fn modified(sketch: &mut Sketch, graph: Option<&Subgraph>, x: Wire) -> Result<Wire> {
    let Some(graph) = graph else { return Ok(x) };
    let captured = (3..3 + graph.captures).map(Wire::Input);
    Ok(sketch.graph(graph, std::iter::once(x).chain(captured).collect())?.remove(0))
}
