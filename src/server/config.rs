//! The effective configuration: flags over variables over the file over defaults.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::args::ServeArgs;
use super::memory::default_request_memory_bytes;
use super::settings::{Kind, SETTINGS, Setting};
use crate::api::config::{batching_parameters, metrics_path, model_configs};
use crate::api::{JsonLimits, RestOptions};
use crate::batch::Parameters;
use crate::engine::{EngineOptions, cache_folder};
use crate::error::{Error, Result};
use crate::model::{ManagerOptions, ModelConfig, ShapeBounds};

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    File,
    Variable,
    Flag,
}

/// Every setting's text and origin.
#[derive(Debug)]
pub(super) struct Values(BTreeMap<&'static str, (String, Origin)>);

/// Which state of the models makes the server ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Any,
    All,
}

/// The settings, understood.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) port: u16,
    pub(super) http_port: u16,
    pub(super) host: String,
    pub(super) models: Vec<ModelConfig>,
    pub(super) tensor_content: bool,
    pub(super) check_method: bool,
    pub(super) rest: RestOptions,
    /// Where metrics are besides /metrics.
    pub(super) metrics_path: Option<String>,
    pub(super) grpc_requests_max: usize,
    pub(super) rest_requests_max: usize,
    pub(super) engine: EngineOptions,
    pub(super) manager: ManagerOptions,
    pub(super) shapes: ShapeBounds,
    pub(super) strict_paths: bool,
    pub(super) request_memory_bytes: u64,
    pub(super) max_message_bytes: usize,
    pub(super) ready: Ready,
    pub(super) drain: Duration,
    pub(super) ports_file: Option<PathBuf>,
    pub(super) json_log: bool,
    pub(super) log_level: String,
}

