//! The nodes and values of a graph, built from ordered protos.

use std::collections::HashMap;

use super::attributes::{self, kind};
use super::opset::domain;
use super::proto::attribute_proto::AttributeType;
use super::proto::{GraphProto, NodeProto};
use super::sparse;
use super::unsupported::Unsupported;
use super::weights::Weights;
use crate::engine::ir::{Attribute, Graph, Node, ValueId};
use crate::engine::ops::{self, OpSpec};
use crate::error::{Code, Error, Result};
use crate::tensor::{Signature, Tensor};

/// A node outside any function, with the version of its domain.
#[derive(Clone, Debug)]
pub(super) struct FlatNode {
    pub(super) proto: NodeProto,
    pub(super) opset: i64,
}

/// `Conv node "x"`, for messages.
pub(super) fn label(node: &NodeProto) -> String {
    format!("{} node {:?}", node.op_type, node.name)
}

/// Builds a graph, value by value.
#[derive(Debug)]
pub(super) struct GraphBuilder {
    graph: Graph,
    names: HashMap<String, ValueId>,
    weights: Weights,
    unsupported: Unsupported,
}

impl GraphBuilder {
    /// An empty graph whose constants come from `weights`.
    pub(super) fn new(weights: Weights) -> Self {
        let signature = Signature { inputs: Vec::new(), outputs: Vec::new() };
        let graph = Graph { values: Vec::new(), nodes: Vec::new(), inputs: Vec::new(), outputs: Vec::new(), signature };
        Self { graph, names: HashMap::new(), weights, unsupported: Unsupported::default() }
    }

    /// Adds the graph's constants for which `is_read` holds.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for damaged constants and names given twice.
    pub(super) fn add_constants(&mut self, proto: &GraphProto, is_read: impl Fn(&str) -> bool) -> Result<()> {
        for tensor in proto.initializer.iter().filter(|t| is_read(&t.name)) {
            let value = self.weights.dense(tensor);
            self.add_constant(&tensor.name, value)?;
        }
        for tensor in proto.sparse_initializer.iter().filter(|t| is_read(sparse::name(t))) {
            let value = self.weights.sparse(tensor);
            self.add_constant(sparse::name(tensor), value)?;
        }
        Ok(())
    }

    fn add_constant(&mut self, name: &str, tensor: Result<Tensor>) -> Result<()> {
        let constant = match tensor {
            Err(e) if e.code() == Code::Unimplemented => {
                self.unsupported.other(e.message().to_owned());
                None
            }
            other => Some(other?),
        };
        self.add_value(name, constant)?;
        Ok(())
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
        self.unsupported.other(what);
    }

    /// Adds a node, or the constant that it is.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the node. Operators that do not exist are noted instead.
    pub(super) fn add_node(&mut self, node: &FlatNode) -> Result<()> {
        let proto = &node.proto;
        if domain(&proto.domain).is_empty() && proto.op_type == "Constant" {
            let value = self.constant_node(proto).map_err(|e| e.at(label(proto)));
            let name = proto.output.first().map(String::as_str).unwrap_or_default();
            return self.add_constant(name, value);
        }
        let inputs = self.inputs(proto)?;
        let outputs = trim(&proto.output)
            .iter()
            .map(|name| if name.is_empty() { Ok(None) } else { self.add_value(name, None).map(Some) })
            .collect::<Result<Vec<_>>>()
            .map_err(|e| e.at(label(proto)))?;
        let op = attributes::convert(proto, &mut self.weights).and_then(|attributes| {
            ops::build(&OpSpec {
                domain: domain(&proto.domain),
                name: &proto.op_type,
                opset: node.opset,
                attributes: &attributes,
                inputs: inputs.len(),
                outputs: outputs.len(),
            })
        });
        match op {
            Ok(op) => self.graph.nodes.push(Node { name: proto.name.clone(), op, inputs, outputs }),
            Err(e) if e.code() == Code::Unimplemented => self.note_operator(proto, e.message()),
            Err(e) => return Err(e.at(label(proto))),
        }
        Ok(())
    }

    fn inputs(&self, proto: &NodeProto) -> Result<Vec<Option<ValueId>>> {
        let find = |name: &String| match self.names.get(name) {
            _ if name.is_empty() => Ok(None),
            Some(value) => Ok(Some(*value)),
            None => Err(Error::invalid_argument(format!("{} reads {name:?}, which nothing writes", label(proto)))),
        };
        trim(&proto.input).iter().map(find).collect()
    }

    fn note_operator(&mut self, proto: &NodeProto, reason: &str) {
        let own = domain(&proto.domain);
        let known = ops::names().any(|known| known == (own, proto.op_type.as_str()));
        let operator = if own.is_empty() { proto.op_type.clone() } else { format!("{own}:{}", proto.op_type) };
        self.unsupported.operator(operator, known.then(|| reason.to_owned()), &proto.name);
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
        match attributes::convert(proto, &mut self.weights)?.get(&attribute.name) {
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

    /// The graph, returning the values of these names.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` listing all that cannot run here; `INVALID_ARGUMENT` for an output that nothing writes.
    pub(super) fn finish(mut self, outputs: &[&str]) -> Result<Graph> {
        self.unsupported.into_result()?;
        for name in outputs {
            let value = self.names.get(*name);
            let value = value.ok_or_else(|| Error::invalid_argument(format!("nothing writes the output {name:?}")))?;
            self.graph.outputs.push(*value);
        }
        self.graph.check()?;
        Ok(self.graph)
    }
}

/// `names` without the empty ones at the end, which say nothing.
fn trim(names: &[String]) -> &[String] {
    let end = names.iter().rposition(|n| !n.is_empty()).map_or(0, |i| i + 1);
    &names[..end]
}
