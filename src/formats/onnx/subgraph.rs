//! Graphs that are attributes of nodes: the branches of If, the bodies of loops.

use std::collections::HashSet;

use super::nodes::FlatNode;
use super::proto::GraphProto;
use super::sparse;

/// A node's graph with the calls in it inlined.
#[derive(Clone, Debug)]
pub(super) struct FlatGraph {
    /// The attribute that it is.
    pub(super) attribute: String,
    /// The graph without its nodes.
    pub(super) proto: GraphProto,
    pub(super) nodes: Vec<FlatNode>,
    /// Values of the graphs around it that it reads, in order of appearance.
    pub(super) captures: Vec<String>,
}

impl FlatGraph {
    pub(super) fn new(attribute: String, proto: GraphProto, nodes: Vec<FlatNode>) -> Self {
        let captures = captures(&proto, &nodes);
        Self { attribute, proto, nodes, captures }
    }
}

fn captures(proto: &GraphProto, nodes: &[FlatNode]) -> Vec<String> {
    let inputs = proto.input.iter().map(|i| i.name.as_str());
    let constants =
        proto.initializer.iter().map(|t| t.name.as_str()).chain(proto.sparse_initializer.iter().map(sparse::name));
    let written = nodes.iter().flat_map(|n| &n.proto.output).map(String::as_str);
    let mut own: HashSet<&str> = inputs.chain(constants).chain(written).collect();
    let read = nodes.iter().flat_map(FlatNode::reads).chain(proto.output.iter().map(|o| o.name.as_str()));
    read.filter(|name| !name.is_empty() && own.insert(name)).map(str::to_owned).collect()
}

/// What all graphs of one node read from around it, each name once.
pub(super) fn union(graphs: &[FlatGraph]) -> Vec<&str> {
    let mut seen = HashSet::new();
    graphs.iter().flat_map(|g| &g.captures).map(String::as_str).filter(|name| seen.insert(*name)).collect()
}