impl Values {
    /// Collects the settings. `variable` reads an environment variable.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming an unknown key of the file, or a value that is not of its setting's kind.
    pub(super) fn collect(args: &ServeArgs, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let file = match &args.file {
            None => toml::Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Error::from(e).at(path))?;
                text.parse::<toml::Table>().map_err(|e| Error::invalid_argument(format!("{path}: {e}")))?
            }
        };
        if let Some(unknown) = file.keys().find(|k| !SETTINGS.iter().any(|s| s.name == k.as_str())) {
            let path = args.file.as_deref().unwrap_or_default();
            return Err(Error::invalid_argument(format!("{path}: there is no setting {unknown:?}")));
        }
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            let name = setting.name;
            let value = if let Some(given) = args.given.get(name) {
                (given.clone(), Origin::Flag)
            } else if let Some(given) = variable(&variable_name(name)) {
                (given, Origin::Variable)
            } else if let Some(given) = file.get(name) {
                (plain(given), Origin::File)
            } else {
                (setting.default.to_owned(), Origin::Default)
            };
            let (text, origin) = value;
            values.insert(name, (canonical(setting, text)?, origin));
        }
        Ok(Self(values))
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |(text, _)| text)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let text = self.text(name);
        text.trim().parse().map_err(|_| Error::invalid_argument(format!("{name} is {text:?}, not a number in range")))
    }

    fn switch(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|t| !t.is_empty()).map(PathBuf::from)
    }

    /// A TOML file that gives exactly these settings, with a comment on each.
    pub(super) fn to_toml(&self) -> String {
        let mut text = String::new();
        for setting in SETTINGS {
            let Some((value, origin)) = self.0.get(setting.name) else { continue };
            let from = match origin {
                Origin::Default => "the default".to_owned(),
                Origin::File => "from the file".to_owned(),
                Origin::Variable => format!("from {}", variable_name(setting.name)),
                Origin::Flag => format!("from --{}", setting.name),
            };
            let value = match setting.kind {
                Kind::Text => toml::Value::String(value.clone()).to_string(),
                Kind::Switch | Kind::Number => value.clone(),
            };
            let _ = writeln!(text, "# {} ({from})\n{} = {value}\n", setting.help, setting.name);
        }
        text
    }

    /// The settings, understood.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the setting and its value, or the place in a file it names.
    pub(super) fn understand(&self) -> Result<Config> {
        let request_memory_bytes = match self.number("request_memory_bytes")? {
            0 => default_request_memory_bytes(),
            bytes => bytes,
        };
        let poll: u64 = self.number("file_system_poll_wait_seconds")?;
        let without = self.text("without").split(',').map(str::trim).filter(|w| !w.is_empty());
        let one_of = |name: &str, choices: &[&str]| {
            let text = self.text(name);
            choices
                .iter()
                .position(|c| *c == text)
                .ok_or_else(|| Error::invalid_argument(format!("{name} is {text:?}: say {}", choices.join(" or "))))
        };
        Ok(Config {
            port: self.number("port")?,
            http_port: self.number("rest_api_port")?,
            host: self.text("host").to_owned(),
            models: self.models()?,
            tensor_content: self.switch("enable_serialization_as_tensor_content"),
            check_method: self.switch("enable_signature_method_name_check"),
            rest: RestOptions {
                timeout: Duration::from_millis(self.number::<u32>("rest_api_timeout_in_ms")?.into()),
                cors: self.switch("rest_api_enable_cors_support"),
                max_body_bytes: self.number::<u32>("max_message_bytes")? as usize,
                gzip_min_bytes: self.number("rest_api_gzip_min_bytes")?,
                check_method: self.switch("enable_signature_method_name_check"),
                limits: JsonLimits {
                    depth_max: self.number("rest_api_json_depth")?,
                    elements_max: self.number("rest_api_json_elements")?,
                },
            },
            metrics_path: self.metrics_path()?,
            grpc_requests_max: self.number("grpc_max_threads")?,
            rest_requests_max: self.number("rest_api_num_threads")?,
            engine: EngineOptions {
                device: self.text("device").to_owned(),
                lanes: self.number::<usize>("lanes")?.clamp(1, 64),
                in_flight: self.number::<usize>("in_flight")?.clamp(2, 1024),
                without: without.map(str::to_owned).collect(),
                family: Some(self.text("family").to_owned()).filter(|f| !f.is_empty()),
                memory_bytes: Some(self.number("device_memory_bytes")?).filter(|b| *b > 0),
                precision: self.text("precision").parse()?,
                tune: self.text("tune").parse()?,
                cache: cache_folder(self.text("cache_dir")),
                checked_kernels: self.switch("checked_kernels"),
            },
            manager: ManagerOptions {
                poll_interval: Some(Duration::from_secs(poll)).filter(|d| !d.is_zero()),
                load_threads: self.number::<usize>("load_threads")?.max(1),
                ..ManagerOptions::default()
            },
            shapes: ShapeBounds { per_minute_max: self.number("max_shapes_per_model")?, ..ShapeBounds::default() },
            strict_paths: self.switch("strict_paths"),
            request_memory_bytes,
            max_message_bytes: self.number::<u32>("max_message_bytes")? as usize,
            ready: if one_of("ready", &["any", "all"])? == 0 { Ready::Any } else { Ready::All },
            drain: Duration::from_secs(self.number("drain_s")?),
            ports_file: self.path("ports_file"),
            json_log: one_of("log_format", &["text", "json"])? == 1,
            log_level: self.text("log_level").to_owned(),
        })
    }

    fn metrics_path(&self) -> Result<Option<String>> {
        let Some(path) = self.path("monitoring_config_file") else { return Ok(None) };
        let text = std::fs::read_to_string(&path).map_err(Error::from);
        text.and_then(|text| metrics_path(&text)).map_err(|e| e.at(path.display()))
    }

    fn models(&self) -> Result<Vec<ModelConfig>> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| Error::from(e).at(path.display()));
        let mut batching = self.switch("enable_batching").then(Parameters::default);
        if let Some(path) = self.path("batching_parameters_file") {
            if batching.is_none() {
                return Err(Error::invalid_argument("batching_parameters_file is set without enable_batching"));
            }
            batching = Some(batching_parameters(&read(&path)?).map_err(|e| e.at(path.display()))?);
        }
        let mut models = match (self.path("model_config_file"), self.path("model_base_path")) {
            (Some(path), _) => model_configs(&read(&path)?).map_err(|e| e.at(path.display()))?,
            (None, Some(base)) => vec![ModelConfig::new(self.text("model_name"), base)],
            (None, None) => {
                return Err(Error::invalid_argument("no model is named: set model_base_path or model_config_file"));
            }
        };
        for model in &mut models {
            model.batching.clone_from(&batching);
            if !["", "tensorflow", "onnx", "onnxruntime_onnx"].contains(&model.platform.as_str()) {
                return Err(Error::invalid_argument(format!(
                    "model {} requests the unsupported platform {:?}",
                    model.name, model.platform
                )));
            }
        }
        Ok(models)
    }
}

