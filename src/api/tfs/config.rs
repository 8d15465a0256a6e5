//! TensorFlow Serving's configuration files: protocol buffers as text.

use std::time::Duration;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::model_entry::{Entry, understood};
use super::model_json;
use super::proto::serving::{BatchingParameters, ModelServerConfig, MonitoringConfig};
use crate::api::router::DESCRIPTORS;
use crate::batch::Parameters;
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// `text` as the message `name`; mistakes are told with `file` and their line.
fn parse<T: prost::Message + Default>(name: &str, text: &str, file: &str) -> Result<T> {
    parse_or(name, text, |line, what| {
        Error::invalid_argument(format!("{file}:{line}: Error parsing text-format {name}: {what}"))
    })
}

/// As [`parse`], but `mistake` tells of a mistake, whose line and text it gets.
pub(super) fn parse_or<T: prost::Message + Default>(
    name: &str,
    text: &str,
    mistake: impl FnOnce(usize, &dyn std::fmt::Display) -> Error,
) -> Result<T> {
    let pool = DescriptorPool::decode(DESCRIPTORS)
        .map_err(|e| Error::internal(format!("the embedded descriptors are damaged: {e}")))?;
    let descriptor = pool.get_message_by_name(name);
    let descriptor = descriptor.ok_or_else(|| Error::internal(format!("{name} is not described")))?;
    let message = DynamicMessage::parse_text_format(descriptor.clone(), text)
        .map_err(|e| mistake(line_of(&descriptor, text, &e.to_string()), &e))?;
    message.transcode_to().map_err(|e| Error::internal(format!("{name}: {e}")))
}

/// How the parser says that something is missing.
const AT_THE_END: &str = "reached end of input";

/// The line of a mistake, which the parser keeps to itself: the first at whose end the text so far has that mistake. Once the
/// line is there the mistake stays, so that halving finds it.
fn line_of(descriptor: &MessageDescriptor, text: &str, mistake: &str) -> usize {
    if mistake.ends_with(AT_THE_END) {
        return text.lines().count().max(1);
    }
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).chain([text.len()]).collect();
    let is_before = |end: &usize| {
        let parsed = DynamicMessage::parse_text_format(descriptor.clone(), &text[..*end]);
        !parsed.is_err_and(|e| e.to_string() == mistake)
    };
    ends.partition_point(is_before).min(ends.len() - 1) + 1
}

/// The models that a `model_config_file` names, in text format or as JSON; `file` is what it is called.
///
/// # Errors
/// Every mistake, with its place and what was expected.
pub fn model_configs(text: &str, file: &str) -> Result<Vec<ModelConfig>, Vec<Error>> {
    let entries: Vec<Entry> = if text.trim_start().starts_with('{') {
        model_json::entries(text, file).map_err(|e| vec![e])?
    } else {
        let config: ModelServerConfig =
            parse("tensorflow.serving.ModelServerConfig", text, file).map_err(|e| vec![e])?;
        let list = config.model_config_list.unwrap_or_default();
        list.config.into_iter().map(Entry::from).collect()
    };
    let place = |name: &str| match text.lines().position(|line| names(line, name)) {
        Some(index) => format!("{file}:{}: ", index + 1),
        None => format!("{file}: "),
    };
    understood(entries, place)
}

/// Whether a line gives the name `name`.
fn names(line: &str, name: &str) -> bool {
    let after = |key: &str| line.find(key).map(|at| &line[at + key.len()..]);
    ["name:", "\"name\"", "name :"].into_iter().filter_map(after).any(|rest| {
        let rest = rest.trim_start_matches([' ', ':', '\t']);
        let inner = rest.strip_prefix(['"', '\'']).and_then(|r| r.strip_prefix(name));
        inner.is_some_and(|r| r.starts_with(['"', '\'']))
    })
}

/// Where TensorFlow Serving's metrics are unless its configuration says.
const METRICS_PATH: &str = "/monitoring/prometheus/metrics";

/// The path at which a `monitoring_config_file` wants metrics, if it wants them.
///
/// # Errors
/// `INVALID_ARGUMENT` with the place of a mistake, or the path that is none.
pub fn metrics_path(text: &str, file: &str) -> Result<Option<String>> {
    let config: MonitoringConfig = parse("tensorflow.serving.MonitoringConfig", text, file)?;
    let Some(prometheus) = config.prometheus_config.filter(|config| config.enable) else { return Ok(None) };
    let path = if prometheus.path.is_empty() { METRICS_PATH.to_owned() } else { prometheus.path };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if !path.starts_with('/') || !path.chars().all(plain) {
        let what = format!("{file}: prometheus_config.path {path:?}, expected a path such as {METRICS_PATH}");
        return Err(Error::invalid_argument(what));
    }
    Ok(Some(path))
}

