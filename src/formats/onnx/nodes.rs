//! The nodes and values of a graph, built from ordered protos.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::attributes::{self, kind};
use super::opset::domain;
use super::order;
use super::proto::attribute_proto::AttributeType;
use super::proto::{GraphProto, NodeProto, SparseTensorProto, TensorProto};
use super::subgraph::{self, FlatGraph};
use super::unsupported::Unsupported;
use super::weights::Weights;
use super::{dtype, sparse};
use crate::engine::ir::{Attribute, Graph, Node, Subgraph, ValueId};
use crate::engine::ops::{self, OpSpec};
use crate::error::{Code, Error, Result};
use crate::tensor::{DType, Signature, Tensor};

/// A node outside any function, with the version of its domain.
#[derive(Clone, Debug)]
pub(super) struct FlatNode {
    pub(super) proto: NodeProto,
    pub(super) opset: i64,
    /// Its attributes that are graphs.
    pub(super) graphs: Vec<FlatGraph>,
}

impl FlatNode {
    /// The values that it reads, graphs inside it included.
    pub(super) fn reads(&self) -> impl Iterator<Item = &str> {
        self.proto.input.iter().chain(self.graphs.iter().flat_map(|g| &g.captures)).map(String::as_str)
    }
}

/// `Conv node "x"`, for messages.
pub(super) fn label(node: &NodeProto) -> String {
    format!("{} node {:?}", node.op_type, node.name)
}

/// A constant whose contents are still in the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Declared<'a> {
    Dense(&'a TensorProto),
    Sparse(&'a SparseTensorProto),
}

impl<'a> Declared<'a> {
    fn name(self) -> &'a str {
        match self {
            Declared::Dense(proto) => &proto.name,
            Declared::Sparse(proto) => sparse::name(proto),
        }
    }

    fn element_type(self) -> Option<i32> {
        match self {
            Declared::Dense(proto) => Some(proto.data_type),
            Declared::Sparse(proto) => proto.values.as_ref().map(|v| v.data_type),
        }
    }
}

/// What the graphs of one model share.
#[derive(Debug)]
pub(super) struct Context {
    weights: Weights,
    unsupported: Unsupported,
}

impl Context {
    /// Constants come from `weights`.
    pub(super) fn new(weights: Weights) -> Self {
        Self { weights, unsupported: Unsupported::default() }
    }

    /// Nothing, when all of the model can run.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` listing all that cannot.
    pub(super) fn into_result(self) -> Result<()> {
        self.unsupported.into_result()
    }
}

/// Builds a graph, value by value.
#[derive(Debug)]
pub(super) struct GraphBuilder<'a> {
    graph: Graph,
    names: HashMap<String, ValueId>,
    context: &'a mut Context,
}

impl<'a> GraphBuilder<'a> {
    /// An empty graph.
    pub(super) fn new(context: &'a mut Context) -> Self {
        let signature = Signature { inputs: Vec::new(), outputs: Vec::new() };
        let graph = Graph { values: Vec::new(), nodes: Vec::new(), inputs: Vec::new(), outputs: Vec::new(), signature };
        Self { graph, names: HashMap::new(), context }
    }

