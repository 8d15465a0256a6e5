//! One model of a configuration, whichever way it was written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::proto::serving::servable_version_policy::PolicyChoice;
use super::proto::serving::{self as wire};
use crate::batch::Scheduling;
use crate::engine::MemoryShare;
use crate::error::{Error, Result};
use crate::model::{Logging, ModelConfig, VersionPolicy, check_model_name};

/// What a model's platform may be called, or nothing where the form of the configuration allows that; how it is loaded follows from
/// its files.
const PLATFORMS: [&str; 4] = ["", "tensorflow", "onnx", "onnxruntime_onnx"];

/// What is written of a model, not yet understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) base_path: String,
    /// Or what is wrong with it.
    pub(super) platform: Result<String, String>,
    pub(super) policy: VersionPolicy,
    pub(super) labels: BTreeMap<String, i64>,
    pub(super) memory: MemoryShare,
    pub(super) scheduling: Scheduling,
    pub(super) logging: Option<wire::LoggingConfig>,
}

impl From<wire::ModelConfig> for Entry {
    fn from(model: wire::ModelConfig) -> Self {
        let policy = match model.model_version_policy.and_then(|p| p.policy_choice) {
            None => VersionPolicy::default(),
            Some(PolicyChoice::Latest(latest)) => VersionPolicy::Latest(latest.num_versions.max(1) as usize),
            Some(PolicyChoice::All(_)) => VersionPolicy::All,
            Some(PolicyChoice::Specific(specific)) => VersionPolicy::Specific(specific.versions),
        };
        Self {
            name: model.name,
            base_path: model.base_path,
            platform: platform(model.model_platform, model.model_type),
            policy,
            labels: model.version_labels.into_iter().collect(),
            memory: MemoryShare::default(),
            scheduling: Scheduling::default(),
            logging: model.logging_config,
        }
    }
}

/// The platform by that of its two fields which is set, with TensorFlow Serving's texts for what is not allowed there.
fn platform(platform: String, kind: i32) -> Result<String, String> {
    const KIND: &str = "ModelServerConfig::model_type";
    const PLATFORM: &str = "ModelServerConfig::model_platform";
    const TENSORFLOW: i32 = wire::ModelType::Tensorflow as i32;
    match (kind, platform.is_empty()) {
        (0, false) => Ok(platform),
        (TENSORFLOW, true) => Ok("tensorflow".to_owned()),
        (0, true) => Err(format!("Illegal setting neither {KIND} (deprecated) nor {PLATFORM}")),
        (_, false) => Err(format!("Illegal setting both {KIND} (deprecated) and {PLATFORM}")),
        (other, true) => Err(format!("{KIND} choice {other} not supported")),
    }
}

impl Entry {
    fn understood(self) -> Result<ModelConfig> {
        check_model_name(&self.name)?;
        let Self { name, base_path, .. } = &self;
        let wrong = |what: String| Err(Error::invalid_argument(what));
        if base_path.is_empty() {
            return wrong(format!("model {name} has no base_path, expected the folder that holds its versions"));
        }
        let told = |what: &String| Error::invalid_argument(format!("{what}, model name is {name}"));
        let platform = self.platform.as_ref().map_err(told)?;
        if !PLATFORMS.contains(&platform.as_str()) {
            let known = "tensorflow, onnx or onnxruntime_onnx";
            return wrong(format!("Model {name} requests unsupported platform {platform}: expected {known}"));
        }
        let path = base_path.strip_prefix("file://").unwrap_or(base_path);
        if path.contains("://") {
            return wrong(format!("model {name}: base_path {base_path}, expected a folder of this machine"));
        }
        if self.policy == VersionPolicy::Specific(Vec::new()) {
            return wrong(format!("model {name}: the policy specific names no version, expected one or more"));
        }
        if let Some(fraction) = self.memory.fraction.filter(|f| !(0.0..=1.0).contains(f)) {
            let expected = "expected a number between 0 and 1";
            return wrong(format!("model {name}: per_process_gpu_memory_fraction {fraction}, {expected}"));
        }
        let scheduling = self.scheduling.checked().map_err(|e| e.at(format_args!("model {name}")))?;
        let logging = self.logging.as_ref().map(logging).transpose().map_err(|e| e.at(format_args!("model {name}")))?;
        let mut config = ModelConfig::new(name.clone(), PathBuf::from(path));
        config.scheduling = scheduling;
        config.logging = logging.map(Arc::new);
        config.platform.clone_from(platform);
        config.version_policy = self.policy;
        config.labels = self.labels;
        // Zero is how TensorFlow says that nothing is said.
        config.memory = MemoryShare { fraction: self.memory.fraction.filter(|f| *f > 0.0), ..self.memory };
        Ok(config)
    }
}

/// Characters of a log's name beside letters and digits.
const PREFIX_SIGNS: &str = "._-";
/// Bytes of it.
const PREFIX_MAX: usize = 200;

fn logging(config: &wire::LoggingConfig) -> Result<Logging> {
    let wrong = |what: String| Err(Error::invalid_argument(what));
    let wire::LogCollectorConfig { r#type: kind, filename_prefix: prefix } =
        config.log_collector_config.clone().unwrap_or_default();
    if !["", "tfrecord"].contains(&kind.as_str()) {
        return wrong(format!("log_collector_config.type {kind:?}, expected tfrecord or nothing"));
    }
    let is_plain = prefix.chars().all(|c| c.is_ascii_alphanumeric() || PREFIX_SIGNS.contains(c));
    // Names with a leading dot hide, and those of older parts end so.
    if !is_plain
        || prefix.is_empty()
        || prefix.starts_with('.')
        || prefix.ends_with(".old")
        || prefix.len() > PREFIX_MAX
    {
        let expected =
            "expected a name of letters, digits, dots, dashes and underlines: the folder is --request_log_dir";
        return wrong(format!("log_collector_config.filename_prefix {prefix:?}, {expected}"));
    }
    let rate = config.sampling_config.unwrap_or_default().sampling_rate;
    if !(0.0..=1.0).contains(&rate) {
        return wrong(format!("sampling_config.sampling_rate {rate}, expected a number between 0 and 1"));
    }
    Ok(Logging { prefix, sampling_rate: rate })
}

/// The models, in their order. `place` says where a model of that name is written.
///
/// # Errors
/// Every mistake.
pub(super) fn understood(entries: Vec<Entry>, place: impl Fn(&str) -> String) -> Result<Vec<ModelConfig>, Vec<Error>> {
    let (mut models, mut wrong, mut names): (Vec<ModelConfig>, Vec<Error>, Vec<String>) = Default::default();
    let placed = |name: &str, e: &Error| Error::new(e.code(), format!("{}{}", place(name), e.message()));
    for entry in entries {
        let name = entry.name.clone();
        match entry.understood() {
            Ok(model) => models.push(model),
            Err(error) => wrong.push(placed(&name, &error)),
        }
        if names.contains(&name) {
            let twice = Error::invalid_argument(format!("Illegal to list model {name} multiple times in config list"));
            wrong.push(placed(&name, &twice));
        }
        names.push(name);
    }
    if wrong.is_empty() { Ok(models) } else { Err(wrong) }
}