/// What a `batching_parameters_file` says, checked.
///
/// # Errors
/// `INVALID_ARGUMENT` with the place of a mistake, or the value that is wrong.
pub fn batching_parameters(text: &str, file: &str) -> Result<Parameters> {
    let given: BatchingParameters = parse("tensorflow.serving.BatchingParameters", text, file)?;
    parameters(given).map_err(|e| e.at(file))
}

fn parameters(given: BatchingParameters) -> Result<Parameters> {
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
    parameters.enable_large_batch_splitting = given.enable_large_batch_splitting;
    if let Some(value) = given.max_execution_batch_size {
        parameters.max_execution_batch_size = Some(count("max_execution_batch_size", value)?);
    }
    parameters.pad_variable_length_inputs = given.pad_variable_length_inputs;
    parameters.validated()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VersionPolicy;

    #[test]
    fn files_read_as_people_write_them() {
        let text = "# models\nmodel_config_list { config { name: 'a', base_path: \"/m\" \"/a\"\n\
                    model_platform: 'tensorflow' model_version_policy: { specific { versions: 1, versions: 3 } }\n\
                    version_labels { key: 'stable' value: 1 } } config: { name: 'b'; base_path: '/m/b' model_type: TENSORFLOW } }";
        let configs = model_configs(text, "f").expect("it parses");
        assert_eq!((configs[0].name.as_str(), configs[0].base_path.to_str()), ("a", Some("/m/a")));
        assert_eq!(configs[0].version_policy, VersionPolicy::Specific(vec![1, 3]));
        assert_eq!(configs[0].labels.get("stable"), Some(&1));
        assert_eq!(configs[1].version_policy, VersionPolicy::Latest(1));
    }

    fn mistakes(text: &str) -> Vec<String> {
        let errors = model_configs(text, "f").expect_err(text);
        errors.iter().map(|e| e.message().to_owned()).collect()
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let misspelt = "# models\nmodel_config_list {\n  confg {}\n}\n";
        assert_eq!(
            mistakes(misspelt),
            [
                "f:3: Error parsing text-format tensorflow.serving.ModelServerConfig: field 'confg' not found for message \
              'tensorflow.serving.ModelConfigList'"
            ]
        );
        let open = mistakes("model_config_list {\n config {\n").concat();
        assert!(open.starts_with("f:2: ") && open.ends_with(AT_THE_END), "{open}");
        // All mistakes of meaning at once.
        let several = "model_config_list {\n config { name: 'a/b' base_path: '/m' }\n config { name: \"c\" }\n\
                       config { name: 'd' base_path: '/m' model_platform: 'pytorch' }\n\
                       config { name: 'd' base_path: 'gs://m' model_platform: 'onnx' model_version_policy { specific {} } }\n}";
        assert_eq!(
            mistakes(several),
            [
                "f:2: the model name \"a/b\" is not allowed, expected no slash and no colon",
                "f:3: model c has no base_path, expected the folder that holds its versions",
                "f:4: Model d requests unsupported platform pytorch: expected tensorflow, onnx or onnxruntime_onnx",
                "f:4: model d: base_path gs://m, expected a folder of this machine",
                "f:4: Illegal to list model d multiple times in config list",
            ]
        );
    }

    #[test]
    fn a_platform_is_named_once() {
        let told =
            |more: &str| mistakes(&format!("model_config_list {{ config {{ name: 'm' base_path: '/m' {more} }} }}"));
        let (kind, platform) = ("ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform");
        assert_eq!(told(""), [format!("f:1: Illegal setting neither {kind} nor {platform}, model name is m")]);
        assert_eq!(
            told("model_type: TENSORFLOW model_platform: 'tensorflow'"),
            [format!("f:1: Illegal setting both {kind} and {platform}, model name is m")]
        );
        assert_eq!(
            told("model_type: OTHER"),
            ["f:1: ModelServerConfig::model_type choice 2 not supported, model name is m"]
        );
    }

    #[test]
    fn articles_write_json() {
        let text = r#"{"model_config_list": [{"name": "my_model", "base_path": "/path/to/my/model", "model_platform": "tensorflow",
            "model_version_policy": {"specific": {"versions": [1]}}, "version_labels": {"stable": "1"},
            "config": {"gpu_options": {"allow_growth": true, "per_process_gpu_memory_fraction": 0.7}}}]}"#;
        let configs = model_configs(text, "f").expect("it parses");
        assert_eq!((configs[0].name.as_str(), configs[0].memory.fraction), ("my_model", Some(0.7)));
        assert!(configs[0].memory.grows);
        assert_eq!(configs[0].version_policy, VersionPolicy::Specific(vec![1]));
        assert_eq!(configs[0].labels.get("stable"), Some(&1));
        let due = r#"{"model_config_list": [{"name": "m", "base_path": "/m",
            "config": {"scheduling": {"weight": 2, "priority": "high", "latency_target_ms": 50}}}]}"#;
        let scheduling = model_configs(due, "f").expect("it parses")[0].scheduling;
        assert_eq!((scheduling.weight, scheduling.latency_target_ms), (Some(2.0), Some(50)));
        let wrapped =
            r#"{"modelConfigList": {"config": [{"name": "m", "basePath": "/m", "modelVersionPolicy": {"all": {}}}]}}"#;
        assert_eq!(model_configs(wrapped, "f").expect("it parses")[0].version_policy, VersionPolicy::All);
        let cases = [
            (
                "{\"model_config_list\": [\n{\"nam\": \"m\"}]}",
                "f:2: Error parsing JSON: unknown field `nam`, expected one of `name`",
            ),
            ("{\"model_config_list\": [{\"name\": \"m\"}", "f:1: Error parsing JSON: EOF"),
            (
                "{\"model_config_list\": [{\"name\": \"m\", \"base_path\": \"/m\",\n\"model_version_policy\": {\"newest\": {}}}]}",
                "f:2: Error parsing JSON: unknown field `newest`, expected one of `latest`, `all`, `specific`",
            ),
            (
                "{\"model_config_list\": [\n\n{\"name\": \"m\", \"base_path\": \"/m\",\n\
                 \"config\": {\"gpu_options\": {\"per_process_gpu_memory_fraction\": 7}}}]}",
                "f:3: model m: per_process_gpu_memory_fraction 7, expected a number between 0 and 1",
            ),
            (
                "{\"model_config_list\": [{\"name\": \"m\", \"base_path\": \"/m\", \"config\": {\"scheduling\": {\"weight\": 0}}}]}",
                "f:1: model m: weight 0, expected a number from 0.01 to 100",
            ),
            (
                "{\"model_config_list\": [{\"name\": \"m\", \"config\": {\"scheduling\":\n{\"priority\": \"urgent\"}}}]}",
                "f:2: Error parsing JSON: unknown variant `urgent`, expected one of `low`, `normal`, `high`",
            ),
        ];
        for (text, expected) in cases {
            assert!(mistakes(text).concat().starts_with(expected), "{expected}\n{:?}", mistakes(text));
        }
    }

    #[test]
    fn metrics_are_where_the_configuration_says() {
        let path = |text: &str| metrics_path(text, "f").expect(text);
        assert_eq!(path("prometheus_config { enable: true }").as_deref(), Some(METRICS_PATH));
        assert_eq!(path("prometheus_config: { enable: true, path: '/m/x' }").as_deref(), Some("/m/x"));
        assert_eq!(path("prometheus_config { path: '/m' }"), None);
        assert_eq!(path(""), None);
        assert!(metrics_path("prometheus_config { enable: true path: 'm' }", "f").is_err());
        assert!(metrics_path("prometheus_config { enable: true path: '/{x}' }", "f").is_err());
    }

    #[test]
    fn batching_parameters_are_wrapped_values() {
        let text = "max_batch_size { value: 32 } batch_timeout_micros { value: 500 }\n\
                    allowed_batch_sizes: [8, 32] num_batch_threads { value: 2 }";
        let parameters = batching_parameters(text, "f").expect("it parses");
        assert_eq!(parameters.max_batch_size, Some(32));
        assert_eq!(parameters.batch_timeout, Duration::from_micros(500));
        assert_eq!(parameters.allowed_batch_sizes, [8, 32]);
        assert!(!parameters.pad_variable_length_inputs);
        let pads = batching_parameters("pad_variable_length_inputs: true", "f").expect("it parses");
        assert!(pads.pad_variable_length_inputs);
        assert!(batching_parameters("max_batch_size { value: 32 } allowed_batch_sizes: 8", "f").is_err());
    }
}
