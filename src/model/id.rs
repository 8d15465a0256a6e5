//! What a loaded version is called, and how requests choose one.

use std::fmt;
use std::sync::Arc;

/// A model's name and one of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServableId {
    /// The model's name, as configured.
    pub name: Arc<str>,
    /// The version's number: its folder's name.
    pub version: i64,
}

impl fmt::Display for ServableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.name, self.version)
    }
}

/// Which version of a model a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionChoice {
    /// The highest that is loaded.
    Latest,
    /// This one.
    Specific(i64),
    /// The one that the configuration gives this label.
    Label(String),
}