    /// Adds the constants of `proto` for which `is_read` holds; their contents are read by [`GraphBuilder::finish`], once it
    /// is known that the model can run at all.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for names given twice and element types that do not exist.
    pub(super) fn declare_constants<'p>(
        &mut self,
        proto: &'p GraphProto,
        is_read: impl Fn(&str) -> bool,
    ) -> Result<Vec<Declared<'p>>> {
        let dense = proto.initializer.iter().map(Declared::Dense);
        let all = dense.chain(proto.sparse_initializer.iter().map(Declared::Sparse));
        let read: Vec<_> = all.filter(|c| is_read(c.name())).collect();
        for constant in &read {
            self.add_value(constant.name(), None)?;
            match constant.element_type().map_or(Ok(DType::F32), dtype::from_code) {
                Ok(_) => {}
                Err(e) if e.code() == Code::Unimplemented => {
                    self.context.unsupported.other(format!("tensor {:?}: {}", constant.name(), e.message()));
                }
                Err(e) => return Err(e.at(format_args!("tensor {:?}", constant.name()))),
            }
        }
        Ok(read)
    }

    /// Adds a value that the request feeds.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a name given twice.
    pub(super) fn add_input(&mut self, name: &str) -> Result<()> {
        let value = self.add_value(name, None)?;
        self.graph.inputs.push(value);
        Ok(())
    }

    /// Notes something that cannot run here; [`GraphBuilder::finish`] says it with the rest.
    pub(super) fn note_unsupported(&mut self, what: String) {
        self.context.unsupported.other(what);
    }

    /// Adds a node, or the constant that it is.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the node. Operators that do not exist are noted instead.
    pub(super) fn add_node(&mut self, node: FlatNode) -> Result<()> {
        let proto = &node.proto;
        if domain(&proto.domain).is_empty() && proto.op_type == "Constant" {
            let name = proto.output.first().map(String::as_str).unwrap_or_default();
            let constant = match self.constant_node(proto) {
                Ok(tensor) => Some(tensor),
                Err(e) if e.code() == Code::Unimplemented => {
                    self.context.unsupported.operator("Constant".into(), Some(e.message().to_owned()), &proto.name);
                    None
                }
                Err(e) => return Err(e.at(label(proto))),
            };
            self.add_value(name, constant)?;
            return Ok(());
        }
        let captures = subgraph::union(&node.graphs);
        let inputs = self.inputs(proto, &captures)?;
        let mut subgraphs = Vec::with_capacity(node.graphs.len());
        for graph in &node.graphs {
            let built = self.subgraph(graph, &captures).map_err(|e| e.at(label(proto)))?;
            subgraphs.push((graph.attribute.as_str(), built));
        }
        let outputs = trim(&proto.output)
            .iter()
            .map(|name| if name.is_empty() { Ok(None) } else { self.add_value(name, None).map(Some) })
            .collect::<Result<Vec<_>>>()
            .map_err(|e| e.at(label(proto)))?;
        let op = attributes::convert(proto, &mut self.context.weights).and_then(|mut attributes| {
            for (name, graph) in subgraphs {
                // What a graph inside cannot do has been noted.
                let Some(graph) = graph else { return Ok(None) };
                let graph = Subgraph { graph: Arc::new(graph), captures: captures.len() };
                attributes.set(name, Attribute::Graph(graph));
            }
            ops::build(&OpSpec {
                domain: domain(&proto.domain),
                name: &proto.op_type,
                opset: node.opset,
                attributes: &attributes,
                inputs: inputs.len(),
                outputs: outputs.len(),
            })
            .map(Some)
        });
        match op {
            Ok(Some(op)) => self.graph.nodes.push(Node { name: proto.name.clone(), op, inputs, outputs }),
            Ok(None) => {}
            Err(e) if e.code() == Code::Unimplemented => self.note_operator(proto, e.message()),
            Err(e) => return Err(e.at(label(proto))),
        }
        Ok(())
    }

    /// The node's inputs, then what graphs inside it read.
    fn inputs(&self, proto: &NodeProto, captures: &[&str]) -> Result<Vec<Option<ValueId>>> {
        let find = |name: &str| match self.names.get(name) {
            _ if name.is_empty() => Ok(None),
            Some(value) => Ok(Some(*value)),
            None => Err(Error::invalid_argument(format!("{} reads {name:?}, which nothing writes", label(proto)))),
        };
        // Behind inputs that are left out captured ones still have their places.
        let own = if captures.is_empty() { trim(&proto.input) } else { &proto.input };
        own.iter().map(String::as_str).chain(captures.iter().copied()).map(find).collect()
    }

    /// A graph inside a node as a graph of its own, whose last inputs are `captures`; `None` when something in it, which has
    /// been noted, cannot run here.
    fn subgraph(&mut self, flat: &FlatGraph, captures: &[&str]) -> Result<Option<Graph>> {
        let outputs: Vec<&str> = flat.proto.output.iter().map(|o| o.name.as_str()).collect();
        let nodes = order::sort(flat.nodes.clone(), &outputs)?;
        let read: HashSet<&str> = nodes.iter().flat_map(FlatNode::reads).chain(outputs.iter().copied()).collect();
        let mut builder = GraphBuilder::new(&mut *self.context);
        for input in &flat.proto.input {
            builder.add_input(&input.name)?;
        }
        let own: HashSet<&str> = flat.captures.iter().map(String::as_str).collect();
        for name in captures {
            if own.contains(name) {
                builder.add_input(name)?;
            } else {
                // What only another graph of the node reads; the name may be a value of this one's own.
                let value = builder.graph.add_value(*name, None);
                builder.graph.inputs.push(value);
            }
        }
        let constants = builder.declare_constants(&flat.proto, |name| read.contains(name))?;
        for node in nodes {
            builder.add_node(node)?;
        }
        builder.finish(&constants, &outputs)
    }

    fn note_operator(&mut self, proto: &NodeProto, reason: &str) {
        let own = domain(&proto.domain);
        let known = ops::names().any(|known| known == (own, proto.op_type.as_str()));
        let operator = if own.is_empty() { proto.op_type.clone() } else { format!("{own}:{}", proto.op_type) };
        self.context.unsupported.operator(operator, known.then(|| reason.to_owned()), &proto.name);
    }

    fn constant_node(&mut self, proto: &NodeProto) -> Result<Tensor> {
        let [attribute] = proto.attribute.as_slice() else {
            return Err(Error::invalid_argument("a constant has exactly one value"));
        };
        // A single text may be any bytes, unlike an attribute that names something.
        if kind(attribute) == AttributeType::String {
            return Tensor::from_strings([], vec![attribute.s.clone().unwrap_or_default()]);
        }
        if kind(attribute) == AttributeType::Strings {
            return Tensor::from_strings([attribute.strings.len()], attribute.strings.clone());
        }
        match attributes::convert(proto, &mut self.context.weights)?.get(&attribute.name) {
            Some(Attribute::Tensor(tensor)) => Ok(tensor.clone()),
            Some(Attribute::Int(value)) => Ok(Tensor::scalar(*value)),
            Some(Attribute::Float(value)) => Ok(Tensor::scalar(*value)),
            Some(Attribute::Ints(values)) => Tensor::from_vec([values.len()], values.clone()),
            Some(Attribute::Floats(values)) => Tensor::from_vec([values.len()], values.clone()),
            _ => Err(Error::invalid_argument(format!("attribute {} is not a value", attribute.name))),
        }
    }

    fn add_value(&mut self, name: &str, constant: Option<Tensor>) -> Result<ValueId> {
        if self.names.contains_key(name) {
            return Err(Error::invalid_argument(format!("value {name:?} is given twice")));
        }
        let value = self.graph.add_value(name, constant);
        self.names.insert(name.to_owned(), value);
        Ok(value)
    }

    /// The graph with these constants, returning the values of these names; `None` when something noted cannot run here.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for damaged constants, and for an output that nothing writes.
    pub(super) fn finish(mut self, constants: &[Declared<'_>], outputs: &[&str]) -> Result<Option<Graph>> {
        if !self.context.unsupported.is_empty() {
            return Ok(None);
        }
        for constant in constants {
            let tensor = match constant {
                Declared::Dense(proto) => self.context.weights.dense(proto)?,
                Declared::Sparse(proto) => self.context.weights.sparse(proto)?,
            };
            if let Some(value) = self.names.get(constant.name()) {
                self.graph.values[value.0].constant = Some(tensor);
            }
        }
        for name in outputs {
            let value = self.names.get(*name);
            let value = value.ok_or_else(|| Error::invalid_argument(format!("nothing writes the output {name:?}")))?;
            self.graph.outputs.push(*value);
        }
        self.graph.check()?;
        Ok(Some(self.graph))
    }
}

/// `names` without the empty ones at the end, which say nothing.
fn trim(names: &[String]) -> &[String] {
    let end = names.iter().rposition(|n| !n.is_empty()).map_or(0, |i| i + 1);
    &names[..end]
}
