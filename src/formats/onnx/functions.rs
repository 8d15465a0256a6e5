//! Local functions: operators that a model defines by other operators, put in place of their calls.

use std::collections::HashMap;

use prost::Message as _;

use super::attributes::kind;
use super::limits::{MAX_CALL_DEPTH, MAX_INLINED_BYTES, MAX_NODES};
use super::nodes::{FlatNode, label};
use super::opset::{Versions, domain};
use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use super::subgraph::FlatGraph;
use crate::engine::ops;
use crate::error::{Error, Result};

/// `nodes` with every call of a function replaced by the function's nodes, recursively.
///
/// # Errors
/// `INVALID_ARGUMENT` for calls that do not fit, `RESOURCE_EXHAUSTED` past the bounds on nodes, depth and size.
pub(super) fn flatten(
    functions: &[FunctionProto],
    nodes: Vec<NodeProto>,
    versions: &Versions,
) -> Result<Vec<FlatNode>> {
    let mut inliner = Inliner { functions: HashMap::new(), nodes: Vec::new(), count: 0, calls: 0, bytes: 0 };
    for function in functions {
        // An operator that exists here is the same function, faster.
        let own = (domain(&function.domain), function.name.as_str());
        if !ops::names().any(|known| known == own) {
            inliner.functions.insert((own.0, own.1, &function.overload), function);
        }
    }
    for node in nodes {
        inliner.expand(node, versions, 0)?;
    }
    Ok(inliner.nodes)
}

struct Inliner<'a> {
    /// By domain, name and overload.
    functions: HashMap<(&'a str, &'a str, &'a str), &'a FunctionProto>,
    nodes: Vec<FlatNode>,
    /// Nodes so far, in all graphs.
    count: usize,
    calls: usize,
    bytes: usize,
}

