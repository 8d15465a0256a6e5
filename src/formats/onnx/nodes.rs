//! The nodes and values of a graph, built from ordered protos.

use std::collections::HashMap;

use super::attributes::{self, kind};
use super::opset::domain;
use super::proto::attribute_proto::AttributeType;
use super::proto::{GraphProto, NodeProto, SparseTensorProto, TensorProto};
use super::unsupported::Unsupported;
use super::weights::Weights;
use super::{dtype, sparse};
use crate::engine::ir::{Attribute, Graph, Node, ValueId};
use crate::engine::ops::{self, OpSpec};
use crate::error::{Code, Error, Result};
use crate::tensor::{DType, Signature, Tensor};

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

    /// Adds the constants of `proto` for which `is_read` holds; their contents are read by [`GraphBuilder::finish`], once it
    /// is known that the model can run at all.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for names given twice and element types that do not exist.
    pub(super) fn declare_constants<'a>(
        &mut self,
        proto: &'a GraphProto,
        is_read: impl Fn(&str) -> bool,
    ) -> Result<Vec<Declared<'a>>> {
        let dense = proto.initializer.iter().map(Declared::Dense);
        let all = dense.chain(proto.sparse_initializer.iter().map(Declared::Sparse));
        let read: Vec<_> = all.filter(|c| is_read(c.name())).collect();
        for constant in &read {
            self.add_value(constant.name(), None)?;
            match constant.element_type().map_or(Ok(DType::F32), dtype::from_code) {
                Ok(_) => {}
                Err(e) if e.code() == Code::Unimplemented => {
                    self.unsupported.other(format!("tensor {:?}: {}", constant.name(), e.message()));
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
        self.unsupported.other(what);
    }

    /// Adds a node, or the constant that it is.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the node. Operators that do not exist are noted instead.
    pub(super) fn add_node(&mut self, node: &FlatNode) -> Result<()> {
        let proto = &node.proto;
        if domain(&proto.domain).is_empty() && proto.op_type == "Constant" {
            let name = proto.output.first().map(String::as_str).unwrap_or_default();
            let constant = match self.constant_node(proto) {
                Ok(tensor) => Some(tensor),
                Err(e) if e.code() == Code::Unimplemented => {
                    self.unsupported.operator("Constant".into(), Some(e.message().to_owned()), &proto.name);
                    None
                }
                Err(e) => return Err(e.at(label(proto))),
            };
            self.add_value(name, constant)?;
            return Ok(());
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

    /// The graph with these constants, returning the values of these names.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` listing all that cannot run here; `INVALID_ARGUMENT` for damaged constants, and for an output that
    /// nothing writes.
    pub(super) fn finish(mut self, constants: &[Declared<'_>], outputs: &[&str]) -> Result<Graph> {
        self.unsupported.into_result()?;
        for constant in constants {
            let tensor = match constant {
                Declared::Dense(proto) => self.weights.dense(proto)?,
                Declared::Sparse(proto) => self.weights.sparse(proto)?,
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
        Ok(self.graph)
    }
}

/// `names` without the empty ones at the end, which say nothing.
fn trim(names: &[String]) -> &[String] {
    let end = names.iter().rposition(|n| !n.is_empty()).map_or(0, |i| i + 1);
    &names[..end]
}