fn variable_name(setting: &str) -> String {
    format!("CORACLE_{}", setting.to_uppercase())
}

/// `text` as TOML writes a value of the setting's kind.
fn canonical(setting: &Setting, text: String) -> Result<String> {
    let name = setting.name;
    match setting.kind {
        Kind::Text => Ok(text),
        // TOML's integers have 64 bits and a sign.
        Kind::Number => match text.trim().parse::<i64>() {
            Ok(number) if number >= 0 => Ok(number.to_string()),
            _ => Err(Error::invalid_argument(format!("{name} is {text:?}, not a number in range"))),
        },
        Kind::Switch => match text.trim().to_lowercase().as_str() {
            "true" | "1" | "yes" => Ok("true".to_owned()),
            "false" | "0" | "no" => Ok("false".to_owned()),
            _ => Err(Error::invalid_argument(format!("{name} is {text:?}, not true or false"))),
        },
    }
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("coracle.toml");
        std::fs::write(&path, "port = 1\nlanes = 3\nhost = \"::1\"\nmodel_base_path = \"/m\"").expect("writable");
        let mut args = ServeArgs { file: Some(path.display().to_string()), ..ServeArgs::default() };
        args.given.insert("port", "3".into());
        let variable = |name: &str| match name {
            "CORACLE_PORT" => Some("2".to_owned()),
            "CORACLE_LANES" => Some("2".to_owned()),
            _ => None,
        };
        let values = Values::collect(&args, variable).expect("known settings");
        let config = values.understand().expect("right values");
        assert_eq!((config.port, config.engine.lanes, config.host.as_str()), (3, 2, "::1"));
        assert_eq!(config.http_port, 8501);
        // What is printed is a file that says the same.
        std::fs::write(&path, values.to_toml()).expect("writable");
        let again = ServeArgs { file: Some(path.display().to_string()), ..ServeArgs::default() };
        let again = Values::collect(&again, |_| None).expect("known settings").understand().expect("right values");
        assert_eq!((again.port, again.engine.lanes), (3, 2));
        // Variables spell switches as they like; files do not.
        let variable = |name: &str| (name == "CORACLE_ENABLE_BATCHING").then(|| "No".to_owned());
        let text = Values::collect(&ServeArgs::default(), variable).expect("a switch").to_toml();
        assert_eq!(text.parse::<toml::Table>().expect("TOML")["enable_batching"].as_bool(), Some(false));
        let variable = |name: &str| (name == "CORACLE_PORT").then(|| "none".to_owned());
        let error = Values::collect(&ServeArgs::default(), variable).expect_err("no number");
        assert!(error.message().contains("port is \"none\""), "{error}");
        std::fs::write(&path, "prot = 1").expect("writable");
        let error = Values::collect(&args, |_| None).expect_err("a misspelt key");
        assert!(error.message().contains("\"prot\""), "{error}");
    }
}