impl Inliner<'_> {
    fn expand(&mut self, mut node: NodeProto, versions: &Versions, depth: usize) -> Result<()> {
        if node.name.is_empty() {
            node.name = format!("{}_{}", node.op_type, self.count);
        }
        let called = (domain(&node.domain), node.op_type.as_str(), node.overload.as_str());
        let Some(function) = self.functions.get(&called).copied() else {
            if self.count >= MAX_NODES {
                return Err(Error::resource_exhausted(format!("the model has more than {MAX_NODES} nodes")));
            }
            self.count += 1;
            let graphs = self.subgraphs(&mut node, versions, depth)?;
            let opset = versions.of(&node.domain);
            self.nodes.push(FlatNode { proto: node, opset, graphs });
            return Ok(());
        };
        self.call(&node, function, depth).map_err(|e| if depth == 0 { e.at(label(&node)) } else { e })
    }

    /// Takes the graphs out of the attributes of `node`.
    fn subgraphs(&mut self, node: &mut NodeProto, versions: &Versions, depth: usize) -> Result<Vec<FlatGraph>> {
        let (graphs, others) = std::mem::take(&mut node.attribute)
            .into_iter()
            .partition::<Vec<_>, _>(|a| kind(a) == AttributeType::Graph && a.g.is_some());
        node.attribute = others;
        let mut flat = Vec::with_capacity(graphs.len());
        for attribute in graphs {
            let Some(mut graph) = attribute.g else { continue };
            if depth >= MAX_CALL_DEPTH {
                return Err(Error::resource_exhausted(format!("graphs inside {} are nested too deep", label(node))));
            }
            let around = std::mem::take(&mut self.nodes);
            for inner in std::mem::take(&mut graph.node) {
                self.expand(inner, versions, depth + 1)?;
            }
            flat.push(FlatGraph::new(attribute.name, graph, std::mem::replace(&mut self.nodes, around)));
        }
        Ok(flat)
    }

    fn call(&mut self, node: &NodeProto, function: &FunctionProto, depth: usize) -> Result<()> {
        self.calls += 1;
        if depth >= MAX_CALL_DEPTH || self.calls > MAX_NODES {
            return Err(Error::resource_exhausted(format!(
                "function {} is called too deep or too often",
                function.name
            )));
        }
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return Err(Error::invalid_argument(format!(
                "function {} takes {} inputs and gives {} outputs",
                function.name,
                function.input.len(),
                function.output.len()
            )));
        }
        let prefix = format!("{}#{}", node.name, self.calls);
        let scope = Scope::new(node, function, &prefix);
        let versions = Versions::new(&function.opset_import);
        for inner in &function.node {
            self.bytes += size(inner) + prefix.len() * (1 + inner.input.len() + inner.output.len());
            if self.bytes > MAX_INLINED_BYTES {
                return Err(Error::resource_exhausted(format!(
                    "inlined calls take more than {MAX_INLINED_BYTES} bytes"
                )));
            }
            self.expand(scope.apply(inner), &versions, depth + 1)?;
        }
        // A function may hand an input on as it is.
        for (formal, actual) in function.output.iter().zip(&node.output) {
            if let Some(position) = function.input.iter().position(|i| i == formal) {
                let source = node.input.get(position).cloned().unwrap_or_default();
                let copy = NodeProto {
                    op_type: "Identity".into(),
                    input: vec![source],
                    output: vec![actual.clone()],
                    ..Default::default()
                };
                self.expand(copy, &versions, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Bytes that a copy of `node` takes: raw data is shared, not copied.
fn size(node: &NodeProto) -> usize {
    let shared = node.attribute.iter().filter_map(|a| a.t.as_ref()?.raw_data.as_ref()).map(|raw| raw.len());
    node.encoded_len().saturating_sub(shared.sum())
}

/// What names and attributes inside a function mean at one call.
struct Scope<'a> {
    values: HashMap<&'a str, &'a str>,
    attributes: HashMap<&'a str, &'a AttributeProto>,
    prefix: &'a str,
}

impl<'a> Scope<'a> {
    fn new(node: &'a NodeProto, function: &'a FunctionProto, prefix: &'a str) -> Self {
        let mut values: HashMap<&str, &str> = function.input.iter().map(|formal| (formal.as_str(), "")).collect();
        // Inputs come last: an output of an input's name is that input.
        values.extend(pairs(&function.output, &node.output).filter(|(_, actual)| !actual.is_empty()));
        values.extend(pairs(&function.input, &node.input));
        let defaults = function.attribute_proto.iter();
        let attributes = defaults.chain(&node.attribute).map(|a| (a.name.as_str(), a)).collect();
        Self { values, attributes, prefix }
    }

    fn apply(&self, inner: &NodeProto) -> NodeProto {
        let name = if inner.name.is_empty() { &inner.op_type } else { &inner.name };
        NodeProto {
            input: inner.input.iter().map(|n| self.rename(n)).collect(),
            output: inner.output.iter().map(|n| self.rename(n)).collect(),
            name: format!("{}/{name}", self.prefix),
            attribute: inner.attribute.iter().filter_map(|a| self.attribute(a)).collect(),
            ..inner.clone()
        }
    }

    fn rename(&self, name: &str) -> String {
        match self.values.get(name) {
            _ if name.is_empty() => String::new(),
            Some(actual) => (*actual).to_owned(),
            None => format!("{}/{name}", self.prefix),
        }
    }

    /// A graph inside the function: its own values are renamed as the function's are, so that none hides another.
    fn graph(&self, inner: &GraphProto) -> GraphProto {
        let mut graph = GraphProto { node: inner.node.iter().map(|n| self.apply(n)).collect(), ..inner.clone() };
        let dense = graph.initializer.iter_mut().map(|t| &mut t.name);
        let sparse = graph.sparse_initializer.iter_mut().filter_map(|t| Some(&mut t.values.as_mut()?.name));
        let ends = graph.input.iter_mut().chain(&mut graph.output).map(|v| &mut v.name);
        for name in dense.chain(sparse).chain(ends) {
            *name = self.rename(name);
        }
        graph
    }

    fn attribute(&self, attribute: &AttributeProto) -> Option<AttributeProto> {
        if let Some(graph) = &attribute.g {
            return Some(AttributeProto { g: Some(self.graph(graph)), ..attribute.clone() });
        }
        if attribute.ref_attr_name.is_empty() {
            return Some(attribute.clone());
        }
        let given = *self.attributes.get(attribute.ref_attr_name.as_str())?;
        Some(AttributeProto { name: attribute.name.clone(), ..given.clone() })
    }
}

fn pairs<'a>(formal: &'a [String], actual: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
    formal.iter().zip(actual).map(|(f, a)| (f.as_str(), a.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::proto::OperatorSetIdProto;
    use super::*;

    fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
        NodeProto {
            op_type: op_type.into(),
            domain: if op_type.starts_with('F') { "local".into() } else { String::new() },
            input: input.iter().map(|s| (*s).to_owned()).collect(),
            output: output.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        }
    }

    fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
        FunctionProto {
            name: name.into(),
            domain: "local".into(),
            input: vec!["x".into()],
            output: vec!["y".into()],
            node: nodes,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            ..Default::default()
        }
    }

    fn versions() -> Versions {
        Versions::new(&[OperatorSetIdProto { domain: String::new(), version: 11 }])
    }

    #[test]
    fn calls_become_nodes_with_names_and_versions_of_their_own() {
        let inner = function("F", vec![node("Neg", &["x"], &["t"]), node("Abs", &["t"], &["y"])]);
        let calls = vec![node("F", &["a"], &["b"]), node("F", &["b"], &["c"]), node("Exp", &["c"], &["d"])];
        let flat = flatten(&[inner], calls, &versions()).expect("two calls");
        let operators: Vec<_> = flat.iter().map(|n| (n.proto.op_type.as_str(), n.opset)).collect();
        assert_eq!(operators, [("Neg", 17), ("Abs", 17), ("Neg", 17), ("Abs", 17), ("Exp", 11)]);
        assert_eq!(flat[0].proto.input, ["a"]);
        assert_eq!(flat[1].proto.output, ["b"]);
        assert_eq!(flat[2].proto.input, ["b"]);
        assert_ne!(flat[0].proto.output, flat[2].proto.output);
    }

    #[test]
    fn referenced_attributes_come_from_the_call_or_the_default() {
        let mut inner = node("Selu", &["x"], &["y"]);
        let reference =
            |name: &str, to: &str| AttributeProto { name: name.into(), ref_attr_name: to.into(), ..Default::default() };
        inner.attribute = vec![reference("alpha", "a"), reference("gamma", "g"), reference("unset", "u")];
        let float = |name: &str, f| AttributeProto { name: name.into(), f: Some(f), ..Default::default() };
        let mut called = function("F", vec![inner]);
        called.attribute_proto = vec![float("a", 1.0), float("g", 2.0)];
        let mut call = node("F", &["p"], &["q"]);
        call.attribute = vec![float("a", 5.0)];
        let flat = flatten(&[called], vec![call], &versions()).expect("one call");
        let values: Vec<_> = flat[0].proto.attribute.iter().map(|a| (a.name.as_str(), a.f)).collect();
        assert_eq!(values, [("alpha", Some(5.0)), ("gamma", Some(2.0))]);
    }

    #[test]
    fn recursion_and_explosion_are_refused() {
        let endless = function("F", vec![node("F", &["x"], &["y"])]);
        assert!(flatten(&[endless], vec![node("F", &["a"], &["b"])], &versions()).is_err());
        // Thirty levels of two calls each, the last of nothing.
        let mut doubling: Vec<FunctionProto> = (0..30)
            .map(|i| {
                let next = format!("F{}", i + 1);
                function(&format!("F{i}"), vec![node(&next, &["x"], &["t"]), node(&next, &["t"], &["y"])])
            })
            .collect();
        doubling.push(function("F30", vec![]));
        assert!(flatten(&doubling, vec![node("F0", &["a"], &["b"])], &versions()).is_err());
    }
}
