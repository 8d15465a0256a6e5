//! Operator versions: which ones a model asks for, and which files older than opset 7 mean the same today.

use std::collections::HashMap;

use super::nodes::{FlatNode, label};
use super::proto::{AttributeProto, NodeProto, OperatorSetIdProto};
use crate::error::{Error, Result};

/// The oldest version whose operators are all known.
const OLDEST: i64 = 7;

/// The newest version that operators were written against.
const NEWEST: i64 = 28;

/// The version of each domain.
#[derive(Clone, Debug)]
pub(super) struct Versions(HashMap<String, i64>);

impl Versions {
    /// What a model or function imports. Files from before imports existed mean version 1.
    pub(super) fn new(imports: &[OperatorSetIdProto]) -> Self {
        Self(imports.iter().map(|i| (domain(&i.domain).to_owned(), i.version)).collect())
    }

    /// The version of the operators of `domain`.
    pub(super) fn of(&self, name: &str) -> i64 {
        self.0.get(domain(name)).copied().unwrap_or(1)
    }
}

/// The one spelling of a domain: ONNX's own has two.
pub(super) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

/// Refuses nodes of old versions whose meaning has changed since.
///
/// # Errors
/// `UNIMPLEMENTED` naming the node and what changed.
pub(super) fn check(nodes: &[FlatNode]) -> Result<()> {
    let own = || nodes.iter().filter(|n| domain(&n.proto.domain).is_empty());
    for graph in nodes.iter().flat_map(|n| &n.graphs) {
        check(&graph.nodes)?;
    }
    for node in own().filter(|n| n.opset < OLDEST) {
        if let Some(change) = changed(&node.proto, node.opset) {
            return Err(Error::unimplemented(format!(
                "opset {} is older than {OLDEST} and {} of that time {change}; convert the model to a newer opset",
                node.opset,
                label(&node.proto)
            )));
        }
    }
    if let Some(old) = own().find(|n| n.opset < OLDEST) {
        tracing::warn!(
            opset = old.opset,
            "the model's opset is older than {OLDEST}; its operators mean the same today"
        );
    }
    if let Some(new) = own().find(|n| n.opset > NEWEST) {
        tracing::warn!(opset = new.opset, "the model's opset is newer than {NEWEST}, the newest that is known");
    }
    Ok(())
}

/// What `node` of a version before 7 meant that today's operator of its name does not.
fn changed(node: &NodeProto, opset: i64) -> Option<&'static str> {
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let set = |name: &str| attribute(name).and_then(|a: &AttributeProto| a.i).is_some_and(|i| i != 0);
    match node.op_type.as_str() {
        _ if set("broadcast") => Some("broadcasts along an axis"),
        "Reshape" if opset < 5 => Some("has its shape as an attribute"),
        "BatchNormalization" if !set("is_test") => Some("trains unless told not to"),
        "BatchNormalization" if attribute("spatial").is_some() && !set("spatial") => Some("normalises every element"),
        "Dropout" if !set("is_test") => Some("drops unless told not to"),
        "Cast" if opset < 6 => Some("has its type as a text"),
        "Tile" if opset < 6 => Some("tiles one axis"),
        "Concat" if opset < 4 && attribute("axis").is_none() => Some("has another default axis"),
        "Pad" if opset < 2 => Some("names its paddings in another way"),
        "Split" if opset < 2 => Some("has its sizes as an input"),
        "Upsample" => Some("has no fixed definition"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, opset: i64, attributes: &[(&str, i64)]) -> FlatNode {
        let attribute = attributes
            .iter()
            .map(|(name, i)| AttributeProto { name: (*name).into(), i: Some(*i), ..Default::default() })
            .collect();
        FlatNode {
            proto: NodeProto { op_type: op_type.into(), attribute, ..Default::default() },
            opset,
            graphs: Vec::new(),
        }
    }

    #[test]
    fn old_nodes_pass_when_they_still_mean_the_same() {
        assert!(check(&[node("Add", 6, &[]), node("Relu", 1, &[]), node("Add", 7, &[("broadcast", 1)])]).is_ok());
        let error = check(&[node("Add", 6, &[("broadcast", 1)])]).expect_err("axis broadcasting");
        assert!(error.message().contains("opset 6"), "{error}");
        assert!(check(&[node("BatchNormalization", 6, &[])]).is_err());
        assert!(check(&[node("BatchNormalization", 6, &[("is_test", 1), ("spatial", 1)])]).is_ok());
    }
}
