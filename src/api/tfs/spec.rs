//! Which servable a request means, and which answered.

use std::time::Instant;

use super::proto::serving::{ModelSpec, model_spec::VersionChoice as Wire};
use crate::api::inference::{Target, Wanted};
use crate::api::observer::Answering;
use crate::error::{Error, Result};
use crate::model::{Manager, ServableId, VersionChoice};

/// What a request's `model_spec` says.
///
/// # Errors
/// `INVALID_ARGUMENT` when no model is named.
pub(super) fn wanted(spec: Option<ModelSpec>) -> Result<Wanted> {
    let spec = spec.ok_or_else(|| Error::invalid_argument("Missing ModelSpec"))?;
    let version = match spec.version_choice {
        None => VersionChoice::Latest,
        Some(Wire::Version(version)) => VersionChoice::Specific(version),
        Some(Wire::VersionLabel(label)) => VersionChoice::Label(label),
    };
    Wanted::new(spec.name, version, spec.signature_name)
}

/// The target that a request means; `asked` is told which servable was found.
///
/// # Errors
/// Those of [`wanted`], and of [`Target::find`].
pub(super) async fn find(
    manager: &Manager,
    spec: Option<ModelSpec>,
    deadline: Option<Instant>,
    asked: &mut Option<Answering>,
) -> Result<Target> {
    let target = Target::find(manager, &wanted(spec)?, deadline).await?;
    *asked = Some(target.answering());
    Ok(target)
}

/// What a reply says of who answered.
pub(super) fn answered(id: &ServableId, signature: &str) -> ModelSpec {
    ModelSpec {
        name: id.name.to_string(),
        version_choice: Some(Wire::Version(id.version)),
        signature_name: signature.to_owned(),
    }
}
