//! The models that the settings name, and the file of models read again while the server runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::values::Values;
use crate::api::config::{batching_parameters, model_configs};
use crate::batch::Parameters;
use crate::error::{Error, Result};
use crate::model::{Manager, ModelConfig, check_model_name};

/// The text of a configuration file.
///
/// # Errors
/// Those of reading it, with its name.
pub(super) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::from(e).at(path.display()))
}

/// How requests are merged; `None`: never.
///
/// # Errors
/// `INVALID_ARGUMENT` with the place of a mistake.
pub(super) fn batching(values: &Values) -> Result<Option<Parameters>> {
    let on = values.switch("enable_batching");
    match values.path("batching_parameters_file") {
        None => Ok(on.then(Parameters::default)),
        Some(_) if !on => Err(Error::invalid_argument("batching_parameters_file is set without enable_batching")),
        Some(path) => batching_parameters(&read(&path)?, &path.display().to_string()).map(Some),
    }
}

/// The configured models.
///
/// # Errors
/// Every mistake, with its place.
pub(super) fn models(values: &Values, batching: Option<&Parameters>) -> Result<Vec<ModelConfig>, Vec<Error>> {
    match (values.path("model_config_file"), values.path("model_base_path")) {
        (Some(path), _) => from_file(&path, batching),
        (None, Some(base)) => {
            let name = values.text("model_name");
            check_model_name(name).map_err(|e| vec![e.at("--model_name")])?;
            Ok(vec![ModelConfig { batching: batching.cloned(), ..ModelConfig::new(name, absolute(base)) }])
        }
        (None, None) => {
            let what = "no model is named, expected model_base_path or model_config_file";
            Err(vec![Error::invalid_argument(what)])
        }
    }
}

fn from_file(path: &Path, batching: Option<&Parameters>) -> Result<Vec<ModelConfig>, Vec<Error>> {
    let text = read(path).map_err(|e| vec![e])?;
    let mut models = model_configs(&text, &path.display().to_string())?;
    for model in &mut models {
        model.batching = batching.cloned();
        model.base_path = absolute(std::mem::take(&mut model.base_path));
    }
    Ok(models)
}

/// Relative paths count from the folder in which the server was started.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// The folders below which models may come over the wire: those set, or the parents of the configured models.
///
/// # Errors
/// `INVALID_ARGUMENT` naming a folder that is not there.
pub(super) fn roots(values: &Values, models: &[ModelConfig]) -> Result<Vec<PathBuf>> {
    let given = values.text("model_roots");
    if given.is_empty() {
        let parents = models.iter().filter_map(|model| model.base_path.parent());
        return Ok(parents.filter_map(|parent| parent.canonicalize().ok()).collect());
    }
    let folder = |path: &str| {
        Path::new(path).canonicalize().map_err(|e| values.wrong("model_roots", &format!("folders, {path}: {e}")))
    };
    given.split(',').map(str::trim).filter(|path| !path.is_empty()).map(folder).collect()
}

/// Reads the file again and again and takes up what it says when it changes. A file with mistakes changes nothing.
pub(super) struct Follower {
    pub(super) path: PathBuf,
    pub(super) every: Duration,
    /// What it said when the models were configured that are served now, if it could be read.
    pub(super) last: Option<String>,
    pub(super) batching: Option<Parameters>,
    pub(super) timeout: Duration,
    pub(super) manager: Arc<Manager>,
}

impl Follower {
    /// Works until it is dropped.
    pub(super) async fn work(self) {
        let mut last = self.last.clone();
        loop {
            tokio::time::sleep(self.every).await;
            match read(&self.path) {
                Ok(text) if Some(&text) == last.as_ref() => {}
                Ok(text) => {
                    last = Some(text);
                    self.take_up().await;
                }
                Err(error) if last.is_some() => {
                    last = None;
                    tracing::warn!("the file of models cannot be read, what is served stays: {error}");
                }
                Err(_) => {}
            }
        }
    }

    async fn take_up(&self) {
        let taken = match from_file(&self.path, self.batching.as_ref()) {
            Ok(configs) => self.manager.reload(configs, self.timeout).await.map_err(|e| vec![e]),
            Err(wrong) => Err(wrong),
        };
        match taken {
            Ok(failures) => {
                tracing::info!(failed = failures.len(), "the file of models has changed and was taken up");
                for (name, error) in failures {
                    tracing::warn!(model = name, "{error}");
                }
            }
            Err(wrong) => {
                wrong
                    .iter()
                    .for_each(|error| tracing::warn!("the file of models has changed, nothing else has: {error}"));
            }
        }
    }
}
