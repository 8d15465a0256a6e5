//! TensorFlow Serving's configuration files: protocol buffers as text.

use std::path::PathBuf;
use std::time::Duration;

use prost_reflect::{DescriptorPool, DynamicMessage};

use super::proto::serving::servable_version_policy::PolicyChoice;
use super::proto::serving::{BatchingParameters, ModelServerConfig, MonitoringConfig};
use crate::api::router::DESCRIPTORS;
use crate::batch::Parameters;
use crate::error::{Error, Result};
use crate::model::{ModelConfig, VersionPolicy};

fn parse<T: prost::Message + Default>(name: &str, text: &str) -> Result<T> {
    let pool = DescriptorPool::decode(DESCRIPTORS)
        .map_err(|e| Error::internal(format!("the embedded descriptors are damaged: {e}")))?;
    let descriptor = pool.get_message_by_name(name);
    let descriptor = descriptor.ok_or_else(|| Error::internal(format!("{name} is not described")))?;
    let message = DynamicMessage::parse_text_format(descriptor, text)
        .map_err(|e| Error::invalid_argument(format!("Error parsing text-format {name}: {e}")))?;
    message.transcode_to().map_err(|e| Error::internal(format!("{name}: {e}")))
}

/// The models that a `model_config_file` names.
///
/// # Errors
/// `INVALID_ARGUMENT` with the place of a mistake.
pub fn model_configs(text: &str) -> Result<Vec<ModelConfig>> {
    let config: ModelServerConfig = parse("tensorflow.serving.ModelServerConfig", text)?;
    let list = config.model_config_list.unwrap_or_default();
    let convert = |model: super::proto::serving::ModelConfig| {
        let mut config = ModelConfig::new(model.name, PathBuf::from(model.base_path));
        config.platform = model.model_platform;
        config.labels = model.version_labels.into_iter().collect();
        config.version_policy = match model.model_version_policy.and_then(|p| p.policy_choice) {
            None => VersionPolicy::default(),
            Some(PolicyChoice::Latest(latest)) => VersionPolicy::Latest(latest.num_versions.max(1) as usize),
            Some(PolicyChoice::All(_)) => VersionPolicy::All,
            Some(PolicyChoice::Specific(specific)) => VersionPolicy::Specific(specific.versions),
        };
        config
    };
    Ok(list.config.into_iter().map(convert).collect())
}

/// Where TensorFlow Serving's metrics are unless its configuration says.
const METRICS_PATH: &str = "/monitoring/prometheus/metrics";

/// The path at which a `monitoring_config_file` wants metrics, if it wants them.
///
/// # Errors
/// `INVALID_ARGUMENT` with the place of a mistake, or the path that is none.
pub fn metrics_path(text: &str) -> Result<Option<String>> {
    let config: MonitoringConfig = parse("tensorflow.serving.MonitoringConfig", text)?;
    let Some(prometheus) = config.prometheus_config.filter(|config| config.enable) else { return Ok(None) };
    let path = if prometheus.path.is_empty() { METRICS_PATH.to_owned() } else { prometheus.path };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if !path.starts_with('/') || !path.chars().all(plain) {
        return Err(Error::invalid_argument(format!("prometheus_config.path {path:?} is no path: say {METRICS_PATH}")));
    }
    Ok(Some(path))
}

/// What a `batching_parameters_file` says, checked.
///
/// # Errors
/// `INVALID_ARGUMENT` with the place of a mistake, or the value that is wrong.
pub fn batching_parameters(text: &str) -> Result<Parameters> {
    let given: BatchingParameters = parse("tensorflow.serving.BatchingParameters", text)?;
    let mut parameters = Parameters::default();
    let count = |name: &str, value: i64| {
        usize::try_from(value).map_err(|_| Error::invalid_argument(format!("{name} is {value}")))
    };
    if let Some(value) = given.max_batch_size {
        parameters.max_batch_size = Some(count("max_batch_size", value)?);
    }
    if let Some(value) = given.batch_timeout_micros {
        let micros =
            u64::try_from(value).map_err(|_| Error::invalid_argument(format!("batch_timeout_micros is {value}")))?;
        parameters.batch_timeout = Duration::from_micros(micros);
    }
    if let Some(value) = given.max_enqueued_batches {
        parameters.max_enqueued_batches = count("max_enqueued_batches", value)?;
    }
    if let Some(value) = given.num_batch_threads {
        parameters.num_batch_threads = Some(count("num_batch_threads", value)?);
    }
    let sizes = given.allowed_batch_sizes.iter().map(|v| count("allowed_batch_sizes", *v));
    parameters.allowed_batch_sizes = sizes.collect::<Result<Vec<_>>>()?;
    if let Some(value) = given.enable_large_batch_splitting {
        parameters.enable_large_batch_splitting = value;
    }
    if let Some(value) = given.max_execution_batch_size {
        parameters.max_execution_batch_size = Some(count("max_execution_batch_size", value)?);
    }
    parameters.pad_variable_length_inputs = given.pad_variable_length_inputs;
    parameters.validated()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_read_as_people_write_them() {
        let text = "# models\nmodel_config_list { config { name: 'a', base_path: \"/m\" \"/a\"\n\
                    model_platform: 'tensorflow' model_version_policy: { specific { versions: 1, versions: 3 } }\n\
                    version_labels { key: 'stable' value: 1 } } config: { name: 'b'; base_path: '/m/b' } }";
        let configs = model_configs(text).expect("it parses");
        assert_eq!((configs[0].name.as_str(), configs[0].base_path.to_str()), ("a", Some("/m/a")));
        assert_eq!(configs[0].version_policy, VersionPolicy::Specific(vec![1, 3]));
        assert_eq!(configs[0].labels.get("stable"), Some(&1));
        assert_eq!(configs[1].version_policy, VersionPolicy::Latest(1));
        let error = model_configs("model_config_list { confg {} }").expect_err("a misspelt field");
        assert!(error.message().contains("ModelServerConfig"), "{error}");
    }

    #[test]
    fn metrics_are_where_the_configuration_says() {
        let path = |text: &str| metrics_path(text).expect(text);
        assert_eq!(path("prometheus_config { enable: true }").as_deref(), Some(METRICS_PATH));
        assert_eq!(path("prometheus_config: { enable: true, path: '/m/x' }").as_deref(), Some("/m/x"));
        assert_eq!(path("prometheus_config { path: '/m' }"), None);
        assert_eq!(path(""), None);
        assert!(metrics_path("prometheus_config { enable: true path: 'm' }").is_err());
        assert!(metrics_path("prometheus_config { enable: true path: '/{x}' }").is_err());
    }

    #[test]
    fn batching_parameters_are_wrapped_values() {
        let text = "max_batch_size { value: 32 } batch_timeout_micros { value: 500 }\n\
                    allowed_batch_sizes: [8, 32] num_batch_threads { value: 2 }";
        let parameters = batching_parameters(text).expect("it parses");
        assert_eq!(parameters.max_batch_size, Some(32));
        assert_eq!(parameters.batch_timeout, Duration::from_micros(500));
        assert_eq!(parameters.allowed_batch_sizes, [8, 32]);
        assert!(batching_parameters("max_batch_size { value: 32 } allowed_batch_sizes: 8").is_err());
    }
}
