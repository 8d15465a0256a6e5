//! Which servable a request means.

use super::proto::serving::{ModelSpec, model_spec::VersionChoice as Wire};
use crate::error::{Error, Result};
use crate::model::{DEFAULT_SIGNATURE, ServableId, VersionChoice};

/// What a request's `model_spec` says.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) version: VersionChoice,
    /// Never empty.
    pub(super) signature: String,
}

impl Wanted {
    /// Reads `spec`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when no model is named.
    pub(super) fn new(spec: Option<ModelSpec>) -> Result<Self> {
        let spec = spec.ok_or_else(|| Error::invalid_argument("Missing ModelSpec"))?;
        if spec.name.is_empty() {
            return Err(Error::invalid_argument("ModelSpec has no name specified."));
        }
        let version = match spec.version_choice {
            None => VersionChoice::Latest,
            Some(Wire::Version(version)) => VersionChoice::Specific(version),
            Some(Wire::VersionLabel(label)) => VersionChoice::Label(label),
        };
        let named = !spec.signature_name.is_empty();
        let signature = if named { spec.signature_name } else { DEFAULT_SIGNATURE.to_owned() };
        Ok(Self { name: spec.name, version, signature })
    }
}

/// What a reply says of who answered.
pub(super) fn answered(id: &ServableId, signature: &str) -> ModelSpec {
    ModelSpec {
        name: id.name.to_string(),
        version_choice: Some(Wire::Version(id.version)),
        signature_name: signature.to_owned(),
    }
}
