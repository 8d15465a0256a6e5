//! Taking up another configuration, and telling what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::config::{ModelConfig, check_model_name};
use super::manager::Manager;
use super::state::{Board, ModelStatus};
use crate::error::{Error, Result};

/// The models that could not be brought to what a configuration wants, in its order, and why.
pub type Failures = Vec<(String, Error)>;

impl Manager {
    /// Takes up a configuration as [`Manager::reconfigure`] and waits, at most for `timeout`, until each of its models
    /// serves what it is to serve or has failed. Models that fail keep what they serve; they do not hold up the others.
    ///
    /// # Errors
    /// As [`Manager::reconfigure`]; then nothing changes.
    pub async fn reload(&self, configs: Vec<ModelConfig>, timeout: Duration) -> Result<Failures> {
        let wanted: Vec<(String, BTreeMap<String, i64>)> =
            configs.iter().map(|config| (config.name.clone(), config.labels.clone())).collect();
        self.reconfigure(configs).await?;
        let mut watched = self.watch();
        let is_done = |board: &Board| {
            wanted.iter().all(|(name, _)| board.models.get(name.as_str()).is_some_and(ModelStatus::is_settled))
        };
        // What has not happened by then is told of each model below.
        drop(tokio::time::timeout(timeout, watched.wait_for(is_done)).await);
        let board = watched.borrow().clone();
        let failures = wanted.into_iter().filter_map(|(name, labels)| {
            let error = self.failure(board.models.get(name.as_str())?, &name, &labels, timeout)?;
            Some((name, error))
        });
        Ok(failures.collect())
    }

    fn failure(
        &self,
        model: &ModelStatus,
        name: &str,
        labels: &BTreeMap<String, i64>,
        timeout: Duration,
    ) -> Option<Error> {
        let of_version = model.failures().into_iter().next();
        let late = || {
            let what = format!("not yet available after {} s (reload_timeout_s), it goes on", timeout.as_secs());
            (!model.is_settled()).then(|| Error::deadline_exceeded(what))
        };
        let is_given = |label: &str, version: i64| self.labelled(name, label).is_ok_and(|given| given == version);
        let of_label = || {
            let (_, version) = labels.iter().find(|(label, version)| !is_given(label, **version))?;
            Some(Error::failed_precondition(format!(
                "Request to assign label to version {version} of model {name}, which is not currently available for inference"
            )))
        };
        of_version.or_else(late).or_else(of_label)
    }
}

/// Refuses configurations that no model's folder could put right.
///
/// # Errors
/// `INVALID_ARGUMENT` when a model has no name or one that is not allowed, stands twice, or has a path of no folder.
pub(super) fn check(configs: &[ModelConfig]) -> Result<()> {
    for (i, config) in configs.iter().enumerate() {
        check_model_name(&config.name)?;
        if configs[..i].iter().any(|other| other.name == config.name) {
            return Err(Error::invalid_argument(format!(
                "Illegal to list model {} multiple times in config list",
                config.name
            )));
        }
        if config.base_path.as_os_str().is_empty() {
            return Err(Error::invalid_argument(format!("model {} has no base_path", config.name)));
        }
    }
    Ok(())
}

/// Refuses to call a served model's format something else; who says nothing may be followed by anything.
///
/// # Errors
/// `INVALID_ARGUMENT`, as TensorFlow Serving words it.
pub(super) fn check_platforms(now: &BTreeMap<Arc<str>, String>, configs: &[ModelConfig]) -> Result<()> {
    for config in configs {
        let is_other = |was: &&String| !was.is_empty() && !config.platform.is_empty() && **was != config.platform;
        let Some(was) = now.get(config.name.as_str()).filter(is_other) else { continue };
        return Err(Error::invalid_argument(format!(
            "Illegal to change a model's platform. For model {} platform was {was} and new platform requested is {}",
            config.name, config.platform
        )));
    }
    Ok(())
}
