//! What a configuration says about one model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::batch::{Parameters, Scheduling};
use crate::engine::MemoryShare;
use crate::error::{Error, Result};

/// Which of the versions in a folder are to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The highest so many.
    Latest(usize),
    /// All.
    All,
    /// These, where they exist.
    Specific(Vec<i64>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

/// What happens to the versions that serve while those that replace them are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transition {
    /// They serve until the others do: the memory of both is needed meanwhile.
    #[default]
    KeepServing,
    /// They are unloaded first: nothing serves meanwhile.
    SaveMemory,
}

/// Which requests to a model are written down, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// The name of the log.
    pub prefix: String,
    /// The part of the requests, between 0 and 1.
    pub sampling_rate: f64,
}

/// One model of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The name that requests use.
    pub name: String,
    /// The folder whose children are the versions; also one version's folder or a model file, which then is version 1.
    pub base_path: PathBuf,
    /// What the configuration calls the model's format, as clients see it; empty where it says nothing. The files in the folder
    /// decide how it is loaded.
    pub platform: String,
    /// Which versions to serve.
    pub version_policy: VersionPolicy,
    /// Versions by label.
    pub labels: BTreeMap<String, i64>,
    /// How to batch; `None`: never merge requests.
    pub batching: Option<Parameters>,
    /// What it is due beside others; goes before what stands beside the model's file, from a version's load on.
    pub scheduling: Scheduling,
    /// The device memory that its versions together may take.
    pub memory: MemoryShare,
    /// Which requests are written down; `None`: none.
    pub logging: Option<Arc<Logging>>,
}

impl ModelConfig {
    /// A model with the default policy, batching and no labels.
    pub fn new(name: impl Into<String>, base_path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            base_path: base_path.into(),
            platform: String::new(),
            version_policy: VersionPolicy::default(),
            labels: BTreeMap::new(),
            batching: Some(Parameters::default()),
            scheduling: Scheduling::default(),
            memory: MemoryShare::default(),
            logging: None,
        }
    }
}

/// Bytes that a model's name may have.
const NAME_MAX: usize = 256;

/// Refuses names that could not be told apart in URLs and logs.
///
/// # Errors
/// `INVALID_ARGUMENT` saying what was expected.
pub fn check_model_name(name: &str) -> Result<()> {
    let expected = if name.is_empty() {
        "a name"
    } else if name.len() > NAME_MAX {
        "at most 256 bytes"
    } else if name.contains(['/', ':']) {
        "no slash and no colon"
    } else if name.contains(char::is_control) {
        "no control characters"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(NAME_MAX).collect();
    Err(Error::invalid_argument(format!("the model name {shown:?} is not allowed, expected {expected}")))
}

/// Refuses models whose requests are to be written down where there is no place for that.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the first such model.
pub fn check_logging(configs: &[ModelConfig], is_possible: bool) -> Result<()> {
    match configs.iter().find(|config| config.logging.is_some() && !is_possible) {
        None => Ok(()),
        Some(ModelConfig { name, .. }) => {
            let what =
                format!("model {name} has a logging_config, but no --request_log_dir says where requests may go");
            Err(Error::invalid_argument(what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_break_urls_and_logs_are_refused() {
        for name in ["m", "resnet-50_v1.5", "中"] {
            check_model_name(name).expect(name);
        }
        let long = "x".repeat(257);
        for name in ["", "a/b", "a:b", "a\nb", long.as_str()] {
            assert!(check_model_name(name).is_err(), "{name:?}");
        }
    }
}
