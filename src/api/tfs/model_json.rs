//! `model_config_file` as JSON, the way articles write it: the list of models is a list, and a model may have GPU options
//! and, as an extension of ours, say what it is due beside others.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::model_entry::Entry;
use super::proto::serving as wire;
use crate::batch::Scheduling;
use crate::engine::MemoryShare;
use crate::error::{Error, Result};
use crate::model::VersionPolicy;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(alias = "modelConfigList")]
    model_config_list: List,
}

/// A list of models, or protocol buffers' own form of it.
struct List(Vec<Model>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    name: String,
    #[serde(alias = "basePath", default)]
    base_path: String,
    /// May be left out here: that server reads no JSON, so nobody relies on a refusal.
    #[serde(alias = "modelPlatform", default)]
    model_platform: String,
    #[serde(alias = "modelVersionPolicy")]
    model_version_policy: Option<Policy>,
    #[serde(alias = "versionLabels", default)]
    version_labels: BTreeMap<String, Whole>,
    config: Option<Session>,
    #[serde(alias = "loggingConfig")]
    logging_config: Option<LoggingConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoggingConfig {
    #[serde(alias = "logCollectorConfig")]
    log_collector_config: Option<Collector>,
    #[serde(alias = "samplingConfig")]
    sampling_config: Option<Sampling>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collector {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(alias = "filenamePrefix", default)]
    filename_prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sampling {
    #[serde(alias = "samplingRate", default)]
    sampling_rate: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    latest: Option<Latest>,
    all: Option<All>,
    specific: Option<Specific>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latest {
    #[serde(alias = "numVersions")]
    num_versions: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Specific {
    versions: Vec<Whole>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    #[serde(alias = "gpuOptions")]
    gpu_options: Option<Gpu>,
    scheduling: Option<Scheduling>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gpu {
    #[serde(alias = "allowGrowth")]
    allow_growth: Option<bool>,
    #[serde(alias = "perProcessGpuMemoryFraction")]
    per_process_gpu_memory_fraction: Option<f64>,
}

/// A 64-bit integer, which protocol buffers write as text.
struct Whole(i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Whole, E> {
                Ok(Whole(value))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Whole, E> {
                i64::try_from(value)
                    .map(Whole)
                    .map_err(|_| E::custom(format!("{value}, expected an integer of 64 bits")))
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Whole, E> {
                value.parse().map(Whole).map_err(|_| E::custom(format!("{value:?}, expected an integer")))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of models, or {\"config\": a list of models}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List, A::Error> {
                let mut models = Vec::new();
                while let Some(model) = list.next_element()? {
                    models.push(model);
                }
                Ok(List(models))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List, A::Error> {
                let mut models = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key != "config" {
                        return Err(serde::de::Error::unknown_field(&key, &["config"]));
                    }
                    models.extend(map.next_value::<Vec<Model>>()?);
                }
                Ok(List(models))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl From<LoggingConfig> for wire::LoggingConfig {
    fn from(config: LoggingConfig) -> Self {
        let collector = |c: Collector| wire::LogCollectorConfig { r#type: c.kind, filename_prefix: c.filename_prefix };
        let sampling = |s: Sampling| wire::SamplingConfig { sampling_rate: s.sampling_rate };
        Self {
            log_collector_config: config.log_collector_config.map(collector),
            sampling_config: config.sampling_config.map(sampling),
        }
    }
}

impl TryFrom<Policy> for VersionPolicy {
    type Error = Error;

    fn try_from(policy: Policy) -> Result<Self> {
        Ok(match policy {
            Policy { latest: None, all: None, specific: None } => VersionPolicy::default(),
            Policy { latest: Some(latest), all: None, specific: None } => {
                let count = latest.num_versions.map_or(1, |n| n.0);
                VersionPolicy::Latest(usize::try_from(count).unwrap_or(1).max(1))
            }
            Policy { latest: None, all: Some(All {}), specific: None } => VersionPolicy::All,
            Policy { latest: None, all: None, specific: Some(specific) } => {
                VersionPolicy::Specific(specific.versions.into_iter().map(|v| v.0).collect())
            }
            _ => {
                return Err(Error::invalid_argument("several version policies, expected one of latest, all, specific"));
            }
        })
    }
}

/// The models that `text` lists; `file` is what it is called.
///
/// # Errors
/// `INVALID_ARGUMENT` with the line and what was expected there.
pub(super) fn entries(text: &str, file: &str) -> Result<Vec<Entry>> {
    let read: File = serde_json::from_str(text).map_err(|e| {
        let (line, told) = (e.line(), e.to_string());
        // The place stands in front already.
        let what = told.rsplit_once(" at line ").map_or(told.as_str(), |(what, _)| what);
        Error::invalid_argument(format!("{file}:{line}: Error parsing JSON: {what}"))
    })?;
    let entry = |model: Model| {
        let policy = model.model_version_policy.map(VersionPolicy::try_from).transpose();
        let (gpu, scheduling) = model.config.map_or((None, None), |config| (config.gpu_options, config.scheduling));
        let memory = gpu.map(|gpu| MemoryShare {
            fraction: gpu.per_process_gpu_memory_fraction,
            grows: gpu.allow_growth.unwrap_or(false),
        });
        Ok(Entry {
            policy: policy.map_err(|e| e.at(format_args!("{file}: model {}", model.name)))?.unwrap_or_default(),
            name: model.name,
            base_path: model.base_path,
            platform: Ok(model.model_platform),
            labels: model.version_labels.into_iter().map(|(label, version)| (label, version.0)).collect(),
            memory: memory.unwrap_or_default(),
            scheduling: scheduling.unwrap_or_default(),
            logging: model.logging_config.map(wire::LoggingConfig::from),
        })
    };
    read.model_config_list.0.into_iter().map(entry).collect()
}
