//! Typed operator attributes as an importer hands them to an operator's constructor.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::graph::Graph;
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// One attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A 64-bit integer.
    Int(i64),
    /// A 32-bit float.
    Float(f32),
    /// UTF-8 text.
    String(String),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Texts.
    Strings(Vec<String>),
    /// A constant tensor.
    Tensor(Tensor),
    /// An element type.
    DType(DType),
    /// A graph inside the node.
    Graph(Subgraph),
}

/// A graph inside a node: a branch, a loop's body. Its last inputs are the values around the node that it, or another graph
/// of the node, reads; the node has them as its last inputs.
#[derive(Clone)]
pub struct Subgraph {
    /// The graph; its signature is not filled in.
    pub graph: Arc<Graph>,
    /// How many of its inputs, and of the node's, are values around the node.
    pub captures: usize,
}

impl Subgraph {
    /// Whether equal inputs always give equal outputs.
    pub fn is_pure(&self) -> bool {
        self.graph.nodes.iter().all(|node| node.op.is_pure())
    }
}

impl fmt::Debug for Subgraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a graph of {} nodes", self.graph.nodes.len())
    }
}

impl PartialEq for Subgraph {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.graph, &other.graph)
    }
}

/// The attributes of one node. Reading one of the wrong type is an error that names it.
#[derive(Clone, Debug, Default)]
pub struct Attributes(BTreeMap<String, Attribute>);

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident: $variant:ident => $type:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// `INVALID_ARGUMENT` when the attribute has another type.
            pub fn $name(&self, name: &str) -> Result<Option<$type>> {
                match self.0.get(name) {
                    None => Ok(None),
                    Some(Attribute::$variant(v)) => Ok(Some(v.clone())),
                    Some(other) => Err(wrong_type(name, stringify!($variant), other)),
                }
            }
        )*
    };
}

fn wrong_type(name: &str, wanted: &str, found: &Attribute) -> Error {
    Error::invalid_argument(format!("attribute {name} should be {wanted}, is {found:?}"))
}

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one.
    pub fn set(&mut self, name: impl Into<String>, value: Attribute) {
        self.0.insert(name.into(), value);
    }

    /// Whether it is given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The attribute whatever its type.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.get(name)
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    readers! {
        /// An integer.
        int: Int => i64;
        /// A float.
        float: Float => f32;
        /// A text.
        string: String => String;
        /// A list of integers.
        ints: Ints => Vec<i64>;
        /// A list of floats.
        floats: Floats => Vec<f32>;
        /// A list of texts.
        strings: Strings => Vec<String>;
        /// A tensor.
        tensor: Tensor => Tensor;
        /// An element type.
        dtype: DType => DType;
        /// A graph.
        graph: Graph => Subgraph;
    }

    /// An integer, or `default`.
    ///
    /// # Errors
    /// As [`Attributes::int`].
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A flag (0 or 1), or `default`.
    ///
    /// # Errors
    /// As [`Attributes::int`].
    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |v| v != 0))
    }

    /// A float, or `default`.
    ///
    /// # Errors
    /// As [`Attributes::float`].
    pub fn float_or(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// A text, or `default`.
    ///
    /// # Errors
    /// As [`Attributes::string`].
    pub fn string_or(&self, name: &str, default: &str) -> Result<String> {
        Ok(self.string(name)?.unwrap_or_else(|| default.to_owned()))
    }
}
