//! Which servable and which signature a request means.

use crate::error::{Error, Result};
use crate::model::{DEFAULT_SIGNATURE, VersionChoice};

/// What a request says of the model that it wants.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::api) struct Wanted {
    /// The model's name, never empty.
    pub(in crate::api) name: String,
    /// Which of its versions.
    pub(in crate::api) version: VersionChoice,
    /// The signature's name, never empty.
    pub(in crate::api) signature: String,
}

impl Wanted {
    /// With the default signature where none is named.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when no model is named.
    pub(in crate::api) fn new(name: String, version: VersionChoice, signature: String) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::invalid_argument("ModelSpec has no name specified."));
        }
        let signature = if signature.is_empty() { DEFAULT_SIGNATURE.to_owned() } else { signature };
        Ok(Self { name, version, signature })
    }
}
